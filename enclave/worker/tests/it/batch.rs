//! Challenges that come while a quote is made share the next one, and each is as good as one of
//! its own. The platform is the simulator behind a gate, so how many quotes are made is counted and
//! not timed.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrysalis_evidence::Session;
use chrysalis_evidence::exchange::MAX_CHALLENGES;
use chrysalis_tee::{Platform, Registers, TeeError};
use chrysalis_tee_sim::SimPlatform;
use chrysalis_wire::AttestationDocument;
use chrysalis_worker::limits::Bounds;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::judge::{EXECUTABLE, Judge};
use crate::rig::{Rig, code, eventually};

/// A simulated platform that makes a quote when it is let to.
struct Gated {
    platform: SimPlatform,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Default)]
struct Gate {
    /// Quotes begun.
    begun: usize,
    /// Quotes that may be finished.
    allowed: usize,
}

impl Gated {
    fn new() -> Arc<Self> {
        let platform = SimPlatform::new(EXECUTABLE);
        Arc::new(Self { platform, gate: Mutex::default(), moved: Condvar::new() })
    }

    fn begun(&self) -> usize {
        self.gate.lock().unwrap().begun
    }

    fn allow(&self, quotes: usize) {
        self.gate.lock().unwrap().allowed += quotes;
        self.moved.notify_all();
    }
}

impl Platform for Gated {
    fn name(&self) -> &'static str {
        self.platform.name()
    }

    fn insecure_sim(&self) -> bool {
        true
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let mut gate = self.gate.lock().unwrap();
        gate.begun += 1;
        let own = gate.begun;
        drop(self.moved.wait_while(gate, |gate| gate.allowed < own).unwrap());
        self.platform.quote(report_data)
    }

    fn measurements(&self) -> Result<Registers, TeeError> {
        self.platform.measurements()
    }

    fn extend_runtime(&self, digest: &[u8; 48]) -> Result<(), TeeError> {
        self.platform.extend_runtime(digest)
    }

    fn sealing_key(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
        self.platform.sealing_key(purpose)
    }
}

/// A worker behind the gate, and a verifier that pins it.
struct Scene {
    gate: Arc<Gated>,
    rig: Rig,
    judge: Judge,
}

type Answer = (StatusCode, Bytes);

impl Scene {
    async fn with(bounds: Bounds) -> Self {
        let gate = Gated::new();
        let rig = Rig::on(Arc::clone(&gate) as Arc<dyn Platform>, bounds, None).await;
        let judge = Judge::of(&rig);
        Self { gate, rig, judge }
    }

    /// Challenges on a connection of its own.
    async fn challenge(&self, nonce: u8) -> (Session, JoinHandle<Answer>) {
        let (sender, session) = self.rig.challenger(nonce).await;
        let asked = tokio::spawn(ask(sender, session.nonce));
        (session, asked)
    }

    /// Challenges, and waits until the challenge waits.
    async fn challenge_and_wait(&self, nonce: u8) -> (Session, JoinHandle<Answer>) {
        let before = self.rig.worker.quotes.waiting();
        let asked = self.challenge(nonce).await;
        eventually("the challenge waits", || self.rig.worker.quotes.waiting() > before).await;
        asked
    }

    /// Challenges, and waits until its quote is begun: it was alone.
    async fn challenge_alone(&self, nonce: u8) -> (Session, JoinHandle<Answer>) {
        let before = self.gate.begun();
        let asked = self.challenge(nonce).await;
        eventually("its quote is begun", || self.gate.begun() > before).await;
        asked
    }

    /// Code of the refusal, or none.
    fn refusal(&self, document: &AttestationDocument, session: &Session) -> Option<&'static str> {
        self.judge.refusal(document, session)
    }
}

async fn ask(mut sender: SendRequest<Full<Bytes>>, nonce: [u8; 32]) -> Answer {
    let path = format!("/v1/attestation?nonce={}", hex::encode(nonce));
    let request = Request::get(path).body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes())
}

async fn document(asked: JoinHandle<Answer>) -> AttestationDocument {
    let (status, body) = asked.await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body:?}");
    serde_json::from_slice(&body).unwrap()
}

