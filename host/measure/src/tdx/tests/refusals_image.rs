//! Firmware, kernels and command lines that must be refused, one past each limit and rule.

use super::super::efi::{GLOBAL, IMAGE_SECURITY};
use super::super::{
    CommandLine, MAX_COMMAND_LINE_BYTES, MAX_FIRMWARE_BYTES, MAX_KERNEL_BYTES, MAX_PE_SECTIONS,
    MAX_SECTION_BYTES, MAX_SECTIONS, MAX_VARIABLES, PageOrder, SectionKind, StoredKeys, Tdvf,
    TdxError, authenticode_sha384, mrtd,
};
use super::fixture::{
    CFV_BYTES, Case, DESCRIPTOR_FROM_END, OPTIONAL, PE_SECTIONS, firmware, guid_table, kernel,
    section_at, store,
};
use crate::error::MeasureError;

/// The fixture's firmware with bytes replaced.
fn patched(at: impl Fn(&[u8]) -> usize, bytes: &[u8]) -> Result<(), TdxError> {
    let mut file = firmware(0, &[]);
    let at = at(&file);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    Tdvf::parse(&file).map(|_| ())
}

/// The same within section `index` of the metadata.
fn section(index: usize, offset: usize, bytes: &[u8]) -> Result<(), TdxError> {
    patched(|f| section_at(f, index) + offset, bytes)
}

fn refused_section(index: usize, offset: usize, bytes: &[u8], word: &str) {
    match section(index, offset, bytes) {
        Err(TdxError::Section { index: at, reason }) if at == index && reason.contains(word) => {}
        other => panic!("section {index} offset {offset}: {other:?}, expected {word:?}"),
    }
}

fn table_at(file: &[u8]) -> usize {
    file.len() - 0x20 - guid_table().len()
}

fn descriptor_at(file: &[u8]) -> usize {
    file.len() - DESCRIPTOR_FROM_END
}

#[test]
fn refuses_an_empty_firmware_and_one_a_byte_over_the_limit() {
    assert_eq!(Tdvf::parse(b""), Err(TdxError::Empty { what: "firmware" }));
    let mut file = vec![0; MAX_FIRMWARE_BYTES - firmware(0, &[]).len()];
    file.extend(firmware(0, &[]));
    assert!(Tdvf::parse(&file).is_ok());
    file.insert(0, 0);
    let limit = MAX_FIRMWARE_BYTES;
    assert_eq!(
        Tdvf::parse(&file),
        Err(TdxError::TooLarge { what: "firmware", limit, got: limit + 1 })
    );
}

#[test]
fn refuses_a_file_without_the_guid_table() {
    let refused = patched(|f| f.len() - 0x20 - 1, &[0]);
    assert!(
        matches!(refused, Err(TdxError::Malformed { reason, .. }) if reason.contains("footer"))
    );
    assert!(matches!(Tdvf::parse(&[0; 0x31]), Err(TdxError::Truncated { .. })));
}

#[test]
fn refuses_a_guid_table_longer_than_the_file_or_shorter_than_its_footer() {
    for (size, word) in [(u16::MAX, "longer"), (17, "shorter"), (0, "shorter")] {
        let refused = patched(|f| f.len() - 0x20 - 18, &size.to_le_bytes());
        assert!(
            matches!(refused, Err(TdxError::Malformed { reason, .. }) if reason.contains(word))
        );
    }
}

#[test]
fn refuses_guid_entries_of_impossible_length() {
    // The metadata entry's own length field is 36 bytes before the end of the table.
    for size in [0u16, 17, 1000] {
        let refused = patched(|f| f.len() - 0x20 - 36, &size.to_le_bytes());
        assert!(
            matches!(refused, Err(TdxError::Malformed { reason, .. }) if reason.contains("length"))
        );
    }
}

