//! MRTD: what the TDX module hashes while a VMM builds the TD. Nothing in it is chosen by the
//! host except the firmware file and, on old hosts, the order of the two operations.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha384};

use super::digest::Sha384Digest;
use super::tdvf::{PAGE_BYTES, Tdvf};

/// In which order the VMM adds and measures pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageOrder {
    /// Each page is added, then measured (Linux >= 6.16 with QEMU >= 10.1). The published value.
    SinglePass,
    /// Out-of-tree hosts of the QEMU 8 era: all pages of a section are added, then all are
    /// measured. The same firmware has another MRTD there.
    LegacyHost,
}

/// MRTD of a firmware file, SHA-384.
#[must_use]
pub fn mrtd(tdvf: &Tdvf<'_>, order: PageOrder) -> Sha384Digest {
    let mut hash = Sha384::new();
    for section in tdvf.sections() {
        let contents = tdvf.contents(section);
        let pages = || page_addresses(section.address, section.size);
        let page = |gpa: u64| {
            let at = gpa.saturating_sub(section.address);
            page_contents(contents, usize::try_from(at).unwrap_or(usize::MAX))
        };
        let added = !section.augmented;
        match order {
            PageOrder::SinglePass => {
                for gpa in pages() {
                    if added {
                        add(&mut hash, gpa);
                    }
                    if section.measured {
                        extend(&mut hash, gpa, page(gpa));
                    }
                }
            }
            PageOrder::LegacyHost => {
                if added {
                    pages().for_each(|gpa| add(&mut hash, gpa));
                }
                if section.measured {
                    pages().for_each(|gpa| extend(&mut hash, gpa, page(gpa)));
                }
            }
        }
    }
    Sha384Digest(hash.finalize().into())
}

fn page_addresses(address: u64, size: u64) -> impl Iterator<Item = u64> {
    (address..address.saturating_add(size)).step_by(PAGE)
}

fn page_contents(contents: &[u8], at: usize) -> &[u8] {
    contents.get(at..at.saturating_add(PAGE)).unwrap_or_default()
}

/// `TDH.MEM.PAGE.ADD`: 128 bytes of name and address (TDX module ABI).
fn add(hash: &mut Sha384, gpa: u64) {
    hash.update(record(*b"MEM.PAGE.ADD\0\0\0\0", gpa));
}

/// `TDH.MR.EXTEND`: the same for each 256 bytes of the page, followed by the bytes.
fn extend(hash: &mut Sha384, gpa: u64, page: &[u8]) {
    for (chunk, at) in page.chunks_exact(CHUNK).zip((gpa..).step_by(CHUNK)) {
        hash.update(record(*b"MR.EXTEND\0\0\0\0\0\0\0", at));
        hash.update(chunk);
    }
}

fn record(name: [u8; 16], gpa: u64) -> [u8; 128] {
    let mut out = [0u8; 128];
    let (head, rest) = out.split_at_mut(16);
    head.copy_from_slice(&name);
    if let Some(field) = rest.get_mut(..8) {
        field.copy_from_slice(&gpa.to_le_bytes());
    }
    out
}

/// [`PAGE_BYTES`] as a step.
const PAGE: usize = PAGE_BYTES as usize;
const CHUNK: usize = 256;
