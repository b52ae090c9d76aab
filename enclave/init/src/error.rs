//! Why PID 1 refuses to go on. Every variant powers the machine off; its code is the last thing on
//! the console. Nothing here carries a secret, because none exists before the worker runs.

use std::io::ErrorKind;

use chrysalis_tee::TeeError;
use chrysalis_wire::{
    CommandLineError, ConfigDiskError, Digest, ImageConfigError, ManifestError, RegisterValue,
};
use thiserror::Error;

/// Why PID 1 refuses to go on.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError {
    /// The kernel refused a mount.
    #[error("cannot mount /{target}: {kind}")]
    Mount {
        /// Where, below the root.
        target: &'static str,
        /// The kernel's reason.
        kind: ErrorKind,
    },
    /// A file of the image or of the kernel cannot be read.
    #[error("cannot read the {what}: {kind}")]
    Unreadable {
        /// Which file.
        what: &'static str,
        /// The kernel's reason.
        kind: ErrorKind,
    },
    /// A file for the worker cannot be written.
    #[error("cannot write the {what}: {kind}")]
    Unwritable {
        /// Which file.
        what: &'static str,
        /// The kernel's reason.
        kind: ErrorKind,
    },
    /// `image.toml` is refused.
    #[error(transparent)]
    Image(#[from] ImageConfigError),
    /// The kernel command line is refused.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// A listed module is not in the image.
    #[error("module {index} is not in the image: {kind}")]
    ModuleMissing {
        /// Position in `image.toml`.
        index: usize,
        /// The kernel's reason.
        kind: ErrorKind,
    },
    /// A module is larger than [`crate::limits::MAX_MODULE_BYTES`].
    #[error("module {index} is larger than {limit} bytes", limit = crate::limits::MAX_MODULE_BYTES)]
    ModuleTooLarge {
        /// Position in `image.toml`.
        index: usize,
    },
    /// A module is not the one that `image.toml` lists.
    #[error("module {index} has SHA-256 {got}, the image lists {expected}")]
    ModuleHash {
        /// Position in `image.toml`.
        index: usize,
        /// SHA-256 listed.
        expected: Digest,
        /// SHA-256 found.
        got: Digest,
    },
    /// The kernel refused a module: unsigned, for another kernel, or of a missing device.
    #[error("the kernel refuses module {index}: {kind}")]
    ModuleRefused {
        /// Position in `image.toml`.
        index: usize,
        /// The kernel's reason.
        kind: ErrorKind,
    },
    /// A kernel setting does not exist or does not take the value.
    #[error("kernel setting {name} cannot be set: {kind}")]
    Sysctl {
        /// Dotted name.
        name: String,
        /// The kernel's reason.
        kind: ErrorKind,
    },
    /// A kernel setting that closes a door reads back as open.
    #[error("kernel setting {name} does not hold the value PID 1 wrote")]
    SysctlNotHeld {
        /// Dotted name.
        name: &'static str,
    },
    /// The network interface did not appear.
    #[error("no network interface of the configured name appeared")]
    NoInterface,
    /// The kernel refused to configure the network.
    #[error("the kernel refuses to {step}: error {errno}")]
    Network {
        /// What was asked.
        step: &'static str,
        /// The kernel's error number, 0 if its reply was not understood.
        errno: i32,
    },
    /// No disk has this serial number.
    #[error("no disk with serial number {serial} appeared")]
    NoDisk {
        /// The serial number.
        serial: &'static str,
    },
    /// More than one disk has this serial number.
    #[error("two disks have serial number {serial}")]
    DiskTwice {
        /// The serial number.
        serial: &'static str,
    },
    /// A disk the image does not know, or more disks than there can be.
    #[error("a disk is attached that this image does not know")]
    UnknownDisk,
    /// The root disk is not as long as the measured root.
    #[error(
        "the root disk does not end where the root does: {got} bytes, the image says {expected}"
    )]
    RootSize {
        /// Size in `image.toml`.
        expected: u64,
        /// Whole blocks found, in bytes; one more than expected where reading stopped there.
        got: u64,
    },
    /// The root disk does not have the measured hash.
    #[error("the root has hash {got}, the image says {expected}")]
    RootHash {
        /// Root hash in `image.toml`.
        expected: Digest,
        /// Root hash of the disk.
        got: Digest,
    },
    /// The configuration disk is refused.
    #[error(transparent)]
    Config(#[from] ConfigDiskError),
    /// The measured manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The platform does not answer as it should.
    #[error(transparent)]
    Platform(#[from] TeeError),
    /// The register was not zero before the first event.
    #[error("the runtime register is not zero at boot")]
    RegisterNotZero,
    /// The register does not hold the replay of the events.
    #[error("the runtime register is {got}; the events give {expected}")]
    RegisterMismatch {
        /// Replay of the events.
        expected: RegisterValue,
        /// What the register holds.
        got: RegisterValue,
    },
    /// The second stage was started with arguments PID 1 does not give.
    #[error("not started by PID 1")]
    Usage,
    /// The kernel refused to take something from the worker.
    #[error("the kernel refuses to {0}")]
    Sandbox(&'static str),
    /// The sandbox is in force and still lets something through.
    #[error("the sandbox does not hold: {0}")]
    SandboxOpen(&'static str),
    /// The second stage cannot be started or waited for.
    #[error("the worker cannot be started: {0}")]
    Start(ErrorKind),
    /// The worker exited with this code.
    #[error("the worker exited with {0}")]
    WorkerExit(i32),
    /// This signal ended the worker.
    #[error("signal {0} ended the worker")]
    WorkerSignal(i32),
}

impl InitError {
    /// Stable code for the console.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Mount { .. } => "E-INIT-MOUNT",
            Self::Unreadable { .. } => "E-INIT-UNREADABLE",
            Self::Unwritable { .. } => "E-INIT-UNWRITABLE",
            Self::Image(_) => "E-INIT-IMAGE",
            Self::CommandLine(error) => error.code(),
            Self::ModuleMissing { .. } => "E-INIT-MODULE-MISSING",
            Self::ModuleTooLarge { .. } => "E-INIT-MODULE-SIZE",
            Self::ModuleHash { .. } => "E-INIT-MODULE-HASH",
            Self::ModuleRefused { .. } => "E-INIT-MODULE-REFUSED",
            Self::Sysctl { .. } => "E-INIT-SYSCTL",
            Self::SysctlNotHeld { .. } => "E-INIT-SYSCTL-HELD",
            Self::NoInterface => "E-INIT-INTERFACE",
            Self::Network { .. } => "E-INIT-NETWORK",
            Self::NoDisk { .. } => "E-INIT-DISK-MISSING",
            Self::DiskTwice { .. } => "E-INIT-DISK-TWICE",
            Self::UnknownDisk => "E-INIT-DISK-UNKNOWN",
            Self::RootSize { .. } => "E-INIT-ROOT-SIZE",
            Self::RootHash { .. } => "E-INIT-ROOT-HASH",
            Self::Config(error) => error.code(),
            Self::Manifest(_) => "E-MANIFEST",
            Self::Platform(error) => error.code(),
            Self::RegisterNotZero => "E-INIT-REGISTER-USED",
            Self::RegisterMismatch { .. } => "E-INIT-REGISTER",
            Self::Usage => "E-INIT-USAGE",
            Self::Sandbox(_) => "E-INIT-SANDBOX",
            Self::SandboxOpen(_) => "E-INIT-SANDBOX-OPEN",
            Self::Start(_) => "E-INIT-START",
            Self::WorkerExit(_) => "E-INIT-WORKER-EXIT",
            Self::WorkerSignal(_) => "E-INIT-WORKER-SIGNAL",
        }
    }
}
