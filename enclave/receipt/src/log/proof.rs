//! Proofs about a log, from strangers: that a receipt is in it, and that one log grew out of another.
//! The algorithms are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2, step by step.

use chrysalis_wire::Digest;
use serde::{Deserialize, Serialize};

use super::{LogError, LogHead, empty_root, leaf_hash, node_hash};
use crate::error::ReceiptError;
use crate::json;
use crate::spelling;

/// That a receipt stands at a position of a log, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    index: u64,
    size: u64,
    path: Vec<Digest>,
}

impl InclusionProof {
    /// A proof as it arrived: position counted from zero, size of the log, and the hashes beside the
    /// way from the receipt up to the root.
    ///
    /// # Errors
    /// [`LogError::Index`], [`LogError::PathTooLong`].
    pub fn new(index: u64, size: u64, path: Vec<Digest>) -> Result<Self, LogError> {
        if index >= size {
            return Err(LogError::Index { index, size });
        }
        Ok(Self { index, size, path: bounded(path)? })
    }

    /// Position of the receipt, counted from zero.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Size of the log it is about.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Verifies that the receipt with the hash `receipt` is in the log `head`.
    ///
    /// # Errors
    /// [`LogError::Size`], [`LogError::PathLength`], [`LogError::Root`].
    pub fn verify(&self, receipt: &Digest, head: &LogHead) -> Result<(), LogError> {
        same_size(head.size, self.size)?;
        let mut way = Way { at: self.index, last: self.size.saturating_sub(1) };
        let mut root = leaf_hash(&receipt.0);
        for sibling in &self.path {
            root = match way.up() {
                None => return Err(self.length()),
                Some(Side::Left) => node_hash(sibling, &root),
                Some(Side::Right) => node_hash(&root, sibling),
            };
        }
        if way.last != 0 {
            return Err(self.length());
        }
        same_root(head.root, root)
    }

    const fn length(&self) -> LogError {
        LogError::PathLength { got: self.path.len() }
    }

    /// The proof as a JSON document, schema [`INCLUSION_SCHEMA`].
    ///
    /// # Errors
    /// As [`crate::SignedReceipt::to_json`].
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        let (index, size, path) = (self.index, self.size, self.path.clone());
        json::write(&InclusionJson { schema: INCLUSION_SCHEMA.to_owned(), index, size, path })
    }

    /// Reads a proof from untrusted JSON.
    ///
    /// # Errors
    /// As [`crate::SignedReceipt::from_json`], and as [`InclusionProof::new`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let read: InclusionJson = json::read(bytes, INCLUSION_SCHEMA)?;
        Ok(Self::new(read.index, read.size, read.path)?)
    }
}

/// That a log grew out of an earlier one and nothing in that was changed, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    first: u64,
    second: u64,
    path: Vec<Digest>,
}

impl ConsistencyProof {
    /// A proof as it arrived: the two sizes, and the hashes that lead to both roots.
    ///
    /// # Errors
    /// [`LogError::Shrunk`], [`LogError::PathTooLong`].
    pub fn new(first: u64, second: u64, path: Vec<Digest>) -> Result<Self, LogError> {
        if first > second {
            return Err(LogError::Shrunk { first, second });
        }
        Ok(Self { first, second, path: bounded(path)? })
    }

    /// Size of the earlier log.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Size of the later log.
    #[must_use]
    pub const fn second(&self) -> u64 {
        self.second
    }

