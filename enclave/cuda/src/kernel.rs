//! Which kernels there are: their names in the module, and the bytes each takes.

use crate::arguments as a;
use crate::kind::Kind;

/// A kernel of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kernel {
    /// For so many tokens at a time.
    Product(Kind, u32),
    Embed(Kind),
    Norm,
    Gate,
    Choose,
    Wipe,
    Route,
    Mix,
    Angles,
    Heads,
    Attention,
    Join,
}

impl Kernel {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of_kind = |kind| {
            let products = tokens_at_once(kind).iter().map(move |n| Self::Product(kind, *n));
            products.chain([Self::Embed(kind)])
        };
        let others = [
            Self::Norm,
            Self::Gate,
            Self::Choose,
            Self::Wipe,
            Self::Route,
            Self::Mix,
            Self::Angles,
            Self::Heads,
            Self::Attention,
            Self::Join,
        ];
        Kind::ALL.into_iter().flat_map(of_kind).chain(others)
    }

    /// Its name in the module.
    pub(crate) fn symbol(self) -> String {
        match self {
            Self::Product(kind, tokens) => format!("product_{}_{tokens}", kind.name()),
            Self::Embed(kind) => format!("embed_{}", kind.name()),
            _ => self.name().to_owned(),
        }
    }

    /// Its name, without a format.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Product(..) => "product",
            Self::Embed(_) => "embed",
            Self::Norm => "rms_norm",
            Self::Gate => "gate",
            Self::Choose => "choose",
            Self::Wipe => "wipe",
            Self::Route => "route",
            Self::Mix => "mix",
            Self::Angles => "angles",
            Self::Heads => "heads",
            Self::Attention => "attention",
            Self::Join => "join",
        }
    }

    /// Bytes of its argument.
    pub(crate) const fn argument_bytes(self) -> usize {
        match self {
            Self::Product(..) => size_of::<a::Product>(),
            Self::Embed(_) => size_of::<a::Embed>(),
            Self::Norm => size_of::<a::Norm>(),
            Self::Gate => size_of::<a::Gate>(),
            Self::Choose => size_of::<a::Choose>(),
            Self::Wipe => size_of::<a::Wipe>(),
            Self::Route => size_of::<a::Route>(),
            Self::Mix => size_of::<a::Mix>(),
            Self::Angles => size_of::<a::Angles>(),
            Self::Heads => size_of::<a::Heads>(),
            Self::Attention => size_of::<a::Attention>(),
            Self::Join => size_of::<a::Join>(),
        }
    }
}

/// Tokens that a block of a product computes, in the kernels there are of a kind.
pub(crate) const fn tokens_at_once(kind: Kind) -> &'static [u32] {
    match kind {
        Kind::F32 => &[1, 8],
        _ => &[1, 8, 16, 32, WIDE],
    }
}

/// The most of them. Those blocks compute eight tiles.
pub(crate) const WIDE: u32 = 64;
