//! Everything a bundle, a key or an input can be refused for: one comparable variant per refusal,
//! saying what was expected, what was found and what to do next.

use std::io;

use chrysalis_wire::{Digest, WireError};
use serde::Serialize;
use thiserror::Error;

use crate::gguf::GgufError;
use crate::layout::ChunkLocation;
use crate::limits::{CHUNK_BYTES, MAX_PATH_BYTES, MAX_TEXT_BYTES};

/// Why a bundle was refused or could not be written. Clause numbers are those of `FORMAT.md`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VaultError {
    /// Reading or writing failed below the format.
    #[error("cannot {action}: {detail}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Kind of the underlying error.
        kind: io::ErrorKind,
        /// Its text.
        detail: String,
    },
    /// §2: the first bytes are not those of a bundle.
    #[error(
        "not a Chrysalis bundle: it starts with {}, expected \"CHRYSBDL\"; make one with: \
         chrysalis model pack",
        hex::encode(.got)
    )]
    NotABundle {
        /// The bytes found.
        got: [u8; 8],
    },
    /// §2: a version this build does not read.
    #[error(
        "bundle version {got} is not supported; this build reads version 1: update Chrysalis, \
         or pack the model again"
    )]
    UnsupportedVersion {
        /// Version found.
        got: u32,
    },
    /// §2: a header field has a value that version 1 does not allow.
    #[error("bundle header: {field} is {got}, expected {expected}; fetch the bundle again")]
    HeaderField {
        /// The field.
        field: &'static str,
        /// Value found.
        got: u64,
        /// What version 1 allows.
        expected: &'static str,
    },
    /// §8: a size or count over its limit.
    #[error("{what} is {got}, over the limit of {limit}")]
    OverLimit {
        /// What is too large.
        what: &'static str,
        /// The named limit.
        limit: u64,
        /// Value found.
        got: u64,
    },
    /// §2: the bundle ends early.
    #[error(
        "bundle ends inside its {section}{}: {got} of {expected} bytes; fetch it again",
        .chunk.as_ref().map_or_else(String::new, |c| format!(", at {c}"))
    )]
    Truncated {
        /// Where it ends.
        section: Section,
        /// Length the header requires.
        expected: u64,
        /// Length found.
        got: u64,
        /// The first chunk that is not whole, when the end is in the content.
        chunk: Option<ChunkLocation>,
    },
    /// §2: bytes follow the end of the bundle.
    #[error("bundle is {got} bytes, expected {expected}: bytes follow its end; fetch it again")]
    TrailingBytes {
        /// Length the header requires.
        expected: u64,
        /// Length found.
        got: u64,
    },
    /// §2: a padding byte after the content is not zero.
    #[error("padding at the end of the bundle is not zero; fetch it again")]
    TrailerNotZero,
    /// §3: the manifest does not hash to the digest in the header.
    #[error("manifest hashes to {got}, the header says {expected}; fetch the bundle again")]
    ManifestHash {
        /// Digest in the header.
        expected: Digest,
        /// Digest of the bytes found.
        got: Digest,
    },
    /// §3: the manifest is not in the canonical encoding.
    #[error("manifest is malformed: {0}; fetch the bundle again")]
    ManifestMalformed(WireError),
    /// §3: a text field is empty, too long or not printable ASCII.
    #[error(
        "manifest field {field} is {text:?}: expected 1 to {MAX_TEXT_BYTES} printable ASCII \
         characters, no space at either end; pass another value when packing"
    )]
    ManifestText {
        /// The field.
        field: &'static str,
        /// Its value, shortened.
        text: String,
    },
    /// §3: no files.
    #[error("a bundle needs at least one file; pass the model's files when packing")]
    NoFiles,
    /// §3: a file without bytes; in practice an interrupted download.
    #[error("file {path:?} is empty; fetch it again or leave it out")]
    EmptyFile {
        /// Its path in the bundle.
        path: String,
    },
    /// §3: a path that is not a plain relative path.
    #[error(
        "path {path:?} is refused: {reason}; use relative paths of letters, digits and . _ - \
         / up to {MAX_PATH_BYTES} bytes"
    )]
    Path {
        /// The path, shortened.
        path: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// §3: two files with one path.
    #[error("path {path:?} names two files; every file needs its own path")]
    DuplicatePath {
        /// The path.
        path: String,
    },
    /// §3: files are not in ascending order of path.
    #[error("path {path:?} is out of order: files are sorted by path; fetch the bundle again")]
    PathOrder {
        /// The first path out of order.
        path: String,
    },
    /// §3: a path that is both a file and a folder of another file.
    #[error("path {path:?} is both a file and a folder; rename one")]
    PathConflict {
        /// The path.
        path: String,
    },
    /// §3: the tokenizer or chat template names a file that is not in the bundle.
    #[error(
        "manifest field {field} points to {wanted:?}, which is not among the files; add the \
         file or change the field"
    )]
    SourceMissing {
        /// The field.
        field: &'static str,
        /// What it points to.
        wanted: String,
    },
    /// §4: the files do not add up to the length in the header.
    #[error("files add up to {got} bytes, the header says {expected}; fetch the bundle again")]
    TotalLength {
        /// Length in the header.
        expected: u64,
        /// Length the manifest's files need.
        got: u64,
    },
    /// §6: this is another model than the one asked for.
    #[error(
        "model root is {got}, expected {expected}: this is another model, or it was changed; \
         use the bundle that the worker manifest names"
    )]
    RootMismatch {
        /// The root the caller pins.
        expected: Digest,
        /// The root of this bundle.
        got: Digest,
    },
    /// §5: the leaf table does not hash to the tree root in the header.
    #[error("leaf table hashes to {got}, the header says {expected}; fetch the bundle again")]
    TableHash {
        /// Tree root in the header.
        expected: Digest,
        /// Root of the table found.
        got: Digest,
    },
    /// §7: the sealed leaf table does not authenticate.
    #[error("sealed leaf table does not authenticate; fetch the bundle again")]
    TableSeal,
    /// §5: a chunk is not the one that was packed.
    #[error("{0} has the wrong hash; fetch the bundle again")]
    ChunkHash(ChunkLocation),
    /// §7: a sealed chunk does not authenticate: changed, moved, or of another packing.
    #[error(
        "{0} does not authenticate: changed, moved, or of another packing; fetch the bundle again"
    )]
    ChunkSeal(ChunkLocation),
    /// §4: padding between two files is not zero.
    #[error("{0} has bytes between two files that are not zero; pack the model again")]
    ChunkPadding(ChunkLocation),
    /// §7: the bundle is sealed and no key was given.
    #[error(
        "bundle is sealed and no model key was given; grant the key to the worker, or pass --key"
    )]
    KeyMissing,
    /// §7: a key was given for a bundle that is not sealed.
    #[error(
        "a model key was given but the bundle is not sealed; leave the key out, or use the \
         sealed bundle"
    )]
    KeyUnexpected,
    /// §7: the key does not open this bundle, or its header was changed.
    #[error(
        "model key does not open this bundle: another key, or a changed header; check which \
         key sealed it"
    )]
    KeyWrong,
    /// §7: a key of the wrong length or spelling.
    #[error("model key is malformed: expected {expected}; make one with: chrysalis model keygen")]
    KeyMalformed {
        /// What a key looks like.
        expected: &'static str,
    },
    /// §7: a key or salt of zeros: the random generator did not run.
    #[error("{what} is all zeros; the random generator did not fill it")]
    NotRandom {
        /// `model key` or `salt`.
        what: &'static str,
    },
    /// An input file changed while it was being packed.
    #[error("file {path:?} changed while it was being packed; stop writing to it and pack again")]
    InputChanged {
        /// Its path in the bundle.
        path: String,
    },
    /// Another process is packing to the same destination.
    #[error("another process is packing to {path:?}; wait for it, or choose another name")]
    PackBusy {
        /// The partial file.
        path: String,
    },
    /// There is no memory for the weights.
    #[error("no memory for {bytes} bytes of weights; use a larger machine or a smaller model")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// A cryptographic primitive refused a length that the limits make impossible.
    #[error("internal error in {what}; please report it")]
    Crypto {
        /// The primitive.
        what: &'static str,
    },
    /// The GGUF file could not be read for its facts.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

