//! Makes proofs from receipts that were kept, outside the enclave. It holds the whole tree for one
//! proof: twice the memory of the hashes it is given, and one hash computed for each node.

use chrysalis_wire::Digest;

use super::{
    ConsistencyProof, InclusionProof, LogError, LogHead, empty_root, leaf_hash, node_hash,
};

/// The head of the log of these receipts, by their hashes in order.
#[must_use]
pub fn head_of(receipts: &[Digest]) -> LogHead {
    let root = levels(receipts).last().and_then(|top| top.first().copied());
    LogHead { size: size(receipts), root: root.unwrap_or_else(empty_root) }
}

/// Proves that receipt number `index`, counted from zero, is in the log of these receipts.
///
/// # Errors
/// [`LogError::Index`] if there is no such receipt.
pub fn prove_inclusion(receipts: &[Digest], index: u64) -> Result<InclusionProof, LogError> {
    let size = size(receipts);
    if index >= size {
        return Err(LogError::Index { index, size });
    }
    let mut path = Vec::new();
    siblings(&levels(receipts), index, &mut path);
    InclusionProof::new(index, size, path)
}

/// Proves that the log of these receipts grew out of the log of the first `first` of them.
///
/// # Errors
/// [`LogError::Shrunk`] if there are not so many.
pub fn prove_consistency(receipts: &[Digest], first: u64) -> Result<ConsistencyProof, LogError> {
    let second = size(receipts);
    if first > second {
        return Err(LogError::Shrunk { first, second });
    }
    let mut path = Vec::new();
    if first != 0 && first != second {
        // The smallest complete subtree of the earlier log, and whatever stands beside its way up.
        let height = first.trailing_zeros();
        let at = first.checked_shr(height).unwrap_or(0).saturating_sub(1);
        let levels = levels(receipts);
        let above = levels.get(height as usize..).unwrap_or_default();
        // Where it is the whole of the earlier log, the verifier has its root already.
        if at != 0 {
            path.extend(above.first().and_then(|level| get(level, at)));
        }
        siblings(above, at, &mut path);
    }
    ConsistencyProof::new(first, second, path)
}

/// The tree, leaves first. A node without a right neighbour stands on the next level as it is, so
/// that every node is the root of a whole subtree or of the ragged right edge.
fn levels(receipts: &[Digest]) -> Vec<Vec<Digest>> {
    let mut level: Vec<Digest> = receipts.iter().map(|receipt| leaf_hash(&receipt.0)).collect();
    let mut levels = Vec::new();
    while level.len() > 1 {
        let pairs = level.chunks(2);
        let above = pairs.filter_map(|pair| match pair {
            [left, right] => Some(node_hash(left, right)),
            [alone] => Some(*alone),
            _ => None,
        });
        let above = above.collect();
        levels.push(core::mem::replace(&mut level, above));
    }
    levels.push(level);
    levels
}

/// What stands beside node `at` of the lowest of `levels` and beside every node above it.
fn siblings(levels: &[Vec<Digest>], mut at: u64, path: &mut Vec<Digest>) {
    for level in levels {
        path.extend(get(level, at ^ 1));
        at >>= 1;
    }
}

fn get(level: &[Digest], at: u64) -> Option<Digest> {
    level.get(usize::try_from(at).ok()?).copied()
}

fn size(receipts: &[Digest]) -> u64 {
    u64::try_from(receipts.len()).unwrap_or(u64::MAX)
}
