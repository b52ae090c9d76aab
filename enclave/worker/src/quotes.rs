//! Challenges that wait for a quote. Whoever asks brings a nonce and nothing else: what is signed is
//! hashed here, from it, from what its own connection is and from this boot's keys.
//!
//! Platforms make one quote at a time, and the stock TDX driver takes a second for each. So one is
//! made for whoever came first; those who come meanwhile wait, and share the next
//! ([`chrysalis_evidence::Batch`]). Nobody waits longer than for two quotes, and nobody delays
//! another by arriving.
//!
//! Devices answer one challenge each time, so where there are some a quote is shared by four, and whoever
//! comes fifth waits for one more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrysalis_evidence::exchange::Statement;
use chrysalis_evidence::nvidia::DeviceEvidence;
use chrysalis_evidence::{Batch, CutQuote, InclusionPath, keyset_digest};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{AttestationDocument, DeviceDocument};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::devices;
use crate::http::Refused;
use crate::limits::MAX_BATCHED_WITH_DEVICES;
use crate::measure::beside_keys;
use crate::worker::Worker;

/// Where challenges wait.
#[derive(Default)]
pub struct QuoteDesk(Mutex<Desk>);

#[derive(Default)]
struct Desk {
    waiting: VecDeque<Waiting>,
    /// Whether a task is at work that looks here again before it ends. It cannot end otherwise: a
    /// panic aborts the worker.
    attended: bool,
}

struct Waiting {
    statement: Statement,
    answer: oneshot::Sender<Result<AttestationDocument, Refused>>,
}

impl QuoteDesk {
    /// How many challenges wait for the quote after the one that is being made.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.desk().waiting.len()
    }

    /// Adds a challenge; true if nobody attends to the desk, which is then the caller's to do.
    fn enter(&self, waiting: Waiting, limit: usize) -> Result<bool, Refused> {
        let mut desk = self.desk();
        // Who stopped waiting takes no room.
        desk.waiting.retain(|waiting| !waiting.answer.is_closed());
        if desk.waiting.len() >= limit {
            return Err(Refused::Busy);
        }
        desk.waiting.push_back(waiting);
        Ok(!core::mem::replace(&mut desk.attended, true))
    }

    /// The challenges of the next quote, oldest first; with none left the desk is unattended.
    fn next_batch(&self, limit: usize) -> Vec<Waiting> {
        let mut desk = self.desk();
        desk.waiting.retain(|waiting| !waiting.answer.is_closed());
        let count = desk.waiting.len().min(limit);
        desk.attended = count > 0;
        desk.waiting.drain(..count).collect()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Every change is made in one step; a panic elsewhere cannot leave half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The document that makes `statement`, made with whoever else is waiting.
///
/// # Errors
/// [`Refused::Quote`] if the platform makes no quote or not in time, [`Refused::Busy`] if as many
/// challenges wait as may.
pub async fn document(
    worker: &Arc<Worker>,
    statement: Statement,
) -> Result<AttestationDocument, Refused> {
    let (answer, answered) = oneshot::channel();
    let waiting = Waiting { statement, answer };
    if worker.quotes.enter(waiting, worker.bounds.challenges)? {
        // A task of its own: a peer that goes away must not take the others' quote with it.
        tokio::spawn(attend(Arc::clone(worker)));
    }
    match timeout(worker.bounds.challenge, answered).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Refused::Quote { code: "E-QUOTE-STOPPED" }),
        Err(_) => Err(Refused::Quote { code: "E-QUOTE-TIMEOUT" }),
    }
}

/// Makes quotes until nobody waits for one.
async fn attend(worker: Arc<Worker>) {
    let limit = match worker.devices {
        Some(_) => worker.bounds.batch.min(MAX_BATCHED_WITH_DEVICES),
        None => worker.bounds.batch,
    };
    loop {
        let batch = worker.quotes.next_batch(limit);
        if batch.is_empty() {
            return;
        }
        match answer(&worker, batch.iter().map(|waiting| &waiting.statement)).await {
            Ok((made, own)) => {
                for (waiting, Own { path, devices }) in batch.into_iter().zip(own) {
                    let batch = path.to_document();
                    let document = AttestationDocument { batch, devices, ..made.clone() };
                    // Whoever left meanwhile needs none.
                    drop(waiting.answer.send(Ok(document)));
                }
            }
            Err(refused) => {
                for waiting in batch {
                    drop(waiting.answer.send(Err(refused.clone())));
                }
            }
        }
    }
}

/// What each challenge of a batch has for itself.
struct Own {
    path: InclusionPath,
    /// What the devices answer to this challenge's nonce.
    devices: Vec<DeviceDocument>,
}

/// One quote for all `statements`: the document without what is each one's own, and that.
async fn answer(
    worker: &Worker,
    statements: impl Iterator<Item = &Statement>,
) -> Result<(AttestationDocument, Vec<Own>), Refused> {
    let stopped = Refused::Quote { code: "E-QUOTE-STOPPED" };
    let now = (worker.clock)().seconds();
    worker.maintain(now).map_err(|e| Refused::Quote { code: e.code() })?;
    let keyset = worker.session.keyset(now);
    let keyset_bytes = keyset.encode();
    let digest = keyset_digest(&keyset_bytes);
    let mut leaves = Vec::new();
    let mut devices = Vec::new();
    for statement in statements {
        let set = device_set(worker, statement.gpu_nonce()).await?;
        let beside = beside_keys(&worker.measurement, &worker.events, &set);
        leaves.push(statement.leaf(digest, beside.map_err(|_| stopped.clone())?));
        devices.push(devices::documents(&set));
    }
    let batch = Batch::new(&leaves).map_err(|_| stopped.clone())?;
    let report_data = batch.report_data();
    let platform = Arc::clone(&worker.platform);
    let quote = spawn_blocking(move || platform.quote(&report_data.0))
        .await
        .map_err(|_| stopped)?
        .map_err(|error| Refused::Quote { code: error.code() })?;
    let cut = CutQuote::parse(&quote).map_err(|error| Refused::Quote { code: error.code() })?;
    worker.session.remember_evidence(cut.digest());
    let document = AttestationDocument {
        schema: ATTESTATION_SCHEMA.to_owned(),
        platform: worker.platform.name().to_owned(),
        quote: hex::encode(quote),
        keyset: hex::encode(keyset_bytes),
        manifest: hex::encode(&worker.manifest_bytes),
        events: worker.events.clone(),
        devices: Vec::new(),
        batch: None,
    };
    let own = batch.paths().zip(devices).map(|(path, devices)| Own { path, devices });
    Ok((document, own.collect()))
}

/// What the worker's devices answer to `nonce`; nothing if it has none.
async fn device_set(worker: &Worker, nonce: [u8; 32]) -> Result<Vec<DeviceEvidence>, Refused> {
    let Some(source) = worker.devices.clone() else { return Ok(Vec::new()) };
    spawn_blocking(move || devices::evidence(source.as_ref(), &nonce))
        .await
        .map_err(|_| Refused::Quote { code: "E-QUOTE-STOPPED" })?
}
