//! Writes confidential-VM images, bit for bit the same wherever it runs, and checks them. It runs
//! on anybody's machine and is trusted by nobody else: whoever doubts an image builds it again.
//!
//! ```text
//! images/cpu.toml       what the image is: command line, modules, settings     (Recipe)
//! images/cpu.lock.toml  every foreign byte in it, by SHA-256                    (Lock)
//!        │  Store::fetch: cache, local directories, package mirror; verified before use
//!        ▼
//! compose(recipe, lock, files, init, worker) ──> Image ──write──> DIR/
//!   tdvf.fd       firmware with a blank variable store                          MRTD, RTMR0
//!   vmlinuz       the distribution's signed kernel, untouched                   RTMR1
//!   initrd.cpio   PID 1, worker, image.toml, modules                            RTMR2
//!   cmdline       closed schema, no trailing newline                            RTMR2
//!   rootfs.*      optional: a read-only file system and its hash tree           RTMR2 (root hash)
//!   manifest.json hash of each part and member; its id names the image
//! ```
//!
//! [`compose`] is a pure function over bytes: no clock, user, locale, path, umask or directory
//! order can reach what it returns. Only [`store`], [`update`] and [`directory`] touch the machine.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
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

pub mod binary;
pub mod bytes;
pub mod compare;
pub mod compose;
pub mod cpio;
pub mod deb;
pub mod directory;
pub mod erofs;
mod error;
pub mod firmware;
pub mod lock;
pub mod manifest;
pub mod recipe;
pub mod root;
pub mod store;
pub mod update;
pub mod verify;
pub mod verity;
pub mod version;

pub use compare::{Difference, compare};
pub use compose::{Image, Programs, compose};
pub use directory::{Existing, write};
pub use error::ImageError;
pub use lock::{Lock, Package, PackageList, PinnedFile, Role};
pub use manifest::{ImageInfo, ImageManifest, Part};
pub use recipe::Recipe;
pub use root::Root;
pub use store::{Attempt, Outcome, Source, Step, Store};
pub use verify::{Fault, Verified, verify};

#[cfg(test)]
mod tests;
