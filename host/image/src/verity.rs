//! The hash tree of dm-verity: binds a read-only file system, block by block, to one root hash
//! that the kernel checks on every read. The writer is ours, so that an image needs no tool to be
//! rebuilt; a test compares it with `veritysetup`.
//!
//! Format (Linux `Documentation/admin-guide/device-mapper/verity.rst`, hash type 1): SHA-256 of
//! each block of 4096 bytes without salt, 128 hashes to a hash block padded with zeros, level upon
//! level until one block is left; its hash is the root. The levels are stored from the top, after
//! one block with the superblock.

use chrysalis_wire::Digest;
use thiserror::Error;

use crate::bytes::sha256;

/// A hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The root hash.
    pub root: Digest,
    /// Blocks of data it covers.
    pub data_blocks: u64,
    /// Superblock and levels: what follows the data, or is a file of its own.
    pub bytes: Vec<u8>,
}

/// Why no tree can be built, or data does not belong to one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VerityFault {
    /// Not whole blocks, none, or more than [`MAX_DATA_BYTES`].
    #[error("the data is {got} bytes; expected whole blocks of 4096 up to {MAX_DATA_BYTES}")]
    Size {
        /// Size found.
        got: u64,
    },
    /// Data and tree together do not have the root hash.
    #[error("the root hash is {got}, expected {expected}")]
    Root {
        /// The hash asked for.
        expected: Digest,
        /// The hash of the tree.
        got: Digest,
    },
    /// A block of data that the tree does not cover.
    #[error("data block {block} is not the one the tree covers")]
    Data {
        /// Index of the block.
        block: u64,
    },
    /// A byte of the superblock or of a level that another tree would have.
    #[error("the hash tree differs at byte {offset}")]
    Tree {
        /// Offset in the tree.
        offset: usize,
    },
}

/// Builds the tree over `data`.
///
/// # Errors
/// [`VerityFault::Size`].
pub fn build(data: &[u8]) -> Result<Tree, VerityFault> {
    let got = data.len() as u64;
    if got == 0 || got > MAX_DATA_BYTES || !data.len().is_multiple_of(BLOCK_BYTES) {
        return Err(VerityFault::Size { got });
    }
    let data_blocks = data.len().div_ceil(BLOCK_BYTES) as u64;
    let mut levels: Vec<Vec<u8>> = Vec::new();
    let mut below = data;
    // One block is its own top: its hash is the root.
    while below.len() > BLOCK_BYTES {
        levels.push(level(below));
        below = levels.last().map(Vec::as_slice).unwrap_or_default();
    }
    let root = sha256(below);
    let mut bytes = superblock(root, data_blocks);
    for level in levels.iter().rev() {
        bytes.extend_from_slice(level);
    }
    Ok(Tree { root, data_blocks, bytes })
}

/// Checks that `data` with `tree` behind it is what `root` names.
///
/// # Errors
/// [`VerityFault`], naming the block or the byte.
pub fn check(data: &[u8], tree: &[u8], root: Digest) -> Result<Tree, VerityFault> {
    let built = build(data)?;
    if built.root != root {
        // The lowest level is the last: it says which block was changed.
        let stored = |tree: &[u8], block: usize| {
            let lowest = built.bytes.len().saturating_sub(lowest_level_bytes(data.len()));
            let at = block.checked_mul(Digest::LEN)?.checked_add(lowest)?;
            tree.get(at..at.checked_add(Digest::LEN)?).map(<[u8]>::to_vec)
        };
        let blocks = 0..data.len().div_ceil(BLOCK_BYTES);
        let differs = |block: &usize| stored(tree, *block) != stored(&built.bytes, *block);
        return Err(match blocks.filter(|_| data.len() > BLOCK_BYTES).find(differs) {
            Some(block) => VerityFault::Data { block: block as u64 },
            None => VerityFault::Root { expected: root, got: built.root },
        });
    }
    match crate::bytes::first_difference(tree, &built.bytes) {
        None => Ok(built),
        Some(offset) => Err(VerityFault::Tree { offset }),
    }
}

fn level(below: &[u8]) -> Vec<u8> {
    let hashes = below.chunks(BLOCK_BYTES).flat_map(|block| sha256(block).0);
    let mut level: Vec<u8> = hashes.collect();
    level.resize(level.len().next_multiple_of(BLOCK_BYTES), 0);
    level
}

const fn lowest_level_bytes(data: usize) -> usize {
    data.div_ceil(BLOCK_BYTES).saturating_mul(Digest::LEN).next_multiple_of(BLOCK_BYTES)
}

