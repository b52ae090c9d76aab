//! A local chain that several callers share: blocks, a clock that runs, a history, a faucet, and a
//! state that survives the process. What a caller was told has happened is on disk before.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrysalis_wire::{Digest, NetworkId};
use tycho_types::boc::Boc;

use crate::account::AccountView;
use crate::chain::{DevChain, Transfer};
use crate::error::ChainError;
use crate::estimate::{Draft, Fees};
use crate::history::Entry;
use crate::stack::{Called, StackValue};
use crate::store::{Store, Stored};
use crate::transaction::Transaction;

/// A chain behind a lock.
pub struct Node {
    network: NetworkId,
    clock: Box<dyn Fn() -> u32 + Send + Sync>,
    store: Option<Store>,
    inner: Mutex<Inner>,
}

#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) chain: DevChain,
    pub(crate) history: VecDeque<Entry>,
    /// Number of the last block.
    pub(crate) seqno: u32,
    /// Unix time of the last block.
    pub(crate) block_at: u32,
    /// Seconds by which the chain is ahead of the clock, because somebody asked.
    pub(crate) ahead: u32,
}

/// The last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub seqno: u32,
    /// Unix time of the chain, seconds.
    pub now: u32,
}

/// Which transactions of an account to list, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Begin with the one of this logical time, instead of the newest.
    pub from_lt: Option<u64>,
    /// Leave out those of this logical time and before.
    pub after_lt: u64,
    /// Most to list.
    pub limit: usize,
}

impl Node {
    /// A chain of a network whose time is what `clock` says, in Unix seconds. With a directory, it
    /// goes on from the state there and keeps it there.
    ///
    /// # Errors
    /// [`ChainError::Snapshot`], [`ChainError::Store`], [`ChainError::InUse`],
    /// [`ChainError::Executor`].
    pub fn open(
        network: NetworkId,
        clock: impl Fn() -> u32 + Send + Sync + 'static,
        directory: Option<&Path>,
    ) -> Result<Self, ChainError> {
        let now = clock();
        let store = directory.map(Store::open).transpose()?;
        let stored = store.as_ref().map_or(Ok(None), Store::read)?;
        let inner = match stored {
            Some(stored) => stored.restore(network)?,
            None => Inner {
                chain: DevChain::new(network, now)?,
                history: VecDeque::new(),
                seqno: 1,
                block_at: now,
                ahead: 0,
            },
        };
        Ok(Self { network, clock: Box::new(clock), store, inner: Mutex::new(inner) })
    }

    /// The network whose rules the chain follows.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The last block. One passes with every message, and one every [`BLOCK_SECONDS`].
    #[must_use]
    pub fn head(&self) -> Head {
        let inner = self.current();
        Head { seqno: inner.seqno, now: inner.chain.now() }
    }

    /// What anybody may read of an account.
    ///
    /// # Errors
    /// Those of [`DevChain::account`].
    pub fn account(&self, account: Digest) -> Result<AccountView, ChainError> {
        self.current().chain.account(account)
    }

    /// What a get-method comes to.
    ///
    /// # Errors
    /// Those of [`DevChain::call`].
    pub fn call(
        &self,
        account: Digest,
        method: &str,
        arguments: &[StackValue],
    ) -> Result<Called, ChainError> {
        // The virtual machine runs on a copy, so that others need not wait for it.
        let chain = self.current().chain.clone();
        chain.call(account, method, arguments)
    }

    /// What a message would cost.
    ///
    /// # Errors
    /// Those of [`DevChain::estimate`].
    pub fn estimate(&self, draft: &Draft, signed: bool) -> Result<Fees, ChainError> {
        let chain = self.current().chain.clone();
        chain.estimate(draft, signed)
    }

    /// A configuration parameter.
    ///
    /// # Errors
    /// Those of [`DevChain::config_param`].
    pub fn config_param(&self, number: u32) -> Result<Option<Vec<u8>>, ChainError> {
        self.current().chain.config_param(number)
    }

