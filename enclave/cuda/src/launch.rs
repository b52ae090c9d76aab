//! Launches: each kernel with what it takes, by names. All of it is checked before anything is queued:
//! parts are long enough for what the kernel touches, and are of this device. Indices inside tables (token
//! ids, pages, rows) are not seen here: whoever makes a table has checked them.

use crate::arguments::{self as a, Pointer};
use crate::device::Device;
use crate::error::CudaError;
use crate::kernel::{Kernel, TOKENS_AT_ONCE};
use crate::kind::Kind;
use crate::memory::Part;

/// Rows of `f32`: each starts `stride` values after the one before.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Where the first one starts.
    pub part: Part<'a>,
    /// Values from the start of a row to the next.
    pub stride: usize,
}

impl Rows<'_> {
    /// The same rows from a column on.
    ///
    /// # Errors
    /// [`CudaError::Shape`] if there is none.
    pub fn from_column(self, column: usize) -> Result<Self, CudaError> {
        let at = column.saturating_mul(4);
        let part = self.part.part(at, self.part.len().saturating_sub(at))?;
        Ok(Self { part, ..self })
    }
}

/// A matrix of weights in tiles of sixteen rows, or several with the same columns one after the other.
#[derive(Clone, Copy)]
pub struct Tiles<'a> {
    /// The tiles.
    pub part: Part<'a>,
    /// How they store values.
    pub kind: Kind,
    /// Rows; the last tile may have more.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Tiles<'_> {
    fn bytes(&self) -> Option<usize> {
        self.kind.tile_bytes(self.columns)?.checked_mul(self.rows.div_ceil(16))
    }
}

/// Numbers (`u32`) of a step.
#[derive(Clone, Copy)]
pub struct Table<'a>(pub Part<'a>);

/// A matrix of a stack for each row of results.
#[derive(Clone, Copy)]
pub struct Select<'a> {
    /// Its number, each below `matrices`.
    pub numbers: Table<'a>,
    /// Matrices of the stack.
    pub matrices: usize,
    /// Bytes from one to the next.
    pub stride: usize,
    /// Neighbouring rows of results that take the same row of activations.
    pub fan: usize,
}

/// `y = weights * x`, or `y += weights * x`.
pub struct Product<'a> {
    /// Of one matrix of the stack, if there is one: then `part` holds all of it.
    pub weights: Tiles<'a>,
    /// Its stride is a multiple of 32, and the columns up to there are 0.
    pub x: Rows<'a>,
    /// Results, one for each row of weights.
    pub y: Rows<'a>,
    /// Rows of `y`.
    pub count: usize,
    /// Whether results are added.
    pub add: bool,
    /// For experts.
    pub select: Option<Select<'a>>,
}

/// Rows of an embedding.
pub struct Embed<'a> {
    /// The embedding.
    pub weights: Tiles<'a>,
    /// Which rows, each below the number there is.
    pub ids: Table<'a>,
    /// Where they go.
    pub to: Rows<'a>,
    /// How many.
    pub count: usize,
    /// What they are multiplied with.
    pub scale: f32,
}

/// An RMS norm.
pub struct Norm<'a> {
    /// What is normalised.
    pub from: Rows<'a>,
    /// Which rows of it; all in order if there is none.
    pub rows: Option<Table<'a>>,
    /// One for each column.
    pub weight: Part<'a>,
    /// Where it goes.
    pub to: Rows<'a>,
    /// Rows, and columns.
    pub count: usize,
    /// Columns.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Whether the result is added.
    pub add: bool,
}

/// `to = activation(gate) * up`.
pub struct Gate<'a> {
    /// The gate in the first columns.
    pub from: Rows<'a>,
    /// The column where the other factor starts.
    pub up_at: usize,
    /// Where it goes.
    pub to: Rows<'a>,
    /// Rows.
    pub count: usize,
    /// Columns.
    pub width: usize,
    /// GELU in its `tanh` form; otherwise SiLU.
    pub gelu: bool,
}

/// The token with the largest logit of each row.
pub struct Choose<'a> {
    /// The logits.
    pub logits: Rows<'a>,
    /// Where the tokens go; [`NO_TOKEN`] if a logit is NaN or the largest is infinite.
    pub to: Table<'a>,
    /// Rows.
    pub count: usize,
    /// Tokens there are.
    pub known: usize,
}

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

/// The experts each token takes.
pub struct Route<'a> {
    /// One logit for each expert.
    pub logits: Rows<'a>,
    /// For each token the numbers of those it takes, in order.
    pub experts: Table<'a>,
    /// Its shares of them (`f32`).
    pub shares: Part<'a>,
    /// Tokens.
    pub count: usize,
    /// Experts, at most [`MAX_EXPERTS`].
    pub all: usize,
    /// Those that a token takes.
    pub used: usize,
}

