//! TDVF metadata: which parts of a firmware file go where, and which are measured. The file may
//! be anybody's; sections that a VMM would refuse or measure in an undefined way are refused here.
//!
//! Layout: Intel TDX Virtual Firmware Design Guide, "TDVF Descriptor"; GUIDed table: edk2
//! `OvmfPkg/ResetVector`.

use super::bytes::{array, bounded, size_at, slice, u16_at, u32_at, u64_at};
use super::error::TdxError;

/// A firmware file whose metadata holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tdvf<'a> {
    image: &'a [u8],
    sections: Vec<Section>,
}

/// Type of a section. Upstream QEMU loads no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// Boot firmware volume: the code.
    Bfv,
    /// Configuration firmware volume: the variable store.
    Cfv,
    /// Where the VMM writes the hand-off blocks.
    TdHob,
    /// Memory the firmware uses before it knows the memory map.
    TempMem,
}

/// One section of the metadata table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Type.
    pub kind: SectionKind,
    /// Offset of its bytes in the file.
    pub offset: usize,
    /// Bytes in the file; 0 for memory that starts as zeros.
    pub file_size: usize,
    /// Guest physical address.
    pub address: u64,
    /// Bytes in memory; a multiple of [`PAGE_BYTES`].
    pub size: u64,
    /// Contents are measured (`MR.EXTEND`).
    pub measured: bool,
    /// Pages are added at run time (`PAGE.AUG`), so not even their addresses are in MRTD.
    pub augmented: bool,
}

impl<'a> Tdvf<'a> {
    /// Reads and checks the metadata of a firmware file.
    ///
    /// # Errors
    /// [`TdxError`] for a file that is no TDVF, or that no supported VMM would load.
    pub fn parse(image: &'a [u8]) -> Result<Self, TdxError> {
        bounded("firmware", image, MAX_FIRMWARE_BYTES)?;
        let descriptor = descriptor_offset(image)?;
        let count = section_count(image, descriptor)?;
        let table = descriptor.saturating_add(DESCRIPTOR_BYTES);
        let mut sections = Vec::with_capacity(count);
        for index in 0..count {
            let at = table.saturating_add(index.saturating_mul(SECTION_BYTES));
            let entry = slice("TDVF section", image, at, SECTION_BYTES)?;
            sections.push(section(index, entry, image.len())?);
        }
        check_together(&sections)?;
        Ok(Self { image, sections })
    }

    /// Sections in table order, which is the order they are measured in.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The bytes a section has in the file.
    #[must_use]
    pub fn contents(&self, section: &Section) -> &'a [u8] {
        let end = section.offset.saturating_add(section.file_size);
        // `parse` has seen that the range is inside the file.
        self.image.get(section.offset..end).unwrap_or_default()
    }

    /// The whole file.
    #[must_use]
    pub const fn image(&self) -> &'a [u8] {
        self.image
    }

    /// The only section of a kind.
    ///
    /// # Errors
    /// [`TdxError::SectionCount`].
    pub fn only(&self, kind: SectionKind) -> Result<&Section, TdxError> {
        let mut of_kind = self.sections.iter().filter(|s| s.kind == kind);
        match (of_kind.next(), of_kind.count()) {
            (Some(section), 0) => Ok(section),
            (first, more) => Err(TdxError::SectionCount {
                kind: kind.name(),
                got: more.saturating_add(usize::from(first.is_some())),
            }),
        }
    }
}

impl SectionKind {
    /// Name in the design guide.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bfv => "BFV",
            Self::Cfv => "CFV",
            Self::TdHob => "TD_HOB",
            Self::TempMem => "TempMem",
        }
    }
}

/// Walks the GUIDed table backwards from its footer. Entry: data, `u16` length of the whole entry,
/// GUID.
fn descriptor_offset(image: &[u8]) -> Result<usize, TdxError> {
    const WHAT: &str = "GUIDed table";
    let malformed = |at, reason| TdxError::Malformed { what: WHAT, at, reason };
    let footer = image.len().checked_sub(FOOTER_FROM_END).and_then(|end| end.checked_sub(ENTRY));
    let footer = footer.ok_or(TdxError::Truncated {
        what: WHAT,
        at: 0,
        needed: FOOTER_FROM_END.saturating_add(ENTRY),
        size: image.len(),
    })?;
    if array::<16>(WHAT, image, footer.saturating_add(2))? != FOOTER_GUID {
        return Err(malformed(footer, "there is no footer; this is no OVMF or TDVF file"));
    }
    let size = usize::from(u16_at(WHAT, image, footer)?);
    let end = footer.saturating_add(ENTRY);
    let start =
        end.checked_sub(size).ok_or_else(|| malformed(footer, "it is longer than the file"))?;
    if start > footer {
        return Err(malformed(footer, "it is shorter than its own footer"));
    }
    let mut at = footer;
    let mut found = None;
    while at > start {
        let entry = at.checked_sub(ENTRY).filter(|e| *e >= start);
        let entry = entry.ok_or_else(|| malformed(at, "an entry begins before the table"))?;
        let size = usize::from(u16_at(WHAT, image, entry)?);
        let data = at.checked_sub(size).filter(|d| *d >= start && *d <= entry);
        let data = data.ok_or_else(|| malformed(entry, "an entry has an impossible length"))?;
        if array::<16>(WHAT, image, entry.saturating_add(2))? == METADATA_GUID {
            if found.is_some() {
                return Err(malformed(entry, "TDVF metadata is named twice"));
            }
            if entry.saturating_sub(data) != 4 {
                return Err(malformed(entry, "the offset of the TDVF metadata is not 4 bytes"));
            }
            found = Some(size_at(WHAT, image, data)?);
        }
        at = data;
    }
    let from_end = found.ok_or_else(|| malformed(start, "it names no TDVF metadata"))?;
    image
        .len()
        .checked_sub(from_end)
        .ok_or_else(|| malformed(start, "the TDVF metadata is before the start of the file"))
}

