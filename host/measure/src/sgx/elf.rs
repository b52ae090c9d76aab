//! Reads what Gramine maps of `libpal.so`: its PT_LOAD segments and its entry point. The file is
//! attacker-controlled until its hash is pinned; nothing here trusts an offset or a length.
//!
//! A hundred lines instead of an ELF crate: what is wanted are six fields of two structures
//! (System V gABI, "ELF Header" and "Program Header"), and a refusal for every other file.

use super::error::{ElfError, SgxError};
use super::records::{PAGE_BYTES, Page, Permissions};

/// Largest `libpal.so` read, in bytes; Gramine's own has about 1 MiB.
pub const MAX_LIBPAL_BYTES: usize = 64 << 20;

/// Largest span of its segments in memory, in bytes.
pub const MAX_LIBPAL_SPAN: u64 = 256 << 20;

/// Most program headers read; Gramine's own has about ten.
pub const MAX_PROGRAM_HEADERS: u16 = 64;

/// A `libpal.so` that can be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PalImage<'a> {
    entry: u64,
    span: u64,
    segments: Vec<Segment<'a>>,
}

/// One PT_LOAD segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    /// Address of its first byte.
    start: u64,
    /// Its bytes from the file; the rest of its memory is zero.
    data: &'a [u8],
    /// First page, relative to the start of the image.
    pub(super) first_page: u64,
    /// End of its last page.
    pub(super) end_page: u64,
    /// What its pages may do.
    pub(super) permissions: Permissions,
}

impl<'a> PalImage<'a> {
    /// Reads a shared object.
    ///
    /// # Errors
    /// [`SgxError::TooLarge`] and [`SgxError::Elf`].
    pub fn parse(file: &'a [u8]) -> Result<Self, SgxError> {
        if file.len() > MAX_LIBPAL_BYTES {
            let (what, limit) = ("libpal.so", MAX_LIBPAL_BYTES);
            return Err(SgxError::TooLarge { what, limit, got: file.len() });
        }
        let header = Fields::at(file, 0, EHDR_BYTES, "ELF header")?;
        for (field, expected, got) in [
            ("magic", 0x464c_457f, header.u32(0)),
            ("class and encoding", 0x0001_0102, header.u32(4) & 0x00ff_ffff),
            ("type", ET_DYN, u32::from(header.u16(16))),
            ("machine", EM_X86_64, u32::from(header.u16(18))),
            ("program header size", PHDR_BYTES as u32, u32::from(header.u16(54))),
        ] {
            if expected != got {
                let (expected, got) = (u64::from(expected), u64::from(got));
                return Err(ElfError::Header { field, expected, got }.into());
            }
        }
        let count = header.u16(56);
        if count > MAX_PROGRAM_HEADERS {
            let limit = MAX_PROGRAM_HEADERS;
            return Err(ElfError::Headers { limit, got: count }.into());
        }
        let mut at = header.u64(32);
        let mut segments: Vec<Segment<'a>> = Vec::new();
        for _ in 0..count {
            let program = Fields::at(file, at, PHDR_BYTES, "program headers")?;
            at = at.saturating_add(PHDR_BYTES as u64);
            if program.u32(0) != PT_LOAD {
                continue;
            }
            let before = segments.last().map_or(0, |last| last.end_page);
            let segment = Segment::read(file, &program, before)
                .map_err(|fault| ElfError::Segment { index: segments.len(), fault })?;
            segments.push(segment);
        }
        let (entry, span) = (header.u64(24), segments.last().map_or(0, |last| last.end_page));
        match segments.first() {
            None => return Err(ElfError::NoSegment.into()),
            // Gramine places the image where its first page would be; an image that asks for
            // another address is not its loader.
            Some(first) if first.first_page != 0 => {
                let fault = "it does not begin at address 0";
                return Err(ElfError::Segment { index: 0, fault }.into());
            }
            Some(_) => {}
        }
        let executable =
            segments.iter().any(|s| s.permissions.execute && s.range().contains(&entry));
        if !executable {
            return Err(ElfError::Entry { entry }.into());
        }
        Ok(Self { entry, span, segments })
    }

    /// Offset of the first instruction.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.entry
    }

    /// Bytes of memory from the first page to the end of the last.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.span
    }

    pub(super) fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }
}

impl<'a> Segment<'a> {
    /// `before` is the end of the previous segment's last page.
    fn read(file: &'a [u8], program: &Fields<'_>, before: u64) -> Result<Self, &'static str> {
        let (flags, offset) = (program.u32(4), program.u64(8));
        let (start, file_bytes, memory_bytes) = (program.u64(16), program.u64(32), program.u64(40));
        if memory_bytes == 0 {
            return Err("it is empty");
        }
        if file_bytes > memory_bytes {
            return Err("it has more bytes in the file than in memory");
        }
        // Pages are mapped, so a byte keeps its place within a page.
        if offset % PAGE_BYTES != start % PAGE_BYTES {
            return Err("its file offset and its address lie differently in a page");
        }
        let data = slice(file, offset, file_bytes).ok_or("it lies outside the file")?;
        let end = start.checked_add(memory_bytes).ok_or("its address wraps around")?;
        let end_page =
            end.checked_next_multiple_of(PAGE_BYTES).ok_or("its address wraps around")?;
        if end_page > MAX_LIBPAL_SPAN {
            return Err("it is too large, or too far from the others");
        }
        let first_page = start & !(PAGE_BYTES.saturating_sub(1));
        if first_page < before {
            return Err("it shares a page with the one before it, or comes before it");
        }
        let permissions =
            Permissions { read: flags & 4 != 0, write: flags & 2 != 0, execute: flags & 1 != 0 };
        if permissions.write && !permissions.read {
            return Err("it is writable and not readable, which no enclave page can be");
        }
        Ok(Self { start, data, first_page, end_page, permissions })
    }

    fn range(&self) -> core::ops::Range<u64> {
        self.start..self.end_page
    }

    /// The page at `page`, an address of this segment: file bytes in their place, zeros around.
    pub(super) fn page(&self, page: u64) -> Page {
        let mut out = [0; PAGE_BYTES as usize];
        // The part of the page before the data; not zero on the first page alone.
        let lead = usize::try_from(self.start.saturating_sub(page)).unwrap_or(usize::MAX);
        let skip = usize::try_from(page.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let from = self.data.get(skip..).unwrap_or_default();
        for (byte, data) in out.iter_mut().skip(lead).zip(from) {
            *byte = *data;
        }
        out
    }
}

/// A structure whose length was checked: every fixed offset below is inside it.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn at(file: &'a [u8], at: u64, len: usize, what: &'static str) -> Result<Self, ElfError> {
        slice(file, at, len as u64).map(Self).ok_or(ElfError::Truncated(what))
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

fn slice(file: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(at).ok()?;
    let end = usize::try_from(at.checked_add(len)?).ok()?;
    file.get(start..end)
}

const EHDR_BYTES: usize = 64;
const PHDR_BYTES: usize = 56;
const ET_DYN: u32 = 3;
const EM_X86_64: u32 = 62;
const PT_LOAD: u32 = 1;
