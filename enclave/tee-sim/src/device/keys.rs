//! INSECURE-SIM FAKE P-384 keys, derived from public constants. Trust nothing they sign. Signatures
//! take the nonces of RFC 6979, so that the same evidence is the same bytes everywhere.

use aws_lc_rs::agreement::{ECDH_P384, PrivateKey};
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey as EcdsaKey};
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
        self.signature(message).to_bytes().to_vec()
    }

    #[allow(clippy::expect_used)]
    fn signature(&self, message: &[u8]) -> Signature {
        // Invariant: the secret is a constant in range, as `of` has found.
        EcdsaKey::from_slice(&self.secret).expect("FAKE key is in range").sign(message)
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
        Ok(self.signature(message).to_der().as_bytes().to_vec())
    }
}

/// Public on purpose.
const PUBLIC_SEED: &[u8] = b"INSECURE-SIM FAKE DEVICE KEY, PUBLIC SEED v1";
