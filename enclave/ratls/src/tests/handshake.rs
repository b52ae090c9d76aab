//! Real TLS handshakes, over sockets of the loopback interface and in memory, with honest ends and
//! with attackers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use chrysalis_evidence::{Appraiser, Binding, EXPORTER_LABEL, Role, Session};
use chrysalis_tee_sim::Faults;
use chrysalis_wire::{Digest, UnixTime};
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};

use super::sim::{HOUR, NOW, collateral, identity, identity_with, pins, verifier};
use crate::{
    CertificateVerifier, Format, Identities, Identity, RatlsCertificate, RatlsError, client_config,
    server_config,
};

/// A clock that stands still.
#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since = Duration::from_secs(self.0.0);
        Some(rustls::pki_types::UnixTime::since_unix_epoch(since))
    }
}

fn server(identity: Identity, clients: Option<CertificateVerifier>) -> ServerConfig {
    let clients = clients.map(Arc::new);
    let mut config = server_config(&Identities::new(identity), clients.as_ref()).unwrap();
    config.time_provider = Arc::new(At(NOW));
    config
}

fn client(servers: CertificateVerifier, identity: Option<Identity>) -> ClientConfig {
    let identities = identity.map(Identities::new);
    let mut config = client_config(&Arc::new(servers), identities.as_ref()).unwrap();
    config.time_provider = Arc::new(At(NOW));
    config
}

/// Both ends of a connection after what each of them sent.
struct Ends {
    client: ClientConnection,
    server: ServerConnection,
}

/// Runs a handshake in memory; the error of the end that refused first.
fn connect(client: ClientConfig, server: ServerConfig) -> Result<Ends, rustls::Error> {
    let name = ServerName::try_from("worker").unwrap();
    let mut ends = Ends {
        client: ClientConnection::new(Arc::new(client), name).unwrap(),
        server: ServerConnection::new(Arc::new(server)).unwrap(),
    };
    while ends.client.is_handshaking() || ends.server.is_handshaking() || ends.client.wants_write()
    {
        let mut sent = Vec::new();
        ends.client.write_tls(&mut sent).unwrap();
        feed(&sent, |bytes| ends.server.read_tls(bytes));
        ends.server.process_new_packets()?;
        sent.clear();
        while ends.server.wants_write() {
            ends.server.write_tls(&mut sent).unwrap();
        }
        feed(&sent, |bytes| ends.client.read_tls(bytes));
        ends.client.process_new_packets()?;
    }
    Ok(ends)
}

fn feed(mut bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>) {
    while !bytes.is_empty() {
        assert_ne!(read(&mut bytes).unwrap(), 0);
    }
}

fn refusal(result: Result<Ends, rustls::Error>) -> RatlsError {
    let error = result.map(|_| ()).unwrap_err();
    RatlsError::inside(&error).unwrap_or_else(|| panic!("{error}")).clone()
}

