//! Launches, supervises and relays for one worker. Untrusted by design: it runs on the attacker's
//! side of the boundary, holds no key and parses no request. All it can do is not run the worker.
//!
//! ```text
//! chrysalis up ──spawns──> supervisor ──spawns──> worker (empty environment, own process group)
//!      <── report lines ──     │  <── console lines ──┘
//!                              └── relays public TCP address <──> worker loopback port
//! ```
//!
//! The worker is believed in exactly one way: its console lines are parsed as
//! [`chrysalis_wire::ConsoleEvent`]; everything else it prints is counted and dropped, never
//! shown. Whether it is the right worker is for the client to appraise.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod backend;
pub mod backoff;
pub mod console;
pub mod control;
mod earnings;
mod error;
pub mod gramine;
pub mod launch;
pub mod log;
mod orphan;
mod paid;
mod record;
pub mod relay;
pub mod report;
mod session;
pub mod state;
pub mod supervisor;
pub mod up;
pub mod vm;

pub use backend::{Backend, Guest, ProcessBackend};
pub use control::{Down, Status, down, status};
pub use earnings::EARNINGS_FILE;
pub use error::LoaderError;
pub use launch::{Launch, default_state_dir};
pub use log::LogReader;
pub use record::Clock;
pub use report::{FundingWanted, Reporter, SupervisorEvent};
pub use session::Prelude;
pub use state::{Phase, RunState, StateDir};
pub use supervisor::{Timing, stop_signal, supervise};
pub use up::{SupervisorCommand, Up, up};
