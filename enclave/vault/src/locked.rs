//! Page-aligned memory for weights: kept out of swap and core dumps where the system allows,
//! wiped on drop. The only unsafe code of the crate: three system calls on memory it owns.

#![allow(unsafe_code)]

use core::ffi::c_void;
use core::fmt;
use core::hint::black_box;

use rayon::prelude::*;
use rustix::mm::{Advice, MlockFlags};
use serde::Serialize;
use zeroize::Zeroize as _;

use crate::error::VaultError;

/// What the system granted for a buffer of weights. Neither is required: a worker's memory is
/// already encrypted by the TEE, and a limit on locked memory must not stop it. The report lets
/// the operator see which protection is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryProtection {
    /// `mlock2(2)`: never written to swap.
    pub locked: Protection,
    /// `madvise(2)`, `MADV_DONTDUMP`: left out of core dumps.
    pub dump_excluded: Protection,
}

/// Whether one protection is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// It is.
    Applied,
    /// The system refused it, for this reason.
    Refused(String),
}

/// Zeroed bytes that own their pages alone: the allocation is one page larger than needed, the
/// bytes start on a page, and the last page is not shared either. Where they fill a huge page, pages
/// are huge ones, or the first and the last would be hundreds of small ones.
pub struct LockedBytes {
    memory: Vec<u8>,
    start: usize,
    len: usize,
    protection: MemoryProtection,
}

impl LockedBytes {
    /// `len` zero bytes. Pages are not touched here, so the threads that fill them fault them in.
    ///
    /// # Errors
    /// [`VaultError::OutOfMemory`].
    pub fn zeroed(len: usize) -> Result<Self, VaultError> {
        let no_memory = || VaultError::OutOfMemory { bytes: len as u64 };
        let pages = len.checked_next_multiple_of(page(len)).ok_or_else(no_memory)?;
        let capacity = pages.checked_add(page(len)).ok_or_else(no_memory)?;
        // Asking first turns "no memory" into a refusal; the zeroed allocation itself would abort.
        let mut probe = Vec::<u8>::new();
        probe.try_reserve_exact(capacity).map_err(|_| no_memory())?;
        drop(black_box(probe));
        let mut memory = vec![0u8; capacity];
        let start = memory.as_ptr().align_offset(page(len));
        let range =
            memory.get_mut(start..).and_then(|m| m.get_mut(..pages)).ok_or_else(no_memory)?;
        let protection = protect(range);
        Ok(Self { memory, start, len, protection })
    }

    /// What the system granted.
    #[must_use]
    pub const fn protection(&self) -> &MemoryProtection {
        &self.protection
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.memory.get(self.start..).and_then(|m| m.get(..self.len)).unwrap_or_default()
    }

    /// The bytes, mutable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..).and_then(|m| m.get_mut(..self.len)).unwrap_or_default()
    }

    /// Overwrites every byte with zero, on all cores: weights are gigabytes. What lies around them was
    /// never touched.
    fn wipe(&mut self) {
        self.as_mut_slice().par_chunks_mut(WIPE_STRIDE).for_each(|part| part.zeroize());
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.wipe();
        let pages = self.len.next_multiple_of(page(self.len));
        if let Some(range) = self.memory.get_mut(self.start..).and_then(|m| m.get_mut(..pages)) {
            unprotect(range);
        }
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<redacted {} bytes>", self.len)
    }
}

fn protect(pages: &mut [u8]) -> MemoryProtection {
    let (at, len) = (pages.as_mut_ptr().cast::<c_void>(), pages.len());
    // JUSTIFICATION: locking memory has no safe interface.
    // SAFETY: `at` and `len` describe a live, exclusively borrowed slice. Locking changes neither
    // its contents nor its mapping, only whether the kernel may page it out.
    let locked = unsafe { rustix::mm::mlock_with(at, len, MlockFlags::ONFAULT) };
    // JUSTIFICATION: excluding memory from core dumps has no safe interface.
    // SAFETY: as above; MADV_DONTDUMP only sets a flag on the mapping that the dumper reads.
    let undumped = unsafe { rustix::mm::madvise(at, len, Advice::LinuxDontDump) };
    // JUSTIFICATION: asking for huge pages has no safe interface. Gigabytes of weights take one
    // page fault and one TLB entry per 2 MiB instead of per 4 KiB.
    // SAFETY: as above; MADV_HUGEPAGE only advises which page size backs the mapping.
    let huge = unsafe { rustix::mm::madvise(at, len, Advice::LinuxHugepage) };
    // Speed only: a kernel without huge pages gives the same bytes.
    let _ = huge;
    MemoryProtection { locked: outcome(locked), dump_excluded: outcome(undumped) }
}

