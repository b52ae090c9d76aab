//! Every way in which a chain is not to be had, or a claim about it is refused.

use std::io;
use std::time::Duration;

use chrysalis_receipt::CellError;
use chrysalis_ton::TonError;
use chrysalis_wire::Digest;
use thiserror::Error;

use crate::limits::MAX_SHOWN_CHARS;

/// Why there is no answer, or none that is believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessError {
    /// No connection.
    #[error("the chain server cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// A step took too long.
    #[error("the chain server did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection ended early, or what came is no HTTP.
    #[error("the chain server's answer was cut")]
    Broken,
    /// TLS was refused.
    #[error("no TLS connection to the chain server: {0}")]
    Tls(String),
    /// There is nothing to judge the server's certificate by.
    #[error("there are no authorities to judge the chain server's certificate by")]
    NoTlsRoots,
    /// The answer is too large.
    #[error("the chain server's answer is over {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The server sends elsewhere.
    #[error("the chain server redirects (status {got}); give the address that it redirects to")]
    Redirect {
        /// HTTP status.
        got: u16,
    },
    /// The server, or whoever pays for it, says that it is too much.
    #[error("the chain server wants fewer requests; wait, or use an API key")]
    RateLimited,
    /// The server says no.
    #[error("the chain server refused (status {status}): {message}")]
    Refused {
        /// HTTP status, or the code in the answer.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The contract is said not to accept the message. Nothing was charged.
    #[error("the contract did not accept the message{}", code_text(.exit_code))]
    NotAccepted {
        /// Its exit code, if the server passed it on.
        exit_code: Option<i32>,
    },
    /// There is no contract at the account.
    #[error("there is no contract at 0:{account}")]
    NoContract {
        /// Account id.
        account: Digest,
    },
    /// A get-method threw.
    #[error("the contract's method {method} ended with exit code {exit_code}")]
    Threw {
        /// Name of the method.
        method: String,
        /// Exit code.
        exit_code: i32,
    },
    /// The answer is not what was asked for.
    #[error("the chain server's answer is not {expected}: {detail}")]
    Malformed {
        /// What was expected.
        expected: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The answer is about another account.
    #[error("the chain server answered about 0:{got} when asked about 0:{expected}")]
    OtherAccount {
        /// Asked for.
        expected: Digest,
        /// Answered.
        got: Digest,
    },
    /// The answer is old.
    #[error("the chain server shows a state {age} s old; at most {most} s are accepted")]
    Stale {
        /// Its age, seconds.
        age: u64,
        /// Most accepted, seconds.
        most: u64,
    },
    /// A cell that was sent or shown is none.
    #[error(transparent)]
    Ton(#[from] TonError),
}

impl AccessError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "E-CHAIN-UNREACHABLE",
            Self::TimedOut(_) => "E-CHAIN-TIMEOUT",
            Self::Broken => "E-CHAIN-BROKEN",
            Self::Tls(_) => "E-CHAIN-TLS",
            Self::NoTlsRoots => "E-CHAIN-NO-AUTHORITIES",
            Self::TooLarge { .. } => "E-CHAIN-TOO-LARGE",
            Self::Redirect { .. } => "E-CHAIN-REDIRECT",
            Self::RateLimited => "E-CHAIN-RATE-LIMIT",
            Self::Refused { .. } => "E-CHAIN-REFUSED",
            Self::NotAccepted { .. } => "E-CHAIN-NOT-ACCEPTED",
            Self::NoContract { .. } => "E-CHAIN-NO-CONTRACT",
            Self::Threw { .. } => "E-CHAIN-THREW",
            Self::Malformed { .. } => "E-CHAIN-ANSWER",
            Self::OtherAccount { .. } => "E-CHAIN-OTHER-ACCOUNT",
            Self::Stale { .. } => "E-CHAIN-STALE",
            Self::Ton(error) => error.code(),
        }
    }

    /// Whether the same question may have an answer in a moment.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Broken | Self::RateLimited => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    pub(crate) fn malformed(expected: &'static str, detail: impl ToString) -> Self {
        Self::Malformed { expected, detail: shown(&detail.to_string()) }
    }
}

impl From<CellError> for AccessError {
    fn from(error: CellError) -> Self {
        Self::Ton(error.into())
    }
}

/// The beginning of a stranger's text.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

fn code_text(exit_code: &Option<i32>) -> String {
    exit_code.as_ref().map(|code| format!(" (exit code {code})")).unwrap_or_default()
}
