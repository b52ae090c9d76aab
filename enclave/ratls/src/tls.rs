//! The verifier and the identities inside rustls: TLS 1.3 only, aws-lc-rs, the hybrid group first,
//! no tickets, no resumption, no early data, so that every connection is a handshake of its own.
//!
//! The handshake proves that the peer holds the certificate's key. Signatures are verified with
//! the key this crate read, because webpki refuses certificates with Cocoon's critical extensions:
//! one parser decides everything.

use std::sync::{Arc, PoisonError, RwLock};

use chrysalis_evidence::Role;
use chrysalis_wire::UnixTime;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{self, CertificateDer, ServerName, SubjectPublicKeyInfoDer};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::certificate::RatlsCertificate;
use crate::error::RatlsError;
use crate::generate::Identity;
use crate::verify::{CertificateVerifier, Peer};

/// The identity an end presents, replaceable while connections are accepted. Those that are open
/// stay on the identity they began with.
#[derive(Debug)]
pub struct Identities {
    current: RwLock<Identity>,
}

impl Identities {
    /// Begins with one identity.
    #[must_use]
    pub fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(identity) })
    }

    /// Presents another identity from the next handshake on.
    pub fn replace(&self, identity: Identity) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// The identity presented now.
    #[must_use]
    pub fn current(&self) -> Identity {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The identity, if the peer can verify its key's signatures.
    fn resolve(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let identity = self.current();
        let fits = identity.certified().key.choose_scheme(schemes).is_some();
        fits.then(|| Arc::clone(identity.certified()))
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.resolve(hello.signature_schemes())
    }
}

impl ResolvesClientCert for Identities {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.resolve(schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl CertificateVerifier {
    /// The peer at the end `holder` of a connection, from the certificates it presented there
    /// (`peer_certificates` of the connection). It is read and appraised again: the handshake has
    /// done both already, and rustls keeps nothing of it but the bytes.
    ///
    /// # Errors
    /// [`RatlsError`]; none the handshake would not have ended with, if `now` is the same.
    pub fn peer(
        &self,
        presented: Option<&[CertificateDer<'_>]>,
        holder: Role,
        now: UnixTime,
    ) -> Result<Peer, RatlsError> {
        match presented.unwrap_or_default() {
            [] => Err(RatlsError::NoCertificate),
            [one] => self.verify(one, holder, now)?.accept(),
            [_, others @ ..] => Err(RatlsError::Intermediates { got: others.len() }),
        }
    }

    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        holder: Role,
        now: pki_types::UnixTime,
    ) -> Result<(), RatlsError> {
        if !intermediates.is_empty() {
            return Err(RatlsError::Intermediates { got: intermediates.len() });
        }
        self.verify(end_entity, holder, UnixTime(now.as_secs()))?.accept().map(drop)
    }
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, Role::Server, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for CertificateVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, Role::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

/// A server that presents `identities`, and asks clients for a certificate if it has a verifier.
///
/// # Errors
/// [`RatlsError::Generate`] only if the provider cannot do TLS 1.3.
pub fn server_config(
    identities: &Arc<Identities>,
    clients: Option<&Arc<CertificateVerifier>>,
) -> Result<ServerConfig, RatlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| RatlsError::Generate("a TLS 1.3 server"))?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier) as _),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(identities) as _);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// A client that verifies servers, and presents `identities` if it has some.
///
/// # Errors
/// [`RatlsError::Generate`] only if the provider cannot do TLS 1.3.
pub fn client_config(
    servers: &Arc<CertificateVerifier>,
    identities: Option<&Arc<Identities>>,
) -> Result<ClientConfig, RatlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| RatlsError::Generate("a TLS 1.3 client"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(servers) as _);
    let mut config = match identities {
        Some(own) => builder.with_client_cert_resolver(Arc::clone(own) as _),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // The certificate has no name that anybody checks.
    config.enable_sni = false;
    Ok(config)
}

impl From<RatlsError> for rustls::Error {
    fn from(error: RatlsError) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

impl RatlsError {
    /// Finds the refusal inside an error of rustls.
    #[must_use]
    pub fn inside(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref()
            }
            _ => None,
        }
    }
}

/// Verifies the CertificateVerify message with the certificate's key.
fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let certificate = RatlsCertificate::parse(certificate)?;
    let spki = SubjectPublicKeyInfoDer::from(certificate.key().spki());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &spki, signed, &algorithms)
}

/// aws-lc-rs with the hybrid post-quantum group first and one classical fallback.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

/// Of the three kinds of keys, each with its one algorithm in TLS 1.3.
const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
];
