//! A read-only file system, EROFS, with exactly one spelling: what a large user space is kept in.
//! Reading accepts that spelling and nothing else, so that equal content means equal bytes. What is
//! read may come from anybody; the guest's kernel sees it only after PID 1 has checked its hash.
//!
//! Written from the published format (Linux `Documentation/filesystems/erofs.rst`). Of what the
//! format can do, the least: blocks of 4096 bytes, compact inodes, contiguous uncompressed content
//! that starts at a block, no extended attributes, owner and time zero, no UUID and no label. The
//! name of the content is its dm-verity root hash ([`crate::verity`]).

mod layout;
mod read;

use std::collections::BTreeMap;

use chrysalis_wire::Digest;
use thiserror::Error;

use crate::bytes::sha256;

pub use layout::BLOCK_BYTES;

/// A tree of directories, files and links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// By path without a leading slash, so that a directory precedes what is in it. The root itself
    /// has no entry; its mode is [`ROOT_MODE`].
    entries: BTreeMap<String, Entry>,
}

/// One entry: what it is and its permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub node: Node,
    /// Permission bits, without the file type.
    pub mode: u16,
}

/// What an entry is. Devices, pipes and sockets have no use here and no form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file and its bytes.
    File(Vec<u8>),
    /// A symbolic link and where it points.
    Link(String),
}

impl Node {
    /// One word for what it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "file",
            Self::Link(_) => "link",
        }
    }

    /// What is stored for it beside its inode; a directory stores its names.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        match self {
            Self::Directory => &[],
            Self::File(bytes) => bytes.as_slice(),
            Self::Link(target) => target.as_bytes(),
        }
    }

    /// SHA-256 of the content of a file or the target of a link.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(self.bytes())
    }
}

/// Why a tree cannot be written, or bytes are not a file system this crate writes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ErofsFault {
    /// A path that is absolute, climbs, is not plain ASCII, or is over a limit.
    #[error("the path {path:?} is not a plain relative path")]
    Path {
        /// The path, shortened.
        path: String,
    },
    /// A path given twice.
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
    /// Permission bits with another bit than read, write and execute.
    #[error("the mode of {path:?} is {mode:o}; it has at most the bits 777")]
    Mode {
        /// The path.
        path: String,
        /// The mode.
        mode: u16,
    },
    /// A link whose target is empty, over [`MAX_LINK_BYTES`] or not plain ASCII.
    #[error("the target of the link {path:?} is not 1 to {MAX_LINK_BYTES} plain characters")]
    Target {
        /// The path of the link.
        path: String,
    },
    /// More than [`MAX_ENTRIES`].
    #[error("there are more than {MAX_ENTRIES} entries")]
    TooMany,
    /// More than [`MAX_FS_BYTES`].
    #[error("it is {got} bytes; the limit is {MAX_FS_BYTES}")]
    TooLarge {
        /// Size found or needed.
        got: u64,
    },
    /// Not a file system in the one spelling this crate writes.
    #[error("it is not in the canonical form, first at byte {offset}: {reason}")]
    NotCanonical {
        /// Offset in the file system.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
}

impl Tree {
    /// The tree of these entries, in whatever order they come.
    ///
    /// # Errors
    /// [`ErofsFault`] for an entry that cannot be, is there twice or hangs in the air.
    pub fn new(given: impl IntoIterator<Item = (String, Entry)>) -> Result<Self, ErofsFault> {
        let mut entries = BTreeMap::new();
        for (path, entry) in given {
            check(&path, &entry)?;
            if entries.len() >= MAX_ENTRIES {
                return Err(ErofsFault::TooMany);
            }
            if entries.insert(path.clone(), entry).is_some() {
                return Err(ErofsFault::Duplicate { path });
            }
        }
        for path in entries.keys() {
            let Some((parent, _)) = path.rsplit_once('/') else { continue };
            let there = entries.get(parent).is_some_and(|e: &Entry| e.node == Node::Directory);
            if !there {
                return Err(ErofsFault::NoParent { path: path.clone() });
            }
        }
        Ok(Self { entries })
    }

    /// Entries by path.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The entry at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The file system as bytes, in whole blocks.
    ///
    /// # Errors
    /// [`ErofsFault::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ErofsFault> {
        layout::write(&self.entries)
    }

    /// Reads a file system that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ErofsFault`]; whatever this crate would not have written is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, ErofsFault> {
        if bytes.len() as u64 > MAX_FS_BYTES {
            return Err(ErofsFault::TooLarge { got: bytes.len() as u64 });
        }
        let tree = Self::new(read::entries(bytes)?)?;
        // One spelling: whatever was skipped above is compared here.
        match crate::bytes::first_difference(bytes, &tree.to_bytes()?) {
            None => Ok(tree),
            Some(offset) => {
                let reason = "order, place, owner, time, checksum or padding";
                Err(ErofsFault::NotCanonical { offset: offset as u64, reason })
            }
        }
    }
}

fn check(path: &str, entry: &Entry) -> Result<(), ErofsFault> {
    let shown = || path.chars().take(SHOWN_CHARS).collect::<String>();
    let plain_text = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let plain = path.len() <= MAX_PATH_BYTES
        && plain_text(path)
        && path
            .split('/')
            .all(|name| !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES);
    if !plain {
        return Err(ErofsFault::Path { path: shown() });
    }
    if entry.mode > MAX_MODE {
        return Err(ErofsFault::Mode { path: shown(), mode: entry.mode });
    }
    if let Node::Link(target) = &entry.node
        && !((1..=MAX_LINK_BYTES).contains(&target.len()) && plain_text(target))
    {
        return Err(ErofsFault::Target { path: shown() });
    }
    Ok(())
}

/// Most entries of a tree: the link count of a directory and the inode numbers stay small.
pub const MAX_ENTRIES: usize = 16_384;

/// Largest file system, in bytes: the largest root of a guest.
pub const MAX_FS_BYTES: u64 = chrysalis_wire::image::MAX_ROOT_BYTES;

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;

/// Longest name in a directory, in bytes (`EROFS_NAME_LEN`).
pub const MAX_NAME_BYTES: usize = 255;

/// Longest target of a link, in bytes.
pub const MAX_LINK_BYTES: usize = 1024;

/// Permission bits of the root directory.
pub const ROOT_MODE: u16 = 0o755;

const MAX_MODE: u16 = 0o777;
const SHOWN_CHARS: usize = 120;