fn unprotect(pages: &mut [u8]) {
    let (at, len) = (pages.as_mut_ptr().cast::<c_void>(), pages.len());
    // JUSTIFICATION: the allocator may reuse these pages for data that is not secret; leaving
    // them locked would use up RLIMIT_MEMLOCK. The interface is unsafe like its opposite.
    // SAFETY: `at` and `len` describe a live, exclusively borrowed slice; the call changes only
    // whether the kernel may page it out.
    let unlocked = unsafe { rustix::mm::munlock(at, len) };
    // JUSTIFICATION: as above, for core dumps.
    // SAFETY: as above; MADV_DODUMP clears the flag that MADV_DONTDUMP set.
    let dumped = unsafe { rustix::mm::madvise(at, len, Advice::LinuxDoDump) };
    // The memory is wiped already; there is nobody to report to while dropping.
    let _ = (unlocked, dumped);
}

fn outcome(result: rustix::io::Result<()>) -> Protection {
    match result {
        Ok(()) => Protection::Applied,
        Err(errno) => Protection::Refused(errno.to_string()),
    }
}

/// What so many bytes are aligned to.
const fn page(len: usize) -> usize {
    if len < HUGE_PAGE { PAGE } else { HUGE_PAGE }
}

/// Page size of every platform with a TEE this runtime supports (x86-64). On another size the
/// kernel refuses the unaligned `madvise`, which is reported like any refusal.
const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

const WIPE_STRIDE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_page_and_is_zero() {
        let mut bytes = LockedBytes::zeroed(5000).unwrap();
        assert_eq!(bytes.as_slice(), [0; 5000]);
        assert!(bytes.as_slice().as_ptr().addr().is_multiple_of(PAGE));
        assert_eq!(bytes.as_mut_slice().len(), 5000);
    }

    #[test]
    fn what_fills_huge_pages_has_them_alone() {
        for len in [HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE - 1] {
            let bytes = LockedBytes::zeroed(len).unwrap();
            assert!(bytes.as_slice().as_ptr().addr().is_multiple_of(HUGE_PAGE), "{len}");
            assert_eq!(bytes.as_slice().len(), len);
            let end = bytes.start + len.next_multiple_of(HUGE_PAGE);
            assert!(end <= bytes.memory.len(), "{len}");
        }
        let small = LockedBytes::zeroed(HUGE_PAGE - 1).unwrap();
        assert!(small.memory.len() <= HUGE_PAGE + PAGE, "it would take twice as much");
    }

    #[test]
    fn wipes_every_byte() {
        let mut bytes = LockedBytes::zeroed(3 * WIPE_STRIDE + 1).unwrap();
        bytes.as_mut_slice().fill(0xa5);
        bytes.wipe();
        assert!(bytes.memory.iter().all(|&b| b == 0));
    }

    #[test]
    fn refuses_more_memory_than_exists() {
        for len in [usize::MAX, usize::MAX - PAGE, isize::MAX as usize] {
            let refused = LockedBytes::zeroed(len).unwrap_err();
            assert_eq!(refused, VaultError::OutOfMemory { bytes: len as u64 });
        }
    }

    #[test]
    fn the_kernel_confirms_the_reported_protection() {
        let bytes = LockedBytes::zeroed(PAGE).unwrap();
        let flags = vm_flags(bytes.as_slice().as_ptr().addr());
        let has = |flag| flags.split(' ').any(|f| f == flag);
        assert_eq!(has("lo"), bytes.protection().locked == Protection::Applied, "{flags}");
        assert_eq!(has("dd"), bytes.protection().dump_excluded == Protection::Applied, "{flags}");
    }

    /// `VmFlags` of the mapping that holds `address`, from `/proc/self/smaps`.
    fn vm_flags(address: usize) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            let parsed = range.and_then(|(a, b)| {
                let hex = |t| usize::from_str_radix(t, 16).ok();
                Some(hex(a)?..hex(b)?)
            });
            if let Some(range) = parsed {
                inside = range.contains(&address);
            } else if inside && let Some(flags) = line.strip_prefix("VmFlags: ") {
                return flags.to_owned();
            }
        }
        String::new()
    }
}
