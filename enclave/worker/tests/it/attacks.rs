//! Relay, replay, reflection and diversion over real TCP and TLS, with evidence of the simulated
//! platform: each is refused by the rule that is there for it. The attacker holds the TLS keys it
//! needs, as after a theft; what it does not hold is a TEE at the end of the victim's connection.
//! The model of the same protocol is in `chrysalis-evidence`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chrysalis_evidence::Role;
use chrysalis_evidence::exchange::{
    Attested, Awaiting, Challenge, Challenger, ExchangeError, Judged, Link, MESSAGE_HEADER_BYTES,
    Message, Nonce, Prover,
};
use chrysalis_tee::Platform;
use chrysalis_tee_sim::SimPlatform;
use chrysalis_wire::{AttestationDocument, Digest};
use chrysalis_worker::limits::Bounds;
use chrysalis_worker::quotes::document;
use chrysalis_worker::tls::TlsIdentity;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, CommonState, ConnectionCommon, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::judge::{EXECUTABLE, Judge};
use crate::rig::{AnyCertificate, Rig, trusting};

/// A worker of the pinned image on a machine of its own.
async fn worker() -> Rig {
    worker_of(EXECUTABLE).await
}

async fn worker_of(executable: &[u8]) -> Rig {
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(executable));
    Rig::on(platform, Bounds::default(), None).await
}

fn nonce() -> Nonce {
    Nonce::draw(getrandom::fill).unwrap()
}

/// What one end of a connection knows about it.
fn link<D>(own: Role, tls: &ConnectionCommon<D>, own_key: Option<Digest>) -> Link {
    let state: &CommonState = tls;
    let theirs = state.peer_certificates().map(|chain| spki(&chain[0]));
    let (server, client) = match own {
        Role::Client => (theirs.unwrap(), own_key),
        Role::Server => (own_key.unwrap(), theirs),
    };
    let export = |label| tls.export_keying_material([0; 32], label, None);
    Link::new(own, server, client, export).unwrap()
}

fn spki(certificate: &CertificateDer<'_>) -> Digest {
    let parsed = ParsedCertificate::try_from(certificate).unwrap();
    Digest(Sha256::digest(parsed.subject_public_key_info()).into())
}

async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, tcp).await.unwrap()
}

// ---- over HTTP: a client that challenges the worker ----

/// A victim: connects to `address` and challenges whoever answers.
struct Victim {
    awaiting: Awaiting,
    answer: AttestationDocument,
}

impl Victim {
    async fn of(address: SocketAddr) -> Self {
        let tls = connect(address, trusting()).await;
        let link = link(Role::Client, tls.get_ref().1, None);
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let awaiting = Challenger::new(link).unwrap().challenge(nonce(), Instant::now()).unwrap();
        let answer = ask(sender, awaiting.challenge().nonce).await;
        let answer = serde_json::from_slice(&answer).unwrap();
        Self { awaiting, answer }
    }

    fn verdict(self, judge: &Judge) -> Result<Attested, ExchangeError> {
        let message = Message::evidence(&self.answer).unwrap();
        judge.receive(self.awaiting, &message).and_then(Judged::accept)
    }
}

async fn ask(mut sender: SendRequest<Full<Bytes>>, nonce: [u8; 32]) -> Bytes {
    let path = format!("/v1/attestation?nonce={}", hex::encode(nonce));
    let request = Request::get(path).body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap().to_bytes()
}

/// What the machine in the middle answers a challenge with.
#[derive(Clone)]
enum Middle {
    /// What the TEE at this address answers to the same nonce.
    Relay(SocketAddr),
    /// What it has kept.
    Replay(Bytes),
}

/// A machine in the middle that runs the handshake with `config`.
async fn attacker(config: Arc<ServerConfig>, middle: Middle) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let tls = TlsAcceptor::from(config).accept(stream).await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let middle = middle.clone();
            async move {
                let hex = request.uri().query().unwrap().strip_prefix("nonce=").unwrap();
                let nonce: Digest = hex.parse().unwrap();
                let answer = match middle {
                    Middle::Replay(kept) => kept,
                    Middle::Relay(worker) => recorded(worker, nonce.0).await,
                };
                Ok::<_, Infallible>(Response::new(Full::new(answer)))
            }
        });
        let http = hyper::server::conn::http1::Builder::new();
        drop(http.serve_connection(TokioIo::new(tls), service).await);
    });
    address
}

