//! Every format on every path against exact arithmetic over the same operands, and what must not
//! depend on neighbours or threads.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::isa::{Isa, Kernel, Path};
use super::testing::{FORMATS, Product, Random, stored, tiled, weights};
use super::*;

mod attention;

fn packed(pool: &Pool, stored: &QTensor) -> Matrix {
    let (rows, columns) = stored.shape().dims2().unwrap();
    let kind = Kind::of(stored.dtype()).unwrap();
    Matrix::pack(pool, kind, rows, columns, &stored.data().unwrap()).unwrap()
}

#[test]
fn rows_of_tiles_are_what_candle_reads_from_the_file() {
    let pool = Pool::with_path(1, Path::best());
    for (dtype, block) in FORMATS {
        let (rows, columns) = (37, block.max(20) * 2);
        let stored = stored(&mut Random(1), dtype, rows, columns);
        let expected = stored.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(weights(&packed(&pool, &stored), rows, columns), expected, "{dtype:?}");
    }
}

fn check(format: usize, [rows, outputs, columns]: [usize; 3], seed: u64) {
    let native = Product::typical(format, outputs, columns, seed);
    let x = Random(!seed).many(rows * columns);
    let shape = [rows, outputs, columns];
    Product { format, shape, native: &native, x: &x, threads: 2 }.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn products_of_every_format_and_path_equal_exact_arithmetic(
        format in 0..FORMATS.len(),
        rows in 1usize..40,
        outputs in 1usize..70,
        blocks in 1usize..5,
        odd in 0usize..32,
        seed in any::<u64>(),
    ) {
        let (_, block) = FORMATS[format];
        let columns = if block == 1 { 32 * blocks - odd } else { block * blocks };
        check(format, [rows, outputs, columns], seed);
    }
}

#[test]
fn products_of_every_format_equal_exact_arithmetic_at_the_default_models_widths() {
    for (format, (_, block)) in FORMATS.into_iter().enumerate() {
        check(format, [9, 48, 576_usize.next_multiple_of(block)], 7);
    }
}

#[test]
fn the_extremes_of_codes_and_inputs_do_not_saturate() {
    // Every code of -128 or 127 against every input of ±127.
    for sign in [1.0f32, -1.0] {
        let columns = 64;
        let values = vec![sign; 16 * columns];
        let tensor = Tensor::from_vec(values, (16, columns), &Device::Cpu).unwrap();
        let mut native =
            QTensor::quantize(&tensor, GgmlDType::Q8_0).unwrap().data().unwrap().to_vec();
        for block in native.chunks_exact_mut(34) {
            block[2..].fill(if sign > 0.0 { 127 } else { 128 });
        }
        for path in Path::all() {
            let pool = Pool::with_path(1, path);
            let matrix = Matrix::pack(&pool, Kind::Q8_0, 16, columns, &native).unwrap();
            let mut inputs = Inputs::new(1, columns);
            inputs.fill(&pool, &tiled(1, columns, &vec![-3.0; columns]), None, &[&matrix]);
            let mut out = Tiled::new(1, 16);
            product(&pool, &[&matrix], &inputs, &mut out);
            let mut row = vec![0.0; columns];
            matrix.row(0, &mut row);
            let exact = f64::from(row[0]) * -3.0 * columns as f64;
            assert!((f64::from(out.get(0, 5)) / exact - 1.0).abs() < 1e-6, "{}", path.name());
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours_or_on_the_number_of_threads() {
    for (dtype, block) in FORMATS {
        // Whole panels and one that is not full.
        let (rows, outputs, columns) = (31, 50, block.max(32) * 2);
        let mut random = Random(3);
        let stored = stored(&mut random, dtype, outputs, columns);
        let x = random.many(rows * columns);
        for path in Path::all() {
            let run = |rows: usize, x: &[f32], threads: usize| {
                let pool = Pool::with_path(threads, path);
                let matrix = packed(&pool, &stored);
                let mut inputs = Inputs::new(rows, columns);
                inputs.fill(&pool, &tiled(rows, columns, x), None, &[&matrix]);
                let mut out = Tiled::new(rows, outputs);
                product(&pool, &[&matrix], &inputs, &mut out);
                out
            };
            let all = run(rows, &x, 3);
            for (row, x) in x.chunks_exact(columns).enumerate() {
                let alone = run(1, x, 1);
                for output in 0..outputs {
                    let (a, b) = (all.get(row, output), alone.get(0, output));
                    assert_eq!(a.to_bits(), b.to_bits(), "{} {dtype:?} {row}", path.name());
                }
            }
        }
    }
}

#[test]
fn several_matrices_of_one_input_stand_side_by_side() {
    let pool = Pool::with_path(2, Path::best());
    let mut random = Random(9);
    let stored = [(20, GgmlDType::Q4_1), (3, GgmlDType::F32), (33, GgmlDType::Q8_0)]
        .map(|(outputs, dtype)| stored(&mut random, dtype, outputs, 64));
    let matrices = stored.each_ref().map(|s| packed(&pool, s));
    let x = tiled(5, 64, &random.many(5 * 64));
    let mut inputs = Inputs::new(5, 64);
    inputs.fill(&pool, &x, None, &[&matrices[0], &matrices[1]]);
    let mut out = Tiled::new(5, 32 + 16 + 48);
    product(&pool, &matrices.each_ref(), &inputs, &mut out);
    let mut at = 0;
    for (matrix, outputs) in matrices.iter().zip([20, 3, 33]) {
        let mut alone = Tiled::new(5, outputs);
        product(&pool, &[matrix], &inputs, &mut alone);
        for row in 0..5 {
            for column in 0..outputs {
                assert_eq!(out.get(row, at + column), alone.get(row, column));
            }
        }
        at += outputs.next_multiple_of(16);
    }
}

/// What is folded over the lanes of two vectors.
struct Fold<'a> {
    from: &'a [[f32; 16]; 2],
    to: &'a mut [f32; 3],
}

impl Kernel for Fold<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let (a, b) = (isa.load(&self.from[0]), isa.load(&self.from[1]));
        let [left, right] = isa.sums(a, b);
        *self.to = [left, right, isa.reach(a, b)];
    }
}

