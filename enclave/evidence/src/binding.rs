//! What a quote is bound to: `report_data` ties one quote to one TLS connection, one nonce and one
//! keyset. The worker makes it inside, a verifier recomputes it from its own session and never
//! reads the expected value from the peer.
//!
//! ```text
//! leaf        = SHA-256(0x00 || "chrysalis/attest/v1" || role u8 || SHA-256(SPKI)[32] || nonce[32]
//!                       || exporter[32] || keyset_digest[32] || device_digest[32])
//! report_data = SHA-512("chrysalis/report-data/v1" || root)      one leaf: root = leaf
//! ```
//!
//! All fields have a fixed length, so no two inputs share an encoding. The leading zero byte is the
//! leaf tag of a Merkle tree: one quote may answer several challenges, see [`crate::Batch`].

use core::fmt;

use chrysalis_wire::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::hexadecimal;

/// Label of the RFC 8446 §7.5 exporter when the TLS server proves itself; 32 bytes, no context.
/// It starts with `EXPERIMENTAL` because RFC 5705 §4 reserves unregistered use to that prefix.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL-chrysalis-attest-server-v1";

/// Label of the exporter when the TLS client proves itself. Another one, so that what one end signs
/// is never what the other has to: evidence cannot be reflected.
pub const EXPORTER_LABEL_CLIENT: &[u8] = b"EXPERIMENTAL-chrysalis-attest-client-v1";

/// Which end of the TLS connection proves itself. Part of the leaf, so evidence cannot be
/// reflected to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The TLS server: a worker.
    Server = 1,
    /// The TLS client.
    Client = 2,
}

impl Role {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// The verifier's own view of the connection evidence was asked for on. No field may come from the
/// peer, and there is no default: a verdict cannot be reached without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Nonce the verifier drew for this challenge.
    #[serde(with = "hexadecimal::array")]
    pub nonce: [u8; 32],
    /// SHA-256 of the DER SubjectPublicKeyInfo of the certificate presented in this connection.
    pub tls_spki: Digest,
    /// TLS exporter of this connection under [`EXPORTER_LABEL`]; if its client proves itself, under
    /// [`EXPORTER_LABEL_CLIENT`].
    #[serde(with = "hexadecimal::array")]
    pub exporter: [u8; 32],
}

impl Session {
    /// The nonce the worker's devices were to be asked with: [`gpu_nonce`] of this session.
    #[must_use]
    pub fn gpu_nonce(&self) -> [u8; 32] {
        gpu_nonce(&self.tls_spki, &self.nonce, &self.exporter)
    }
}

/// `SHA-256("chrysalis/gpu-nonce/v1" || SHA-256(SPKI)[32] || nonce[32] || exporter[32])`: a device's
/// report is as fresh as the quote, and for the same connection.
#[must_use]
pub fn gpu_nonce(tls_spki: &Digest, nonce: &[u8; 32], exporter: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(GPU_NONCE_DOMAIN);
    hash.update(tls_spki.0);
    hash.update(nonce);
    hash.update(exporter);
    hash.finalize().into()
}

/// Everything `report_data` commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which end proves itself.
    pub role: Role,
    /// SHA-256 of the DER SubjectPublicKeyInfo of that end's TLS certificate.
    pub tls_spki: Digest,
    /// The verifier's nonce.
    pub nonce: [u8; 32],
    /// TLS exporter of the connection.
    pub exporter: [u8; 32],
    /// [`keyset_digest`] of the canonical keyset bytes.
    pub keyset_digest: Digest,
    /// [`crate::nvidia::device_digest`] of the device (GPU) evidence; zeros mean there is no device.
    pub device_digest: Digest,
}

impl Binding {
    /// The value to put into a quote that answers this challenge alone, or to expect in one.
    #[must_use]
    pub fn report_data(&self) -> ReportData {
        ReportData::of_root(&self.leaf().0)
    }

    /// The leaf of this challenge in a batch of several.
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        let mut leaf = Sha256::new();
        leaf.update([LEAF_TAG]);
        leaf.update(LEAF_DOMAIN);
        leaf.update([self.role as u8]);
        leaf.update(self.tls_spki.0);
        leaf.update(self.nonce);
        leaf.update(self.exporter);
        leaf.update(self.keyset_digest.0);
        leaf.update(self.device_digest.0);
        Leaf(leaf.finalize().into())
    }
}

