//! A worker that serves only clients that prove themselves. The client is a simulated TEE: its
//! evidence is made by a worker of the pinned image, about the client's end of the connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrysalis_channel::ResponseOpener;
use chrysalis_engine::Engine;
use chrysalis_engine::testing::TinyModel;
use chrysalis_evidence::Role;
use chrysalis_evidence::exchange::{Link, Message, Prover};
use chrysalis_tee::Platform;
use chrysalis_tee_sim::{SimPlatform, collateral};
use chrysalis_wire::UnixTime;
use chrysalis_worker::limits::Bounds;
use chrysalis_worker::quotes::document;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::judge::{EXECUTABLE, Judge};
use crate::rig::{AnyCertificate, NOW, Rig, chat, code, engine, json, text, trusting};

/// Forty days before [`NOW`].
const LONG_AGO: UnixTime = UnixTime(1_795_600_000 - 40 * 86_400);

/// Long enough for everything a test does before it is over.
const INTERVAL: Duration = Duration::from_secs(300);

async fn proxy(executable: &[u8]) -> Rig {
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(executable));
    Rig::on(platform, Bounds::default(), None).await
}

/// A worker that serves what [`EXECUTABLE`] measures, and nobody else.
async fn guarded() -> Rig {
    guarded_for(INTERVAL, None).await
}

/// The same, each time for `interval`.
async fn guarded_for(interval: Duration, engine: Option<Arc<dyn Engine>>) -> Rig {
    let gate = Judge::of(&proxy(EXECUTABLE).await).into_gate(interval);
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(EXECUTABLE));
    Rig::guarded(platform, gate, engine).await
}

/// A client's connection to a worker.
struct Client<'a> {
    tee: &'a Rig,
    sender: SendRequest<Full<Bytes>>,
    prover: Prover,
}

