//! Cryptography under `dcap-qvl`: ECDSA P-256 and the hashes from aws-lc-rs, the library TLS uses
//! too, so the trusted code holds one implementation. Certificate parsing and signature encoding
//! stay `dcap-qvl`'s own.

use aws_lc_rs::{digest, signature};
use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::x509::X509CertBackend;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};

/// The only configuration quotes are verified with.
pub(crate) struct AwsLcConfig;

impl Config for AwsLcConfig {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = AwsLcCrypto;
}

/// aws-lc-rs primitives in the shape `dcap-qvl` asks for.
pub(crate) struct AwsLcCrypto;

impl CryptoProvider for AwsLcCrypto {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        &EcdsaP256Sha256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        fixed(digest::digest(&digest::SHA256, data).as_ref())
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        fixed(digest::digest(&digest::SHA384, data).as_ref())
    }
}

/// ECDSA over P-256 with SHA-256, the one algorithm of Intel's PKI.
#[derive(Debug)]
struct EcdsaP256Sha256;

impl SignatureVerificationAlgorithm for EcdsaP256Sha256 {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }

    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0u8; N];
    // A digest of the wrong length would stay zero and match nothing.
    if bytes.len() == N {
        out.copy_from_slice(bytes);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_agree_with_the_other_implementation() {
        use sha2::Digest as _;
        let data = b"two libraries, one answer";
        assert_eq!(AwsLcCrypto::sha256(data), <[u8; 32]>::from(sha2::Sha256::digest(data)));
        assert_eq!(AwsLcCrypto::sha384(data), <[u8; 48]>::from(sha2::Sha384::digest(data)));
    }

    #[test]
    fn refuses_a_signature_of_nothing() {
        assert!(AwsLcCrypto::sig_algo().verify_signature(&[4; 65], b"m", &[]).is_err());
    }
}