#[test]
fn refuses_metadata_named_never_or_twice() {
    let unnamed = patched(|f| f.len() - 0x20 - 34, &[0]);
    assert!(
        matches!(unnamed, Err(TdxError::Malformed { reason, .. }) if reason.contains("names no"))
    );
    let mut file = firmware(0, &[]);
    let at = table_at(&file);
    // The first entry becomes a second one of the same GUID.
    let guid: Vec<u8> = file[file.len() - 0x20 - 34..][..16].to_vec();
    file[at + 8..at + 24].copy_from_slice(&guid);
    let twice = Tdvf::parse(&file);
    assert!(matches!(twice, Err(TdxError::Malformed { reason, .. }) if reason.contains("twice")));
}

#[test]
fn refuses_metadata_outside_the_file() {
    let at = |f: &[u8]| f.len() - 0x20 - 40;
    for offset in [u32::MAX, 0x6001] {
        let refused = patched(at, &offset.to_le_bytes());
        assert!(
            matches!(refused, Err(TdxError::Malformed { reason, .. }) if reason.contains("before"))
        );
    }
    assert!(matches!(patched(at, &4u32.to_le_bytes()), Err(TdxError::Truncated { .. })));
}

#[test]
fn refuses_a_descriptor_of_another_kind() {
    for (offset, value, word) in
        [(0, 0u32, "signature"), (8, 2, "version"), (4, 0, "length"), (12, 0, "no sections")]
    {
        let refused = patched(|f| descriptor_at(f) + offset, &value.to_le_bytes());
        assert!(
            matches!(refused, Err(TdxError::Malformed { reason, .. }) if reason.contains(word))
        );
    }
}

#[test]
fn refuses_one_section_over_the_limit() {
    let refused = patched(|f| descriptor_at(f) + 12, &(MAX_SECTIONS as u32 + 1).to_le_bytes());
    let (limit, got) = (MAX_SECTIONS, MAX_SECTIONS + 1);
    assert_eq!(refused, Err(TdxError::TooLarge { what: "TDVF sections", limit, got }));
}

#[test]
fn refuses_sections_that_qemu_would_not_load() {
    refused_section(2, 24, &4u32.to_le_bytes(), "type");
    refused_section(2, 24, &5u32.to_le_bytes(), "type");
    refused_section(2, 28, &4u32.to_le_bytes(), "attributes");
    refused_section(0, 28, &3u32.to_le_bytes(), "added at run time");
}

#[test]
fn refuses_sections_that_are_not_whole_pages() {
    refused_section(2, 8, &0x81_0001u64.to_le_bytes(), "pages");
    refused_section(2, 16, &0x1001u64.to_le_bytes(), "pages");
    refused_section(2, 16, &0u64.to_le_bytes(), "pages");
}

#[test]
fn refuses_sections_over_the_end_of_memory_or_the_limit() {
    let mut bytes = (u64::MAX - 0xfff).to_le_bytes().to_vec();
    bytes.extend_from_slice(&0x1000u64.to_le_bytes());
    refused_section(2, 8, &bytes, "address space");
    assert!(section(2, 16, &MAX_SECTION_BYTES.to_le_bytes()).is_ok());
    refused_section(2, 16, &(MAX_SECTION_BYTES + 4096).to_le_bytes(), "64 MiB");
}

#[test]
fn refuses_sections_whose_bytes_are_outside_the_file() {
    refused_section(0, 0, &(CFV_BYTES as u32 + 1).to_le_bytes(), "outside the file");
    refused_section(0, 0, &u32::MAX.to_le_bytes(), "outside the file");
}

#[test]
fn refuses_a_measured_section_that_is_only_partly_in_the_file() {
    refused_section(0, 4, &0x1000u32.to_le_bytes(), "size in the file");
    refused_section(1, 4, &0u32.to_le_bytes(), "size in the file");
}

#[test]
fn refuses_memory_that_has_bytes_or_asks_to_be_measured() {
    refused_section(2, 4, &0x1000u32.to_le_bytes(), "bytes in the file");
    refused_section(2, 28, &1u32.to_le_bytes(), "not in the file");
}

#[test]
fn refuses_sections_that_overlap() {
    let refused = section(4, 8, &0x80_a000u64.to_le_bytes());
    assert_eq!(refused, Err(TdxError::SectionOverlap { first: 3, second: 4 }));
    // Neighbours are fine.
    assert!(section(4, 8, &0x80_3000u64.to_le_bytes()).is_ok());
}

