//! Loaders that must not be mapped.

use super::super::elf::PalImage;
use super::super::{
    ElfError, MAX_LIBPAL_BYTES, MAX_LIBPAL_SPAN, MAX_PROGRAM_HEADERS, Permissions, SgxError,
};
use super::{CODE, DATA, Load, shared_object};

fn refusal(file: &[u8]) -> ElfError {
    match PalImage::parse(file) {
        Err(SgxError::Elf(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refuses_segment(index: usize, loads: &[Load], needle: &str) {
    match refusal(&shared_object(loads)) {
        ElfError::Segment { index: got, fault } => {
            assert_eq!(got, index);
            assert!(fault.contains(needle), "{fault}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn maps_file_bytes_in_their_place_and_zeros_around_them() {
    let file = shared_object(&[CODE, DATA]);
    let image = PalImage::parse(&file).unwrap();
    assert_eq!((image.entry(), image.span()), (0x260, 0x3000));
    let [code, data] = image.segments() else { panic!("two segments") };
    assert_eq!((code.first_page, code.end_page), (0, 0x1000));
    assert_eq!((data.first_page, data.end_page), (0x1000, 0x3000));
    assert_eq!(data.permissions, Permissions { read: true, write: true, execute: false });
    let page = code.page(0);
    assert_eq!(page[..0x2bc], file[..0x2bc]);
    assert!(page[0x2bc..].iter().all(|byte| *byte == 0));
    let page = data.page(0x1000);
    assert!(page[..0xf00].iter().all(|byte| *byte == 0));
    assert_eq!(page[0xf00..], file[0xf00..0x1000]);
    let page = data.page(0x2000);
    assert_eq!(page[..4], file[0x1000..0x1004]);
    assert!(page[4..].iter().all(|byte| *byte == 0));
}

#[test]
fn refuses_a_file_that_ends_in_its_header() {
    let file = shared_object(&[CODE]);
    for len in [0, 1, 4, 63] {
        assert_eq!(refusal(&file[..len]), ElfError::Truncated("ELF header"));
    }
    for len in [64, 64 + 55] {
        assert_eq!(refusal(&file[..len]), ElfError::Truncated("program headers"));
    }
}

#[test]
fn refuses_what_is_no_x86_64_shared_object() {
    for (at, value, field) in [
        (0, 0x7e, "magic"),
        (4, 1, "class and encoding"),
        (5, 2, "class and encoding"),
        (6, 0, "class and encoding"),
        (16, 2, "type"),
        (18, 3, "machine"),
        (54, 57, "program header size"),
    ] {
        let mut file = shared_object(&[CODE]);
        file[at] = value;
        assert!(matches!(refusal(&file), ElfError::Header { field: got, .. } if got == field));
    }
}

#[test]
fn refuses_one_program_header_over_the_limit() {
    let mut file = shared_object(&[CODE]);
    let over = MAX_PROGRAM_HEADERS + 1;
    file[56..58].copy_from_slice(&over.to_le_bytes());
    assert_eq!(refusal(&file), ElfError::Headers { limit: MAX_PROGRAM_HEADERS, got: over });
}

#[test]
fn refuses_program_headers_at_an_offset_that_wraps() {
    let mut file = shared_object(&[CODE]);
    file[32..40].copy_from_slice(&(u64::MAX - 8).to_le_bytes());
    assert_eq!(refusal(&file), ElfError::Truncated("program headers"));
}

#[test]
fn refuses_a_file_without_segments() {
    assert_eq!(refusal(&shared_object(&[])), ElfError::NoSegment);
}

#[test]
fn refuses_a_segment_outside_the_file() {
    refuses_segment(1, &[CODE, Load { offset: 0x1f00, ..DATA }], "outside the file");
    let wrapping = Load { offset: u64::MAX - 0xff, ..DATA };
    refuses_segment(1, &[CODE, wrapping], "outside the file");
}

#[test]
fn refuses_a_segment_with_more_file_than_memory() {
    refuses_segment(0, &[Load { memory: 0x2bb, ..CODE }], "more bytes in the file");
}

#[test]
fn refuses_an_empty_segment() {
    refuses_segment(1, &[CODE, Load { file: 0, memory: 0, ..DATA }], "empty");
}

#[test]
fn refuses_a_segment_that_moves_within_its_page() {
    refuses_segment(1, &[CODE, Load { address: 0x1f08, ..DATA }], "differently in a page");
}

#[test]
fn refuses_segments_that_share_a_page_or_run_backwards() {
    refuses_segment(1, &[CODE, Load { address: 0xf00, ..DATA }], "shares a page");
    refuses_segment(2, &[CODE, DATA, CODE], "comes before");
}

#[test]
fn refuses_a_segment_whose_address_wraps() {
    let wrapping = Load { address: u64::MAX - 0xff, ..DATA };
    refuses_segment(1, &[CODE, wrapping], "wraps");
}

#[test]
fn refuses_memory_one_page_over_the_limit() {
    let memory = MAX_LIBPAL_SPAN - DATA.address;
    assert!(PalImage::parse(&shared_object(&[CODE, Load { memory, ..DATA }])).is_ok());
    refuses_segment(1, &[CODE, Load { memory: memory + 1, ..DATA }], "too large");
}

#[test]
fn refuses_a_page_that_can_be_written_and_not_read() {
    refuses_segment(1, &[CODE, Load { flags: 2, ..DATA }], "not readable");
}

#[test]
fn refuses_an_image_that_asks_for_another_address() {
    refuses_segment(0, &[Load { address: 0x1000, ..CODE }], "address 0");
}

#[test]
fn refuses_an_entry_point_in_no_executable_segment() {
    let mut file = shared_object(&[CODE, DATA]);
    for entry in [0x1f00u64, 0x1000, u64::MAX] {
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        assert_eq!(refusal(&file), ElfError::Entry { entry });
    }
}

#[test]
fn refuses_a_loader_one_byte_over_the_limit() {
    let refused = PalImage::parse(&vec![0; MAX_LIBPAL_BYTES + 1]).unwrap_err();
    assert_eq!(refused.code(), "E-SGX-SIZE");
    assert_eq!(PalImage::parse(&vec![0; MAX_LIBPAL_BYTES]).unwrap_err().code(), "E-SGX-ELF");
}
