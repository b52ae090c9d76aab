//! A chain of one process: accounts, a clock, messages and fees around a real TVM. It runs our
//! contracts in tests and demos and trusts whoever calls it. A [`DevChain`] is the chain alone, time
//! and all moved by hand; a [`Node`] is one that several callers share, with a clock that runs and a
//! state that may be kept; [`serve`] puts that on a port.
//!
//! **This is no consensus network and nothing on it has value.** Coins are issued on request, time
//! moves when told to, and accounts without code are wallets whose owner is believed. What is real is
//! what contracts are judged by: every message runs in `tycho-executor`, a transaction executor
//! whose gas, fees and exit codes are those of TON's own, at the prices of [`config`].
//!
//! Amounts are nanogram. Coins are conserved to the last of them: [`DevChain::issued`] always equals
//! balances plus [`DevChain::fees`].

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod account;
mod accounts;
mod chain;
pub mod config;
mod error;
mod estimate;
mod getter;
mod history;
mod http;
mod node;
mod snapshot;
mod stack;
mod store;
mod transaction;

pub use account::{AccountView, Status};
pub use chain::{DevChain, MAX_TRANSACTIONS, Transfer};
pub use error::ChainError;
pub use estimate::{Draft, Fees};
pub use history::Entry;
pub use http::{
    BODY_TIMEOUT, Exposure, HEAD_TIMEOUT, MAX_BODY_BYTES, MAX_CONNECTIONS, NOTICE, NOTICE_HEADER,
    bind, serve,
};
pub use node::{BLOCK_SECONDS, FAUCET, Head, MAX_FAUCET, MAX_HISTORY, Node, Range};
pub use stack::{Called, MAX_RESULT_DEPTH, MAX_RESULT_VALUES, StackValue};
pub use store::MAX_STATE_BYTES;
pub use transaction::{Sent, Transaction};
