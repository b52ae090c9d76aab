//! From a manifest to a worker that is ready: measure, make keys, listen, load, appraise itself.
//!
//! The order is the security argument. What decides the worker's behaviour is measured before any key
//! exists ([`crate::measure`]); the listener answers attestation before the model is there, so that a model key can be granted to attested keys; requests are served only after the
//! worker has appraised its own evidence the way a client will.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use chrysalis_channel::{DEFAULT_REPLAY_CAPACITY, ReplayCache};
use chrysalis_engine::{
    CandleEngine, EmbedOptions, Embedder, EngineError, EngineOptions, Held, ModelError,
};
use chrysalis_evidence::{AllowSim, boot_events};
use chrysalis_tee::{Devices, Platform};
use chrysalis_vault::{Bundle, ModelKey};
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;
use chrysalis_wire::manifest::ModelTask;
use chrysalis_wire::{BootStage, ConsoleEvent, Digest, NetworkId, StageState, WorkerManifest};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::appraise::self_appraise;
use crate::args::Args;
use crate::devices;
use crate::error::WorkerError;
use crate::gate::gate;
use crate::grant::GrantDesk;
use crate::limits::{
    Bounds, CLAIM_INTERVAL, COUNTER_INTERVAL, FUNDING_INTERVAL, KEY_MAINTENANCE, REFUSAL_INTERVAL,
};
use crate::lost::ending;
use crate::measure::measure;
use crate::payment::Payments;
use crate::quotes::QuoteDesk;
use crate::receipts::Receipts;
use crate::server::serve;
use crate::session::Session;
use crate::stages::Stages;
use crate::worker::{Clock, Counters, Loaded, Worker};

/// What `main.rs` supplies: the platform, the clock and, in the simulator, its FAKE root.
pub struct Setting {
    /// The hardware edge.
    pub platform: Arc<dyn Platform>,
    /// The time.
    pub clock: Clock,
    /// The devices of the machine; they are asked only if the manifest names some.
    pub devices: Arc<dyn Devices>,
    /// DER of the simulator's root certificates; `None` in every release worker.
    pub sim_roots: Option<SimRoots>,
    /// Where console events go.
    pub stages: Arc<Stages>,
}

/// The FAKE roots of the simulator, DER.
#[derive(Clone)]
pub struct SimRoots {
    /// Of the platform.
    pub platform: Vec<u8>,
    /// Of its devices.
    pub devices: Vec<u8>,
}

/// Boots and serves until `stop` turns true.
///
/// # Errors
/// [`WorkerError`] for the first stage that refuses; its code was written to the console.
pub async fn run(
    args: Args,
    setting: Setting,
    stop: watch::Receiver<bool>,
) -> Result<(), WorkerError> {
    let stages = Arc::clone(&setting.stages);
    let result = boot_and_serve(args, setting, stop).await;
    match &result {
        Ok(()) => {
            stages.console().event(&ConsoleEvent::Stopping {});
        }
        Err(error) => stages.refused(&error.code()),
    }
    result
}

async fn boot_and_serve(
    args: Args,
    setting: Setting,
    mut stop: watch::Receiver<bool>,
) -> Result<(), WorkerError> {
    let worker = Arc::new(assemble(&args, &setting)?);
    let listener = listen(&worker, args.listen).await?;
    let server = tokio::spawn(serve(Arc::clone(&worker), listener, stop.clone()));
    let upkeep = tokio::spawn(maintain(Arc::clone(&worker)));
    let reporting = tokio::spawn(report(Arc::clone(&worker)));
    let refusing = tokio::spawn(report_refusals(Arc::clone(&worker)));
    let claiming = tokio::spawn(claim(Arc::clone(&worker)));
    let wanting = tokio::spawn(want_funding(Arc::clone(&worker)));
    tokio::select! {
        finished = finish_boot(&worker, &args, &setting) => finished?,
        _ = stop.wait_for(|stopped| *stopped) => {}
    }
    server.await.map_err(|_| WorkerError::Stopped("listener"))?;
    if *worker.lost.borrow() {
        // Not as if it had been stopped: the engine's last act ends this process.
        std::future::pending::<()>().await;
    }
    upkeep.abort();
    reporting.abort();
    refusing.abort();
    claiming.abort();
    wanting.abort();
    // What was earned since the last time; the answers in progress are over.
    report_claims(&worker);
    Ok(())
}

