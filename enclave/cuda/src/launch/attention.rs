//! Keys and values in their pages, from the product of a layer to attention over them.

use super::{Launch, Rows, Table, size};
use crate::arguments::{self as a, Pointer};
use crate::device::Device;
use crate::error::CudaError;
use crate::kernel::Kernel;
use crate::memory::Part;

/// Keys and values of every sequence, in pages.
#[derive(Clone, Copy)]
pub struct Pages<'a> {
    /// All of them.
    pub part: Part<'a>,
    /// Layers of the model.
    pub layers: usize,
    /// Heads that have keys and values.
    pub kv_heads: usize,
    /// Dimensions of a head, even.
    pub dim: usize,
}

impl Pages<'_> {
    /// Values of a page: for each layer keys and values of each head.
    #[must_use]
    pub fn page(&self) -> Option<usize> {
        self.layer()?.checked_mul(self.layers)
    }

    fn layer(&self) -> Option<usize> {
        size(&[2, self.kv_heads, PAGE_TOKENS, self.dim])
    }
}

/// Zeros for some pages.
pub struct Wipe<'a> {
    /// All pages.
    pub pages: Pages<'a>,
    /// Which of them, each one that is there.
    pub list: Table<'a>,
    /// How many.
    pub count: usize,
}

/// Cosines and sines of the tokens of a step, for each way to turn.
pub struct Angles<'a> {
    /// How far each pair turns from a position to the next (`f64`), way after way.
    pub turns: Part<'a>,
    /// Ways to turn.
    pub ways: usize,
    /// Pairs of dimensions.
    pub pairs: usize,
    /// The position of each token.
    pub positions: Table<'a>,
    /// Where they go: two `f32` for each way, token and pair.
    pub to: Part<'a>,
    /// Tokens.
    pub count: usize,
}

/// What the heads of a layer look like.
#[derive(Clone, Copy)]
pub struct Layer {
    /// Its number.
    pub number: usize,
    /// Heads of queries, a multiple of those of keys.
    pub heads: usize,
    /// Tokens that a token sees, itself the last.
    pub window: Option<usize>,
}

/// Queries, keys and values on their way from the product: normalised, turned, stored.
pub struct Heads<'a> {
    /// Queries, keys and values of each token.
    pub qkv: Rows<'a>,
    /// Columns where keys and values start.
    pub starts: [usize; 2],
    /// Of the layer's way to turn, as [`Angles`] made them.
    pub angles: Part<'a>,
    /// Norms of queries and keys.
    pub norms: Option<[Part<'a>; 2]>,
    /// Where queries go: for each token and head, one `f32` for each dimension.
    pub queries: Part<'a>,
    /// Where keys and values go.
    pub pages: Pages<'a>,
    /// For each token [`PAGE_TOKENS`] times its page, and its place in it.
    pub slots: Table<'a>,
    /// The layer.
    pub layer: Layer,
    /// Tokens.
    pub count: usize,
    /// Whether neighbouring dimensions turn together; otherwise those half a head away.
    pub neighbours: bool,
    /// Added to the mean square.
    pub epsilon: f32,
    /// What queries are multiplied with, and keys are not.
    pub scale: f32,
}

/// Attention of each token over the ranges of its sequence.
pub struct Attend<'a> {
    /// As [`Heads`] made them.
    pub queries: Part<'a>,
    /// Keys and values.
    pub pages: Pages<'a>,
    /// The position of each token, and where the pages of its sequence start in `table`.
    pub positions: Table<'a>,
    /// See there.
    pub tables: Table<'a>,
    /// Pages of the sequences.
    pub table: Table<'a>,
    /// For each token, head and range two `f32`: the largest score and the sum of weights.
    pub numbers: Part<'a>,
    /// For each token, head and range the weighted sum of values.
    pub sums: Part<'a>,
    /// The layer.
    pub layer: Layer,
    /// Tokens.
    pub count: usize,
    /// Ranges of [`RANGE_TOKENS`] that the longest sequence has.
    pub ranges: usize,
}

/// The ranges of each token joined.
pub struct Join<'a> {
    /// As [`Attend`] left them.
    pub from: &'a Attend<'a>,
    /// Heads side by side.
    pub to: Rows<'a>,
}

impl Launch<'_> {
    /// Pages, the values of one, and those before a layer of it.
    fn pages(&self, pages: Pages<'_>, layer: usize) -> Result<(Pointer, u64, u64), CudaError> {
        let (page, size_of_layer) = (self.some(pages.page())?, self.some(pages.layer())?);
        let before = self.some(size_of_layer.checked_mul(layer))?;
        let sane = layer < pages.layers
            && page > 0
            && pages.dim.is_multiple_of(2)
            && pages.dim <= MAX_HEAD_DIM;
        if !sane {
            return Err(self.refused());
        }
        Ok((self.part(pages.part, &[page, 2])?, page as u64, before as u64))
    }

    fn heads(&self, layer: Layer, pages: Pages<'_>) -> Result<(u32, u32, u32), CudaError> {
        if layer.heads == 0 || layer.heads.checked_rem(pages.kv_heads) != Some(0) {
            return Err(self.refused());
        }
        Ok((self.number(layer.heads)?, self.number(pages.kv_heads)?, self.number(pages.dim)?))
    }
}

