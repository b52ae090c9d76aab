//! NVIDIA's reference integrity manifests: signed lists of what a driver or VBIOS version may
//! measure. This crate verifies one offline and turns it into golden values for pins. It runs on the
//! machine of whoever writes the policy; the file is attacker-controlled, and no XML is ever read
//! inside an enclave.
//!
//! A manifest is a SWID tag (TCG Reference Integrity Manifest Information Model) with an enveloped
//! XML signature: ECDSA P-384 over C14N 1.1. Only the exact form of NVIDIA's files is read: one
//! reference to the whole document, two transforms, four certificates, elements and text without
//! entities, comments, instructions or CDATA. Everything else is refused, so no canonicalisation
//! rule beyond that form is implemented. Values are taken from the tree whose canonical form was
//! hashed, never from the file a second time.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::arithmetic_side_effects)]

mod canonical;
mod manifest;
mod signature;
mod tree;

use chrysalis_evidence::nvidia::DeviceError;
use thiserror::Error;

pub use manifest::{Manifest, Part, RIM_ROOT_SHA256, RimRoot};

/// Largest manifest, in bytes; NVIDIA's are 21 KB.
pub const MAX_RIM_BYTES: usize = 256 * 1024;
/// Deepest nesting of elements; NVIDIA's files have 6.
pub const MAX_RIM_DEPTH: usize = 16;
/// Most elements; NVIDIA's files have 86.
pub const MAX_RIM_ELEMENTS: usize = 1024;

/// Why a manifest was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RimError {
    /// Larger than [`MAX_RIM_BYTES`].
    #[error("manifest is {got} bytes; the limit is {MAX_RIM_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not well-formed XML.
    #[error("not well-formed XML at byte {at}")]
    Xml {
        /// Where reading stopped.
        at: u64,
    },
    /// XML of a form that NVIDIA's manifests do not have.
    #[error("{what}, which no manifest of NVIDIA has")]
    Form {
        /// What there is.
        what: &'static str,
    },
    /// Something a manifest must have is missing or stands twice.
    #[error("{what} is missing, repeated or malformed")]
    Missing {
        /// The element or attribute.
        what: &'static str,
    },
    /// A signature of another kind.
    #[error("{what} is not {expected}")]
    Algorithm {
        /// The element that names it.
        what: &'static str,
        /// The only one accepted.
        expected: &'static str,
    },
    /// The document is not the one that was signed.
    #[error("the document's digest is not the signed one: it was changed after signing")]
    Digest,
    /// The signer's certificates do not lead to the pinned root, or not now.
    #[error("signer's certificate chain: {0}")]
    Chain(DeviceError),
    /// The signature is not the signer's.
    #[error("the signature does not verify under the signer's key")]
    Signature,
    /// A chip, version or value this build cannot use.
    #[error("{what}: {got:?}")]
    Content {
        /// What it is.
        what: &'static str,
        /// Its text, cut.
        got: String,
    },
}

impl RimError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-RIM-SIZE",
            Self::Xml { .. } | Self::Form { .. } | Self::Missing { .. } => "E-RIM-FORM",
            Self::Algorithm { .. } => "E-RIM-ALGORITHM",
            Self::Digest => "E-RIM-DIGEST",
            Self::Chain(DeviceError::NotValidNow { .. }) => "E-RIM-EXPIRED",
            Self::Chain(_) => "E-RIM-CHAIN",
            Self::Signature => "E-RIM-SIGNATURE",
            Self::Content { .. } => "E-RIM-CONTENT",
        }
    }
}