impl VaultError {
    /// Stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "E-BUNDLE-IO",
            Self::NotABundle { .. } => "E-BUNDLE-MAGIC",
            Self::UnsupportedVersion { .. } => "E-BUNDLE-VERSION",
            Self::HeaderField { .. } => "E-BUNDLE-HEADER",
            Self::OverLimit { .. } => "E-BUNDLE-LIMIT",
            Self::Truncated { .. } => "E-BUNDLE-TRUNCATED",
            Self::TrailingBytes { .. } => "E-BUNDLE-TRAILING",
            Self::TrailerNotZero => "E-BUNDLE-PADDING",
            Self::ManifestHash { .. } => "E-MANIFEST-HASH",
            Self::ManifestMalformed(_) => "E-MANIFEST-MALFORMED",
            Self::ManifestText { .. } => "E-MANIFEST-TEXT",
            Self::NoFiles => "E-MANIFEST-NO-FILES",
            Self::EmptyFile { .. } => "E-MANIFEST-EMPTY-FILE",
            Self::Path { .. } => "E-MANIFEST-PATH",
            Self::DuplicatePath { .. } => "E-MANIFEST-DUPLICATE",
            Self::PathOrder { .. } => "E-MANIFEST-ORDER",
            Self::PathConflict { .. } => "E-MANIFEST-CONFLICT",
            Self::SourceMissing { .. } => "E-MANIFEST-SOURCE",
            Self::TotalLength { .. } => "E-MANIFEST-LENGTH",
            Self::RootMismatch { .. } => "E-MODEL-ROOT",
            Self::TableHash { .. } => "E-TABLE-HASH",
            Self::TableSeal => "E-TABLE-SEAL",
            Self::ChunkHash(_) => "E-CHUNK-HASH",
            Self::ChunkSeal(_) => "E-CHUNK-SEAL",
            Self::ChunkPadding(_) => "E-CHUNK-PADDING",
            Self::KeyMissing => "E-KEY-MISSING",
            Self::KeyUnexpected => "E-KEY-UNEXPECTED",
            Self::KeyWrong => "E-KEY-WRONG",
            Self::KeyMalformed { .. } => "E-KEY-MALFORMED",
            Self::NotRandom { .. } => "E-NOT-RANDOM",
            Self::InputChanged { .. } => "E-INPUT-CHANGED",
            Self::PackBusy { .. } => "E-PACK-BUSY",
            Self::OutOfMemory { .. } => "E-MEMORY",
            Self::Crypto { .. } => "E-CRYPTO",
            Self::Gguf(e) => e.code(),
        }
    }

    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |e| Self::Io { action, kind: e.kind(), detail: e.to_string() }
    }
}

