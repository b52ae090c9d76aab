//! Why an exchange ends. The connection it ran on has to be closed, whatever the reason.

use core::time::Duration;

use chrysalis_wire::WireError;
use thiserror::Error;

use super::message::Reason;
use crate::binding::Role;
use crate::verdict::Refusal;

/// Why an exchange ends.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The TLS client presented no certificate, so there is no key it could prove anything about.
    #[error("the TLS client presented no key")]
    NoClientKey,
    /// A challenge for the other end: the peer's own, sent back, or a confused one.
    #[error("a challenge to the TLS {asked} came to the TLS {own}")]
    OtherEnd {
        /// The end the challenge names.
        asked: Role,
        /// The end it came to.
        own: Role,
    },
    /// More challenges on one connection than are answered.
    #[error("more than {limit} challenges in {window:?} on one connection")]
    TooManyChallenges {
        /// Challenges answered in a window.
        limit: usize,
        /// The window.
        window: Duration,
    },
    /// The evidence came after its deadline.
    #[error("the evidence took longer than {limit:?}")]
    Late {
        /// The deadline.
        limit: Duration,
    },
    /// The evidence does not satisfy the pins.
    #[error("the evidence is refused: {} by {}: {}", .0.code, .0.rule, .0.message())]
    Refused(Box<Refusal>),
    /// Later evidence of a connection is of something else than the evidence before.
    #[error("the {what} changed on a live connection: {expected} before, {got} now")]
    Changed {
        /// What must stay the same.
        what: &'static str,
        /// What the accepted evidence said.
        expected: String,
        /// What the new evidence says.
        got: String,
    },
    /// The peer answers that it does not.
    #[error("the peer gives no evidence: {0}")]
    NoEvidence(Reason),
    /// A message that cannot be read.
    #[error(transparent)]
    Message(#[from] WireError),
    /// A message of a kind that has no place here.
    #[error("{got} where {expected} has to come")]
    Order {
        /// What has to come.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// Evidence that is no attestation document.
    #[error("the evidence is no attestation document: {0}")]
    Document(String),
}

impl ExchangeError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoClientKey => "E-ATTEST-NO-KEY",
            Self::OtherEnd { .. } => "E-ATTEST-END",
            Self::TooManyChallenges { .. } => "E-ATTEST-RATE",
            Self::Late { .. } => "E-ATTEST-LATE",
            Self::Refused(refusal) => refusal.code,
            Self::Changed { .. } => "E-ATTEST-CHANGED",
            Self::NoEvidence(_) => "E-ATTEST-NO-EVIDENCE",
            Self::Message(_) => "E-ATTEST-MESSAGE",
            Self::Order { .. } => "E-ATTEST-ORDER",
            Self::Document(_) => "E-ATTEST-DOCUMENT",
        }
    }
}
