//! One quote for many challenges. A quote costs about a second through the stock TDX driver and
//! quotes are made one after the other, so the challenges that wait for one share the next: their
//! leaves are hashed into one root, and each peer gets the path from its own leaf to it.
//!
//! ```text
//! root(leaf)       = leaf
//! root(leaf, ..)   = SHA-256(0x01 || root(left) || root(right))        RFC 9162 §2.1.1
//! report_data      = SHA-512("chrysalis/report-data/v1" || root)
//! ```
//!
//! Nothing is lost by it. The root cannot be older than any nonce below it, so the quote is as fresh
//! for every peer as one of its own would be; a peer sees hashes of the other challenges and no
//! more. Leaves begin with 0x00 and nodes with 0x01, so neither is ever taken for the other.
//!
//! A path is the peer's word: [`InclusionPath`] holds only those that fit their place in the tree,
//! and it is the verifier's own leaf that stands at the beginning of it.

use core::fmt;

use chrysalis_wire::limits::{MAX_BATCH_LEAVES, MAX_BATCH_PATH};
use chrysalis_wire::{BatchDocument, Digest};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::binding::{Leaf, ReportData};

/// Challenges that one quote answers.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Leaves first, the root alone at the end.
    levels: Vec<Vec<[u8; 32]>>,
}

impl Batch {
    /// A batch of `leaves`, in this order.
    ///
    /// # Errors
    /// [`BatchError::Size`] for none, or more than [`MAX_BATCH_LEAVES`].
    pub fn new(leaves: &[Leaf]) -> Result<Self, BatchError> {
        match u32::try_from(leaves.len()) {
            Ok(1..=MAX_BATCH_LEAVES) => {}
            _ => return Err(BatchError::Size { got: leaves.len() }),
        }
        let mut levels = Vec::with_capacity(MAX_BATCH_PATH);
        let mut level: Vec<_> = leaves.iter().map(|leaf| leaf.0).collect();
        while level.len() > 1 {
            let above = level.chunks(2).filter_map(|pair| match pair {
                [left, right] => Some(node(left, right)),
                // The last one without a neighbour is its own subtree, one level higher.
                [alone] => Some(*alone),
                _ => None,
            });
            let above = above.collect();
            levels.push(core::mem::replace(&mut level, above));
        }
        levels.push(level);
        Ok(Self { levels })
    }

    /// What the quote has to carry.
    #[must_use]
    pub fn report_data(&self) -> ReportData {
        // There is a last level and it has one hash; the default would match no challenge.
        let root = self.levels.last().and_then(|top| top.first()).copied().unwrap_or_default();
        ReportData::of_root(&root)
    }

    /// The path of each leaf, in their order.
    pub fn paths(&self) -> impl Iterator<Item = InclusionPath> {
        let leaves = self.levels.first().map_or(0, Vec::len);
        let size = u32::try_from(leaves).unwrap_or(MAX_BATCH_LEAVES);
        (0..size).map(move |index| InclusionPath { index, size, siblings: self.siblings(index) })
    }

    fn siblings(&self, index: u32) -> Vec<[u8; 32]> {
        let beside = |(height, level): (usize, &Vec<[u8; 32]>)| {
            let at = usize::try_from((index >> height) ^ 1).ok()?;
            level.get(at).copied()
        };
        // The root has no neighbour.
        let below = self.levels.len().saturating_sub(1);
        self.levels.iter().take(below).enumerate().filter_map(beside).collect()
    }
}

/// The way from one leaf to the root, of the one length that its place in the tree allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionPath {
    index: u32,
    size: u32,
    siblings: Vec<[u8; 32]>,
}

impl InclusionPath {
    /// Reads the peer's word for where its leaf stands; nothing said means alone.
    ///
    /// # Errors
    /// [`BatchError`] for anything but a leaf of a tree of several with exactly its path.
    pub fn read(document: Option<&BatchDocument>) -> Result<Self, BatchError> {
        let Some(BatchDocument { index, size, path }) = document else {
            return Ok(Self { index: 0, size: 1, siblings: Vec::new() });
        };
        let (index, size) = (*index, *size);
        // A leaf that is alone has one spelling, which is to say nothing.
        if !(2..=MAX_BATCH_LEAVES).contains(&size) {
            return Err(BatchError::Size { got: usize::try_from(size).unwrap_or(usize::MAX) });
        }
        if index >= size {
            return Err(BatchError::Index { index, size });
        }
        let expected = steps(index, size).filter(|step| *step != Step::Rise).count();
        if path.len() != expected {
            return Err(BatchError::PathLength { expected, got: path.len() });
        }
        Ok(Self { index, size, siblings: path.iter().map(|digest| digest.0).collect() })
    }

    /// How the path stands in a document: not at all if the leaf is alone.
    #[must_use]
    pub fn to_document(&self) -> Option<BatchDocument> {
        let path = self.siblings.iter().copied().map(Digest).collect();
        (self.size > 1).then_some(BatchDocument { index: self.index, size: self.size, path })
    }

    /// What a quote carries if `leaf` stands at the beginning of this path.
    #[must_use]
    pub fn report_data(&self, leaf: &Leaf) -> ReportData {
        let mut siblings = self.siblings.iter();
        let mut hash = leaf.0;
        for step in steps(self.index, self.size) {
            hash = match step {
                Step::Rise => hash,
                // There is a sibling for each of these: the length was checked.
                Step::Left => siblings.next().map_or(hash, |right| node(&hash, right)),
                Step::Right => siblings.next().map_or(hash, |left| node(left, &hash)),
            };
        }
        ReportData::of_root(&hash)
    }
}

impl fmt::Display for InclusionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leaf {} of {}", self.index.saturating_add(1), self.size)
    }
}

/// What happens to a hash on its way up one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is the left of two.
    Left,
    /// It is the right of two.
    Right,
    /// It is the last of its level and without a neighbour.
    Rise,
}

/// The steps from a leaf to the root (RFC 9162 §2.1.3.2: `fn` and `sn` are the place of the hash
/// and of the last one of its level).
fn steps(index: u32, size: u32) -> impl Iterator<Item = Step> {
    let mut at = (index, size.saturating_sub(1));
    core::iter::from_fn(move || {
        let (place, last) = at;
        at = (place >> 1, last >> 1);
        match (place & 1, place < last) {
            _ if last == 0 => None,
            (1, _) => Some(Step::Right),
            (_, true) => Some(Step::Left),
            (_, false) => Some(Step::Rise),
        }
    })
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([NODE_TAG]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Why a batch, or a place in one, is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// Too few leaves for a tree, or too many.
    #[error("a batch of {got} challenges; at most {MAX_BATCH_LEAVES} share a quote")]
    Size {
        /// Leaves.
        got: usize,
    },
    /// A place behind the last leaf.
    #[error("leaf {index} of a batch of {size}")]
    Index {
        /// Leaves before it.
        index: u32,
        /// Leaves of the batch.
        size: u32,
    },
    /// A path that does not fit the place.
    #[error("a path of {got} hashes where the place in the batch has {expected}")]
    PathLength {
        /// Hashes there are in the path of that place.
        expected: usize,
        /// Hashes shown.
        got: usize,
    },
}

const NODE_TAG: u8 = 0x01;
