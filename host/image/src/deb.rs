//! Takes named files out of a Debian package. The package has its pinned hash by now; what is
//! inside is still read with limits, and only regular files at exactly the pinned paths are
//! looked at, in memory: nothing is ever unpacked, so links and hostile names have no effect.
//!
//! Pure Rust instead of `dpkg-deb`, so that an auditor can rebuild an image on any system.

use std::collections::BTreeMap;
use std::io::Read;

use chrysalis_wire::Digest;
use thiserror::Error;

use crate::bytes::{sha256, slice};
use crate::lock::PinnedFile;

/// Why a package cannot be taken apart.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DebFault {
    /// Not a package of format 2.0.
    #[error("it is not a Debian package of format 2.0: {reason}")]
    NotDeb {
        /// What is wrong.
        reason: &'static str,
    },
    /// Compressed in a way this build does not read.
    #[error("its content is {member:?}; this build reads data.tar, .xz and .zst")]
    Compression {
        /// Name of the member, shortened.
        member: String,
    },
    /// The compressed archive is damaged.
    #[error("its content cannot be read: {reason}")]
    Damaged {
        /// What the decoder said.
        reason: String,
    },
    /// More than [`MAX_UNPACKED_BYTES`] or [`MAX_TAR_ENTRIES`].
    #[error(
        "its content is over the limit of {MAX_UNPACKED_BYTES} bytes or {MAX_TAR_ENTRIES} entries"
    )]
    TooLarge,
    /// A pinned file that is not in it.
    #[error("it has no file {path}")]
    NoFile {
        /// The pinned path.
        path: String,
    },
    /// A pinned path that is not a regular file.
    #[error("{path} is not a regular file")]
    NotRegular {
        /// The pinned path.
        path: String,
    },
    /// A pinned path that is there twice.
    #[error("{path} is there twice")]
    Twice {
        /// The pinned path.
        path: String,
    },
    /// A file of another size than the pinned one.
    #[error("{path} is {got} bytes, pinned are {expected}")]
    FileSize {
        /// The pinned path.
        path: String,
        /// The pinned size.
        expected: u64,
        /// The size in the package.
        got: u64,
    },
    /// A file with another hash than the pinned one.
    #[error("{path} has SHA-256 {got}, pinned is {expected}")]
    FileHash {
        /// The pinned path.
        path: String,
        /// The pinned hash.
        expected: Digest,
        /// The hash of the file in the package.
        got: Digest,
    },
}

/// The bytes of `wanted` files in the package `deb`, in that order, each with its pinned size and
/// hash.
///
/// # Errors
/// [`DebFault`].
pub fn extract(deb: &[u8], wanted: &[PinnedFile]) -> Result<Vec<Vec<u8>>, DebFault> {
    let pinned: BTreeMap<&str, u64> = wanted.iter().map(|f| (f.path.as_str(), f.size)).collect();
    let mut found = read_files(deb, |path| pinned.get(path).copied().map(Size::Exactly))?;
    wanted
        .iter()
        .map(|file| {
            let path = || file.path.clone();
            let bytes =
                found.remove(&file.path).ok_or_else(|| DebFault::NoFile { path: path() })?;
            let got = sha256(&bytes);
            if got != file.sha256 {
                return Err(DebFault::FileHash { path: path(), expected: file.sha256, got });
            }
            Ok(bytes)
        })
        .collect()
}

/// What size a wanted file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// This many bytes.
    Exactly(u64),
    /// At most this many bytes.
    AtMost(u64),
}

