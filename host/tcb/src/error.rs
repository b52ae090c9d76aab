//! Why what must be trusted cannot be counted.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why what must be trusted cannot be counted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TcbError {
    /// Cargo did not start or did not succeed.
    #[error("cargo {command} did not succeed: {reason}")]
    Cargo {
        /// The subcommand.
        command: &'static str,
        /// Its last words.
        reason: String,
    },
    /// Cargo said something this version does not understand.
    #[error("cargo {command} printed what cannot be read: {what}")]
    Output {
        /// The subcommand.
        command: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file of ours that is not Rust.
    #[error("{path} is not Rust: {reason}")]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The budget is malformed.
    #[error("the budget cannot be used: {0}")]
    Budget(String),
}

impl TcbError {
    pub(crate) fn read(path: &Path, error: &io::Error) -> Self {
        Self::Read { path: path.to_owned(), reason: error.to_string() }
    }

    /// Stable code of the error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Cargo { .. } => "E-TCB-CARGO",
            Self::Output { .. } => "E-TCB-OUTPUT",
            Self::Read { .. } => "E-FILE",
            Self::Source { .. } => "E-TCB-SOURCE",
            Self::Budget(_) => "E-TCB-BUDGET",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Cargo { .. } | Self::Output { .. } => {
                "run it in the source tree, with Rust installed and after one `cargo fetch --locked`"
            }
            Self::Read { .. } => "check the path and its permissions",
            Self::Source { .. } => "correct the file",
            Self::Budget(_) => "compare it with manifests/tcb-budget.toml",
        }
    }
}
