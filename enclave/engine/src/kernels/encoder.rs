//! What an encoder computes between its products: layer norms, biases, GELU, and attention of every
//! token of a text to all of them. A row depends on the rows of its own text alone, in a fixed order.

use core::ops::Range;

use zeroize::Zeroizing;

use super::isa::{Isa, Kernel};
use super::math;
use super::pool::Pool;
use super::tiled::{Lanes, Tiled};

/// `values` in lanes; their number is a multiple of sixteen.
pub(crate) fn lanes(values: &[f32]) -> Vec<Lanes> {
    values.as_chunks().0.to_vec()
}

/// Weights of a layer norm; its width is a multiple of sixteen.
pub(crate) struct LayerNorm {
    weight: Vec<Lanes>,
    bias: Vec<Lanes>,
    epsilon: f32,
}

impl LayerNorm {
    pub(crate) fn new(weight: &[f32], bias: &[f32], epsilon: f32) -> Self {
        Self { weight: lanes(weight), bias: lanes(bias), epsilon }
    }

    /// `x = norm(x)`.
    pub(crate) fn apply(&self, pool: &Pool, x: &mut Tiled) {
        pool.path().run(Normalise { norm: self, added: None, x });
    }

    /// `x = norm(x + from + bias)`.
    pub(crate) fn apply_added(&self, pool: &Pool, from: &Tiled, bias: &[Lanes], x: &mut Tiled) {
        pool.path().run(Normalise { norm: self, added: Some((from, bias)), x });
    }
}

struct Normalise<'a> {
    norm: &'a LayerNorm,
    added: Option<(&'a Tiled, &'a [Lanes])>,
    x: &'a mut Tiled,
}

impl Kernel for Normalise<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self { norm, added, x } = self;
        let tiles = norm.weight.len();
        #[allow(clippy::cast_precision_loss)] // widths are below 2^24
        let width = (16 * tiles) as f32;
        for row in 0..x.rows() {
            let mut sum = [0.0f32; 16];
            for tile in 0..tiles {
                let x = x.lanes_mut(row, tile);
                if let Some((from, bias)) = added {
                    let (from, bias) = (from.lanes(row, tile), &bias[tile]);
                    for i in 0..16 {
                        x[i] += from[i] + bias[i];
                    }
                }
                for i in 0..16 {
                    sum[i] += x[i];
                }
            }
            let mean = math::sum(&sum) / width;
            let mut squares = [0.0f32; 16];
            for tile in 0..tiles {
                let x = x.lanes(row, tile);
                for i in 0..16 {
                    let off = x[i] - mean;
                    squares[i] += off * off;
                }
            }
            let scale = 1.0 / (math::sum(&squares) / width + norm.epsilon).sqrt();
            for tile in 0..tiles {
                let (weight, bias) = (&norm.weight[tile], &norm.bias[tile]);
                let x = x.lanes_mut(row, tile);
                for i in 0..16 {
                    x[i] = (x[i] - mean) * scale * weight[i] + bias[i];
                }
            }
        }
    }
}

/// `x += bias`.
pub(crate) fn add_bias(pool: &Pool, bias: &[Lanes], x: &mut Tiled) {
    each(pool, bias, x, false);
}

/// `x = gelu(x + bias)`, with the error function and not an approximation by `tanh`.
pub(crate) fn gelu(pool: &Pool, bias: &[Lanes], x: &mut Tiled) {
    each(pool, bias, x, true);
}

fn each(pool: &Pool, bias: &[Lanes], x: &mut Tiled, gelu: bool) {
    let rows = x.rows();
    pool.chunks(x.data_mut(), rows, |first, x| {
        pool.path().run(Biased { bias: &bias[first..], x, rows, gelu });
    });
}

struct Biased<'a> {
    bias: &'a [Lanes],
    x: &'a mut [Lanes],
    rows: usize,
    gelu: bool,
}