/// The regular files for which `wanted` names a size, by path.
///
/// # Errors
/// [`DebFault`]; a file of a wrong size is refused before it is read.
pub fn read_files(
    deb: &[u8],
    wanted: impl Fn(&str) -> Option<Size>,
) -> Result<BTreeMap<String, Vec<u8>>, DebFault> {
    let (member, data) = data_member(deb)?;
    let damaged = |e: &dyn std::fmt::Display| DebFault::Damaged { reason: e.to_string() };
    let content: Box<dyn Read + '_> = match member {
        "data.tar" => Box::new(data),
        "data.tar.xz" => Box::new(lzma_rust2::XzReader::new(data, false)),
        "data.tar.zst" => {
            Box::new(ruzstd::decoding::StreamingDecoder::new(data).map_err(|e| damaged(&e))?)
        }
        other => {
            let member = other.chars().take(MAX_AR_NAME).collect();
            return Err(DebFault::Compression { member });
        }
    };
    let mut archive = tar::Archive::new(content.take(MAX_UNPACKED_BYTES.saturating_add(1)));
    let mut found = BTreeMap::new();
    for (count, entry) in archive.entries().map_err(|e| damaged(&e))?.enumerate() {
        let mut entry = entry.map_err(|e| damaged(&e))?;
        let end = entry.raw_file_position().saturating_add(entry.size());
        if count >= MAX_TAR_ENTRIES || end > MAX_UNPACKED_BYTES {
            return Err(DebFault::TooLarge);
        }
        let name = entry.path_bytes().into_owned();
        let Some(path) = core::str::from_utf8(&name).ok().and_then(|n| n.strip_prefix("./")) else {
            continue;
        };
        let Some(size) = wanted(path) else { continue };
        if !entry.header().entry_type().is_file() {
            return Err(DebFault::NotRegular { path: path.to_owned() });
        }
        let bytes = read_entry(path, &mut entry, size)?;
        if found.insert(path.to_owned(), bytes).is_some() {
            return Err(DebFault::Twice { path: path.to_owned() });
        }
    }
    Ok(found)
}

fn read_entry(
    path: &str,
    entry: &mut tar::Entry<'_, impl Read>,
    wanted: Size,
) -> Result<Vec<u8>, DebFault> {
    let got = entry.size();
    let (expected, good) = match wanted {
        Size::Exactly(size) => (size, got == size),
        Size::AtMost(size) => (size, got <= size),
    };
    if !good {
        return Err(DebFault::FileSize { path: path.to_owned(), expected, got });
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|e| DebFault::Damaged { reason: e.to_string() })?;
    if bytes.len() as u64 != got {
        return Err(DebFault::Damaged { reason: "it ends inside a file".to_owned() });
    }
    Ok(bytes)
}

/// The `data.tar*` member of a package, deb(5): an `ar` archive of `debian-binary`,
/// `control.tar*` and `data.tar*`, in this order.
fn data_member(deb: &[u8]) -> Result<(&str, &[u8]), DebFault> {
    let not = |reason| DebFault::NotDeb { reason };
    let mut rest = deb.strip_prefix(AR_MAGIC).ok_or_else(|| not("no ar magic"))?;
    for expected in ["debian-binary", "control.tar", "data.tar"] {
        let (name, content, after) = ar_member(rest).ok_or_else(|| not("a damaged member"))?;
        if !name.starts_with(expected) {
            return Err(not("members are missing or out of order"));
        }
        if expected == "debian-binary" && !content.starts_with(b"2.") {
            return Err(not("another format"));
        }
        if expected == "data.tar" {
            return Ok((name, content));
        }
        rest = after;
    }
    Err(not("no data"))
}

/// Name and content of the first member, and what follows it. A header is 60 bytes: name 16,
/// times and owners 32, size 10 in decimal, end 2.
fn ar_member(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let header = slice(bytes, 0, 60)?;
    if slice(header, 58, 2)? != b"`\n" {
        return None;
    }
    let text = |at, len| core::str::from_utf8(slice(header, at, len)?).ok();
    let name = text(0, MAX_AR_NAME)?.trim_end().trim_end_matches('/');
    let size: usize = text(48, 10)?.trim_end().parse().ok()?;
    let content = slice(bytes, 60, size)?;
    let end = size.checked_add(60)?;
    // Members begin at even offsets; the last one may lack its padding.
    let next = end.checked_add(end & 1)?.min(bytes.len());
    Some((name, content, bytes.get(next..)?))
}

/// Largest unpacked package, in bytes.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;

/// Most entries of one package.
pub const MAX_TAR_ENTRIES: usize = 100_000;

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const MAX_AR_NAME: usize = 16;
