//! Exit codes and errors, decided here for every command. Documented in the README; scripts rely
//! on them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done, accepted |
//! | 1 | something on this machine or the network does not work |
//! | 10 | refused: evidence, a hash, a key or a policy says no |
//! | 20 | not supported by this build |
//! | 30 | malformed input |
//! | 64 | wrong usage: arguments, or a file that is not there |

use std::path::Path;
use std::process::ExitCode;

use chrysalis_client::{ClientError, ErrorClass};
use chrysalis_evidence::{CollateralError, PinsError, Refusal};
use chrysalis_image::ImageError;
use chrysalis_loader::LoaderError;
use chrysalis_loader::console::stage_name;
use chrysalis_measure::MeasureError;
use chrysalis_measure::sgx::SgxError;
use chrysalis_measure::tdx::TdxError;
use chrysalis_receipt::ReceiptError;
use chrysalis_rim::RimError;
use chrysalis_shape::ShapeError;
use chrysalis_tcb::TcbError;
use chrysalis_vault::{GgufError, VaultError};
use chrysalis_wire::{ManifestError, WireError};
use serde::Serialize;

use crate::boot::explain;

/// What kind of end a command came to, apart from success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// Something on this machine or the network does not work.
    Internal = 1,
    /// Refused.
    Refused = 10,
    /// Not supported by this build.
    Unsupported = 20,
    /// Malformed input.
    Malformed = 30,
    /// Wrong usage.
    Usage = 64,
}

impl From<Class> for ExitCode {
    fn from(class: Class) -> Self {
        Self::from(class as u8)
    }
}

/// Why a command did not succeed: everything its user is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// Decides the exit code.
    #[serde(rename = "exit", serialize_with = "number")]
    pub(crate) class: Class,
    /// Stable code.
    pub(crate) code: String,
    /// What happened.
    pub(crate) message: String,
    /// What was expected and found, where that can be said apart from the message.
    #[serde(flatten)]
    pub(crate) compared: Option<Box<Compared>>,
    /// What to do.
    pub(crate) next_step: String,
    /// Nobody is there to be told.
    #[serde(skip)]
    pub(crate) quiet: bool,
}

/// An expectation and what was there instead.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) expected: String,
    pub(crate) found: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature serde asks for
fn number<S: serde::Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*class as u8)
}

impl Failure {
    /// A failure whose next step is not known yet.
    pub(crate) fn new(class: Class, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            class,
            code: code.into(),
            message: message.into(),
            compared: None,
            next_step: "run the command again with --help".to_owned(),
            quiet: false,
        }
    }

    /// Says what to do.
    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.next_step = step.into();
        self
    }

    /// Says which file it is about.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }

    /// Says what was expected and what was found.
    pub(crate) fn compared(mut self, expected: impl ToString, found: impl ToString) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        self.compared = Some(Box::new(Compared { expected, found }));
        self
    }

    /// A file of the user's that cannot be read or written.
    pub(crate) fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        let class = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::IsADirectory => Class::Usage,
            _ => Class::Internal,
        };
        let message = format!("cannot {action} {}: {error}", path.display());
        Self::new(class, "E-FILE", message).next("check the path and its permissions")
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let class = match &error {
            VaultError::RootMismatch { .. }
            | VaultError::ManifestHash { .. }
            | VaultError::TableHash { .. }
            | VaultError::TableSeal
            | VaultError::ChunkHash(_)
            | VaultError::ChunkSeal(_)
            | VaultError::ChunkPadding(_)
            | VaultError::KeyMissing
            | VaultError::KeyUnexpected
            | VaultError::KeyWrong
            | VaultError::InputChanged { .. }
            | VaultError::PackBusy { .. } => Class::Refused,
            VaultError::UnsupportedVersion { .. } | VaultError::Gguf(GgufError::Version { .. }) => {
                Class::Unsupported
            }
            VaultError::Io { .. }
            | VaultError::NotRandom { .. }
            | VaultError::OutOfMemory { .. }
            | VaultError::Crypto { .. } => Class::Internal,
            _ => Class::Malformed,
        };
        let failure = Self::split(class, error.code(), &error.to_string());
        match error {
            VaultError::RootMismatch { expected, got }
            | VaultError::ManifestHash { expected, got }
            | VaultError::TableHash { expected, got } => failure.compared(expected, got),
            _ => failure,
        }
    }
}

