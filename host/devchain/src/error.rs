//! Why the chain did not take a message. Contracts that refuse an internal message are no error
//! here: they are transactions with an exit code.

use chrysalis_wire::Digest;
use thiserror::Error;

use crate::chain::MAX_TRANSACTIONS;

/// Why a message was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainError {
    /// A contract refused an external message before it accepted to pay for it. Nothing happened.
    #[error("the contract refused the message with exit code {exit_code}; nothing was charged")]
    NotAccepted {
        /// Exit code of the contract.
        exit_code: i32,
    },
    /// There is nothing at the address of an external message.
    #[error("no contract at 0:{account}; deploy it first")]
    NoContract {
        /// Account id.
        account: Digest,
    },
    /// Bytes that are no bag of cells, or not of what was expected.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What the parser said.
        detail: String,
    },
    /// Only accounts without code are wallets here.
    #[error("0:{account} has code, so only its code can send from it")]
    NotAWallet {
        /// Account id.
        account: Digest,
    },
    /// A wallet sent more than it has.
    #[error("0:{account} has {balance} nanogram and sent {value}; use the faucet")]
    Balance {
        /// Account id.
        account: Digest,
        /// What it has.
        balance: u128,
        /// What it sent.
        value: u128,
    },
    /// Contracts that keep sending each other messages.
    #[error(
        "still running after {MAX_TRANSACTIONS} transactions; contracts answer each other forever"
    )]
    NotQuiescent,
    /// An amount that the chain cannot count.
    #[error("an amount does not fit in Coins")]
    Overflow,
    /// More coins than the faucet gives at once, or none.
    #[error("the faucet gives 1 to {most} nanogram at once, not {asked}")]
    Faucet {
        /// Most it gives.
        most: u128,
        /// What was asked for.
        asked: u128,
    },
    /// A stored state that is not one, or of another network.
    #[error("the stored state is refused: {detail}; move it away to begin with an empty chain")]
    Snapshot {
        /// What is wrong.
        detail: String,
    },
    /// The state cannot be read or written.
    #[error("cannot {action} the stored state: {kind}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// Another process has the stored state.
    #[error("another devchain is using this state; stop it, or give another --state")]
    InUse,
    /// The address to listen on can be reached by others.
    #[error("{0} can be reached from other machines, and anybody who reaches a dev chain rules it")]
    NotLoopback(std::net::SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {kind}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The executor itself refused.
    #[error("the executor refused: {0}")]
    Executor(String),
}

impl ChainError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAccepted { .. } => "E-CHAIN-NOT-ACCEPTED",
            Self::NoContract { .. } => "E-CHAIN-NO-CONTRACT",
            Self::Malformed { .. } => "E-CHAIN-MALFORMED",
            Self::NotAWallet { .. } => "E-CHAIN-NOT-A-WALLET",
            Self::Balance { .. } => "E-CHAIN-BALANCE",
            Self::NotQuiescent => "E-CHAIN-NOT-QUIESCENT",
            Self::Overflow => "E-CHAIN-OVERFLOW",
            Self::Faucet { .. } => "E-CHAIN-FAUCET",
            Self::Snapshot { .. } => "E-CHAIN-STATE",
            Self::Store { .. } => "E-CHAIN-STORE",
            Self::InUse => "E-CHAIN-IN-USE",
            Self::NotLoopback(_) => "E-CHAIN-NOT-LOOPBACK",
            Self::Listen { .. } => "E-LISTEN",
            Self::Executor(_) => "E-CHAIN-EXECUTOR",
        }
    }

    pub(crate) fn malformed(what: &'static str, detail: impl ToString) -> Self {
        Self::Malformed { what, detail: detail.to_string() }
    }

    pub(crate) fn executor(detail: impl ToString) -> Self {
        Self::Executor(detail.to_string())
    }
}