impl Device {
    /// Queues zeros for pages.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn wipe(&self, of: &Wipe<'_>) -> Result<(), CudaError> {
        let Wipe { pages, list, count } = *of;
        let l = self.launch(Kernel::Wipe);
        let (pages, page_halves, _) = l.pages(pages, 0)?;
        let list = l.table(list, count)?;
        l.go([BLOCKS_OF_A_PAGE, count, 1], &a::Wipe { pages, list, page_halves })
    }

    /// Queues cosines and sines.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn angles(&self, of: &Angles<'_>) -> Result<(), CudaError> {
        let Angles { turns, ways, pairs, positions, to, count } = *of;
        let l = self.launch(Kernel::Angles);
        l.go(
            [count, ways, 1],
            &a::Angles {
                turns: l.part(turns, &[ways, pairs, 8])?,
                positions: l.table(positions, count)?,
                to: l.part(to, &[ways, count, pairs, 8])?,
                pairs: l.number(pairs)?,
                tokens: l.number(count)?,
            },
        )
    }

    /// Queues the way of queries, keys and values.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn heads(&self, of: &Heads<'_>) -> Result<(), CudaError> {
        let Heads { qkv, starts: [key_at, value_at], pages: all, layer, count, .. } = *of;
        let l = self.launch(Kernel::Heads);
        let (heads, kv_heads, dim) = l.heads(layer, all)?;
        let kv = l.some(size(&[all.kv_heads, all.dim]))?;
        let queries = l.some(size(&[layer.heads, all.dim]))?;
        let last = key_at.max(value_at).checked_add(kv).map(|end| end.max(queries));
        let (qkv, stride) = l.rows(qkv, count, l.some(last)?)?;
        let (pages, page_halves, layer_halves) = l.pages(all, layer.number)?;
        let norm = |at: usize| {
            let norm = of.norms.as_ref().and_then(|norms| norms.get(at));
            norm.map_or(Ok(0), |norm| l.part(*norm, &[all.dim, 4]))
        };
        let both = l.some(all.kv_heads.checked_mul(2).and_then(|n| n.checked_add(layer.heads)))?;
        l.go(
            [both, count, 1],
            &a::Heads {
                qkv,
                angles: l.part(of.angles, &[count, all.dim / 2, 8])?,
                query_norm: norm(0)?,
                key_norm: norm(1)?,
                queries: l.part(of.queries, &[count, queries, 4])?,
                pages,
                slots: l.table(of.slots, count)?,
                page_halves,
                layer_halves,
                stride,
                key_at: l.number(key_at)?,
                value_at: l.number(value_at)?,
                heads,
                kv_heads,
                dim,
                neighbours: of.neighbours.into(),
                epsilon: of.epsilon,
                scale: of.scale,
            },
        )
    }

    /// Queues attention.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn attend(&self, of: &Attend<'_>) -> Result<(), CudaError> {
        let Attend { pages: all, layer, count, ranges, .. } = *of;
        let l = self.launch(Kernel::Attention);
        let (heads, kv_heads, dim) = l.heads(layer, all)?;
        let (pages, page_halves, layer_halves) = l.pages(all, layer.number)?;
        let group = layer.heads.checked_div(all.kv_heads).unwrap_or(1);
        let rows = l.some(size(&[all.kv_heads, group.div_ceil(HEADS_AT_ONCE)]))?;
        l.go(
            [ranges, rows, count],
            &a::Attention {
                queries: l.part(of.queries, &[count, layer.heads, all.dim, 4])?,
                pages,
                positions: l.table(of.positions, count)?,
                tables: l.table(of.tables, count)?,
                table: l.table(of.table, 1)?,
                numbers: l.part(of.numbers, &[count, layer.heads, ranges, 8])?,
                sums: l.part(of.sums, &[count, layer.heads, ranges, all.dim, 4])?,
                page_halves,
                layer_halves,
                heads,
                kv_heads,
                dim,
                ranges: l.number(ranges)?,
                window: window(layer),
            },
        )
    }

    /// Queues the joining of ranges.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn join(&self, of: &Join<'_>) -> Result<(), CudaError> {
        let Attend { pages, layer, count, ranges, .. } = *of.from;
        let l = self.launch(Kernel::Join);
        let (heads, _, dim) = l.heads(layer, pages)?;
        let width = l.some(size(&[layer.heads, pages.dim]))?;
        let (to, stride) = l.rows(of.to, count, width)?;
        l.go(
            [layer.heads, count, 1],
            &a::Join {
                numbers: l.part(of.from.numbers, &[count, layer.heads, ranges, 8])?,
                sums: l.part(of.from.sums, &[count, layer.heads, ranges, pages.dim, 4])?,
                positions: l.table(of.from.positions, count)?,
                to,
                heads,
                dim,
                ranges: l.number(ranges)?,
                window: window(layer),
                stride,
            },
        )
    }
}

/// 0 for none. One that is longer than any sequence hides nothing.
fn window(layer: Layer) -> u32 {
    layer.window.map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
}

/// Tokens of a page of keys and values.
pub const PAGE_TOKENS: usize = 32;
/// Tokens of a range: attention is computed range by range.
pub const RANGE_TOKENS: usize = 256;
/// Largest head.
pub const MAX_HEAD_DIM: usize = 1024;
/// Query heads of one key head that are computed at a time.
const HEADS_AT_ONCE: usize = 8;
/// Blocks that wipe one page.
const BLOCKS_OF_A_PAGE: usize = 16;
