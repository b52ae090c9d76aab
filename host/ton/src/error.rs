//! Every way this crate refuses what it is given.

use chrysalis_receipt::{CellError, ReceiptError};
use chrysalis_wire::Digest;
use thiserror::Error;

use crate::boc::{MAX_BOC_BYTES, MAX_CELLS};
use crate::wallet::MAX_WALLET_MESSAGES;

/// Why something was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TonError {
    /// A field does not fit its cell.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// Terms that no meter accepts.
    #[error(transparent)]
    Terms(#[from] ReceiptError),
    /// A setting of a contract that would hurt somebody who relies on it.
    #[error("{field} is {got}; it must be {least} to {most}")]
    Setting {
        /// Which setting.
        field: &'static str,
        /// Least allowed.
        least: u128,
        /// Most allowed.
        most: u128,
        /// The value given.
        got: u128,
    },
    /// A channel whose payer is its payee.
    #[error("payer and payee are both 0:{account}; a channel is between two accounts")]
    SameParties {
        /// The account.
        account: Digest,
    },
    /// Owners that a registry must not have.
    #[error("{reason}")]
    Owners {
        /// What is wrong.
        reason: &'static str,
    },
    /// An owner's key that is weak, or no key.
    #[error("the key of owner {number} is no Ed25519 key, or one for which anybody could sign")]
    OwnerKey {
        /// The owner's number.
        number: u8,
    },
    /// The text is no address.
    #[error("not a TON address: {reason}")]
    Address {
        /// What is wrong.
        reason: &'static str,
    },
    /// The text is no amount.
    #[error("not an amount of GRAM: {reason}")]
    Amount {
        /// What is wrong.
        reason: &'static str,
    },
    /// The bag of cells is too large.
    #[error("{got} bytes; a bag of cells is read up to {MAX_BOC_BYTES}")]
    BocSize {
        /// Size found.
        got: usize,
    },
    /// The bag has too many cells.
    #[error("{got} cells; a bag is read up to {MAX_CELLS}")]
    BocCells {
        /// Cells announced.
        got: usize,
    },
    /// Not a bag of cells, or one with features that are not read.
    #[error("not a bag of cells that is read here: {reason}")]
    Boc {
        /// What is wrong.
        reason: &'static str,
    },
    /// A wallet is told to send nothing, or too much at once.
    #[error("{got} messages in one order of a wallet; it takes 1 to {MAX_WALLET_MESSAGES}")]
    WalletMessages {
        /// Messages given.
        got: usize,
    },
    /// The compiled contract in this build is not the one whose hash is pinned in it.
    #[error("the compiled contract has hash {got}, {expected} is pinned; this build is damaged")]
    Code {
        /// Pinned hash.
        expected: Digest,
        /// Hash found.
        got: Digest,
    },
}

impl TonError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Cell(error) => error.code(),
            Self::Terms(error) => error.code(),
            Self::Setting { .. } => "E-TON-SETTING",
            Self::SameParties { .. } => "E-CHANNEL-PARTIES",
            Self::Owners { .. } => "E-REGISTRY-OWNERS",
            Self::OwnerKey { .. } => "E-REGISTRY-OWNER-KEY",
            Self::Address { .. } => "E-TON-ADDRESS",
            Self::Amount { .. } => "E-TON-AMOUNT",
            Self::BocSize { .. } => "E-BOC-SIZE",
            Self::BocCells { .. } => "E-BOC-CELLS",
            Self::Boc { .. } => "E-BOC",
            Self::WalletMessages { .. } => "E-WALLET-MESSAGES",
            Self::Code { .. } => "E-TON-CODE",
        }
    }
}
