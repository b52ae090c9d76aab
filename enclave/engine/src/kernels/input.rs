//! The right-hand side of products: activations in panels of eight rows, normalised on the way if
//! asked, and rounded to eight bits for block-quantised weights.

use zeroize::{DefaultIsZeroes, Zeroizing};

use super::isa::{Isa, Kernel};
use super::math;
use super::matrix::Matrix;
use super::pool::Pool;
use super::tiled::{Lanes, Tiled};

/// Rows of activations that are multiplied at a time.
pub(crate) const PANEL_ROWS: usize = 8;

/// 32 columns of eight rows, in eight bits: a value is `d * q`.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Block {
    /// For each row eight times four signed bytes, the first one lowest; none is -128.
    pub(crate) q: [[i32; 8]; PANEL_ROWS],
    pub(crate) d: [f32; PANEL_ROWS],
    /// `d` times the sum of the row's bytes: what a minimum is multiplied by.
    pub(crate) s: [f32; PANEL_ROWS],
    /// Sums of the row's bytes in both halves.
    pub(crate) sums: [[i32; 2]; PANEL_ROWS],
}

impl DefaultIsZeroes for Block {}

/// Weights of an RMS norm.
pub(crate) struct Norm {
    pub(crate) weight: Vec<Lanes>,
    /// Columns, without padding.
    pub(crate) columns: usize,
    pub(crate) epsilon: f32,
}

/// Activations in the forms that the weights they meet need. Wiped on drop.
pub(crate) struct Inputs {
    rows: usize,
    /// Blocks of a panel.
    width: usize,
    blocks: Zeroizing<Vec<Block>>,
    /// Panels of `f32`: for each column, eight rows.
    columns: usize,
    dense: Zeroizing<Vec<[f32; PANEL_ROWS]>>,
}

impl Inputs {
    /// Room for `rows` of at most `columns`.
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        let panels = rows.div_ceil(PANEL_ROWS);
        let padded = columns.next_multiple_of(32);
        Self {
            rows,
            width: 0,
            blocks: Zeroizing::new(vec![Block::default(); panels * padded / 32]),
            columns: 0,
            dense: Zeroizing::new(vec![[0.0; PANEL_ROWS]; panels * padded]),
        }
    }

    /// Takes `from`, through `norm`, in the forms that `weights` need.
    pub(crate) fn fill(
        &mut self,
        pool: &Pool,
        from: &Tiled,
        norm: Option<&Norm>,
        weights: &[&Matrix],
    ) {
        let panels = self.rows.div_ceil(PANEL_ROWS);
        if weights.iter().any(|w| w.is_quantised()) {
            self.width = from.columns() / 32;
            let (width, blocks) = (self.width, &mut self.blocks[..panels * from.columns() / 32]);
            pool.chunks(blocks, width, |panel, blocks| {
                pool.path().run(FillBlocks { from, norm, panel, blocks, width });
            });
        }
        if weights.iter().any(|w| !w.is_quantised()) {
            self.columns = from.columns();
            let (columns, dense) = (self.columns, &mut self.dense[..panels * from.columns()]);
            pool.chunks(dense, columns, |panel, dense| {
                pool.path().run(FillDense { from, norm, panel, dense, columns });
            });
        }
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// The blocks of each panel, in order.
    #[inline(always)]
    pub(crate) fn block_panels(&self) -> impl Iterator<Item = &[Block]> {
        self.blocks.chunks_exact(self.width)
    }

    /// The columns of each panel, in order.
    #[inline(always)]
    pub(crate) fn dense_panels(&self) -> impl Iterator<Item = &[[f32; PANEL_ROWS]]> {
        self.dense.chunks_exact(self.columns)
    }
}

struct FillBlocks<'a> {
    from: &'a Tiled,
    norm: Option<&'a Norm>,
    /// Number of the first panel.
    panel: usize,
    blocks: &'a mut [Block],
    width: usize,
}

