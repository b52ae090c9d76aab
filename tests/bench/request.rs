//! What the sealed path adds to a request: one token through client, TLS, relay and worker,
//! receipt verified, against the same token from the engine in this process.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use chrysalis_client::{AttestedWorker, ClientEvent, Clock, PathId, ResponseStream, Worker};
use chrysalis_engine::{CandleEngine, Engine as _, Event};
use chrysalis_evidence::{AllowSim, Collateral, Pins};
use chrysalis_policy::Judge;
use chrysalis_tests::{Running, World, model};
use chrysalis_wire::UnixMillis;
use tokio::runtime::Runtime;

use crate::report::{Better, Comparison};
use crate::{engine, handshake};

/// The whole path and its parts on the network.
pub(crate) fn measure(rounds: usize, world: &World) -> Result<Vec<Comparison>> {
    crate::progress("one token, sealed and in process");
    let engine = engine::load(&std::fs::read(model().context("no model")?)?)?;
    let running = Running::start(world);
    let runtime = Runtime::new()?;
    let path = Path::new(&running.address, world, &runtime)?;

    let candidates = ["worker, new connection", "worker, open connection", "engine, in process"];
    let mut whole = Comparison::new("Request: one token", "ms", Better::Less, candidates)
        .added(0, 2)
        .added(1, 2)
        .ratio(0, 2)
        .ratio(1, 2)
        .note("completion of one token; worker: TLS, relay, seal, receipt signed and verified");
    let candidates = ["TCP and TLS 1.3 handshake", "handshake, evidence and appraisal"];
    let mut parts = Comparison::new("Request: getting connected", "ms", Better::Less, candidates)
        .added(1, 0)
        .note("through the relay, X25519MLKEM768 and P-256; evidence is fetched once, then kept");
    for round in 0..=rounds.saturating_mul(ROUNDS_FACTOR) {
        let (opened, open) = path.pair()?;
        let direct = in_process(&engine)?;
        let shaken = handshake::time(&running.address)?;
        let met = path.meet()?;
        if round > 0 {
            whole.round(&[opened, open, direct].map(millis));
            parts.round(&[shaken, met].map(millis));
        }
    }
    Ok(vec![whole, parts])
}

fn in_process(engine: &CandleEngine) -> Result<Duration> {
    let started = Instant::now();
    let mut generation = engine.generate(engine::request(PROMPT, 1))?;
    loop {
        match generation.events.blocking_recv().context("the engine is gone")? {
            Event::Delta(_) => {}
            Event::Finished { .. } => return Ok(started.elapsed()),
            Event::Failed(error) => bail!(error),
        }
    }
}

/// The way to a running worker.
struct Path<'a> {
    worker: Worker,
    attested: AttestedWorker,
    json: Vec<u8>,
    runtime: &'a Runtime,
}

impl<'a> Path<'a> {
    fn new(address: &str, world: &World, runtime: &'a Runtime) -> Result<Self> {
        let pins = std::fs::read_to_string(world.path("pins.toml"))?;
        let judge = Judge::by(Pins::parse(&pins, AllowSim::Yes)?);
        let collateral = Collateral::parse(&std::fs::read(world.path("collateral.json"))?)?;
        let worker = Worker::new(address, Arc::new(judge), Arc::new(collateral), Clock::new(now));
        let attested = runtime.block_on(worker.appraise())?;
        let evidence = runtime.block_on(attested.evidence());
        let json = serde_json::to_vec(&serde_json::json!({
            "model": evidence.verified.manifest().model.name,
            "prompt": PROMPT,
            "max_tokens": 1,
            "temperature": 0,
            "stream": true,
        }))?;
        Ok(Self { worker, attested, json, runtime })
    }

    /// One request over a new connection and one over an open one.
    fn pair(&self) -> Result<(Duration, Duration)> {
        self.runtime.block_on(async {
            // Its answer is left unread, so it keeps the idle connection and the next request has
            // to open another.
            let held = self.send().await?;
            settle().await;
            let started = Instant::now();
            finish(self.send().await?).await?;
            let opened = started.elapsed();
            drop(held);
            settle().await;
            let started = Instant::now();
            finish(self.send().await?).await?;
            let open = started.elapsed();
            settle().await;
            Ok((opened, open))
        })
    }

    /// First contact: connection, fresh evidence, appraisal.
    fn meet(&self) -> Result<Duration> {
        let started = Instant::now();
        let attested = self.runtime.block_on(self.worker.appraise())?;
        let time = started.elapsed();
        drop(attested);
        Ok(time)
    }

    async fn send(&self) -> Result<ResponseStream> {
        Ok(self.attested.request(PathId::Completions, &self.json).await?)
    }
}

/// Reads an answer to its verified receipt.
async fn finish(mut answer: ResponseStream) -> Result<()> {
    loop {
        match answer.next().await?.context("the answer ended quietly")? {
            ClientEvent::Done(_) => return Ok(()),
            ClientEvent::Error { status, .. } => bail!("the worker answered {status}"),
            ClientEvent::Chunk(_) | ClientEvent::Body(_) => {}
        }
    }
}

/// Lets a finished connection become idle and a worker end a request.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The one clock of this program.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// As a figure of a comparison.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Few tokens: the less the engine computes, the better the rest can be seen.
const PROMPT: &str = "Hello";
/// One token takes little, so there is time for more rounds.
const ROUNDS_FACTOR: usize = 4;
