//! Weights that come in parts of any size are those of the file; what cannot be placed is refused.

use std::io::{BufReader, Read};

use candle_core::Tensor;
use candle_core::quantized::QTensor;

use super::*;

const DTYPES: [(GgmlDType, usize); 13] = [
    (GgmlDType::Q4_0, 32),
    (GgmlDType::Q4_1, 32),
    (GgmlDType::Q5_0, 32),
    (GgmlDType::Q5_1, 32),
    (GgmlDType::Q8_0, 32),
    (GgmlDType::Q2K, 256),
    (GgmlDType::Q3K, 256),
    (GgmlDType::Q4K, 256),
    (GgmlDType::Q5K, 256),
    (GgmlDType::Q6K, 256),
    (GgmlDType::F16, 5),
    (GgmlDType::BF16, 5),
    (GgmlDType::F32, 5),
];

/// A file of tensors with a few bytes between them, and what Candle reads from it.
struct File {
    bytes: Vec<u8>,
    tensors: Vec<Stored>,
    exact: Vec<Vec<f32>>,
}

impl File {
    fn new(tensors: &[(GgmlDType, &[usize])]) -> Self {
        let mut out = Self { bytes: vec![7; 3], tensors: Vec::new(), exact: Vec::new() };
        for (n, (dtype, dims)) in tensors.iter().enumerate() {
            let len: usize = dims.iter().product();
            let values: Vec<f32> = (0..len).map(|i| ((i * 37 + n) % 101) as f32 - 50.0).collect();
            let tensor = Tensor::from_vec(values, *dims, &Device::Cpu).unwrap();
            let stored = QTensor::quantize(&tensor, *dtype).unwrap();
            let data = stored.data().unwrap();
            out.tensors.push(Stored {
                name: n.to_string(),
                dtype: *dtype,
                dims: dims.to_vec(),
                at: out.bytes.len() as u64,
                bytes: data.len() as u64,
                turned: None,
            });
            out.bytes.extend_from_slice(&data);
            out.bytes.extend([9; 5]);
            let exact = stored.dequantize(&Device::Cpu).unwrap();
            out.exact.push(exact.flatten_all().unwrap().to_vec1().unwrap());
        }
        out
    }

    /// Its tensors, read in parts of `part` bytes.
    fn read(&self, part: usize) -> Result<Weights, ModelError> {
        let mut source = BufReader::with_capacity(part, &self.bytes[..]);
        let pool = Pool::new(std::num::NonZeroUsize::new(2));
        Weights::read(&mut source, 0, self.tensors.clone(), &pool)
    }
}

fn rows(stack: &[(Layout, Matrix)], rows: usize, columns: usize) -> Vec<f32> {
    let row = |(_, matrix): &(Layout, Matrix)| {
        let mut out = vec![0.0; rows * columns];
        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
            matrix.row(row, out);
        }
        out
    };
    stack.iter().flat_map(row).collect()
}

#[test]
fn parts_of_any_size_give_the_weights_that_candle_reads() {
    for (dtype, block) in DTYPES {
        let columns = 2 * block;
        let file = File::new(&[
            (dtype, &[37, columns]),
            (GgmlDType::F32, &[19]),
            (dtype, &[3, 18, columns]),
            (GgmlDType::F16, &[4]),
        ]);
        for part in [1, 100, 4096, 1 << 20] {
            let weights = file.read(part).unwrap();
            assert_eq!(rows(&weights.stacks["0"], 37, columns), file.exact[0], "{dtype:?} {part}");
            assert_eq!(rows(&weights.stacks["2"], 18, columns), file.exact[2], "{dtype:?} {part}");
            assert_eq!(weights.vector("1").unwrap(), file.exact[1]);
            assert_eq!(weights.vector("3").unwrap(), file.exact[3]);
        }
    }
}

