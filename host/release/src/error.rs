//! Why a release was refused.

use chrysalis_evidence::{EventError, PinsError};
use chrysalis_image::ImageError;
use chrysalis_measure::MeasureError;
use chrysalis_measure::tdx::TdxError;
use chrysalis_receipt::CellError;
use chrysalis_shape::ShapeError;
use chrysalis_wire::ManifestError;
use thiserror::Error;

/// A value that the files at hand do not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Register, file or field.
    pub value: String,
    /// What it comes from.
    pub component: String,
    /// What the release says.
    pub expected: String,
    /// What the files give.
    pub found: String,
}

impl core::fmt::Display for Moved {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} is another ({})", self.value, self.component)
    }
}

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
    /// An image that is not what its own manifest says, so it has no values.
    #[error("{error}{}", moved.as_ref().map(|m| format!("; {m}")).unwrap_or_default())]
    Image {
        /// What the image writer's verification says.
        error: Box<ImageError>,
        /// The register that moves with it.
        moved: Option<Box<Moved>>,
    },
    /// The files give another value than the release names.
    #[error("the files are not those of the release: {0}")]
    Differs(Box<Moved>),
    /// An image, or a release, for simulation, where that was not asked for.
    #[error("it is for simulation (INSECURE-SIM): its values prove nothing")]
    Simulated,
    /// A shape that has no RTMR0.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// An image that cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// A firmware whose names nobody wrote down.
    #[error("the names this firmware puts into SMBIOS are not known")]
    Bios,
    /// A worker manifest that no worker accepts.
    #[error("the worker manifest cannot be used: {0}")]
    Manifest(#[from] ManifestError),
    /// An entry that the release does not have.
    #[error("the release has no {what} {name:?}{}", known_of(.known))]
    NoEntry {
        /// What was looked for.
        what: &'static str,
        /// The name given.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A shape under several QEMU versions.
    #[error("the release has the shape {name:?} under several QEMU versions{}", known_of(.known))]
    Ambiguous {
        /// Name of the shape.
        name: String,
        /// The versions.
        known: Vec<String>,
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
            Self::Image { error, .. } => error.code(),
            Self::Differs(_) => "E-RELEASE-DIFFERS",
            Self::Simulated => "E-RELEASE-SIM",
            Self::Shape(error) => error.code(),
            Self::Measure(error) => error.code(),
            Self::Bios => "E-BIOS",
            Self::Manifest(_) => "E-WORKER-MANIFEST",
            Self::NoEntry { .. } | Self::Ambiguous { .. } => "E-RELEASE-ENTRY",
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
                "give the workloads you accept with --workload; the rest is the release's to say"
            }
            Self::Pins(_) => "check the platform section that was given",
            Self::Differs(_) => {
                "it is another image than the one released, or the release lies; \
                 `chrysalis measure diff` names the first event that differs, and its cause"
            }
            Self::Image { error, .. } => error.next_step(),
            Self::Simulated => "add --insecure-sim if a simulation is what you want",
            Self::Shape(error) => error.next_step(),
            Self::Measure(error) => error.next_step(),
            Self::Bios => {
                "give --bios VENDOR VERSION DATE, as dmidecode -t 0 shows them in a guest"
            }
            Self::Manifest(_) => "write a manifest with `chrysalis manifest init`",
            Self::NoEntry { .. } | Self::Ambiguous { .. } => "choose one that the release has",
            _ => "compare the file with manifests/releases",
        }
    }
}

impl From<TdxError> for ReleaseError {
    fn from(error: TdxError) -> Self {
        Self::Measure(error.into())
    }
}

fn known_of(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) }
}
