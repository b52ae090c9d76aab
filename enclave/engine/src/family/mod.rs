//! The model families this build computes: one table, one file for each. A family reads the metadata of
//! a file into a [`Plan`], which is all the decoder knows of it.
//!
//! The metadata is the model author's. What a loader does not know and ignores gives fluent but wrong
//! text, so a key of the architecture that the family did not ask for is refused by name, as is a
//! tensor that the plan has no place for.
//!
//! # Adding a family
//!
//! Write `family/NAME.rs` with a `const FAMILY` whose function fills a plan from [`Settings`] (start
//! with [`Plan::common`]), and add it to [`FAMILIES`]. If the plan cannot say what the family does, give it
//! a field: the decoder and the compiler name the other places. `CONTRIBUTING.md` says what proves it.

mod gemma3;
mod llama;
mod qwen3;
mod settings;
mod tensors;

use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::kernels::{Activation, Pairing};
use settings::Settings;
pub(crate) use tensors::{ROPE_FREQS, check as check_tensors};

/// One entry of the table.
struct Family {
    /// `general.architecture`, the prefix of its keys too.
    architecture: &'static str,
    plan: fn(&mut Settings<'_>) -> Result<Plan, ModelError>,
}

const FAMILIES: [Family; 4] = [llama::FAMILY, qwen3::DENSE, qwen3::MIXTURE, gemma3::FAMILY];

/// The table's names, for messages.
pub(crate) fn supported() -> String {
    FAMILIES.map(|family| family.architecture).join(", ")
}

/// What a decoder computes, apart from its weights. Heads are even in size and key heads divide them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Width of the feed-forward part, or of each expert of it.
    pub(crate) ffn: usize,
    pub(crate) vocab: usize,
    /// Most tokens the model was made for.
    pub(crate) context: u32,
    /// Of every norm.
    pub(crate) epsilon: f32,
    /// What embeddings are multiplied with.
    pub(crate) embedding_scale: f32,
    /// What the products of queries and keys are multiplied with.
    pub(crate) attention_scale: f32,
    pub(crate) activation: Activation,
    pub(crate) pairing: Pairing,
    /// Whether queries and keys are normalised, head by head.
    pub(crate) head_norms: bool,
    /// Whether what attention and feed-forward give is normalised before it is added.
    pub(crate) after_norms: bool,
    pub(crate) experts: Option<Experts>,
    /// Whether the file may bring factors for its rotary frequencies, as Llama 3.1 and later do.
    pub(crate) rope_factors: bool,
    /// The ways to turn that layers choose from.
    pub(crate) turnings: Vec<Turning>,
    pub(crate) layers: Vec<Layer>,
}

/// A mixture: so many experts in each layer, of which a token takes some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Experts {
    pub(crate) count: usize,
    pub(crate) used: usize,
}

/// How heads turn from one position to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Turning {
    pub(crate) base: f32,
    /// Positions are divided by this: linear scaling of a context.
    pub(crate) stretch: f32,
}

/// What may differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Tokens that a token sees, itself the last; `None`: all before it.
    pub(crate) window: Option<usize>,
    /// Index into [`Plan::turnings`].
    pub(crate) turning: usize,
}

impl Plan {
    /// The plan of the model that `gguf` describes.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let got = gguf.string("general.architecture")?;
        let Some(family) = FAMILIES.iter().find(|family| family.architecture == got) else {
            let (got, supported) = (got.to_owned(), supported());
            return Err(ModelError::UnknownArchitecture { got, supported });
        };
        let mut settings = Settings::new(gguf, family.architecture);
        let plan = (family.plan)(&mut settings)?;
        settings.finish()?;
        Ok(plan)
    }

    /// What the families have in common: a decoder of equal layers, each with attention over grouped
    /// heads and a gated feed-forward part of `feed_forward_length`.
    fn common(settings: &mut Settings<'_>) -> Result<Self, ModelError> {
        let blocks = settings.count("block_count", MAX_BLOCKS, "from 1 to 1024")?;
        let hidden = settings.count("embedding_length", MAX_WIDTH, "from 1 to 1048576")?;
        let ffn = settings.count("feed_forward_length", MAX_WIDTH, "from 1 to 1048576")?;
        let context = settings.count("context_length", u32::MAX, "positive")?;
        let heads = settings.count("attention.head_count", MAX_HEADS, "from 1 to 4096")?;
        let kv_key = "attention.head_count_kv";
        let kv_heads = settings.count(kv_key, heads, "from 1 to head_count")?;
        if heads.checked_rem(kv_heads) != Some(0) {
            return Err(settings.invalid(kv_key, "a divisor of head_count", kv_heads));
        }
        let key_length =
            settings.count_opt("attention.key_length", MAX_HEAD_DIM, "from 1 to 1024")?;
        let head_dim = match key_length {
            Some(got) if got % 2 == 0 => got,
            Some(got) => return Err(settings.invalid("attention.key_length", "even", got)),
            None => {
                let whole = hidden.checked_div(heads).filter(|dim| {
                    dim.checked_mul(heads) == Some(hidden) && dim % 2 == 0 && *dim <= MAX_HEAD_DIM
                });
                let expected = "a divisor of the embedding length that leaves an even head size of \
                                at most 1024";
                whole.ok_or_else(|| settings.invalid("attention.head_count", expected, heads))?
            }
        };
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(got) = settings.count_opt(key, u32::MAX, "the head size")?
                && got != head_dim
            {
                return Err(settings.invalid(key, "the head size", got));
            }
        }
        let turning = settings.turning()?;
        let epsilon = settings.epsilon()?;
        // They describe the file and change no number.
        settings.describe(&["vocab_size", "tensor_data_layout", "rope.scaling.finetuned"]);
        #[allow(clippy::cast_precision_loss)] // at most 1024
        let attention_scale = 1.0 / (head_dim as f32).sqrt();
        let layer = Layer { window: None, turning: 0 };
        Ok(Self {
            hidden: hidden as usize,
            heads: heads as usize,
            kv_heads: kv_heads as usize,
            head_dim: head_dim as usize,
            ffn: ffn as usize,
            vocab: settings.vocab()?,
            context,
            epsilon,
            embedding_scale: 1.0,
            attention_scale,
            activation: Activation::Silu,
            pairing: Pairing::Halves,
            head_norms: false,
            after_norms: false,
            experts: None,
            rope_factors: false,
            turnings: vec![turning],
            layers: vec![layer; blocks as usize],
        })
    }

    /// Most tokens that one sees in any layer, itself the last; `None` if one sees all.
    pub(crate) fn window(&self) -> Option<usize> {
        self.layers
            .iter()
            .map(|layer| layer.window)
            .max_by_key(|window| window.unwrap_or(usize::MAX))?
    }

    /// Width of all queries of a token.
    pub(crate) const fn query_width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Width of all keys, and of all values, of a token.
    pub(crate) const fn kv_width(&self) -> usize {
        self.kv_heads.saturating_mul(self.head_dim)
    }
}

/// More than any published model.
pub(crate) const MAX_BLOCKS: u32 = 1024;
/// Widest layer: eight times the widest published model.
pub(crate) const MAX_WIDTH: u32 = 1 << 20;
/// Most query heads; published models have up to 128.
pub(crate) const MAX_HEADS: u32 = 4096;
/// Largest head; published models have up to 256.
pub(crate) const MAX_HEAD_DIM: u32 = 1024;
/// Most experts of a layer; published models have up to 512.
pub(crate) const MAX_EXPERTS: u32 = 1024;

#[cfg(test)]
mod tests;
