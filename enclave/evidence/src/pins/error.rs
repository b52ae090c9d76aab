//! Why a pins file is refused: one variant per rule of `manifests/pins.example.toml`, each with a
//! stable code.

use chrysalis_wire::NetworkId;
use thiserror::Error;

use super::{MAX_PINS_BYTES, PINS_VERSION, Tier};

/// Why a pins file was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PinsError {
    /// Larger than [`MAX_PINS_BYTES`].
    #[error("pins file is {got} bytes; the limit is {MAX_PINS_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not TOML, a missing or an unknown field, a value of the wrong kind.
    #[error("pins file is malformed: {0}")]
    Malformed(String),
    /// A version this build does not read.
    #[error("pins version {got} is not supported; this build reads {PINS_VERSION}")]
    Version {
        /// Version found.
        got: u32,
    },
    /// INSECURE-SIM pins where the caller did not ask for simulation.
    #[error(
        "these pins are for the INSECURE-SIM tier, which protects nothing; ask for simulation \
         explicitly or use production pins"
    )]
    SimRefused,
    /// Certificate-only pins where a live proof is due.
    #[error(
        "these pins are for the INSECURE-CERTIFICATE-ONLY tier, which accepts replayed and relayed \
         evidence; use production pins"
    )]
    CertificateOnlyRefused,
    /// Pins of another tier where certificate-only ones are asked for by name.
    #[error("these pins are of tier {tier}; INSECURE-CERTIFICATE-ONLY is asked for")]
    NotCertificateOnly {
        /// Tier found.
        tier: Tier,
    },
    /// The root is missing, superfluous or no certificate.
    #[error("sim_root {reason}")]
    SimRoot {
        /// What is wrong.
        reason: &'static str,
    },
    /// Tier and network do not belong together.
    #[error("{tier} pins cannot name {network}; INSECURE-SIM pins name network {sim}, others never do", sim = NetworkId::INSECURE_SIM.0)]
    Network {
        /// Tier found.
        tier: Tier,
        /// Network found.
        network: NetworkId,
    },
    /// A list is longer than its limit.
    #[error("{what} has {got} entries; the limit is {limit}")]
    TooMany {
        /// Name of the list.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// Entries found.
        got: usize,
    },
    /// A worker name is empty, long, not printable or used twice.
    #[error("worker {index}: the name must be unique, 1 to 128 printable ASCII characters")]
    Name {
        /// Position in the file.
        index: usize,
    },
    /// Zeros are what a peer reports that nobody measured.
    #[error("worker {name:?}: {field} is all zero; measure the worker first")]
    ZeroMeasurement {
        /// Name of the entry.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// A listed `td_attributes` has a debug bit.
    #[error(
        "td_attributes {value} has a debug bit (first byte not zero); a debug TD hides nothing"
    )]
    Debug {
        /// The value, hex.
        value: String,
    },
    /// A `[[sgx.worker]]` names no enclave, or in two ways.
    #[error("sgx worker {name:?}: {reason}")]
    Enclave {
        /// Name of the entry.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A value of `[sgx]` accepts what no policy may accept.
    #[error("{field} {value}: {reason}")]
    EnclaveField {
        /// The field.
        field: &'static str,
        /// The value, hex.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A `[[platform.exception]]` is malformed or accepts too much.
    #[error("[[platform.exception]]: {reason}: {got:?}")]
    Exception {
        /// What is wrong.
        reason: &'static str,
        /// The value found.
        got: String,
    },
    /// `sequence` is 0.
    #[error("sequence is 0; numbers begin with 1")]
    Sequence,
    /// `admission` and `vetted` contradict each other.
    #[error("[platform]: {reason}")]
    Platform {
        /// What is wrong.
        reason: &'static str,
    },
    /// A denial that would not deny what it seems to.
    #[error("deny {index}: {reason}")]
    Deny {
        /// Position in the file.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The `[device]` section contradicts itself or the tier.
    #[error("[device]: {reason}")]
    Device {
        /// What is wrong.
        reason: &'static str,
    },
    /// A number out of its range.
    #[error("{field} is {got}; it must be between {min} and {max}")]
    OutOfRange {
        /// Field name.
        field: &'static str,
        /// Value found.
        got: u32,
        /// Smallest allowed value.
        min: u32,
        /// Largest allowed value.
        max: u32,
    },
}

impl PinsError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-PINS-SIZE",
            Self::Malformed(_) => "E-PINS-FORM",
            Self::Version { .. } => "E-PINS-VERSION",
            Self::SimRefused => "E-PINS-SIM-REFUSED",
            Self::CertificateOnlyRefused => "E-PINS-CERTIFICATE-ONLY",
            Self::NotCertificateOnly { .. } => "E-PINS-TIER",
            Self::SimRoot { .. } => "E-PINS-SIM-ROOT",
            Self::Network { .. } => "E-PINS-NETWORK",
            Self::TooMany { .. } => "E-PINS-COUNT",
            Self::Name { .. } => "E-PINS-NAME",
            Self::ZeroMeasurement { .. } => "E-PINS-ZERO",
            Self::Debug { .. } => "E-PINS-DEBUG",
            Self::Enclave { .. } => "E-PINS-ENCLAVE",
            Self::EnclaveField { .. } => "E-PINS-SGX",
            Self::Exception { .. } => "E-PINS-EXCEPTION",
            Self::Sequence => "E-PINS-SEQUENCE",
            Self::Platform { .. } => "E-PINS-PLATFORM",
            Self::Deny { .. } => "E-PINS-DENY",
            Self::Device { .. } => "E-PINS-DEVICE",
            Self::OutOfRange { .. } => "E-PINS-RANGE",
        }
    }
}
