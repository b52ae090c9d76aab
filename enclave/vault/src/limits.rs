//! Limits of the bundle format. A bundle comes from an untrusted disk: nothing in it may ask for
//! more than these constants before it is verified. Each has a test one past it.

/// Bytes of plaintext per chunk, the unit of hashing, sealing and refusing. The choice between
/// sizes and hashes was measured; the figures are in `FORMAT.md` §9.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// Every file starts at a multiple of this in the content, so that a view of it is as aligned as
/// a mapping of the file itself would be.
pub const FILE_ALIGN: u64 = 4096;

/// The bundle itself is zero-padded to a multiple of this, so that it is the same bytes on a
/// block device, whose size is a whole number of sectors.
pub const BUNDLE_ALIGN: u64 = 4096;

/// Largest content, in bytes: 1 TiB, room for a trillion parameters at 8 bits. It keeps the
/// segment number far inside its 32 bits and the leaf table at 32 MiB or less.
pub const MAX_TOTAL_BYTES: u64 = 1 << 40;

/// Largest canonical manifest, in bytes. A manifest at every other limit is under 56 KiB.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;

/// Most files in one bundle: the largest content in shards of 5 GB is 220 files.
pub const MAX_FILES: usize = 256;

/// Longest path in a bundle, in bytes.
pub const MAX_PATH_BYTES: usize = 200;

/// Longest name, architecture, quantisation or licence in a manifest, in bytes. The API and the
/// measured worker manifest have the same bound on a model name.
pub const MAX_TEXT_BYTES: usize = 128;

/// Most wrong chunks a verify report lists; it counts all of them.
pub const MAX_REPORTED_FAULTS: usize = 64;

/// Most metadata bytes read from a GGUF file. A 256k-entry vocabulary with merges is under 16 MiB.
pub const MAX_GGUF_METADATA_BYTES: u64 = 128 * 1024 * 1024;

/// Most metadata entries in a GGUF file; common models have a few dozen.
pub const MAX_GGUF_ENTRIES: u64 = 4096;

/// Most tensors in a GGUF file.
pub const MAX_GGUF_TENSORS: u64 = 1 << 20;

/// Longest GGUF metadata key, in bytes (the GGUF specification's own bound).
pub const MAX_GGUF_KEY_BYTES: u64 = 65_535;

/// Longest GGUF string that becomes a fact, in bytes. Longer strings are skipped, not stored.
pub const MAX_GGUF_TEXT_BYTES: u64 = 4096;

/// Deepest nesting of GGUF arrays; published models use one level.
pub const MAX_GGUF_ARRAY_DEPTH: u32 = 4;
