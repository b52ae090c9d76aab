//! Malformed GGUF headers, byte by byte.

use super::*;
use crate::testing::TinyModel;

fn header(version: u32, tensors: u64, keys: u64) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend(tensors.to_le_bytes());
    out.extend(keys.to_le_bytes());
    out
}

fn string(out: &mut Vec<u8>, s: &[u8]) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s);
}

fn with_key(key: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    let mut out = header(3, 0, 1);
    string(&mut out, key);
    out.extend(kind.to_le_bytes());
    out.extend(value);
    out
}

fn with_tensor(dims: &[u64], kind: u32, offset: u64, data: usize) -> Vec<u8> {
    let mut out = header(3, 1, 0);
    string(&mut out, b"t");
    out.extend((dims.len() as u32).to_le_bytes());
    for d in dims {
        out.extend(d.to_le_bytes());
    }
    out.extend(kind.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

fn refusal(file: &[u8]) -> ModelError {
    Gguf::parse(file).err().expect("the header was accepted")
}

#[test]
fn reads_a_tensor_and_its_place() {
    let gguf = Gguf::parse(&with_tensor(&[4, 2], 0, 0, 32)).unwrap();
    assert_eq!(gguf.content.tensor_infos["t"].shape.dims(), [2, 4]);
    assert_eq!(gguf.content.tensor_data_offset % 32, 0);
}

#[test]
fn refuses_a_file_that_is_no_gguf() {
    assert_eq!(refusal(b"PK\x03\x04 zip"), ModelError::NotGguf { got: *b"PK\x03\x04" });
}

#[test]
fn refuses_a_past_and_a_future_version() {
    assert_eq!(refusal(&header(1, 0, 0)), ModelError::Version { got: 1 });
    assert_eq!(refusal(&header(4, 0, 0)), ModelError::Version { got: 4 });
}

#[test]
fn refuses_every_truncation_of_a_whole_model() {
    let file = TinyModel::random(1).build();
    // Every prefix in the header region, then coarser: each tensor is checked against the end.
    let cuts = (0..4000.min(file.len())).chain((4000..file.len()).step_by(997));
    for cut in cuts.chain([file.len() - 32]) {
        let error = refusal(&file[..cut]);
        assert!(matches!(error, ModelError::Truncated { .. }), "{cut}: {error}");
    }
}

#[test]
fn refuses_counts_one_over_their_limits() {
    let what = |file: &[u8]| match refusal(file) {
        ModelError::Limit { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(what(&header(3, MAX_TENSORS + 1, 0)), "tensor count");
    assert_eq!(what(&header(3, 0, MAX_METADATA_KEYS + 1)), "metadata count");
    assert_eq!(what(&with_key(b"k", 8, &(MAX_STRING_BYTES + 1).to_le_bytes())), "string length");
    let mut array = 0u32.to_le_bytes().to_vec();
    array.extend((MAX_ARRAY_ITEMS + 1).to_le_bytes());
    assert_eq!(what(&with_key(b"k", 9, &array)), "array length");
}

#[test]
fn refuses_a_zero_alignment() {
    let file = with_key(b"general.alignment", 4, &0u32.to_le_bytes());
    assert!(matches!(refusal(&file), ModelError::MetadataInvalid { .. }));
}

#[test]
fn refuses_a_duplicate_key() {
    let mut file = header(3, 0, 2);
    for _ in 0..2 {
        string(&mut file, b"k");
        file.extend([7, 0, 0, 0, 1]);
    }
    assert_eq!(refusal(&file), ModelError::Duplicate { name: "k".into() });
}

#[test]
fn refuses_an_array_of_arrays_an_unknown_type_and_a_strange_truth_value() {
    let mut nested = 9u32.to_le_bytes().to_vec();
    nested.extend(1u64.to_le_bytes());
    nested.extend([0; 64]);
    assert!(matches!(refusal(&with_key(b"k", 9, &nested)), ModelError::Malformed { .. }));
    assert!(matches!(refusal(&with_key(b"k", 13, &[0; 8])), ModelError::Malformed { .. }));
    assert!(matches!(refusal(&with_key(b"k", 7, &[2])), ModelError::Malformed { .. }));
}

#[test]
fn refuses_a_key_that_is_not_utf8() {
    let file = with_key(b"\xff", 7, &[1]);
    assert!(matches!(refusal(&file), ModelError::Malformed { .. }));
}

#[test]
fn refuses_impossible_tensors() {
    let malformed = |file: &[u8]| matches!(refusal(file), ModelError::Malformed { .. });
    assert!(malformed(&with_tensor(&[], 0, 0, 0)), "no dimension");
    assert!(malformed(&with_tensor(&[1, 1, 1, 1, 1], 0, 0, 4)), "five dimensions");
    assert!(malformed(&with_tensor(&[0], 0, 0, 0)), "empty");
    assert!(malformed(&with_tensor(&[u64::MAX, u64::MAX], 0, 0, 4)), "overflow");
    assert!(malformed(&with_tensor(&[33], 3, 0, 64)), "Q4_1 row of 33");
    assert!(malformed(&with_tensor(&[4], 99, 0, 16)), "unknown type");
    assert!(malformed(&with_tensor(&[4], 0, 1, 64)), "unaligned");
}

#[test]
fn refuses_a_tensor_one_byte_past_the_end() {
    let mut file = with_tensor(&[4], 0, 0, 16);
    assert!(Gguf::parse(&file).is_ok());
    file.pop();
    assert!(matches!(refusal(&file), ModelError::Truncated { .. }));
}
