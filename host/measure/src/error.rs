//! Why a measurement cannot be predicted, or a prediction cannot be pinned.

use chrysalis_wire::{ManifestError, NetworkId};
use thiserror::Error;

/// Why a measurement cannot be predicted, or a prediction cannot be pinned.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MeasureError {
    /// The worker would refuse this manifest, so no register with it will ever exist.
    #[error("the worker manifest cannot be used: {0}")]
    Manifest(#[from] ManifestError),
    /// The executable has no bytes.
    #[error("the worker executable is empty")]
    EmptyExecutable,
    /// Simulated registers under a network whose receipts are worth something.
    #[error("the manifest is for {network}; a simulated worker serves only {sim}", sim = NetworkId::INSECURE_SIM)]
    NotSimulated {
        /// The manifest's network.
        network: NetworkId,
    },
    /// The name of the pin is empty, long or not printable.
    #[error("the name of a pin must be 1 to 128 printable ASCII characters, got {got:?}")]
    Name {
        /// The name found.
        got: String,
    },
    /// The root certificate is empty, too large, or not even the outside of a DER certificate.
    #[error("the simulator's root is not a DER certificate: {reason}")]
    SimRoot {
        /// What is wrong.
        reason: &'static str,
    },
    /// The event log could not be hashed.
    #[error("the boot events cannot be replayed: {0}")]
    Events(#[from] chrysalis_evidence::EventError),
    /// What would be written does not load as pins.
    #[error("these pins would not load: {0}")]
    Pins(chrysalis_evidence::PinsError),
    /// More than the platform was given.
    #[error("the platform table lists workers of its own")]
    PlatformTable,
    /// An enclave cannot be pinned.
    #[error(transparent)]
    Sgx(#[from] crate::sgx::SgxError),
    /// A TDX register cannot be predicted.
    #[error(transparent)]
    Tdx(#[from] crate::tdx::TdxError),
}

impl MeasureError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Manifest(_) => "E-MEASURE-MANIFEST",
            Self::EmptyExecutable => "E-MEASURE-EMPTY",
            Self::NotSimulated { .. } => "E-MEASURE-NETWORK",
            Self::Name { .. } => "E-MEASURE-NAME",
            Self::SimRoot { .. } => "E-MEASURE-SIM-ROOT",
            Self::Events(error) => error.code(),
            Self::Pins(error) => error.code(),
            Self::PlatformTable => "E-MEASURE-PLATFORM",
            Self::Sgx(error) => error.code(),
            Self::Tdx(error) => error.code(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Manifest(_) | Self::Events(_) => {
                "write a manifest with `chrysalis manifest init` and change only its values"
            }
            Self::EmptyExecutable => "name the worker program that will run",
            Self::NotSimulated { .. } => "use `chrysalis manifest init --network sim`",
            Self::Name { .. } => "choose a short name, such as the worker's version",
            Self::Pins(_) | Self::PlatformTable => {
                "give a [platform] table as in manifests/pins.example.toml, and nothing else"
            }
            Self::Sgx(error) => error.next_step(),
            Self::Tdx(error) => error.next_step(),
            Self::SimRoot { .. } => "write it with the simulated worker: `sim root --out FILE`",
        }
    }
}
