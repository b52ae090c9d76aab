//! Narrows the difference of two images to a part, an entry of the initrd and an offset. Neither
//! image is believed; both may be damaged.

use std::fmt;

use crate::bytes::first_difference;
use crate::compose::Image;
use crate::cpio::{Archive, Entry, Node};

/// The first difference of two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `firmware`, `kernel`, `cmdline`, `initrd` or `manifest`.
    pub part: &'static str,
    /// Entry of the initrd, where both can be read.
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
pub fn compare(a: &Image, b: &Image) -> Vec<Difference> {
    let mut differences = Vec::new();
    for ((part, _, in_a), (_, _, in_b)) in a.files().into_iter().zip(b.files()) {
        let Some(offset) = first_difference(in_a, in_b) else { continue };
        let inside = (part == "initrd").then(|| compare_archives(in_a, in_b)).flatten();
        differences.push(inside.unwrap_or_else(|| bytes(part, None, in_a, in_b, offset)));
    }
    // The manifest differs whenever a part does: the part is the news.
    differences.sort_by_key(|d| d.part == "manifest");
    differences
}

/// The first entry that differs; `None` if one cannot be read.
fn compare_archives(a: &[u8], b: &[u8]) -> Option<Difference> {
    let (a, b) = (Archive::parse(a).ok()?, Archive::parse(b).ok()?);
    let (mut left, mut right) = (a.entries().peekable(), b.entries().peekable());
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
            return Some(entries(path, in_a, in_b));
        }
        left.next();
        right.next();
    }
}

fn entries(path: &str, a: Option<&Entry>, b: Option<&Entry>) -> Difference {
    if let (
        Some(Entry { node: Node::File(in_a), mode: mode_a }),
        Some(Entry { node: Node::File(in_b), mode: mode_b }),
    ) = (a, b)
        && mode_a == mode_b
        && let Some(offset) = first_difference(in_a, in_b)
    {
        return bytes("initrd", Some(path), in_a, in_b, offset);
    }
    let say = |entry: Option<&Entry>| match entry {
        None => "not there".to_owned(),
        Some(entry) => format!("{} {:04o}", entry.node.kind(), entry.mode),
    };
    let (part, member) = ("initrd", Some(path.to_owned()));
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

/// Bytes shown of each side, from the first that differs.
const SHOWN_BYTES: usize = 24;
