//! One stage a file: what is judged, from a genuine case to every way to differ from it.

mod admission;
pub(crate) mod attest;
pub(crate) mod collateral;
mod collateral_enclave;
pub(crate) mod document;
mod document_batch;
mod document_enclave;
mod document_keys;
mod enclave;
pub(crate) mod event_log;
pub(crate) mod gpu;
mod gpu_policy;
pub(crate) mod pins;
mod pins_enclave;
mod pins_policy;
pub(crate) mod quote;
mod quote_policy;
pub(crate) mod ratls;
mod ratls_enclave;
mod ratls_evidence;
