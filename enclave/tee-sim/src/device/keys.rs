//! INSECURE-SIM FAKE P-384 keys, derived from public constants. Trust nothing they sign.

use aws_lc_rs::agreement::{ECDH_P384, PrivateKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm,
};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use sha2::{Digest as _, Sha384};

/// A P-384 key whose secret half is public.
pub(super) struct DeviceKey {
    secret: [u8; 48],
    public: [u8; 97],
}

impl DeviceKey {
    /// `secret = SHA-384("INSECURE-SIM FAKE DEVICE KEY, PUBLIC SEED v1" || 0x00 || label)`.
    #[allow(clippy::expect_used)]
    pub(super) fn of(label: &str) -> Self {
        let secret: [u8; 48] = Sha384::new()
            .chain_update(PUBLIC_SEED)
            .chain_update([0])
            .chain_update(label)
            .finalize()
            .into();
        // Invariant: labels are a few constants and a number, and one hash in 2^190 is not below
        // the order of P-384.
        let public = PrivateKey::from_private_key(&ECDH_P384, &secret)
            .ok()
            .and_then(|key| key.compute_public_key().ok())
            .and_then(|point| point.as_ref().try_into().ok())
            .expect("FAKE key is a constant and in range");
        Self { secret, public }
    }

    /// The uncompressed point.
    pub(super) const fn point(&self) -> &[u8; 97] {
        &self.public
    }

    /// A 96-byte `r || s` signature, as reports carry it.
    pub(super) fn sign_raw(&self, message: &[u8]) -> Vec<u8> {
        self.signature(&ECDSA_P384_SHA384_FIXED_SIGNING, message)
    }

    #[allow(clippy::expect_used)]
    fn signature(&self, algorithm: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Vec<u8> {
        // Invariant: the pair was derived together, and signing fails only without OS randomness.
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &self.secret, &self.public)
            .ok()
            .and_then(|pair| pair.sign(&SystemRandom::new(), message).ok())
            .expect("FAKE key pair is consistent and the OS has randomness")
            .as_ref()
            .to_vec()
    }
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P384_SHA384
    }
}

impl SigningKey for DeviceKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.signature(&ECDSA_P384_SHA384_ASN1_SIGNING, message))
    }
}

/// Public on purpose.
const PUBLIC_SEED: &[u8] = b"INSECURE-SIM FAKE DEVICE KEY, PUBLIC SEED v1";
