//! Why a worker does not start. Codes go to the console; messages carry no secret and no
//! request data, because none exists before [`chrysalis_wire::BootStage::Ready`].

use chrysalis_engine::EngineError;
use chrysalis_tee::TeeError;
use chrysalis_vault::VaultError;
use chrysalis_wire::{Digest, ManifestError, RegisterValue};
use thiserror::Error;

/// Why a worker does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The arguments are wrong.
    #[error("{0}; usage: --manifest FILE --bundle FILE --collateral FILE --listen 127.0.0.1:PORT")]
    Usage(&'static str),
    /// An environment variable is set.
    #[error("the environment is not empty; start the worker through `chrysalis up`, or `env -i`")]
    Environment,
    /// The kernel refused a hardening step.
    #[error("the kernel refused to {0}")]
    Hardening(&'static str),
    /// A file of the host cannot be read.
    #[error("cannot read the {what}: {kind}")]
    Unreadable {
        /// Which file.
        what: &'static str,
        /// The system's reason.
        kind: std::io::ErrorKind,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The platform does not answer as it should.
    #[error(transparent)]
    Platform(#[from] TeeError),
    /// PID 1 left other events in the register than this worker's.
    #[error("the runtime register is {got}; the events of this manifest give {expected}")]
    NotMeasured {
        /// Replay of this worker's events.
        expected: RegisterValue,
        /// What the register holds.
        got: RegisterValue,
    },
    /// The manifest names a network this platform may not serve.
    #[error("a simulated platform serves only network INSECURE-SIM, a real one never does")]
    Network,
    /// The model bundle is refused.
    #[error(transparent)]
    Model(#[from] VaultError),
    /// The bundle verified, but holds no model.
    #[error("the bundle holds no .gguf file, and {name} of a checkpoint is missing")]
    NoModelFile {
        /// The first file that is missing.
        name: String,
    },
    /// The engine refuses the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Keys or the TLS certificate cannot be made.
    #[error("cannot make {0}")]
    Keys(&'static str),
    /// The socket cannot be bound.
    #[error("cannot listen: {0}")]
    Listen(std::io::ErrorKind),
    /// The worker's own evidence does not pass its own appraisal.
    #[error("self-appraisal refused: {code}: {message}")]
    SelfAppraisal {
        /// Code of the rule that refused.
        code: String,
        /// What that rule expected and found.
        message: String,
    },
    /// Manifest and arguments do not agree about the clients that are served.
    #[error("{0}; give --peer-pins with the pins that the manifest names, and only then")]
    PeerPins(&'static str),
    /// Other pins of clients than the manifest names.
    #[error("the pins of clients have SHA-256 {got}; the manifest names {expected}")]
    PeerPinsDigest {
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of the file.
        got: Digest,
    },
    /// Other devices than the manifest names.
    #[error("the manifest names {expected}; there are {got}")]
    Devices {
        /// What the manifest names.
        expected: String,
        /// What there is.
        got: String,
    },
    /// A file that what it is for refuses.
    #[error("{code}: {message}")]
    Refused {
        /// Its code.
        code: &'static str,
        /// Its message.
        message: String,
    },
    /// The manifest asks to be paid in a way this build does not know.
    #[error("the manifest's [payment] cannot be served: {0}")]
    Payment(#[source] chrysalis_receipt::ReceiptError),
    /// A part of the worker stopped.
    #[error("the {0} stopped")]
    Stopped(&'static str),
}

impl WorkerError {
    /// Stable code for the console.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::Usage(_) => "E-USAGE".into(),
            Self::Environment => "E-ENVIRONMENT".into(),
            Self::Hardening(_) => "E-HARDENING".into(),
            Self::Unreadable { .. } => "E-UNREADABLE".into(),
            Self::Manifest(_) => "E-MANIFEST".into(),
            Self::Platform(error) => error.code().into(),
            Self::NotMeasured { .. } => "E-NOT-MEASURED".into(),
            Self::Network => "E-NETWORK".into(),
            Self::Model(error) => error.code().into(),
            Self::NoModelFile { .. } => "E-NO-MODEL".into(),
            Self::Engine(error) => error.code().into(),
            Self::Keys(_) => "E-KEYS".into(),
            Self::Listen(_) => "E-LISTEN".into(),
            Self::SelfAppraisal { code, .. } => code.clone(),
            Self::PeerPins(_) => "E-PEER-PINS".into(),
            Self::PeerPinsDigest { .. } => "E-PEER-PINS-DIGEST".into(),
            Self::Devices { .. } => "E-DEVICES".into(),
            Self::Refused { code, .. } => (*code).into(),
            Self::Payment(error) => error.code().into(),
            Self::Stopped(_) => "E-STOPPED".into(),
        }
    }
}
