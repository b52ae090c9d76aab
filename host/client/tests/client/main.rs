//! The client against a scripted worker that lies in one way at a time. The worker is in this
//! process, its TLS, quotes, sealed frames and receipts are real.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answers;
mod assembled;
mod attestation;
mod bench;
mod fake;
mod gateway;
mod grants;
mod handover;
mod history;
mod keep;
mod local;
mod paying;
mod reattest;
mod receipts;
mod renewal;