async fn refused(asked: JoinHandle<Answer>) -> (u16, String) {
    let (status, body) = asked.await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn seventeen_challenges_at_once_cost_two_quotes_and_each_peer_has_its_own_leaf() {
    let scene = Scene::with(Bounds::default()).await;
    let (first_session, first) = scene.challenge_alone(0).await;
    let mut asked = Vec::new();
    for nonce in 1..=16 {
        asked.push(scene.challenge_and_wait(nonce).await);
    }
    scene.gate.allow(2);

    let first = document(first).await;
    assert_eq!((&first.batch, scene.refusal(&first, &first_session)), (&None, None));
    let mut documents = Vec::new();
    for (session, asked) in asked {
        documents.push((session, document(asked).await));
    }
    assert_eq!(scene.gate.begun(), 2);
    for (at, (session, own)) in documents.iter().enumerate() {
        let place = own.batch.as_ref().unwrap();
        assert_eq!((place.index as usize, place.size, place.path.len()), (at, 16, 4));
        assert_eq!(own.quote, documents[0].1.quote);
        assert_eq!(scene.refusal(own, session), None);
        // Everybody else's document is made with the same quote, and is for somebody else.
        for (_, other) in documents.iter().filter(|(other, _)| other != session) {
            assert_eq!(scene.refusal(other, session), Some("E-REPORT-DATA"));
        }
        // The own one says nothing about who else asked, or without its place.
        let alone = AttestationDocument { batch: None, ..own.clone() };
        assert_eq!(scene.refusal(&alone, session), Some("E-REPORT-DATA"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_no_larger_than_its_limit() {
    let scene = Scene::with(Bounds { batch: 2, ..Bounds::default() }).await;
    let mut asked = vec![scene.challenge_alone(0).await];
    for nonce in 1..=5 {
        asked.push(scene.challenge_and_wait(nonce).await);
    }
    scene.gate.allow(4);
    let mut sizes = Vec::new();
    for (session, asked) in asked {
        let document = document(asked).await;
        assert_eq!(scene.refusal(&document, &session), None);
        sizes.push(document.batch.map_or(1, |place| place.size));
    }
    assert_eq!((sizes, scene.gate.begun()), (vec![1, 2, 2, 2, 2, 1], 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_one_challenge_more_than_may_wait() {
    let scene = Scene::with(Bounds { challenges: 2, ..Bounds::default() }).await;
    let mut asked = vec![scene.challenge_alone(0).await];
    for nonce in 1..=2 {
        asked.push(scene.challenge_and_wait(nonce).await);
    }
    let (_, one_more) = scene.challenge(3).await;
    assert_eq!(refused(one_more).await, (429, "E-BUSY".to_owned()));
    scene.gate.allow(2);
    for (session, asked) in asked {
        assert_eq!(scene.refusal(&document(asked).await, &session), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_goes_away_takes_nobodys_quote_with_it() {
    let scene = Scene::with(Bounds { challenges: 2, ..Bounds::default() }).await;
    let (_, first) = scene.challenge_alone(0).await;
    let (_, second) = scene.challenge_and_wait(1).await;
    let (session, third) = scene.challenge_and_wait(2).await;
    // Aborting the task drops the sender, which closes the connection.
    first.abort();
    second.abort();
    scene.gate.allow(2);
    assert_eq!(scene.refusal(&document(third).await, &session), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_waits_for_a_stuck_platform_only_so_long_and_the_next_is_answered() {
    let challenge = Duration::from_millis(200);
    let scene = Scene::with(Bounds { challenge, ..Bounds::default() }).await;
    for nonce in 0..2 {
        let (_, stuck) = scene.challenge(nonce).await;
        assert_eq!(refused(stuck).await, (503, "E-QUOTE-TIMEOUT".to_owned()));
    }
    assert_eq!(scene.gate.begun(), 1, "a second quote was begun behind the stuck one");
    scene.gate.allow(3);
    let (session, asked) = scene.challenge(2).await;
    assert_eq!(scene.refusal(&document(asked).await, &session), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_brings_so_many_challenges_and_is_closed_for_one_more() {
    let scene = Scene::with(Bounds::default()).await;
    scene.gate.allow(MAX_CHALLENGES);
    let (mut sender, session) = scene.rig.challenger(0).await;
    let path = format!("/v1/attestation?nonce={}", hex::encode(session.nonce));
    let request = || Request::get(&path).body(Full::<Bytes>::default()).unwrap();
    for n in 0..MAX_CHALLENGES {
        sender.ready().await.unwrap();
        let response = sender.send_request(request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "challenge {n}");
        response.into_body().collect().await.unwrap();
    }
    sender.ready().await.unwrap();
    let response = sender.send_request(request()).await.unwrap();
    assert_eq!(code(response).await, (429, "E-ATTEST-RATE".to_owned()));
    assert!(sender.ready().await.is_err(), "the connection is still open");
    assert_eq!(scene.gate.begun(), MAX_CHALLENGES);
    // Another connection is another peer.
    scene.gate.allow(1);
    let (_, other) = scene.challenge(1).await;
    document(other).await;
}
