//! Narrows the difference of two images to a part, an entry of the initrd and an offset. Neither
//! image is believed; both may be damaged.

use std::fmt;

use crate::bytes::first_difference;
use crate::compose::Image;
use crate::cpio::{self, Archive};
use crate::erofs::{self, Tree};

/// The first difference of two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `firmware`, `kernel`, `cmdline`, `initrd`, `root`, `verity` or `manifest`.
    pub part: &'static str,
    /// Entry of the initrd or of the root, where both can be read.
    pub member: Option<String>,
    /// Offset in the entry, else in the file, of the first byte that differs.
    pub offset: Option<usize>,
    /// What the first image has there.
    pub a: String,
    /// What the second image has there.
    pub b: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part)?;
        if let Some(member) = &self.member {
            write!(f, ": {member}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {} | {}", self.a, self.b)
    }
}

/// Every part in which the images differ, with its first difference; empty if they are the same.
#[must_use]
pub fn compare<'a>(a: &'a Image, b: &'a Image) -> Vec<Difference> {
    let mut differences = Vec::new();
    let (in_a, in_b) = (a.files(), b.files());
    for part in PARTS {
        let of = |files: &[(&'static str, _, &'a [u8])]| {
            files.iter().find(|(name, _, _)| *name == part).map(|(_, _, bytes)| *bytes)
        };
        // What is not there is as nothing.
        let (in_a, in_b) = (of(&in_a).unwrap_or_default(), of(&in_b).unwrap_or_default());
        let Some(offset) = first_difference(in_a, in_b) else { continue };
        let inside = match part {
            "initrd" => compare_archives(in_a, in_b),
            "root" => compare_trees(in_a, in_b),
            _ => None,
        };
        differences.push(inside.unwrap_or_else(|| bytes(part, None, in_a, in_b, offset)));
    }
    differences
}

/// The first entry of the initrd that differs; `None` if one cannot be read.
fn compare_archives(a: &[u8], b: &[u8]) -> Option<Difference> {
    let (a, b) = (Archive::parse(a).ok()?, Archive::parse(b).ok()?);
    first_entry("initrd", a.entries().map(seen), b.entries().map(seen))
}

/// The first entry of the root that differs; `None` if one cannot be read.
fn compare_trees(a: &[u8], b: &[u8]) -> Option<Difference> {
    let (a, b) = (Tree::parse(a).ok()?, Tree::parse(b).ok()?);
    first_entry("root", a.entries().map(seen_in_root), b.entries().map(seen_in_root))
}

/// An entry of either kind of file system.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen<'a> {
    kind: &'static str,
    mode: u32,
    /// Content, link target or device numbers.
    content: Content<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content<'a> {
    Bytes(&'a [u8]),
    Device(u32, u32),
}

const fn seen<'a>((path, entry): (&'a str, &'a cpio::Entry)) -> (&'a str, Seen<'a>) {
    let content = match &entry.node {
        cpio::Node::Directory => Content::Bytes(&[]),
        cpio::Node::File(bytes) => Content::Bytes(bytes.as_slice()),
        cpio::Node::CharDevice { major, minor } => Content::Device(*major, *minor),
    };
    (path, Seen { kind: entry.node.kind(), mode: entry.mode, content })
}

const fn seen_in_root<'a>((path, entry): (&'a str, &'a erofs::Entry)) -> (&'a str, Seen<'a>) {
    let content = Content::Bytes(entry.node.bytes());
    (path, Seen { kind: entry.node.kind(), mode: entry.mode as u32, content })
}

fn first_entry<'a>(
    part: &'static str,
    a: impl Iterator<Item = (&'a str, Seen<'a>)>,
    b: impl Iterator<Item = (&'a str, Seen<'a>)>,
) -> Option<Difference> {
    let (mut left, mut right) = (a.peekable(), b.peekable());
    loop {
        let (path, in_a, in_b) = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return None,
            (Some((path, entry)), None) => (path, Some(entry), None),
            (None, Some((path, entry))) => (path, None, Some(entry)),
            (Some((x, in_a)), Some((y, in_b))) if x == y => (x, Some(in_a), Some(in_b)),
            (Some((x, in_a)), Some((y, _))) if x < y => (x, Some(in_a), None),
            (_, Some((y, in_b))) => (y, None, Some(in_b)),
        };
        if in_a != in_b {
            return Some(entries(part, path, in_a, in_b));
        }
        left.next();
        right.next();
    }
}

fn entries(part: &'static str, path: &str, a: Option<Seen<'_>>, b: Option<Seen<'_>>) -> Difference {
    if let (Some(seen_a), Some(seen_b)) = (a, b)
        && (seen_a.kind, seen_a.mode) == (seen_b.kind, seen_b.mode)
        && let (Content::Bytes(in_a), Content::Bytes(in_b)) = (seen_a.content, seen_b.content)
        && let Some(offset) = first_difference(in_a, in_b)
    {
        return bytes(part, Some(path), in_a, in_b, offset);
    }
    let say = |entry: Option<Seen<'_>>| match entry {
        None => "not there".to_owned(),
        Some(seen) => format!("{} {:04o}", seen.kind, seen.mode),
    };
    let member = Some(path.to_owned());
    Difference { part, member, offset: None, a: say(a), b: say(b) }
}

fn bytes(
    part: &'static str,
    member: Option<&str>,
    a: &[u8],
    b: &[u8],
    offset: usize,
) -> Difference {
    let say = |bytes: &[u8]| {
        let end = offset.saturating_add(SHOWN_BYTES).min(bytes.len());
        match bytes.get(offset..end) {
            None | Some([]) => "the end".to_owned(),
            Some(shown) => format!("{} of {} bytes", shown.escape_ascii(), bytes.len()),
        }
    };
    let member = member.map(str::to_owned);
    Difference { part, member, offset: Some(offset), a: say(a), b: say(b) }
}

/// In the order they are told. The manifest differs whenever a part does: the part is the news.
const PARTS: [&str; 7] = ["firmware", "kernel", "initrd", "cmdline", "root", "verity", "manifest"];

/// Bytes shown of each side, from the first that differs.
const SHOWN_BYTES: usize = 24;