/// What one challenge contributes to a quote. Only [`Binding::leaf`] makes one, so nothing a peer
/// sends can be signed in the place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf(pub(crate) [u8; 32]);

/// The 64 bytes of `report_data`.
#[derive(Clone, PartialEq, Eq)]
pub struct ReportData(pub [u8; 64]);

impl ReportData {
    /// `SHA-512("chrysalis/report-data/v1" || root)`.
    pub(crate) fn of_root(root: &[u8; 32]) -> Self {
        let mut data = Sha512::new();
        data.update(REPORT_DATA_DOMAIN);
        data.update(root);
        Self(data.finalize().into())
    }

    /// Whether a quote carries exactly this value, in constant time.
    #[must_use]
    pub fn matches(&self, found: &[u8; 64]) -> bool {
        self.0.ct_eq(found).into()
    }
}

impl fmt::Debug for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportData({})", hex::encode(self.0))
    }
}

/// SHA-256 of the canonical keyset bytes.
#[must_use]
pub fn keyset_digest(keyset: &[u8]) -> Digest {
    Digest(Sha256::digest(keyset).into())
}

const LEAF_TAG: u8 = 0x00;
const LEAF_DOMAIN: &[u8] = b"chrysalis/attest/v1";
const GPU_NONCE_DOMAIN: &[u8] = b"chrysalis/gpu-nonce/v1";
const REPORT_DATA_DOMAIN: &[u8] = b"chrysalis/report-data/v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            role: Role::Server,
            tls_spki: Digest([1; 32]),
            nonce: [2; 32],
            exporter: [3; 32],
            keyset_digest: Digest([4; 32]),
            device_digest: Digest([0; 32]),
        }
    }

    #[test]
    fn report_data_is_the_documented_hash() {
        // Computed apart from this code, with Python's hashlib, from the formula above.
        assert_eq!(hex::encode(binding().report_data().0), KNOWN_REPORT_DATA);
    }

    #[test]
    fn every_field_changes_report_data() {
        let same = binding().report_data();
        let mut all = [binding(), binding(), binding(), binding(), binding(), binding()];
        all[0].role = Role::Client;
        all[1].tls_spki.0[31] ^= 1;
        all[2].nonce[0] ^= 1;
        all[3].exporter[0] ^= 1;
        all[4].keyset_digest.0[0] ^= 1;
        all[5].device_digest.0[0] ^= 1;
        for (i, changed) in all.iter().enumerate() {
            assert!(!changed.report_data().matches(&same.0), "field {i} is not bound");
        }
        assert!(same.matches(&binding().report_data().0));
    }

    #[test]
    fn gpu_nonce_is_the_documented_hash_and_depends_on_the_whole_session() {
        let session = Session { nonce: [2; 32], tls_spki: Digest([1; 32]), exporter: [3; 32] };
        assert_eq!(hex::encode(session.gpu_nonce()), KNOWN_GPU_NONCE);
        let mut others = [session.clone(), session.clone(), session.clone()];
        others[0].nonce[0] ^= 1;
        others[1].tls_spki.0[0] ^= 1;
        others[2].exporter[0] ^= 1;
        assert!(others.iter().all(|other| other.gpu_nonce() != session.gpu_nonce()));
    }

    #[test]
    fn swapping_two_fields_changes_report_data() {
        let mut b = binding();
        core::mem::swap(&mut b.nonce, &mut b.exporter);
        assert_ne!(b.report_data(), binding().report_data());
    }

    /// As the value below, with Python's hashlib.
    const KNOWN_GPU_NONCE: &str =
        "5dbb7154a7a8ec180dce413a787ae56c81ff49afed8719f4ced4b7752bffec6b";
    const KNOWN_REPORT_DATA: &str = "82453e7569772772100017904a5e60d349596de69ad68ab2be4cd3ea5150e5af\
        7bfab24cc50fcade561900b32428dd7515e1cffa6a6b3218cc1457e7b15bb5d2";
}
