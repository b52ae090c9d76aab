//! One chunk at a time: reading it, in order, from an untrusted disk ([`ChunkReader`]), and
//! deciding whether it is the one that was packed ([`ChunkChecker`], shared by all cores).

use std::io::Read;

use crate::bundle::read_full;
use crate::error::{ChunkFault, FaultKind, Section, VaultError};
use crate::header::{Header, TAG_BYTES};
use crate::layout::Layout;
use crate::limits::BUNDLE_ALIGN;
use crate::seal::Seal;
use crate::tree::{self, Leaves};

/// A reader positioned at the next chunk.
pub(crate) struct ChunkReader<R> {
    reader: R,
    header: Header,
    layout: Layout,
}

impl<R: Read> ChunkReader<R> {
    /// `reader` must stand at the first chunk.
    pub(crate) const fn new(reader: R, header: Header, layout: Layout) -> Self {
        Self { reader, header, layout }
    }

    /// Reads chunk `index`, as it lies in the bundle, into `out` and returns its tag. Chunks must
    /// be read in order, `out` being exactly as long as the chunk.
    pub(crate) fn read(
        &mut self,
        index: u64,
        out: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], VaultError> {
        let mut tag = [0u8; TAG_BYTES];
        let mut read = read_full(&mut self.reader, out, "read a chunk")?;
        let mut wanted = out.len();
        if self.header.sealing.is_some() && read == wanted {
            read = read.saturating_add(read_full(&mut self.reader, &mut tag, "read a tag")?);
            wanted = wanted.saturating_add(TAG_BYTES);
        }
        if read < wanted {
            // The length was right when the bundle was opened: the disk lied, or it shrank.
            let before = self.header.content_at().saturating_add(
                self.layout
                    .chunk(index)
                    .start
                    .saturating_add(index.saturating_mul(self.header.tag_len())),
            );
            return Err(VaultError::Truncated {
                section: Section::Content,
                expected: self.header.bundle_len(),
                got: before.saturating_add(read as u64),
                chunk: Some(self.layout.locate(index)),
            });
        }
        Ok(tag)
    }

    /// Reads what follows the last chunk: zeros up to the end of the bundle, then nothing.
    pub(crate) fn finish(&mut self) -> Result<(), VaultError> {
        let (end, expected) = (self.header.content_end(), self.header.bundle_len());
        let padding = usize::try_from(expected.saturating_sub(end)).unwrap_or(usize::MAX);
        // One byte more than the padding, to see whether anything follows it.
        let mut bytes = [0u8; BUNDLE_ALIGN as usize + 1];
        let out = bytes.get_mut(..=padding).unwrap_or_default();
        let read = read_full(&mut self.reader, out, "read the padding")?;
        let got = end.saturating_add(read as u64);
        if read > padding {
            return Err(VaultError::TrailingBytes { expected, got });
        }
        if read < padding {
            return Err(VaultError::Truncated {
                section: Section::Padding,
                expected,
                got,
                chunk: None,
            });
        }
        if out.iter().any(|&b| b != 0) {
            return Err(VaultError::TrailerNotZero);
        }
        Ok(())
    }
}

/// Decides about chunks, from any thread.
pub(crate) struct ChunkChecker {
    leaves: Leaves,
    seal: Option<Seal>,
    layout: Layout,
}

impl ChunkChecker {
    /// `leaves` must already be verified against the tree root.
    pub(crate) const fn new(leaves: Leaves, seal: Option<Seal>, layout: Layout) -> Self {
        Self { leaves, seal, layout }
    }

    /// Opens chunk `index` in place if the bundle is sealed, then compares it with its leaf.
    pub(crate) fn check(
        &self,
        index: u64,
        chunk: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), ChunkFault> {
        let fault = |kind| ChunkFault { kind, location: self.layout.locate(index) };
        if let Some(seal) = &self.seal {
            seal.open_segment(index, self.is_last(index), chunk, tag)
                .map_err(|_| fault(FaultKind::Seal))?;
        }
        if self.leaves.get(index) != Some(tree::leaf(chunk)) {
            return Err(fault(FaultKind::Hash));
        }
        if !self.layout.gaps_are_zero(index, chunk) {
            return Err(fault(FaultKind::Padding));
        }
        Ok(())
    }

    /// Where everything lies.
    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Drops the keys and leaves; keeps the places of the files.
    pub(crate) fn into_layout(self) -> Layout {
        self.layout
    }

    const fn is_last(&self, index: u64) -> bool {
        index.saturating_add(1) == self.layout.count()
    }
}

#[cfg(test)]
mod tests {
    use chrysalis_wire::Digest;

    use super::*;
    use crate::key::ModelKey;
    use crate::manifest::FileEntry;

    #[test]
    fn an_authentic_segment_of_another_content_is_still_the_wrong_chunk() {
        // Whoever has the model key can seal anything; the leaf decides which model it is.
        let header = Header {
            manifest_len: 0,
            total: 5,
            manifest_digest: Digest([1; 32]),
            tree_root: Digest([2; 32]),
            sealing: None,
        };
        let key = ModelKey::from_bytes(&[1; 32]).unwrap();
        let layout = Layout::new(&[FileEntry { path: "w".to_owned(), size: 5 }]).unwrap();
        let seal = || Seal::derive(&key, &[1; 32], &header).unwrap();
        let checker =
            ChunkChecker::new(Leaves::read(&tree::leaf(b"right").0), Some(seal()), layout);
        let check = |mut chunk: [u8; 5]| {
            let tag = seal().seal_segment(0, true, &mut chunk).unwrap();
            checker.check(0, &mut chunk, &tag)
        };
        assert_eq!(check(*b"right"), Ok(()));
        assert_eq!(check(*b"wrong").map_err(|f| f.kind), Err(FaultKind::Hash));
    }
}
