//! The chain itself: takes messages, runs them until none is left, counts every coin.

use std::collections::VecDeque;

use chrysalis_wire::{Digest, NetworkId};
use tycho_executor::{Executor, ExecutorInspector, ExecutorParams, ParsedConfig, TxError};
use tycho_types::boc::{Boc, BocRepr};
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::models::{CurrencyCollection, IntMsgInfo, MsgInfo, OwnedMessage, StateInit};
use tycho_types::prelude::Load as _;

use crate::accounts::{Accounts, address, tokens};
use crate::config::blockchain_config;
use crate::error::ChainError;
use crate::getter;
use crate::stack::{Called, StackValue};
use crate::transaction::Transaction;

/// A message from a wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Account id of the wallet.
    pub from: Digest,
    /// Account id of the receiver.
    pub to: Digest,
    /// Nanogram.
    pub value: u128,
    /// Whether a refused message comes back, less its fees.
    pub bounce: bool,
    /// Bag of cells of the `StateInit` of a contract to deploy.
    pub init: Option<Vec<u8>>,
    /// Bag of cells of the body.
    pub body: Option<Vec<u8>>,
}

impl Transfer {
    /// Coins alone: no body, no contract to deploy, and they stay where they arrive.
    #[must_use]
    pub const fn new(from: Digest, to: Digest, value: u128) -> Self {
        Self { from, to, value, bounce: false, init: None, body: None }
    }
}

/// A local chain. A clone is a fork: both go on from the same state.
#[derive(Clone)]
pub struct DevChain {
    pub(crate) config: std::sync::Arc<ParsedConfig>,
    pub(crate) accounts: Accounts,
    pub(crate) now: u32,
    pub(crate) lt: u64,
    pub(crate) issued: u128,
    pub(crate) fees: u128,
    pub(crate) signatures: Signatures,
}

/// What the virtual machine makes of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signatures {
    /// It verifies them.
    Verified,
    /// It takes any: for estimates of what a message will cost once it is signed.
    Believed,
}

impl DevChain {
    /// An empty chain of a network, at a Unix time in seconds.
    ///
    /// # Errors
    /// [`ChainError::Executor`] if the executor does not take the configuration.
    pub fn new(network: NetworkId, now: u32) -> Result<Self, ChainError> {
        let config = blockchain_config(network).map_err(ChainError::executor)?;
        let config = ParsedConfig::parse(config, now).map_err(ChainError::executor)?;
        let accounts = Accounts::default();
        let signatures = Signatures::Verified;
        let (lt, issued, fees) = (LT_STEP, 0, 0);
        Ok(Self { config: config.into(), accounts, now, lt, issued, fees, signatures })
    }

    /// Unix time, seconds.
    #[must_use]
    pub const fn now(&self) -> u32 {
        self.now
    }

    /// Lets time pass.
    pub const fn advance(&mut self, seconds: u32) {
        self.now = self.now.saturating_add(seconds);
    }

    /// Gives new coins to an account.
    ///
    /// # Errors
    /// [`ChainError::Overflow`] past what the chain can count.
    pub fn issue(&mut self, to: Digest, value: u128) -> Result<(), ChainError> {
        let issued = self.issued.checked_add(value).ok_or(ChainError::Overflow)?;
        self.accounts.credit(to, value, self.now)?;
        self.issued = issued;
        Ok(())
    }

    /// All coins ever issued, nanogram.
    #[must_use]
    pub const fn issued(&self) -> u128 {
        self.issued
    }

    /// All fees ever paid, nanogram.
    #[must_use]
    pub const fn fees(&self) -> u128 {
        self.fees
    }

    /// The coins of all accounts together, nanogram.
    ///
    /// # Errors
    /// [`ChainError::Executor`] for an account that cannot be read.
    pub fn balances(&self) -> Result<u128, ChainError> {
        self.accounts.total()
    }

    /// The coins of an account, nanogram; zero if it does not exist.
    ///
    /// # Errors
    /// [`ChainError::Executor`] for an account that cannot be read.
    pub fn balance(&self, account: Digest) -> Result<u128, ChainError> {
        self.accounts.balance(account)
    }

    /// The numbers that a get-method of a contract returns, given others: each big endian in 32
    /// bytes and not negative.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] where none is, [`ChainError::NotAccepted`] if the method throws,
    /// [`ChainError::Malformed`] if it returns something else than such numbers.
    pub fn get(
        &self,
        account: Digest,
        method: &str,
        arguments: &[Digest],
    ) -> Result<Vec<Digest>, ChainError> {
        let state = self.accounts.get(account)?.ok_or(ChainError::NoContract { account })?;
        getter::run(&self.config, &state, self.now, method, arguments)
    }

    /// What a get-method of a contract comes to, given any values.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] where none is, [`ChainError::Malformed`] for arguments or results
    /// that are not read. A method that throws is no error: see [`Called::exit_code`].
    pub fn call(
        &self,
        account: Digest,
        method: &str,
        arguments: &[StackValue],
    ) -> Result<Called, ChainError> {
        let state = self.accounts.get(account)?.ok_or(ChainError::NoContract { account })?;
        getter::call(&self.config, &state, self.now, method, arguments)
    }

    /// Sends from a wallet, and runs every message that follows.
    ///
    /// # Errors
    /// [`ChainError::NotAWallet`], [`ChainError::Balance`], [`ChainError::Malformed`]; and
    /// [`ChainError::NotQuiescent`]. A contract that refuses is no error: see
    /// [`Transaction::exit_code`].
    pub fn transfer(&mut self, transfer: &Transfer) -> Result<Vec<Transaction>, ChainError> {
        let message = self.message(transfer)?;
        let mut next = self.clone();
        next.accounts.debit(transfer.from, transfer.value)?;
        let done = next.run(message)?;
        *self = next;
        Ok(done)
    }

