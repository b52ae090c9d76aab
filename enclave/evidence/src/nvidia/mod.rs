//! NVIDIA device evidence: SPDM reports of GPUs and switches. The peer and its host are the
//! attacker; a device is believed only through [`Device`], which nothing but [`Device::verify`] and
//! the steps it is made of can build. Time, nonce and root are arguments.
//!
//! The chain of trust: pinned root → factory → fused device key → leaf, which names the firmware
//! it belongs to → report. What the device measured is then compared with golden values of the
//! verifier's own pins, which come from NVIDIA's signed manifests (`chrysalis policy import-rim`).
//!
//! What a report does not prove: that this device is attached to the guest that shows it. The
//! measured guest must have attested the device itself and bind [`device_digest`] into its quote.

mod appraisal;
mod certificate;
mod chain;
mod device;
mod error;
mod kind;
mod opaque;
mod pem;
mod pins;
mod report;
mod root;

pub(crate) use appraisal::judge;
pub use appraisal::{DeviceVerdict, appraise};
pub use chain::{Signer, verify_signer};
pub use device::{ClaimedDevice, Device, DeviceEvidence, IdentifiedDevice, device_digest};
pub use error::DeviceError;
pub use kind::DeviceKind;
pub use opaque::{MAX_OPAQUE_FIELDS, MAX_OPAQUE_TEXT_BYTES, Mode, Opaque};
pub use pem::chain_from_pem;
pub(crate) use pins::DeviceSection;
pub use pins::{
    DevicePins, Golden, MAX_DENIED_SERIALS, MAX_DEVICES, MAX_GOLDEN_ALTERNATIVES, MAX_GOLDEN_SETS,
};
pub use report::{MAX_RECORDS, Record, Report};
pub use root::DeviceRoot;

/// Largest report, in bytes: the buffer of NVIDIA's management library.
pub const MAX_DEVICE_REPORT_BYTES: usize = 0x2000;
/// Largest certificate chain, in bytes of DER; the same library's buffer for it as PEM.
pub const MAX_DEVICE_CHAIN_BYTES: usize = 0x1400;
/// Certificates in a chain: leaf, device, provisioner, identity, root.
pub const CHAIN_LENGTH: usize = 5;
