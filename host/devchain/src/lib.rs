//! A chain of one process: accounts, a clock, messages and fees around a real TVM. It runs our
//! contracts in tests and demos and trusts whoever calls it.
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

mod accounts;
mod chain;
pub mod config;
mod error;
mod getter;
mod transaction;

pub use chain::{DevChain, MAX_TRANSACTIONS, Transfer};
pub use error::ChainError;
pub use transaction::{Sent, Transaction};
