//! Content-addressed, optionally sealed model bundles, verified and decrypted while they stream
//! from a disk that the host owns.
//!
//! Trust: the disk, the bundle and its header are the attacker's. The caller brings two things it
//! trusts, a model root (from the measured worker manifest) and, for sealed bundles, a model key
//! (from a grant). [`Bundle::load`] returns weights only if every byte belongs to that root;
//! [`Bundle::files`] hands out each byte only once it is known to.
//!
//! ```
//! use std::io::Cursor;
//! use chrysalis_vault::{AssetSource, Bundle, PackFile, PackInput, pack};
//!
//! # fn main() -> Result<(), chrysalis_vault::VaultError> {
//! let weights = vec![7u8; 3_000_000];
//! let input = PackInput {
//!     name: "Example".into(),
//!     architecture: "llama".into(),
//!     quantisation: None,
//!     tokenizer: AssetSource::None,
//!     chat_template: AssetSource::None,
//!     licence: None,
//!     files: vec![PackFile::new("model.bin", Cursor::new(&weights))],
//! };
//! let mut bundle = Vec::new();
//! let report = pack(input, &mut bundle, &|_, _| ())?;
//!
//! let loaded = Bundle::open(Cursor::new(bundle))?.load(&report.model_root, None, &|_, _| ())?;
//! assert_eq!(loaded.file("model.bin"), Some(&weights[..]));
//! # Ok(())
//! # }
//! ```

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod ahead;
mod buffer;
mod bundle;
mod chunks;
mod error;
pub mod gguf;
mod header;
mod input;
mod key;
mod layout;
pub mod limits;
mod load;
mod locked;
mod manifest;
mod pack;
mod pipeline;
mod seal;
mod stream;
mod tree;
mod verify;

pub use buffer::WeightBuffer;
pub use bundle::{Bundle, Inspection, verify};
pub use error::{ChunkFault, FaultKind, Section, VaultError};
pub use gguf::{GgufError, GgufFacts};
pub use input::{PackFile, PackInput, ReadSeek};
pub use key::ModelKey;
pub use layout::ChunkLocation;
pub use locked::{LockedBytes, MemoryProtection, Protection};
pub use manifest::{AssetSource, FileEntry, Manifest};
pub use pack::{PackReport, SealWith, pack, pack_file, pack_sealed};
pub use stream::{VerifiedFile, VerifiedFiles};
pub use verify::VerifyReport;

#[doc = include_str!("../FORMAT.md")]
pub mod format {
    pub use crate::header::{HEADER_BYTES, MAGIC, VERSION};
    pub use crate::seal::{KEY_CHECK_INFO, SEGMENT_INFO, TABLE_INFO};
    pub use crate::tree::{LEAF_CONTEXT, MANIFEST_CONTEXT, NODE_CONTEXT, ROOT_CONTEXT};
}
