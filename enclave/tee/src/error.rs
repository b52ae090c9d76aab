//! Why a platform operation was refused. Messages name paths and numbers, never secrets.

use std::io::ErrorKind;
use std::path::PathBuf;

use thiserror::Error;

/// Why a platform operation was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeeError {
    /// Neither TDX nor Gramine is here.
    #[error(
        "no trusted execution environment found; looked for {}. Start the worker inside a TDX \
         guest or under Gramine with sgx.remote_attestation = \"dcap\"",
        looked_for.join(", ")
    )]
    NoPlatform {
        /// Every path that was looked for.
        looked_for: Vec<String>,
    },
    /// The platform has no such feature.
    #[error("{platform} cannot {operation}: {why}")]
    Unsupported {
        /// Platform name.
        platform: &'static str,
        /// What was asked.
        operation: &'static str,
        /// Why it does not exist here.
        why: &'static str,
    },
    /// A file, device or socket of the platform answered with an error.
    #[error("{what} at {}: {kind}. {next_step}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// Where; `vsock:CID:PORT` for the host's quote service.
        path: PathBuf,
        /// What the operating system said.
        kind: ErrorKind,
        /// What the operator can do about it.
        next_step: &'static str,
    },
    /// A fixed-size file has another size.
    #[error("{} holds {got} bytes; expected {expected}", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        got: usize,
    },
    /// A kernel file that should hold a number does not.
    #[error("{} does not hold a decimal number", path.display())]
    NotANumber {
        /// The file.
        path: PathBuf,
    },
    /// The report entry belongs to another kind of machine.
    #[error("configfs-tsm provider is {got:?}; expected \"tdx_guest\". This is not a TDX guest")]
    WrongProvider {
        /// What the kernel names, cut at 32 characters.
        got: String,
    },
    /// Somebody else wrote to our report entry, in every attempt.
    #[error(
        "configfs-tsm generation moved to {got} instead of {expected} in {attempts} attempts: \
         another process writes to our report entry. Run one worker per guest"
    )]
    GenerationMoved {
        /// The generation after exactly our one write.
        expected: u64,
        /// The generation found.
        got: u64,
        /// Attempts made.
        attempts: u32,
    },
    /// An earlier quote request is still with the host, in every attempt.
    #[error(
        "the kernel still waits for an earlier quote ({attempts} attempts). Check the quote \
         generation service on the host"
    )]
    Busy {
        /// Attempts made.
        attempts: u32,
    },
    /// The quote service closed the connection inside a field.
    #[error("quote service: {what} ends early: {expected} bytes expected, {got} received")]
    QgsTruncated {
        /// The field being read.
        what: &'static str,
        /// Bytes the field needs.
        expected: usize,
        /// Bytes received.
        got: usize,
    },
    /// The quote service sends its answer in more pieces than any real one does.
    #[error("quote service: answer not complete after {limit} reads")]
    QgsTooSlow {
        /// Largest number of reads.
        limit: u32,
    },
    /// A length field of the answer is over its limit.
    #[error("quote service: {what} of {got} bytes is over the limit of {limit}")]
    QgsTooLarge {
        /// The field.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What the answer claims.
        got: usize,
    },
    /// The answer speaks another protocol version.
    #[error("quote service: protocol version {got}; this build speaks 1")]
    QgsVersion {
        /// Major version found.
        got: u16,
    },
    /// The answer is not an answer to a quote request.
    #[error("quote service: message type {got}; expected 1 (quote response)")]
    QgsType {
        /// Type found.
        got: u32,
    },
    /// The quote service reports an error.
    #[error("quote service: error {got:#010x}. See the service's log on the host")]
    QgsRefused {
        /// Error code of the answer.
        got: u32,
    },
    /// The length fields of the answer contradict each other.
    #[error("quote service: {what} says {got} bytes; the message has {expected}")]
    QgsInconsistent {
        /// The field.
        what: &'static str,
        /// Bytes the framing leaves.
        expected: usize,
        /// Bytes the field claims.
        got: usize,
    },
    /// Neither route to a quote worked.
    #[error("no quote. Over vsock: {vsock}. Over configfs: {configfs}")]
    NoQuote {
        /// Why the quote service on the host did not help.
        vsock: Box<Self>,
        /// Why the kernel did not help.
        configfs: Box<Self>,
    },
    /// What came back is not a quote this build can read.
    #[error("not a quote: {0}")]
    QuoteMalformed(&'static str),
    /// A quote of another kind of machine.
    #[error("quote has TEE type {got:#x}; expected {expected:#x}")]
    QuoteOtherTee {
        /// TEE type of this platform.
        expected: u32,
        /// TEE type found.
        got: u32,
    },
    /// A genuine-looking quote for other report data: an old one, or somebody else's.
    #[error("quote does not carry the report data it was asked for")]
    QuoteOtherReportData,
    /// The runtime register does not hold the extended value.
    #[error(
        "{} does not hold SHA-384(old || digest) after the extension; another process may have \
         extended it. The machine must restart", path.display()
    )]
    ExtendNotApplied {
        /// The register.
        path: PathBuf,
    },
    /// Gramine runs without DCAP attestation.
    #[error(
        "Gramine attestation type is {got:?}; expected \"dcap\". Set sgx.remote_attestation = \
         \"dcap\" in the Gramine manifest"
    )]
    AttestationType {
        /// What Gramine reports, cut at 32 characters.
        got: String,
    },
    /// The sealing key file is all zeros.
    #[error("sealing key at {} is all zeros and cannot be a key", path.display())]
    SealingKeyNotSet {
        /// The key file.
        path: PathBuf,
    },
    /// There is no driver for devices.
    #[error(
        "no NVIDIA driver: {looked_for} cannot be loaded. Use an image with the driver, or a \
             manifest without devices"
    )]
    NoDriver {
        /// The library looked for.
        looked_for: String,
    },
    /// The driver's library does not have a function.
    #[error("the NVIDIA driver has no {symbol}; confidential computing needs 535 or later")]
    DriverTooOld {
        /// The function.
        symbol: &'static str,
    },
    /// A call into the driver's library failed.
    #[error("{call} answers {code} (nvmlReturn_t). Check that the GPUs are in confidential mode")]
    Nvml {
        /// The function.
        call: &'static str,
        /// What it returned.
        code: i32,
    },
    /// The driver's library says that it wrote more than fits.
    #[error("the driver's {what} of {got} bytes is over the limit of {limit}")]
    NvmlSize {
        /// What was written.
        what: &'static str,
        /// Size of the buffer.
        limit: usize,
        /// Size it says.
        got: usize,
    },
    /// The GPUs do not protect their memory.
    #[error(
        "the GPUs are not protected: environment {environment} (2 is production), confidential \
         computing {feature} (1 is on), developers' tools {dev_tools} (0 is off)"
    )]
    GpuNotProtected {
        /// `environment` of the system state.
        environment: u32,
        /// `ccFeature` of the system state.
        feature: u32,
        /// `devToolsMode` of the system state.
        dev_tools: u32,
    },
    /// The simulator could not make evidence, or was told not to.
    #[error("INSECURE-SIM: {0}")]
    Simulator(&'static str),
}

