//! The verifier's side of every test: a clock to turn, pins for the fake worker, a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrysalis_client::limits::{MAX_BODY_BYTES, MAX_RESPONSE_BYTES, REATTEST_INTERVAL};
use chrysalis_client::{
    AttestedWorker, Bounds, ClientError, ClientEvent, Clock, Completed, PathId, Payer, Worker,
};
use chrysalis_evidence::{AllowSim, Collateral, Pins, sim};
use chrysalis_policy::Judge;
use chrysalis_tee_sim::{collateral, sim_root_der};
use chrysalis_wire::{Digest, UnixMillis, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::fake::script::Answer;
use crate::fake::{EXECUTABLE, FakeWorker, MANIFEST, paid_manifest};

/// A clock both sides read, and tests turn.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

/// A fake worker and what it takes to judge it.
pub(crate) struct Bench {
    pub(crate) worker: FakeWorker,
    pub(crate) clock: TestClock,
    pub(crate) collateral: Arc<Collateral>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let clock = TestClock(Arc::new(AtomicU64::new(START.millis().0)));
        let collateral = Collateral::parse(collateral(START).as_bytes()).unwrap();
        let worker = FakeWorker::start(clock.clone()).await;
        Self { worker, clock, collateral: Arc::new(collateral) }
    }

    /// The same, with a worker that is paid.
    pub(crate) async fn start_paid() -> Self {
        let mut bench = Self::start().await;
        bench.worker = FakeWorker::start_paid(bench.clock.clone()).await;
        bench
    }

    /// A client of a worker that is paid.
    pub(crate) async fn paying(&self, payer: Payer) -> AttestedWorker {
        let digest = |manifest: &str| Digest(Sha256::digest(manifest).into()).to_string();
        let pins = pins().replace(&digest(MANIFEST), &digest(&paid_manifest()));
        let client = self.client_with(&self.worker.address.to_string(), &pins);
        let worker = client.appraise().await.unwrap();
        worker.pay_with(payer).await.unwrap();
        worker
    }

    /// A client of the worker at `address` that accepts what `pins` name.
    pub(crate) fn client_with(&self, address: &str, pins: &str) -> Worker {
        let pins = Pins::parse(pins, AllowSim::Yes).unwrap();
        let clock = self.clock.clone();
        let clock = Clock::new(move || clock.now());
        let judge = Arc::new(Judge::by(pins));
        Worker::new(address, judge, Arc::clone(&self.collateral), clock).with_bounds(SHORT_WAITS)
    }

    /// A client of the fake worker.
    pub(crate) fn client(&self) -> Worker {
        self.client_with(&self.worker.address.to_string(), &pins())
    }

    pub(crate) async fn attested(&self) -> AttestedWorker {
        self.client().appraise().await.unwrap()
    }

    /// Why the worker is not accepted.
    pub(crate) async fn refusal(&self) -> ClientError {
        match self.client().appraise().await {
            Ok(_) => panic!("the worker was accepted"),
            Err(error) => error,
        }
    }

    /// Why a streamed answer that is wrong in the way of `script` is refused, after the pieces
    /// that came before.
    pub(crate) async fn refused_answer(&self, script: Answer) -> (usize, ClientError) {
        let worker = self.attested().await;
        self.worker.answers(script);
        let mut answer = match worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await {
            Ok(answer) => answer,
            Err(error) => return (0, error),
        };
        let mut pieces = 0;
        loop {
            match answer.next().await {
                Ok(Some(ClientEvent::Done(_))) => panic!("the answer was called complete"),
                Ok(Some(_)) => pieces += 1,
                Ok(None) => panic!("the answer ended quietly"),
                Err(error) => {
                    // After an error there is nothing more, and no second chance.
                    assert!(matches!(answer.next().await, Ok(None)));
                    return (pieces, error);
                }
            }
        }
    }
}

