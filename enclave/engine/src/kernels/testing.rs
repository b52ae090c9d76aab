//! Kernels beside exact arithmetic over the same operands, on every instruction set this processor has, for
//! tests and fuzz targets. Not part of any binary: compiled for this crate's own tests and under the
//! feature `testing` only. Panics where they differ, as a test should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod attention;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::format::{Flat, Format, Six, Super};
use super::input::{Block, PANEL_ROWS};
use super::isa::Path;
use super::matrix::with_format;
use super::{
    Activation, Inputs, Kind, Matrix, Pool, Tiled, add_product, gated_product, likeliest, math,
    product,
};
pub use attention::Sight;
#[cfg(test)]
pub(super) use attention::{CACHES, Slabs, attend, exact_attention};

/// Formats there are kernels for, and the values that a row has a multiple of.
pub const FORMATS: [(GgmlDType, usize); 11] = [
    (GgmlDType::Q4_0, 32),
    (GgmlDType::Q4_1, 32),
    (GgmlDType::Q5_0, 32),
    (GgmlDType::Q5_1, 32),
    (GgmlDType::Q8_0, 32),
    (GgmlDType::Q4K, 256),
    (GgmlDType::Q5K, 256),
    (GgmlDType::Q6K, 256),
    (GgmlDType::F16, 1),
    (GgmlDType::BF16, 1),
    (GgmlDType::F32, 1),
];

/// A product of weights and activations.
#[derive(Debug)]
pub struct Product<'a> {
    /// Of the weights: its place among [`FORMATS`].
    pub format: usize,
    /// Rows of activations, of weights, and the columns of both.
    pub shape: [usize; 3],
    /// The weights as a file has them.
    pub native: &'a [u8],
    /// The activations, row by row.
    pub x: &'a [f32],
    /// Threads that compute.
    pub threads: usize,
}

impl Product<'_> {
    /// Bytes of weights as a file has them.
    #[must_use]
    pub fn native_bytes(format: usize, outputs: usize, columns: usize) -> usize {
        let (dtype, block) = FORMATS[format];
        assert_eq!(columns % block, 0, "rows are whole blocks");
        let size = if block == 1 { dtype.type_size() } else { columns / block * dtype.type_size() };
        outputs * if block == 1 { size * columns } else { size }
    }

    /// Random weights as Candle stores them.
    #[must_use]
    pub fn typical(format: usize, outputs: usize, columns: usize, seed: u64) -> Vec<u8> {
        let stored = stored(&mut Random(seed), FORMATS[format].0, outputs, columns);
        stored.data().unwrap().to_vec()
    }

    /// Compares every result with the exact sum of the same operands; what is not finite there has to be so
    /// here. A row alone has the same bits, and what else becomes of products does with these.
    pub fn check(&self) {
        let [rows, outputs, columns] = self.shape;
        let kind = Kind::of(FORMATS[self.format].0).unwrap();
        for path in Path::all() {
            let pool = Pool::with_path(self.threads, path);
            let matrix = Matrix::pack(&pool, kind, outputs, columns, self.native).unwrap();
            let inputs = self.inputs(&pool, &matrix, 0..rows);
            let mut out = Tiled::new(rows, outputs);
            product(&pool, &[&matrix], &inputs, &mut out);
            self.check_sums(path, &matrix, &inputs, &out);
            self.check_alone(path, &matrix, &out);
            check_finishes(&pool, &matrix, &inputs, &out);
            for known in [outputs, outputs.div_ceil(2)] {
                check_likeliest(&pool, &matrix, &inputs, &out, known);
            }
        }
    }

    fn inputs(&self, pool: &Pool, matrix: &Matrix, rows: core::ops::Range<usize>) -> Inputs {
        let columns = self.shape[2];
        let mut inputs = Inputs::new(rows.len(), columns);
        let x = &self.x[rows.start * columns..rows.end * columns];
        inputs.fill(pool, &tiled(rows.len(), columns, x), None, &[matrix]);
        inputs
    }

    fn check_sums(&self, path: Path, matrix: &Matrix, inputs: &Inputs, out: &Tiled) {
        let [rows, outputs, columns] = self.shape;
        let weights = weights(matrix, outputs, columns);
        let reach: Vec<_> = (0..outputs).map(|output| reach(matrix, output, columns)).collect();
        for row in 0..rows {
            let x = seen(inputs, matrix.is_quantised(), row, columns);
            let around: f64 = x.iter().map(|x| x.abs()).sum();
            for (output, (weights, reach)) in weights.iter().zip(&reach).enumerate() {
                let exact: f64 = weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
                let size: f64 = reach.iter().zip(&x).map(|(w, x)| w * x.abs()).sum();
                let got = f64::from(out.get(row, output));
                assert!(
                    is_close(got, exact, [size, around], columns),
                    "{} {:?} {:?} at {row},{output}: {got} is not {exact}",
                    path.name(),
                    FORMATS[self.format].0,
                    self.shape,
                );
            }
        }
    }

    /// The last row alone, by one thread.
    fn check_alone(&self, path: Path, matrix: &Matrix, out: &Tiled) {
        let [rows, outputs, _] = self.shape;
        let pool = Pool::with_path(1, path);
        let inputs = self.inputs(&pool, matrix, rows - 1..rows);
        let mut alone = Tiled::new(1, outputs);
        product(&pool, &[matrix], &inputs, &mut alone);
        for output in 0..outputs {
            let (got, all) = (alone.get(0, output), out.get(rows - 1, output));
            assert!(is_same(got, all), "{} at {output}: {got} alone, {all}", path.name());
        }
    }
}

