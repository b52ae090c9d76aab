//! Firmware composition: the layout comes from the metadata, and every way it can lie is refused.

use super::support::{DESCRIPTOR_FROM_END, STORE_BYTES, store, tdvf};
use crate::firmware::{FirmwareFault, MAX_FIRMWARE_BYTES, check, compose};

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
fn refuses_sizes_that_no_flash_image_has() {
    let size =
        |len: usize| matches!(check(&vec![0; len]), Err(FirmwareFault::Size { got }) if got == len);
    assert!(size(0));
    assert!(size(4097));
    assert!(size(MAX_FIRMWARE_BYTES + 4096));
    assert!(!size(MAX_FIRMWARE_BYTES));
}

#[test]
fn refuses_a_firmware_without_usable_metadata() {
    let metadata = |fault: FirmwareFault| matches!(fault, FirmwareFault::Metadata { .. });
    assert!(metadata(with(|f| f.fill(0))));
    let end = tdvf().len() - 32;
    assert!(metadata(with(|f| f[end - 1] ^= 1)), "footer");
    assert!(metadata(with(|f| f[end - 18] = 18)), "table without entries");
    assert!(metadata(with(|f| f[end - 18..end - 16].fill(0xff))), "table longer than the file");
    assert!(metadata(with(|f| f[end - 18 - 18] = 0)), "an entry of no length never ends");
    assert!(metadata(with(|f| f[end - 18 - 22 - 1] ^= 1)), "no entry points to it");
    assert!(metadata(with(|f| f[end - 18 - 22 - 19] = 0xff)), "it points before the file");
    assert!(metadata(descriptor(0, 0)), "signature");
    assert!(metadata(descriptor(4, 17)), "length");
    assert!(metadata(descriptor(8, 2)), "version");
    assert!(metadata(descriptor(12, 0)), "no section");
    assert!(metadata(descriptor(12, u32::MAX)), "four billion sections");
    assert!(metadata(section(0, 16, 1)), "a section loaded in part");
}

#[test]
fn refuses_sections_that_are_not_variables_and_then_measured_code() {
    let refused = |fault: FirmwareFault, name: &str| matches!(fault, FirmwareFault::Section { section, .. } if section == name);
    assert!(refused(section(1, 24, 3), "CFV"), "no CFV");
    assert!(refused(section(2, 24, 1), "CFV"), "two CFVs");
    assert!(refused(section(0, 24, 3), "BFV"), "no BFV");
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
