//! Products of weights and activations. Sixteen rows of weights meet up to eight rows of activations
//! at a time; what becomes of the results is decided while they are still in registers' reach.

use core::marker::PhantomData;

use super::format::{Flat, Format, Six, Super, codes, part};
use super::input::{Block, Inputs, PANEL_ROWS};
use super::isa::{Isa, Kernel};
use super::math;
use super::matrix::{Kind, LINE, Matrix, with_format};
use super::pool::Pool;
use super::tiled::{Lanes, Tiled};

/// `out = weights * inputs`, for several matrices of the same inputs: their results stand side by side,
/// each from the next tile on.
pub(crate) fn product(pool: &Pool, weights: &[&Matrix], inputs: &Inputs, out: &mut Tiled) {
    run(pool, weights, inputs, out, Finish::Store);
}

/// `out += weights * inputs`.
pub(crate) fn add_product(pool: &Pool, weights: &Matrix, inputs: &Inputs, out: &mut Tiled) {
    run(pool, &[weights], inputs, out, Finish::Add);
}

/// What a gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU in its `tanh` form.
    GeluTanh,
}

/// `out = activation(gate * inputs) * (up * inputs)`, element by element.
pub(crate) fn gated_product(
    pool: &Pool,
    [gate, up]: [&Matrix; 2],
    activation: Activation,
    inputs: &Inputs,
    out: &mut Tiled,
) {
    let rows = inputs.rows();
    pool.chunks(out.data_mut(), rows, |tile, out| {
        tiles(pool, gate, tile, inputs, out, Finish::Store);
        tiles(pool, up, tile, inputs, out, Finish::Gate(activation));
    });
}

/// What becomes of a result.
#[derive(Clone, Copy)]
enum Finish {
    Store,
    Add,
    /// Multiplied by the activation of what is there.
    Gate(Activation),
}

fn run(pool: &Pool, weights: &[&Matrix], inputs: &Inputs, out: &mut Tiled, finish: Finish) {
    let rows = inputs.rows();
    pool.chunks(out.data_mut(), rows, |mut tile, mut out| {
        let mut before = 0;
        for matrix in weights {
            let end = before + matrix.tiles();
            if tile < end && !out.is_empty() {
                let count = (out.len() / rows).min(end - tile);
                let (now, rest) = out.split_at_mut(count * rows);
                tiles(pool, matrix, tile - before, inputs, now, finish);
                (tile, out) = (tile + count, rest);
            }
            before = end;
        }
    });
}

/// Results of the tiles of `weights` from `first` on, as many as `out` holds.
pub(super) fn store(
    pool: &Pool,
    weights: &Matrix,
    first: usize,
    inputs: &Inputs,
    out: &mut [Lanes],
) {
    tiles(pool, weights, first, inputs, out, Finish::Store);
}

/// The tiles of `matrix` from `first`, as many as `out` holds.
fn tiles(
    pool: &Pool,
    matrix: &Matrix,
    first: usize,
    inputs: &Inputs,
    out: &mut [Lanes],
    finish: Finish,
) {
    let (path, bytes) = (pool.path(), matrix.tile_bytes());
    let tiles = matrix.tile_range(first, out.len() / inputs.rows());
    with_format!(matrix.kind(), T => {
        path.run(Quantised::<T> { tiles, bytes, inputs, out, finish, format: PhantomData });
        return;
    });
    match matrix.kind() {
        Kind::F16 => {
            path.run(Dense::<F16> { tiles, bytes, inputs, out, finish, element: PhantomData })
        }
        Kind::Bf16 => {
            path.run(Dense::<Bf16> { tiles, bytes, inputs, out, finish, element: PhantomData })
        }
        _ => path.run(Dense::<F32> { tiles, bytes, inputs, out, finish, element: PhantomData }),
    }
}

