//! The files of a bundle one after the other, verified as they are read, for who makes something else
//! of the bytes: weights go into the layout they are computed in without a copy of the whole.
//!
//! Trust: as [`Bundle::load`](crate::Bundle::load). Not one byte is handed out before the chunk it is
//! in was compared with its leaf, and the leaves with the root that the caller pins. What is handed
//! out is right; that *all* of it is right is known once [`VerifiedFiles::finish`] has returned. The
//! chunks in between are wiped.

use std::io::{self, BufRead, Read};

use crate::ahead::Ahead;
use crate::chunks::{ChunkChecker, ChunkReader};
use crate::error::VaultError;
use crate::limits::CHUNK_BYTES;
use crate::manifest::Manifest;
use crate::pipeline::BANK_CHUNKS;

/// The content of a bundle, from front to back. Holds two banks of chunks, a few MiB.
pub struct VerifiedFiles<'p, R> {
    reader: ChunkReader<R>,
    manifest: Manifest,
    progress: &'p dyn Fn(u64, u64),
    ahead: Ahead,
    /// Verified so far, in bytes of content.
    verified: u64,
    /// The next byte of the content.
    at: u64,
    /// The next file.
    next: usize,
    refused: Option<VaultError>,
}

impl<'p, R: Read> VerifiedFiles<'p, R> {
    pub(crate) fn new(
        reader: ChunkReader<R>,
        checker: ChunkChecker,
        manifest: Manifest,
        progress: &'p dyn Fn(u64, u64),
    ) -> Self {
        // One for each core: more would only be more memory.
        let size = rayon::current_num_threads().clamp(2, BANK_CHUNKS);
        let (ahead, verified, at, next, refused) = (Ahead::new(checker, size), 0, 0, 0, None);
        Self { reader, manifest, progress, ahead, verified, at, next, refused }
    }

    /// The verified manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The next file, in order of path; `None` after the last. What was not read of the one before is
    /// skipped here, and verified all the same.
    pub fn next_file(&mut self) -> Option<VerifiedFile<'_, 'p, R>> {
        let span = self.ahead.layout().spans().get(self.next)?.clone();
        self.next = self.next.saturating_add(1);
        self.at = span.range.start;
        Some(VerifiedFile { files: self, path: span.path, range: span.range })
    }

    /// Reads and verifies what is left of the bundle.
    ///
    /// # Errors
    /// As [`Bundle::load`](crate::Bundle::load), and the refusal that ended the reading of a file: a
    /// reader of a file sees it as an [`io::Error`] only.
    pub fn finish(mut self) -> Result<(), VaultError> {
        let total = self.ahead.layout().total();
        while self.verified < total {
            self.turn()?;
        }
        self.refused.map_or(Ok(()), Err)?;
        self.reader.finish()?;
        (self.progress)(total, total);
        Ok(())
    }

    /// Verified bytes from `at` to the end of their chunk. `at` lies inside the content.
    fn bytes(&mut self) -> Result<&[u8], VaultError> {
        while self.verified <= self.at {
            self.turn()?;
        }
        self.not_refused()?;
        let (chunk, from) = split(self.at);
        let slot = self.ahead.ready().iter().find(|slot| slot.index == chunk);
        Ok(slot.and_then(|slot| slot.bytes().get(from..)).unwrap_or_default())
    }

    /// Takes the next bank, verified. After a refusal there is nothing but that refusal.
    fn turn(&mut self) -> Result<(), VaultError> {
        self.not_refused()?;
        let turned = self.judge();
        self.refused = turned.as_ref().err().cloned();
        turned
    }

    fn not_refused(&self) -> Result<(), VaultError> {
        self.refused.as_ref().map_or(Ok(()), |refusal| Err(refusal.clone()))
    }

    fn judge(&mut self) -> Result<(), VaultError> {
        let Self { reader, ahead, .. } = self;
        ahead.turn(|slot| {
            slot.tag = reader.read(slot.index, slot.bytes_mut())?;
            Ok(())
        })?;
        let last = self.ahead.ready().last().map(|slot| slot.index);
        let layout = self.ahead.layout();
        let total = layout.total();
        self.verified = last.map_or(total, |index| layout.chunk(index).end);
        if self.verified < total {
            (self.progress)(self.verified, total);
        }
        Ok(())
    }
}

/// One file of a bundle. An error of its reader is the refusal of the bundle, which
/// [`VerifiedFiles::finish`] gives as what it is.
pub struct VerifiedFile<'f, 'p, R> {
    files: &'f mut VerifiedFiles<'p, R>,
    path: String,
    range: core::ops::Range<u64>,
}

impl<R> VerifiedFile<'_, '_, R> {
    /// Its path in the bundle.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    const fn left(&self) -> u64 {
        self.range.end.saturating_sub(self.files.at)
    }
}

impl<R: Read> BufRead for VerifiedFile<'_, '_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let bytes = self.files.bytes().map_err(io::Error::other)?;
        Ok(bytes.get(..left).unwrap_or(bytes))
    }

    fn consume(&mut self, amount: usize) {
        self.files.at = self.files.at.saturating_add(amount as u64).min(self.range.end);
    }
}

impl<R: Read> Read for VerifiedFile<'_, '_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

/// The chunk of a byte of the content, and where in it the byte lies.
fn split(at: u64) -> (u64, usize) {
    let chunk = CHUNK_BYTES as u64;
    let from = at.checked_rem(chunk).and_then(|from| usize::try_from(from).ok());
    (at.checked_div(chunk).unwrap_or(0), from.unwrap_or(0))
}
