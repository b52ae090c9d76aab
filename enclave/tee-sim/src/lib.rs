//! INSECURE-SIM: simulated platforms, a trust domain (TDX) and an enclave (SGX). They protect nothing
//! and must be trusted by nobody: the keys are derived from constants in this source, so anyone can
//! sign as them.
//!
//! What it is for: the whole appraisal path runs against it, unchanged. It signs quotes in the
//! genuine formats (version 4 of a trust domain, version 3 of an enclave) under a PKI shaped like
//! Intel's (root, TCB signer, platform CA, PCK certificate with the SGX extension, CRLs, TCB info v3,
//! QE and TD_QE identity v2), and a verifier that pins [`sim_root_der`] finds them UpToDate. A
//! verifier that pins Intel's root refuses them. There is no `if simulated` in any verifier.
//!
//! What keeps it out of production: this is its own crate, which the release worker cannot link
//! (`tests/layering`); the verifier must name the FAKE root in an INSECURE-SIM pins file; the
//! network id of simulated workers is no real network's; receipts carry another domain tag; and
//! every certificate says `INSECURE-SIM FAKE` in subject and issuer.
//!
//! [`device`] makes FAKE GPUs and switches under a FAKE root of their own, in the same spirit.
//!
//! [`Faults`] makes trust domains that lie in one way each, [`SimEnclave::with`] enclaves whose report
//! says what it likes, for tests that need refused evidence; [`SimPlatform::forge_quote`] and
//! [`forge_collateral`] sign whatever a test wants said. Signatures are deterministic: the same call
//! gives the same bytes on every machine.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::panic)]
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

mod collateral;
pub mod device;
mod enclave;
mod facts;
mod keys;
mod pki;
mod platform;
mod quote;

#[cfg(test)]
mod tests;

pub use collateral::{
    COLLATERAL_DAYS, Revoked, collateral, enclave_collateral, forge_collateral,
    forge_enclave_collateral,
};
pub use enclave::{SimEnclave, SimReport};
pub use facts::{FMSPC, PLATFORM_INSTANCE_ID, PPID};
pub use pki::sim_root_der;
pub use platform::{Faults, SimPlatform};

/// MRTD that a simulated worker made from `executable` will report. Verifiers predict it without
/// this crate, through `chrysalis_evidence::sim::mrtd`.
#[must_use]
pub fn predict_mrtd(executable: &[u8]) -> [u8; 48] {
    chrysalis_evidence::sim::mrtd(executable)
}
