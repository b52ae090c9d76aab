//! A worker that is past its boot, and a client that trusts nothing and checks nothing.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrysalis_channel::{
    DEFAULT_REPLAY_CAPACITY, Frame, Header, OsRandom, PathId, ReplayCache, ResponseOpener,
    seal_request,
};
use chrysalis_engine::testing::TinyModel;
use chrysalis_engine::{CandleEngine, Embedder, Engine, EngineOptions};
use chrysalis_evidence::{
    EXPORTER_LABEL, Measured, Measurement, Session as Seen, boot_events, event_digest,
};
use chrysalis_receipt::SignedReceipt;
use chrysalis_tee::{DeviceCount, Devices, Platform, Registers, TeeError};
use chrysalis_wire::{
    BootStage, Digest, InnerRequest, KeyRole, RequestId, StageState, UnixMillis, WorkerManifest,
};
use chrysalis_worker::console::Console;
use chrysalis_worker::limits::Bounds;
use chrysalis_worker::payment::Payments;
use chrysalis_worker::peer::PeerGate;
use chrysalis_worker::receipts::Receipts;
use chrysalis_worker::server::serve;
use chrysalis_worker::session::Session;
use chrysalis_worker::stages::Stages;
use chrysalis_worker::worker::{Counters, Loaded, Worker};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// Largest sealed request of the rig's manifest.
pub(crate) const REQUEST_BYTES: usize = 65_536;
/// Name of the rig's model.
pub(crate) const MODEL: &str = "tiny";
/// 2026-11-25.
pub(crate) const NOW: UnixMillis = UnixMillis(1_795_600_000_000);
/// Twenty minutes before.
const BOOTED: chrysalis_wire::UnixTime = chrysalis_wire::UnixTime(1_795_598_800);
/// Evidence the rig's worker says it produced.
const EVIDENCE: Digest = Digest([9; 32]);

/// A worker that serves.
pub(crate) struct Rig {
    pub(crate) worker: Arc<Worker>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
    console: Sink,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Quotes nothing: what is tested here begins after attestation.
struct NoPlatform;

fn unsupported<T>() -> Result<T, TeeError> {
    Err(TeeError::Unsupported { platform: "test", operation: "attest", why: "it is a test" })
}

impl Platform for NoPlatform {
    fn name(&self) -> &'static str {
        "test"
    }

    fn quote(&self, _: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        unsupported()
    }

    fn measurements(&self) -> Result<Registers, TeeError> {
        unsupported()
    }

    fn extend_runtime(&self, _: &[u8; 48]) -> Result<(), TeeError> {
        unsupported()
    }

    fn sealing_key(&self, _: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
        unsupported()
    }
}

/// An engine on a tiny model.
pub(crate) fn engine(model: &TinyModel) -> Arc<dyn Engine> {
    engine_with(model, EngineOptions::new(|| 1))
}

/// The same, with other options.
pub(crate) fn engine_with(model: &TinyModel, options: EngineOptions) -> Arc<dyn Engine> {
    Arc::new(CandleEngine::load(&model.build(), options).unwrap())
}

impl Rig {
    /// A worker that answers with `engine`, or is not ready.
    pub(crate) async fn start(bounds: Bounds, engine: Option<Arc<dyn Engine>>) -> Self {
        Self::on(Arc::new(NoPlatform), bounds, engine).await
    }

    /// A worker on `platform`, which has measured it.
    pub(crate) async fn on(
        platform: Arc<dyn Platform>,
        bounds: Bounds,
        engine: Option<Arc<dyn Engine>>,
    ) -> Self {
        Self::build(platform, bounds, engine, None, None, "").await
    }

    /// A worker on `platform` with these devices, which its manifest names.
    pub(crate) async fn with_devices(
        platform: Arc<dyn Platform>,
        devices: Arc<dyn Devices>,
    ) -> Self {
        Self::build(platform, Bounds::default(), None, None, Some(devices), "").await
    }

    /// A worker on `platform` that serves whom `gate` lets in, with `engine` or not ready.
    pub(crate) async fn guarded(
        platform: Arc<dyn Platform>,
        gate: PeerGate,
        engine: Option<Arc<dyn Engine>>,
    ) -> Self {
        let bounds = Bounds { peer_check: Duration::from_millis(50), ..Bounds::default() };
        Self::build(platform, bounds, engine, Some(gate), None, "").await
    }

    /// A worker that says `pieces` and is paid as `payment`, a section of its manifest, says.
    pub(crate) async fn paid(pieces: &[&str], payment: &str) -> Self {
        Self::paid_with(engine(&TinyModel::scripted(pieces)), payment).await
    }