#[test]
fn refuses_to_choose_between_two_sections_of_a_kind_or_to_do_without_one() {
    let mut file = firmware(0, &[]);
    let at = section_at(&file, 3) + 24;
    file[at..at + 4].copy_from_slice(&3u32.to_le_bytes());
    let none = Tdvf::parse(&file).unwrap().only(SectionKind::TdHob).cloned();
    assert_eq!(none, Err(TdxError::SectionCount { kind: "TD_HOB", got: 0 }));
    let mut file = firmware(0, &[]);
    let at = section_at(&file, 2) + 24;
    file[at..at + 4].copy_from_slice(&2u32.to_le_bytes());
    let two = Tdvf::parse(&file).unwrap().only(SectionKind::TdHob).cloned();
    assert_eq!(two, Err(TdxError::SectionCount { kind: "TD_HOB", got: 2 }));
}

#[test]
fn run_time_pages_are_not_in_mrtd_and_the_order_of_operations_is() {
    let file = firmware(0, &[]);
    let mut augmented = file.clone();
    let at = section_at(&file, 2) + 28;
    augmented[at] = 2;
    let of = |f: &[u8], order| mrtd(&Tdvf::parse(f).unwrap(), order);
    let single = of(&file, PageOrder::SinglePass);
    assert_ne!(single, of(&augmented, PageOrder::SinglePass));
    assert_ne!(single, of(&file, PageOrder::LegacyHost));
    // One bit of measured code moves it; one of the variable store does not.
    let mut code = file.clone();
    code[CFV_BYTES] ^= 1;
    let mut variables = file.clone();
    variables[CFV_BYTES - 1] ^= 1;
    assert_ne!(single, of(&code, PageOrder::SinglePass));
    assert_eq!(single, of(&variables, PageOrder::SinglePass));
}

// ---- variable store ---------------------------------------------------------------------------

#[test]
fn refuses_a_store_that_says_what_to_boot() {
    for (vendor, name) in [
        (GLOBAL, "Boot0000"),
        (GLOBAL, "BootOrder"),
        (GLOBAL, "BootNext"),
        (GLOBAL, "Driver0001"),
        (GLOBAL, "OsIndications"),
        (GLOBAL, "SecureBoot"),
        (IMAGE_SECURITY, "dbt"),
    ] {
        let refused = StoredKeys::parse(&store(&[(vendor, name, b"x")]));
        assert_eq!(refused, Err(TdxError::StoredBootVariable { name: name.to_owned() }));
    }
    // Another vendor's variable of the same name is nobody's boot option.
    assert!(StoredKeys::parse(&store(&[([9; 16], "Boot0000", b"x")])).unwrap().is_blank());
}

#[test]
fn refuses_a_key_that_is_stored_twice() {
    let refused = StoredKeys::parse(&store(&[(GLOBAL, "PK", b"a"), (GLOBAL, "PK", b"b")]));
    assert!(matches!(refused, Err(TdxError::Malformed { reason, .. }) if reason.contains("twice")));
}

#[test]
fn deleted_variables_are_not_there() {
    let mut bytes = store(&[(GLOBAL, "Boot0000", b"x")]);
    bytes[0x48 + 28 + 2] = 0x3c;
    assert_eq!(StoredKeys::parse(&bytes), Ok(StoredKeys::default()));
}

#[test]
fn secure_boot_is_on_with_a_platform_key_unless_it_was_switched_off() {
    let enable = hex::decode("c70ba3f008af564599c4001009c93a44").unwrap().try_into().unwrap();
    let pk = (GLOBAL, "PK", b"key".as_slice());
    let on = |list: &[_]| StoredKeys::parse(&store(list)).unwrap().secure_boot();
    assert!(!on(&[]));
    assert!(on(&[pk]));
    assert!(on(&[pk, (enable, "SecureBootEnable", &[1])]));
    assert!(!on(&[pk, (enable, "SecureBootEnable", &[0])]));
    assert!(!on(&[(enable, "SecureBootEnable", &[1])]));
}