impl TeeError {
    /// A stable code for logs, tests and console events.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoPlatform { .. } => "E-TEE-NONE",
            Self::Unsupported { .. } => "E-TEE-UNSUPPORTED",
            Self::Io { .. } => "E-TEE-IO",
            Self::WrongLength { .. } => "E-TEE-LENGTH",
            Self::NotANumber { .. } => "E-TEE-NUMBER",
            Self::WrongProvider { .. } => "E-TEE-PROVIDER",
            Self::GenerationMoved { .. } => "E-TEE-GENERATION",
            Self::Busy { .. } => "E-TEE-BUSY",
            Self::QgsTruncated { .. } => "E-QGS-TRUNCATED",
            Self::QgsTooSlow { .. } => "E-QGS-SLOW",
            Self::QgsTooLarge { .. } => "E-QGS-TOO-LARGE",
            Self::QgsVersion { .. } => "E-QGS-VERSION",
            Self::QgsType { .. } => "E-QGS-TYPE",
            Self::QgsRefused { .. } => "E-QGS-REFUSED",
            Self::QgsInconsistent { .. } => "E-QGS-INCONSISTENT",
            Self::NoQuote { .. } => "E-TEE-NO-QUOTE",
            Self::QuoteMalformed(_) => "E-QUOTE-MALFORMED",
            Self::QuoteOtherTee { .. } => "E-QUOTE-TEE",
            Self::QuoteOtherReportData => "E-QUOTE-REPORT-DATA",
            Self::ExtendNotApplied { .. } => "E-TEE-EXTEND",
            Self::AttestationType { .. } => "E-TEE-ATTESTATION-TYPE",
            Self::SealingKeyNotSet { .. } => "E-TEE-SEALING-KEY",
            Self::NoDriver { .. } => "E-NVML-NONE",
            Self::DriverTooOld { .. } => "E-NVML-OLD",
            Self::Nvml { .. } => "E-NVML-CALL",
            Self::NvmlSize { .. } => "E-NVML-SIZE",
            Self::GpuNotProtected { .. } => "E-NVML-UNPROTECTED",
            Self::Simulator(_) => "E-INSECURE-SIM",
        }
    }
}

/// Most characters of a foreign string an error message repeats.
pub(crate) const MAX_QUOTED_CHARS: usize = 32;

/// The start of a foreign string, safe to print (`Debug` escapes control characters).
pub(crate) fn quoted(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().chars().take(MAX_QUOTED_CHARS).collect()
}
