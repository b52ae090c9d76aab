//! Opening a bundle from an untrusted disk. What `open` returns is consistent but not yet
//! trusted: only [`Bundle::load`] compares it with the root the caller pins.

use std::io::{Read, Seek, SeekFrom};

use chrysalis_wire::Digest;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::buffer::WeightBuffer;
use crate::chunks::{ChunkChecker, ChunkReader};
use crate::error::{Section, VaultError};
use crate::header::{HEADER_BYTES, Header, MAGIC, VERSION};
use crate::key::ModelKey;
use crate::layout::Layout;
use crate::limits::CHUNK_BYTES;
use crate::load;
use crate::manifest::Manifest;
use crate::seal::Seal;
use crate::stream::VerifiedFiles;
use crate::tree::{self, Leaves};
use crate::verify::{self, VerifyReport};

/// A bundle whose header and manifest were read and agree with each other and with the length of
/// the file. Nothing larger than a manifest has been allocated.
pub struct Bundle<R> {
    reader: R,
    header: Header,
    manifest: Manifest,
    layout: Layout,
}

impl<R: Read + Seek> Bundle<R> {
    /// Reads and checks the header and the manifest, and the length of the whole bundle.
    ///
    /// # Errors
    /// Every refusal of FORMAT §2, §3 and §4: not a bundle, a future version, a field or size out
    /// of bounds, a truncated bundle or trailing bytes, a manifest that was changed or breaks a
    /// rule.
    pub fn open(mut reader: R) -> Result<Self, VaultError> {
        let got = reader.seek(SeekFrom::End(0));
        let got = got.map_err(VaultError::io("measure the bundle"))?;
        reader.rewind().map_err(VaultError::io("rewind the bundle"))?;
        let header = read_header(&mut reader, got)?;
        let expected = header.bundle_len();
        let truncated = |section, chunk| VaultError::Truncated { section, expected, got, chunk };
        let mut bytes = vec![0u8; header.manifest_len];
        if read_full(&mut reader, &mut bytes, "read the manifest")? < bytes.len() {
            return Err(truncated(Section::Manifest, None));
        }
        let digest = tree::manifest_digest(&bytes);
        if digest != header.manifest_digest {
            return Err(VaultError::ManifestHash { expected: header.manifest_digest, got: digest });
        }
        let manifest = Manifest::decode(&bytes)?;
        let layout = Layout::new(&manifest.files)?;
        if layout.total() != header.total {
            return Err(VaultError::TotalLength { expected: header.total, got: layout.total() });
        }
        if got > expected {
            return Err(VaultError::TrailingBytes { expected, got });
        }
        if got < header.content_at() {
            return Err(truncated(Section::Table, None));
        }
        if got < header.content_end() {
            let stride = (CHUNK_BYTES as u64).saturating_add(header.tag_len());
            let whole = got.saturating_sub(header.content_at()).checked_div(stride).unwrap_or(0);
            return Err(truncated(Section::Content, Some(layout.locate(whole))));
        }
        if got < expected {
            return Err(truncated(Section::Padding, None));
        }
        Ok(Self { reader, header, manifest, layout })
    }

