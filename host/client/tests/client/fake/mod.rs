//! A worker in this process: real TLS, simulated quotes, real sealed frames and receipts, and a
//! script of what it does wrong.

pub(crate) mod answer;
mod evidence;
mod paid;
pub(crate) mod relay;
pub(crate) mod script;
mod tls;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrysalis_channel::{
    Expectation, KeyRing, OsRandom, ReplayCache, SealKeyPair, open_grant, open_request,
};
use chrysalis_evidence::{Measurement, boot_events, keyset_digest, replay_rtmr, sim};
use chrysalis_receipt::MeterKey;
use chrysalis_wire::limits::MAX_ATTESTATION_BYTES;
use chrysalis_wire::{
    AttestationDocument, Digest, KeyRole, Keyset, NetworkId, SecretBytes, SuiteId, UnixTime,
    WorkerManifest,
};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::bench::TestClock;
use script::{Answer, Certificate, Evidence};

/// What the fake platform measures.
pub(crate) const EXECUTABLE: &[u8] = b"the fake worker";

/// The body of every response.
pub(crate) type Reply = UnsyncBoxBody<Bytes, std::io::Error>;

/// A running fake worker; it stops when dropped.
pub(crate) struct FakeWorker {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    _tasks: JoinSet<()>,
}

/// Keys, scripts and counters of a fake worker.
pub(crate) struct State {
    pub(crate) clock: TestClock,
    pub(crate) manifest: WorkerManifest,
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) meter: MeterKey,
    pub(crate) tls_spki: Digest,
    /// What it counts, if it is paid.
    paid: Option<paid::Paid>,
    config: Arc<ServerConfig>,
    ring: Mutex<KeyRing>,
    replay: Mutex<ReplayCache>,
    /// Digests of the quotes made so far.
    pub(crate) evidence: Mutex<Vec<Digest>>,
    first_document: Mutex<Option<AttestationDocument>>,
    pub(crate) evidence_script: Mutex<Evidence>,
    /// Scripts of the next answers; `then` applies after they are used up.
    next_answers: Mutex<VecDeque<Answer>>,
    then: Mutex<Answer>,
    /// Model keys that were granted.
    pub(crate) granted: Mutex<Vec<SecretBytes>>,
    /// Claims that were handed in, and what the next ones are answered with if not with yes.
    pub(crate) claims: Mutex<Vec<Bytes>>,
    pub(crate) next_claims: Mutex<VecDeque<StatusCode>>,
    pub(crate) attestations: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    /// Sealed requests that arrived, whether or not they opened.
    pub(crate) posts: AtomicUsize,
    /// Sealed requests that opened.
    pub(crate) requests: AtomicUsize,
    /// Sealed bytes of the last answer.
    pub(crate) answer_bytes: AtomicUsize,
    /// Answers whose requester went away before their end.
    pub(crate) cancelled: AtomicUsize,
}

