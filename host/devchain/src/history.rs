//! One transaction of the history.

use chrysalis_wire::Digest;
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use tycho_types::models::Transaction as Recorded;

use crate::error::ChainError;
use crate::transaction::Transaction;

/// A transaction as it is kept: what it is found by, and itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Account id.
    pub account: Digest,
    /// Logical time.
    pub lt: u64,
    pub(crate) cell: Cell,
}

impl Entry {
    pub(crate) fn of(transaction: &Transaction) -> Self {
        let Transaction { account, lt, cell, .. } = transaction;
        Self { account: *account, lt: *lt, cell: cell.clone() }
    }

    /// Hash of the transaction.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest(self.cell.repr_hash().0)
    }

    /// Bag of cells of the whole transaction.
    #[must_use]
    pub fn boc(&self) -> Vec<u8> {
        Boc::encode(&self.cell)
    }

    pub(crate) fn from_boc(boc: &[u8]) -> Result<Self, ChainError> {
        let damaged = || ChainError::Snapshot { detail: "a transaction is not one".to_owned() };
        let cell = Boc::decode(boc).map_err(|_| damaged())?;
        let recorded = cell.parse::<Recorded>().map_err(|_| damaged())?;
        Ok(Self { account: Digest(recorded.account.0), lt: recorded.lt, cell })
    }
}
