//! Shapes, tables and documents that must be refused, one past each limit and rule.

use super::super::{
    AcpiBlobs, BiosIdentity, FirmwareProfile, FwCfg, MAX_FW_CFG_BYTES, MAX_LOADER_BYTES,
    MAX_MEMORY_BYTES, MAX_PREDICTION_BYTES, MAX_SMBIOS_BYTES, MAX_STRUCTURES, MAX_TABLES,
    MAX_TABLES_BYTES, MIN_MEMORY_BYTES, MemorySize, Rtmr, Sha384Digest, ShapeTables, SmbiosTable,
    TdxError, TdxPrediction, td_hob,
};
use super::fixture::{Case, WINDOW, acpi, firmware, rsdp, section_at, smbios, tables};
use super::parse;
use crate::error::MeasureError;

#[test]
fn refuses_memory_that_no_shape_has() {
    assert!(MemorySize::from_bytes(MIN_MEMORY_BYTES).is_ok());
    assert!(MemorySize::from_bytes(MAX_MEMORY_BYTES).is_ok());
    for bytes in [0, MIN_MEMORY_BYTES - (1 << 20), MAX_MEMORY_BYTES + (1 << 20), (2 << 30) + 1] {
        assert!(
            matches!(MemorySize::from_bytes(bytes), Err(TdxError::Memory { got, .. }) if got == bytes)
        );
    }
}

#[test]
fn refuses_firmware_that_does_not_fit_into_memory() {
    let mut file = firmware(0, &[]);
    let at = section_at(&file, 2) + 8;
    // In the hole between 2.75 and 4 GiB.
    file[at..at + 8].copy_from_slice(&0xc000_0000u64.to_le_bytes());
    let memory = MemorySize::from_bytes(2 << 30).unwrap();
    let expected = TdxError::SectionOutsideMemory { address: 0xc000_0000, memory: 2 << 30 };
    assert_eq!(td_hob(&parse(&file), memory), Err(expected));
}

#[test]
fn refuses_firmware_without_a_place_for_the_memory_map() {
    let mut file = firmware(0, &[]);
    let memory = MemorySize::from_bytes(2 << 30).unwrap();
    assert!(td_hob(&parse(&file), memory).is_ok());
    let kind = section_at(&file, 3) + 24;
    file[kind] = 3;
    assert!(matches!(td_hob(&parse(&file), memory), Err(TdxError::SectionCount { .. })));
}

#[test]
fn the_memory_map_of_the_most_sections_fits_into_one_page() {
    // Each of 16 sections apart from the others cuts a region once more than it has.
    let most = 2 * super::super::MAX_SECTIONS + 2;
    assert!(56 + 48 * most + 8 <= 4096);
}

#[test]
fn refuses_a_shape_whose_tables_list_other_processors() {
    let mut case = Case::new();
    case.shape.vcpus = 4;
    let expected = TdxError::Vcpus { declared: 4, listed: 2 };
    assert_eq!(case.predict().unwrap_err(), MeasureError::Tdx(expected));
}

#[test]
fn disabled_processors_are_not_counted() {
    let mut bytes = tables(3, WINDOW, 0);
    let madt = bytes.windows(4).position(|w| w == b"APIC").unwrap();
    bytes[madt + 44 + 4] = 0;
    assert_eq!(acpi(&bytes).unwrap().facts().processors, 2);
}

#[test]
fn only_the_window_is_left_out_of_the_digest_that_tells_it() {
    let plain = acpi(&tables(2, WINDOW, 0)).unwrap();
    let moved = acpi(&tables(2, [0x10_0000_0000, 0x1f_ffff_ffff], 0)).unwrap();
    let device = acpi(&tables(2, WINDOW, 1)).unwrap();
    assert_ne!(plain.digests()[2], moved.digests()[2]);
    assert_eq!(plain.facts().without_windows, moved.facts().without_windows);
    assert_ne!(plain.facts().without_windows, device.facts().without_windows);
    assert_eq!(moved.facts().mmio64, Some([0x10_0000_0000, 0x1f_ffff_ffff]));
}

#[test]
fn refuses_acpi_blobs_of_sizes_that_are_not_measured() {
    let with = |loader: usize, rsdp: Vec<u8>, tables: Vec<u8>| {
        AcpiBlobs::new(vec![1; loader], rsdp, tables).map(|_| ())
    };
    let good = || tables(2, WINDOW, 0);
    assert!(with(4096, rsdp(), good()).is_ok());
    assert!(matches!(with(0, rsdp(), good()), Err(TdxError::Empty { .. })));
    assert!(matches!(with(4097, rsdp(), good()), Err(TdxError::Malformed { .. })));
    let over = MAX_LOADER_BYTES + 1;
    assert!(matches!(with(over, rsdp(), good()), Err(TdxError::TooLarge { .. })));
    assert!(matches!(with(4096, rsdp()[..19].to_vec(), good()), Err(TdxError::Malformed { .. })));
    assert!(matches!(with(4096, vec![0; 20], good()), Err(TdxError::Malformed { .. })));
    assert!(matches!(with(4096, rsdp(), Vec::new()), Err(TdxError::Empty { .. })));
    let mut unpadded = good();
    unpadded.pop();
    assert!(matches!(with(4096, rsdp(), unpadded), Err(TdxError::Malformed { .. })));
    let over = vec![0; MAX_TABLES_BYTES + 1];
    assert!(matches!(with(4096, rsdp(), over), Err(TdxError::TooLarge { .. })));
}

