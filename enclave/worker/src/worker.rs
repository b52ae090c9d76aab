//! The state every route shares. Built during boot, immutable afterwards but for keys that
//! rotate, the replay window and the receipts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use chrysalis_channel::{ChannelError, Expectation, ReplayCache, open_grant};
use chrysalis_engine::{Embedder, Engine};
use chrysalis_evidence::Measured;
use chrysalis_tee::{Devices, Platform};
use chrysalis_wire::{Digest, RuntimeEvent, UnixMillis, UnixTime, WorkerManifest};
use tokio::sync::{Semaphore, watch};

use crate::grant::GrantDesk;
use crate::http::Refused;
use crate::limits::Bounds;
use crate::payment::Payments;
use crate::peer::PeerGate;
use crate::quotes::QuoteDesk;
use crate::receipts::Receipts;
use crate::session::Session;
use crate::stages::Stages;

/// The model that is served, by what it does.
#[derive(Clone)]
pub enum Loaded {
    /// Answers with text.
    Text(Arc<dyn Engine>),
    /// Answers with the vectors of texts.
    Embedding(Arc<Embedder>),
}

/// Reads the time. The only clock is in `main.rs`.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// What every route shares.
pub struct Worker {
    /// The hardware edge.
    pub platform: Arc<dyn Platform>,
    /// The time.
    pub clock: Clock,
    /// The measured manifest.
    pub manifest: WorkerManifest,
    /// Its exact bytes.
    pub manifest_bytes: Vec<u8>,
    /// SHA-256 of the exact bytes: the policy a sealed header must name.
    pub policy_digest: Digest,
    /// What the platform reports after boot's extensions.
    pub measurement: Measured,
    /// Its digest, as receipts name it.
    pub measurement_digest: Digest,
    /// Runtime events in the order they were extended.
    pub events: Vec<RuntimeEvent>,
    /// Keys of this boot.
    pub session: Session,
    /// Requests already seen.
    pub replay_window: Mutex<ReplayCache>,
    /// Boot stages.
    pub stages: Arc<Stages>,
    /// The model, once the worker is ready.
    pub engine: OnceLock<Loaded>,
    /// Turns true once nothing computes any more.
    pub lost: watch::Sender<bool>,
    /// One permit per request in progress.
    pub requests: Arc<Semaphore>,
    /// One permit per byte of a request body that is being read or opened, but for its first few.
    pub bodies: Semaphore,
    /// What peers may take together.
    pub bounds: Bounds,
    /// The devices that the manifest names.
    pub devices: Option<Arc<dyn Devices>>,
    /// The one that computes; the processor if there is none.
    #[cfg(feature = "cuda")]
    pub gpu: Option<chrysalis_cuda::Device>,
    /// Challenges that wait for a quote.
    pub quotes: QuoteDesk,
    /// Whom this worker serves; everybody if there is no gate.
    pub peers: Option<PeerGate>,
    /// Who pays; nobody if the manifest does not ask for it.
    pub payments: Option<Arc<Payments>>,
    /// Receipts of this boot.
    pub receipts: Receipts,
    /// What the console counts.
    pub counters: Counters,
    /// Where a grant goes while the boot waits for one.
    pub grant: GrantDesk,
}

/// Aggregate counters; there is no per-request line anywhere.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sealed requests that opened.
    pub answered: AtomicU64,
    /// Sealed requests that did not open, or found no free place.
    pub refused: AtomicU64,
}

impl Counters {
    /// Both counts, rounded down so that single requests do not show.
    #[must_use]
    pub fn coarse(&self) -> (u64, u64) {
        let coarse = |count: &AtomicU64| count.load(Ordering::Relaxed) & !COUNTER_GRAIN_MASK;
        (coarse(&self.answered), coarse(&self.refused))
    }
}

/// Counters are shown in steps of 8.
const COUNTER_GRAIN_MASK: u64 = 7;

impl Worker {
    /// What a sealed header must name.
    #[must_use]
    pub const fn expectation(&self) -> Expectation {
        Expectation {
            network: self.manifest.network,
            model_root: self.manifest.model.root,
            policy_digest: self.policy_digest,
        }
    }

    /// The replay window.
    pub fn replay(&self) -> MutexGuard<'_, ReplayCache> {
        // Poisoned in builds that unwind only: a panic ends a release worker (`profile.release`), and with
        // it keys and window together. An entry is added in one step either way.
        self.replay_window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after the keys of the session.
    ///
    /// # Errors
    /// As [`Session::maintain`].
    pub fn maintain(&self, now: UnixTime) -> Result<(), ChannelError> {
        let replay = self.replay();
        self.session.maintain(now, |key| replay.is_crowded(key))
    }

    /// `system_fingerprint` of every answer: which code and which weights, in short.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let short = |digest: &Digest| digest.to_string().chars().take(8).collect::<String>();
        format!("{}-{}", short(&self.measurement_digest), short(&self.manifest.model.root))
    }

    /// Opens a model-key grant and hands its key to the boot that waits for it.
    ///
    /// # Errors
    /// [`Refused::NoGrantExpected`] outside the grant stage, [`Refused::Channel`] for a grant that
    /// does not open or names another model, [`Refused::Key`] for a key that is not the bundle's.
    /// A refused grant leaves the worker waiting for another.
    pub fn accept_grant(&self, body: &[u8]) -> Result<(), Refused> {
        self.grant.accept(|| {
            let grant = open_grant(
                &self.session.ring(),
                &self.manifest.model.root,
                &self.session.attested_keysets(),
                (self.clock)().seconds(),
                body,
            )
            .map_err(|e| Refused::Channel { code: e.code(), message: e.to_string() })?;
            Ok(grant.key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_never_counts_single_requests() {
        let counters = Counters::default();
        let mut shown = Vec::new();
        for _ in 0..17 {
            counters.answered.fetch_add(1, Ordering::Relaxed);
            shown.push(counters.coarse().0);
        }
        shown.dedup();
        assert_eq!(shown, [0, 8, 16]);
        assert_eq!(counters.coarse().1, 0);
    }
}
