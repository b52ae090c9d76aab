//! RA-TLS certificates: X.509 certificates that carry a TEE's quote for their own key. Reads,
//! verifies and makes them in three formats, and plugs into rustls.
//!
//! A certificate is attacker-controlled until it is verified; the quote's signature is judged by
//! [`chrysalis_evidence::Appraiser`], and nobody else is trusted. The crate has no socket, file or
//! clock: quotes come through a trait, collateral through [`CollateralSource`], time is
//! an argument.
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

mod cbor;
mod certificate;
mod der;
mod error;
mod evidence;
mod format;
mod key;
mod oid;
mod report;
mod tier;
mod verify;
mod x509;

#[cfg(test)]
mod tests;

pub use cbor::{CborError, MAX_CBOR_DEPTH, MAX_CBOR_ENTRIES};
pub use certificate::RatlsCertificate;
pub use error::RatlsError;
pub use evidence::{Claims, MAX_CLAIMS_BYTES, PubkeyHash, TAG_QUOTE, TaggedEvidence};
pub use format::Format;
pub use key::{KeyKind, PublicKey};
pub use oid::{
    OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_INTEL_COPY, OID_TAGGED_EVIDENCE,
};
pub use tier::{CertificateOnly, Tier};
pub use verify::{Appraised, CertificateOnlyPeer, CertificateVerifier, CollateralSource, Peer};
pub use x509::{
    MAX_CERTIFICATE_BYTES, MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_OID_BYTES, MAX_SERIAL_BYTES,
};