#[test]
fn both_ends_verify_each_other_over_a_socket_in_every_format() {
    for (servers, clients) in [
        (Format::Interoperable, Format::Interoperable),
        (Format::Gramine, Format::Cocoon),
        (Format::Cocoon, Format::Gramine),
    ] {
        let (server_identity, client_identity) = (identity(servers), identity(clients));
        let (server_key, client_key) =
            (server_identity.key().clone(), client_identity.key().clone());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(server(server_identity, Some(verifier())));
        let serving = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(config).unwrap();
            let mut tls = StreamOwned::new(connection, socket);
            let mut asked = [0; 5];
            tls.read_exact(&mut asked).unwrap();
            assert_eq!(&asked, b"hello");
            tls.write_all(b"there").unwrap();
            tls.flush().unwrap();
            let peer = verifier().peer(tls.conn.peer_certificates(), Role::Client, NOW).unwrap();
            let exporter = tls.conn.export_keying_material([0; 32], EXPORTER_LABEL, None);
            (peer, exporter.unwrap())
        });
        let config = Arc::new(client(verifier(), Some(client_identity)));
        let name = ServerName::try_from("worker").unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        let mut tls = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
        tls.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        tls.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"there");

        let of_server = verifier().peer(tls.conn.peer_certificates(), Role::Server, NOW).unwrap();
        let exporter = tls.conn.export_keying_material([0; 32], EXPORTER_LABEL, None).unwrap();
        let (of_client, same) = serving.join().unwrap();
        assert_eq!((of_server.key(), of_client.key()), (&server_key, &client_key));
        assert_eq!(exporter, same, "both ends derive what attest/1 is bound to");
        assert_eq!(tls.conn.handshake_kind(), Some(HandshakeKind::Full));
        let group = tls.conn.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        assert_eq!(tls.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn connections_never_resume() {
    let (server, client) = (server(identity(Format::Gramine), None), client(verifier(), None));
    let mut exporters = Vec::new();
    for _ in 0..2 {
        let ends = connect(client.clone(), server.clone()).unwrap();
        assert_eq!(ends.client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(ends.client.tls13_tickets_received(), 0);
        let exporter = ends.client.export_keying_material([0; 32], EXPORTER_LABEL, None);
        exporters.push(exporter.unwrap());
    }
    assert_ne!(exporters[0], exporters[1]);
}

#[test]
fn either_end_is_refused_with_the_rule_that_refuses_it() {
    let bad = |format| {
        let debug = Faults { debug: true, ..Faults::default() };
        identity_with(format, debug).unwrap()
    };
    for format in Format::ALL {
        let result = connect(client(verifier(), None), server(bad(format), None));
        assert_eq!(refusal(result).code(), "E-DEBUG");
        let good = server(identity(format), Some(verifier()));
        let result = connect(client(verifier(), Some(bad(format))), good);
        assert_eq!(refusal(result).code(), "E-DEBUG");
    }
}

#[test]
fn certificates_outside_their_window_are_refused_by_the_clock_of_the_other_end() {
    for (now, code) in [(NOW.0 - 1, "E-RATLS-EARLY"), (NOW.0 + HOUR + 1, "E-RATLS-EXPIRED")] {
        let mut late = client(verifier(), None);
        late.time_provider = Arc::new(At(UnixTime(now)));
        let result = connect(late, server(identity(Format::Cocoon), None));
        assert_eq!(refusal(result).code(), code);
    }
}

#[test]
fn clients_without_a_certificate_are_refused_where_one_is_asked_for() {
    let result = connect(
        client(verifier(), None),
        server(identity(Format::Interoperable), Some(verifier())),
    );
    assert_eq!(result.map(drop), Err(rustls::Error::NoCertificatesPresented));
    let none = verifier().peer(None, Role::Client, NOW).unwrap_err();
    assert_eq!(none, RatlsError::NoCertificate);
}

/// The certificate is public: whoever saw it can present it, and fails at the signature.
#[test]
fn certificates_presented_without_their_key_are_refused() {
    for format in Format::ALL {
        let (seen, own) = (identity(format), identity(format));
        let chain = vec![seen.certificate().clone()];
        let forged = CertifiedKey::new(chain, Arc::clone(&own.certified().key));
        let forged = Arc::new(SingleCertAndKey::from(forged));

        let mut liar = server(own, None);
        liar.cert_resolver = Arc::clone(&forged) as _;
        let error = connect(client(verifier(), None), liar).map(drop).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
        assert_eq!(RatlsError::inside(&error), None, "the certificate itself is good");

        let mut liar = client(verifier(), None);
        liar.client_auth_cert_resolver = forged;
        let result = connect(liar, server(identity(format), Some(verifier())));
        let error = result.map(drop).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    }
}

#[test]
fn chains_are_refused() {
    let identity = identity(Format::Gramine);
    let one = identity.certificate().clone();
    let chain = vec![one.clone(), one.clone()];
    let long = CertifiedKey::new(chain.clone(), Arc::clone(&identity.certified().key));
    let mut config = server(identity, None);
    config.cert_resolver = Arc::new(SingleCertAndKey::from(long));
    let expected = RatlsError::Intermediates { got: 1 };
    assert_eq!(refusal(connect(client(verifier(), None), config)), expected);
    assert_eq!(verifier().peer(Some(&chain), Role::Server, NOW).unwrap_err(), expected);
}

#[test]
fn identities_are_replaced_from_the_next_handshake_on() {
    let (old, new) = (identity(Format::Interoperable), identity(Format::Cocoon));
    let identities = Identities::new(old.clone());
    let mut config = server_config(&identities, None).unwrap();
    config.time_provider = Arc::new(At(NOW));
    let presented = |config: &ServerConfig| {
        let ends = connect(client(verifier(), None), config.clone()).unwrap();
        ends.client.peer_certificates().unwrap().to_vec()
    };
    assert_eq!(presented(&config), [old.certificate().clone()]);
    identities.replace(new.clone());
    assert_eq!(presented(&config), [new.certificate().clone()]);
    assert_eq!(identities.current().key(), new.key());
}

#[test]
fn an_identity_is_not_presented_to_peers_that_cannot_verify_it() {
    use rustls::client::ResolvesClientCert;
    let identities = Identities::new(identity(Format::Cocoon));
    let resolve = |schemes: &[SignatureScheme]| {
        ResolvesClientCert::resolve(&*identities, &[], schemes).is_some()
    };
    assert!(resolve(&[SignatureScheme::ED25519]));
    assert!(!resolve(&[SignatureScheme::ECDSA_NISTP256_SHA256]));
    assert!(identities.has_certs());
}

#[test]
fn offers_no_signature_that_tls_13_does_not_have() {
    let schemes = verifier().supported_verify_schemes();
    assert_eq!(schemes.len(), 3);
    let new = |identity: Identity| identity.certified().key.choose_scheme(&schemes);
    for format in Format::ALL {
        assert!(new(identity(format)).is_some());
    }
}

/// Why a certificate alone is not enough. An attacker with a key that once left its TEE runs the
/// handshake without any TEE; the quote in the certificate does not answer the challenge.
#[test]
fn a_stolen_identity_passes_the_handshake_and_not_attest_1() {
    let stolen = identity(Format::Interoperable);
    let quote = RatlsCertificate::parse(stolen.certificate()).unwrap().quote().to_vec();
    let ends = connect(client(verifier(), None), server(stolen, None)).unwrap();
    let peer = verifier().peer(ends.client.peer_certificates(), Role::Server, NOW).unwrap();
    let exporter = ends.client.export_keying_material([0; 32], EXPORTER_LABEL, None).unwrap();
    let Session { nonce, tls_spki, exporter } = peer.session([7; 32], exporter);
    let (keyset_digest, device_digest) = (Digest([1; 32]), Digest([0; 32]));
    let role = Role::Server;
    let challenge = Binding { role, tls_spki, nonce, exporter, keyset_digest, device_digest };
    let expected = challenge.report_data();
    let appraiser = Appraiser::new(pins());
    let verdict = appraiser.appraise_quote(&quote, &expected, &collateral(), NOW);
    assert_eq!(verdict.result.unwrap_err().code, "E-REPORT-DATA");
}

#[test]
fn refusals_survive_the_trip_through_rustls() {
    let error = rustls::Error::from(RatlsError::NoEvidence);
    assert_eq!(RatlsError::inside(&error), Some(&RatlsError::NoEvidence));
    assert_eq!(RatlsError::inside(&rustls::Error::DecryptError), None);
    let broken = CertificateDer::from(vec![0x30, 0]);
    let name = ServerName::try_from("worker").unwrap();
    let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::ZERO);
    let refused = verifier().verify_server_cert(&broken, &[], &name, &[], now).unwrap_err();
    assert_eq!(RatlsError::inside(&refused).unwrap().code(), "E-RATLS-DER");
}
