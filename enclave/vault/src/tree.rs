//! Hashes of the format (FORMAT §5, §6): leaves, nodes, manifest and model root, each in its own
//! BLAKE3 key-derivation context, so no value of one kind can stand for another.

use chrysalis_wire::Digest;
use zeroize::Zeroizing;

use crate::limits::CHUNK_BYTES;

/// Context of a leaf: the hash of one chunk of content.
pub const LEAF_CONTEXT: &str = "chrysalis/vault/1/leaf";
/// Context of a node: the hash of two children.
pub const NODE_CONTEXT: &str = "chrysalis/vault/1/node";
/// Context of the manifest digest.
pub const MANIFEST_CONTEXT: &str = "chrysalis/vault/1/manifest";
/// Context of the model root.
pub const ROOT_CONTEXT: &str = "chrysalis/vault/1/root";

/// The hashes of all chunks, in order. Of a sealed model they would confirm guesses chunk by chunk,
/// so they are wiped.
pub(crate) struct Leaves(Zeroizing<Vec<[u8; Digest::LEN]>>);

impl Leaves {
    /// Room for the leaves of `chunks` chunks, so that pushing them leaves no copies behind.
    pub(crate) fn with_capacity(chunks: u64) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(usize::try_from(chunks).unwrap_or(0))))
    }

    /// The leaves of a table (FORMAT §5).
    pub(crate) fn read(table: &[u8]) -> Self {
        Self(Zeroizing::new(table.as_chunks().0.to_vec()))
    }

    /// Adds the hash of the next chunk.
    pub(crate) fn push(&mut self, leaf: Digest) {
        self.0.push(leaf.0);
    }

    /// The hash of chunk `index`.
    pub(crate) fn get(&self, index: u64) -> Option<Digest> {
        usize::try_from(index).ok().and_then(|i| self.0.get(i)).copied().map(Digest)
    }

    /// The leaf table.
    pub(crate) fn table(&self) -> Vec<u8> {
        self.0.as_flattened().to_vec()
    }

    /// Root of the tree over the leaves: pairs are hashed level by level and an odd last node
    /// moves up unchanged, which is the tree of RFC 6962 §2.1. No leaves give no root.
    pub(crate) fn root(&self) -> Option<Digest> {
        let mut level = self.0.clone();
        while level.len() > 1 {
            let parents = level.chunks(2).filter_map(|pair| match pair {
                [left, right] => Some(hash(NODE_CONTEXT, &[left, right]).0),
                [odd] => Some(*odd),
                _ => None,
            });
            level = Zeroizing::new(parents.collect());
        }
        level.first().copied().map(Digest)
    }
}

/// Hash of one chunk.
pub(crate) fn leaf(chunk: &[u8]) -> Digest {
    hash(LEAF_CONTEXT, &[chunk])
}

/// Digest of canonical manifest bytes.
pub(crate) fn manifest_digest(bytes: &[u8]) -> Digest {
    hash(MANIFEST_CONTEXT, &[bytes])
}

/// The model root: what receipts, policies and worker manifests name.
pub(crate) fn model_root(manifest: &Digest, tree: &Digest, total: u64) -> Digest {
    let chunk_bytes = (CHUNK_BYTES as u64).to_be_bytes();
    hash(ROOT_CONTEXT, &[&manifest.0, &tree.0, &total.to_be_bytes(), &chunk_bytes])
}

fn hash(context: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u8) -> Vec<Digest> {
        (0..n).map(|i| leaf(&[i])).collect()
    }

    fn node(l: Digest, r: Digest) -> Digest {
        hash(NODE_CONTEXT, &[&l.0, &r.0])
    }

    fn tree_root(leaves: &[Digest]) -> Option<Digest> {
        let table: Vec<u8> = leaves.iter().flat_map(|l| l.0).collect();
        let leaves = Leaves::read(&table);
        assert_eq!(leaves.table(), table);
        leaves.root()
    }

    #[test]
    fn odd_nodes_move_up_unchanged() {
        let l = leaves(5);
        let left = node(node(l[0], l[1]), node(l[2], l[3]));
        assert_eq!(tree_root(&l), Some(node(left, l[4])));
        assert_eq!(tree_root(&l[..1]), Some(l[0]));
        assert_eq!(tree_root(&[]), None);
    }

    #[test]
    fn a_node_never_equals_the_leaf_of_the_same_bytes() {
        let l = leaves(2);
        let bytes = [l[0].0, l[1].0].concat();
        assert_ne!(tree_root(&l), Some(leaf(&bytes)));
    }

    #[test]
    fn every_part_of_the_model_root_counts() {
        let (a, b) = (leaf(b"a"), leaf(b"b"));
        let root = model_root(&a, &b, 1);
        assert_ne!(root, model_root(&b, &a, 1));
        assert_ne!(root, model_root(&a, &b, 2));
    }
}
