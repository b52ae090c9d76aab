//! Predicts measurement registers from files alone, with no TEE and no trust in any host: an
//! auditor runs it on bytes she built herself and pins the result.
//!
//! Pure functions over bytes: [`predict_process`] for the process-mode simulator, [`tdx`] for a VM
//! image in a trust domain, [`sgx`] for the measurement and signature of an SGX enclave under
//! Gramine. Nothing here opens a file.

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

mod cocoon;
mod error;
mod pins;
mod predict;
pub mod sgx;
pub mod tdx;

pub use cocoon::{TdIdentity, cocoon_sev_image_hash, cocoon_sgx_image_hash, cocoon_tdx_image_hash};
pub use error::MeasureError;
pub use pins::{MAX_SIM_ROOT_BYTES, pins_for};
pub use predict::{Prediction, predict_process};