/// The body once for each row below `R`, so that what it indexes by row stays in registers.
macro_rules! each_row {
    ($R:ident, $r:ident => $body:expr) => {
        each_row!(@ $R, $r, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $R:ident, $r:ident, $body:expr, $($n:literal)*) => {
        $(if $n < $R { let $r = $n; $body })*
    };
}
pub(crate) use each_row;

struct Quantised<'a, T> {
    tiles: &'a [u8],
    bytes: usize,
    inputs: &'a Inputs,
    out: &'a mut [Lanes],
    finish: Finish,
    format: PhantomData<T>,
}

impl<T: Format> Kernel for Quantised<'_, T> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let outs = self.out.chunks_exact_mut(self.inputs.rows());
        for (tile, out) in self.tiles.chunks_exact(self.bytes).zip(outs) {
            for (panel, out) in self.inputs.block_panels().zip(out.chunks_mut(PANEL_ROWS)) {
                match out.len() {
                    1 => quantised::<S, T, 1>(isa, tile, panel, out, self.finish),
                    2 => quantised::<S, T, 2>(isa, tile, panel, out, self.finish),
                    3 | 4 => quantised::<S, T, 4>(isa, tile, panel, out, self.finish),
                    _ => quantised::<S, T, 8>(isa, tile, panel, out, self.finish),
                }
            }
        }
    }
}

/// Adds the products of some of the eight vectors of a block to `$sum`.
macro_rules! dots {
    ($isa:ident, $T:ident, $sum:expr, $codes:ident, $q:ident, $($g:literal)*) => {{
        let mut sum = $sum;
        $(sum = if $T::WIDTH == 8 {
            $isa.dot_signed(sum, $codes[$g], $q[$g])
        } else {
            $isa.dot(sum, $codes[$g], $q[$g])
        };)*
        sum
    }};
}

/// The products of a tile and the first `R` rows of a panel.
#[inline(always)]
fn quantised<S: Isa, T: Format, const R: usize>(
    isa: S,
    tile: &[u8],
    panel: &[Block],
    out: &mut [Lanes],
    finish: Finish,
) {
    let offset = T::OFFSET + if T::WIDTH == 8 { S::SIGNED_BIAS } else { 0 };
    let mut total = [isa.splat(0.0); R];
    for (group, blocks) in tile.chunks_exact(T::BYTES).zip(panel.chunks_exact(T::BLOCKS)) {
        ask::<S, T, R>(isa, group, 0);
        for (b, x) in blocks.iter().enumerate() {
            if b > 0 {
                ask::<S, T, R>(isa, group, b);
            }
            let [first, second, min] = T::scales(isa, group, b);
            let codes = codes::<S, T>(isa, group, b);
            each_row!(R, r => {
                let (q, [left, right], d) = (&x.q[r], x.sums[r], isa.splat(x.d[r]));
                if T::HALVES {
                    let a = dots!(isa, T, isa.splat_int(-offset * left), codes, q, 0 1 2 3);
                    let b = dots!(isa, T, isa.splat_int(-offset * right), codes, q, 4 5 6 7);
                    total[r] = isa.mul_add(isa.to_float(a), isa.mul(first, d), total[r]);
                    total[r] = isa.mul_add(isa.to_float(b), isa.mul(second, d), total[r]);
                } else {
                    let start = isa.splat_int(-offset * (left + right));
                    let a = dots!(isa, T, start, codes, q, 0 1 2 3 4 5 6 7);
                    total[r] = isa.mul_add(isa.to_float(a), isa.mul(first, d), total[r]);
                }
                if T::MINS {
                    total[r] = isa.mul_add(min, isa.splat(x.s[r]), total[r]);
                }
            });
        }
    }
    end::<S, R>(isa, total, out, finish);
}

/// Asks for the weights some way behind a block, as many as it has itself. One or two rows go at the
/// speed of memory anyway, and hints would take the place of loads. More rows compute for so long that
/// the processor, which looks ahead by itself, does not look far enough.
#[inline(always)]
fn ask<S: Isa, T: Format, const R: usize>(isa: S, group: &[u8], block: usize) {
    if R < ASKING_ROWS {
        return;
    }
    // Spread over the group: as many at once would hold up the loads behind them.
    let lines = T::BYTES.div_ceil(LINE);
    for line in block * lines / T::BLOCKS..(block + 1) * lines / T::BLOCKS {
        isa.prefetch(group, AHEAD_BYTES + line * LINE);
    }
}