    /// Verifies that the log `later` begins with everything in the log `earlier`, in its order.
    ///
    /// # Errors
    /// [`LogError::Size`], [`LogError::PathLength`], [`LogError::Root`].
    pub fn verify(&self, earlier: &LogHead, later: &LogHead) -> Result<(), LogError> {
        same_size(earlier.size, self.first)?;
        same_size(later.size, self.second)?;
        // The RFC speaks of two different logs of which neither is empty.
        if self.first == self.second || self.first == 0 {
            if !self.path.is_empty() {
                return Err(self.length());
            }
            let root = if self.first == 0 { empty_root() } else { later.root };
            return same_root(earlier.root, root);
        }
        let mut hashes = self.path.iter();
        // A log whose size is a power of two is one complete subtree, and its root is at hand.
        let whole = self.first.is_power_of_two();
        let start = if whole { Some(&earlier.root) } else { hashes.next() };
        let start = *start.ok_or_else(|| self.length())?;
        let (at, last) = (self.first.saturating_sub(1), self.second.saturating_sub(1));
        let height = at.trailing_ones();
        let shifted = |n: u64| n.checked_shr(height).unwrap_or(0);
        let mut way = Way { at: shifted(at), last: shifted(last) };
        let (mut old, mut new) = (start, start);
        for hash in hashes {
            match way.up() {
                None => return Err(self.length()),
                Some(Side::Left) => {
                    old = node_hash(hash, &old);
                    new = node_hash(hash, &new);
                }
                Some(Side::Right) => new = node_hash(&new, hash),
            }
        }
        if way.last != 0 {
            return Err(self.length());
        }
        same_root(earlier.root, old)?;
        same_root(later.root, new)
    }

    const fn length(&self) -> LogError {
        LogError::PathLength { got: self.path.len() }
    }

    /// The proof as a JSON document, schema [`CONSISTENCY_SCHEMA`].
    ///
    /// # Errors
    /// As [`crate::SignedReceipt::to_json`].
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        let (first, second, path) = (self.first, self.second, self.path.clone());
        json::write(&ConsistencyJson { schema: CONSISTENCY_SCHEMA.to_owned(), first, second, path })
    }

    /// Reads a proof from untrusted JSON.
    ///
    /// # Errors
    /// As [`crate::SignedReceipt::from_json`], and as [`ConsistencyProof::new`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let read: ConsistencyJson = json::read(bytes, CONSISTENCY_SCHEMA)?;
        Ok(Self::new(read.first, read.second, read.path)?)
    }
}

/// Where a node stands on its level, and where the last node of that level stands: `fn` and `sn` of
/// the RFC.
struct Way {
    at: u64,
    last: u64,
}

/// On which side of a node its sibling stands.
enum Side {
    Left,
    Right,
}

impl Way {
    /// Goes up to where the next hash is needed, and says on which side it stands; `None` at the root.
    const fn up(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let side = if self.at & 1 == 1 || self.at == self.last {
            // The last node of a level may have no sibling for several levels.
            while self.at & 1 == 0 && self.at != 0 {
                self.step();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.step();
        Some(side)
    }

    const fn step(&mut self) {
        self.at >>= 1;
        self.last >>= 1;
    }
}

fn bounded(path: Vec<Digest>) -> Result<Vec<Digest>, LogError> {
    let got = path.len();
    if got > MAX_PATH_HASHES { Err(LogError::PathTooLong { got }) } else { Ok(path) }
}

const fn same_size(expected: u64, got: u64) -> Result<(), LogError> {
    if expected == got { Ok(()) } else { Err(LogError::Size { expected, got }) }
}

fn same_root(expected: Digest, got: Digest) -> Result<(), LogError> {
    if expected == got { Ok(()) } else { Err(LogError::Root { expected, got }) }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InclusionJson {
    schema: String,
    #[serde(with = "spelling::decimal")]
    index: u64,
    #[serde(with = "spelling::decimal")]
    size: u64,
    path: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsistencyJson {
    schema: String,
    #[serde(with = "spelling::decimal")]
    first: u64,
    #[serde(with = "spelling::decimal")]
    second: u64,
    path: Vec<Digest>,
}

/// Schema name of an inclusion proof.
pub const INCLUSION_SCHEMA: &str = "chrysalis/log-inclusion/v1";
/// Schema name of a consistency proof.
pub const CONSISTENCY_SCHEMA: &str = "chrysalis/log-consistency/v1";
/// Most hashes of a proof: a tree of 2^64 leaves is 64 high, and a consistency proof may name the
/// node it starts from.
pub const MAX_PATH_HASHES: usize = 65;
