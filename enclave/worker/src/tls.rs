//! TLS 1.3 and nothing older, with a certificate that only carries a key.
//!
//! The certificate is self-signed and proves nothing; its key digest is in the attested keyset and
//! possession is proved by the handshake (`reference: attestation §1.5, §2`). No tickets, no
//! resumption, no early data: every connection runs a full handshake (design §3, decision 10).

use std::sync::Arc;

use chrysalis_wire::Digest;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use sha2::{Digest as _, Sha256};

use crate::error::WorkerError;

/// A fresh TLS key with its server configuration.
pub struct TlsIdentity {
    /// SHA-256 of the DER SubjectPublicKeyInfo.
    pub spki: Digest,
    /// Configuration for the acceptor.
    pub config: Arc<ServerConfig>,
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
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| WorkerError::Keys("a TLS configuration"))?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .map_err(|_| WorkerError::Keys("a TLS configuration"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self { spki, config: Arc::new(config) })
    }
}
