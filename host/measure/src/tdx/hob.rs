//! The TD HOB: the memory map the VMM hands to the firmware, measured as the first event of RTMR0.
//!
//! It is what QEMU writes (`hw/i386/tdvf-hob.c`): a hand-off block, then a resource descriptor for
//! each range of memory, split where the firmware has pages already. The END HOB is not measured.
//! Reproduces the first event of two logs from real TDs (1024 and 2048 MiB).

use serde::{Deserialize, Serialize};

use super::digest::Sha384Digest;
use super::error::TdxError;
use super::tdvf::{SectionKind, Tdvf};

/// Size of guest memory: whole MiB, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemorySize(u64);

impl MemorySize {
    /// Checks a size in bytes.
    ///
    /// # Errors
    /// [`TdxError::Memory`].
    pub const fn from_bytes(bytes: u64) -> Result<Self, TdxError> {
        if bytes < MIN_MEMORY_BYTES || bytes > MAX_MEMORY_BYTES || !bytes.is_multiple_of(MIB) {
            let (unit, min, max) = (MIB, MIN_MEMORY_BYTES, MAX_MEMORY_BYTES);
            return Err(TdxError::Memory { got: bytes, unit, min, max });
        }
        Ok(Self(bytes))
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Size in MiB.
    #[must_use]
    pub const fn mib(self) -> u64 {
        self.0 / MIB
    }

    /// Sizes machines are likely to have: each multiple of 64 MiB up to 32 GiB, then of 1 GiB up to
    /// 4 TiB.
    pub(crate) fn usual() -> impl Iterator<Item = Self> {
        let small = (1..=512u64).map(|n| n.saturating_mul(64 * MIB));
        let large = (33..=4096u64).map(|n| n.saturating_mul(1 << 30));
        small.chain(large).filter_map(|bytes| Self::from_bytes(bytes).ok())
    }

    /// Memory of a q35 machine: below the PCI hole, then from 4 GiB.
    fn regions(self) -> impl Iterator<Item = Range> {
        let low = if self.0 >= LARGE_MEMORY { LOW_OF_LARGE } else { LARGE_MEMORY };
        let below = Range { start: 0, end: self.0.min(low) };
        let above = self.0.saturating_sub(low);
        let high = Range { start: FOUR_GIB, end: FOUR_GIB.saturating_add(above) };
        [below, high].into_iter().filter(|r| r.start < r.end)
    }
}

/// What of the firmware the memory map depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HobLayout {
    /// Address of the TD_HOB section.
    base: u64,
    /// Start and end of the memory the firmware has already, by address. Neighbours are not
    /// merged.
    accepted: Vec<[u64; 2]>,
}

impl HobLayout {
    /// Takes the TD_HOB and TempMem sections of a firmware.
    ///
    /// # Errors
    /// [`TdxError::SectionCount`] without exactly one TD_HOB section.
    pub fn of(tdvf: &Tdvf<'_>) -> Result<Self, TdxError> {
        let base = tdvf.only(SectionKind::TdHob)?.address;
        let memory = |k| matches!(k, SectionKind::TdHob | SectionKind::TempMem);
        let sections = tdvf.sections().iter().filter(|s| memory(s.kind));
        let mut accepted: Vec<_> =
            sections.map(|s| [s.address, s.address.saturating_add(s.size)]).collect();
        accepted.sort_unstable();
        Ok(Self { base, accepted })
    }

    /// The measured bytes of the TD HOB for `memory`: `56 + 48 n` bytes.
    ///
    /// # Errors
    /// [`TdxError::SectionOutsideMemory`] for a section that is not in RAM.
    pub fn hob(&self, memory: MemorySize) -> Result<Vec<u8>, TdxError> {
        let accepted = self.accepted.iter().map(|[start, end]| Range { start: *start, end: *end });
        let accepted: Vec<_> = accepted.collect();
        for range in &accepted {
            if !memory.regions().any(|r| r.start <= range.start && range.end <= r.end) {
                let (address, memory) = (range.start, memory.bytes());
                return Err(TdxError::SectionOutsideMemory { address, memory });
            }
        }
        let resources = memory.regions().flat_map(|region| split(region, &accepted));
        let mut body = Vec::new();
        for (range, kind) in resources {
            body.extend_from_slice(&resource(range, kind));
        }
        // It fits: the most sections a firmware may have make 34 ranges, and a section has a page.
        let end = self
            .base
            .saturating_add(HANDOFF_BYTES)
            .saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX))
            .saturating_add(END_BYTES);
        let mut out = handoff(end).to_vec();
        out.append(&mut body);
        Ok(out)
    }

    /// The memory size whose map has this digest, among the usual ones. Names the cause of a difference; proves nothing that the digest does not.
    #[must_use]
    pub fn memory_of(&self, digest: &Sha384Digest) -> Option<MemorySize> {
        MemorySize::usual()
            .find(|memory| self.hob(*memory).is_ok_and(|hob| Sha384Digest::of(&hob) == *digest))
    }
}

/// The measured bytes of the TD HOB of a firmware for `memory`.
///
/// # Errors
/// As [`HobLayout::of`] and [`HobLayout::hob`].
pub fn td_hob(tdvf: &Tdvf<'_>, memory: MemorySize) -> Result<Vec<u8>, TdxError> {
    HobLayout::of(tdvf)?.hob(memory)
}

/// Cuts a region at the accepted ranges inside it, which are sorted and apart.
fn split(region: Range, accepted: &[Range]) -> Vec<(Range, u32)> {
    let mut out = Vec::new();
    let mut at = region.start;
    for inner in accepted.iter().filter(|r| region.start <= r.start && r.end <= region.end) {
        out.push((Range { start: at, end: inner.start }, UNACCEPTED));
        out.push((*inner, ACCEPTED));
        at = inner.end;
    }
    out.push((Range { start: at, end: region.end }, UNACCEPTED));
    out.retain(|(r, _)| r.start < r.end);
    out
}

/// EFI_HOB_HANDOFF_INFO_TABLE, PI 1.7 volume 3, 5.3.
fn handoff(end: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(56);
    for half in [1u16, 56] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    for word in [0u32, 9, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for long in [0u64, 0, 0, 0, end] {
        out.extend_from_slice(&long.to_le_bytes());
    }
    out
}

/// EFI_HOB_RESOURCE_DESCRIPTOR, PI 1.7 volume 3, 5.5.
fn resource(range: Range, kind: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    for half in [3u16, 48] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[0; 16]);
    // Present, initialised, tested.
    for word in [kind, 7] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for long in [range.start, range.end.saturating_sub(range.start)] {
        out.extend_from_slice(&long.to_le_bytes());
    }
    out
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
}

/// Smallest memory of a TD, in bytes. Firmware, kernel and initrd need more.
pub const MIN_MEMORY_BYTES: u64 = 256 * MIB;

/// Largest memory of a TD, in bytes: 16 TiB, over the largest host sold.
pub const MAX_MEMORY_BYTES: u64 = 16 << 40;

const MIB: u64 = 1 << 20;
const FOUR_GIB: u64 = 4 << 30;
/// From this size on, q35 keeps less memory below 4 GiB.
const LARGE_MEMORY: u64 = 0xb000_0000;
const LOW_OF_LARGE: u64 = 0x8000_0000;

const HANDOFF_BYTES: u64 = 56;
const END_BYTES: u64 = 8;

/// EFI_RESOURCE_SYSTEM_MEMORY and EFI_RESOURCE_MEMORY_UNACCEPTED.
const ACCEPTED: u32 = 0;
const UNACCEPTED: u32 = 7;
