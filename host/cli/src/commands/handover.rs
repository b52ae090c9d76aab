//! Gives each life of a supervised worker what its owner's ledger says is owed, so that it does not
//! begin to count at zero. Claims prove themselves; a worker that is not paid has no place for them.

use std::time::Duration;

use chrysalis_client::{ClientError, hand_in_claims};
use chrysalis_ledger::{Ledger, LedgerError, Side};
use chrysalis_loader::{Phase, StateDir};
use chrysalis_receipt::Claim;
use tokio::task::JoinHandle;

/// Watches the state directory until it is dropped.
pub(crate) fn watch(state: StateDir) -> Watching {
    Watching(tokio::spawn(hand_over_each_life(state)))
}

/// Ends its task when dropped.
pub(crate) struct Watching(JoinHandle<()>);

impl Watching {
    pub(crate) const fn of(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn hand_over_each_life(state: StateDir) {
    // A life is a process and how often there was one before: process ids come again.
    let mut served = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Ok(Some(run)) = state.read_run() else { continue };
        let life = (run.worker.as_ref().map(|worker| worker.pid), run.restarts);
        let (Phase::Ready | Phase::WaitingForGrant, true) = (run.phase, served != Some(life))
        else {
            continue;
        };
        let Some(address) = run.worker_address else { continue };
        // An unreadable ledger is tried again: a worker told nothing begins at zero.
        let Ok(claims) = claims(&state) else { continue };
        match hand_in_claims(&address, &claims).await {
            // Without a `[payment]` there is no such route, and there will be none in this life.
            Ok(()) | Err(ClientError::WorkerRefused { status: 404, .. }) => served = Some(life),
            // Not there yet, or busy: again.
            Err(_) => {}
        }
    }
}

/// What is owed by every channel of the ledger; nothing while there is none.
fn claims(state: &StateDir) -> Result<Vec<Claim>, LedgerError> {
    let path = state.earnings();
    if !path.exists() {
        return Ok(Vec::new());
    }
    // For writing, because that repairs what a killed supervisor left.
    let channels = Ledger::open(&path, Side::Payee)?.view().channels()?;
    Ok(channels.into_iter().filter_map(|channel| channel.claim).collect())
}

/// How soon after its start a worker is told.
const INTERVAL: Duration = Duration::from_millis(500);
