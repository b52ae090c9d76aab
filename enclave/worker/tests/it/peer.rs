//! A worker that serves only clients that prove themselves. The client is a simulated TEE: its
//! evidence is made by a worker of the pinned image, about the client's end of the connection.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chrysalis_evidence::Role;
use chrysalis_evidence::exchange::{Link, Message, Prover};
use chrysalis_tee::Platform;
use chrysalis_tee_sim::SimPlatform;
use chrysalis_worker::limits::Bounds;
use chrysalis_worker::quotes::document;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;

use crate::judge::{EXECUTABLE, Judge};
use crate::rig::{AnyCertificate, Rig, code};

async fn proxy(executable: &[u8]) -> Rig {
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(executable));
    Rig::on(platform, Bounds::default(), None).await
}

/// A worker that serves what [`EXECUTABLE`] measures, and nobody else.
async fn guarded() -> Rig {
    let gate = Judge::of(&proxy(EXECUTABLE).await).into_gate();
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::new(EXECUTABLE));
    Rig::guarded(platform, gate).await
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
    for path in ["/v1/sealed", "/v1/grant", "/v1/receipts/00000000000000000000000000000000"] {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_client_that_is_challenged_and_has_not_answered() {
    let (worker, tee) = (guarded().await, proxy(EXECUTABLE).await);
    let mut client = Client::of(&tee, &worker).await;
    client.challenge().await;
    assert_eq!(client.sealed().await, refused());
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_another_image_and_closes_the_connection() {
    let (worker, tee) = (guarded().await, proxy(b"not a proxy").await);
    let mut client = Client::of(&tee, &worker).await;
    let challenge = client.challenge().await;
    let evidence = client.evidence(&challenge).await;
    let response = client.show(&evidence).await;
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(code(response).await, (403, "E-MRTD".to_owned()));
    assert!(client.sender.ready().await.is_err(), "the connection is still open");
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
    assert_eq!(code(other.show(&evidence).await).await, (403, "E-REPORT-DATA".to_owned()));
}
