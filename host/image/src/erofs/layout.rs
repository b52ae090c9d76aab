//! Where everything is in the one spelling of a file system, and its bytes.
//!
//! ```text
//! 0        zeros (a boot loader's place)
//! 1024     superblock, 128 bytes
//! 1152     inodes, 32 bytes each: the root, then every entry by path
//! block    content of the root, then of every entry by path, each from a block of its own
//! ```
//!
//! The number of an inode is its offset divided by 32; the content of a directory is its names.

use std::collections::BTreeMap;

use super::{Entry, ErofsFault, MAX_FS_BYTES, Node, ROOT_MODE};

/// An inode and what is stored for it.
struct Item<'a> {
    mode: u16,
    links: u16,
    content: std::borrow::Cow<'a, [u8]>,
}

pub(super) fn write(entries: &BTreeMap<String, Entry>) -> Result<Vec<u8>, ErofsFault> {
    let items = items(entries);
    let inodes_end = inode_offset(items.len());
    let mut needed = blocks(inodes_end).saturating_mul(BLOCK_BYTES as u64);
    for item in &items {
        let content = blocks(item.content.len() as u64).saturating_mul(BLOCK_BYTES as u64);
        needed = needed.saturating_add(content);
    }
    let too_large = || ErofsFault::TooLarge { got: needed };
    let size = usize::try_from(needed).map_err(|_| too_large())?;
    if needed > MAX_FS_BYTES {
        return Err(too_large());
    }
    let mut out = Vec::with_capacity(size);
    out.resize(INODES_OFFSET, 0);
    let mut block = blocks(inodes_end);
    for (number, item) in (1u32..).zip(&items) {
        // An empty file has no first block.
        let first = if item.content.is_empty() { 0 } else { block };
        put_inode(&mut out, number, item, small(first));
        block = block.saturating_add(blocks(item.content.len() as u64));
    }
    pad(&mut out);
    for item in &items {
        out.extend_from_slice(&item.content);
        pad(&mut out);
    }
    let sealed = superblock(&out, items.len());
    if let Some(place) = out.get_mut(SUPERBLOCK_OFFSET..INODES_OFFSET) {
        place.copy_from_slice(&sealed);
    }
    Ok(out)
}

/// The root and every entry, in the order of their inodes.
fn items(entries: &BTreeMap<String, Entry>) -> Vec<Item<'_>> {
    // Paths in order, the root as the empty one: the position is the inode.
    let places: BTreeMap<&str, usize> =
        std::iter::once("").chain(entries.keys().map(String::as_str)).zip(0..).collect();
    let mut names: BTreeMap<&str, Vec<Name<'_>>> = BTreeMap::new();
    for (path, entry) in entries {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let place = places.get(path.as_str()).copied().unwrap_or_default();
        names.entry(parent).or_default().push(Name { name, place, kind: kind(&entry.node) });
    }
    let directory = |path: &str, mode: u16| {
        let place = |path: &str| places.get(path).copied().unwrap_or_default();
        // The root is its own parent.
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let own = [(".", place(path)), ("..", place(parent))];
        let mut all = names.get(path).cloned().unwrap_or_default();
        all.extend(own.map(|(name, place)| Name { name, place, kind: DIRECTORY }));
        all.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let below = all.iter().filter(|n| n.kind == DIRECTORY).count();
        Item {
            mode: S_IFDIR | mode,
            // Itself, its name in its parent and `..` of each directory in it: as many as there
            // are directories among its names.
            links: u16::try_from(below).unwrap_or(u16::MAX),
            content: names_to_blocks(&all).into(),
        }
    };
    let rest = entries.iter().map(|(path, entry)| match &entry.node {
        Node::Directory => directory(path, entry.mode),
        Node::File(bytes) => {
            Item { mode: S_IFREG | entry.mode, links: 1, content: bytes.as_slice().into() }
        }
        Node::Link(target) => {
            Item { mode: S_IFLNK | entry.mode, links: 1, content: target.as_bytes().into() }
        }
    });
    std::iter::once(directory("", ROOT_MODE)).chain(rest).collect()
}

#[derive(Clone, Copy)]
struct Name<'a> {
    name: &'a str,
    place: usize,
    kind: u8,
}

