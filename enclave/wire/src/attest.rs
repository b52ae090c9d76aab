//! The attestation document: what a worker answers to `GET /v1/attestation?nonce=<64 hex>`.
//!
//! Nothing in it is believed before `chrysalis-evidence` has appraised it: the quote is signed by
//! the platform, everything else is bound to the quote through `report_data` and RTMR3.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// Schema name of [`AttestationDocument`].
pub const ATTESTATION_SCHEMA: &str = "chrysalis/attestation/v1";

/// Evidence of one worker for one nonce. Binary fields are lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestationDocument {
    /// [`ATTESTATION_SCHEMA`].
    pub schema: String,
    /// Which platform made the quote: `tdx`, `sgx`, or `INSECURE-SIM`. Informational: the
    /// verdict depends on the root that signed the quote, never on this word.
    pub platform: String,
    /// The quote, hex.
    pub quote: String,
    /// Canonical keyset bytes, hex.
    pub keyset: String,
    /// The exact bytes of the measured worker manifest, hex.
    pub manifest: String,
    /// RTMR3 extensions in order; replaying them gives the RTMR3 of the quote.
    pub events: Vec<RuntimeEvent>,
    /// Evidence of the worker's devices; left out where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceDocument>,
    /// Where this challenge stands among those the quote answers; left out where it is the only
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchDocument>,
}

/// The place of one challenge in the Merkle tree whose root a quote carries, and the way from there
/// to the root (RFC 9162 §2.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchDocument {
    /// Leaves before this one.
    pub index: u32,
    /// Leaves of the tree, two or more.
    pub size: u32,
    /// Hashes beside the way to the root, the one beside the leaf first.
    pub path: Vec<Digest>,
}

/// Evidence of one device, a GPU or a switch. Its nonce is derived from the caller's, and the
/// quote's `report_data` commits to all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceDocument {
    /// SPDM request and response, hex.
    pub report: String,
    /// DER certificates one behind the other, leaf first, hex.
    pub chain: String,
}

/// One extension of the runtime register (RTMR3): `RTMR = SHA-384(RTMR || digest)`, where
/// `digest = SHA-384("chrysalis/event/v1" || 0x00 || name || 0x00 || payload)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeEvent {
    /// Event name: `manifest`, `model-root`, ….
    pub name: String,
    /// The payload that was hashed, hex. Small: a digest, not the thing itself.
    pub payload: String,
}

/// Domain separator of runtime event digests.
pub const EVENT_DOMAIN: &[u8] = b"chrysalis/event/v1";
/// Event naming the SHA-256 of the worker manifest.
pub const EVENT_MANIFEST: &str = "manifest";
/// Event naming the model root.
pub const EVENT_MODEL_ROOT: &str = "model-root";
/// Reserved: the digest of a policy beside the manifest. Nothing extends it yet, and a verifier
/// refuses a log that has it.
pub const EVENT_POLICY: &str = "policy";
/// Reserved: the digest of the verdict over a GPU's evidence. Nothing extends it yet, and a
/// verifier refuses a log that has it.
pub const EVENT_GPU_VERDICT: &str = "gpu-verdict";
