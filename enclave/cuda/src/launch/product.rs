//! Products of weights with activations, and rows of embeddings.

use super::{Rows, Table, Tiles};
use crate::arguments as a;
use crate::device::Device;
use crate::error::CudaError;
use crate::kernel::{Kernel, WIDE, tokens_at_once};

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

impl Device {
    /// Queues a product.
    ///
    /// # Errors
    /// As all launches: [`CudaError::Shape`] for parts that are too short, [`CudaError::Call`].
    pub fn product(&self, of: &Product<'_>) -> Result<(), CudaError> {
        // An expert for each token: no two of them share weights.
        let tokens = if of.select.is_some() { 1 } else { at_once(of.weights, of.count) };
        self.product_by(of, tokens)
    }

    /// By the kernel of so many tokens at a time.
    pub(crate) fn product_by(&self, of: &Product<'_>, tokens: u32) -> Result<(), CudaError> {
        let Product { weights, x, y, count, add, ref select } = *of;
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
        let tiles = if tokens == WIDE { WIDE_TILES } else { 1 };
        let grid = [weights.rows.div_ceil(16).div_ceil(tiles), count.div_ceil(tokens as usize), 1];
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
}

/// Tokens of a block, which decides how fast it is and nothing else: as few as there are, and many only if there are
/// blocks enough for the whole GPU then.
fn at_once(weights: Tiles<'_>, count: usize) -> u32 {
    let blocks =
        weights.rows.div_ceil(16 * WIDE_TILES).saturating_mul(count.div_ceil(WIDE as usize));
    let fits = |n: &&u32| **n != WIDE || blocks >= ENOUGH_BLOCKS;
    let kernels = || tokens_at_once(weights.kind).iter().filter(fits);
    let enough = kernels().find(|n| count <= **n as usize);
    enough.or_else(|| kernels().next_back()).copied().unwrap_or(1)
}

/// Tiles of a block that computes [`WIDE`] tokens.
const WIDE_TILES: usize = 8;
/// Blocks that keep most of a GPU busy.
const ENOUGH_BLOCKS: usize = 112;