#[test]
fn refuses_acpi_tables_that_cannot_be_walked() {
    let dsdt = 64;
    for (at, value) in [(dsdt + 4, 7u32), (dsdt + 4, u32::MAX), (4, 0)] {
        let mut bytes = tables(2, WINDOW, 0);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert!(acpi(&bytes).is_err(), "offset {at}");
    }
    let refused = acpi(&vec![0; 4096]);
    assert!(matches!(refused, Err(TdxError::Malformed { reason: "there is no MADT", .. })));
}

#[test]
fn refuses_a_second_madt_and_entries_of_wrong_length() {
    let good = tables(2, WINDOW, 0);
    let madt = good.windows(4).position(|w| w == b"APIC").unwrap();
    let mut second = good.clone();
    second[64..68].copy_from_slice(b"APIC");
    assert!(acpi(&second).is_err());
    for length in [0, 1, 7, 200] {
        let mut bytes = good.clone();
        bytes[madt + 45] = length;
        assert!(acpi(&bytes).is_err(), "length {length}");
    }
}

#[test]
fn refuses_one_acpi_table_over_the_limit() {
    let many = |count: usize| {
        let mut bytes = Vec::new();
        let madt: Vec<u8> = [b"APIC".as_slice(), &44u32.to_le_bytes(), &[0; 36]].concat();
        bytes.extend_from_slice(&madt);
        (1..count).for_each(|_| bytes.extend_from_slice(&[b'X', b'X', b'X', b'X', 8, 0, 0, 0]));
        bytes.resize(4096, 0);
        acpi(&bytes)
    };
    assert!(many(MAX_TABLES - 1).is_ok());
    assert!(matches!(many(MAX_TABLES + 1), Err(TdxError::TooLarge { .. })));
}

#[test]
fn refuses_smbios_tables_without_an_end_or_with_more_behind_it() {
    let good = smbios(1, "m");
    assert!(SmbiosTable::parse(&good).is_ok());
    assert!(SmbiosTable::parse(&good[..good.len() - 6]).is_err());
    let more = [good.as_slice(), &[0]].concat();
    assert!(matches!(SmbiosTable::parse(&more), Err(TdxError::Malformed { .. })));
    assert_eq!(SmbiosTable::parse(b""), Err(TdxError::Empty { what: "SMBIOS table" }));
}

#[test]
fn refuses_smbios_one_byte_and_one_structure_over_the_limits() {
    let many = |count: usize| {
        let mut bytes = Vec::new();
        (1..count).for_each(|_| bytes.extend_from_slice(&[13, 4, 0, 0, 0, 0]));
        bytes.extend_from_slice(&[127, 4, 0, 0, 0, 0]);
        SmbiosTable::parse(&bytes).map(|_| ())
    };
    assert!(many(MAX_STRUCTURES).is_ok());
    assert!(matches!(many(MAX_STRUCTURES + 1), Err(TdxError::TooLarge { .. })));
    let over = vec![0; MAX_SMBIOS_BYTES + 1];
    assert!(matches!(SmbiosTable::parse(&over), Err(TdxError::TooLarge { .. })));
}

#[test]
fn refuses_a_structure_shorter_than_its_header_or_longer_than_the_table() {
    for length in [0, 3, 0xff] {
        let mut bytes = smbios(1, "m");
        bytes[1] = length;
        assert!(SmbiosTable::parse(&bytes).is_err(), "length {length}");
    }
}

#[test]
fn refuses_to_blank_a_string_that_is_not_there() {
    let mut bytes = smbios(1, "m");
    // Serial number of the system: there are four strings.
    bytes[7] = 5;
    let table = SmbiosTable::parse(&bytes).unwrap();
    assert!(matches!(table.filtered(), Err(TdxError::Malformed { .. })));
}

#[test]
fn what_names_one_machine_is_blanked_and_the_processor_id_is_not() {
    let table = SmbiosTable::parse(&smbios(0x1234, "m")).unwrap();
    let filtered = table.filtered().unwrap();
    let text = String::from_utf8_lossy(&filtered).into_owned();
    assert!(!text.contains("SERIAL7") && text.contains("       \0"));
    assert_eq!(filtered[8..25], [0; 17]);
    let again = SmbiosTable::parse(&filtered).unwrap();
    assert_eq!(again.processor_id(), Some(0x1234));
    let other = SmbiosTable::parse(&smbios(0x5678, "m")).unwrap();
    assert_ne!(other.filtered(), table.filtered());
    assert_eq!(other.filtered_without_processor_id(), table.filtered_without_processor_id());
}