    /// Takes an external message from anybody, as a bag of cells, and runs every message that
    /// follows.
    ///
    /// # Errors
    /// [`ChainError::NotAccepted`] with the exit code if the contract does not accept to pay for it;
    /// [`ChainError::NoContract`], [`ChainError::Malformed`], [`ChainError::NotQuiescent`].
    pub fn send_boc(&mut self, boc: &[u8]) -> Result<Vec<Transaction>, ChainError> {
        let message = Boc::decode(boc).map_err(|e| ChainError::malformed("bag of cells", e))?;
        let info = MsgInfo::load_from(&mut message.as_slice_allow_exotic());
        match info.map_err(|e| ChainError::malformed("message", e))? {
            MsgInfo::ExtIn(_) => {}
            _ => return Err(ChainError::malformed("external message", "not an external one")),
        }
        let mut next = self.clone();
        let done = next.run(message)?;
        *self = next;
        Ok(done)
    }

    fn message(&self, transfer: &Transfer) -> Result<Cell, ChainError> {
        let decode =
            |what, boc: &Vec<u8>| Boc::decode(boc).map_err(|e| ChainError::malformed(what, e));
        let init = match &transfer.init {
            Some(boc) => Some(
                BocRepr::decode::<StateInit, _>(boc)
                    .map_err(|e| ChainError::malformed("state of a contract", e))?,
            ),
            None => None,
        };
        let body = match &transfer.body {
            Some(boc) => decode("body", boc)?,
            None => Cell::default(),
        };
        CellBuilder::build_from(OwnedMessage {
            info: MsgInfo::Int(IntMsgInfo {
                ihr_disabled: true,
                bounce: transfer.bounce,
                bounced: false,
                src: address(transfer.from).into(),
                dst: address(transfer.to).into(),
                value: CurrencyCollection::from(tokens(transfer.value)?),
                created_lt: self.lt,
                created_at: self.now,
                ..IntMsgInfo::default()
            }),
            init,
            body: body.into(),
            layout: None,
        })
        .map_err(ChainError::executor)
    }

    /// Runs a message and all that follow from it.
    fn run(&mut self, first: Cell) -> Result<Vec<Transaction>, ChainError> {
        let mut queue = VecDeque::from([first]);
        let mut done = Vec::new();
        while let Some(message) = queue.pop_front() {
            if done.len() >= MAX_TRANSACTIONS {
                return Err(ChainError::NotQuiescent);
            }
            let transaction = self.execute(message, &mut queue)?;
            done.push(transaction);
        }
        Ok(done)
    }

    fn execute(
        &mut self,
        message: Cell,
        queue: &mut VecDeque<Cell>,
    ) -> Result<Transaction, ChainError> {
        let info = MsgInfo::load_from(&mut message.as_slice_allow_exotic())
            .map_err(|e| ChainError::malformed("message", e))?;
        let (to, received, fwd_fee, external) = match &info {
            MsgInfo::Int(int) => {
                (&int.dst, int.value.tokens.into_inner(), int.fwd_fee.into_inner(), false)
            }
            MsgInfo::ExtIn(ext) => (&ext.dst, 0, 0, true),
            MsgInfo::ExtOut(_) => return Err(ChainError::malformed("message", "leaves the chain")),
        };
        let to =
            to.as_std().ok_or_else(|| ChainError::malformed("address", "not a standard one"))?;
        let id = Digest(to.address.0);

        let mut params = ExecutorParams {
            block_unixtime: self.now,
            block_lt: self.lt,
            strict_extra_currency: true,
            ..ExecutorParams::default()
        };
        params.vm_modifiers.chksig_always_succeed = self.signatures == Signatures::Believed;
        let state = self.accounts.shard(id)?;
        let mut inspector = ExecutorInspector::default();
        let executor = Executor::new(&params, &self.config).with_min_lt(self.lt);
        let output = executor
            .begin_ordinary_ext(to, external, message, &state, Some(&mut inspector))
            .map_err(|error| match (error, inspector.exit_code) {
                (TxError::Skipped, Some(exit_code)) => ChainError::NotAccepted { exit_code },
                (TxError::Skipped, None) => ChainError::NoContract { account: id },
                (TxError::Fatal(error), _) => ChainError::executor(error),
            })?
            .commit()
            .map_err(ChainError::executor)?;

        let transaction = output.transaction.load().map_err(ChainError::executor)?;
        let mut infos = Vec::new();
        for message in &output.transaction_meta.out_msgs {
            let cell = message.inner().clone();
            let info = MsgInfo::load_from(&mut cell.as_slice_allow_exotic())
                .map_err(ChainError::executor)?;
            if matches!(info, MsgInfo::Int(_)) {
                queue.push_back(cell);
            }
            infos.push(info);
        }
        let total_fees = output.transaction_meta.total_fees.into_inner();
        let cell = output.transaction.inner().clone();
        let transaction = Transaction::of(&transaction, cell, total_fees, received, &infos)?;

        // Whoever delivers a message earns what its sender left in it.
        let earned = total_fees.saturating_add(fwd_fee);
        self.fees = self.fees.checked_add(earned).ok_or(ChainError::Overflow)?;
        self.accounts.put(id, output.new_state);
        self.lt = output.transaction_meta.next_lt.max(self.lt).saturating_add(LT_STEP);
        Ok(transaction)
    }
}

impl core::fmt::Debug for DevChain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DevChain(time {}, {} nanogram issued)", self.now, self.issued)
    }
}

/// Most transactions that one message may cause.
pub const MAX_TRANSACTIONS: usize = 256;

/// Logical time between two transactions, as between two blocks.
const LT_STEP: u64 = 1_000_000;