    /// A worker with `engine` that is paid as `payment` says.
    pub(crate) async fn paid_with(engine: Arc<dyn Engine>, payment: &str) -> Self {
        let bounds = Bounds::default();
        Self::build(Arc::new(NoPlatform), bounds, Some(engine), None, None, payment).await
    }

    async fn build(
        platform: Arc<dyn Platform>,
        bounds: Bounds,
        engine: Option<Arc<dyn Engine>>,
        peers: Option<PeerGate>,
        devices: Option<Arc<dyn Devices>>,
        payment: &str,
    ) -> Self {
        Self::serving(platform, bounds, engine.map(Loaded::Text), peers, devices, payment).await
    }

    /// A worker that answers with the vectors of `embedder` and is paid as `payment` says.
    pub(crate) async fn embedding(embedder: Embedder, payment: &str) -> Self {
        Self::embedding_within(Bounds::default(), embedder, payment).await
    }

    /// The same, with other bounds.
    pub(crate) async fn embedding_within(
        bounds: Bounds,
        embedder: Embedder,
        payment: &str,
    ) -> Self {
        let loaded = Some(Loaded::Embedding(Arc::new(embedder)));
        Self::serving(Arc::new(NoPlatform), bounds, loaded, None, None, payment).await
    }

    async fn serving(
        platform: Arc<dyn Platform>,
        bounds: Bounds,
        loaded: Option<Loaded>,
        peers: Option<PeerGate>,
        devices: Option<Arc<dyn Devices>>,
        payment: &str,
    ) -> Self {
        let task = match loaded {
            Some(Loaded::Embedding(_)) => "task = \"embedding\"\n",
            _ => "",
        };
        let section = devices.as_ref().map_or_else(String::new, |devices| {
            let DeviceCount { gpus, switches } = devices.count().unwrap();
            format!("[devices]\ngpus = {gpus}\nswitches = {switches}\n")
        });
        let manifest = format!(
            "version = 1\nnetwork = 5458253\nregistry = \"{z}\"\n\n[model]\nname = \"{MODEL}\"\n\
             root = \"{z}\"\nsealed = false\n{task}\n[limits]\nrequest_bytes = {REQUEST_BYTES}\n\
             context_tokens = 4096\ncompletion_tokens = 4000\nconcurrent_requests = 1\n\n\
             [prices]\nprompt = 20000000\ncached = 5000000\ncompletion = 80000000\n\
             reasoning = 80000000\n{section}\n{payment}",
            z = "0".repeat(64)
        );
        let manifest_bytes = manifest.into_bytes();
        let manifest = WorkerManifest::parse(&manifest_bytes).unwrap();
        let session = Session::generate(manifest.network, BOOTED).unwrap();
        session.remember_evidence(EVIDENCE);
        let places = bounds.places(&manifest.limits);
        let payments = Payments::new(&manifest, places, &session.meter).unwrap();
        let policy_digest = Digest(Sha256::digest(&manifest_bytes).into());
        let events = boot_events(&policy_digest, &manifest.model.root).to_vec();
        for event in &events {
            // The platform that supports nothing keeps no register either.
            drop(platform.extend_runtime(&event_digest(event).unwrap()));
        }
        let measurement = Measured::Td(match platform.measurements() {
            Ok(Registers { mrtd, rtmr }) => Measurement { mrtd, rtmr },
            Err(_) => Measurement { mrtd: [1; 48], rtmr: [[2; 48]; 4] },
        });
        let console = Sink::default();
        let slot = OnceLock::new();
        let stages = Stages::new(Console::new(Box::new(console.clone())));
        if let Some(loaded) = loaded {
            assert!(slot.set(loaded).is_ok());
            stages.set(BootStage::Ready, StageState::Done);
        }
        let worker = Arc::new(Worker {
            platform,
            clock: Arc::new(|| NOW),
            policy_digest,
            measurement,
            measurement_digest: measurement.digest(),
            events,
            session,
            replay_window: Mutex::new(ReplayCache::new(DEFAULT_REPLAY_CAPACITY)),
            stages: Arc::new(stages),
            engine: slot,
            lost: watch::Sender::new(false),
            requests: Arc::new(Semaphore::new(places as usize)),
            bodies: Semaphore::new(bounds.body_bytes),
            bounds,
            devices,
            #[cfg(feature = "cuda")]
            gpu: None,
            quotes: Default::default(),
            peers,
            payments,
            receipts: Receipts::default(),
            counters: Counters::default(),
            grant: Default::default(),
            manifest,
            manifest_bytes,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(Arc::clone(&worker), listener, stopped));
        Self { worker, address, stop, serving, console }
    }

    /// A worker with the default bounds that says `pieces`.
    pub(crate) async fn saying(pieces: &[&str]) -> Self {
        Self::start(Bounds::default(), Some(engine(&TinyModel::scripted(pieces)))).await
    }

    /// Places for requests that are free.
    pub(crate) fn free(&self) -> usize {
        self.worker.requests.available_permits()
    }

    /// All places for requests.
    pub(crate) fn places(&self) -> usize {
        self.worker.bounds.places(&self.worker.manifest.limits) as usize
    }

    /// Everything printed on the console.
    pub(crate) fn console(&self) -> String {
        String::from_utf8(self.console.0.lock().unwrap().clone()).unwrap()
    }

    /// A TLS connection whose receive buffer is as small as the system allows.
    pub(crate) async fn tls(&self, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let tcp = socket.connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(config).connect(name, tcp).await.unwrap()
    }

    /// An HTTP connection.
    pub(crate) async fn http(&self) -> SendRequest<Full<Bytes>> {
        let tls = self.tls(trusting()).await;
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// An HTTP connection, with what a challenger with `nonce` knows about it.
    pub(crate) async fn challenger(&self, nonce: u8) -> (SendRequest<Full<Bytes>>, Seen) {
        let tls = self.tls(trusting()).await;
        let exporter =
            tls.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None).unwrap();
        let tls_spki = self.worker.session.tls.spki;
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        (sender, Seen { nonce: [nonce; 32], tls_spki, exporter })
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Response<Incoming> {
        let request =
            Request::builder().method(method).uri(path).body(Full::new(Bytes::from(body))).unwrap();
        self.http().await.send_request(request).await.unwrap()
    }

    /// The header of a request that fits this worker.
    pub(crate) fn header(&self, id: u8) -> Header {
        Header {
            suite: chrysalis_wire::SuiteId::XWing,
            role: KeyRole::Worker,
            network: self.worker.manifest.network,
            request_id: RequestId([id; 16]),
            time: NOW,
            path: PathId::ChatCompletions,
            model_root: self.worker.manifest.model.root,
            policy_digest: self.worker.policy_digest,
            max_tokens: 4000,
        }
    }

    /// Seals `json` under `header` to this worker.
    pub(crate) fn seal_with(&self, header: &Header, json: &str) -> (Vec<u8>, ResponseOpener) {
        let keyset = self.worker.session.keyset(NOW.seconds());
        let key = keyset.seal_key(KeyRole::Worker, NOW.seconds()).unwrap();
        let inner = InnerRequest { salt: [5; 32], evidence: vec![EVIDENCE], json: json.as_bytes() };
        seal_request(header, &[key], inner.encode().expose(), &mut OsRandom).unwrap()
    }

    /// Seals `json` to this worker.
    pub(crate) fn seal(&self, id: u8, json: &str) -> (Vec<u8>, ResponseOpener) {
        self.seal_with(&self.header(id), json)
    }

    /// Sends `json` sealed and reads the whole answer.
    pub(crate) async fn ask(&self, id: u8, json: &str) -> Vec<Frame> {
        let (sealed, mut opener) = self.seal(id, json);
        let response = self.send(Method::POST, "/v1/sealed", sealed).await;
        assert_eq!(response.status(), StatusCode::OK);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let frames = opener.push(&bytes).unwrap();
        opener.finish().unwrap();
        frames
    }
}

/// A chat that asks for a stream.
pub(crate) fn chat(prompt: &str) -> String {
    format!(
        r#"{{"model":"{MODEL}","stream":true,"temperature":0,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    )
}

/// The receipt that ends `frames`.
pub(crate) fn receipt(frames: &[Frame]) -> SignedReceipt {
    let last = frames.last().unwrap();
    assert!(last.last);
    SignedReceipt::from_json(last.payload.expose()).unwrap()
}

/// The text of frames, for looking into.
pub(crate) fn text(frames: &[Frame]) -> String {
    frames.iter().map(|f| String::from_utf8_lossy(f.payload.expose()).into_owned()).collect()
}

/// Status and JSON of an answer.
pub(crate) async fn json(response: Response<Incoming>) -> (StatusCode, serde_json::Value) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Code of a refusal outside the channel.
pub(crate) async fn code(response: Response<Incoming>) -> (u16, String) {
    let (status, body) = json(response).await;
    let next = body["error"]["next_step"].as_str().unwrap();
    assert!(!next.is_empty(), "every refusal says what to do");
    (status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
}

/// Polls until `probe` holds.
pub(crate) async fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !probe() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client configuration that accepts any certificate: possession of its key is still proved.
pub(crate) fn trusting() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Debug)]
pub(crate) struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
