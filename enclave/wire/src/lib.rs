//! Shared wire types of Chrysalis: ids, the attested keyset, the measured worker manifest, the
//! attestation exchange and console events, with their limits and canonical encodings.
//!
//! Trusted code owns these types, so they live under `enclave/`. The crate has no I/O, no clock,
//! no randomness and no cryptography. Every decoder treats its input as attacker-controlled:
//! lengths are bounded by named constants, unknown versions and trailing bytes are refused.

#![forbid(unsafe_code)]
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

pub mod attest;
pub mod cmdline;
pub mod codec;
pub mod config_disk;
pub mod console;
pub mod guest;
pub mod ids;
pub mod image;
pub mod inner;
pub mod keyset;
pub mod limits;
pub mod manifest;
pub mod secret;

pub use attest::{AttestationDocument, BatchDocument, DeviceDocument, RuntimeEvent};
pub use cmdline::{CommandLine, CommandLineError};
pub use codec::{Decoder, Encoder, WireError};
pub use config_disk::{ConfigDisk, ConfigDiskError};
pub use console::{BootStage, ConsoleEvent, InitStep, StageState};
pub use ids::{Digest, KeyId, NetworkId, RegisterValue, RequestId, UnixMillis, UnixTime};
pub use image::{ImageConfig, ImageConfigError, ImagePlatform};
pub use inner::InnerRequest;
pub use keyset::{KeyRole, Keyset, SealKeyEntry, SuiteId};
pub use manifest::{ManifestError, WorkerManifest};
pub use secret::SecretBytes;