impl FakeWorker {
    /// Starts a genuine worker.
    pub(crate) async fn start(clock: TestClock) -> Self {
        Self::start_with(clock, Certificate::Genuine, "127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts a worker at an address.
    pub(crate) async fn start_with(
        clock: TestClock,
        certificate: Certificate,
        address: SocketAddr,
    ) -> Self {
        Self::serve(State::new(clock, certificate, MANIFEST), address).await
    }

    /// Starts a genuine worker that is paid.
    pub(crate) async fn start_paid(clock: TestClock) -> Self {
        let state = State::new(clock, Certificate::Genuine, &paid_manifest());
        Self::serve(state, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn serve(state: State, address: SocketAddr) -> Self {
        let state = Arc::new(state);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(Arc::clone(&state), listener));
        Self { address, state, _tasks: tasks }
    }

    /// Sets what is wrong with every answer from now on.
    pub(crate) fn answers(&self, script: Answer) {
        *self.state.then.lock().unwrap() = script;
    }

    /// Sets what is wrong with the next answer only.
    pub(crate) fn next_answer(&self, script: Answer) {
        self.state.next_answers.lock().unwrap().push_back(script);
    }

    /// Sets what is wrong with the evidence from now on.
    pub(crate) fn evidence(&self, script: Evidence) {
        *self.state.evidence_script.lock().unwrap() = script;
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn attestations(&self) -> usize {
        self.state.attestations.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until `count` answers were given up by their requester.
    pub(crate) async fn wait_for_cancelled(&self, count: usize) {
        let reached = || self.state.cancelled.load(Ordering::SeqCst) >= count;
        for _ in 0..500 {
            if reached() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the worker was not told that its requester went away");
    }
}

impl State {
    fn new(clock: TestClock, certificate: Certificate, manifest: &str) -> Self {
        let manifest_bytes = manifest.as_bytes().to_vec();
        let manifest = WorkerManifest::parse(&manifest_bytes).unwrap();
        let (config, tls_spki) = tls::server(certificate);
        let meter = MeterKey::generate(getrandom::fill).unwrap();
        let state = Self {
            paid: paid::Paid::new(&manifest, &meter),
            manifest,
            manifest_bytes,
            meter,
            tls_spki,
            config,
            ring: Mutex::new(KeyRing::new()),
            replay: Mutex::new(ReplayCache::new(1024)),
            evidence: Mutex::default(),
            first_document: Mutex::default(),
            evidence_script: Mutex::default(),
            next_answers: Mutex::default(),
            then: Mutex::default(),
            granted: Mutex::default(),
            claims: Mutex::default(),
            next_claims: Mutex::default(),
            attestations: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            posts: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            answer_bytes: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            clock,
        };
        state.rotate();
        state
    }

    /// Makes new seal keys.
    pub(crate) fn rotate(&self) {
        let now = self.now();
        let mut ring = self.ring.lock().unwrap();
        for (suite, role) in SLOTS {
            let pair = SealKeyPair::generate_hourly(suite, role, now, &mut OsRandom);
            ring.rotate(pair, now).unwrap();
        }
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now().seconds()
    }

    pub(crate) fn keyset(&self) -> Keyset {
        Keyset {
            network: NetworkId::INSECURE_SIM,
            meter_key: self.meter.public(),
            tls_spki: self.tls_spki,
            seal_keys: self.ring.lock().unwrap().entries(self.now()),
        }
    }

    /// Digest of the registers every quote of this worker carries.
    pub(crate) fn measurement(&self) -> Digest {
        let events = boot_events(&self.manifest_digest(), &self.manifest.model.root);
        let rtmr3 = replay_rtmr(&events).unwrap();
        let rtmr = [sim::rtmr0(), sim::rtmr1(), sim::rtmr2(), rtmr3];
        Measurement { mrtd: sim::mrtd(EXECUTABLE), rtmr }.digest()
    }

    pub(crate) fn manifest_digest(&self) -> Digest {
        Digest(Sha256::digest(&self.manifest_bytes).into())
    }

    fn expectation(&self) -> Expectation {
        Expectation {
            network: NetworkId::INSECURE_SIM,
            model_root: self.manifest.model.root,
            policy_digest: self.manifest_digest(),
        }
    }

    fn next_answer(&self) -> Answer {
        let next = self.next_answers.lock().unwrap().pop_front();
        next.unwrap_or_else(|| *self.then.lock().unwrap())
    }
}

async fn accept(state: Arc<State>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        state.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::clone(&state.config));
            let Ok(tls) = acceptor.accept(stream).await else { return };
            let label = chrysalis_evidence::EXPORTER_LABEL;
            let exporter = tls.get_ref().1.export_keying_material([0u8; 32], label, None).unwrap();
            let service =
                service_fn(|request| answer_request(Arc::clone(&state), exporter, request));
            let http = hyper::server::conn::http1::Builder::new();
            drop(http.serve_connection(TokioIo::new(tls), service).await);
        });
    }
}

async fn answer_request(
    state: Arc<State>,
    exporter: [u8; 32],
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/attestation") => {
            let nonce = request.uri().query().unwrap().strip_prefix("nonce=").unwrap();
            let nonce: Digest = nonce.parse().unwrap();
            attestation(&state, nonce.0, exporter).await
        }
        (&Method::POST, "/v1/sealed") => sealed(&state, request).await,
        (&Method::POST, "/v1/grant") => grant(&state, request).await,
        (&Method::POST, "/v1/payment/claim") => claim(&state, request).await,
        (&Method::POST, "/v1/payment/state") => paid::state(&state, request).await,
        (&Method::GET, path) if path.starts_with("/v1/receipts/") => paid::receipt(&state, path),
        _ => refusal(StatusCode::NOT_FOUND, "E-NOT-FOUND", "no such route"),
    })
}

async fn attestation(state: &State, nonce: [u8; 32], exporter: [u8; 32]) -> Response<Reply> {
    state.attestations.fetch_add(1, Ordering::SeqCst);
    let script = state.evidence_script.lock().unwrap().clone();
    match script {
        Evidence::NotJson => return typed("application/json", b"no document".to_vec()),
        Evidence::WebPage => return typed("text/html", b"<html>".to_vec()),
        Evidence::Refused => {
            let text = "not ready\x1b[31m\nreally";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "E-NOT-READY", text);
        }
        Evidence::Silent => std::future::pending().await,
        Evidence::RelayedFrom(address) => {
            return typed("application/json", tls::fetch_evidence(address, nonce).await);
        }
        _ => {}
    }
    let mut document = evidence::document(state, nonce, exporter, &script);
    if matches!(script, Evidence::Replayed) {
        document = state.first_document.lock().unwrap().get_or_insert(document).clone();
    } else {
        state.first_document.lock().unwrap().get_or_insert_with(|| document.clone());
    }
    let mut json = serde_json::to_vec(&document).unwrap();
    if let Evidence::PaddedTo(size) = script {
        assert!(json.len() < MAX_ATTESTATION_BYTES);
        json.resize(size, b' ');
    }
    typed("application/json", json)
}

