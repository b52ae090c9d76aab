//! `chrysalis`: one binary for GPU owners, auditors and app developers. It runs on the user's
//! machine and is trusted by its user; files, workers and networks are not.
//!
//! Subcommands are thin: they read arguments, call a library and hand its answer to [`report`].
//! Exit codes are decided in [`exit`] alone. The system's clock and random numbers enter here
//! and nowhere else.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod args;
mod boot;
mod commands;
mod context;
mod exit;
mod explain;
mod files;
mod memory;
mod progress;
mod qr;
mod report;
mod signals;
mod transcript;
mod verifier;
mod waiting;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use chrysalis_wire::UnixMillis;
use clap::Parser;

use crate::args::Cli;
use crate::context::Context;
use crate::report::Report;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error),
    };
    let report = Report::new(cli.format);
    let context = Context { report, clock: now, random: fill };
    match commands::run(cli.command, &context) {
        Ok(code) => code,
        Err(failure) => {
            context.report.failure(&failure);
            failure.class.into()
        }
    }
}

/// The system's clock, read here and nowhere else. A clock before 1970 reads as 1970, which every
/// validity window refuses.
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The system's random numbers.
fn fill(bytes: &mut [u8]) -> bool {
    getrandom::fill(bytes).is_ok()
}
