//! Every way a shape or a capture is refused, with a stable code and what to do next.

use thiserror::Error;

use crate::capture::BlobKind;

/// Why a shape, or a capture of one, was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ShapeError {
    /// A file over its limit.
    #[error("the {what} is {got} bytes; the limit is {max}")]
    TooLarge {
        /// `shape` or `capture`.
        what: &'static str,
        /// Size found.
        got: usize,
        /// Largest allowed size.
        max: usize,
    },
    /// Not UTF-8, not TOML, a missing or an unknown field.
    #[error("the {what} is malformed: {reason}")]
    Malformed {
        /// `shape` or `capture`.
        what: &'static str,
        /// Where it does not parse.
        reason: String,
    },
    /// A version this build does not read.
    #[error("{what} version {got} is not supported")]
    UnsupportedVersion {
        /// `shape` or `capture`.
        what: &'static str,
        /// Version found.
        got: u32,
    },
    /// A value that the field may not have.
    #[error("{field} is {got}; expected {expected}")]
    Value {
        /// Field name.
        field: &'static str,
        /// Value found, shortened.
        got: String,
        /// What would be accepted.
        expected: String,
    },
    /// Devices are not in ascending slots: their order is part of the shape.
    #[error("device slot {slot} follows slot {previous}; slots must ascend")]
    SlotOrder {
        /// The slot out of order.
        slot: u8,
        /// The slot before it.
        previous: u8,
    },
    /// Two devices of a kind that may be there once.
    #[error("the shape has two devices of kind {kind}")]
    DuplicateDevice {
        /// The kind.
        kind: &'static str,
    },
    /// No shape of that name is in the menu.
    #[error("there is no shape {name:?}; the menu has {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Every name there is.
        known: String,
    },
    /// A blob of another size than QEMU gives the firmware.
    #[error("the {blob} blob is {got} bytes; expected {expected}")]
    BlobSize {
        /// Which one.
        blob: BlobKind,
        /// Size found.
        got: usize,
        /// The size it has, or the largest it may have.
        expected: usize,
    },
    /// A blob that is not the one its capture names.
    #[error("the {blob} blob does not have the digest its capture names")]
    BlobDigest {
        /// Which one.
        blob: BlobKind,
        /// SHA-384 named.
        expected: String,
        /// SHA-384 of the bytes.
        got: String,
    },
    /// A capture that was made of another shape, or of this one before it changed.
    #[error("the capture was made of another shape")]
    CaptureOf {
        /// Fingerprint of the shape.
        expected: String,
        /// Fingerprint in the capture.
        got: String,
    },
    /// No capture for that QEMU: its ACPI tables are not known.
    #[error("shape {shape} has no capture for QEMU {qemu}; there is one for {known}")]
    NotCaptured {
        /// The shape.
        shape: String,
        /// The QEMU version asked for.
        qemu: String,
        /// Versions there are captures of.
        known: String,
    },
    /// An ACPI or SMBIOS digest that no capture of the shape has.
    #[error("the {blob} blob is in no capture of shape {shape}")]
    NotInCatalogue {
        /// Which one.
        blob: BlobKind,
        /// The shape.
        shape: String,
        /// SHA-384 found.
        got: String,
    },
}

impl ShapeError {
    /// Stable code for scripts and documentation.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-SHAPE-SIZE",
            Self::Malformed { .. } => "E-SHAPE-MALFORMED",
            Self::UnsupportedVersion { .. } => "E-SHAPE-VERSION",
            Self::Value { .. } => "E-SHAPE-VALUE",
            Self::SlotOrder { .. } => "E-SHAPE-SLOT",
            Self::DuplicateDevice { .. } => "E-SHAPE-DEVICE",
            Self::Unknown { .. } => "E-SHAPE-UNKNOWN",
            Self::BlobSize { .. } => "E-BLOB-SIZE",
            Self::BlobDigest { .. } => "E-BLOB-DIGEST",
            Self::CaptureOf { .. } => "E-CAPTURE-OF",
            Self::NotCaptured { .. } => "E-NOT-CAPTURED",
            Self::NotInCatalogue { .. } => "E-ACPI-UNKNOWN",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "see `chrysalis shape list`",
            Self::CaptureOf { .. } | Self::NotCaptured { .. } => {
                "make one with `chrysalis shape capture --qemu PATH --shape NAME`"
            }
            Self::BlobSize { .. } | Self::BlobDigest { .. } => "use the file as it was captured",
            Self::NotInCatalogue { .. } => {
                "launch the shape exactly as `chrysalis up --print-only` shows, with a QEMU version it was captured for"
            }
            _ => "compare the file with those in manifests/shapes",
        }
    }
}
