//! Predicts the registers of a TDX trust domain from the files of an image and the shape of its
//! VM, and reads the logs and quotes such a TD gives. All input is hostile: firmware, kernel,
//! tables and logs are parsed with bounds, and what cannot be predicted is refused.
//!
//! | register | from | module |
//! |---|---|---|
//! | MRTD | firmware file | `tdvf`, `mrtd` |
//! | RTMR0 | firmware configuration: memory map, variable store, fw_cfg, ACPI, SMBIOS, boot options | `firmware` |
//! | RTMR1 | kernel | `pe`, `boot` |
//! | RTMR2 | command line, initrd | `boot` |
//! | RTMR3 | worker manifest and model | `predict` |

mod acpi;
mod boot;
mod bytes;
mod ccel;
pub mod diff;
mod digest;
mod efi;
mod error;
mod event;
mod firmware;
mod hob;
mod image;
mod mrtd;
mod pe;
mod pins;
mod predict;
mod profile;
mod quote;
mod recognise;
mod shape;
mod smbios;
mod status;
mod tdvf;
mod varstore;

#[cfg(test)]
mod tests;

pub use acpi::{AcpiBlobs, AcpiFacts, MAX_LOADER_BYTES, MAX_TABLES, MAX_TABLES_BYTES};
pub use boot::{
    CommandLine, MAX_COMMAND_LINE_BYTES, MAX_INITRD_BYTES, kernel_events, linux_events,
};
pub use ccel::{EventLog, LoggedEvent, MAX_EVENT_BYTES, MAX_LOG_BYTES, MAX_LOG_EVENTS};
pub use digest::Sha384Digest;
pub use error::TdxError;
pub use event::{Component, Event, Rtmr};
pub use firmware::firmware_events;
pub use hob::{HobLayout, MAX_MEMORY_BYTES, MIN_MEMORY_BYTES, MemorySize, td_hob};
pub use image::MeasuredImage;
pub use mrtd::{PageOrder, mrtd};
pub use pe::{MAX_KERNEL_BYTES, MAX_PE_SECTIONS, authenticode_sha384};
pub use pins::tdx_pins;
pub use predict::{
    Content, Facts, Image, MAX_PREDICTION_BYTES, PREDICTION_SCHEMA, PredictedMrtd,
    PredictedRegister, TdxPrediction, predict_tdx,
};
pub use profile::FirmwareProfile;
pub use quote::{TdQuote, looks_like_quote};
pub use shape::{DIRECT_BOOT_ORDER, FwCfg, MAX_FW_CFG_BYTES, Shape, ShapeTables};
pub use smbios::{BiosIdentity, MAX_SMBIOS_BYTES, MAX_STRUCTURES, SmbiosTable};
pub use status::Status;
pub use tdvf::{
    MAX_FIRMWARE_BYTES, MAX_SECTION_BYTES, MAX_SECTIONS, PAGE_BYTES, Section, SectionKind, Tdvf,
};
pub use varstore::{MAX_VARIABLES, StoredKeys};