/// What the experts of a token give together.
pub struct Mix<'a> {
    /// A row for each token and each of its experts.
    pub from: Rows<'a>,
    /// As of [`Route`].
    pub shares: Part<'a>,
    /// Where it goes.
    pub to: Rows<'a>,
    /// Tokens.
    pub count: usize,
    /// Experts of each.
    pub used: usize,
    /// Columns.
    pub width: usize,
    /// Whether the result is added.
    pub add: bool,
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

/// What is common to the checks of a launch.
#[derive(Clone, Copy)]
struct Launch<'d> {
    device: &'d Device,
    kernel: Kernel,
}

impl Launch<'_> {
    const fn refused(&self) -> CudaError {
        CudaError::Shape { what: self.kernel.name() }
    }

    fn some<T>(&self, value: Option<T>) -> Result<T, CudaError> {
        value.ok_or_else(|| self.refused())
    }

    fn number(&self, value: usize) -> Result<u32, CudaError> {
        u32::try_from(value).map_err(|_| self.refused())
    }

    /// The start of a part that has as many bytes as all of `of` multiplied.
    fn part(&self, part: Part<'_>, of: &[usize]) -> Result<Pointer, CudaError> {
        let fits = size(of).is_some_and(|bytes| bytes <= part.len());
        if fits && part.device().is(self.device) { Ok(part.address()) } else { Err(self.refused()) }
    }

    /// The start of a table of so many numbers.
    fn table(&self, table: Table<'_>, count: usize) -> Result<Pointer, CudaError> {
        self.part(table.0, &[count, 4])
    }

    /// The start of so many rows of so many columns, and their stride.
    fn rows(
        &self,
        rows: Rows<'_>,
        count: usize,
        width: usize,
    ) -> Result<(Pointer, u32), CudaError> {
        let before = size(&[count.saturating_sub(1), rows.stride]);
        let values = self.some(before.and_then(|before| before.checked_add(width)))?;
        if width > rows.stride {
            return Err(self.refused());
        }
        Ok((self.part(rows.part, &[values, 4])?, self.number(rows.stride)?))
    }

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

    #[allow(unsafe_code)]
    fn go<T: Copy>(&self, grid: [usize; 3], argument: &T) -> Result<(), CudaError> {
        let mut sizes = [0; 3];
        for ((to, from), most) in sizes.iter_mut().zip(grid).zip(MOST_BLOCKS) {
            *to = self
                .number(from)
                .ok()
                .filter(|n| *n > 0 && *n <= most)
                .ok_or_else(|| self.refused())?;
        }
        let inner = &self.device.0;
        inner.enter()?;
        let function = inner.function(self.kernel)?;
        // SAFETY: the argument is the kernel's, whose size was compared; its pointers were checked to
        // have behind them what the kernel touches, and their owners wait for the queue before they
        // give memory back.
        unsafe { inner.driver.launch(function, sizes, THREADS, argument, inner.stream) }
    }
}

