//! TLS 1.3 and nothing older, with a certificate that only carries a key.
//!
//! The certificate is self-signed and proves nothing; its key digest is in the attested keyset and
//! possession is proved by the handshake (`reference: attestation §1.5, §2`). No tickets, no
//! resumption, no early data: every connection runs a full handshake (design §3, decision 10).

use std::sync::Arc;

use chrysalis_wire::Digest;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

use crate::error::WorkerError;

/// A fresh TLS key with its server configuration.
pub struct TlsIdentity {
    /// SHA-256 of the DER SubjectPublicKeyInfo.
    pub spki: Digest,
    /// Certificate and key, as a resolver of either end of a connection.
    pub key: Arc<SingleCertAndKey>,
    /// Configuration for the acceptor.
    pub config: Arc<ServerConfig>,
    /// The same, asking clients for a key that they may show.
    pub asking: Arc<ServerConfig>,
}

impl TlsIdentity {
    /// Makes a P-256 key and a self-signed certificate for it.
    ///
    /// # Errors
    /// [`WorkerError::Keys`] if the library refuses, which it does only without randomness.
    pub fn generate() -> Result<Self, WorkerError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|_| WorkerError::Keys("a TLS key"))?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])
            .map_err(|_| WorkerError::Keys("a TLS certificate"))?;
        params.distinguished_name.push(DnType::CommonName, "chrysalis worker");
        // The validity period is not what limits trust: the keyset does. A fixed period keeps a
        // wrong clock from making the worker unreachable.
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2046, 1, 1);
        let certificate =
            params.self_signed(&key).map_err(|_| WorkerError::Keys("a TLS certificate"))?;
        let spki = Digest(Sha256::digest(key.subject_public_key_info()).into());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let private = aws_lc_rs::sign::any_supported_type(&private)
            .map_err(|_| WorkerError::Keys("a TLS key"))?;
        let key = CertifiedKey::new(vec![certificate.der().clone()], private);
        let key = Arc::new(SingleCertAndKey::from(key));
        let config = self::config(&key, WebPkiClientVerifier::no_client_auth())?;
        let asking = self::config(&key, Arc::new(KeyCarrier(aws_lc_rs::default_provider())))?;
        Ok(Self { spki, key, config, asking })
    }
}

fn config(
    key: &Arc<SingleCertAndKey>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, WorkerError> {
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| WorkerError::Keys("a TLS configuration"))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(key) as _);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The key a client showed, and proved in the handshake to hold; none if it showed none.
///
/// # Errors
/// If its certificate is not one.
pub fn shown_key(chain: Option<&[CertificateDer<'_>]>) -> Result<Option<Digest>, rustls::Error> {
    let Some([certificate, ..]) = chain else { return Ok(None) };
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Some(Digest(Sha256::digest(parsed.subject_public_key_info()).into())))
}

/// Takes one certificate of a client as the carrier of a key, or none. It is trusted for nothing:
/// what the key is worth is for evidence to say.
#[derive(Debug)]
struct KeyCarrier(CryptoProvider);

impl ClientCertVerifier for KeyCarrier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if !intermediates.is_empty() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        ParsedCertificate::try_from(end_entity)?;
        Ok(ClientCertVerified::assertion())
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
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
