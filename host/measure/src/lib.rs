//! Predicts measurement registers from files alone, with no TEE and no trust in any host: an
//! auditor runs it on bytes she built herself and pins the result.
//!
//! Pure functions over bytes: the registers of the process-mode simulator, and in [`sgx`] the
//! measurement and signature of an SGX enclave under Gramine. The registers of the VM image come
//! with the image.

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

mod error;
mod pins;
mod predict;
pub mod sgx;

pub use error::MeasureError;
pub use pins::{MAX_SIM_ROOT_BYTES, pins_for};
pub use predict::{Prediction, predict_process};