/// Destroys expired keys in time, whether or not anybody attests.
async fn maintain(worker: Arc<Worker>) {
    let mut keys = tokio::time::interval(KEY_MAINTENANCE);
    loop {
        keys.tick().await;
        // A ring that refuses a rotation keeps its keys until they expire; then clients are told
        // so by type, and the next attestation tries again.
        drop(worker.maintain((worker.clock)().seconds()));
    }
}

/// Reports the counters. Apart from [`maintain`], and on a thread that may block: a host that
/// does not read the console must not keep keys alive.
async fn report(worker: Arc<Worker>) {
    let mut interval = tokio::time::interval(COUNTER_INTERVAL);
    let mut told = (0, 0);
    loop {
        interval.tick().await;
        let counts = worker.counters.coarse();
        if counts != told {
            told = counts;
            let (requests, refused) = counts;
            let stages = Arc::clone(&worker.stages);
            let write = move || stages.console().event(&ConsoleEvent::Served { requests, refused });
            drop(spawn_blocking(write).await);
        }
    }
}

/// Reports clients that were refused, sooner than counters: whoever sets up a proxy looks for the
/// rule. On a thread that may block, as in [`report`].
async fn report_refusals(worker: Arc<Worker>) {
    let mut interval = tokio::time::interval(REFUSAL_INTERVAL);
    loop {
        interval.tick().await;
        let events = worker.peers.as_ref().map(|gate| gate.refusals.take()).unwrap_or_default();
        if !events.is_empty() {
            let stages = Arc::clone(&worker.stages);
            let write = move || {
                for event in &events {
                    stages.console().event(event);
                }
            };
            drop(spawn_blocking(write).await);
        }
    }
}

/// Tells the owner what was earned, on a thread that may block: from time to time, and after a batch of
/// requests of one channel. Not after each request: the host would read the length of every prompt from the
/// sums. No channel gets further ahead of it than its window.
async fn claim(worker: Arc<Worker>) {
    let Some(payments) = worker.payments.clone() else { return };
    let mut interval = tokio::time::interval(CLAIM_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = payments.due() => {}
        }
        let worker = Arc::clone(&worker);
        drop(spawn_blocking(move || report_claims(&worker)).await);
    }
}

/// Tells the owner which channels wait for her to look at the chain, on a thread that may block.
async fn want_funding(worker: Arc<Worker>) {
    let Some(payments) = worker.payments.clone() else { return };
    let meter_key = Digest(worker.session.meter.public());
    loop {
        let wanted = payments.wanted().await;
        let stages = Arc::clone(&worker.stages);
        let write = move || {
            for terms in wanted {
                let terms = hex::encode(terms.encode());
                stages.console().event(&ConsoleEvent::FundingWanted { meter_key, terms });
            }
        };
        drop(spawn_blocking(write).await);
        tokio::time::sleep(FUNDING_INTERVAL).await;
    }
}

/// Tells the owner what was earned since the last time.
pub(crate) fn report_claims(worker: &Worker) {
    let Some(payments) = &worker.payments else { return };
    let mut claims = payments.grown(&worker.session.meter, (worker.clock)().seconds());
    claims.retain(|claim| {
        let claim = hex::encode(claim.encode());
        worker.stages.console().event(&ConsoleEvent::Earned { claim })
    });
    // In the pipe, which outlives this process; where there is none the window closes.
    payments.told(&claims);
}