impl Kernel for Biased<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        for (bias, x) in self.bias.iter().zip(self.x.chunks_mut(self.rows)) {
            for x in x {
                for i in 0..16 {
                    x[i] += bias[i];
                }
                if self.gelu {
                    for i in 0..16 {
                        x[i] = math::gelu_erf(x[i]);
                    }
                }
            }
        }
    }
}

/// Attention of each row to all rows of its text: `qkv` has queries, keys and values side by side, of
/// `heads` heads; `texts` are the rows of each text, in order and without gaps.
pub(crate) fn attend_all(
    pool: &Pool,
    qkv: &Tiled,
    texts: &[Range<usize>],
    heads: usize,
    out: &mut Tiled,
) {
    let hidden = qkv.columns() / 3;
    for text in texts {
        let rows = text.len();
        let mut keys = Zeroizing::new(vec![0.0f32; hidden * rows]);
        let mut values = Zeroizing::new(vec![0.0f32; hidden * rows]);
        for (at, row) in text.clone().enumerate() {
            for tile in 0..hidden / 16 {
                for (i, key) in qkv.lanes(row, hidden / 16 + tile).iter().enumerate() {
                    keys[(16 * tile + i) * rows + at] = *key;
                }
            }
            qkv.read(row, 2 * hidden, &mut values[at * hidden..][..hidden]);
        }
        let mut found = Zeroizing::new(vec![0.0f32; hidden * rows]);
        let (keys, values) = (&*keys, &*values);
        pool.chunks(&mut found, hidden, |first, found| {
            let first = text.start + first;
            pool.path().run(AttendAll { qkv, keys, values, hidden, heads, first, found });
        });
        for (row, found) in text.clone().zip(found.chunks_exact(hidden)) {
            out.set_row(row, found);
        }
    }
}

struct AttendAll<'a> {
    qkv: &'a Tiled,
    /// Of one text, for each dimension all rows.
    keys: &'a [f32],
    /// Of one text, row by row.
    values: &'a [f32],
    hidden: usize,
    heads: usize,
    /// The row of the first of `found`.
    first: usize,
    found: &'a mut [f32],
}

impl Kernel for AttendAll<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self { hidden, .. } = self;
        let (rows, dim) = (self.keys.len() / hidden, hidden / self.heads);
        #[allow(clippy::cast_precision_loss)] // heads are below 2^24
        let scale = 1.0 / (dim as f32).sqrt();
        let mut query = Zeroizing::new(vec![0.0f32; hidden]);
        // Padded, so that the last lanes are weights of nothing.
        let mut weights = Zeroizing::new(vec![0.0f32; rows.next_multiple_of(16)]);
        for (at, found) in self.found.chunks_exact_mut(hidden).enumerate() {
            self.qkv.read(self.first + at, 0, &mut query);
            for (head, found) in found.chunks_exact_mut(dim).enumerate() {
                weights.fill(0.0);
                for d in head * dim..(head + 1) * dim {
                    let x = query[d] * scale;
                    let keys = &self.keys[d * rows..][..rows];
                    for (weight, key) in weights.iter_mut().zip(keys) {
                        *weight += x * key;
                    }
                }
                weights[rows..].fill(f32::NEG_INFINITY);
                let mut most = [f32::NEG_INFINITY; 16];
                for lanes in weights.as_chunks::<16>().0 {
                    for i in 0..16 {
                        most[i] = if lanes[i] > most[i] { lanes[i] } else { most[i] };
                    }
                }
                let most = math::most(&most);
                let mut sum = [0.0f32; 16];
                for lanes in weights.as_chunks_mut::<16>().0 {
                    for i in 0..16 {
                        lanes[i] = math::exp(lanes[i] - most);
                        sum[i] += lanes[i];
                    }
                }
                let whole = 1.0 / math::sum(&sum);
                for (row, weight) in weights[..rows].iter().enumerate() {
                    let values = &self.values[row * hidden + head * dim..][..dim];
                    for (found, value) in found.iter_mut().zip(values) {
                        *found += weight * value;
                    }
                }
                for found in found {
                    *found *= whole;
                }
            }
        }
    }
}