/// A format of single values.
pub(crate) trait Element {
    /// Bytes of sixteen.
    const BYTES: usize;
    fn load<S: Isa>(isa: S, from: &[u8]) -> S::F;
}

/// IEEE half precision.
pub(crate) struct F16;
/// The upper half of single precision.
struct Bf16;
/// Single precision.
struct F32;

impl Element for F16 {
    const BYTES: usize = 32;
    #[inline(always)]
    fn load<S: Isa>(isa: S, from: &[u8]) -> S::F {
        isa.load_f16(part(from, 0))
    }
}

impl Element for Bf16 {
    const BYTES: usize = 32;
    #[inline(always)]
    fn load<S: Isa>(isa: S, from: &[u8]) -> S::F {
        isa.load_bf16(part(from, 0))
    }
}

impl Element for F32 {
    const BYTES: usize = 64;
    #[inline(always)]
    fn load<S: Isa>(isa: S, from: &[u8]) -> S::F {
        let mut lanes = [0.0; 16];
        for i in 0..16 {
            lanes[i] = f32::from_le_bytes(*part(from, 4 * i));
        }
        isa.load(&lanes)
    }
}

struct Dense<'a, E> {
    tiles: &'a [u8],
    bytes: usize,
    inputs: &'a Inputs,
    out: &'a mut [Lanes],
    finish: Finish,
    element: PhantomData<E>,
}

impl<E: Element> Kernel for Dense<'_, E> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let outs = self.out.chunks_exact_mut(self.inputs.rows());
        for (tile, out) in self.tiles.chunks_exact(self.bytes).zip(outs) {
            for (panel, out) in self.inputs.dense_panels().zip(out.chunks_mut(PANEL_ROWS)) {
                match out.len() {
                    1 => dense::<S, E, 1>(isa, tile, panel, out, self.finish),
                    2 => dense::<S, E, 2>(isa, tile, panel, out, self.finish),
                    3 | 4 => dense::<S, E, 4>(isa, tile, panel, out, self.finish),
                    _ => dense::<S, E, 8>(isa, tile, panel, out, self.finish),
                }
            }
        }
    }
}

#[inline(always)]
fn dense<S: Isa, E: Element, const R: usize>(
    isa: S,
    tile: &[u8],
    panel: &[[f32; PANEL_ROWS]],
    out: &mut [Lanes],
    finish: Finish,
) {
    let mut total = [isa.splat(0.0); R];
    for (weights, x) in tile.chunks_exact(E::BYTES).zip(panel) {
        let weights = E::load(isa, weights);
        each_row!(R, r => total[r] = isa.mul_add(weights, isa.splat(x[r]), total[r]));
    }
    end::<S, R>(isa, total, out, finish);
}

#[inline(always)]
fn end<S: Isa, const R: usize>(isa: S, total: [S::F; R], out: &mut [Lanes], finish: Finish) {
    let mut results = [[0.0; 16]; R];
    each_row!(R, r => isa.store(total[r], &mut results[r]));
    for (out, result) in out.iter_mut().zip(&results) {
        match finish {
            Finish::Store => *out = *result,
            Finish::Add => {
                for i in 0..16 {
                    out[i] += result[i];
                }
            }
            Finish::Gate(Activation::Silu) => {
                for i in 0..16 {
                    out[i] = math::silu(out[i]) * result[i];
                }
            }
            Finish::Gate(Activation::GeluTanh) => {
                for i in 0..16 {
                    out[i] = math::gelu_tanh(out[i]) * result[i];
                }
            }
        }
    }
}

/// Rows from which on weights are asked for ahead of their use.
const ASKING_ROWS: usize = 4;
/// How far ahead: further than memory is away, and near enough to stay in the fastest cache until then.
/// Half and twice as much were measured to be alike.
const AHEAD_BYTES: usize = 6 << 10;
