//! Challenges that wait for a quote. Whoever asks brings a nonce and nothing else: what is signed is
//! hashed here, from it, from what its own connection is and from this boot's keys.
//!
//! Platforms make one quote at a time, and the stock TDX driver takes a second for each. So one is
//! made for whoever came first; those who come meanwhile wait, and share the next
//! ([`chrysalis_evidence::Batch`]). Nobody waits longer than for two quotes, and nobody delays
//! another by arriving.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrysalis_evidence::exchange::Statement;
use chrysalis_evidence::{Batch, CutQuote, InclusionPath, keyset_digest};
use chrysalis_wire::AttestationDocument;
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::http::Refused;
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
    loop {
        let batch = worker.quotes.next_batch(worker.bounds.batch);
        if batch.is_empty() {
            return;
        }
        match answer(&worker, batch.iter().map(|waiting| &waiting.statement)).await {
            Ok((made, paths)) => {
                for (waiting, path) in batch.into_iter().zip(paths) {
                    let batch = path.to_document();
                    // Whoever left meanwhile needs none.
                    drop(waiting.answer.send(Ok(AttestationDocument { batch, ..made.clone() })));
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

/// One quote for all `statements`: the document without its place, and the places.
async fn answer(
    worker: &Worker,
    statements: impl Iterator<Item = &Statement>,
) -> Result<(AttestationDocument, Vec<InclusionPath>), Refused> {
    let stopped = Refused::Quote { code: "E-QUOTE-STOPPED" };
    let now = (worker.clock)().seconds();
    worker.session.maintain(now).map_err(|e| Refused::Quote { code: e.code() })?;
    let keyset = worker.session.keyset(now);
    let keyset_bytes = keyset.encode();
    let digest = keyset_digest(&keyset_bytes);
    let beside = beside_keys(&worker.measurement, &worker.events).map_err(|_| stopped.clone())?;
    let leaves: Vec<_> = statements.map(|one| one.leaf(digest, beside)).collect();
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
    Ok((document, batch.paths().collect()))
}