impl Device {
    const fn launch(&self, kernel: Kernel) -> Launch<'_> {
        Launch { device: self, kernel }
    }

    /// Queues a product.
    ///
    /// # Errors
    /// As all launches: [`CudaError::Shape`] for parts that are too short, [`CudaError::Call`].
    pub fn product(&self, of: &Product<'_>) -> Result<(), CudaError> {
        let Product { weights, x, y, count, add, ref select } = *of;
        // An expert for each token: no two of them share weights.
        let most = if select.is_some() { 1 } else { count };
        let tokens = TOKENS_AT_ONCE.into_iter().find(|n| most <= *n as usize);
        let [.., largest] = TOKENS_AT_ONCE;
        let tokens = tokens.unwrap_or(largest);
        let l = self.launch(Kernel::Product(weights.kind, tokens));
        let bytes = l.some(weights.bytes())?;
        let (mut fan, mut numbers, mut stride, mut extent) = (1, 0, 0, [bytes, 1]);
        if let Some(select) = select {
            numbers = l.table(select.numbers, count)?;
            (fan, stride) = (select.fan, select.stride);
            if bytes > stride {
                return Err(l.refused());
            }
            extent = [stride, select.matrices];
        }
        let width = weights.columns.next_multiple_of(32);
        if !x.stride.is_multiple_of(4) || fan == 0 {
            return Err(l.refused());
        }
        let (x, x_stride) = l.rows(x, count.div_ceil(fan), width)?;
        let (y, y_stride) = l.rows(y, count, weights.rows)?;
        let grid = [weights.rows.div_ceil(16), count.div_ceil(tokens as usize), 1];
        l.go(
            grid,
            &a::Product {
                tiles: l.part(weights.part, &extent)?,
                x,
                y,
                select: numbers,
                matrix_bytes: stride as u64,
                tile_bytes: l.number(weights.kind.tile_bytes(weights.columns).unwrap_or(0))?,
                columns: l.number(weights.columns)?,
                rows: l.number(weights.rows)?,
                count: l.number(count)?,
                x_stride,
                y_stride,
                fan: l.number(fan)?,
                add: add.into(),
            },
        )
    }

    /// Queues rows of an embedding.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn embed(&self, of: &Embed<'_>) -> Result<(), CudaError> {
        let Embed { weights, ids, to, count, scale } = *of;
        let l = self.launch(Kernel::Embed(weights.kind));
        let (to, stride) = l.rows(to, count, weights.columns)?;
        l.go(
            [count, 1, 1],
            &a::Embed {
                tiles: l.part(weights.part, &[l.some(weights.bytes())?])?,
                ids: l.table(ids, count)?,
                to,
                tile_bytes: l.number(weights.kind.tile_bytes(weights.columns).unwrap_or(0))?,
                columns: l.number(weights.columns)?,
                stride,
                scale,
            },
        )
    }

    /// Queues a norm.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn norm(&self, of: &Norm<'_>) -> Result<(), CudaError> {
        let Norm { from, rows, weight, to, count, width, epsilon, add } = *of;
        let l = self.launch(Kernel::Norm);
        // Of picked rows only their table is known here.
        let (from, from_stride) = l.rows(from, if rows.is_some() { 1 } else { count }, width)?;
        let (to, to_stride) = l.rows(to, count, width)?;
        l.go(
            [count, 1, 1],
            &a::Norm {
                from,
                weight: l.part(weight, &[width, 4])?,
                to,
                rows: rows.map_or(Ok(0), |rows| l.table(rows, count))?,
                width: l.number(width)?,
                from_stride,
                to_stride,
                add: add.into(),
                epsilon,
            },
        )
    }

    /// Queues a gate.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn gate(&self, of: &Gate<'_>) -> Result<(), CudaError> {
        let Gate { from, up_at, to, count, width, gelu } = *of;
        let l = self.launch(Kernel::Gate);
        let both = l.some(up_at.checked_add(width))?;
        let (from, from_stride) = l.rows(from, count, both)?;
        let (to, to_stride) = l.rows(to, count, width)?;
        let (up_at, width_) = (l.number(up_at)?, l.number(width)?);
        let args =
            a::Gate { from, to, up_at, width: width_, from_stride, to_stride, gelu: gelu.into() };
        l.go([width.div_ceil(THREADS as usize), count, 1], &args)
    }

    /// Queues the choice of tokens.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn choose(&self, of: &Choose<'_>) -> Result<(), CudaError> {
        let Choose { logits, to, count, known } = *of;
        let l = self.launch(Kernel::Choose);
        let (logits, stride) = l.rows(logits, count, known)?;
        let to = l.table(to, count)?;
        l.go([count, 1, 1], &a::Choose { logits, to, stride, known: l.number(known)? })
    }

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

    /// Queues the choice of experts.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn route(&self, of: &Route<'_>) -> Result<(), CudaError> {
        let Route { logits, experts, shares, count, all, used } = *of;
        let l = self.launch(Kernel::Route);
        if all > MAX_EXPERTS || used == 0 || used > all {
            return Err(l.refused());
        }
        let (logits, stride) = l.rows(logits, count, all)?;
        let items = l.some(size(&[count, used]))?;
        l.go(
            [count, 1, 1],
            &a::Route {
                logits,
                experts: l.table(experts, items)?,
                shares: l.part(shares, &[items, 4])?,
                stride,
                count: l.number(all)?,
                used: l.number(used)?,
            },
        )
    }

    /// Queues the sum of what experts gave.
    ///
    /// # Errors
    /// As [`Device::product`].
    pub fn mix(&self, of: &Mix<'_>) -> Result<(), CudaError> {
        let Mix { from, shares, to, count, used, width, add } = *of;
        let l = self.launch(Kernel::Mix);
        let items = l.some(size(&[count, used]))?;
        let (from, from_stride) = l.rows(from, items, width)?;
        let (to, to_stride) = l.rows(to, count, width)?;
        l.go(
            [width.div_ceil(THREADS as usize), count, 1],
            &a::Mix {
                from,
                shares: l.part(shares, &[items, 4])?,
                to,
                used: l.number(used)?,
                width: l.number(width)?,
                from_stride,
                to_stride,
                add: add.into(),
            },
        )
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

/// All of them multiplied.
fn size(of: &[usize]) -> Option<usize> {
    of.iter().try_fold(1usize, |all, n| all.checked_mul(*n))
}

/// What a row without a token has for one.
pub const NO_TOKEN: u32 = u32::MAX;
/// Tokens of a page of keys and values.
pub const PAGE_TOKENS: usize = 32;
/// Tokens of a range: attention is computed range by range.
pub const RANGE_TOKENS: usize = 256;
/// Largest head.
pub const MAX_HEAD_DIM: usize = 1024;
/// Most experts of a layer.
pub const MAX_EXPERTS: usize = 1024;
/// Threads of a block, of every kernel.
const THREADS: u32 = 256;
/// Query heads of one key head that are computed at a time.
const HEADS_AT_ONCE: usize = 8;
/// Blocks that wipe one page.
const BLOCKS_OF_A_PAGE: usize = 16;
/// Most blocks in each direction of a grid.
const MOST_BLOCKS: [u32; 3] = [i32::MAX.cast_unsigned(), 65_535, 65_535];
