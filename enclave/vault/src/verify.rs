//! Verifying a bundle from an untrusted disk in bounded memory, for operators and auditors: unlike
//! loading, it goes on after a wrong chunk and reports all of them.

use std::io::Read;

use chrysalis_wire::Digest;
use serde::Serialize;

use crate::bundle::Inspection;
use crate::chunks::{ChunkChecker, ChunkReader};
use crate::error::{ChunkFault, VaultError};
use crate::limits::MAX_REPORTED_FAULTS;
use crate::pipeline;

/// What `verify` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Whether every chunk is the one that was packed.
    pub intact: bool,
    /// The root of this bundle.
    pub model_root: Digest,
    /// Whether the caller gave the root it expects. If not, the bundle is whole, but it may be
    /// another model.
    pub root_pinned: bool,
    /// Whether the bundle is sealed; if so, every segment was opened.
    pub sealed: bool,
    /// Chunks read.
    pub chunks: u64,
    /// Bytes of content read.
    pub content_bytes: u64,
    /// Number of wrong chunks.
    pub wrong_chunks: u64,
    /// The first [`MAX_REPORTED_FAULTS`] of them, in order.
    pub faults: Vec<ChunkFault>,
}

impl VerifyReport {
    pub(crate) fn new(inspection: &Inspection, root_pinned: bool, faults: Faults) -> Self {
        Self {
            intact: faults.count == 0,
            model_root: inspection.model_root,
            root_pinned,
            sealed: inspection.sealed,
            chunks: inspection.chunks,
            content_bytes: inspection.content_bytes,
            wrong_chunks: faults.count,
            faults: faults.first,
        }
    }

    /// The report as a result, for callers that only need whole or refused.
    ///
    /// # Errors
    /// The first wrong chunk.
    pub fn into_result(self) -> Result<(), VaultError> {
        self.faults.into_iter().next().map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// Wrong chunks: how many, and the first of them.
#[derive(Default)]
pub(crate) struct Faults {
    count: u64,
    first: Vec<ChunkFault>,
}

pub(crate) fn run<R: Read>(
    reader: &mut ChunkReader<R>,
    checker: &ChunkChecker,
    progress: &dyn Fn(u64, u64),
) -> Result<Faults, VaultError> {
    let mut faults = Faults::default();
    let total = checker.layout().total();
    pipeline::run(
        checker.layout(),
        |slot| {
            slot.tag = reader.read(slot.index, slot.bytes_mut())?;
            Ok(())
        },
        |slot| {
            let (index, tag) = (slot.index, slot.tag);
            checker.check(index, slot.bytes_mut(), &tag)
        },
        |slot, checked| {
            if let Err(fault) = checked {
                faults.count = faults.count.saturating_add(1);
                if faults.first.len() < MAX_REPORTED_FAULTS {
                    faults.first.push(fault);
                }
            }
            progress(checker.layout().chunk(slot.index).end, total);
            Ok(())
        },
    )?;
    Ok(faults)
}
