//! The Authenticode digest of a PE image, which is what firmware measures when it loads a kernel.
//! The file may be anybody's. Where the firmware's algorithm would leave a byte out or read one
//! twice, the file is refused: its digest would not name it.
//!
//! Layout and algorithm: Microsoft PE/COFF specification, "Attribute Certificate Table", and
//! Authenticode, "Calculating the PE image hash".

use sha2::{Digest, Sha384};

use super::bytes::{bounded, size_at, slice, u16_at};
use super::digest::Sha384Digest;
use super::error::TdxError;

/// The Authenticode SHA-384 of a PE32+ image for x86-64.
///
/// # Errors
/// [`TdxError`] for another format and for an image with gaps, overlaps or bytes after its
/// signature.
pub fn authenticode_sha384(image: &[u8]) -> Result<Sha384Digest, TdxError> {
    let mut hash = Sha384::new();
    for part in authenticode_parts(image)? {
        hash.update(part);
    }
    Ok(Sha384Digest(hash.finalize().into()))
}

/// The byte ranges that an Authenticode digest covers, in order.
pub(crate) fn authenticode_parts(image: &[u8]) -> Result<Vec<&[u8]>, TdxError> {
    bounded("kernel", image, MAX_KERNEL_BYTES)?;
    let pe = Pe::parse(image)?;
    let checksum = pe.optional.saturating_add(CHECKSUM_AT);
    let security = pe.optional.saturating_add(SECURITY_AT);
    let between = |from: usize, to: usize| slice(WHAT, image, from, to.saturating_sub(from));
    Ok(vec![
        between(0, checksum)?,
        between(checksum.saturating_add(4), security)?,
        between(security.saturating_add(8), pe.headers)?,
        // Sections stand in a row behind the headers, and everything up to the certificates is
        // hashed too: in file order that is one range.
        between(pe.headers, pe.end)?,
    ])
}

struct Pe {
    /// Offset of the optional header.
    optional: usize,
    /// `SizeOfHeaders`.
    headers: usize,
    /// Where the certificate table begins, or the file ends.
    end: usize,
}

impl Pe {
    fn parse(image: &[u8]) -> Result<Self, TdxError> {
        let malformed = |at, reason| TdxError::Malformed { what: WHAT, at, reason };
        if slice(WHAT, image, 0, 2)? != b"MZ" {
            return Err(malformed(0, "it is no PE file; is this a vmlinux, or compressed?"));
        }
        let pe = size_at(WHAT, image, 0x3c)?;
        if slice(WHAT, image, pe, 4)? != b"PE\0\0" {
            return Err(malformed(
                pe,
                "it has no PE signature; was the kernel built with EFI stub?",
            ));
        }
        if u16_at(WHAT, image, pe.saturating_add(4))? != MACHINE_X86_64 {
            return Err(malformed(pe, "it is not for x86-64"));
        }
        let count = usize::from(u16_at(WHAT, image, pe.saturating_add(6))?);
        if count == 0 {
            return Err(malformed(pe, "it has no sections"));
        }
        if count > MAX_PE_SECTIONS {
            let limit = MAX_PE_SECTIONS;
            return Err(TdxError::TooLarge { what: "PE sections", limit, got: count });
        }
        let optional = pe.saturating_add(24);
        let optional_size = usize::from(u16_at(WHAT, image, pe.saturating_add(20))?);
        if u16_at(WHAT, image, optional)? != PE32_PLUS {
            return Err(malformed(optional, "it is not PE32+"));
        }
        let directories = size_at(WHAT, image, optional.saturating_add(108))?;
        let table_end = SECURITY_AT.saturating_add(8);
        if directories <= SECURITY_INDEX || optional_size < table_end {
            return Err(malformed(optional, "it has no place for a certificate table"));
        }
        let sections = optional.saturating_add(optional_size);
        let headers = size_at(WHAT, image, optional.saturating_add(60))?;
        let table = slice(WHAT, image, sections, count.saturating_mul(PE_SECTION_BYTES))?;
        if sections.saturating_add(table.len()) > headers || headers > image.len() {
            return Err(malformed(optional, "its headers do not end where they say"));
        }
        let end = certificates(image, optional)?;
        let body = sections_end(table, headers)?;
        if body > end {
            return Err(malformed(sections, "its sections reach over the end"));
        }
        Ok(Self { optional, headers, end })
    }
}

/// Where the certificate table begins: it must be the last thing in the file.
fn certificates(image: &[u8], optional: usize) -> Result<usize, TdxError> {
    let entry = optional.saturating_add(SECURITY_AT);
    let offset = size_at(WHAT, image, entry)?;
    let size = size_at(WHAT, image, entry.saturating_add(4))?;
    match (offset, size) {
        (0, 0) => Ok(image.len()),
        _ if offset.checked_add(size) == Some(image.len()) && size != 0 => Ok(offset),
        _ => Err(TdxError::Malformed {
            what: WHAT,
            at: entry,
            reason: "its certificate table is not the end of the file",
        }),
    }
}

/// The end of the last section. In file order the first must begin where the headers end and each
/// next one where its predecessor ends.
fn sections_end(table: &[u8], headers: usize) -> Result<usize, TdxError> {
    let mut sections = Vec::new();
    for entry in table.chunks_exact(PE_SECTION_BYTES) {
        let (size, start) = (size_at(WHAT, entry, 16)?, size_at(WHAT, entry, 20)?);
        if size != 0 {
            sections.push((start, size));
        }
    }
    sections.sort_unstable();
    let mut end = headers;
    for (start, size) in sections {
        if start != end {
            let reason = "its sections overlap, or leave a gap";
            return Err(TdxError::Malformed { what: WHAT, at: start, reason });
        }
        end = start.saturating_add(size);
    }
    Ok(end)
}

/// Largest kernel, in bytes: ten times Debian's.
pub const MAX_KERNEL_BYTES: usize = 256 << 20;

/// Most sections; the specification's loader limit.
pub const MAX_PE_SECTIONS: usize = 96;

const WHAT: &str = "kernel";
const MACHINE_X86_64: u16 = 0x8664;
const PE32_PLUS: u16 = 0x20b;
const CHECKSUM_AT: usize = 64;
const SECURITY_INDEX: usize = 4;
/// Five directory entries of 8 bytes from offset 112.
const SECURITY_AT: usize = 112 + 8 * SECURITY_INDEX;
const PE_SECTION_BYTES: usize = 40;
