//! The watcher on a local chain, in the cases it is for: enough is owed, it is owed for long, the payer
//! closes at a low state, a server lies, a message is lost, the watcher was restarted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod chain;
mod ledger;
mod lies;
mod settling;
mod vouching;
mod world;
