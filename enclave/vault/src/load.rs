//! Loading: the calling thread reads chunks, in order, from an untrusted disk straight into their
//! places in the final buffer; the cores decrypt and hash them there.
//!
//! There is no other copy of a chunk, so memory is the buffer and nothing more. Each chunk is a
//! disjoint slice of the buffer that one task owns.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chunks::{ChunkChecker, ChunkReader};
use crate::error::{ChunkFault, VaultError};
use crate::limits::{CHUNK_BYTES, MAX_TOTAL_BYTES};
use crate::locked::LockedBytes;

/// Fills a new buffer with verified content. The refusal names the lowest wrong chunk: tasks
/// finish in any order, but every chunk before a wrong one was read and is judged. `progress`
/// stays below the total here; the caller reports it once the end of the bundle is checked too.
pub(crate) fn fill<R: Read>(
    reader: &mut ChunkReader<R>,
    checker: &ChunkChecker,
    progress: &dyn Fn(u64, u64),
) -> Result<LockedBytes, VaultError> {
    let total = checker.layout().total();
    let len = usize::try_from(total).map_err(|_| VaultError::OverLimit {
        what: "content length",
        limit: MAX_TOTAL_BYTES,
        got: total,
    })?;
    let mut buffer = LockedBytes::zeroed(len)?;
    let faults = FirstFault::default();
    let verified = AtomicU64::new(0);
    // Only this thread touches the reader and the callback, so neither has to be shareable.
    let read: Result<(), VaultError> = rayon::in_place_scope(|tasks| {
        for (index, chunk) in (0u64..).zip(buffer.as_mut_slice().chunks_mut(CHUNK_BYTES)) {
            if faults.any() {
                break;
            }
            let tag = reader.read(index, chunk)?;
            let (faults, verified) = (&faults, &verified);
            tasks.spawn(move |_| match checker.check(index, chunk, &tag) {
                Ok(()) => {
                    verified.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
                Err(fault) => faults.record(fault),
            });
            let done = verified.load(Ordering::Relaxed);
            if done < total {
                progress(done, total);
            }
        }
        Ok(())
    });
    // A wrong chunk lies before the place where reading stopped, so it is the first refusal.
    faults.into_result()?;
    read?;
    Ok(buffer)
}

/// The fault with the lowest chunk index.
#[derive(Default)]
struct FirstFault(Mutex<Option<ChunkFault>>);

impl FirstFault {
    fn any(&self) -> bool {
        self.lock().is_some()
    }

    fn record(&self, fault: ChunkFault) {
        let mut first = self.lock();
        if first.as_ref().is_none_or(|f| fault.location.index < f.location.index) {
            *first = Some(fault);
        }
    }

    fn into_result(self) -> Result<(), VaultError> {
        let fault = self.lock().take();
        fault.map_or(Ok(()), |f| Err(f.into()))
    }

    /// A panic elsewhere cannot leave an `Option` half written, so a poisoned lock is usable.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ChunkFault>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