/// Stages `manifest` and `keys`: everything up to a worker that can attest.
fn assemble(args: &Args, setting: &Setting) -> Result<Worker, WorkerError> {
    let stages = &setting.stages;
    stages.set(BootStage::Manifest, StageState::Started);
    let manifest_bytes = read_bounded(&args.manifest, "manifest", MAX_MANIFEST_BYTES)?;
    let manifest = WorkerManifest::parse(&manifest_bytes)?;
    let simulated = setting.platform.insecure_sim();
    if simulated != (manifest.network == NetworkId::INSECURE_SIM) {
        return Err(WorkerError::Network);
    }
    let policy_digest = Digest(Sha256::digest(&manifest_bytes).into());
    let peers = gate(&manifest, args, if simulated { AllowSim::Yes } else { AllowSim::No })?;
    // In this order, and before any key exists.
    let events = boot_events(&policy_digest, &manifest.model.root).to_vec();
    let measurement = measure(setting.platform.as_ref(), args.measured_by, &events)?;
    let devices = devices::of_boot(&manifest, &measurement, &setting.devices)?;
    // Nor is a key asked for by a machine that could not compute.
    #[cfg(feature = "cuda")]
    let gpu = gpu(&manifest)?;
    stages.set(BootStage::Manifest, StageState::Done);

    stages.set(BootStage::Keys, StageState::Started);
    let bounds = Bounds::default();
    let places = bounds.places(&manifest.limits);
    let session = Session::generate(manifest.network, (setting.clock)().seconds())?;
    let payments = Payments::new(&manifest, places, &session.meter)?;
    stages.set(BootStage::Keys, StageState::Done);

    Ok(Worker {
        platform: Arc::clone(&setting.platform),
        clock: Arc::clone(&setting.clock),
        policy_digest,
        measurement,
        measurement_digest: measurement.digest(),
        events,
        session,
        replay_window: Mutex::new(ReplayCache::new(DEFAULT_REPLAY_CAPACITY)),
        stages: Arc::clone(stages),
        engine: OnceLock::new(),
        lost: watch::Sender::new(false),
        requests: Arc::new(Semaphore::new(places as usize)),
        bodies: Semaphore::new(bounds.body_bytes),
        bounds,
        devices,
        #[cfg(feature = "cuda")]
        gpu,
        quotes: QuoteDesk::default(),
        peers,
        payments,
        receipts: Receipts::default(),
        counters: Counters::default(),
        grant: GrantDesk::default(),
        manifest,
        manifest_bytes,
    })
}

/// Stage `listen`.
async fn listen(worker: &Worker, address: SocketAddr) -> Result<TcpListener, WorkerError> {
    worker.stages.set(BootStage::Listen, StageState::Started);
    let refused = |error: std::io::Error| WorkerError::Listen(error.kind());
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?.to_string();
    let insecure_sim = worker.platform.insecure_sim();
    worker.stages.console().event(&ConsoleEvent::Listening { address, insecure_sim });
    worker.stages.set(BootStage::Listen, StageState::Done);
    Ok(listener)
}

/// Stages `grant`, `model`, `appraise` and `ready`.
async fn finish_boot(
    worker: &Arc<Worker>,
    args: &Args,
    setting: &Setting,
) -> Result<(), WorkerError> {
    let stages = &worker.stages;
    let bundle = File::open(&args.bundle)
        .map_err(|e| WorkerError::Unreadable { what: "model bundle", kind: e.kind() })?;
    let bundle = Bundle::open(bundle)?;
    // Before a key is asked for: no key could make another bundle the measured one.
    bundle.expect_root(&worker.manifest.model.root)?;
    let (bundle, key) = if worker.manifest.model.sealed {
        let granted = worker.grant.open(bundle);
        stages.set(BootStage::Grant, StageState::Started);
        let (bundle, key) = granted.await.map_err(|_| WorkerError::Stopped("grant stage"))?;
        stages.set(BootStage::Grant, StageState::Done);
        (bundle, Some(key))
    } else {
        stages.set(BootStage::Grant, StageState::Skipped);
        (bundle, None)
    };

    stages.set(BootStage::Model, StageState::Started);
    let loading = Arc::clone(worker);
    let engine = spawn_blocking(move || load_model(&loading, bundle, key.as_ref()))
        .await
        .map_err(|_| WorkerError::Stopped("model loader"))??;
    stages.set(BootStage::Model, StageState::Done);

    stages.set(BootStage::Appraise, StageState::Started);
    self_appraise(worker, &args.collateral, setting.sim_roots.as_ref()).await?;
    stages.set(BootStage::Appraise, StageState::Done);

    stages.set(BootStage::Ready, StageState::Started);
    worker.engine.set(engine).map_err(|_| WorkerError::Stopped("engine slot"))?;
    stages.set(BootStage::Ready, StageState::Done);
    Ok(())
}