/// Names in blocks: the records of a block, 12 bytes each, then their names without an end. A name
/// does not cross a block; the last one of a block ends at its padding.
fn names_to_blocks(names: &[Name<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = names;
    while !rest.is_empty() {
        let mut used = 0usize;
        let fits = |name: &&Name<'_>| {
            used = used.saturating_add(RECORD_BYTES).saturating_add(name.name.len());
            used <= BLOCK_BYTES
        };
        // At least one fits: a record and the longest name are far below a block.
        let count = rest.iter().take_while(fits).count().max(1);
        let (block, after) = rest.split_at(count.min(rest.len()));
        pad(&mut out);
        let mut name_at = block.len().saturating_mul(RECORD_BYTES);
        for name in block {
            out.extend_from_slice(&number_of(name.place).to_le_bytes());
            out.extend_from_slice(&u16::try_from(name_at).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(&[name.kind, 0]);
            name_at = name_at.saturating_add(name.name.len());
        }
        for name in block {
            out.extend_from_slice(name.name.as_bytes());
        }
        rest = after;
    }
    out
}

fn put_inode(out: &mut Vec<u8>, number: u32, item: &Item<'_>, first_block: u32) {
    // Format 0: compact inode, plain content. No extended attributes.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&item.mode.to_le_bytes());
    out.extend_from_slice(&item.links.to_le_bytes());
    out.extend_from_slice(&small(item.content.len() as u64).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&first_block.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    // Owner and group 0, reserved.
    out.extend_from_slice(&[0; 8]);
}

/// The superblock of a file system that is otherwise complete. Its checksum covers the rest of its
/// block, inodes included.
fn superblock(whole: &[u8], inodes: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(INODES_OFFSET.saturating_sub(SUPERBLOCK_OFFSET));
    block.extend_from_slice(&MAGIC.to_le_bytes());
    block.extend_from_slice(&[0; 4]);
    block.extend_from_slice(&HAS_CHECKSUM.to_le_bytes());
    block.extend_from_slice(&[BLOCK_BITS, 0]);
    block.extend_from_slice(&ROOT_NUMBER.to_le_bytes());
    block.extend_from_slice(&(inodes as u64).to_le_bytes());
    // Build time: zero seconds, zero nanoseconds.
    block.extend_from_slice(&[0; 12]);
    block.extend_from_slice(&small(blocks(whole.len() as u64)).to_le_bytes());
    // Inodes are numbered from block 0; no attributes, no UUID, no label, no feature a reader must
    // know, no compression, no other device.
    block.resize(INODES_OFFSET.saturating_sub(SUPERBLOCK_OFFSET), 0);
    let rest = whole.get(INODES_OFFSET..BLOCK_BYTES).unwrap_or_default();
    let checksum = crc32c(block.iter().chain(rest));
    if let Some(place) = block.get_mut(CHECKSUM_AT..CHECKSUM_AT + 4) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    block
}

/// CRC-32C (Castagnoli, reflected) from all ones, without the final inversion.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ CASTAGNOLI } else { crc >> 1 }
        })
    })
}

const fn kind(node: &Node) -> u8 {
    match node {
        Node::File(_) => FILE,
        Node::Directory => DIRECTORY,
        Node::Link(_) => LINK,
    }
}

/// Offset of the inode at `place`; at the count of all, where they end.
fn inode_offset(place: usize) -> u64 {
    (place as u64).saturating_mul(INODE_BYTES as u64).saturating_add(INODES_OFFSET as u64)
}

/// Number of the inode at `place`, as directories name it.
fn number_of(place: usize) -> u64 {
    inode_offset(place).checked_div(INODE_BYTES as u64).unwrap_or_default()
}

const fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES as u64)
}

/// A number that [`MAX_FS_BYTES`] keeps below 2^32.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
}

/// Size of a block, in bytes: a page of the guest.
pub const BLOCK_BYTES: usize = 1 << BLOCK_BITS;

pub(super) const SUPERBLOCK_OFFSET: usize = 1024;
pub(super) const INODES_OFFSET: usize = SUPERBLOCK_OFFSET + 128;
pub(super) const INODE_BYTES: usize = 32;
pub(super) const RECORD_BYTES: usize = 12;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// The root is the first inode.
pub(super) const ROOT_NUMBER: u16 = 36;
pub(super) const S_IFMT: u16 = 0o170_000;
pub(super) const S_IFDIR: u16 = 0o040_000;
pub(super) const S_IFREG: u16 = 0o100_000;
pub(super) const S_IFLNK: u16 = 0o120_000;

const BLOCK_BITS: u8 = 12;
const HAS_CHECKSUM: u32 = 1;
const CHECKSUM_AT: usize = 4;
const CASTAGNOLI: u32 = 0x82f6_3b78;
const FILE: u8 = 1;
const DIRECTORY: u8 = 2;
const LINK: u8 = 7;

const _: () = assert!(INODES_OFFSET == ROOT_NUMBER as usize * INODE_BYTES);
const _: () = assert!(MAX_FS_BYTES <= u32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnoli_without_its_final_inversion() {
        // RFC 3720, B.4: 32 bytes of zeros, 32 bytes of ones.
        assert_eq!(!crc32c([0u8; 32].iter()), 0x8a91_36aa);
        assert_eq!(!crc32c([0xffu8; 32].iter()), 0x62a8_ab43);
    }
}
