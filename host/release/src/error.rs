//! Why a release was refused.

use chrysalis_evidence::{EventError, PinsError};
use chrysalis_receipt::CellError;
use thiserror::Error;

/// Why reference values, or a dialect of them, were refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReleaseError {
    /// A file over its limit.
    #[error("{file} is {got} bytes; the limit is {max}")]
    TooLarge {
        /// Which file.
        file: &'static str,
        /// Size found.
        got: usize,
        /// Largest accepted.
        max: usize,
    },
    /// Not the dialect it should be.
    #[error("{file} is malformed: {reason}")]
    Malformed {
        /// Which file.
        file: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// A version this build does not read.
    #[error("reference values have version {got}; this build reads {expected}")]
    UnsupportedVersion {
        /// Version found.
        got: u32,
        /// The one that is read.
        expected: u32,
    },
    /// A value the field may not have.
    #[error("{field} is {got:?}; expected {expected}")]
    Value {
        /// Field name.
        field: &'static str,
        /// Value found, shortened.
        got: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// Too many entries of a list.
    #[error("there are {got} {field} entries; the limit is {max}")]
    TooMany {
        /// Field name.
        field: &'static str,
        /// Entries found.
        got: usize,
        /// Most accepted.
        max: usize,
    },
    /// Two entries of one name.
    #[error("{field} {name:?} is listed twice")]
    Duplicate {
        /// Field name.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// RTMR3 of a workload is not what its manifest and model give.
    #[error("workload {name:?}: rtmr3 is {got}, but its manifest and model give {expected}")]
    Rtmr3 {
        /// The workload.
        name: String,
        /// What the events replay to.
        expected: String,
        /// What the file says.
        got: String,
    },
    /// The boot events could not be replayed.
    #[error(transparent)]
    Events(#[from] EventError),
    /// A value does not fit in a cell.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// The CoRIM library refused to write what we gave it.
    #[error("the CoRIM cannot be written: {0}")]
    CorimWrite(String),
    /// A dialect says something else than the source.
    #[error("{file} disagrees with values.toml on {fact}: expected {expected}, found {got}")]
    Disagrees {
        /// Which file.
        file: &'static str,
        /// Which fact.
        fact: String,
        /// What the source says; `nothing` if it has no such fact.
        expected: String,
        /// What the file says; `nothing` if it has no such fact.
        got: String,
    },
    /// The file says the same, but not in the one spelling this build writes.
    #[error("{file} is not written as this build writes it, though it says the same")]
    NotCanonical {
        /// Which file.
        file: &'static str,
    },
    /// Pins are wanted of a release that has nothing to pin.
    #[error("the release has no {missing}; pins need both a shape and a workload of a TDX image")]
    NothingToPin {
        /// What is missing.
        missing: &'static str,
    },
    /// The pins that came out would not load.
    #[error("the pins would not load: {0}")]
    Pins(#[from] PinsError),
}

impl ReleaseError {
    /// Stable code for scripts and documentation.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-RELEASE-SIZE",
            Self::Malformed { .. } => "E-RELEASE-MALFORMED",
            Self::UnsupportedVersion { .. } => "E-RELEASE-VERSION",
            Self::Value { .. } => "E-RELEASE-VALUE",
            Self::TooMany { .. } => "E-RELEASE-COUNT",
            Self::Duplicate { .. } => "E-RELEASE-DUPLICATE",
            Self::Rtmr3 { .. } => "E-RELEASE-RTMR3",
            Self::Events(error) => error.code(),
            Self::Cell(error) => error.code(),
            Self::CorimWrite(_) => "E-RELEASE-CORIM",
            Self::Disagrees { .. } => "E-RELEASE-DISAGREES",
            Self::NotCanonical { .. } => "E-RELEASE-SPELLING",
            Self::NothingToPin { .. } => "E-RELEASE-PINS",
            Self::Pins(error) => error.code(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Disagrees { .. } | Self::NotCanonical { .. } => {
                "trust none of the files; fetch the release again, or build them from values.toml with `chrysalis release build`"
            }
            Self::Rtmr3 { .. } => {
                "compute it with `chrysalis measure`; it follows from manifest and model"
            }
            Self::NothingToPin { .. } => {
                "add the missing entry to values.toml and build the release again"
            }
            Self::Pins(_) => "check the platform section that was given",
            _ => "compare the file with manifests/releases",
        }
    }
}