async fn sealed(state: &Arc<State>, request: Request<Incoming>) -> Response<Reply> {
    let offer = request.headers().get("chrysalis-payment").cloned();
    let Ok(body) = request.into_body().collect().await else {
        return refusal(StatusCode::BAD_REQUEST, "E-REQUEST-BROKEN", "broken");
    };
    state.posts.fetch_add(1, Ordering::SeqCst);
    let script = state.next_answer();
    if script == Answer::KeyUnknown {
        return refusal(StatusCode::BAD_REQUEST, "E-SEAL-NO-RECIPIENT", "no such key");
    }
    if script == Answer::KeyFull {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "E-SEAL-REPLAY-FULL", "no room");
    }
    let body = body.to_bytes();
    let opened = open_request(
        &state.ring.lock().unwrap(),
        &mut state.replay.lock().unwrap(),
        &state.expectation(),
        state.clock.now(),
        &body,
        &mut OsRandom,
    );
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return refusal(StatusCode::BAD_REQUEST, error.code(), &error.to_string());
        }
    };
    if let Some(paid) = &state.paid
        && let Err(error) = paid.reserve(state, offer, &body, &opened.header)
    {
        return paid::refused(state, &error);
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    answer::respond(state, opened, script)
}

async fn grant(state: &State, request: Request<Incoming>) -> Response<Reply> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let keysets = [keyset_digest(&state.keyset().encode())];
    let (root, now) = (state.manifest.model.root, state.now());
    let opened = open_grant(&state.ring.lock().unwrap(), &root, &keysets, now, &body);
    match opened {
        Ok(grant) => {
            state.granted.lock().unwrap().push(grant.key);
            typed("application/json", br#"{"accepted":true}"#.to_vec())
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, error.code(), &error.to_string()),
    }
}

async fn claim(state: &State, request: Request<Incoming>) -> Response<Reply> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    state.claims.lock().unwrap().push(body);
    match state.next_claims.lock().unwrap().pop_front() {
        None | Some(StatusCode::OK) => typed("application/json", br#"{"accepted":true}"#.to_vec()),
        Some(StatusCode::INSUFFICIENT_STORAGE) => {
            refusal(StatusCode::PAYMENT_REQUIRED, "E-PAYMENT-CLAIMS", "no room for another one")
        }
        Some(status) => refusal(status, "E-SCRIPTED", "as the script says"),
    }
}

/// A response with a whole body.
pub(crate) fn typed(kind: &'static str, body: Vec<u8>) -> Response<Reply> {
    let body =
        Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed_unsync();
    Response::builder().header(CONTENT_TYPE, kind).body(body).unwrap()
}

/// A refusal outside the sealed channel.
pub(crate) fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Reply> {
    let error = serde_json::json!({"code": code, "message": message, "next_step": "wait\x07"});
    let json = serde_json::json!({ "error": error }).to_string();
    let mut response = typed("application/json", json.into_bytes());
    *response.status_mut() = status;
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, 7.into());
    }
    response
}

const SLOTS: [(SuiteId, KeyRole); 3] = [
    (SuiteId::XWing, KeyRole::Worker),
    (SuiteId::X25519, KeyRole::Worker),
    (SuiteId::XWing, KeyRole::Grant),
];

/// The measured manifest of one that is paid.
pub(crate) fn paid_manifest() -> String {
    let code = chrysalis_receipt::ChannelCode::METERED_V1.hash();
    let payee = Digest([7; 32]);
    format!("{MANIFEST}\n[payment]\npayee = \"{payee}\"\nchannel_code = \"{code}\"\n")
}

/// The fake worker's measured manifest.
pub(crate) const MANIFEST: &str = r#"version = 1
network = 5458253
registry = "0000000000000000000000000000000000000000000000000000000000000000"

[model]
name = "fake-model"
root = "4242424242424242424242424242424242424242424242424242424242424242"
sealed = false

[limits]
request_bytes = 262144
context_tokens = 2048
completion_tokens = 512
concurrent_requests = 4

[prices]
prompt = 1000000
cached = 250000
completion = 8000000
reasoning = 8000000
"#;
