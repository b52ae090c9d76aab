//! The initial file system as a `newc` cpio archive with exactly one spelling: entries sorted by
//! path, inodes counted, owner and time zero. Reading accepts that spelling and nothing else, so
//! that equal content means equal bytes and a changed byte always changes content.

use std::collections::BTreeMap;

use chrysalis_wire::Digest;
use thiserror::Error;

use crate::bytes::{first_difference, round_up, sha256, slice};

/// An initial file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

/// One entry: what it is and its permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub node: Node,
    /// Permission bits, without the file type.
    pub mode: u32,
}

/// What an entry is. Links, pipes and sockets have no use here and no form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file and its bytes.
    File(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Node {
    /// One word for what it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "file",
            Self::CharDevice { .. } => "device",
        }
    }

    /// SHA-256 over kind, device numbers and content: equal for equal nodes only.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Directory => sha256(b""),
            Self::File(bytes) => sha256(bytes),
            Self::CharDevice { major, minor } => sha256(format!("{major}:{minor}").as_bytes()),
        }
    }

    const fn bytes(&self) -> &[u8] {
        match self {
            Self::File(bytes) => bytes.as_slice(),
            _ => &[],
        }
    }
}

/// Why an archive cannot be written or is not one this crate writes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CpioFault {
    /// A path that is absolute, climbs, or is not plain ASCII.
    #[error("the path {path:?} is not a plain relative path")]
    Path {
        /// The path, shortened.
        path: String,
    },
    /// A path added twice.
    #[error("the path {path:?} is there twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// An entry whose directory is missing.
    #[error("the directory of {path:?} is missing")]
    NoParent {
        /// The path.
        path: String,
    },
    /// More than [`MAX_ENTRIES`].
    #[error("there are more than {MAX_ENTRIES} entries")]
    TooMany,
    /// More than [`MAX_ARCHIVE_BYTES`].
    #[error("it is {got} bytes; the limit is {MAX_ARCHIVE_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not an archive in the one spelling this crate writes.
    #[error("it is not in the canonical form, first at byte {offset}: {reason}")]
    NotCanonical {
        /// Offset in the archive.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
}

impl Archive {
    /// Adds an entry; its directory must be there already.
    ///
    /// # Errors
    /// [`CpioFault`] for a path that is not plain, is taken or hangs in the air, and for limits.
    pub fn add(&mut self, path: &str, mode: u32, node: Node) -> Result<(), CpioFault> {
        let shown = || path.chars().take(MAX_PATH_BYTES).collect::<String>();
        let plain = path.len() <= MAX_PATH_BYTES
            && path.bytes().all(|b| b.is_ascii_graphic())
            && path.split('/').all(|part| !matches!(part, "" | "." | ".." | TRAILER));
        if !plain || mode > MAX_MODE {
            return Err(CpioFault::Path { path: shown() });
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            let there = self.entries.get(parent).is_some_and(|e| e.node == Node::Directory);
            if !there {
                return Err(CpioFault::NoParent { path: shown() });
            }
        }
        if self.entries.len() >= MAX_ENTRIES {
            return Err(CpioFault::TooMany);
        }
        if self.entries.contains_key(path) {
            return Err(CpioFault::Duplicate { path: shown() });
        }
        self.entries.insert(path.to_owned(), Entry { node, mode });
        Ok(())
    }

    /// Entries in the order they are written: by path, so a directory precedes what is in it.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The bytes of the file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match self.entries.get(path) {
            Some(Entry { node: Node::File(bytes), .. }) => Some(bytes),
            _ => None,
        }
    }

    /// The archive as bytes.
    ///
    /// # Errors
    /// [`CpioFault::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CpioFault> {
        let content: usize = self
            .entries
            .iter()
            .map(|(path, e)| e.node.bytes().len().saturating_add(path.len()))
            .fold(0, usize::saturating_add);
        let overhead = self.entries.len().saturating_add(8).saturating_mul(HEADER_BYTES + 8);
        let size = content.saturating_add(overhead);
        if size > MAX_ARCHIVE_BYTES {
            return Err(CpioFault::TooLarge { got: size });
        }
        let mut out = Vec::with_capacity(size.saturating_add(BLOCK_BYTES));
        for (inode, (path, entry)) in (1u32..).zip(&self.entries) {
            put(&mut out, inode, path, entry);
        }
        let trailer = Entry { node: Node::File(Vec::new()), mode: 0 };
        put(&mut out, 0, TRAILER, &trailer);
        pad(&mut out, BLOCK_BYTES);
        Ok(out)
    }

    /// Reads an archive that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`CpioFault`]; whatever this crate would not have written is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, CpioFault> {
        if bytes.len() > MAX_ARCHIVE_BYTES {
            return Err(CpioFault::TooLarge { got: bytes.len() });
        }
        let mut archive = Self::default();
        let mut at = 0usize;
        while let Some(member) = read_member(bytes, at)? {
            archive.add(member.path, member.mode & MAX_MODE, member.node)?;
            at = member.end;
        }
        // One spelling: header fields that were skipped above are compared here.
        match first_difference(bytes, &archive.to_bytes()?) {
            None => Ok(archive),
            Some(offset) => {
                let reason = "order, inode, owner, time, mode or padding";
                Err(CpioFault::NotCanonical { offset, reason })
            }
        }
    }
}

