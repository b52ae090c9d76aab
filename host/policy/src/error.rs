//! Why signed pins, or what a verifier remembers of them, were refused.

use chrysalis_evidence::PinsError;
use chrysalis_wire::Digest;
use thiserror::Error;

use crate::memory::{MAX_ACTIVATION_DELAY_SECONDS, MAX_MEMORY_BYTES, MIN_ACTIVATION_DELAY_SECONDS};
use crate::signed::MAX_SIGNED_PINS_BYTES;

/// Why signed pins or a memory of them were refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Larger than [`MAX_SIGNED_PINS_BYTES`].
    #[error("signed pins are {got} bytes; the limit is {MAX_SIGNED_PINS_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not an envelope of exactly one signature over pins.
    #[error("signed pins are malformed: {reason}")]
    Form {
        /// What is wrong.
        reason: &'static str,
    },
    /// Not 32 bytes of lower-case hex, or no point of the curve.
    #[error("the key is not an Ed25519 key: 64 lower-case hexadecimal digits are expected")]
    Key,
    /// Signed by another key than the pinned one.
    #[error("the pins are signed by key {got}; key {expected} is pinned")]
    OtherKey {
        /// Id of the pinned key.
        expected: Digest,
        /// Id named in the envelope.
        got: String,
    },
    /// The signature does not hold.
    #[error("the signature does not hold: the pins were changed, or signed by another key")]
    Signature,
    /// The pins inside are refused on their own.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// Signed pins without a number cannot be told from older ones.
    #[error("signed pins need a sequence number")]
    Unnumbered,
    /// Older than what this verifier has already accepted.
    #[error("pins number {got} are older than number {have}, which this verifier has accepted")]
    Rollback {
        /// Highest number accepted.
        have: u64,
        /// Number found.
        got: u64,
    },
    /// Another file under a number that was already accepted.
    #[error("pins number {sequence} are not those this verifier has accepted under that number")]
    Fork {
        /// The number.
        sequence: u64,
    },
    /// The memory is larger than [`MAX_MEMORY_BYTES`], malformed, or holds pins in no order.
    #[error("the memory of pins cannot be used: {reason}; at most {MAX_MEMORY_BYTES} bytes")]
    Memory {
        /// What is wrong.
        reason: &'static str,
    },
    /// The memory belongs to another publisher's key.
    #[error("the memory of pins is of key {have}; pins of key {got} need one of their own")]
    MemoryOfAnotherKey {
        /// Id of the key in the memory.
        have: Digest,
        /// Id of the pinned key.
        got: Digest,
    },
    /// Nothing was adopted yet.
    #[error("no pins were adopted yet")]
    Empty,
    /// A delay under the minimum, or over the maximum.
    #[error(
        "additions must wait {MIN_ACTIVATION_DELAY_SECONDS} to {MAX_ACTIVATION_DELAY_SECONDS} \
         seconds; {got} were asked"
    )]
    Delay {
        /// Seconds asked for.
        got: u64,
    },
}

impl PolicyError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-SIGNED-SIZE",
            Self::Form { .. } => "E-SIGNED-FORM",
            Self::Key => "E-SIGNED-KEY",
            Self::OtherKey { .. } => "E-SIGNED-OTHER-KEY",
            Self::Signature => "E-SIGNED-SIGNATURE",
            Self::Pins(error) => error.code(),
            Self::Unnumbered => "E-PINS-UNNUMBERED",
            Self::Rollback { .. } => "E-PINS-ROLLBACK",
            Self::Fork { .. } => "E-PINS-FORK",
            Self::Memory { .. } => "E-PINS-MEMORY",
            Self::MemoryOfAnotherKey { .. } => "E-PINS-MEMORY-KEY",
            Self::Empty => "E-PINS-NONE",
            Self::Delay { .. } => "E-PINS-DELAY",
        }
    }

    /// Whether it is a refusal by policy, and not a file that cannot be read.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::OtherKey { .. }
                | Self::Signature
                | Self::Unnumbered
                | Self::Rollback { .. }
                | Self::Fork { .. }
                | Self::MemoryOfAnotherKey { .. }
        )
    }
}