/// Whether a sum of terms, which may be as large as `size` together, is as near to the exact one as
/// rounding each addition and each term leaves it. What is `around` are the sums of one side.
fn is_close(got: f64, exact: f64, [size, around]: [f64; 2], terms: usize) -> bool {
    if !exact.is_finite() {
        return !got.is_finite();
    }
    // On the way something may have been more than an `f32` holds, and then it is anything.
    let holds = |sum: f64| sum <= f64::from(f32::MAX) / 4.0;
    !(holds(size) && holds(around))
        || (got - exact).abs() <= size * (terms + 8) as f64 * ROUNDING + TINY
}

/// Whether two results are one, whichever NaN they are.
fn is_same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Adding to what is there, and gating it, is doing so with the results `out`.
fn check_finishes(pool: &Pool, matrix: &Matrix, inputs: &Inputs, out: &Tiled) {
    let rows = inputs.rows();
    let mut twice = Tiled::new(rows, out.columns());
    (0..rows).for_each(|row| twice.set_row(row, &out.row(row, out.columns())));
    add_product(pool, matrix, inputs, &mut twice);
    let gates = [Activation::Silu, Activation::GeluTanh];
    let gated = gates.map(|activation| {
        let mut gated = Tiled::new(rows, out.columns());
        gated_product(pool, [matrix, matrix], activation, inputs, &mut gated);
        gated
    });
    for row in 0..rows {
        for column in 0..out.columns() {
            let one = out.get(row, column);
            assert!(is_same(twice.get(row, column), one + one), "added at {row},{column}");
            let [silu, gelu] = [math::silu(one) * one, math::gelu_tanh(one) * one];
            assert!(is_same(gated[0].get(row, column), silu), "gated at {row},{column}");
            assert!(is_same(gated[1].get(row, column), gelu), "gated at {row},{column}");
        }
    }
}

/// The likeliest is the first of the largest results, where all are numbers and that one is finite.
fn check_likeliest(pool: &Pool, matrix: &Matrix, inputs: &Inputs, out: &Tiled, known: usize) {
    let found = likeliest(pool, matrix, inputs, known);
    for (row, found) in found.iter().enumerate() {
        let all: Vec<f32> = (0..known).map(|column| out.get(row, column)).collect();
        let first = |best: usize, at: usize| {
            if all[at].total_cmp(&all[best]).is_gt() { at } else { best }
        };
        let best = (0..known).reduce(first).filter(|best| all[*best].is_finite());
        let wanted = best.filter(|_| !all.iter().any(|x| x.is_nan()));
        assert_eq!(found.map(|id| id as usize), wanted, "of {known} in row {row}");
    }
}

/// 64-bit LCG (Knuth, MMIX), from -1 to 1.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(super) fn many(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// A random matrix as Candle stores it.
pub(super) fn stored(
    random: &mut Random,
    dtype: GgmlDType,
    rows: usize,
    columns: usize,
) -> QTensor {
    let values = random.many(rows * columns);
    let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, dtype).unwrap()
}

pub(super) fn tiled(rows: usize, columns: usize, values: &[f32]) -> Tiled {
    let mut out = Tiled::new(rows, columns);
    for (row, values) in values.chunks_exact(columns).enumerate() {
        out.set_row(row, values);
    }
    out
}

/// The inputs as the products see them, after rounding.
fn seen(inputs: &Inputs, quantised: bool, row: usize, columns: usize) -> Vec<f64> {
    let (panel, row) = (row / PANEL_ROWS, row % PANEL_ROWS);
    if !quantised {
        let panel = inputs.dense_panels().nth(panel).unwrap();
        return panel[..columns].iter().map(|x| f64::from(x[row])).collect();
    }
    let block = |block: &Block| {
        let d = f64::from(block.d[row]);
        let bytes = block.q[row].iter().flat_map(|q| q.to_le_bytes());
        bytes.map(|q| d * f64::from(q.cast_signed())).collect::<Vec<_>>()
    };
    inputs.block_panels().nth(panel).unwrap().iter().flat_map(block).collect()
}

pub(super) fn weights(matrix: &Matrix, rows: usize, columns: usize) -> Vec<Vec<f32>> {
    let row = |row| {
        let mut out = vec![0.0; columns];
        matrix.row(row, &mut out);
        out
    };
    (0..rows).map(row).collect()
}

/// How large the parts are that each weight of a row is computed from: a scale times the largest code, and
/// a minimum. They may cancel, and what was rounded of them stays.
fn reach(matrix: &Matrix, row: usize, columns: usize) -> Vec<f64> {
    let (tile, mut out) = (matrix.tile_range(row / 16, 1), Vec::with_capacity(columns));
    with_format!(matrix.kind(), T => {
        for group in tile.chunks_exact(T::BYTES) {
            for block in 0..T::BLOCKS {
                let [first, second, min] = T::row_scales(group, block, row % 16).map(f64::from);
                let of = |scale: f64| scale.abs() * f64::from(1u32 << T::WIDTH) + min.abs();
                out.extend([[of(first); 16], [of(second); 16]].as_flattened());
            }
        }
    });
    if out.is_empty() {
        let mut values = vec![0.0; columns];
        matrix.row(row, &mut values);
        out.extend(values.into_iter().map(|value| f64::from(value).abs()));
    }
    out
}

/// Half a unit in the last place of an `f32`.
const ROUNDING: f64 = 1.0 / (1u32 << 24) as f64;
/// Below what an `f32` says with all its bits.
const TINY: f64 = 1e-35;
