//! The worker's network side in one process: real TLS, HTTP, channel, engine (on a tiny generated
//! model) and receipts, over loopback. What a test shortens is time and room, through [`Bounds`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod attacks;
mod batch;
mod bounds;
mod decoding;
mod devices;
mod embeddings;
mod judge;
mod lost;
mod own;
mod payment;
mod peer;
mod queue;
mod rig;
mod routes;
mod sealed;
mod tls;
