//! What callers need of a chain, and what they are told. None of it is proven.

use chrysalis_receipt::Cell;
use chrysalis_wire::{Digest, UnixTime};

use crate::error::AccessError;

/// A chain, as somebody shows it. Accounts are in workchain 0, amounts are nanogram.
pub trait ChainAccess: Send + Sync {
    /// An account. One that was never heard of has no coins and no code.
    fn account(
        &self,
        account: Digest,
    ) -> impl Future<Output = Result<AccountState, AccessError>> + Send;

    /// The numbers that a get-method returns, given others: big endian in 32 bytes, not negative.
    ///
    /// [`AccessError::NoContract`] where there is none, [`AccessError::Threw`] if the method throws.
    fn get(
        &self,
        account: Digest,
        method: &str,
        arguments: &[Digest],
    ) -> impl Future<Output = Result<Vec<Digest>, AccessError>> + Send;

    /// Hands in an external message. Success means that it was taken to be spread, no more: it may
    /// be lost, so whoever needs it done looks again. [`AccessError::NotAccepted`] if the contract is
    /// said to refuse it. The same message may arrive more than once.
    fn send(&self, message: &Cell) -> impl Future<Output = Result<(), AccessError>> + Send;

    /// Transactions of an account after a logical time, newest first, at most `limit` and
    /// [`MAX_TRANSACTIONS`](crate::MAX_TRANSACTIONS).
    fn transactions(
        &self,
        account: Digest,
        after_lt: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<TransactionView>, AccessError>> + Send;
}

/// An account as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Nanogram.
    pub balance: u128,
    /// The contract; `None` where there are coins alone, or nothing.
    pub contract: Option<Deployed>,
    /// Logical time of the last transaction; zero for none.
    pub last_lt: u64,
    /// Hash of the last transaction.
    pub last_hash: Digest,
    /// The chain's time when this was true, as the server has it.
    pub at: UnixTime,
}

impl AccountState {
    /// The same, if it is at most `most` seconds old at `now`. An old state hides what happened
    /// since; a server that lies about the time is not found out by this.
    ///
    /// # Errors
    /// [`AccessError::Stale`].
    pub fn fresh(self, now: UnixTime, most: u64) -> Result<Self, AccessError> {
        let age = now.0.saturating_sub(self.at.0);
        if age > most { Err(AccessError::Stale { age, most }) } else { Ok(self) }
    }
}

/// A contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Its code.
    pub code: Cell,
    /// Its data.
    pub data: Cell,
}

/// A transaction as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionView {
    /// Logical time.
    pub lt: u64,
    /// Hash.
    pub hash: Digest,
    /// When it happened.
    pub at: UnixTime,
    /// All fees, nanogram.
    pub fee: u128,
    /// The message it began with.
    pub received: Option<Received>,
    /// Receivers in workchain 0 of the messages it sent, and their nanogram.
    pub sent: Vec<(Digest, u128)>,
}

/// What a transaction began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Account that sent it; `None` from outside of the chain, or from another workchain.
    pub from: Option<Digest>,
    /// Nanogram.
    pub value: u128,
}