fn section_count(image: &[u8], at: usize) -> Result<usize, TdxError> {
    const WHAT: &str = "TDVF descriptor";
    let malformed = |reason| TdxError::Malformed { what: WHAT, at, reason };
    let head = slice(WHAT, image, at, DESCRIPTOR_BYTES)?;
    if array::<4>(WHAT, head, 0)? != *b"TDVF" {
        return Err(malformed("its signature is not TDVF"));
    }
    if u32_at(WHAT, head, 8)? != 1 {
        return Err(malformed("its version is not 1"));
    }
    let count = size_at(WHAT, head, 12)?;
    if count > MAX_SECTIONS {
        return Err(TdxError::TooLarge { what: "TDVF sections", limit: MAX_SECTIONS, got: count });
    }
    if count == 0 {
        return Err(malformed("it has no sections"));
    }
    let expected = count.saturating_mul(SECTION_BYTES).saturating_add(DESCRIPTOR_BYTES);
    if size_at(WHAT, head, 4)? != expected {
        return Err(malformed("its length is not that of its sections"));
    }
    Ok(count)
}

fn section(index: usize, entry: &[u8], file: usize) -> Result<Section, TdxError> {
    const WHAT: &str = "TDVF section";
    let refuse = |reason| Err(TdxError::Section { index, reason });
    let offset = size_at(WHAT, entry, 0)?;
    let file_size = size_at(WHAT, entry, 4)?;
    let address = u64_at(WHAT, entry, 8)?;
    let size = u64_at(WHAT, entry, 16)?;
    let attributes = u32_at(WHAT, entry, 28)?;
    let kind = match u32_at(WHAT, entry, 24)? {
        0 => SectionKind::Bfv,
        1 => SectionKind::Cfv,
        2 => SectionKind::TdHob,
        3 => SectionKind::TempMem,
        _ => return refuse("its type is none of BFV, CFV, TD_HOB and TempMem"),
    };
    let (measured, augmented) = (attributes & ATTR_EXTEND != 0, attributes & ATTR_AUG != 0);
    if attributes & !(ATTR_EXTEND | ATTR_AUG) != 0 {
        return refuse("it has attributes without a meaning");
    }
    if measured && augmented {
        return refuse("it asks to be measured and to be added at run time");
    }
    if size == 0 || size % PAGE_BYTES != 0 || address % PAGE_BYTES != 0 {
        return refuse("it is empty or not made of whole pages");
    }
    if address.checked_add(size).is_none() {
        return refuse("it reaches over the end of the address space");
    }
    if size > MAX_SECTION_BYTES {
        return refuse("it is larger than 64 MiB");
    }
    if offset.checked_add(file_size).is_none_or(|end| end > file) {
        return refuse("its bytes are outside the file");
    }
    let backed = u64::try_from(file_size) == Ok(size);
    match kind {
        // A partly backed section would be measured with zeros that depend on the VMM.
        SectionKind::Bfv | SectionKind::Cfv if !backed => {
            return refuse("its size in the file is not its size in memory");
        }
        SectionKind::TdHob | SectionKind::TempMem if file_size != 0 => {
            return refuse("it has bytes in the file, where it must be empty memory");
        }
        SectionKind::TdHob | SectionKind::TempMem if measured => {
            return refuse("it asks to be measured, and its contents are not in the file");
        }
        _ => {}
    }
    Ok(Section { kind, offset, file_size, address, size, measured, augmented })
}

fn check_together(sections: &[Section]) -> Result<(), TdxError> {
    for (second, b) in sections.iter().enumerate() {
        for (first, a) in sections.iter().enumerate().take(second) {
            let apart = a.address.saturating_add(a.size) <= b.address
                || b.address.saturating_add(b.size) <= a.address;
            if !apart {
                return Err(TdxError::SectionOverlap { first, second });
            }
        }
    }
    Ok(())
}

/// Largest firmware file, in bytes: four times Debian's.
pub const MAX_FIRMWARE_BYTES: usize = 16 << 20;

/// Most sections: Debian's firmware has 6, td-shim's 10.
pub const MAX_SECTIONS: usize = 16;

/// Largest section in memory, in bytes; bounds the work of one measurement.
pub const MAX_SECTION_BYTES: u64 = 64 << 20;

/// A page of guest memory, in bytes.
pub const PAGE_BYTES: u64 = 4096;

/// The footer ends this many bytes before the end of the file.
const FOOTER_FROM_END: usize = 0x20;
/// `u16` length and GUID of an entry.
const ENTRY: usize = 18;
const DESCRIPTOR_BYTES: usize = 16;
const SECTION_BYTES: usize = 32;
const ATTR_EXTEND: u32 = 1;
const ATTR_AUG: u32 = 2;

/// 96b582de-1fb2-45f7-baea-a366c55a082d.
const FOOTER_GUID: [u8; 16] = [
    0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
];

/// e47a6535-984a-4798-865e-4685a7bf8ec2.
const METADATA_GUID: [u8; 16] = [
    0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
];
