//! Verified plaintext weights in memory. Everything in here has been checked against a root that
//! the caller pinned; the bytes are wiped when the buffer is dropped.

use core::fmt;
use core::ops::{Deref, Range};

use chrysalis_wire::Digest;

use crate::layout::Layout;
use crate::locked::{LockedBytes, MemoryProtection};
use crate::manifest::Manifest;

/// The content of a verified bundle. Dereferences to the whole content: the files one after the
/// other, each at a multiple of [`crate::limits::FILE_ALIGN`], the first at the start of a page.
pub struct WeightBuffer {
    bytes: LockedBytes,
    manifest: Manifest,
    layout: Layout,
    root: Digest,
}

impl WeightBuffer {
    pub(crate) const fn new(
        bytes: LockedBytes,
        manifest: Manifest,
        layout: Layout,
        root: Digest,
    ) -> Self {
        Self { bytes, manifest, layout, root }
    }

    /// The bytes of one file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        let span = self.layout.spans().iter().find(|s| s.path == path)?;
        self.get(index(&span.range)?)
    }

    /// Every file, in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.layout.spans().iter().filter_map(|s| {
            let bytes = self.get(index(&s.range)?)?;
            Some((s.path.as_str(), bytes))
        })
    }

    /// The verified manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model root that was pinned and proven.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// What the system granted to protect this memory.
    #[must_use]
    pub const fn protection(&self) -> &MemoryProtection {
        self.bytes.protection()
    }
}

impl Deref for WeightBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

impl AsRef<[u8]> for WeightBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for WeightBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<weights of {}, redacted {} bytes>", self.root, self.len())
    }
}

fn index(range: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}