#[test]
fn lanes_are_folded_to_the_sum_of_each_vector_and_to_the_largest_size_in_both() {
    // Whole numbers, so that sums are exact; negative zeros and the least numbers beside them.
    let base: [f32; 32] = core::array::from_fn(|i| [-0.0, f32::from_bits(1), 3.0, -2.0][i % 4]);
    let most = [4.0, -4.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
    for path in Path::all() {
        for (at, most) in (0..32).flat_map(|at| most.map(|most| (at, most))) {
            let mut all = base;
            all[at] = most;
            let from = [*all.first_chunk().unwrap(), *all.last_chunk().unwrap()];
            let mut to = [0.0; 3];
            path.run(Fold { from: &from, to: &mut to });
            let [left, right, reach] = to;
            assert_eq!(reach.to_bits(), most.abs().to_bits(), "{} {at} {most}", path.name());
            if most.abs() == 4.0 {
                let sums = from.map(|lanes| lanes.iter().sum::<f32>());
                // The least numbers may stay where all else cancels.
                let whole = [left, right].map(f32::round);
                assert_eq!(whole, sums.map(f32::round), "{} {at} {most}", path.name());
            }
        }
    }
}

#[test]
fn what_is_not_finite_reaches_every_result_of_its_row() {
    let bad = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    // Lanes that are folded in different steps, of both halves of a block.
    let each = bad.iter().flat_map(|bad| [0, 7, 13, 18, 27, 31].map(|at| (*bad, at)));
    for (bad, at) in each {
        for (dtype, block) in FORMATS {
            let columns = block.max(32);
            let mut random = Random(4);
            let stored = stored(&mut random, dtype, 16, columns);
            let mut x = random.many(2 * columns);
            x[at] = bad;
            for path in Path::all() {
                let pool = Pool::with_path(1, path);
                let matrix = packed(&pool, &stored);
                let mut inputs = Inputs::new(2, columns);
                inputs.fill(&pool, &tiled(2, columns, &x), None, &[&matrix]);
                let mut out = Tiled::new(2, 16);
                product(&pool, &[&matrix], &inputs, &mut out);
                for output in 0..16 {
                    assert!(!out.get(0, output).is_finite(), "{} {dtype:?}", path.name());
                    assert!(out.get(1, output).is_finite(), "{} {dtype:?}", path.name());
                }
            }
        }
    }
}

#[test]
fn refuses_bytes_of_another_size_than_the_shape() {
    let pool = Pool::with_path(1, Path::best());
    let stored = stored(&mut Random(1), GgmlDType::Q4_1, 16, 64);
    let native = stored.data().unwrap();
    let pack = |rows, columns, native: &[u8]| {
        Matrix::pack(&pool, Kind::Q4_1, rows, columns, native).is_some()
    };
    assert!(pack(16, 64, &native));
    assert!(!pack(17, 64, &native));
    assert!(!pack(16, 65, &native));
    assert!(!pack(16, 64, &native[1..]));
    assert!(!pack(usize::MAX, 64, &native));
    assert!(!pack(16, 0, &[]));
}