/// Part of a bundle, for [`VaultError::Truncated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The fixed header.
    Header,
    /// The manifest.
    Manifest,
    /// The leaf table.
    Table,
    /// The chunks.
    Content,
    /// The zero padding at the end.
    Padding,
}

impl core::fmt::Display for Section {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Manifest => "manifest",
            Self::Table => "leaf table",
            Self::Content => "content",
            Self::Padding => "padding",
        })
    }
}

/// What is wrong with one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The plaintext has another hash than its leaf.
    Hash,
    /// The segment does not authenticate.
    Seal,
    /// Padding between two files is not zero.
    Padding,
}

/// One wrong chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChunkFault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Which chunk, where it lies and which files it holds.
    #[serde(flatten)]
    pub location: ChunkLocation,
}

impl From<ChunkFault> for VaultError {
    fn from(fault: ChunkFault) -> Self {
        match fault.kind {
            FaultKind::Hash => Self::ChunkHash(fault.location),
            FaultKind::Seal => Self::ChunkSeal(fault.location),
            FaultKind::Padding => Self::ChunkPadding(fault.location),
        }
    }
}

/// Text of the only chunk size version 1 has, for messages.
pub(crate) const CHUNK_BYTES_TEXT: &str = "1048576";
const _: () = assert!(CHUNK_BYTES == 1_048_576);