    /// Reads and verifies every chunk into one buffer, in parallel, and stops at the first wrong
    /// one. `progress` is called on this thread with bytes verified and bytes in all; the two are
    /// equal only in the last call, after everything was verified. On any refusal the buffer is
    /// wiped and nothing of it is returned.
    ///
    /// # Errors
    /// [`VaultError::RootMismatch`] if this is not the bundle `expected_root` names; a missing,
    /// wrong or unexpected key; a changed table; the first wrong chunk, named; a truncated read.
    pub fn load(
        self,
        expected_root: &Digest,
        key: Option<&ModelKey>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<WeightBuffer, VaultError> {
        let root = self.root();
        self.expect_root(expected_root)?;
        let manifest = self.manifest.clone();
        let (mut reader, checker) = self.authenticate(key)?;
        let bytes = load::fill(&mut reader, &checker, progress)?;
        reader.finish()?;
        let total = checker.layout().total();
        progress(total, total);
        Ok(WeightBuffer::new(bytes, manifest, checker.into_layout(), root))
    }

    /// As [`Bundle::load`], without a buffer of it all: the files one after the other, verified as
    /// they are read. `progress` is called as by [`Bundle::load`].
    ///
    /// # Errors
    /// What [`Bundle::load`] refuses before the first chunk; the rest is refused while reading and by
    /// [`VerifiedFiles::finish`].
    pub fn files<'p>(
        self,
        expected_root: &Digest,
        key: Option<&ModelKey>,
        progress: &'p dyn Fn(u64, u64),
    ) -> Result<VerifiedFiles<'p, R>, VaultError> {
        self.expect_root(expected_root)?;
        let manifest = self.manifest.clone();
        let (reader, checker) = self.authenticate(key)?;
        Ok(VerifiedFiles::new(reader, checker, manifest, progress))
    }

    /// Verifies the whole bundle in bounded memory and reports every wrong chunk.
    ///
    /// # Errors
    /// As [`Bundle::load`], except that wrong chunks are in the report. Without `expected_root`
    /// the report shows that the bundle is whole, not which model it is.
    pub fn verify(
        self,
        expected_root: Option<&Digest>,
        key: Option<&ModelKey>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<VerifyReport, VaultError> {
        let inspection = self.inspect();
        let pinned = expected_root.is_some();
        expected_root.map_or(Ok(()), |root| self.expect_root(root))?;
        let (mut reader, checker) = self.authenticate(key)?;
        let faults = verify::run(&mut reader, &checker, progress)?;
        reader.finish()?;
        Ok(VerifyReport::new(&inspection, pinned, faults))
    }

    /// Whether `key` is what this bundle was sealed with, or `None` for a bundle that is not
    /// sealed. Reads nothing from the disk; [`Bundle::load`] asks the same again.
    ///
    /// # Errors
    /// [`VaultError::KeyWrong`], [`VaultError::KeyMissing`] or [`VaultError::KeyUnexpected`].
    pub fn accepts(&self, key: Option<&ModelKey>) -> Result<(), VaultError> {
        self.seal(key).map(drop)
    }

    /// Whether this bundle claims to be the one `expected_root` names; [`Bundle::load`] proves it.
    ///
    /// # Errors
    /// [`VaultError::RootMismatch`].
    pub fn expect_root(&self, expected_root: &Digest) -> Result<(), VaultError> {
        let got = self.root();
        if got == *expected_root {
            Ok(())
        } else {
            Err(VaultError::RootMismatch { expected: *expected_root, got })
        }
    }

    /// What the header and manifest say.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        Inspection {
            format_version: VERSION,
            model_root: self.root(),
            sealed: self.is_sealed(),
            manifest_digest: self.header.manifest_digest,
            tree_root: self.header.tree_root,
            chunk_bytes: CHUNK_BYTES as u64,
            chunks: self.layout.count(),
            content_bytes: self.header.total,
            bundle_bytes: self.header.bundle_len(),
            manifest: self.manifest.clone(),
        }
    }

    /// The model root this bundle claims; `load` proves it.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.header.model_root()
    }

    /// The manifest this bundle claims.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether a model key is needed.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.header.sealing.is_some()
    }

    /// The segment keys of a sealed bundle, once the key check in its header matches.
    fn seal(&self, key: Option<&ModelKey>) -> Result<Option<Seal>, VaultError> {
        match (&self.header.sealing, key) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(VaultError::KeyUnexpected),
            (Some(_), None) => Err(VaultError::KeyMissing),
            (Some(sealing), Some(key)) => {
                let seal = Seal::derive(key, &sealing.salt, &self.header)?;
                if !seal.accepts(&sealing.key_check) {
                    return Err(VaultError::KeyWrong);
                }
                Ok(Some(seal))
            }
        }
    }

    /// Checks the key, then reads the leaf table and checks it against the tree root.
    fn authenticate(
        mut self,
        key: Option<&ModelKey>,
    ) -> Result<(ChunkReader<R>, ChunkChecker), VaultError> {
        let seal = self.seal(key)?;
        let leaves = self.read_table(seal.as_ref())?;
        let got = leaves.root().unwrap_or(Digest([0; 32]));
        if got != self.header.tree_root {
            return Err(VaultError::TableHash { expected: self.header.tree_root, got });
        }
        let checker = ChunkChecker::new(leaves, seal, self.layout.clone());
        Ok((ChunkReader::new(self.reader, self.header, self.layout), checker))
    }

    fn read_table(&mut self, seal: Option<&Seal>) -> Result<Leaves, VaultError> {
        let at = self.header.table_at();
        let len = self.header.table_len();
        self.reader.seek(SeekFrom::Start(at)).map_err(VaultError::io("seek to the leaf table"))?;
        // `take` grows with the bytes that are really there; the length is at most 32 MiB.
        let mut table = Zeroizing::new(Vec::new());
        let read = (&mut self.reader).take(len).read_to_end(&mut table);
        let read = read.map_err(VaultError::io("read the leaf table"))? as u64;
        if read < len {
            return Err(VaultError::Truncated {
                section: Section::Table,
                expected: self.header.bundle_len(),
                got: at.saturating_add(read),
                chunk: None,
            });
        }
        if let Some(seal) = seal {
            seal.open_table(&mut table).map_err(|_| VaultError::TableSeal)?;
        }
        Ok(Leaves::read(&table))
    }
}