#[test]
fn structures_of_vendors_are_measured_by_their_header_alone() {
    let table = |secret: u8| {
        let mut bytes = vec![0x80, 5, 1, 0, secret, b'x', secret, 0, 0];
        bytes.extend_from_slice(&[127, 4, 0, 0, 0, 0]);
        SmbiosTable::parse(&bytes).unwrap().filtered().unwrap()
    };
    assert_eq!(table(b'a'), table(b'b'));
}

#[test]
fn refuses_a_bios_structure_that_is_there_already_or_cannot_be_written() {
    let bios = |vendor: &str| BiosIdentity {
        vendor: vendor.to_owned(),
        version: "1".to_owned(),
        date: "01/01/2026".to_owned(),
    };
    let table = SmbiosTable::parse(&smbios(1, "m")).unwrap();
    let once = table.clone().with_bios(&bios("EDK II")).unwrap();
    assert!(matches!(once.with_bios(&bios("EDK II")), Err(TdxError::Malformed { .. })));
    for vendor in ["", "a\0b", "\u{e9}", &"x".repeat(65)] {
        assert!(table.clone().with_bios(&bios(vendor)).is_err(), "{vendor:?}");
    }
}

#[test]
fn refuses_fw_cfg_files_without_a_known_place() {
    let mut items = FwCfg::direct_boot();
    assert_eq!(
        items.set("opt/evil", vec![1]),
        Err(TdxError::FwCfg { name: "opt/evil".to_owned() })
    );
    assert!(items.set("bootorder", vec![1; MAX_FW_CFG_BYTES]).is_ok());
    let over = items.set("bootorder", vec![1; MAX_FW_CFG_BYTES + 1]);
    assert!(matches!(over, Err(TdxError::TooLarge { .. })));
    assert!(matches!(items.set("bootorder", vec![]), Err(TdxError::Empty { .. })));
}

#[test]
fn refuses_profiles_nobody_defined() {
    for name in ["", "202411", "pre202505 ", "Pre202505"] {
        assert!(matches!(name.parse::<FirmwareProfile>(), Err(TdxError::Profile { .. })));
    }
    for profile in FirmwareProfile::ALL {
        assert_eq!(profile.name().parse::<FirmwareProfile>(), Ok(profile));
    }
}

#[test]
fn refuses_digests_in_any_but_the_one_spelling() {
    let good = "ab".repeat(48);
    assert_eq!(good.parse::<Sha384Digest>().unwrap().to_string(), good);
    for bad in [&good[1..], &good.to_uppercase(), &format!("{good}00"), "zz", ""] {
        assert!(matches!(bad.parse::<Sha384Digest>(), Err(TdxError::Hex { .. })));
    }
}

#[test]
fn a_prediction_document_reads_back_as_it_was_written() {
    let prediction = Case::new().predict().unwrap();
    let json = serde_json::to_vec(&prediction).unwrap();
    assert_eq!(TdxPrediction::parse(&json).unwrap(), prediction);
}

#[test]
fn refuses_a_prediction_document_whose_registers_do_not_follow_from_its_events() {
    for register in Rtmr::ALL {
        let mut prediction = Case::new().predict().unwrap();
        prediction.rtmr[register.index()].value.0[5] ^= 1;
        let json = serde_json::to_vec(&prediction).unwrap();
        let refused = TdxPrediction::parse(&json);
        assert!(matches!(refused, Err(TdxError::Replay { register: r, .. }) if r == register));
    }
}

#[test]
fn refuses_prediction_documents_of_other_schemas_and_sizes() {
    let good = serde_json::to_value(Case::new().predict().unwrap()).unwrap();
    let parse = |value: &serde_json::Value| TdxPrediction::parse(value.to_string().as_bytes());
    let mut schema = good.clone();
    schema["schema"] = "chrysalis/tdx-prediction/v2".into();
    let mut unknown = good.clone();
    unknown["extra"] = 1.into();
    let mut missing = good.clone();
    missing["rtmr"].as_array_mut().unwrap().pop();
    for bad in [schema, unknown, missing] {
        assert!(matches!(parse(&bad), Err(TdxError::Prediction(_))));
    }
    let mut padded = good.to_string().into_bytes();
    padded.resize(MAX_PREDICTION_BYTES, b' ');
    assert!(TdxPrediction::parse(&padded).is_ok());
    padded.push(b' ');
    assert!(matches!(TdxPrediction::parse(&padded), Err(TdxError::TooLarge { .. })));
}

#[test]
fn catalogued_digests_predict_what_the_blobs_do() {
    let case = Case::new();
    let expected = case.predict().unwrap();
    let of = |i: usize| expected.rtmr[0].events[i].digest;
    let at =
        expected.rtmr[0].events.iter().position(|e| e.component.name() == "acpi-loader").unwrap();
    let mut digests = case.clone();
    digests.shape.tables =
        ShapeTables::Digests { acpi: [of(at), of(at + 1), of(at + 2)], smbios: of(at + 3) };
    assert_eq!(digests.predict().unwrap().registers(), expected.registers());
}
