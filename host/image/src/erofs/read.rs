//! Takes entries out of bytes that claim to be a file system in our spelling. Every offset and
//! count in them is hostile; what is taken out is written again and compared by the caller.

use super::layout::{
    BLOCK_BYTES, INODE_BYTES, MAGIC, RECORD_BYTES, ROOT_NUMBER, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG,
    SUPERBLOCK_OFFSET,
};
use super::{Entry, ErofsFault, MAX_ENTRIES, MAX_PATH_BYTES, Node};
use crate::bytes::{slice, u16_at, u32_at, u64_at};

pub(super) fn entries(bytes: &[u8]) -> Result<Vec<(String, Entry)>, ErofsFault> {
    let bad = |offset: usize, reason| ErofsFault::NotCanonical { offset: offset as u64, reason };
    if u32_at(bytes, SUPERBLOCK_OFFSET) != Some(MAGIC) {
        return Err(bad(SUPERBLOCK_OFFSET, "no superblock magic"));
    }
    let mut found = Vec::new();
    // No two entries share content, so all of it together is smaller than the whole.
    let mut left = bytes.len();
    // Directories to be looked into, by path and number of their inode. A directory that is its own
    // parent would be found again and again, and ends at the limits below.
    let mut open = vec![(String::new(), u64::from(ROOT_NUMBER))];
    while let Some((directory, number)) = open.pop() {
        let at = offset_of(number);
        let inode = inode(bytes, at).ok_or_else(|| bad(at, "an inode out of place"))?;
        if inode.mode & S_IFMT != S_IFDIR {
            return Err(bad(at, "a root that is no directory"));
        }
        for block in inode.content.chunks(BLOCK_BYTES) {
            for (name, number) in names(block).ok_or_else(|| bad(at, "a directory record"))? {
                if name == "." || name == ".." {
                    continue;
                }
                let path = if directory.is_empty() {
                    name.to_owned()
                } else {
                    format!("{directory}/{name}")
                };
                if path.len() > MAX_PATH_BYTES {
                    return Err(ErofsFault::Path { path: name.to_owned() });
                }
                if found.len() >= MAX_ENTRIES {
                    return Err(ErofsFault::TooMany);
                }
                let at = offset_of(number);
                let entry = entry(bytes, at).ok_or_else(|| bad(at, "an inode out of place"))?;
                left = left
                    .checked_sub(entry.node.bytes().len())
                    .ok_or_else(|| bad(at, "content that two entries share"))?;
                if entry.node == Node::Directory {
                    open.push((path.clone(), number));
                }
                found.push((path, entry));
            }
        }
    }
    Ok(found)
}

struct Inode<'a> {
    mode: u16,
    content: &'a [u8],
}

fn inode(bytes: &[u8], at: usize) -> Option<Inode<'_>> {
    let inode = slice(bytes, at, INODE_BYTES)?;
    let (mode, size) = (u16_at(inode, 4)?, u32_at(inode, 8)? as usize);
    let first = (u32_at(inode, 16)? as usize).checked_mul(BLOCK_BYTES)?;
    Some(Inode { mode, content: slice(bytes, first, size)? })
}

fn entry(bytes: &[u8], at: usize) -> Option<Entry> {
    let Inode { mode, content } = inode(bytes, at)?;
    let node = match mode & S_IFMT {
        S_IFDIR => Node::Directory,
        S_IFREG => Node::File(content.to_vec()),
        S_IFLNK => Node::Link(core::str::from_utf8(content).ok()?.to_owned()),
        _ => return None,
    };
    Some(Entry { node, mode: mode & !S_IFMT })
}

/// Names and inode numbers of one block of a directory. The first name follows the last record, so
/// its offset says how many records there are.
fn names(block: &[u8]) -> Option<Vec<(&str, u64)>> {
    let count = usize::from(u16_at(block, 8)?).checked_div(RECORD_BYTES)?;
    let record = |index: usize| index.checked_mul(RECORD_BYTES);
    let name_at = |index: usize| u16_at(block, record(index)?.checked_add(8)?).map(usize::from);
    (0..count)
        .map(|index| {
            let number = u64_at(block, record(index)?)?;
            let start = name_at(index)?;
            let name = match index.checked_add(1)? {
                next if next < count => block.get(start..name_at(next)?)?,
                // The last one ends at the padding, or with the block.
                _ => block.get(start..)?.split(|b| *b == 0).next()?,
            };
            Some((core::str::from_utf8(name).ok()?, number))
        })
        .collect()
}

/// An offset that is not in the file if it would not fit.
fn offset_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(INODE_BYTES)
}
