//! INSECURE-SIM FAKE keys, derived from public constants. Trust nothing they sign. Signatures take
//! the nonces of RFC 6979, so that the same evidence is the same bytes everywhere.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey as EcdsaKey};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use sha2::{Digest as _, Sha256};

/// Who in the FAKE hierarchy signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    Root,
    TcbSigning,
    PlatformCa,
    Pck,
    Attestation,
    /// Nobody vouches for this one; [`crate::Faults::uncertified_key`] signs with it.
    Stranger,
}

impl Signer {
    const fn label(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::TcbSigning => "tcb-signing",
            Self::PlatformCa => "platform-ca",
            Self::Pck => "pck",
            Self::Attestation => "attestation",
            Self::Stranger => "stranger",
        }
    }
}

/// A P-256 key whose secret half is public.
pub(crate) struct FakeKey {
    secret: [u8; 32],
    public: [u8; UNCOMPRESSED_POINT],
}

impl FakeKey {
    /// `secret = SHA-256("INSECURE-SIM FAKE KEY, PUBLIC SEED v1" || 0x00 || label)`.
    #[allow(clippy::expect_used)]
    pub(crate) fn of(signer: Signer) -> Self {
        let secret: [u8; 32] = Sha256::new()
            .chain_update(PUBLIC_SEED)
            .chain_update([0])
            .chain_update(signer.label())
            .finalize()
            .into();
        // Invariant: six constants, each below the order of P-256; a test derives them all.
        let public = PrivateKey::from_private_key(&ECDH_P256, &secret)
            .ok()
            .and_then(|key| key.compute_public_key().ok())
            .and_then(|point| point.as_ref().try_into().ok())
            .expect("FAKE key is a constant and in range");
        Self { secret, public }
    }

    /// The public point without its format byte, as quotes carry it.
    pub(crate) fn raw_public(&self) -> [u8; 64] {
        let mut raw = [0; 64];
        raw.copy_from_slice(self.public.split_at(1).1);
        raw
    }

    /// A 64-byte `r || s` signature, as quotes and Intel's JSON carry it.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        self.signature(message).to_bytes().into()
    }

    #[allow(clippy::expect_used)]
    fn signature(&self, message: &[u8]) -> Signature {
        // Invariant: the secret is a constant in range, as `of` has found.
        EcdsaKey::from_slice(&self.secret).expect("FAKE key is in range").sign(message)
    }
}

impl PublicKeyData for FakeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for FakeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.signature(message).to_der().as_bytes().to_vec())
    }
}

/// Public on purpose.
const PUBLIC_SEED: &[u8] = b"INSECURE-SIM FAKE KEY, PUBLIC SEED v1";
const UNCOMPRESSED_POINT: usize = 65;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_six_different_keys_and_always_the_same() {
        let all = [
            Signer::Root,
            Signer::TcbSigning,
            Signer::PlatformCa,
            Signer::Pck,
            Signer::Attestation,
            Signer::Stranger,
        ];
        for (i, signer) in all.iter().enumerate() {
            let key = FakeKey::of(*signer);
            assert_eq!(key.public, FakeKey::of(*signer).public);
            assert_eq!(key.public[0], 4, "not an uncompressed point");
            assert!(all[..i].iter().all(|other| FakeKey::of(*other).public != key.public));
        }
    }
}
