//! Where each file lies in the content and each chunk in the files. Built from a manifest that
//! may still be unverified, so every sum is checked and bounded by [`MAX_TOTAL_BYTES`].

use core::fmt;
use core::ops::Range;

use serde::Serialize;

use crate::error::VaultError;
use crate::limits::{CHUNK_BYTES, FILE_ALIGN, MAX_TOTAL_BYTES};
use crate::manifest::FileEntry;

/// Which chunk, where it lies in the content and which files it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChunkLocation {
    /// Index of the chunk, from 0.
    pub index: u64,
    /// Number of chunks in the bundle.
    pub count: u64,
    /// First byte, as an offset in the content.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Paths of the files with bytes in this chunk, in order.
    pub files: Vec<String>,
}

impl fmt::Display for ChunkLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "chunk {} of {} (bytes {}..{}, file {})",
            self.index,
            self.count,
            self.start,
            self.end,
            self.files.join(", ")
        )
    }
}

/// One file's place in the content.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) path: String,
    pub(crate) range: Range<u64>,
}

/// The places of all files, in order, and the length of the whole content (FORMAT §4).
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    spans: Vec<Span>,
    total: u64,
}

impl Layout {
    /// Lays out files one after the other, each aligned to [`FILE_ALIGN`].
    pub(crate) fn new(files: &[FileEntry]) -> Result<Self, VaultError> {
        let mut spans = Vec::with_capacity(files.len());
        let mut end = 0u64;
        for file in files {
            // Each sum stays below 2^40 + 2^40: the previous end is checked and so is the size.
            let over =
                |got| VaultError::OverLimit { what: "content length", limit: MAX_TOTAL_BYTES, got };
            let start = end.next_multiple_of(FILE_ALIGN);
            end = start.checked_add(file.size).ok_or_else(|| over(u64::MAX))?;
            if end > MAX_TOTAL_BYTES {
                return Err(over(end));
            }
            spans.push(Span { path: file.path.clone(), range: start..end });
        }
        Ok(Self { spans, total: end })
    }

    /// Length of the content.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// The files' places.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Number of chunks.
    pub(crate) const fn count(&self) -> u64 {
        chunk_count(self.total)
    }

    /// Where chunk `index` starts and ends in the content.
    pub(crate) fn chunk(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(CHUNK_BYTES as u64).min(self.total);
        start..start.saturating_add(CHUNK_BYTES as u64).min(self.total)
    }

    /// Length of chunk `index`; at most [`CHUNK_BYTES`].
    pub(crate) fn chunk_len(&self, index: u64) -> usize {
        let range = self.chunk(index);
        usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(CHUNK_BYTES)
    }

    /// Chunk `index` in words.
    pub(crate) fn locate(&self, index: u64) -> ChunkLocation {
        let Range { start, end } = self.chunk(index);
        let files = self
            .spans
            .iter()
            .filter(|s| s.range.start < end && start < s.range.end)
            .map(|s| s.path.clone())
            .collect();
        ChunkLocation { index, count: self.count(), start, end, files }
    }

    /// Whether every byte of chunk `index` that belongs to no file is zero.
    pub(crate) fn gaps_are_zero(&self, index: u64, chunk: &[u8]) -> bool {
        let range = self.chunk(index);
        let ends = self.spans.iter().map(|s| s.range.end);
        let starts = self.spans.iter().skip(1).map(|s| s.range.start);
        ends.zip(starts).all(|(gap_start, gap_end)| {
            let from = gap_start.max(range.start).saturating_sub(range.start);
            let to = gap_end.min(range.end).saturating_sub(range.start);
            let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else {
                return false;
            };
            // `None` when the gap lies outside this chunk.
            chunk.get(from..to).is_none_or(|gap| gap.iter().all(|&b| b == 0))
        })
    }
}

/// Number of chunks of a content of `total` bytes.
pub(crate) const fn chunk_count(total: u64) -> u64 {
    total.div_ceil(CHUNK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(sizes: &[u64]) -> Result<Layout, VaultError> {
        let files: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| FileEntry { path: format!("f{i}"), size })
            .collect();
        Layout::new(&files)
    }

    #[test]
    fn aligns_every_file_and_pads_nothing_after_the_last() {
        let l = layout(&[1, 4096, 5]).unwrap();
        let starts: Vec<_> = l.spans().iter().map(|s| s.range.start).collect();
        assert_eq!(starts, [0, 4096, 8192]);
        assert_eq!(l.total(), 8197);
    }

    #[test]
    fn names_every_file_of_a_chunk() {
        let l = layout(&[CHUNK_BYTES as u64 + 1, 10, 10]).unwrap();
        assert_eq!(l.count(), 2);
        assert_eq!(l.locate(0).files, ["f0"]);
        assert_eq!(l.locate(1).files, ["f0", "f1", "f2"]);
        assert_eq!(l.locate(0).to_string(), "chunk 0 of 2 (bytes 0..1048576, file f0)");
    }

    #[test]
    fn accepts_a_tebibyte_and_refuses_one_byte_more() {
        assert_eq!(layout(&[MAX_TOTAL_BYTES]).unwrap().count(), 1 << 20);
        assert!(matches!(layout(&[MAX_TOTAL_BYTES + 1]), Err(VaultError::OverLimit { .. })));
        assert!(matches!(layout(&[1, u64::MAX]), Err(VaultError::OverLimit { .. })));
        assert!(matches!(layout(&[MAX_TOTAL_BYTES, 1]), Err(VaultError::OverLimit { .. })));
    }

    #[test]
    fn sees_a_byte_between_files_in_any_chunk() {
        let l = layout(&[CHUNK_BYTES as u64 - 1, 10]).unwrap();
        let mut chunk = vec![0u8; CHUNK_BYTES];
        assert!(l.gaps_are_zero(0, &chunk));
        chunk[CHUNK_BYTES - 1] = 1;
        assert!(!l.gaps_are_zero(0, &chunk));
        chunk[CHUNK_BYTES - 1] = 0;
        chunk[CHUNK_BYTES - 2] = 1;
        assert!(l.gaps_are_zero(0, &chunk), "a byte of the file is not padding");

        let l = layout(&[10, CHUNK_BYTES as u64]).unwrap();
        let mut last = vec![7u8; l.chunk_len(1)];
        last[0] = 1;
        assert!(l.gaps_are_zero(1, &last), "the gap lies in chunk 0");
    }
}
