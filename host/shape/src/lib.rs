//! The published menu of VM shapes: what a host may choose about a confidential VM, as values.
//! Not measured itself; it names the inputs from which RTMR0 is predicted, so whoever verifies
//! trusts the files this crate was built with and nothing a host says.
//!
//! * [`Shape`] – machine, memory, vCPUs, devices in their slots, and the window the firmware
//!   gives them (`manifests/shapes/NAME.toml`).
//! * [`Capture`] – the ACPI and SMBIOS blobs that one QEMU version gives the firmware for one
//!   shape (`manifests/shapes/NAME/qemu-VERSION.toml`). ACPI tables hold code that the guest
//!   kernel runs, so a digest that is in no capture is refused, never wildcarded.
//!
//! Pure functions over bytes: starting a QEMU to make a capture is the loader's.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod capture;
mod error;
mod menu;
mod shape;

pub use capture::{
    Blob, BlobKind, Blobs, Capture, MAX_CAPTURE_BYTES, MAX_SMBIOS_BYTES, QemuVersion, RSDP_BYTES,
    TABLE_LOADER_BYTES, TABLES_BYTES,
};
pub use error::ShapeError;
pub use menu::Menu;
pub use shape::{
    Device, DeviceKind, Firmware, MAX_MEMORY_MIB, MAX_SHAPE_BYTES, MAX_SLOT, MAX_VCPUS, Machine,
    SHAPE_VERSION, Shape, Status,
};