fn load_model(
    worker: &Arc<Worker>,
    bundle: Bundle<File>,
    key: Option<&ModelKey>,
) -> Result<Loaded, WorkerError> {
    let progress = |done, total| worker.stages.progress(BootStage::Model, done, total);
    let mut files = bundle.files(&worker.manifest.model.root, key, &progress)?;
    let limits = &worker.manifest.limits;
    let tokens = limits.context_tokens;
    let engine = match worker.manifest.model.task {
        ModelTask::Text => {
            let options = EngineOptions {
                #[cfg(feature = "cuda")]
                device: worker.gpu.clone(),
                max_concurrent: limits.concurrent_requests as usize,
                max_waiting: worker.bounds.waiting as usize,
                context_tokens: tokens,
                kv_cache_type: worker.manifest.engine.kv_cache_type,
                drafts: worker.manifest.engine.drafts,
                lost: ending(Arc::downgrade(worker)),
                ..EngineOptions::new(entropy)
            };
            CandleEngine::open(&mut files, options).map(|engine| {
                if let Some(event) = scarce(engine.held(), limits.concurrent_requests) {
                    worker.stages.console().event(&event);
                }
                Loaded::Text(Arc::new(engine))
            })
        }
        ModelTask::Embedding => {
            let max_requests = worker.bounds.places(limits) as usize;
            let options = EmbedOptions { max_requests, request_tokens: tokens, threads: None };
            Embedder::open(&mut files, options).map(|model| Loaded::Embedding(Arc::new(model)))
        }
    };
    // First why the bundle was refused: to the engine that is a file which could not be read.
    files.finish()?;
    match engine {
        Ok(engine) => Ok(engine),
        Err(EngineError::Model(ModelError::FileMissing { name })) => {
            Err(WorkerError::NoModelFile { name })
        }
        Err(error) => Err(error.into()),
    }
}

/// What the owner is told if memory may be too small for `concurrent` requests of the longest kind: they are
/// served, and some of them more slowly than the manifest promises.
fn scarce(held: Held, concurrent: u32) -> Option<ConsoleEvent> {
    let contexts = held.known.then(|| u32::try_from(held.contexts).unwrap_or(u32::MAX));
    let enough = contexts.is_some_and(|contexts| contexts >= concurrent);
    (!enough).then_some(ConsoleEvent::ContextMemory { contexts, concurrent })
}

/// The GPU that computes: the first of those that the manifest names, whose reports are in every evidence
/// and which refuse to report while their memory is not protected. A manifest that names none is served by
/// the processor, whatever the machine has, and so are vectors; text of one that names some never is.
#[cfg(feature = "cuda")]
fn gpu(manifest: &WorkerManifest) -> Result<Option<chrysalis_cuda::Device>, WorkerError> {
    let named = manifest.devices.is_some_and(|devices| devices.gpus > 0);
    if !named || manifest.model.task != ModelTask::Text {
        return Ok(None);
    }
    chrysalis_cuda::Device::open(Path::new(chrysalis_cuda::LIBRARY), chrysalis_cuda::embedded())
        .map(Some)
        .map_err(|error| WorkerError::Refused { code: error.code(), message: error.to_string() })
}

/// The seed of a request that brings none. Without randomness there would be no keys either.
pub(crate) fn entropy() -> u64 {
    let mut bytes = [0u8; 8];
    // Zero if the system has none: a fixed seed is no worse than what the caller could ask for.
    getrandom::fill(&mut bytes).map_or(0, |()| u64::from_be_bytes(bytes))
}

/// Reads a file of the host, refusing more than `limit` bytes before holding them.
pub fn read_bounded(path: &Path, what: &'static str, limit: usize) -> Result<Vec<u8>, WorkerError> {
    use std::io::Read;
    let unreadable = |e: std::io::Error| WorkerError::Unreadable { what, kind: e.kind() };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let past_limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(past_limit).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(WorkerError::Unreadable { what, kind: std::io::ErrorKind::FileTooLarge });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_told_of_fewer_contexts_than_requests_and_of_memory_that_nobody_knows() {
        let told = |contexts, known| scarce(Held { contexts, known }, 4);
        let event = |contexts| Some(ConsoleEvent::ContextMemory { contexts, concurrent: 4 });
        assert_eq!([told(4, true), told(5, true)], [None, None]);
        assert_eq!(told(3, true), event(Some(3)));
        assert_eq!(told(4, false), event(None));
    }
}
