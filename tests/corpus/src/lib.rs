//! The conformance corpus of `tests/vectors`: cases that a verifier must accept, and cases that it
//! must refuse with the code of the rule they break. Everything is signed under the FAKE keys of the
//! simulator, so it is trusted by nobody; nothing recorded on real machines is in here.
//!
//! The corpus is code. [`corpus`] makes every case in memory, the program of this crate writes them,
//! and a test compares what is written with what is made. A case is never edited by hand.

#![forbid(unsafe_code)]
// A generator of constants for tests: what cannot be made must stop it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod case;
mod certificate;
mod edit;
mod files;
mod stages;
mod world;

pub use case::{Case, Expected, Stage};
pub use edit::{Edit, diff};
pub use files::{CaseFile, render};

/// Every case, stage by stage, in the order of their numbers.
#[must_use]
pub fn corpus() -> Vec<Stage> {
    vec![
        stages::quote::stage(),
        stages::collateral::stage(),
        stages::document::stage(),
        stages::pins::stage(),
        stages::event_log::stage(),
        stages::gpu::stage(),
        stages::ratls::stage(),
        stages::attest::stage(),
    ]
}
