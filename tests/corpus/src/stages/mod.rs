//! One stage a file: what is judged, from a genuine case to every way to differ from it.

pub(crate) mod attest;
pub(crate) mod collateral;
pub(crate) mod document;
mod document_keys;
pub(crate) mod event_log;
pub(crate) mod gpu;
mod gpu_policy;
pub(crate) mod pins;
pub(crate) mod quote;
mod quote_policy;
pub(crate) mod ratls;
mod ratls_evidence;
