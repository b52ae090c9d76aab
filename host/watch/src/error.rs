//! Why a channel cannot be watched. What a chain says is no error of this crate but part of a report.

use chrysalis_ledger::LedgerError;
use chrysalis_receipt::ReceiptError;
use chrysalis_ton::TonError;
use thiserror::Error;

use crate::policy::{MAX_FEE_SHARE_PPM, MAX_SETTLE_AFTER, MIN_SETTLE_AFTER};

/// Why something is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchError {
    /// A cap or receipt that its contract would refuse.
    #[error("the claim of {channel} does not hold: {reason}")]
    Claim {
        /// The channel.
        channel: chrysalis_receipt::ChannelId,
        /// Why not.
        reason: ReceiptError,
    },
    /// A record that cannot be read. The channel is watched by its last claim nevertheless, if that was
    /// kept.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Settings that make no channel.
    #[error(transparent)]
    Ton(#[from] TonError),
    /// A share of fees that would never, or always, settle.
    #[error(
        "the largest share of fees is {got} parts in a million; it must be 1 to {MAX_FEE_SHARE_PPM}"
    )]
    FeeShare {
        /// Parts in a million.
        got: u32,
    },
    /// A time after which nothing useful, or everything, would be settled.
    #[error("settling after {got} s; it must be {MIN_SETTLE_AFTER} to {MAX_SETTLE_AFTER}")]
    SettleAfter {
        /// Seconds.
        got: u64,
    },
}

impl WatchError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Claim { reason, .. } => reason.code(),
            Self::Ledger(error) => error.code(),
            Self::Ton(error) => error.code(),
            Self::FeeShare { .. } => "E-WATCH-FEE-SHARE",
            Self::SettleAfter { .. } => "E-WATCH-SETTLE-AFTER",
        }
    }
}
