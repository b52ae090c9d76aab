//! Reads an SGX record stream (`.sgxs`): the very bytes whose SHA-256 is MRENCLAVE, as enclave
//! tools other than Gramine's exchange them. Input is attacker-controlled: a stream that hashes to
//! the right value and could never be loaded is refused all the same.

use std::collections::BTreeSet;

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

use super::error::{EnclaveError, SgxError, StreamFault};
use super::records::{CHUNK_BYTES, PAGE_BYTES, PageKind, RECORD_BYTES, Records};

/// Largest stream read, in bytes. A measured page takes 5184, so this is an enclave of 50 MiB.
pub const MAX_STREAM_BYTES: usize = 64 << 20;

/// Most pages of a stream: an enclave of 256 MiB, most of it unmeasured.
pub const MAX_STREAM_PAGES: usize = 1 << 16;

/// What a record stream builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// SHA-256 of the stream.
    pub mrenclave: Digest,
    /// Bytes of address range.
    pub size: u64,
    /// Pages of one state save area frame.
    pub ssa_frame_pages: u32,
    /// Pages added.
    pub pages: usize,
    /// Of these, thread control structures.
    pub threads: usize,
    /// Bytes measured.
    pub measured_bytes: usize,
}

impl StreamSummary {
    /// Reads a whole stream.
    ///
    /// # Errors
    /// [`SgxError::TooLarge`], [`SgxError::Enclave`] for a size no CPU accepts, and
    /// [`SgxError::Stream`] with the place of the first faulty record.
    pub fn parse(stream: &[u8]) -> Result<Self, SgxError> {
        if stream.len() > MAX_STREAM_BYTES {
            let (what, limit) = ("record stream", MAX_STREAM_BYTES);
            return Err(SgxError::TooLarge { what, limit, got: stream.len() });
        }
        let mut reader = Reader { rest: stream, at: 0 };
        let first = reader.record()?;
        let fault = |fault| SgxError::Stream { at: 0, fault };
        let Record::Create { size, ssa_frame_pages } = first else {
            return Err(fault(StreamFault::Create));
        };
        // Only for its check of the size: the measurement is the hash of the stream itself.
        Records::create(size, ssa_frame_pages)?;
        let mut summary = Self {
            mrenclave: Digest(Sha256::digest(stream).into()),
            size,
            ssa_frame_pages,
            pages: 0,
            threads: 0,
            measured_bytes: 0,
        };
        let mut added = BTreeSet::new();
        while !reader.rest.is_empty() {
            let at = reader.at;
            let record = reader.record()?;
            summary.take(record, &mut added).map_err(|fault| SgxError::Stream { at, fault })?;
        }
        summary.pages = added.len();
        if added.is_empty() {
            return Err(EnclaveError::Full { area: "no page", size }.into());
        }
        Ok(summary)
    }

    fn take(&mut self, record: Record, added: &mut BTreeSet<u64>) -> Result<(), StreamFault> {
        match record {
            Record::Create { .. } => return Err(StreamFault::Create),
            Record::Add { offset, kind } => {
                if !offset.is_multiple_of(PAGE_BYTES) || offset >= self.size {
                    return Err(StreamFault::Page(offset));
                }
                if added.len() >= MAX_STREAM_PAGES {
                    return Err(StreamFault::Pages(MAX_STREAM_PAGES));
                }
                if !added.insert(offset) {
                    return Err(StreamFault::Twice(offset));
                }
                let is_thread = usize::from(kind == PageKind::Tcs);
                self.threads = self.threads.saturating_add(is_thread);
            }
            Record::Extend { offset } => {
                let page = offset & !(PAGE_BYTES.saturating_sub(1));
                if !offset.is_multiple_of(CHUNK_BYTES as u64) || !added.contains(&page) {
                    return Err(StreamFault::Chunk(offset));
                }
                self.measured_bytes = self.measured_bytes.saturating_add(CHUNK_BYTES);
            }
        }
        Ok(())
    }
}

enum Record {
    Create { size: u64, ssa_frame_pages: u32 },
    Add { offset: u64, kind: PageKind },
    Extend { offset: u64 },
}

struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn record(&mut self) -> Result<Record, SgxError> {
        let at = self.at;
        let fault = |fault| SgxError::Stream { at, fault };
        let head: [u8; RECORD_BYTES] =
            self.take::<RECORD_BYTES>().ok_or_else(|| fault(StreamFault::Truncated))?;
        let bytes = |from: usize| {
            let bytes = head.get(from..).and_then(|rest| rest.first_chunk::<8>());
            bytes.copied().unwrap_or_default()
        };
        let word = |from: usize| u64::from_le_bytes(bytes(from));
        let zero_from = |from: usize| {
            let rest = head.get(from..).unwrap_or_default();
            if rest.iter().all(|byte| *byte == 0) {
                Ok(())
            } else {
                Err(fault(StreamFault::Reserved))
            }
        };
        match &bytes(0) {
            b"ECREATE\0" => {
                zero_from(20)?;
                // Bytes 8 to 12 are the frame size, 12 to 20 the enclave's.
                let frame = word(8) & u64::from(u32::MAX);
                let ssa_frame_pages = u32::try_from(frame).unwrap_or(u32::MAX);
                Ok(Record::Create { size: word(12), ssa_frame_pages })
            }
            b"EADD\0\0\0\0" => {
                zero_from(24)?;
                let flags = word(16);
                let kind = PageKind::from_flags(flags)
                    .ok_or_else(|| fault(StreamFault::SecInfo(flags)))?;
                Ok(Record::Add { offset: word(8), kind })
            }
            b"EEXTEND\0" => {
                zero_from(16)?;
                self.take::<CHUNK_BYTES>().ok_or_else(|| fault(StreamFault::Truncated))?;
                Ok(Record::Extend { offset: word(8) })
            }
            _ => Err(fault(StreamFault::Tag)),
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        self.at = self.at.saturating_add(N);
        Some(*head)
    }
}
