//! Headers that contradict themselves or their file are refused, each in its own way.

use proptest::prelude::*;

use super::*;

/// A file of this header and `data` bytes behind it.
fn file(json: &str, data: usize) -> Vec<u8> {
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json.as_bytes());
    out.resize(out.len() + data, 7);
    out
}

fn read(file: &[u8]) -> Result<Header, ModelError> {
    Header::read(&mut &file[..], file.len() as u64)
}

fn refusal(json: &str, data: usize) -> ModelError {
    read(&file(json, data)).expect_err("the header was accepted")
}

fn entry(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [{from}, {to}]}}"#)
}

fn table(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(", "))
}

#[test]
fn reads_tensors_in_the_order_of_the_file() {
    let json = table(&[
        r#""__metadata__": {"format": "pt", "other": {"deep": [1]}}"#.to_owned(),
        entry("b", "F16", "[2, 3]", 8, 20),
        entry("a", "BF16", "[4]", 0, 8),
        entry("c", "F32", "[1, 1]", 20, 24),
    ]);
    let header = read(&file(&json, 24)).unwrap();
    let start = 8 + json.len() as u64;
    assert_eq!(header.len, start);
    let found: Vec<_> =
        header.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.at - start, t.bytes)).collect();
    let expected =
        [("a", GgmlDType::BF16, 0, 8), ("b", GgmlDType::F16, 8, 12), ("c", GgmlDType::F32, 20, 4)];
    assert_eq!(found, expected);
    assert_eq!(header.tensors[1].dims, [2, 3]);
}

#[test]
fn refuses_holes_overlaps_and_bytes_that_belong_to_nobody() {
    let malformed = |entries: &[String], data| match refusal(&table(entries), data) {
        ModelError::Malformed { what, .. } => what,
        other => panic!("{other:?}"),
    };
    let first = || entry("a", "F16", "[4]", 0, 8);
    assert_eq!(malformed(&[first(), entry("b", "F16", "[4]", 9, 17)], 17), "b", "a hole");
    assert_eq!(malformed(&[first(), entry("b", "F16", "[4]", 7, 15)], 15), "b", "an overlap");
    assert_eq!(malformed(&[first(), entry("b", "F16", "[4]", 0, 8)], 8), "b", "the same place");
    assert_eq!(malformed(&[entry("a", "F16", "[4]", 1, 9)], 9), "a", "a hole at the start");
    assert_eq!(malformed(&[first()], 9), "file", "a byte behind the last");
}

#[test]
fn refuses_a_file_one_byte_short_and_a_header_past_its_end() {
    let json = table(&[entry("a", "F16", "[4]", 0, 8)]);
    assert!(matches!(refusal(&json, 7), ModelError::Truncated { what, .. } if what == "a"));
    let whole = file(&json, 8);
    for cut in [0, 7, 8, json.len() + 7] {
        let refused = read(&whole[..cut]);
        assert!(matches!(refused, Err(ModelError::Truncated { .. })), "{cut}");
    }
}

#[test]
fn refuses_sizes_that_do_not_fit_their_offsets() {
    for (shape, from, to) in [
        ("[4]", 0, 7),
        ("[4]", 8, 0),
        ("[5]", 0, 8),
        ("[0]", 0, 0),
        ("[18446744073709551615, 2]", 0, 8),
        ("[9223372036854775808]", 0, 8),
    ] {
        let json = table(&[entry("a", "F16", shape, from, to)]);
        assert!(matches!(refusal(&json, 8), ModelError::Malformed { .. }), "{shape} {from} {to}");
    }
    let json = table(&[entry("a", "F16", "[4]", u64::MAX - 7, u64::MAX)]);
    assert!(matches!(refusal(&json, 8), ModelError::Malformed { .. }));
}

#[test]
fn refuses_other_types_by_name() {
    for dtype in ["F8_E4M3", "I64", "bf16", ""] {
        let refused = refusal(&table(&[entry("a", dtype, "[4]", 0, 8)]), 8);
        let feature = format!("tensor a of type {dtype}");
        assert_eq!(refused, ModelError::UnsupportedFeature { feature });
    }
}

#[test]
fn refuses_a_name_twice_and_what_is_no_table() {
    let twice = table(&[entry("a", "F16", "[4]", 0, 8), entry("a", "F16", "[4]", 8, 16)]);
    assert_eq!(refusal(&twice, 16), ModelError::Duplicate { name: "a".to_owned() });
    for json in [
        "",
        "[]",
        "{",
        r#"{"a": 1}"#,
        r#"{"a": {"dtype": "F16", "shape": [4]}}"#,
        r#"{"a": {"dtype": "F16", "shape": [4], "data_offsets": [0, 8], "more": 1}}"#,
        r#"{"a": {"dtype": "F16", "shape": [-4], "data_offsets": [0, 8]}}"#,
        r#"{"a": {"dtype": "F16", "shape": [4], "data_offsets": [0, 8, 9]}}"#,
    ] {
        assert!(matches!(refusal(json, 8), ModelError::Malformed { .. }), "{json}");
    }
}

#[test]
fn refuses_a_header_one_byte_over_its_limit_before_reading_it() {
    for (length, limit) in [(MAX_HEADER_BYTES, false), (MAX_HEADER_BYTES + 1, true)] {
        let bytes = length.to_le_bytes();
        let refused = Header::read(&mut &bytes[..], u64::MAX).err();
        let over = matches!(refused, Some(ModelError::Limit { what: "header length", .. }));
        assert_eq!(over, limit, "{refused:?}");
    }
}

#[test]
fn refuses_one_tensor_over_the_limit() {
    let entries = |count: u64| -> Vec<String> {
        (0..count).map(|n| entry(&n.to_string(), "F16", "[1]", 2 * n, 2 * n + 2)).collect()
    };
    let most = usize::try_from(MAX_TENSORS).unwrap();
    assert!(read(&file(&table(&entries(MAX_TENSORS)), 2 * most)).is_ok());
    let refused = refusal(&table(&entries(MAX_TENSORS + 1)), 2 * most + 2);
    assert!(matches!(refused, ModelError::Limit { what: "tensor count", .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_accepted_is_the_whole_file_without_holes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in 0usize..3,
    ) {
        let json = table(&[
            entry("a", "F16", "[2, 3]", 0, 12),
            entry("b", "BF16", "[4]", 12, 20),
            entry("c", "F32", "[1]", 20, 24),
        ]);
        let mut file = file(&json, 24);
        for (place, byte) in changes {
            let at = place.index(8 + json.len());
            file[at] = byte;
        }
        file.truncate(file.len() - cut);
        if let Ok(header) = read(&file) {
            let mut next = header.len;
            for tensor in &header.tensors {
                let elements: usize = tensor.dims.iter().product();
                let size = elements / tensor.dtype.block_size() * tensor.dtype.type_size();
                prop_assert_eq!((tensor.at, tensor.bytes), (next, size as u64));
                next += tensor.bytes;
            }
            prop_assert_eq!(next, file.len() as u64);
        }
    }
}
