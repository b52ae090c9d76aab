//! Firmware composition: the layout comes from the metadata, and every way it can lie is refused.

use super::support::{DESCRIPTOR_FROM_END, STORE_BYTES, store, tdvf};
use chrysalis_measure::tdx::{MAX_FIRMWARE_BYTES, TdxError};

use crate::firmware::{FirmwareFault, check, compose};

fn with(change: impl FnOnce(&mut Vec<u8>)) -> FirmwareFault {
    let mut firmware = tdvf();
    change(&mut firmware);
    compose(&firmware, &store()).unwrap_err()
}

/// Writes `value` at `offset` of the TDVF descriptor.
fn descriptor(offset: usize, value: u32) -> FirmwareFault {
    with(|f| {
        let at = f.len() - DESCRIPTOR_FROM_END + offset;
        f[at..at + 4].copy_from_slice(&value.to_le_bytes());
    })
}

/// Writes `value` at `offset` of section `index`.
fn section(index: usize, offset: usize, value: u32) -> FirmwareFault {
    descriptor(16 + 32 * index + offset, value)
}

fn not_blank(change: impl FnOnce(&mut Vec<u8>)) -> FirmwareFault {
    let mut store = store();
    change(&mut store);
    compose(&tdvf(), &store).unwrap_err()
}

#[test]
fn keeps_the_code_and_takes_the_store() {
    let composed = compose(&tdvf(), &store()).unwrap();
    assert_eq!(composed.len(), tdvf().len());
    assert_eq!(composed[..STORE_BYTES], store());
    assert_eq!(composed[STORE_BYTES..], tdvf()[STORE_BYTES..]);
    assert_eq!(check(&composed).unwrap().variables, STORE_BYTES);
    assert!(matches!(check(&tdvf()), Err(FirmwareFault::NotBlank { .. })), "it is enrolled");
}

#[test]
fn refuses_a_firmware_that_ends_within_a_page() {
    // The metadata lies at a distance from the end, so what is put in front does not move it.
    let mut firmware = vec![0; 32];
    firmware.extend(tdvf());
    let got = firmware.len();
    assert_eq!(check(&firmware), Err(FirmwareFault::Size { got }));
}

#[test]
fn refuses_a_firmware_without_usable_metadata() {
    let reason = |fault| match fault {
        FirmwareFault::Metadata(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert!(matches!(reason(with(|f| f.fill(0))), TdxError::Malformed { .. }));
    assert!(matches!(reason(descriptor(8, 2)), TdxError::Malformed { .. }), "version");
    let in_part = reason(section(0, 16, 4096));
    assert!(matches!(in_part, TdxError::Section { index: 0, .. }), "a section loaded in part");
    let large = check(&vec![0; MAX_FIRMWARE_BYTES + 1]).unwrap_err();
    assert!(matches!(reason(large), TdxError::TooLarge { .. }));
    // Code that says it is variables: there is none of the one and two of the other.
    let twice = TdxError::SectionCount { kind: "CFV", got: 2 };
    assert_eq!(reason(section(0, 24, 1)), twice);
}

#[test]
fn refuses_sections_that_are_not_variables_and_then_measured_code() {
    let refused = |fault: FirmwareFault, name: &str| matches!(fault, FirmwareFault::Section { section, .. } if section == name);
    assert!(refused(section(1, 0, 4096), "CFV"), "CFV elsewhere");
    assert!(refused(section(1, 28, 1), "CFV"), "CFV measured into MRTD");
    assert!(refused(section(0, 28, 0), "BFV"), "code not measured");
    assert!(refused(section(0, 0, 0), "BFV"), "code over the variables");
}

#[test]
fn refuses_a_store_of_another_size() {
    let mut store = store();
    store.push(0xff);
    let refused = compose(&tdvf(), &store);
    let (expected, got) = (STORE_BYTES, STORE_BYTES + 1);
    assert_eq!(refused, Err(FirmwareFault::StoreSize { expected, got }));
}

#[test]
fn refuses_a_store_that_holds_a_variable_or_is_none() {
    let at = |fault: FirmwareFault| match fault {
        FirmwareFault::NotBlank { offset, .. } => offset,
        other => panic!("{other:?}"),
    };
    // The first variable would begin with 55 aa.
    assert_eq!(at(not_blank(|s| s[0x64..0x66].copy_from_slice(&[0xaa, 0x55]))), 0x64);
    assert_eq!(at(not_blank(|s| s[0x1fff] = 0xfe)), 0x1fff);
    assert_eq!(at(not_blank(|s| s[40] = b'X')), 16);
    assert_eq!(at(not_blank(|s| s[0x48] ^= 1)), 0x48);
    assert_eq!(at(not_blank(|s| s[0x5b] = 0x7f)), 0x48);
}