#[test]
fn refuses_stores_of_other_formats() {
    // Volume signature, volume length, store GUID, format, state, store length.
    for (at, value) in
        [(40, 0), (35, 1), (0x48, 0), (0x48 + 20, 0), (0x48 + 21, 0), (0x48 + 19, 0x7f)]
    {
        let mut bytes = store(&[]);
        bytes[at] = value;
        assert!(StoredKeys::parse(&bytes).is_err(), "byte {at:#x}");
    }
    let mut small = store(&[]);
    small[0x48 + 16..0x48 + 20].copy_from_slice(&27u32.to_le_bytes());
    assert!(matches!(StoredKeys::parse(&small), Err(TdxError::Malformed { .. })));
}

#[test]
fn refuses_variables_whose_name_or_data_has_no_end() {
    let first = 0x48 + 28;
    for (at, value) in [(first + 36, 7), (first + 38, 1), (first + 39, 0x7f), (first + 43, 0x7f)] {
        let mut bytes = store(&[(GLOBAL, "PK", b"k")]);
        bytes[at] = value;
        assert!(StoredKeys::parse(&bytes).is_err(), "byte {at:#x}");
    }
    let mut endless = store(&[(GLOBAL, "PK", b"k")]);
    endless[first + 60 + 4] = b'X';
    assert!(matches!(StoredKeys::parse(&endless), Err(TdxError::Malformed { .. })));
}

#[test]
fn refuses_one_variable_over_the_limit() {
    let many = |count: usize| {
        let mut bytes = store(&vec![([9; 16], "v", b"".as_slice()); 100]);
        // A larger volume than the fixture's: repeat the variables behind one another.
        let one = super::fixture::variable([9; 16], "v", b"");
        let mut body = Vec::new();
        (0..count).for_each(|_| body.extend_from_slice(&one));
        bytes.truncate(0x48 + 28);
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&[0xff; 64]);
        let (volume, store) = (bytes.len() as u64, (bytes.len() - 0x48) as u32);
        bytes[32..40].copy_from_slice(&volume.to_le_bytes());
        bytes[0x48 + 16..0x48 + 20].copy_from_slice(&store.to_le_bytes());
        StoredKeys::parse(&bytes)
    };
    assert!(many(MAX_VARIABLES - 1).is_ok());
    assert!(matches!(
        many(MAX_VARIABLES + 1),
        Err(TdxError::TooLarge { what: "stored variables", .. })
    ));
}

// ---- kernel -----------------------------------------------------------------------------------

fn pe(at: usize, bytes: &[u8]) -> Result<super::super::Sha384Digest, TdxError> {
    let mut file = kernel(0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    authenticode_sha384(&file)
}

fn refused_pe(at: usize, bytes: &[u8], word: &str) {
    let refused = pe(at, bytes);
    let fits = matches!(&refused, Err(TdxError::Malformed { reason, .. }) if reason.contains(word));
    assert!(fits, "offset {at:#x}: {refused:?}, expected {word:?}");
}

#[test]
fn checksum_and_certificates_are_not_in_the_digest_and_everything_else_is() {
    let file = kernel(0);
    let original = authenticode_sha384(&file).unwrap();
    let excluded = |at: usize| {
        (OPTIONAL + 64..OPTIONAL + 68).contains(&at)
            || (OPTIONAL + 144..OPTIONAL + 152).contains(&at)
            || at >= 0x500
    };
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1;
        match authenticode_sha384(&flipped) {
            Ok(digest) => assert_eq!(digest == original, excluded(at), "byte {at:#x}"),
            Err(_) => assert!(at < 0x200, "byte {at:#x} is no header"),
        }
    }
}

#[test]
fn refuses_a_kernel_that_is_no_pe_file() {
    refused_pe(0, b"EL", "no PE file");
    refused_pe(0x40, b"LE", "PE signature");
    refused_pe(0x44, &0x14cu16.to_le_bytes(), "x86-64");
    refused_pe(OPTIONAL, &0x10bu16.to_le_bytes(), "PE32+");
    assert!(matches!(pe(0x3c, &u32::MAX.to_le_bytes()), Err(TdxError::Truncated { .. })));
    assert_eq!(authenticode_sha384(b""), Err(TdxError::Empty { what: "kernel" }));
}