impl<'a> Client<'a> {
    /// Connects with the TLS key of `tee`.
    async fn of(tee: &'a Rig, worker: &Rig) -> Self {
        let identity = &tee.worker.session.tls;
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate))
            .with_client_cert_resolver(Arc::clone(&identity.key) as _);
        let tls = worker.tls(Arc::new(config)).await;
        let session = tls.get_ref().1;
        let export = |label| session.export_keying_material([0; 32], label, None);
        let server = worker.worker.session.tls.spki;
        let link = Link::new(Role::Client, server, Some(identity.spki), export).unwrap();
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        Self { tee, sender, prover: Prover::new(link).unwrap() }
    }

    async fn send(&mut self, method: Method, path: &str, body: Vec<u8>) -> Response<Incoming> {
        self.sender.ready().await.unwrap();
        let request =
            Request::builder().method(method).uri(path).body(Full::new(Bytes::from(body))).unwrap();
        self.sender.send_request(request).await.unwrap()
    }

    async fn challenge(&mut self) -> Message {
        let response = self.send(Method::POST, "/v1/peer/challenge", Vec::new()).await;
        assert_eq!(response.status(), 200);
        Message::decode(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    async fn evidence(&mut self, challenge: &Message) -> Message {
        let Message::Challenge(challenge) = challenge else { panic!("{challenge:?}") };
        let statement = self.prover.take(challenge, Instant::now()).unwrap();
        Message::evidence(&document(&self.tee.worker, statement).await.unwrap()).unwrap()
    }

    async fn show(&mut self, evidence: &Message) -> Response<Incoming> {
        self.send(Method::POST, "/v1/peer/evidence", evidence.encode()).await
    }

    /// Takes a challenge and shows evidence for it.
    async fn prove(&mut self) {
        let challenge = self.challenge().await;
        let evidence = self.evidence(&challenge).await;
        assert_eq!(self.show(&evidence).await.status(), 200);
    }

    /// What a sealed request meets. Behind the gate this worker has no engine.
    async fn sealed(&mut self) -> (u16, String) {
        code(self.send(Method::POST, "/v1/sealed", Vec::new()).await).await
    }
}

fn refused() -> (u16, String) {
    (403, "E-PEER".to_owned())
}

fn let_in() -> (u16, String) {
    (503, "E-NOT-READY".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_a_client_once_it_has_proved_itself_and_again() {
    let (worker, tee) = (guarded().await, proxy(EXECUTABLE).await);
    let mut client = Client::of(&tee, &worker).await;
    for _ in 0..2 {
        let challenge = client.challenge().await;
        let evidence = client.evidence(&challenge).await;
        assert_eq!(client.show(&evidence).await.status(), 200);
        assert_eq!(client.sealed().await, let_in());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_is_sealed_of_a_client_that_has_proved_nothing() {
    let (worker, tee) = (guarded().await, proxy(EXECUTABLE).await);
    for path in ["/v1/sealed", "/v1/receipts/00000000000000000000000000000000"] {
        let method = if path.contains("receipts") { Method::GET } else { Method::POST };
        let mut keyed = Client::of(&tee, &worker).await;
        let found = code(keyed.send(method.clone(), path, Vec::new()).await).await;
        assert_eq!(found, refused(), "{path} with a key");
        // Without a key there is nothing it could prove, and what is open to all stays so.
        let found = code(worker.send(method, path, Vec::new()).await).await;
        assert_eq!(found, refused(), "{path} without a key");
    }
    let found = code(worker.send(Method::POST, "/v1/peer/challenge", Vec::new()).await).await;
    assert_eq!(found, refused());
    assert_eq!(worker.send(Method::GET, "/livez", Vec::new()).await.status(), 200);
    let path = format!("/v1/attestation?nonce={}", "ab".repeat(32));
    assert_eq!(worker.send(Method::GET, &path, Vec::new()).await.status(), 200);
    // Whoever owns a sealed model is no client; the worker waits for no key here.
    let found = code(worker.send(Method::POST, "/v1/grant", Vec::new()).await).await;
    assert_eq!(found, (409, "E-NO-GRANT-EXPECTED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_client_before_it_reads_a_byte_of_its_request() {
    let worker = guarded().await;
    let mut tls = worker.tls(trusting()).await;
    // A body is announced and never sent.
    let head = "POST /v1/sealed HTTP/1.1\r\nhost: w\r\ncontent-length: 1000\r\n\r\n";
    tls.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_client_that_is_challenged_and_has_not_answered() {
    let (worker, tee) = (guarded().await, proxy(EXECUTABLE).await);
    let mut client = Client::of(&tee, &worker).await;
    client.challenge().await;
    assert_eq!(client.sealed().await, refused());
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_another_image_closes_the_connection_and_tells_the_rule_only_the_console() {
    let (worker, tee) = (guarded().await, proxy(b"not a proxy").await);
    let mut client = Client::of(&tee, &worker).await;
    let challenge = client.challenge().await;
    let evidence = client.evidence(&challenge).await;
    let response = client.show(&evidence).await;
    assert_eq!(response.headers()["connection"], "close");
    let (status, told) = json(response).await;
    assert_eq!((status.as_u16(), &told["error"]["code"]), (403, &"E-PEER-REFUSED".into()));
    assert!(!told.to_string().contains("MRTD"), "{told}");
    assert!(client.sender.ready().await.is_err(), "the connection is still open");
    let lines = worker.worker.peers.as_ref().unwrap().refusals.take();
    let line = serde_json::to_string(&lines).unwrap();
    assert_eq!(line, r#"[{"event":"peers-refused","code":"E-MRTD","rule":"R-IMAGE","count":1}]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_evidence_nobody_asked_for_and_evidence_of_another_connection() {
    let (worker, tee) = (guarded().await, proxy(EXECUTABLE).await);
    let mut client = Client::of(&tee, &worker).await;
    let challenge = client.challenge().await;
    let evidence = client.evidence(&challenge).await;
    let mut other = Client::of(&tee, &worker).await;
    assert_eq!(code(other.show(&evidence).await).await, refused());
    let mut other = Client::of(&tee, &worker).await;
    other.challenge().await;
    let found = code(other.show(&evidence).await).await;
    assert_eq!(found, (403, "E-PEER-REFUSED".to_owned()));
    let lines = worker.worker.peers.as_ref().unwrap().refusals.take();
    assert!(format!("{lines:?}").contains("E-REPORT-DATA"), "{lines:?}");
}

/// A worker whose collateral is too old for its own pins.
async fn guarded_with_old_collateral() -> Rig {
    let gate = Judge::of(&proxy(EXECUTABLE).await).into_gate_with(&collateral(LONG_AGO), INTERVAL);
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(EXECUTABLE));
    Rig::guarded(platform, gate, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_newer_collateral_from_a_client_and_none_that_is_older() {
    let (worker, tee) = (guarded_with_old_collateral().await, proxy(EXECUTABLE).await);
    let mut client = Client::of(&tee, &worker).await;
    let challenge = client.challenge().await;
    let evidence = client.evidence(&challenge).await;
    let found = code(client.show(&evidence).await).await;
    assert_eq!(found, (403, "E-PEER-REFUSED".to_owned()));

    let carry = async |client: &mut Client<'_>, bundle: String| {
        client.send(Method::POST, "/v1/peer/collateral", bundle.into_bytes()).await
    };
    let mut client = Client::of(&tee, &worker).await;
    let newer = collateral(NOW.seconds());
    assert_eq!(carry(&mut client, newer.clone()).await.status(), 200);
    client.prove().await;
    assert_eq!(client.sealed().await, let_in());

    let mut client = Client::of(&tee, &worker).await;
    let older = collateral(UnixTime(LONG_AGO.0 - 1));
    let found = code(carry(&mut client, older).await).await;
    assert_eq!(found, (403, "E-PEER-COLLATERAL".to_owned()));

    // What it says about its age is signed.
    let mut client = Client::of(&tee, &worker).await;
    let forged = newer.replace("UpToDate", "OutOfDat");
    assert_ne!(forged, newer);
    assert_eq!(carry(&mut client, forged).await.status(), 200);
    let challenge = client.challenge().await;
    let evidence = client.evidence(&challenge).await;
    let found = code(client.show(&evidence).await).await;
    assert_eq!(found, (403, "E-PEER-REFUSED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_an_idle_connection_whose_client_does_not_prove_itself_again() {
    let interval = Duration::from_millis(400);
    let (worker, tee) = (guarded_for(interval, None).await, proxy(EXECUTABLE).await);
    let mut client = Client::of(&tee, &worker).await;
    client.prove().await;
    assert_eq!(client.sealed().await, let_in());
    let begun = Instant::now();
    // Resolves with an error once the worker has closed.
    while client.sender.ready().await.is_ok() && !client.sender.is_closed() {
        assert!(begun.elapsed() < 20 * interval, "the connection stays open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A long answer that its reader takes slowly: its first frame, and what is left to read.
async fn half_read(
    client: &mut Client<'_>,
    worker: &Rig,
) -> (Vec<u8>, Response<Incoming>, ResponseOpener) {
    let (sealed, opener) = worker.seal(1, &chat("go on"));
    let mut response = client.send(Method::POST, "/v1/sealed", sealed).await;
    assert_eq!(response.status(), 200);
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    (first.to_vec(), response, opener)
}

async fn rest(
    (first, response, mut opener): (Vec<u8>, Response<Incoming>, ResponseOpener),
) -> String {
    let mut frames = opener.push(&first).unwrap();
    frames.extend(opener.push(&response.into_body().collect().await.unwrap().to_bytes()).unwrap());
    assert!(frames.last().unwrap().last, "the answer has no end");
    text(&frames)
}

fn talkative() -> Arc<dyn Engine> {
    // About 2 MB: more than the sockets between two processes hold.
    let (a, b) = ("a".repeat(500), "b".repeat(500));
    engine(&TinyModel::endless(&[a, b]).context(4096))
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_an_answer_in_progress_with_a_typed_error_once_the_proof_is_old() {
    let interval = Duration::from_millis(600);
    let worker = guarded_for(interval, Some(talkative())).await;
    let tee = proxy(EXECUTABLE).await;
    let mut client = Client::of(&tee, &worker).await;
    client.prove().await;
    let half = half_read(&mut client, &worker).await;
    tokio::time::sleep(2 * interval).await;
    let text = rest(half).await;
    assert!(text.contains("E-PEER-DUE") && text.contains("\"aborted\""), "{text}");
    assert!(client.sender.ready().await.is_err() || client.sender.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_progress_goes_on_while_its_boot_proves_itself_on_another_connection() {
    let interval = Duration::from_millis(3000);
    let worker = guarded_for(interval, Some(talkative())).await;
    let (tee, other) = (proxy(EXECUTABLE).await, proxy(EXECUTABLE).await);
    let mut client = Client::of(&tee, &worker).await;
    client.prove().await;
    let half = half_read(&mut client, &worker).await;
    for _ in 0..3 {
        tokio::time::sleep(interval / 2).await;
        Client::of(&tee, &worker).await.prove().await;
        // Another boot proves nothing for this one.
        Client::of(&other, &worker).await.prove().await;
    }
    let text = rest(half).await;
    assert!(!text.contains("E-PEER-DUE"), "{text}");
}
