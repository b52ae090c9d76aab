//! Appraises a worker: quote, collateral, pins and the verifier's own session go in, a verdict with
//! every rule comes out. Everything a worker sends is attacker-controlled until [`Appraiser`] has
//! accepted it.
//!
//! The crate has no socket, file, clock or randomness: collateral, time and the session are
//! arguments. Quotes are verified by `dcap-qvl` with an aws-lc-rs backend of ours; the only thing
//! the simulator changes is the root key that the pins name, never the path taken.
//!
//! * [`Binding`] makes the `report_data` a worker asks its quote for and a verifier recomputes;
//!   [`Batch`] lets one quote answer many challenges.
//! * [`replay_rtmr`] and [`boot_events`] define the runtime register (RTMR3).
//! * [`enclave_events_digest`] is what an SGX enclave, which has no such register, commits to.
//! * [`exchange`] is attest/1 itself: messages, both directions, time.
//! * [`Pins`] is the policy file, [`Collateral`] the bundle of Intel-signed platform data.
//! * [`Appraiser::appraise`] gives a [`Verdict`]; a [`VerifiedWorker`] exists only inside one.
//!
//! The rules, in order, with their reasons and refusal codes:
#![doc = ""]
#![doc = include_str!("../POLICY.md")]
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

mod appraiser;
mod backend;
mod batch;
mod binding;
mod chain;
mod collateral;
mod dcap;
mod deny;
mod document;
mod enclave;
mod events;
mod examine;
pub mod exchange;
mod hexadecimal;
mod measurement;
pub mod nvidia;
mod pins;
mod quote;
mod quote_verdict;
mod roots;
mod rules;
pub mod sim;
mod text;
mod time;
mod transcript;
mod verdict;

#[cfg(test)]
mod tests;

pub use appraiser::Appraiser;
pub use batch::{Batch, BatchError, InclusionPath};
pub use binding::{
    Binding, EXPORTER_LABEL, EXPORTER_LABEL_CLIENT, Leaf, ReportData, Role, Session, gpu_nonce,
    keyset_digest,
};
pub use collateral::{COLLATERAL_SCHEMA, Collateral, CollateralError, MAX_COLLATERAL_BYTES};
pub use dcap_qvl::QuoteCollateralV3;
pub use deny::{Admission, Denial, Denied, MAX_DENIED, MAX_REASON_CHARS, MAX_VETTED_PLATFORMS};
pub use enclave::enclave_events_digest;
pub use events::{
    EventError, MAX_EVENT_NAME_CHARS, MAX_EVENT_PAYLOAD_BYTES, boot_events, event_digest,
    replay_rtmr,
};
pub use examine::{Authority, CollateralSummary, Examined, PlatformFamily, examine};
pub use measurement::{EnclaveIdentity, Measured, Measurement, TdIdentity, cocoon_tdx_image_hash};
pub use pins::{
    AllowSim, EnclaveConfig, EnclavePin, MAX_PINNED_VALUES, MAX_PINNED_WORKERS, MAX_PINS_BYTES,
    Masked, PINS_VERSION, PinnedIdentity, Pins, PinsError, PlatformPins, SgxPins, TcbException,
    Tier, WorkerPin,
};
pub use quote::{BodyKind, CutQuote, QuoteError, TeeKind, cut_quote};
pub use quote_verdict::{AcceptedQuote, QUOTE_VERDICT_SCHEMA, QuoteVerdict};
pub use roots::TrustRoot;
pub use rules::RuleId;
pub use time::parse_utc;
pub use transcript::{Outcome, RuleResult};
pub use verdict::{Refusal, VERDICT_SCHEMA, Verdict, VerifiedWorker};