#[test]
fn refuses_a_kernel_one_byte_over_the_limit() {
    let file = vec![0u8; MAX_KERNEL_BYTES + 1];
    let (limit, got) = (MAX_KERNEL_BYTES, MAX_KERNEL_BYTES + 1);
    assert_eq!(authenticode_sha384(&file), Err(TdxError::TooLarge { what: "kernel", limit, got }));
}

#[test]
fn refuses_a_kernel_with_one_section_over_the_limit_or_none() {
    refused_pe(0x46, &0u16.to_le_bytes(), "no sections");
    let (limit, got) = (MAX_PE_SECTIONS, MAX_PE_SECTIONS + 1);
    let refused = pe(0x46, &(got as u16).to_le_bytes());
    assert_eq!(refused, Err(TdxError::TooLarge { what: "PE sections", limit, got }));
}

#[test]
fn refuses_a_kernel_without_room_for_a_certificate_table() {
    refused_pe(OPTIONAL + 108, &4u32.to_le_bytes(), "certificate table");
    refused_pe(0x54, &0x90u16.to_le_bytes(), "certificate table");
}

#[test]
fn refuses_headers_that_do_not_end_where_they_say() {
    refused_pe(OPTIONAL + 60, &0x100u32.to_le_bytes(), "headers");
    refused_pe(OPTIONAL + 60, &0x1000u32.to_le_bytes(), "headers");
}

#[test]
fn refuses_sections_that_overlap_or_leave_a_gap_or_the_file() {
    refused_pe(PE_SECTIONS + 16, &0x200u32.to_le_bytes(), "over the end");
    refused_pe(PE_SECTIONS + 20, &0x3f0u32.to_le_bytes(), "overlap");
    refused_pe(PE_SECTIONS + 20, &0x410u32.to_le_bytes(), "overlap");
    refused_pe(PE_SECTIONS + 16, &u32::MAX.to_le_bytes(), "over the end");
}

#[test]
fn refuses_certificates_that_are_not_the_end_of_the_file() {
    refused_pe(OPTIONAL + 148, &7u32.to_le_bytes(), "certificate");
    refused_pe(OPTIONAL + 144, &0x4f8u32.to_le_bytes(), "certificate");
    refused_pe(OPTIONAL + 148, &0u32.to_le_bytes(), "certificate");
    let mut longer = kernel(0);
    longer.push(0);
    assert!(authenticode_sha384(&longer).is_err());
}

// ---- command line -----------------------------------------------------------------------------

#[test]
fn refuses_command_lines_that_firmware_and_kernel_could_read_differently() {
    for (bytes, byte, at) in [
        (b"quiet\n".as_slice(), b'\n', 5),
        (b"a\0b", 0, 1),
        (b"\ttab", b'\t', 0),
        ("caf\u{e9}".as_bytes(), 0xc3, 3),
        (b"\x7f", 0x7f, 0),
    ] {
        assert_eq!(CommandLine::parse(bytes), Err(TdxError::CommandLine { byte, at }));
    }
    assert_eq!(CommandLine::parse(b""), Err(TdxError::Empty { what: "command line" }));
}

#[test]
fn refuses_a_command_line_one_byte_over_what_the_kernel_reads() {
    assert!(CommandLine::parse(&vec![b'a'; MAX_COMMAND_LINE_BYTES]).is_ok());
    let refused = CommandLine::parse(&vec![b'a'; MAX_COMMAND_LINE_BYTES + 1]);
    assert!(matches!(refused, Err(TdxError::TooLarge { .. })));
}

#[test]
fn refuses_an_image_without_an_initrd_and_a_manifest_the_worker_would_refuse() {
    let empty = Case { initrd: Vec::new(), ..Case::new() };
    let refused = empty.predict().unwrap_err();
    assert_eq!(refused, MeasureError::Tdx(TdxError::Empty { what: "initrd" }));
    let manifest = Case { manifest: "version = 1".to_owned(), ..Case::new() };
    assert!(matches!(manifest.predict(), Err(MeasureError::Manifest(_))));
}