#[test]
fn tiles_start_on_a_cache_line_behind_each_other() {
    let file = File::new(&[(GgmlDType::F16, &[3, 5]), (GgmlDType::Q4_1, &[2, 16, 32])]);
    let weights = file.read(64).unwrap();
    let at =
        |name: &str, index: usize| weights.stacks[name][index].1.tile_range(0, 1).as_ptr().addr();
    let places = [at("0", 0), at("1", 0), at("1", 1)];
    assert!(places.iter().all(|at| at.is_multiple_of(LINE)) && places.is_sorted(), "{places:?}");
}

#[test]
fn refuses_tensors_that_share_bytes() {
    let mut file = File::new(&[(GgmlDType::F32, &[4]), (GgmlDType::F32, &[4])]);
    file.tensors[1].at = file.tensors[0].at + 15;
    let Err(ModelError::Malformed { what, .. }) = file.read(64) else { panic!("accepted") };
    assert_eq!(what, "1");
    file.tensors[1].at += 1;
    assert!(file.read(64).is_ok());
}

#[test]
fn refuses_four_dimensions_and_sizes_without_an_end() {
    let mut file = File::new(&[(GgmlDType::F32, &[4, 4])]);
    file.tensors[0].dims = vec![1, 1, 4, 4];
    assert!(matches!(file.read(64), Err(ModelError::UnsupportedFeature { .. })));
    file.tensors[0].dims = vec![usize::MAX, 4];
    assert!(matches!(file.read(64), Err(ModelError::Malformed { .. })));
    file.tensors[0].dims = vec![1 << 40, 1 << 8];
    assert!(matches!(file.read(64), Err(ModelError::OutOfMemory { .. })));
}

#[test]
fn a_file_that_ends_early_or_is_refused_gives_no_weights() {
    let mut file = File::new(&[(GgmlDType::Q8_0, &[40, 64]), (GgmlDType::F32, &[4])]);
    for cut in [file.bytes.len() - 6, 100, 2] {
        file.bytes.truncate(cut);
        assert!(matches!(file.read(64), Err(ModelError::Truncated { .. })), "{cut}");
    }
    struct Refusing;
    impl Read for Refusing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the chunk is wrong"))
        }
    }
    let mut source = BufReader::new((&file.bytes[..]).chain(Refusing));
    let refused = Weights::read(&mut source, 0, file.tensors, &Pool::new(None)).err();
    assert_eq!(refused, Some(ModelError::Read { kind: io::ErrorKind::Other }));
}

#[test]
fn names_what_is_not_there_and_what_has_another_size() {
    let weights = File::new(&[(GgmlDType::F32, &[4, 6])]).read(64).unwrap();
    assert!(weights.matrix("0", 4, 6).is_ok());
    for (rows, columns) in [(6, 4), (4, 5), (5, 6)] {
        assert!(matches!(weights.matrix("0", rows, columns), Err(ModelError::Weights { .. })));
    }
    assert!(matches!(weights.matrix("1", 4, 6), Err(ModelError::TensorMissing { .. })));
    assert!(matches!(weights.vector("0"), Err(ModelError::TensorMissing { .. })));
}

#[test]
fn rows_in_halves_of_heads_come_together() {
    for head in [2, 16, 32, 6] {
        let mut file = File::new(&[(GgmlDType::F16, &[2 * head, 3])]);
        let exact = &file.exact[0];
        file.tensors[0].turned = Some(head);
        for part in [1, 64, 1 << 16] {
            let got = rows(&file.read(part).unwrap().stacks["0"], 2 * head, 3);
            for row in 0..2 * head {
                let (start, i) = (row / head * head, row % head);
                let from = start + i % 2 * (head / 2) + i / 2;
                assert_eq!(got[3 * row..][..3], exact[3 * from..][..3], "{head} {part} {row}");
            }
        }
    }
    let mut file = File::new(&[(GgmlDType::F16, &[40, 3])]);
    file.tensors[0].turned = Some(32);
    assert!(matches!(file.read(64), Err(ModelError::Malformed { .. })), "a head and a bit");
}
