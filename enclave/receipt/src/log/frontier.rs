//! What a meter keeps of its log: the roots of its complete subtrees. They are no secret; kept by
//! somebody else, they are a stranger's until they match a head that the meter signed.

use chrysalis_wire::Digest;

use super::{LogError, LogHead, empty_root, leaf_hash, node_hash};

/// A log that can grow: at most 64 hashes, one for every bit set in its size, largest subtree first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Digest>,
}

impl Frontier {
    /// An empty log.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, subtrees: Vec::new() }
    }

    /// The log whose head is `head`, from its subtrees as somebody kept them. The root binds every
    /// one of them, so nobody can make the log go on from another history.
    ///
    /// # Errors
    /// [`LogError::Subtrees`] or [`LogError::Root`] if they are not those of this log.
    pub fn resume(head: &LogHead, subtrees: &[Digest]) -> Result<Self, LogError> {
        let (expected, got) = (head.size.count_ones() as usize, subtrees.len());
        if expected != got {
            return Err(LogError::Subtrees { size: head.size, expected, got });
        }
        let resumed = Self { size: head.size, subtrees: subtrees.to_vec() };
        let root = resumed.head().root;
        if root != head.root {
            return Err(LogError::Root { expected: head.root, got: root });
        }
        Ok(resumed)
    }

    /// Adds the receipt with this hash, and returns its position: how many came before it.
    ///
    /// # Errors
    /// [`LogError::Full`] after 2^64 - 1 receipts, the most a state can count.
    pub fn append(&mut self, receipt: &Digest) -> Result<u64, LogError> {
        let index = self.size;
        let size = index.checked_add(1).ok_or(LogError::Full)?;
        let mut node = leaf_hash(&receipt.0);
        // As many subtrees are completed as the size ends in ones, the smallest first.
        for _ in 0..index.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.subtrees.push(node);
        self.size = size;
        Ok(index)
    }

    /// Its size and root.
    #[must_use]
    pub fn head(&self) -> LogHead {
        let mut smallest_first = self.subtrees.iter().rev();
        let root = smallest_first
            .next()
            .map_or_else(empty_root, |last| smallest_first.fold(*last, |r, l| node_hash(l, &r)));
        LogHead { size: self.size, root }
    }

    /// The roots of its complete subtrees, largest first, for [`Frontier::resume`].
    #[must_use]
    pub fn subtrees(&self) -> &[Digest] {
        &self.subtrees
    }
}