impl Kernel for FillBlocks<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        for (i, blocks) in self.blocks.chunks_exact_mut(self.width).enumerate() {
            let first = (self.panel + i) * PANEL_ROWS;
            for row in first..(first + PANEL_ROWS).min(self.from.rows()) {
                let scale = self.norm.map(|norm| norm_scale(self.from, row, norm));
                for (b, block) in blocks.iter_mut().enumerate() {
                    let mut x = [[0.0; 16]; 2];
                    for (n, x) in x.iter_mut().enumerate() {
                        // As `normalise`, which the compiler would take apart here.
                        let mut lanes = isa.load(self.from.lanes(row, 2 * b + n));
                        if let (Some(norm), Some(scale)) = (self.norm, scale) {
                            let weight = isa.load(&norm.weight[2 * b + n]);
                            lanes = isa.mul(lanes, isa.mul(isa.splat(scale), weight));
                        }
                        isa.store(lanes, x);
                    }
                    quantise(isa, &x, block, row - first);
                }
            }
        }
    }
}

struct FillDense<'a> {
    from: &'a Tiled,
    norm: Option<&'a Norm>,
    /// Number of the first panel.
    panel: usize,
    dense: &'a mut [[f32; PANEL_ROWS]],
    columns: usize,
}

impl Kernel for FillDense<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        for (i, dense) in self.dense.chunks_exact_mut(self.columns).enumerate() {
            let first = (self.panel + i) * PANEL_ROWS;
            for row in first..(first + PANEL_ROWS).min(self.from.rows()) {
                let scale = self.norm.map(|norm| norm_scale(self.from, row, norm));
                for (tile, columns) in dense.chunks_exact_mut(16).enumerate() {
                    let mut x = *self.from.lanes(row, tile);
                    if let (Some(norm), Some(scale)) = (self.norm, scale) {
                        normalise(&mut x, scale, &norm.weight[tile]);
                    }
                    for i in 0..16 {
                        columns[i][row - first] = x[i];
                    }
                }
            }
        }
    }
}

/// One over the root of the mean square.
#[inline(always)]
pub(super) fn norm_scale(from: &Tiled, row: usize, norm: &Norm) -> f32 {
    let mut squares = [0.0f32; 16];
    for tile in 0..norm.weight.len() {
        let x = from.lanes(row, tile);
        for i in 0..16 {
            squares[i] += x[i] * x[i];
        }
    }
    #[allow(clippy::cast_precision_loss)] // widths are below 2^24
    let mean = math::sum(&squares) / norm.columns as f32;
    1.0 / (mean + norm.epsilon).sqrt()
}

#[inline(always)]
pub(super) fn normalise(x: &mut Lanes, scale: f32, weight: &Lanes) {
    for i in 0..16 {
        x[i] *= scale * weight[i];
    }
}

/// Rounds 32 values to multiples of 1/127 of the largest. One that is not finite makes all of them
/// NaN: it must reach the logits, where it is refused.
#[inline(always)]
fn quantise<S: Isa>(isa: S, x: &[Lanes; 2], block: &mut Block, row: usize) {
    let most = isa.reach(isa.load(&x[0]), isa.load(&x[1]));
    // So small that its inverse overflows: nothing.
    let inverse = if most > SMALLEST { 127.0 / most } else { 0.0 };
    let mut whole = [[0.0; 16]; 2];
    for (n, half) in x.iter().enumerate() {
        let mut bytes = [0i8; 16];
        #[allow(clippy::cast_possible_truncation)] // from -127 to 127
        for i in 0..16 {
            let rounded = math::round(half[i] * inverse);
            bytes[i] = rounded as i8;
            whole[n][i] = math::whole(half[i] * inverse);
        }
        for (word, bytes) in block.q[row][4 * n..].iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = i32::from_le_bytes(bytes.map(i8::cast_unsigned));
        }
    }
    // Of what is not finite the sums may be anything; they must not overflow later.
    let limit = 16 * 127;
    let [left, right] = isa.sums(isa.load(&whole[0]), isa.load(&whole[1]));
    let sums = [math::round(left).clamp(-limit, limit), math::round(right).clamp(-limit, limit)];
    let taint = most * 0.0;
    let d = if most > SMALLEST { most / 127.0 } else { 0.0 } + taint;
    block.d[row] = d;
    #[allow(clippy::cast_precision_loss)] // at most 32 * 127
    let total = (sums[0] + sums[1]) as f32;
    block.s[row] = d * total;
    block.sums[row] = sums;
}

const SMALLEST: f32 = 1e-30;
