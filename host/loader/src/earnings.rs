//! Keeps what the worker earned. A claim comes from the worker's console and is verified before it is
//! written: the ledger can be settled by, whatever the console said.

use std::path::PathBuf;

use chrysalis_ledger::{Entry, Ledger, LedgerError, Side};
use chrysalis_receipt::{Claim, ReceiptError};
use chrysalis_wire::UnixTime;

/// The payee's ledger in a state directory; made with the first claim.
#[derive(Default)]
pub(crate) struct Earnings {
    path: PathBuf,
    ledger: Option<Ledger>,
}

impl Earnings {
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path, ledger: None }
    }

    /// Records the claim of one console event. Returns once it is on the disk.
    ///
    /// # Errors
    /// [`LedgerError`], also for digits that are no claim.
    pub(crate) fn record(&mut self, digits: &str, now: UnixTime) -> Result<(), LedgerError> {
        let bytes = hex::decode(digits).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
        let claim = Claim::decode(&bytes)?;
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open(&self.path, Side::Payee)?,
        };
        let recorded = ledger.record(&Entry::Claim(&claim), now);
        self.ledger = Some(ledger);
        recorded.map(drop)
    }
}

/// Name of the ledger in a state directory.
pub const EARNINGS_FILE: &str = "earnings.redb";
