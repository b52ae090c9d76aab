//! MRENCLAVE as the CPU computes it: one SHA-256 over the records of ECREATE, EADD and EEXTEND
//! (SDM volume 3D, the operation of those three leaves). Whoever feeds it decides what is
//! measured; it refuses only what no CPU would accept.

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

use super::error::{EnclaveError, SgxError};

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// One page.
pub(super) type Page = [u8; PAGE_BYTES as usize];

/// Largest address range of an enclave: what Gramine takes with EDMM unless told otherwise.
pub const MAX_ENCLAVE_BYTES: u64 = 1 << 40;

/// Bytes of a record's head; the data of an EEXTEND follow.
pub(super) const RECORD_BYTES: usize = 64;

/// Bytes that one EEXTEND measures.
pub(super) const CHUNK_BYTES: usize = 256;

/// What a page is to the CPU: SECINFO.FLAGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// A thread control structure; it has no permissions of its own.
    Tcs,
    /// A regular page.
    Regular(Permissions),
}

/// Permissions of a regular page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // three independent bits, named as everybody names them
pub struct Permissions {
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
}

impl Permissions {
    pub(super) const R: Self = Self { read: true, write: false, execute: false };
    pub(super) const RW: Self = Self { read: true, write: true, execute: false };
    pub(super) const RWX: Self = Self { read: true, write: true, execute: true };
}

impl PageKind {
    /// SECINFO.FLAGS: permissions in bits 0 to 2, page type in bits 8 to 15.
    pub(super) const fn flags(self) -> u64 {
        match self {
            Self::Tcs => TYPE_TCS,
            Self::Regular(Permissions { read, write, execute }) => {
                TYPE_REG | read as u64 | (write as u64) << 1 | (execute as u64) << 2
            }
        }
    }

    /// The page with these flags; `None` where no such page can be added at build time.
    pub(super) const fn from_flags(flags: u64) -> Option<Self> {
        if flags == TYPE_TCS {
            return Some(Self::Tcs);
        }
        if flags & !0b111 != TYPE_REG {
            return None;
        }
        let (read, write) = (flags & 1 != 0, flags & 2 != 0);
        // EADD faults on a page that is written but not read.
        if write && !read {
            return None;
        }
        Some(Self::Regular(Permissions { read, write, execute: flags & 4 != 0 }))
    }
}

/// An enclave being built.
#[derive(Debug)]
pub(super) struct Records {
    hash: Sha256,
    size: u64,
}

impl Records {
    /// ECREATE: an address range of `size` bytes, save areas of `ssa_frame_pages` pages.
    pub(super) fn create(size: u64, ssa_frame_pages: u32) -> Result<Self, SgxError> {
        if !size.is_power_of_two() || !(MIN_ENCLAVE_BYTES..=MAX_ENCLAVE_BYTES).contains(&size) {
            return Err(EnclaveError::Size { size }.into());
        }
        let mut hash = Sha256::new();
        hash.update(b"ECREATE\0");
        hash.update(ssa_frame_pages.to_le_bytes());
        hash.update(size.to_le_bytes());
        hash.update([0; 44]);
        Ok(Self { hash, size })
    }

    /// EADD: one page at `offset`.
    pub(super) fn add(&mut self, offset: u64, kind: PageKind) -> Result<(), SgxError> {
        if !offset.is_multiple_of(PAGE_BYTES) || offset >= self.size {
            return Err(EnclaveError::Page { offset, size: self.size }.into());
        }
        self.hash.update(b"EADD\0\0\0\0");
        self.hash.update(offset.to_le_bytes());
        self.hash.update(kind.flags().to_le_bytes());
        self.hash.update([0; 40]);
        Ok(())
    }

    /// EADD, then EEXTEND over the whole page.
    pub(super) fn add_measured(
        &mut self,
        offset: u64,
        kind: PageKind,
        content: &Page,
    ) -> Result<(), SgxError> {
        self.add(offset, kind)?;
        let chunks = content.chunks_exact(CHUNK_BYTES);
        for (at, chunk) in (offset..).step_by(CHUNK_BYTES).zip(chunks) {
            self.hash.update(b"EEXTEND\0");
            self.hash.update(at.to_le_bytes());
            self.hash.update([0; 48]);
            self.hash.update(chunk);
        }
        Ok(())
    }

    /// EINIT's view: the measurement.
    pub(super) fn finish(self) -> Digest {
        Digest(self.hash.finalize().into())
    }
}

/// Two pages: no enclave has less than a TCS and code.
const MIN_ENCLAVE_BYTES: u64 = 2 * PAGE_BYTES;

const TYPE_TCS: u64 = 0x100;
const TYPE_REG: u64 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_exactly_the_documented_records() {
        let mut records = Records::create(0x4000, 1).unwrap();
        records.add(0x1000, PageKind::Tcs).unwrap();
        records.add_measured(0x2000, PageKind::Regular(Permissions::RW), &[7; 4096]).unwrap();
        let mut stream = Vec::new();
        let mut record = |tag: &[u8], fields: &[u8]| {
            let mut head = [0; 64];
            head[..tag.len()].copy_from_slice(tag);
            head[8..8 + fields.len()].copy_from_slice(fields);
            stream.extend(head);
            if tag == b"EEXTEND" {
                stream.extend([7; 256]);
            }
        };
        record(b"ECREATE", &[1, 0, 0, 0, 0, 0x40]);
        record(b"EADD", &[0, 0x10, 0, 0, 0, 0, 0, 0, 0, 1]);
        record(b"EADD", &[0, 0x20, 0, 0, 0, 0, 0, 0, 3, 2]);
        for chunk in 0..16 {
            record(b"EEXTEND", &[0, 0x20 + chunk]);
        }
        assert_eq!(records.finish(), Digest(Sha256::digest(stream).into()));
    }

    #[test]
    fn refuses_a_size_that_is_no_power_of_two() {
        for size in [0, 4096, 0x3000, MAX_ENCLAVE_BYTES + 1, MAX_ENCLAVE_BYTES * 2] {
            let refused = Records::create(size, 4).unwrap_err();
            assert_eq!(refused, SgxError::Enclave(EnclaveError::Size { size }));
        }
        assert!(Records::create(MAX_ENCLAVE_BYTES, 4).is_ok());
        assert!(Records::create(MIN_ENCLAVE_BYTES, 4).is_ok());
    }

    #[test]
    fn refuses_a_page_outside_the_enclave() {
        for offset in [0x4000, 0x1001, u64::MAX] {
            let refused = Records::create(0x4000, 4).unwrap().add(offset, PageKind::Tcs);
            assert_eq!(refused, Err(EnclaveError::Page { offset, size: 0x4000 }.into()));
        }
    }

    #[test]
    fn page_flags_round_trip_and_impossible_ones_are_refused() {
        for flags in [0x100, 0x200, 0x201, 0x203, 0x204, 0x205, 0x207] {
            assert_eq!(PageKind::from_flags(flags).map(PageKind::flags), Some(flags));
        }
        // SECS, a TCS with permissions, write without read, VA, reserved bits.
        for flags in [0, 1, 0x101, 0x202, 0x206, 0x300, 0x208, 0x210, 1 << 16 | 0x200] {
            assert_eq!(PageKind::from_flags(flags), None, "{flags:#x}");
        }
    }
}
