//! Every way a log or a proof about it is refused.

use chrysalis_wire::Digest;
use thiserror::Error;

use super::proof::MAX_PATH_HASHES;

/// Why a log or a proof about one was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// No further receipt can be counted.
    #[error("the log is full; restart the worker, which starts another one under a new key")]
    Full,
    /// A receipt outside the log.
    #[error("a log of {size} receipts has no receipt number {index}, counted from zero")]
    Index {
        /// Position asked for or proved.
        index: u64,
        /// Size of the log.
        size: u64,
    },
    /// The later log is the smaller one.
    #[error("a log of {first} receipts cannot have grown into one of {second}")]
    Shrunk {
        /// Size of the earlier log.
        first: u64,
        /// Size of the later log.
        second: u64,
    },
    /// More hashes than any proof has.
    #[error("a proof of {got} hashes; none has more than {MAX_PATH_HASHES}")]
    PathTooLong {
        /// Hashes found.
        got: usize,
    },
    /// Too few or too many hashes for the position and size.
    #[error("{got} hashes are not as many as a proof for this place in this log has")]
    PathLength {
        /// Hashes found.
        got: usize,
    },
    /// The proof is about a log of another size than the head.
    #[error("the proof is about a log of {got} receipts, the signed one has {expected}")]
    Size {
        /// Size of the signed head.
        expected: u64,
        /// Size in the proof.
        got: u64,
    },
    /// The hashes do not lead to the signed root.
    #[error(
        "the hashes lead to the root {got}, the signed one is {expected}: what is proved is not in \
         this log"
    )]
    Root {
        /// The signed root.
        expected: Digest,
        /// The root computed.
        got: Digest,
    },
    /// Hashes that do not belong to a log of this size.
    #[error("a log of {size} receipts has {expected} subtrees, {got} were given")]
    Subtrees {
        /// Size of the log.
        size: u64,
        /// Complete subtrees of such a log.
        expected: usize,
        /// Hashes given.
        got: usize,
    },
}

impl LogError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full => "E-LOG-FULL",
            Self::Index { .. } => "E-LOG-INDEX",
            Self::Shrunk { .. } => "E-LOG-SHRUNK",
            Self::PathTooLong { .. } | Self::PathLength { .. } => "E-LOG-PATH",
            Self::Size { .. } => "E-LOG-SIZE",
            Self::Root { .. } => "E-LOG-ROOT",
            Self::Subtrees { .. } => "E-LOG-SUBTREES",
        }
    }
}