/// A complete streamed answer: its payloads and its receipt.
pub(crate) async fn stream(worker: &AttestedWorker) -> (Vec<Vec<u8>>, Completed) {
    collect(worker, PathId::ChatCompletions, STREAM).await
}

/// A complete answer: its payloads and its receipt.
pub(crate) async fn collect(
    worker: &AttestedWorker,
    path: PathId,
    json: &str,
) -> (Vec<Vec<u8>>, Completed) {
    let mut answer = worker.request(path, json.as_bytes()).await.unwrap();
    let mut payloads = Vec::new();
    loop {
        match answer.next().await.unwrap() {
            Some(ClientEvent::Chunk(piece) | ClientEvent::Body(piece)) => {
                payloads.push(piece.expose().to_vec());
            }
            Some(ClientEvent::Done(completed)) => {
                assert!(matches!(answer.next().await, Ok(None)));
                return (payloads, *completed);
            }
            other => panic!("unexpected event {other:?}"),
        }
    }
}

/// Pins for the fake worker.
pub(crate) fn pins() -> String {
    pins_for(EXECUTABLE)
}

/// Pins for a worker of `executable`.
pub(crate) fn pins_for(executable: &[u8]) -> String {
    format!(
        "{}\n[[worker]]\nname = \"fake\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\n\
         rtmr2 = \"{}\"\nmanifest_sha256 = \"{}\"\nmodel_root = \"{}\"\n",
        pins_without_workers(),
        hex::encode(sim::mrtd(executable)),
        hex::encode(sim::rtmr0()),
        hex::encode(sim::rtmr1()),
        hex::encode(sim::rtmr2()),
        Digest(Sha256::digest(MANIFEST).into()),
        "42".repeat(32),
    )
}

/// A judge by these pins.
pub(crate) fn judge(pins: &str) -> Arc<Judge> {
    Arc::new(Judge::by(Pins::parse(pins, AllowSim::Yes).unwrap()))
}

/// Pins that deny what the fake worker measures.
pub(crate) fn denying() -> String {
    let mrtd = hex::encode(sim::mrtd(EXECUTABLE));
    format!("{}\n[[deny]]\nreason = \"a test\"\nmrtd = \"{mrtd}\"\n", pins())
}

/// Pins that accept nobody.
pub(crate) fn pins_without_workers() -> String {
    format!(
        "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = 5458253\n\n[platform]\n\
         td_attributes = [\"{}\"]\nxfam = [\"{}\"]\nmr_seam = [\"{}\"]\n\
         max_collateral_age_days = 30\nmin_tcb_evaluation_number = {}\n\
         allow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n",
        hex::encode(sim_root_der()),
        hex::encode(sim::TD_ATTRIBUTES),
        hex::encode(sim::XFAM),
        hex::encode(sim::mr_seam()),
        sim::TCB_EVALUATION_NUMBER,
    )
}

/// 22 November 2026.
pub(crate) const START: UnixTime = UnixTime(1_795_305_600);

/// Waits short enough to test what happens after them.
pub(crate) const SHORT_WAITS: Bounds = Bounds {
    connect: Duration::from_secs(5),
    handshake: Duration::from_millis(1500),
    attestation: Duration::from_millis(2500),
    reattest: REATTEST_INTERVAL,
    idle: Duration::from_millis(2000),
    response_bytes: MAX_RESPONSE_BYTES,
    body_bytes: MAX_BODY_BYTES,
};

/// A streamed chat request with a word in it that must not show up anywhere else.
pub(crate) const STREAM: &str = r#"{"model":"fake-model","messages":[{"role":"user","content":"canary-prompt"}],"max_tokens":12,"stream":true,"stream_options":{"include_usage":true}}"#;

/// The same, not streamed.
pub(crate) const WHOLE: &str = r#"{"model":"fake-model","messages":[{"role":"user","content":"canary-prompt"}],"max_tokens":12}"#;
