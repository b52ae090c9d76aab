//! The only hardware edge of the enclave: quotes, measurement registers, the runtime register
//! and sealing keys, from TDX or from Gramine on SGX. What devices are is said here too; NVIDIA's driver
//! is spoken to by `chrysalis-nvml`, so that PID 1 does not link it.
//!
//! Trusted: the guest kernel (TDX) or the Gramine library OS (SGX), both measured. Not trusted:
//! everything behind them, above all the quote generation service on the host; its answer is
//! parsed as hostile bytes, and a quote that does not carry our `report_data` is refused. A quote
//! needs no more trust than that: it is signed, and whoever receives it appraises it.
//!
//! [`detect`] picks the backend by looking at a root directory. Paths, files, the device and the
//! connection to the host are injected, so every path through this crate is tested without
//! hardware. The simulator is another crate, `chrysalis-tee-sim`, which this one does not know.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
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

mod detect;
mod devices;
mod error;
mod files;
mod gramine;
mod kernel;
mod platform;
mod quote;
pub mod tdx;

#[cfg(test)]
mod fake;

pub use detect::detect;
pub use devices::{DeviceChain, DeviceCount, DeviceReport, Devices};
pub use error::TeeError;
pub use files::{Files, HostFiles};
pub use gramine::GraminePlatform;
pub use platform::{Identity, Platform, Registers, SgxIdentity};
pub use tdx::{TdxParts, TdxPaths, TdxPlatform};