/// The on-disk superblock, version 1. The kernel does not read it and the root hash does not cover
/// it; the UUID is taken from the root hash, so that it says nothing new.
fn superblock(root: Digest, data_blocks: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(b"verity\0\0");
    block.extend_from_slice(&1u32.to_le_bytes());
    block.extend_from_slice(&1u32.to_le_bytes());
    block.extend_from_slice(&uuid(root));
    block.extend_from_slice(b"sha256");
    block.resize(ALGORITHM_END, 0);
    block.extend_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
    block.extend_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
    block.extend_from_slice(&data_blocks.to_le_bytes());
    // No salt, and the rest of the block.
    block.resize(BLOCK_BYTES, 0);
    block
}

/// A UUID of version 8 (RFC 9562, 5.8) from the first half of the root hash.
#[must_use]
pub fn uuid(root: Digest) -> [u8; 16] {
    let mut uuid = [0u8; 16];
    for (to, from) in uuid.iter_mut().zip(root.0) {
        *to = from;
    }
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = (*version & 0x0f) | 0x80;
    *variant = (*variant & 0x3f) | 0x80;
    uuid
}

/// Largest file system a tree is built over, in bytes.
pub const MAX_DATA_BYTES: u64 = 4 << 30;

/// Size of data and hash blocks, in bytes.
pub const BLOCK_BYTES: usize = 4096;

const ALGORITHM_END: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK_BYTES).map(|i| (i / 7) as u8 ^ (i / BLOCK_BYTES) as u8).collect()
    }

    #[test]
    fn one_block_is_its_own_root() {
        let tree = build(&data(1)).unwrap();
        assert_eq!(tree.root, sha256(&data(1)));
        assert_eq!(tree.bytes.len(), BLOCK_BYTES);
    }

    #[test]
    fn levels_grow_at_128_blocks_and_are_stored_from_the_top() {
        for (blocks, hash_blocks) in [(2, 1), (128, 1), (129, 3), (300, 4)] {
            let tree = build(&data(blocks)).unwrap();
            assert_eq!(tree.bytes.len(), (1 + hash_blocks) * BLOCK_BYTES, "{blocks} blocks");
            assert_eq!(tree.root, sha256(&tree.bytes[BLOCK_BYTES..2 * BLOCK_BYTES]));
        }
    }

    #[test]
    fn refuses_sizes_that_are_not_whole_blocks() {
        for got in [0, 1, 4095, 4097] {
            let refused = build(&vec![0; got]);
            assert_eq!(refused, Err(VerityFault::Size { got: got as u64 }));
        }
    }

    #[test]
    fn a_flipped_byte_of_data_names_its_block() {
        let good = data(200);
        let tree = build(&good).unwrap();
        assert!(check(&good, &tree.bytes, tree.root).is_ok());
        for block in [0, 1, 127, 128, 199] {
            let mut bad = good.clone();
            bad[block * BLOCK_BYTES + 17] ^= 1;
            let refused = check(&bad, &tree.bytes, tree.root);
            assert_eq!(refused, Err(VerityFault::Data { block: block as u64 }));
        }
    }

    #[test]
    fn a_flipped_byte_of_the_tree_is_refused_where_it_is() {
        let good = data(130);
        let tree = build(&good).unwrap();
        for offset in (0..tree.bytes.len()).step_by(97) {
            let mut bad = tree.bytes.clone();
            bad[offset] ^= 0x80;
            let refused = check(&good, &bad, tree.root);
            assert_eq!(refused, Err(VerityFault::Tree { offset }));
        }
        let other = check(&good, &tree.bytes, Digest([1; 32]));
        assert!(matches!(other, Err(VerityFault::Root { .. })));
    }

    #[test]
    fn veritysetup_builds_the_same_tree() {
        let dir = tempfile::tempdir().unwrap();
        let tool = ["/usr/sbin/veritysetup", "/sbin/veritysetup"]
            .into_iter()
            .find(|p| std::path::Path::new(p).exists());
        let Some(tool) = tool else {
            eprintln!("skipped: veritysetup is missing (Debian package cryptsetup-bin)");
            return;
        };
        for blocks in [2usize, 128, 129, 1000, 128 * 128 + 1] {
            let (file, hashes) = (dir.path().join("data"), dir.path().join("hashes"));
            std::fs::write(&file, data(blocks)).unwrap();
            let tree = build(&data(blocks)).unwrap();
            let hex: String = uuid(tree.root).iter().map(|b| format!("{b:02x}")).collect();
            let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            let output = std::process::Command::new(tool)
                .args(["format", "--salt=-", &format!("--uuid={id}")])
                .args([&file, &hashes])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(text.contains(&tree.root.to_string()), "{blocks} blocks: {text}");
            assert!(std::fs::read(&hashes).unwrap() == tree.bytes, "{blocks} blocks: other bytes");
            std::fs::remove_file(&hashes).unwrap();
        }
    }
}