impl From<LoaderError> for Failure {
    fn from(error: LoaderError) -> Self {
        let class = match &error {
            LoaderError::AlreadyRunning { .. }
            | LoaderError::PaidElsewhere { .. }
            | LoaderError::NotLoopback { .. }
            | LoaderError::InitRefused { .. }
            | LoaderError::Refused { .. } => Class::Refused,
            LoaderError::NoFile { .. }
            | LoaderError::NotExecutable { .. }
            | LoaderError::QemuUnusable { .. } => Class::Usage,
            LoaderError::NoQemu | LoaderError::Unsupported { .. } => Class::Unsupported,
            LoaderError::StateMalformed { .. } | LoaderError::Launch { .. } => Class::Malformed,
            _ => Class::Internal,
        };
        if let LoaderError::Refused { stage, code } = &error
            && let Some((cause, next)) = explain(code)
        {
            let stage = stage_name(*stage);
            let message = format!("the worker refused at boot stage {stage}: {cause}");
            return Self::new(class, code, message).next(next);
        }
        // The worker's own code is what its operator can look up.
        let code = match &error {
            LoaderError::Refused { code, .. } | LoaderError::InitRefused { code, .. } => {
                code.clone()
            }
            other => other.code().to_owned(),
        };
        Self::new(class, code, error.to_string()).next(error.next_step())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let class = match error.class() {
            ErrorClass::Refused => Class::Refused,
            ErrorClass::Malformed => Class::Malformed,
            ErrorClass::Unavailable => Class::Internal,
        };
        match error {
            ClientError::Appraisal(refusal) => (*refusal).into(),
            other => Self::new(class, other.code(), other.to_string()).next(other.next_step()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = format!("the evidence is refused by rule {}", refusal.rule);
        Self::new(Class::Refused, refusal.code, message)
            .compared(refusal.expected, refusal.found)
            .next(refusal.next_step)
    }
}

impl From<PinsError> for Failure {
    fn from(error: PinsError) -> Self {
        let (class, next) = match &error {
            PinsError::SimRefused => (Class::Refused, "add --insecure-sim, or use other pins"),
            PinsError::CertificateOnlyRefused => (Class::Refused, "use production pins"),
            PinsError::Version { .. } => (Class::Unsupported, "use pins for this release"),
            PinsError::Network { .. }
            | PinsError::Debug { .. }
            | PinsError::EnclaveField { .. }
            | PinsError::ZeroMeasurement { .. } => (Class::Refused, "correct the pins file"),
            _ => (Class::Malformed, "compare it with manifests/pins.example.toml"),
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

impl From<CollateralError> for Failure {
    fn from(error: CollateralError) -> Self {
        let next = "fetch the collateral again; for a simulated worker write it with \
                    `chrysalis-worker-sim sim collateral --out FILE`";
        let class = match &error {
            CollateralError::Schema { .. } => Class::Unsupported,
            _ => Class::Malformed,
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Self {
        let class = match &error {
            MeasureError::NotSimulated { .. } => Class::Unsupported,
            MeasureError::Name { .. } => Class::Usage,
            MeasureError::Tdx(error) if error.is_refusal() => Class::Refused,
            MeasureError::Sgx(error) if error.is_refusal() => Class::Refused,
            MeasureError::Pins(error) => return error.clone().into(),
            _ => Class::Malformed,
        };
        Self::new(class, error.code(), error.to_string()).next(error.next_step())
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let class = match &error {
            ImageError::Refused(_)
            | ImageError::Verity(_)
            | ImageError::Exists { .. }
            | ImageError::NoInput { .. } => Class::Refused,
            ImageError::Version { .. } => Class::Unsupported,
            ImageError::Io { .. } | ImageError::PackageClient { .. } => Class::Internal,
            _ => Class::Malformed,
        };
        Self::new(class, error.code(), error.to_string()).next(error.next_step())
    }
}

impl From<ShapeError> for Failure {
    fn from(error: ShapeError) -> Self {
        let class = match &error {
            ShapeError::Unknown { .. } => Class::Usage,
            ShapeError::UnsupportedVersion { .. } | ShapeError::NotCaptured { .. } => {
                Class::Unsupported
            }
            ShapeError::BlobDigest { .. }
            | ShapeError::CaptureOf { .. }
            | ShapeError::NotInCatalogue { .. } => Class::Refused,
            _ => Class::Malformed,
        };
        Self::new(class, error.code(), error.to_string()).next(error.next_step())
    }
}

impl From<TcbError> for Failure {
    fn from(error: TcbError) -> Self {
        let class = match &error {
            TcbError::Cargo { .. } | TcbError::Output { .. } | TcbError::Read { .. } => {
                Class::Internal
            }
            _ => Class::Malformed,
        };
        Self::new(class, error.code(), error.to_string()).next(error.next_step())
    }
}

impl From<RimError> for Failure {
    fn from(error: RimError) -> Self {
        let refused = (Class::Refused, "fetch the manifest again from NVIDIA; do not use this one");
        let (class, next) = match &error {
            RimError::Chain(_) if error.code() == "E-RIM-EXPIRED" => {
                (Class::Refused, "use a newer manifest, or give the time to judge it at with --at")
            }
            RimError::Chain(_) | RimError::Signature | RimError::Digest => refused,
            RimError::Content { .. } | RimError::Algorithm { .. } => {
                (Class::Unsupported, "this release reads NVIDIA's GH100, GB100 and LS10 manifests")
            }
            _ => (Class::Malformed, "check that this is a manifest of NVIDIA (SWID XML)"),
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

impl From<SgxError> for Failure {
    fn from(error: SgxError) -> Self {
        let class = if error.is_refusal() { Class::Refused } else { Class::Malformed };
        Self::new(class, error.code(), error.to_string()).next(error.next_step())
    }
}

impl From<TdxError> for Failure {
    fn from(error: TdxError) -> Self {
        MeasureError::from(error).into()
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let class = match &error {
            ManifestError::UnsupportedVersion { .. } => Class::Unsupported,
            _ => Class::Malformed,
        };
        Self::new(class, "E-WORKER-MANIFEST", error.to_string())
            .next("write a manifest with `chrysalis manifest init`")
    }
}

impl From<ReceiptError> for Failure {
    fn from(error: ReceiptError) -> Self {
        let class = match &error {
            ReceiptError::Check { .. } => Class::Refused,
            _ => Class::Malformed,
        };
        Self::new(class, error.code(), error.to_string())
            .next("use the file as it was stored; it was edited or damaged")
    }
}

impl Failure {
    /// A text that must be hex and is not.
    pub(crate) fn hex(flag: &str, error: &WireError) -> Self {
        Self::new(Class::Usage, "E-HEX", format!("{flag}: {error}"))
            .next("give lower-case hexadecimal digits, as this program prints them")
    }

    /// Messages of the vault end in `; next step`.
    fn split(class: Class, code: &str, message: &str) -> Self {
        match message.rsplit_once("; ") {
            Some((what, next)) => Self::new(class, code, what).next(next),
            None => Self::new(class, code, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_refusal_shows_the_workers_code_and_exits_10() {
        let failure = Failure::from(LoaderError::Refused {
            stage: chrysalis_wire::BootStage::Model,
            code: "E-CHUNK-HASH".to_owned(),
        });
        assert_eq!((failure.code.as_str(), failure.class), ("E-CHUNK-HASH", Class::Refused));
        assert!(failure.message.contains("boot stage model: a chunk"), "{}", failure.message);
        assert!(failure.next_step.contains("chrysalis model verify"), "{}", failure.next_step);
    }

    #[test]
    fn a_vault_message_is_split_into_what_and_next() {
        let failure = Failure::from(VaultError::KeyWrong);
        assert_eq!(failure.class, Class::Refused);
        assert!(failure.next_step.starts_with("check which key"));
        assert!(!failure.message.contains(';'));
    }

    #[test]
    fn a_future_bundle_version_is_unsupported_not_malformed() {
        let failure = Failure::from(VaultError::UnsupportedVersion { got: 9 });
        assert_eq!(failure.class, Class::Unsupported);
        let failure = Failure::from(VaultError::NotABundle { got: [0; 8] });
        assert_eq!(failure.class, Class::Malformed);
    }

    #[test]
    fn simulated_pins_without_the_flag_are_refused() {
        assert_eq!(Failure::from(PinsError::SimRefused).class, Class::Refused);
    }
}