impl<R> core::fmt::Debug for Bundle<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bundle")
            .field("header", &self.header)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// Opens and verifies a bundle without a pinned root: whole or not, and which chunks are wrong.
///
/// # Errors
/// As [`Bundle::open`] and [`Bundle::verify`].
pub fn verify<R: Read + Seek>(
    reader: R,
    key: Option<&ModelKey>,
    progress: &dyn Fn(u64, u64),
) -> Result<VerifyReport, VaultError> {
    Bundle::open(reader)?.verify(None, key, progress)
}

/// What a bundle says about itself, for `chrysalis model inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Version of the format.
    pub format_version: u32,
    /// What receipts and policies name.
    pub model_root: Digest,
    /// Whether a model key is needed.
    pub sealed: bool,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Root of the tree over the chunks.
    pub tree_root: Digest,
    /// Bytes per chunk.
    pub chunk_bytes: u64,
    /// Number of chunks.
    pub chunks: u64,
    /// Bytes of content: the files and the padding between them.
    pub content_bytes: u64,
    /// Bytes of the bundle.
    pub bundle_bytes: u64,
    /// The manifest.
    pub manifest: Manifest,
}

fn read_header(reader: &mut impl Read, bundle_len: u64) -> Result<Header, VaultError> {
    let mut bytes = [0u8; HEADER_BYTES];
    let read = read_full(reader, &mut bytes, "read the header")?;
    let (head, _) = bytes.split_at_checked(read).unwrap_or((&bytes, &[]));
    if read < HEADER_BYTES && MAGIC.starts_with(head.get(..MAGIC.len()).unwrap_or(head)) {
        return Err(VaultError::Truncated {
            section: Section::Header,
            expected: HEADER_BYTES as u64,
            got: bundle_len.min(read as u64),
            chunk: None,
        });
    }
    Header::parse(&bytes)
}

/// Reads until `out` is full or the input ends; returns how many bytes there were. Readers that
/// return one byte at a time and interrupted calls are ordinary.
pub(crate) fn read_full(
    reader: &mut impl Read,
    out: &mut [u8],
    action: &'static str,
) -> Result<usize, VaultError> {
    let mut done = 0usize;
    while let Some(rest) = out.get_mut(done..)
        && !rest.is_empty()
    {
        match reader.read(rest) {
            Ok(0) => break,
            // A reader that claims more than it was given is broken; the clamp keeps the slice
            // index in range and the hash finds the rest.
            Ok(n) => done = done.saturating_add(n.min(rest.len())),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(VaultError::io(action)(e)),
        }
    }
    Ok(done)
}
