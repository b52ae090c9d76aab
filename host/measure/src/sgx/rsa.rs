//! RSA with 3072 bits and exponent 3, as EINIT does it: on public values alone, so nothing here
//! is secret and nothing has to take constant time. Signing, which is secret, is
//! [`super::key`]'s.

use chrysalis_wire::Digest;
use num_bigint::BigUint;

use super::error::SigstructError;
use super::sigstruct::sha256;

/// Bytes of a modulus and of a signature.
pub(super) const MODULUS_BYTES: usize = 384;

/// An odd number of exactly 3072 bits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Modulus(BigUint);

/// Q1 and Q2, little-endian.
type Quotients = ([u8; MODULUS_BYTES], [u8; MODULUS_BYTES]);

impl Modulus {
    pub(super) fn from_le_bytes(bytes: &[u8; MODULUS_BYTES]) -> Result<Self, SigstructError> {
        let [first, .., last] = bytes;
        if last & 0x80 == 0 || first & 1 == 0 {
            return Err(SigstructError::Modulus);
        }
        Ok(Self(BigUint::from_bytes_le(bytes)))
    }

    pub(super) fn to_le_bytes(&self) -> [u8; MODULUS_BYTES] {
        to_le_bytes(&self.0)
    }

    pub(super) fn mrsigner(&self) -> Digest {
        Digest(sha256(&self.to_le_bytes()))
    }

    /// Verifies an RSASSA-PKCS1-v1_5 signature over SHA-256 (RFC 8017 section 8.2.2), and that
    /// Q1 and Q2 are the quotients of its two multiplications.
    ///
    /// The padded block is computed and compared as a whole: with exponent 3, a verifier that
    /// parses the padding accepts forgeries (CVE-2006-4339).
    pub(super) fn verify(
        &self,
        message: &[u8],
        signature: &[u8; MODULUS_BYTES],
        q1: &[u8; MODULUS_BYTES],
        q2: &[u8; MODULUS_BYTES],
    ) -> Result<(), SigstructError> {
        let cube = self.cube(signature)?;
        if to_le_bytes(&cube.q1) != *q1 {
            return Err(SigstructError::Quotient("Q1"));
        }
        if to_le_bytes(&cube.q2) != *q2 {
            return Err(SigstructError::Quotient("Q2"));
        }
        if cube.remainder != BigUint::from_bytes_be(&padded(message)) {
            return Err(SigstructError::Signature);
        }
        Ok(())
    }

    /// Q1 = ⌊s²/n⌋ and Q2 = ⌊s·(s² mod n)/n⌋, which spare the CPU its divisions.
    pub(super) fn quotients(
        &self,
        signature: &[u8; MODULUS_BYTES],
    ) -> Result<Quotients, SigstructError> {
        let cube = self.cube(signature)?;
        Ok((to_le_bytes(&cube.q1), to_le_bytes(&cube.q2)))
    }

    #[allow(clippy::arithmetic_side_effects)] // unbounded integers; the modulus is not zero
    fn cube(&self, signature: &[u8; MODULUS_BYTES]) -> Result<Cube, SigstructError> {
        let (n, s) = (&self.0, BigUint::from_bytes_le(signature));
        if s >= *n {
            return Err(SigstructError::Range);
        }
        let square = &s * &s;
        let (q1, square) = (&square / n, square % n);
        let cube = square * s;
        Ok(Cube { q1, q2: &cube / n, remainder: cube % n })
    }
}

/// s³ by way of s², with what was divided away.
struct Cube {
    q1: BigUint,
    q2: BigUint,
    remainder: BigUint,
}

/// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2): 00 01 ff…ff 00, the DigestInfo of SHA-256, the digest.
fn padded(message: &[u8]) -> [u8; MODULUS_BYTES] {
    let mut block = [0xff; MODULUS_BYTES];
    let tail = SHA256_INFO.iter().copied().chain(sha256(message));
    // Written from the end, so that the length of the padding follows by itself.
    let tail: Vec<u8> = core::iter::once(0).chain(tail).collect();
    for (to, from) in block.iter_mut().rev().zip(tail.iter().rev()) {
        *to = *from;
    }
    for (to, from) in block.iter_mut().zip([0, 1]) {
        *to = from;
    }
    block
}

/// A number below 2^3072 in its fixed width.
fn to_le_bytes(number: &BigUint) -> [u8; MODULUS_BYTES] {
    let mut bytes = [0; MODULUS_BYTES];
    for (to, from) in bytes.iter_mut().zip(number.to_bytes_le()) {
        *to = from;
    }
    bytes
}

/// DER of DigestInfo up to the digest, RFC 8017 section 9.2 note 1.
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