/// A header is 6 bytes of magic and 13 fields of 8 hexadecimal digits: inode, mode, uid, gid,
/// links, mtime, file size, device major and minor, rdev major and minor, name size, checksum.
fn put(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let (kind, links, rdev) = match entry.node {
        Node::Directory => (S_IFDIR, 2, (0, 0)),
        Node::File(_) if path == TRAILER => (0, 1, (0, 0)),
        Node::File(_) => (S_IFREG, 1, (0, 0)),
        Node::CharDevice { major, minor } => (S_IFCHR, 1, (major, minor)),
    };
    let content = entry.node.bytes();
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let name = u32::try_from(path.len()).unwrap_or(u32::MAX).saturating_add(1);
    let fields = [inode, kind | entry.mode, 0, 0, links, 0, size, 0, 0, rdev.0, rdev.1, name, 0];
    out.extend_from_slice(MAGIC);
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out, 4);
    out.extend_from_slice(content);
    pad(out, 4);
}

/// Bytes that an entry with this path and content size takes in an archive.
pub(crate) const fn member_bytes(path: &str, size: u64) -> u64 {
    let name = round_up(HEADER_BYTES.saturating_add(path.len()).saturating_add(1), 4);
    (name as u64).saturating_add(size.next_multiple_of(4))
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(round_up(out.len(), to), 0);
}

struct Member<'a> {
    path: &'a str,
    mode: u32,
    node: Node,
    end: usize,
}

/// The member at `at`, or `None` at the trailer.
fn read_member(bytes: &[u8], at: usize) -> Result<Option<Member<'_>>, CpioFault> {
    let bad = |reason| CpioFault::NotCanonical { offset: at, reason };
    let header = slice(bytes, at, HEADER_BYTES).ok_or_else(|| bad("it ends inside a header"))?;
    if !header.starts_with(MAGIC) {
        return Err(bad("no header magic"));
    }
    let field = |index: usize| {
        let digits = slice(header, index.checked_mul(8)?.checked_add(MAGIC.len())?, 8)?;
        u32::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
    };
    let number = |index| field(index).ok_or_else(|| bad("a field is not hexadecimal"));
    let (mode, size, name_size) = (number(1)?, number(6)? as usize, number(11)? as usize);
    let name_at = at.saturating_add(HEADER_BYTES);
    let name = slice(bytes, name_at, name_size).ok_or_else(|| bad("it ends inside a name"))?;
    let path = name.split_last().filter(|(nul, _)| **nul == 0).map(|(_, path)| path);
    let path = path.and_then(|p| core::str::from_utf8(p).ok()).ok_or_else(|| bad("a name"))?;
    if path == TRAILER {
        return Ok(None);
    }
    let content_at = round_up(name_at.saturating_add(name_size), 4);
    let content = slice(bytes, content_at, size).ok_or_else(|| bad("it ends inside a file"))?;
    let node = match mode & S_IFMT {
        S_IFDIR => Node::Directory,
        S_IFREG => Node::File(content.to_vec()),
        S_IFCHR => Node::CharDevice { major: number(9)?, minor: number(10)? },
        _ => return Err(bad("a kind of file that has no place here")),
    };
    let end = round_up(content_at.saturating_add(size), 4);
    Ok(Some(Member { path, mode, node, end }))
}

/// Most entries of an archive.
pub const MAX_ENTRIES: usize = 1024;

/// Largest archive, in bytes.
pub const MAX_ARCHIVE_BYTES: usize = 256 << 20;

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 255;

const HEADER_BYTES: usize = 110;
/// Boot loaders load whole blocks; `cpio` itself pads to this.
const BLOCK_BYTES: usize = 512;
const MAGIC: &[u8; 6] = b"070701";
const TRAILER: &str = "TRAILER!!!";
const MAX_MODE: u32 = 0o777;
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;
