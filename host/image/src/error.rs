//! Every way this crate says no, with a stable code and what to do next.

use thiserror::Error;

use crate::binary::BinaryFault;
use crate::cpio::CpioFault;
use crate::deb::DebFault;
use crate::erofs::ErofsFault;
use crate::firmware::FirmwareFault;
use crate::store::Attempt;
use crate::verify::Fault;
use crate::verity::VerityFault;

/// Why an image could not be built, read or accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// A file over its limit.
    #[error("the {what} is {got} bytes; the limit is {max}")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Size found; one more than the limit where reading stopped there.
        got: u64,
        /// Largest size accepted.
        max: u64,
    },
    /// Not UTF-8, TOML or JSON, or a field that is missing or unknown.
    #[error("the {what} is malformed: {reason}")]
    Malformed {
        /// Which file.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A version this build does not read.
    #[error("the {what} has version {got}, which this build does not read")]
    Version {
        /// Which file.
        what: &'static str,
        /// Version found.
        got: u32,
    },
    /// A value its field may not hold.
    #[error("the {what} says {field} = {got:?}; expected {expected}")]
    Field {
        /// Which file.
        what: &'static str,
        /// Dotted field name.
        field: &'static str,
        /// Value found, shortened.
        got: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The recipe wants a module that the lock does not pin.
    #[error("the recipe wants the kernel module {name}, which the lock file does not pin")]
    NoModule {
        /// Name of the module.
        name: String,
    },
    /// The root wants a file that the lock does not pin for it.
    #[error("the root wants {path}, which the lock file does not pin with role root")]
    NoRootFile {
        /// Path in a package.
        path: String,
    },
    /// The root cannot be written.
    #[error("the root is refused: {0}")]
    Root(#[from] ErofsFault),
    /// No source has a package with the pinned hash.
    #[error("no source has the package {package} with SHA-256 {sha256}: {}", attempts(.tried))]
    NoInput {
        /// The package, as messages name it.
        package: String,
        /// The pinned hash.
        sha256: chrysalis_wire::Digest,
        /// Where it was looked for and what was there.
        tried: Vec<Attempt>,
    },
    /// A package with the pinned hash cannot be taken apart.
    #[error("the package {package} cannot be used: {fault}")]
    Deb {
        /// The package, as messages name it.
        package: String,
        /// What is wrong.
        fault: DebFault,
    },
    /// The firmware cannot be composed.
    #[error("the firmware cannot be composed: {0}")]
    Firmware(#[from] FirmwareFault),
    /// A program or kernel that would not run in the image.
    #[error("the {what} cannot go into an image: {fault}")]
    Binary {
        /// `worker`, `init` or `kernel`.
        what: &'static str,
        /// What is wrong.
        fault: BinaryFault,
    },
    /// A kernel command line outside the closed schema.
    #[error("the kernel command line is refused: {0}")]
    Cmdline(#[from] chrysalis_wire::CommandLineError),
    /// An initial file system that cannot be written or read.
    #[error("the initrd is refused: {0}")]
    Cpio(#[from] CpioFault),
    /// PID 1 would refuse its configuration.
    #[error("the image configuration is refused: {0}")]
    Config(#[from] chrysalis_wire::ImageConfigError),
    /// Reading or writing on this machine.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The path as given.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The directory to be written is there already.
    #[error("{path} exists already and is not overwritten")]
    Exists {
        /// The path as given.
        path: String,
    },
    /// An image whose parts are not what its manifest says.
    #[error("the image is refused: {0}")]
    Refused(Fault),
    /// A file system without a hash tree, or one of another tree.
    #[error("the verified file system is refused: {0}")]
    Verity(#[from] VerityFault),
    /// A command of the package client that is missing or does not work.
    #[error("the package client cannot be used: {reason}")]
    PackageClient {
        /// What it said.
        reason: String,
    },
}

impl ImageError {
    pub(crate) fn field(
        what: &'static str,
        field: &'static str,
        got: &str,
        expected: &'static str,
    ) -> Self {
        Self::Field { what, field, got: got.chars().take(SHOWN_CHARS).collect(), expected }
    }

    pub(crate) fn io(action: &'static str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Io { action, path: path.display().to_string(), reason: error.to_string() }
    }

    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-IMAGE-SIZE",
            Self::Malformed { .. } => "E-IMAGE-MALFORMED",
            Self::Version { .. } => "E-IMAGE-VERSION",
            Self::Field { .. } => "E-IMAGE-FIELD",
            Self::NoModule { .. } => "E-IMAGE-MODULE",
            Self::NoRootFile { .. } | Self::Root(_) => "E-IMAGE-ROOT",
            Self::NoInput { .. } => "E-IMAGE-INPUT",
            Self::Deb { .. } => "E-IMAGE-PACKAGE",
            Self::Firmware(_) => "E-IMAGE-FIRMWARE",
            Self::Binary { .. } => "E-IMAGE-BINARY",
            Self::Cmdline(_) => "E-IMAGE-CMDLINE",
            Self::Cpio(_) => "E-IMAGE-INITRD",
            Self::Config(_) => "E-IMAGE-CONFIG",
            Self::Io { .. } => "E-IMAGE-FILE",
            Self::Exists { .. } => "E-EXISTS",
            Self::Refused(_) => "E-IMAGE-PART",
            Self::Verity(_) => "E-IMAGE-VERITY",
            Self::PackageClient { .. } => "E-IMAGE-CLIENT",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "check that this is the file you meant",
            Self::Malformed { .. } | Self::Version { .. } | Self::Field { .. } => {
                "use the file of the release as it is, or correct the field"
            }
            Self::NoModule { .. } => {
                "pin the module in the lock file, or take it out of the recipe"
            }
            Self::NoRootFile { .. } => {
                "pin the file in the lock file with role = \"root\", or take it out of the recipe"
            }
            Self::Root(_) => "correct the paths, links and sizes of [root] in the recipe",
            Self::NoInput { .. } => {
                "put the .deb into a directory of CHRYSALIS_INPUTS, or name an archive with \
                 --snapshot URL or CHRYSALIS_SNAPSHOT; `chrysalis image lock --update` pins what the mirror has today"
            }
            Self::Deb { .. } => "the lock file names a file its package does not hold; correct it",
            Self::Firmware(_) => "pin a TDVF build and the variable store of the same flash layout",
            Self::Binary { fault, .. } => fault.next_step(),
            Self::Cmdline(_) => {
                "use the words of images/cpu.toml; the schema is `CommandLine` in enclave/wire"
            }
            Self::Cpio(_) => "build the image again; it was damaged or not written by this tool",
            Self::Config(_) => "correct the recipe; PID 1 accepts nothing else",
            Self::Io { .. } => "check the path, its permissions and the free space",
            Self::Exists { .. } => "choose another directory, or give --replace",
            Self::Refused(_) => "do not boot it; build it again from its inputs and compare",
            Self::Verity(_) => "use the file system and the tree that were made together",
            Self::PackageClient { .. } => {
                "run this on a Debian machine with apt, or put the packages into CHRYSALIS_INPUTS"
            }
        }
    }
}

/// Reads TOML of at most `max` bytes into a closed schema.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    max: usize,
) -> Result<T, ImageError> {
    let (got, limit) = (bytes.len(), max);
    if got > limit {
        return Err(ImageError::TooLarge { what, got: got as u64, max: limit as u64 });
    }
    let malformed = |reason| ImageError::Malformed { what, reason };
    let text = core::str::from_utf8(bytes).map_err(|e| malformed(format!("not UTF-8: {e}")))?;
    toml::from_str(text).map_err(|e| malformed(e.message().to_owned()))
}

fn attempts(tried: &[Attempt]) -> String {
    tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

const SHOWN_CHARS: usize = 120;
