//! Fetches collateral: Intel's signed facts about a platform family, from Intel's provisioning
//! certification service (PCS v4) or a cache that speaks like it (PCCS v4). The service, the network
//! and every byte of an answer are untrusted. A bundle leaves here only if everything in it is
//! signed under the root the caller names and is valid at the time the caller says it is; who
//! answers can then hold back a newer one, and nothing else, and [`replace`] refuses that where an
//! older bundle proves it.
//!
//! This is a tool of verifiers. A worker is never asked for collateral: whoever picks it picks the
//! verdict (`enclave/evidence/POLICY.md`, rules 6 and 7).
//!
//! * [`Service`] is a base URL; [`Wanted`] says for which platform family.
//! * [`Source::fetch`] asks four endpoints, each with limits on time and size and a few retries.
//! * [`Bundle::assemble`] is the pure part: four answers, a root and a time in, a bundle out.
//! * [`replace`] decides whether a fetched bundle may take the place of the one there is.
//!
//! TLS keeps the network from seeing which platforms are asked about and from denying answers. It
//! authenticates nothing here, so plain HTTP to a cache costs no security of a verdict.

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

mod answer;
mod authentic;
mod bundle;
mod error;
mod fetch;
mod http;
pub mod limits;
mod part;
mod replace;
mod service;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use bundle::{Bundle, Facts};
pub use error::{FetchError, Problem, UrlError};
pub use fetch::{Patience, Source};
pub use http::TlsRoots;
pub use part::{Part, Tee, Update, Wanted};
pub use replace::{Outdated, replace};
pub use service::{PlainHttp, Service};
