//! The worker: the only program that holds model weights, prompts and keys.
//!
//! This crate is wiring. What it wires is in the crates it depends on, and
//! `cargo tree -p chrysalis-worker -e normal` is the whole list of what must be trusted. The
//! library exists so that the simulator's binary (`chrysalis-worker-sim`) runs exactly this code
//! on another [`Platform`](chrysalis_tee::Platform).
//!
//! Nothing here logs. The console is a closed set of events ([`console`]); errors outside the
//! sealed channel are a closed set of codes ([`http::Refused`]); everything said about a request
//! that opened is said inside the channel.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

pub mod answer;
pub mod appraise;
pub mod args;
pub mod attestation;
pub mod body;
pub mod boot;
pub mod console;
pub mod convert;
pub mod devices;
mod embeddings;
pub mod error;
pub mod gate;
pub mod grant;
pub mod hardening;
pub mod http;
pub mod inference;
pub mod intake;
pub mod limits;
pub mod lost;
pub mod measure;
pub mod payment;
pub mod peer;
pub mod quotes;
pub mod receipts;
pub mod refusals;
pub mod server;
pub mod session;
pub mod stages;
pub mod stall;
pub mod start;
pub mod tls;
pub mod worker;
pub mod writer;

pub use args::{Args, MeasuredBy};
pub use boot::SimRoots;
pub use error::WorkerError;
pub use start::{PlatformChoice, start};
