//! TLS 1.3 to a worker. The certificate is trusted for nothing: it carries a key, the handshake
//! signature proves possession of that key, and the attestation says whose key it is.
//!
//! No resumption, no tickets, no early data: each connection is a full handshake with fresh
//! exporter secrets, so evidence cannot outlive the connection it was made for (reference
//! `attestation.md` §2).

use std::fmt;
use std::sync::{Arc, OnceLock};

use chrysalis_wire::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, PeerIncompatible,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

/// Protocol offered in ALPN.
pub(crate) const ALPN: &[u8] = b"http/1.1";

/// Why the key in a certificate was refused; travels through rustls inside its own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyRefusal {
    /// More than the one certificate that carries the key.
    Intermediates {
        /// Certificates beyond the first.
        got: usize,
    },
    /// Not the key this connection was pinned to.
    Changed {
        /// SPKI digest pinned.
        expected: Digest,
        /// SPKI digest presented.
        got: Digest,
    },
}

impl fmt::Display for KeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intermediates { got } => write!(f, "{got} certificates beyond the first"),
            Self::Changed { expected, got } => write!(f, "key {got}, pinned {expected}"),
        }
    }
}

impl std::error::Error for KeyRefusal {}

impl From<KeyRefusal> for rustls::Error {
    fn from(refusal: KeyRefusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

/// Finds the [`KeyRefusal`] inside an error of rustls.
pub(crate) fn key_refusal(error: &rustls::Error) -> Option<KeyRefusal> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref::<KeyRefusal>().copied()
        }
        _ => None,
    }
}

/// Accepts any certificate as the carrier of a key, remembers the key's digest, and checks that
/// the peer holds the key. One value serves one connection.
pub(crate) struct KeyVerifier {
    pin: Option<Digest>,
    presented: OnceLock<Digest>,
    provider: Arc<CryptoProvider>,
}

impl KeyVerifier {
    /// A verifier that accepts only `pin`, or any key if there is no pin yet.
    pub(crate) fn new(pin: Option<Digest>) -> Arc<Self> {
        Arc::new(Self { pin, presented: OnceLock::new(), provider: Arc::new(provider()) })
    }

    /// SHA-256 of the SubjectPublicKeyInfo the peer presented and proved to hold.
    pub(crate) fn presented(&self) -> Option<Digest> {
        self.presented.get().copied()
    }

    /// The client configuration around this verifier; it shows a key of `own` to a server that asks.
    ///
    /// # Errors
    /// Only if the provider cannot do TLS 1.3.
    pub(crate) fn config(
        self: &Arc<Self>,
        own: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<ClientConfig, rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>);
        let mut config = match own {
            Some(own) => config.with_client_cert_resolver(own),
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        // A worker has no name: whoever watches the wire learns nothing from the hello.
        config.enable_sni = false;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

impl fmt::Debug for KeyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyVerifier").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !intermediates.is_empty() {
            return Err(KeyRefusal::Intermediates { got: intermediates.len() }.into());
        }
        let got = spki_digest(end_entity)?;
        if let Some(expected) = self.pin
            && expected != got
        {
            return Err(KeyRefusal::Changed { expected, got }.into());
        }
        // A verifier that is used twice keeps the first key; the second must be the same.
        if *self.presented.get_or_init(|| got) != got {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of the DER SubjectPublicKeyInfo in a certificate.
///
/// # Errors
/// If the certificate cannot be parsed.
pub(crate) fn spki_digest(certificate: &CertificateDer<'_>) -> Result<Digest, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Digest(Sha256::digest(parsed.subject_public_key_info()).into()))
}

/// aws-lc-rs with the hybrid post-quantum group first and one classical fallback.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_only_tls_13_and_the_hybrid_group_first() {
        let config = KeyVerifier::new(None).config(None).unwrap();
        let first = config.crypto_provider().kx_groups[0].name();
        assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
        assert!(!config.enable_early_data && !config.enable_sni);
    }

    fn certificate() -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn verify(
        verifier: &KeyVerifier,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let name = ServerName::try_from("worker").unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        verifier.verify_server_cert(certificate, others, &name, &[], now).map(drop)
    }

    #[test]
    fn takes_any_key_without_a_pin_and_says_which() {
        let (verifier, certificate) = (KeyVerifier::new(None), certificate());
        verify(&verifier, &certificate, &[]).unwrap();
        assert_eq!(verifier.presented(), Some(spki_digest(&certificate).unwrap()));
    }

    #[test]
    fn refuses_another_key_than_the_pinned_one() {
        let (pinned, other) = (certificate(), certificate());
        let (expected, got) = (spki_digest(&pinned).unwrap(), spki_digest(&other).unwrap());
        let verifier = KeyVerifier::new(Some(expected));
        let refused = verify(&verifier, &other, &[]).unwrap_err();
        assert_eq!(key_refusal(&refused), Some(KeyRefusal::Changed { expected, got }));
        assert_eq!(verifier.presented(), None);
        verify(&verifier, &pinned, &[]).unwrap();
    }

    #[test]
    fn refuses_a_second_key_on_one_connection() {
        let verifier = KeyVerifier::new(None);
        verify(&verifier, &certificate(), &[]).unwrap();
        assert!(verify(&verifier, &certificate(), &[]).is_err());
    }

    #[test]
    fn refuses_a_chain() {
        let refused = verify(&KeyVerifier::new(None), &certificate(), &[certificate()]);
        let refusal = key_refusal(&refused.unwrap_err());
        assert_eq!(refusal, Some(KeyRefusal::Intermediates { got: 1 }));
    }

    #[test]
    fn refuses_a_certificate_that_carries_no_key() {
        let broken = CertificateDer::from(vec![0x30, 0]);
        assert!(verify(&KeyVerifier::new(None), &broken, &[]).is_err());
    }

    #[test]
    fn key_refusal_survives_the_trip_through_rustls() {
        let refusal = KeyRefusal::Intermediates { got: 2 };
        assert_eq!(key_refusal(&refusal.into()), Some(refusal));
        assert_eq!(key_refusal(&rustls::Error::DecryptError), None);
    }
}
