//! Record streams that could never be loaded.

use super::super::{
    EnclaveError, MAX_STREAM_BYTES, MAX_STREAM_PAGES, SgxError, StreamFault, StreamSummary,
};

fn record(tag: &[u8], fields: &[(usize, u64)]) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[..tag.len()].copy_from_slice(tag);
    for (at, value) in fields {
        out[*at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    out
}

fn create(size: u64) -> Vec<u8> {
    let mut out = record(b"ECREATE", &[(12, size)]);
    out[8] = 1;
    out
}

fn add(offset: u64, flags: u64) -> Vec<u8> {
    record(b"EADD", &[(8, offset), (16, flags)])
}

fn extend(offset: u64) -> Vec<u8> {
    let mut out = record(b"EEXTEND", &[(8, offset)]);
    out.extend([9; 256]);
    out
}

#[track_caller]
fn refuses(records: &[Vec<u8>], at: usize, fault: StreamFault) {
    assert_eq!(StreamSummary::parse(&records.concat()), Err(SgxError::Stream { at, fault }));
}

#[test]
fn counts_what_a_stream_builds() {
    let stream = [create(0x4000), add(0, 0x100), add(0x1000, 0x205), extend(0x1100)].concat();
    let summary = StreamSummary::parse(&stream).unwrap();
    assert_eq!((summary.size, summary.ssa_frame_pages), (0x4000, 1));
    assert_eq!((summary.pages, summary.threads, summary.measured_bytes), (2, 1, 256));
}

#[test]
fn refuses_a_stream_that_does_not_begin_with_ecreate() {
    refuses(&[add(0, 0x200), create(0x4000)], 0, StreamFault::Create);
    refuses(&[create(0x4000), create(0x4000)], 64, StreamFault::Create);
}

#[test]
fn refuses_a_stream_cut_anywhere() {
    let whole = [create(0x4000), add(0, 0x200), extend(0)].concat();
    for len in (0..whole.len()).filter(|len| *len != 128) {
        let refused = StreamSummary::parse(&whole[..len]);
        // After ECREATE alone nothing is cut off, but nothing is there either.
        assert!(refused.is_err(), "accepted {len} bytes");
    }
    refuses(&[create(0x4000), vec![0; 63]], 64, StreamFault::Truncated);
}

#[test]
fn refuses_unknown_tags_and_unmeasured_data() {
    refuses(&[create(0x4000), record(b"UNMEASRD", &[])], 64, StreamFault::Tag);
    refuses(&[create(0x4000), record(b"EADD\0\0\0x", &[])], 64, StreamFault::Tag);
}

#[test]
fn refuses_reserved_bytes_that_are_not_zero() {
    for (index, at) in [(0, 20), (0, 63), (1, 24), (1, 63), (2, 16), (2, 63)] {
        let mut records = [create(0x4000), add(0, 0x200), extend(0)];
        records[index][at] = 1;
        refuses(&records, index * 64, StreamFault::Reserved);
    }
}

#[test]
fn refuses_pages_no_cpu_adds() {
    refuses(&[create(0x4000), add(0, 0x202)], 64, StreamFault::SecInfo(0x202));
    refuses(&[create(0x4000), add(0x4000, 0x200)], 64, StreamFault::Page(0x4000));
    refuses(&[create(0x4000), add(0x800, 0x200)], 64, StreamFault::Page(0x800));
    refuses(&[create(0x4000), add(0, 0x200), add(0, 0x100)], 128, StreamFault::Twice(0));
}

#[test]
fn refuses_to_measure_a_page_that_was_not_added() {
    refuses(&[create(0x4000), add(0, 0x200), extend(0x1000)], 128, StreamFault::Chunk(0x1000));
    refuses(&[create(0x4000), add(0, 0x200), extend(0x80)], 128, StreamFault::Chunk(0x80));
}

#[test]
fn refuses_an_enclave_of_an_impossible_size_or_without_a_page() {
    for size in [0, 0x5000, 1 << 63] {
        let refused = StreamSummary::parse(&create(size));
        assert_eq!(refused, Err(EnclaveError::Size { size }.into()));
    }
    assert!(matches!(StreamSummary::parse(&create(0x4000)), Err(SgxError::Enclave(_))));
}

#[test]
fn refuses_one_page_over_the_limit() {
    let stream = |pages: usize| {
        let pages = (0..pages as u64).flat_map(|page| add(page * 4096, 0x200));
        create(1 << 40).into_iter().chain(pages).collect::<Vec<u8>>()
    };
    assert_eq!(StreamSummary::parse(&stream(MAX_STREAM_PAGES)).unwrap().pages, MAX_STREAM_PAGES);
    let at = 64 + 64 * MAX_STREAM_PAGES;
    let fault = StreamFault::Pages(MAX_STREAM_PAGES);
    assert_eq!(
        StreamSummary::parse(&stream(MAX_STREAM_PAGES + 1)),
        Err(SgxError::Stream { at, fault })
    );
}

#[test]
fn refuses_a_stream_one_byte_over_the_limit() {
    let refused = StreamSummary::parse(&vec![0; MAX_STREAM_BYTES + 1]).unwrap_err();
    assert_eq!(refused.code(), "E-SGX-SIZE");
    assert_eq!(
        StreamSummary::parse(&vec![0; MAX_STREAM_BYTES]).unwrap_err().code(),
        "E-SGX-STREAM"
    );
}
