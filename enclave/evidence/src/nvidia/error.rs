//! Why device evidence is refused before any policy is asked: its form, its certificates, its
//! signature. The data in the variants is the verifier's own or printable.

use chrysalis_wire::WireError;
use thiserror::Error;

use super::{CHAIN_LENGTH, MAX_DEVICE_CHAIN_BYTES, MAX_DEVICE_REPORT_BYTES};

/// Why a device's report or certificate chain was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// Larger than [`MAX_DEVICE_REPORT_BYTES`].
    #[error("report is {got} bytes; the limit is {MAX_DEVICE_REPORT_BYTES}")]
    ReportTooLarge {
        /// Size found.
        got: usize,
    },
    /// The report ends inside a field.
    #[error("report ends inside {what}: {expected} bytes expected, {got} left")]
    Truncated {
        /// The field being read.
        what: &'static str,
        /// Bytes the field needs.
        expected: usize,
        /// Bytes left.
        got: usize,
    },
    /// Bytes behind the last field.
    #[error("{got} bytes behind the end of {what}")]
    Trailing {
        /// What had ended.
        what: &'static str,
        /// Bytes left.
        got: usize,
    },
    /// A field has a value this build does not read.
    #[error("{what} is {got}, {expected} expected")]
    Field {
        /// The field.
        what: &'static str,
        /// The accepted values.
        expected: &'static str,
        /// Value found, hex or a number.
        got: String,
    },
    /// More measurement records or opaque fields than there can be.
    #[error("{got} {what}; the limit is {limit}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// Number found.
        got: usize,
    },
    /// An opaque field that must be there is not.
    #[error("opaque field {kind} ({what}) is missing")]
    MissingField {
        /// Its type.
        kind: u16,
        /// Its meaning.
        what: &'static str,
    },
    /// An opaque field stands twice: which one counts would be a guess.
    #[error("opaque field {kind} appears twice")]
    RepeatedField {
        /// Its type.
        kind: u16,
    },
    /// Larger than [`MAX_DEVICE_CHAIN_BYTES`].
    #[error("certificate chain is {got} bytes; the limit is {MAX_DEVICE_CHAIN_BYTES}")]
    ChainTooLarge {
        /// Size found.
        got: usize,
    },
    /// Not [`CHAIN_LENGTH`] certificates.
    #[error("{got} certificates; a device chain has {CHAIN_LENGTH}")]
    ChainLength {
        /// Number found; at most one more than the limit is counted.
        got: usize,
    },
    /// A certificate, or the PEM around it, that cannot be read.
    #[error("certificate {index}: {reason}")]
    Certificate {
        /// Position in the chain, 0 is the leaf.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The last certificate is not the pinned root.
    #[error("the chain does not end in the pinned root")]
    Root,
    /// A certificate breaks a rule of the chain.
    #[error("certificate {index}: {rule}")]
    Chain {
        /// Position in the chain, 0 is the leaf.
        index: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A certificate is not valid at this time.
    #[error("certificate {index} is valid from {from} to {until}, and it is {now}")]
    NotValidNow {
        /// Position in the chain, 0 is the leaf.
        index: usize,
        /// First second of its validity.
        from: u64,
        /// Last second of its validity.
        until: u64,
        /// The verifier's time.
        now: u64,
    },
    /// A certificate was not signed by the next one.
    #[error("certificate {index}: its signature does not verify")]
    CertificateSignature {
        /// Position in the chain, 0 is the leaf.
        index: usize,
    },
    /// A chip this build has no rules for, or certificates that name different ones.
    #[error("{what}")]
    Kind {
        /// What is wrong.
        what: &'static str,
    },
    /// The report was not signed by the leaf.
    #[error("the report's signature does not verify")]
    ReportSignature,
}

impl DeviceError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ReportTooLarge { .. }
            | Self::Truncated { .. }
            | Self::Trailing { .. }
            | Self::Field { .. }
            | Self::TooMany { .. }
            | Self::MissingField { .. }
            | Self::RepeatedField { .. } => "E-GPU-REPORT",
            Self::ChainTooLarge { .. } | Self::ChainLength { .. } | Self::Certificate { .. } => {
                "E-GPU-CHAIN-FORM"
            }
            Self::Root => "E-GPU-ROOT",
            Self::Chain { .. } => "E-GPU-CHAIN",
            Self::NotValidNow { .. } => "E-GPU-CHAIN-TIME",
            Self::CertificateSignature { .. } => "E-GPU-CHAIN-SIGNATURE",
            Self::Kind { .. } => "E-GPU-KIND",
            Self::ReportSignature => "E-GPU-SIGNATURE",
        }
    }
}

impl From<WireError> for DeviceError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Truncated { what, expected, got } => Self::Truncated { what, expected, got },
            WireError::TrailingBytes { what, got } => Self::Trailing { what, got },
            // The decoder calls of this module can fail in no other way.
            _ => Self::Truncated { what: "report", expected: 0, got: 0 },
        }
    }
}
