//! The public key of a certificate: three kinds, each with one encoding of its
//! SubjectPublicKeyInfo. Attacker-controlled until the handshake has proved that the peer holds it.

use core::fmt;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

use crate::der::{self, Reader};
use crate::error::RatlsError;

/// Kinds of keys that RA-TLS certificates carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256, uncompressed point.
    P256,
    /// ECDSA on P-384, uncompressed point.
    P384,
    /// Ed25519, RFC 8410.
    Ed25519,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// A public key in its SubjectPublicKeyInfo.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Vec<u8>,
    raw: Vec<u8>,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo that must fill `spki`.
    ///
    /// # Errors
    /// [`RatlsError::KeyKind`] for other keys; [`RatlsError::Der`], [`RatlsError::Trailing`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, RatlsError> {
        const WHAT: &str = "public key";
        let mut outer = Reader::new(spki);
        let mut fields = outer.nested(der::SEQUENCE, WHAT)?;
        outer.finish(WHAT)?;
        let algorithm = fields.value(der::SEQUENCE, "public key algorithm")?;
        let raw = der::whole_bits(fields.value(der::BIT_STRING, WHAT)?, WHAT)?;
        fields.finish(WHAT)?;
        let kind = match algorithm {
            ALGORITHM_P256 if is_point(raw, 65) => KeyKind::P256,
            ALGORITHM_P384 if is_point(raw, 97) => KeyKind::P384,
            ALGORITHM_ED25519 if raw.len() == 32 && !has_small_order(raw) => KeyKind::Ed25519,
            _ => return Err(RatlsError::KeyKind),
        };
        Ok(Self { kind, spki: spki.to_vec(), raw: raw.to_vec() })
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what a session and a keyset name a TLS key by.
    #[must_use]
    pub fn spki_sha256(&self) -> Digest {
        Digest(Sha256::digest(&self.spki).into())
    }

    /// The bare key: an uncompressed point (65 or 97 bytes), or 32 bytes of Ed25519.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Verifies a certificate's signature; `algorithm` is the content of its AlgorithmIdentifier.
    pub(crate) fn verify(
        &self,
        algorithm: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), RatlsError> {
        let mut fields = Reader::new(algorithm);
        let oid = fields.value(der::OID, "signature algorithm")?;
        // Gramine writes NULL where RFC 5758 §3.2 wants nothing.
        let null = fields.peek() == Some(der::NULL);
        if null && !fields.value(der::NULL, "signature algorithm")?.is_empty() {
            return Err(RatlsError::Der {
                what: "signature algorithm",
                reason: "NULL holds bytes",
            });
        }
        fields.finish("signature algorithm")?;
        let verifier: &dyn VerificationAlgorithm = match (self.kind, oid) {
            (KeyKind::P256, ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, ECDSA_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
            // Gramine signs with its P-384 keys over SHA-256.
            (KeyKind::P384, ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
            (KeyKind::Ed25519, ED25519) if !null => &signature::ED25519,
            _ => return Err(RatlsError::SignatureAlgorithm { kind: self.kind }),
        };
        UnparsedPublicKey::new(verifier, &self.raw)
            .verify(message, signature)
            .map_err(|_| RatlsError::Signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.kind, self.spki_sha256())
    }
}

fn is_point(raw: &[u8], length: usize) -> bool {
    raw.len() == length && raw.first() == Some(&4)
}

/// Whether an Ed25519 key is a point of small order, whose signatures anybody can make. The verifier
/// below knows no such rule. The last bit of a key is the sign of x, which makes no difference.
fn has_small_order(raw: &[u8]) -> bool {
    let without_sign = |(at, byte): (usize, &u8)| if at == 31 { byte & 0x7f } else { *byte };
    SMALL_ORDER.iter().any(|y| raw.iter().enumerate().map(without_sign).eq(y.iter().copied()))
}

const P: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};

/// `y` with another first byte.
const fn starting(first: u8, mut y: [u8; 32]) -> [u8; 32] {
    y[0] = first;
    y
}

/// y of every point whose order divides eight, little endian: 0, 1, -1, the two of order eight, and 0
/// and 1 spelled as p and p + 1.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    starting(1, [0; 32]),
    starting(0xec, P),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    P,
    starting(0xee, P),
];

/// id-ecPublicKey with prime256v1, RFC 5480.
const ALGORITHM_P256: &[u8] = &[
    0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D,
    0x03, 0x01, 0x07,
];
/// id-ecPublicKey with secp384r1, RFC 5480.
const ALGORITHM_P384: &[u8] = &[
    0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22,
];
/// id-Ed25519 without parameters, RFC 8410.
const ALGORITHM_ED25519: &[u8] = &[0x06, 0x03, 0x2B, 0x65, 0x70];
/// 1.2.840.10045.4.3.2
pub(crate) const ECDSA_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
/// 1.2.840.10045.4.3.3
pub(crate) const ECDSA_SHA384: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03];
/// 1.3.101.112
pub(crate) const ED25519: &[u8] = &[0x2B, 0x65, 0x70];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &[u8; 32]) -> Result<PublicKey, RatlsError> {
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05];
        spki.extend_from_slice(ALGORITHM_ED25519);
        spki.extend_from_slice(&[0x03, 0x21, 0x00]);
        spki.extend_from_slice(raw);
        PublicKey::from_spki(&spki)
    }

    /// With such a key a signature by nobody verifies, so nobody would be at the other end.
    #[test]
    fn refuses_an_ed25519_key_of_small_order_with_either_sign() {
        for y in SMALL_ORDER {
            let mut other_sign = y;
            other_sign[31] ^= 0x80;
            for raw in [y, other_sign] {
                assert_eq!(read(&raw).map(|_| ()), Err(RatlsError::KeyKind), "{raw:02x?}");
            }
            let mut neighbour = y;
            neighbour[5] ^= 1;
            assert!(read(&neighbour).is_ok());
        }
    }
}