/// Evidence of the TEE at `address` for a nonce, over a connection of the attacker's own.
async fn recorded(address: SocketAddr, nonce: [u8; 32]) -> Bytes {
    let (sender, connection) =
        handshake(TokioIo::new(connect(address, trusting()).await)).await.unwrap();
    tokio::spawn(connection);
    ask(sender, nonce).await
}

#[track_caller]
fn refused_with(code: &str, verdict: Result<Attested, ExchangeError>) {
    assert_eq!(verdict.err().map(|error| error.code()), Some(code));
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_the_worker_when_nobody_is_in_the_middle() {
    let rig = worker().await;
    let attested = Victim::of(rig.address).await.verdict(&Judge::of(&rig)).unwrap();
    assert_eq!(attested.peer().keyset().tls_spki, rig.worker.session.tls.spki);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_relayed_challenge_even_from_the_holder_of_the_workers_tls_key() {
    let rig = worker().await;
    let judge = Judge::of(&rig);
    let stolen = Arc::clone(&rig.worker.session.tls.config);
    let own = TlsIdentity::generate().unwrap().config;
    for config in [stolen, own] {
        let address = attacker(config, Middle::Relay(rig.address)).await;
        refused_with("E-REPORT-DATA", Victim::of(address).await.verdict(&judge));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_replayed_evidence() {
    let rig = worker().await;
    let kept = recorded(rig.address, [7; 32]).await;
    let stolen = Arc::clone(&rig.worker.session.tls.config);
    let address = attacker(stolen, Middle::Replay(kept)).await;
    refused_with("E-REPORT-DATA", Victim::of(address).await.verdict(&Judge::of(&rig)));
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_the_evidence_of_another_genuine_worker() {
    let (rig, other) = (worker().await, worker().await);
    let stolen = Arc::clone(&rig.worker.session.tls.config);
    let address = attacker(stolen, Middle::Relay(other.address)).await;
    refused_with("E-REPORT-DATA", Victim::of(address).await.verdict(&Judge::of(&rig)));
}

/// A connection that ends in another genuine TEE is what it says it is: the evidence is that TEE's.
/// Whether it may be that one is for the pins to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_diverted_as_a_whole_is_judged_by_the_pins() {
    let (rig, same_image) = (worker().await, worker().await);
    let judge = Judge::of(&rig);
    let elsewhere = Victim::of(same_image.address).await.verdict(&judge).unwrap();
    assert_ne!(elsewhere.peer().keyset().tls_spki, rig.worker.session.tls.spki);
    let other_image = worker_of(b"something else").await;
    refused_with("E-MRTD", Victim::of(other_image.address).await.verdict(&judge));
}

// ---- as messages, in both directions: two TEEs that challenge each other ----

/// One end of a connection between TEEs, with the connection's own view.
struct End<S> {
    tls: S,
    link: Link,
}

impl<S: AsyncRead + AsyncWrite + Unpin> End<S> {
    async fn send(&mut self, message: &Message) {
        self.tls.write_all(&message.encode()).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    async fn receive(&mut self) -> Message {
        let mut bytes = vec![0; MESSAGE_HEADER_BYTES];
        self.tls.read_exact(&mut bytes).await.unwrap();
        let body = Message::body_bytes(*bytes.first_chunk().unwrap()).unwrap();
        bytes.resize(MESSAGE_HEADER_BYTES + body, 0);
        self.tls.read_exact(&mut bytes[MESSAGE_HEADER_BYTES..]).await.unwrap();
        Message::decode(&bytes).unwrap()
    }

    async fn challenge(&mut self) -> Awaiting {
        let challenger = Challenger::new(self.link.clone()).unwrap();
        let awaiting = challenger.challenge(nonce(), Instant::now()).unwrap();
        self.send(&Message::Challenge(awaiting.challenge())).await;
        awaiting
    }

    /// Answers one challenge with the evidence of the TEE `rig`.
    async fn prove(&mut self, rig: &Rig) {
        let Message::Challenge(challenge) = self.receive().await else { panic!("no challenge") };
        let mut prover = Prover::new(self.link.clone()).unwrap();
        let statement = prover.take(&challenge, Instant::now()).unwrap();
        let document = document(&rig.worker, statement).await.unwrap();
        self.send(&Message::evidence(&document).unwrap()).await;
    }
}

/// Two ends of one connection, with the TLS keys of `client` and `server`.
async fn ends(
    client: &TlsIdentity,
    server: &TlsIdentity,
) -> (End<client::TlsStream<TcpStream>>, End<server::TlsStream<TcpStream>>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let accepting = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyCertificate))
        .with_cert_resolver(Arc::clone(&server.key) as _);
    let connecting = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_client_cert_resolver(Arc::clone(&client.key) as _);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted: JoinHandle<_> = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(accepting)).accept(stream).await.unwrap()
    });
    let connected = connect(address, Arc::new(connecting)).await;
    let accepted = accepted.await.unwrap();
    let client_link = link(Role::Client, connected.get_ref().1, Some(client.spki));
    let server_link = link(Role::Server, accepted.get_ref().1, Some(server.spki));
    (End { tls: connected, link: client_link }, End { tls: accepted, link: server_link })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tees_prove_themselves_to_each_other_on_one_connection_again_and_again() {
    let (proxy, worker) = (worker().await, worker().await);
    let judge = Judge::of(&worker);
    let (mut client, mut server) =
        ends(&proxy.worker.session.tls, &worker.worker.session.tls).await;
    for _ in 0..2 {
        let of_server = client.challenge().await;
        server.prove(&worker).await;
        let by_server = client.receive().await;
        let attested = judge.receive(of_server, &by_server).and_then(Judged::accept).unwrap();
        assert_eq!(attested.session().tls_spki, worker.worker.session.tls.spki);

        let of_client = server.challenge().await;
        client.prove(&proxy).await;
        let by_client = server.receive().await;
        let attested = judge.receive(of_client, &by_client).and_then(Judged::accept).unwrap();
        assert_eq!(attested.session().tls_spki, proxy.worker.session.tls.spki);
    }
}

/// The attacker is the server and holds a copy of the victim's own TLS key, so that nothing but the
/// direction tells the two ends apart.
#[tokio::test(flavor = "multi_thread")]
async fn refuses_its_own_evidence_sent_back() {
    let proxy = worker().await;
    let judge = Judge::of(&proxy);
    let own = &proxy.worker.session.tls;
    let (mut victim, mut attacker) = ends(own, own).await;
    let awaiting = victim.challenge().await;
    let Message::Challenge(seen) = attacker.receive().await else { panic!("no challenge") };

    // The challenge itself, sent back: it names the other end.
    attacker.send(&Message::Challenge(seen)).await;
    let Message::Challenge(back) = victim.receive().await else { panic!("no challenge") };
    let mut prover = Prover::new(victim.link.clone()).unwrap();
    let refused = prover.take(&back, Instant::now()).unwrap_err();
    assert_eq!(refused.code(), "E-ATTEST-END");

    // The same nonce as a challenge of its own: answered honestly, and no answer to the other.
    attacker.send(&Message::Challenge(Challenge { prover: Role::Client, ..seen })).await;
    victim.prove(&proxy).await;
    let reflected = attacker.receive().await;
    attacker.send(&reflected).await;
    let reflected = victim.receive().await;
    refused_with("E-REPORT-DATA", judge.receive(awaiting, &reflected).and_then(Judged::accept));
}

/// In the other direction: the attacker is a client that holds the proxy's TLS key and forwards the
/// worker's challenge to the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_relayed_challenge_to_a_client() {
    let (proxy, worker) = (worker().await, worker().await);
    let judge = Judge::of(&worker);
    let stolen = &proxy.worker.session.tls;
    let (mut attacker, mut victim) = ends(stolen, &worker.worker.session.tls).await;
    let attackers = TlsIdentity::generate().unwrap();
    let (mut genuine, mut middle) = ends(stolen, &attackers).await;

    let awaiting = victim.challenge().await;
    let challenge = attacker.receive().await;
    middle.send(&challenge).await;
    genuine.prove(&proxy).await;
    let relayed = middle.receive().await;
    attacker.send(&relayed).await;
    let relayed = victim.receive().await;
    refused_with("E-REPORT-DATA", judge.receive(awaiting, &relayed).and_then(Judged::accept));
}
