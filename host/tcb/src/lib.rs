//! Counts what a verifier has to trust: the crates a program in the enclave links, our own lines,
//! every `unsafe`, the places that listen, and the files and kernel modules of a verified image. It
//! trusts the source tree and the cargo it runs.
//!
//! What links is what `cargo tree -p PROGRAM -e normal` says, the command users are told to run, and
//! not the resolve graph of `cargo metadata`, which also names optional dependencies that nothing
//! turns on. Counts of dependencies are upper bounds: code for other platforms is counted too.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod budget;
mod cargo;
mod error;
mod image;
mod report;
mod source;

pub use budget::{Budget, Count, MAX_BUDGET_BYTES, Outcome, Verdict};
pub use cargo::{Cargo, Linked, Role};
pub use error::TcbError;
pub use image::{GuestFile, GuestFiles};
pub use report::{CrateReport, Depth, PROGRAMS, ProgramReport, TcbReport};
pub use source::{Listen, SourceCount, UnsafeCount, count_rust};
