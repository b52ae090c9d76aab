//! End to end: real weights, the real worker binary on the simulated platform, the real loader,
//! the real client, over loopback. Every test starts its own worker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod boot;
mod checkpoint;
mod embeddings;
mod enclave;
mod fake_root;
mod faults;
mod funding;
mod gpu;
mod payment;
mod prompt;
mod proxy;
mod reload;
mod sdk;
mod sealed_model;
mod secrecy;
mod vm;
