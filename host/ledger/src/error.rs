//! Every way a ledger is refused or cannot be used.

use std::io::ErrorKind;
use std::path::PathBuf;

use chrysalis_receipt::{ChannelId, ReceiptError};
use thiserror::Error;

use crate::ledger::{OLDEST_SCHEMA, SCHEMA_VERSION, Side};

/// Why a ledger was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file cannot be opened or created.
    #[error("cannot open the ledger {}: {kind}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: ErrorKind,
    },
    /// Another process writes to it.
    #[error("the ledger {} is in use by another process; stop it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file was changed by something else than a ledger.
    #[error("the ledger is damaged ({reason}); restore it from a copy, or start a new one")]
    Damaged {
        /// What does not fit.
        reason: String,
    },
    /// The record of one channel, where who reads goes on with the others.
    #[error("the ledger's record of {channel} is damaged ({reason}); restore the file from a copy")]
    DamagedChannel {
        /// The channel.
        channel: ChannelId,
        /// What does not fit.
        reason: String,
    },
    /// A database of something else.
    #[error("the file is a database, but no ledger of this program")]
    NotALedger,
    /// Written by a newer build.
    #[error("the ledger has schema {got}, this build reads {SCHEMA_VERSION}; use a newer build")]
    Newer {
        /// Version found.
        got: u32,
    },
    /// Of a version that no build ever wrote for use.
    #[error(
        "the ledger has schema {got}, this build reads {OLDEST_SCHEMA} to {SCHEMA_VERSION}; keep it, and \
         start a new one in another place"
    )]
    Older {
        /// Version found.
        got: u32,
    },
    /// The other side's.
    #[error("this is the ledger of a {got}, a {expected}'s is needed")]
    OtherSide {
        /// What it was opened as.
        expected: Side,
        /// What it says it is.
        got: Side,
    },
    /// The disk refused.
    #[error("the ledger could not be written or read: {reason}; nothing of this entry counts")]
    Storage {
        /// What the database said.
        reason: String,
    },
    /// An entry for a channel that was never opened here.
    #[error("{channel} is not in this ledger")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// A cap or a claim that does not verify.
    #[error("not recorded: {0}")]
    Refused(#[from] ReceiptError),
    /// Sums past 128 bits, which no honest counterparty brings about.
    #[error("the sums of {channel} do not fit")]
    Overflow {
        /// The channel.
        channel: ChannelId,
    },
}

impl LedgerError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "E-LEDGER-OPEN",
            Self::InUse { .. } => "E-LEDGER-IN-USE",
            Self::Damaged { .. } | Self::DamagedChannel { .. } => "E-LEDGER-DAMAGED",
            Self::NotALedger => "E-LEDGER-FOREIGN",
            Self::Newer { .. } => "E-LEDGER-NEWER",
            Self::Older { .. } => "E-LEDGER-OLDER",
            Self::OtherSide { .. } => "E-LEDGER-SIDE",
            Self::Storage { .. } => "E-LEDGER-STORAGE",
            Self::UnknownChannel { .. } => "E-LEDGER-CHANNEL",
            Self::Refused(error) => error.code(),
            Self::Overflow { .. } => "E-LEDGER-OVERFLOW",
        }
    }
}

pub(crate) fn damaged(reason: impl ToString) -> LedgerError {
    LedgerError::Damaged { reason: reason.to_string() }
}

/// Of the database's errors, damage is told apart from a disk that says no.
pub(crate) fn storage(error: impl Into<redb::Error>) -> LedgerError {
    match error.into() {
        redb::Error::Corrupted(reason) => LedgerError::Damaged { reason },
        other => LedgerError::Storage { reason: other.to_string() },
    }
}
