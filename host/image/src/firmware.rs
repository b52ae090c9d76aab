//! Composes the firmware: the code of a TDVF build behind a blank variable store.
//!
//! The distribution's TDVF carries an enrolled variable store that would refuse an unsigned boot
//! path; with a blank one secure boot is off and the kernel is started directly, its hash in RTMR1.
//! MRTD does not cover the store (RTMR0 does), so exchanging it leaves MRTD as it was. Sizes and
//! offsets come from the metadata that the virtual machine monitor itself reads.

use thiserror::Error;

use crate::bytes::{slice, u16_at, u32_at, u64_at};

/// Why a firmware cannot be composed or is not one this crate composes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FirmwareFault {
    /// Over or under the size limits.
    #[error("it is {got} bytes; expected a multiple of 4096 up to {MAX_FIRMWARE_BYTES}")]
    Size {
        /// Size found.
        got: usize,
    },
    /// The table of GUIDs at the end, or the TDVF metadata it points to, is missing or damaged.
    #[error("it has no usable TDVF metadata: {reason}")]
    Metadata {
        /// What is wrong.
        reason: &'static str,
    },
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
    let got = firmware.len();
    if got == 0 || got > MAX_FIRMWARE_BYTES || !got.is_multiple_of(PAGE_BYTES) {
        return Err(FirmwareFault::Size { got });
    }
    let sections = sections(firmware)?;
    let (variables, code) = (only(&sections, CFV, "CFV")?, only(&sections, BFV, "BFV")?);
    let bad = |section, reason| Err(FirmwareFault::Section { section, reason });
    if variables.offset != 0 || variables.size == 0 {
        return bad("CFV", "it does not begin the file");
    }
    if variables.measured {
        return bad("CFV", "it is measured into MRTD, which must not depend on it");
    }
    if code.offset != variables.size || code.offset.checked_add(code.size) != Some(got) {
        return bad("BFV", "it does not follow CFV to the end of the file");
    }
    if !code.measured {
        return bad("BFV", "it is not measured into MRTD");
    }
    Ok(Layout { variables: variables.size })
}

struct Section {
    kind: u32,
    offset: usize,
    size: usize,
    measured: bool,
}

fn only<'a>(
    sections: &'a [Section],
    kind: u32,
    section: &'static str,
) -> Result<&'a Section, FirmwareFault> {
    let mut of_kind = sections.iter().filter(|s| s.kind == kind);
    match (of_kind.next(), of_kind.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(FirmwareFault::Section { section, reason: "it is missing" }),
        _ => Err(FirmwareFault::Section { section, reason: "it is there twice" }),
    }
}

/// The section table of the TDVF descriptor (Intel TDX Virtual Firmware Design Guide, 11).
fn sections(firmware: &[u8]) -> Result<Vec<Section>, FirmwareFault> {
    let bad = |reason| FirmwareFault::Metadata { reason };
    let from_end = metadata_offset(firmware)?;
    let at = firmware.len().checked_sub(from_end).ok_or_else(|| bad("it lies before the file"))?;
    if slice(firmware, at, 4) != Some(b"TDVF") {
        return Err(bad("no TDVF signature"));
    }
    let field = |offset: usize| {
        let number = at.checked_add(offset).and_then(|o| u32_at(firmware, o));
        number.ok_or_else(|| bad("it ends inside the descriptor"))
    };
    let (length, version, count) = (field(4)?, field(8)?, field(12)?);
    if version != 1 || count == 0 || count > MAX_SECTIONS {
        return Err(bad("another version or count of sections"));
    }
    if count.checked_mul(32).and_then(|n| n.checked_add(16)) != Some(length) {
        return Err(bad("its length is not that of its sections"));
    }
    (0..count as usize)
        .map(|index| {
            let start = index.checked_mul(32).and_then(|n| n.checked_add(at)?.checked_add(16));
            let entry = start.and_then(|s| slice(firmware, s, 32));
            let entry = entry.ok_or_else(|| bad("it ends inside a section"))?;
            section(entry).ok_or_else(|| bad("a section is damaged"))
        })
        .collect()
}

/// `DataOffset u32, RawDataSize u32, MemoryAddress u64, MemoryDataSize u64, Type u32,
/// Attributes u32`.
fn section(entry: &[u8]) -> Option<Section> {
    let size = u32_at(entry, 4)?;
    let kind = u32_at(entry, 24)?;
    // A section of the file that is loaded in part would be measured beyond its bytes.
    if matches!(kind, BFV | CFV) && u64_at(entry, 16)? != u64::from(size) {
        return None;
    }
    Some(Section {
        kind,
        offset: u32_at(entry, 0)? as usize,
        size: size as usize,
        measured: u32_at(entry, 28)? & ATTRIBUTE_EXTEND != 0,
    })
}

/// Walks the GUID table backwards from 32 bytes before the end. An entry is
/// `data, u16 length of all of it, 16-byte GUID`; the last one spans the table.
fn metadata_offset(firmware: &[u8]) -> Result<usize, FirmwareFault> {
    let bad = |reason| FirmwareFault::Metadata { reason };
    let short = || bad("the GUID table is damaged");
    let entry = |end: usize| -> Option<(usize, &[u8])> {
        let length = usize::from(u16_at(firmware, end.checked_sub(18)?)?);
        Some((length, slice(firmware, end.checked_sub(16)?, 16)?))
    };
    let mut end = firmware.len().checked_sub(32).ok_or_else(short)?;
    let (table, footer) = entry(end).ok_or_else(short)?;
    if footer != TABLE_FOOTER_GUID {
        return Err(bad("no GUID table"));
    }
    let start = end.checked_sub(table).ok_or_else(short)?;
    end = end.checked_sub(18).ok_or_else(short)?;
    while end > start {
        let (length, guid) = entry(end).ok_or_else(short)?;
        let begin = end.checked_sub(length).filter(|b| length >= 18 && *b >= start);
        let begin = begin.ok_or_else(short)?;
        if guid == METADATA_GUID {
            let offset = u32_at(firmware, begin).filter(|_| length >= 22).ok_or_else(short)?;
            return Ok(offset as usize);
        }
        end = begin;
    }
    Err(bad("the GUID table does not point to it"))
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

/// Largest firmware, in bytes: a flash image has 2, 4 or 8 MiB.
pub const MAX_FIRMWARE_BYTES: usize = 16 << 20;

const PAGE_BYTES: usize = 4096;
const MAX_SECTIONS: u32 = 32;
const BFV: u32 = 0;
const CFV: u32 = 1;
/// Attribute bit 0: `MR.EXTEND`.
const ATTRIBUTE_EXTEND: u32 = 1;
const ERASED: u8 = 0xff;
const STORE_HEADER_BYTES: usize = 28;

/// `96b582de-1fb2-45f7-baea-a366c55a082d`, as it lies in memory.
const TABLE_FOOTER_GUID: &[u8] = &[
    0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
];
/// `e47a6535-984a-4798-865e-4685a7bf8ec2`.
const METADATA_GUID: &[u8] = &[
    0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
];
/// `fff12b8d-7696-4c8b-a985-2747075b4f50`.
const NV_DATA_FS_GUID: [u8; 16] = [
    0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50,
];
/// `aaf32c78-947b-439a-a180-2e144ec37792`.
const VARIABLE_GUID: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];