    /// Takes an external message from anybody: its hash, and the transactions it caused.
    ///
    /// # Errors
    /// Those of [`DevChain::send_boc`], and [`ChainError::Store`].
    pub fn send(&self, boc: &[u8]) -> Result<(Digest, Vec<Transaction>), ChainError> {
        let message = Boc::decode(boc).map_err(|e| ChainError::malformed("bag of cells", e))?;
        let hash = Digest(message.repr_hash().0);
        self.change(|inner| inner.chain.send_boc(boc)).map(|done| (hash, done))
    }

    /// Gives new coins to an account, in a message from [`FAUCET`].
    ///
    /// # Errors
    /// [`ChainError::Faucet`] outside of 1 to [`MAX_FAUCET`]; those of [`DevChain::transfer`], and
    /// [`ChainError::Store`].
    pub fn faucet(&self, to: Digest, value: u128) -> Result<Vec<Transaction>, ChainError> {
        if !(1..=MAX_FAUCET).contains(&value) {
            return Err(ChainError::Faucet { most: MAX_FAUCET, asked: value });
        }
        self.change(|inner| {
            inner.chain.issue(FAUCET, value)?;
            inner.chain.transfer(&Transfer::new(FAUCET, to, value))
        })
    }

    /// Lets time pass at once.
    ///
    /// # Errors
    /// [`ChainError::Store`].
    pub fn advance(&self, seconds: u32) -> Result<Head, ChainError> {
        self.change(|inner| {
            inner.ahead = inner.ahead.saturating_add(seconds);
            inner.chain.advance(seconds);
            Ok(Vec::new())
        })?;
        Ok(self.head())
    }

    /// Transactions of an account, newest first. The last [`MAX_HISTORY`] of the chain are kept.
    #[must_use]
    pub fn transactions(&self, account: Digest, range: Range) -> Vec<Entry> {
        let inner = self.current();
        let wanted = inner.history.iter().rev().filter(|entry| {
            entry.account == account
                && entry.lt > range.after_lt
                && range.from_lt.is_none_or(|lt| entry.lt <= lt)
        });
        wanted.take(range.limit).cloned().collect()
    }

    /// The state, with the time and the blocks that passed since it was touched last.
    fn current(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere left the state as it was: it is replaced as a whole or not at all.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.clock)().saturating_add(inner.ahead);
        // A clock that was set back does not take the chain with it.
        let passed = now.saturating_sub(inner.chain.now());
        inner.chain.advance(passed);
        let blocks = now.saturating_sub(inner.block_at) / BLOCK_SECONDS;
        inner.seqno = inner.seqno.saturating_add(blocks);
        inner.block_at = inner.block_at.saturating_add(blocks.saturating_mul(BLOCK_SECONDS));
        inner
    }

    /// Changes the state, on disk first.
    fn change(
        &self,
        change: impl FnOnce(&mut Inner) -> Result<Vec<Transaction>, ChainError>,
    ) -> Result<Vec<Transaction>, ChainError> {
        let mut inner = self.current();
        let mut next = inner.clone();
        let done = change(&mut next)?;
        next.seqno = next.seqno.saturating_add(1);
        next.block_at = next.chain.now();
        next.history.extend(done.iter().map(Entry::of));
        let over = next.history.len().saturating_sub(MAX_HISTORY);
        next.history.drain(..over);
        if let Some(store) = &self.store {
            store.write(&Stored::of(self.network, &next))?;
        }
        *inner = next;
        Ok(done)
    }
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Node({})", self.network)
    }
}

/// The account that gives coins away.
pub const FAUCET: Digest = Digest([0xfa; 32]);
/// Most that the faucet gives at once: a million GRAM, in nanogram.
pub const MAX_FAUCET: u128 = 1_000_000 * 1_000_000_000;
/// Seconds between blocks in which nothing happens.
pub const BLOCK_SECONDS: u32 = 5;
/// Transactions of the chain that are kept; older ones are forgotten.
pub const MAX_HISTORY: usize = 2_000;
