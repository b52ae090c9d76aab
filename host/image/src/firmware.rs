//! Composes the firmware: the code of a TDVF build behind a blank variable store.
//!
//! The distribution's TDVF carries an enrolled variable store that would refuse an unsigned boot
//! path; with a blank one secure boot is off and the kernel is started directly, its hash in RTMR1.
//! MRTD does not cover the store (RTMR0 does), so exchanging it leaves MRTD as it was. Sizes and
//! offsets come from the metadata that the virtual machine monitor itself reads.

use chrysalis_measure::tdx::{PAGE_BYTES, Section, SectionKind, Tdvf, TdxError};
use thiserror::Error;

use crate::bytes::{slice, u16_at, u32_at};

/// Why a firmware cannot be composed or is not one this crate composes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FirmwareFault {
    /// Not whole pages.
    #[error("it is {got} bytes; expected a multiple of {PAGE_BYTES}")]
    Size {
        /// Size found.
        got: usize,
    },
    /// The TDVF metadata is missing, damaged, or describes what no VMM would load.
    #[error("it has no usable TDVF metadata: {0}")]
    Metadata(#[from] TdxError),
    /// A section that is not where a flash image can have it.
    #[error("the {section} section is refused: {reason}")]
    Section {
        /// `BFV` (code) or `CFV` (variables).
        section: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A variable store of another size than the firmware's.
    #[error("the variable store is {got} bytes, the firmware's CFV section is {expected}")]
    StoreSize {
        /// Size of the section.
        expected: usize,
        /// Size found.
        got: usize,
    },
    /// Not a variable store, or one that holds a variable.
    #[error("the variable store is not blank: {reason} (byte {offset:#x})")]
    NotBlank {
        /// Offset in the store.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The two sections of a flash image: variables first, code behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of the variable store in bytes; the code follows it to the end of the file.
    pub variables: usize,
}

/// `code` with its variable store replaced by `store`.
///
/// # Errors
/// [`FirmwareFault`] if either is not what its name says, or they do not fit.
pub fn compose(code: &[u8], store: &[u8]) -> Result<Vec<u8>, FirmwareFault> {
    let layout = layout(code)?;
    if store.len() != layout.variables {
        return Err(FirmwareFault::StoreSize { expected: layout.variables, got: store.len() });
    }
    check_blank(store)?;
    let code = code.get(layout.variables..).unwrap_or_default();
    Ok([store, code].concat())
}

/// Checks that `firmware` is one [`compose`] could have written.
///
/// # Errors
/// [`FirmwareFault`].
pub fn check(firmware: &[u8]) -> Result<Layout, FirmwareFault> {
    let layout = layout(firmware)?;
    check_blank(slice(firmware, 0, layout.variables).unwrap_or_default())?;
    Ok(layout)
}

/// Reads the layout from the TDVF metadata and checks it.
fn layout(firmware: &[u8]) -> Result<Layout, FirmwareFault> {
    let tdvf = Tdvf::parse(firmware)?;
    let got = firmware.len();
    if !(got as u64).is_multiple_of(PAGE_BYTES) {
        return Err(FirmwareFault::Size { got });
    }
    let (variables, code) = (tdvf.only(SectionKind::Cfv)?, tdvf.only(SectionKind::Bfv)?);
    let bad = |section: &Section, reason| {
        Err(FirmwareFault::Section { section: section.kind.name(), reason })
    };
    if variables.offset != 0 {
        return bad(variables, "it does not begin the file");
    }
    if variables.measured {
        return bad(variables, "it is measured into MRTD, which must not depend on it");
    }
    if code.offset != variables.file_size || code.offset.checked_add(code.file_size) != Some(got) {
        return bad(code, "it does not follow CFV to the end of the file");
    }
    if !code.measured {
        return bad(code, "it is not measured into MRTD");
    }
    Ok(Layout { variables: variables.file_size })
}

/// A firmware volume whose variable store has a header and nothing after it but erased flash
/// (UEFI PI 1.7 vol. 3, 3.2.1; edk2 `VARIABLE_STORE_HEADER`).
fn check_blank(store: &[u8]) -> Result<(), FirmwareFault> {
    let bad = |offset, reason| Err(FirmwareFault::NotBlank { offset, reason });
    if slice(store, 16, 16) != Some(&NV_DATA_FS_GUID) || slice(store, 40, 4) != Some(b"_FVH") {
        return bad(16, "no firmware volume for variables");
    }
    let header = usize::from(u16_at(store, 48).unwrap_or(u16::MAX));
    if slice(store, header, 16) != Some(&VARIABLE_GUID) {
        return bad(header, "no store for authenticated variables");
    }
    let size = header.checked_add(16).and_then(|at| u32_at(store, at)).unwrap_or(u32::MAX);
    let first = header.saturating_add(STORE_HEADER_BYTES);
    let end = header.saturating_add(size as usize);
    let Some(body) = store.get(first..end) else { return bad(header, "a damaged header") };
    match body.iter().position(|b| *b != ERASED) {
        None => Ok(()),
        Some(at) => bad(first.saturating_add(at), "a variable, or what is left of one"),
    }
}

const ERASED: u8 = 0xff;
const STORE_HEADER_BYTES: usize = 28;

/// `fff12b8d-7696-4c8b-a985-2747075b4f50`.
const NV_DATA_FS_GUID: [u8; 16] = [
    0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50,
];
/// `aaf32c78-947b-439a-a180-2e144ec37792`.
const VARIABLE_GUID: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];
