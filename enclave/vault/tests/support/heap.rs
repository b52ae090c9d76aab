//! A heap that looks at every block before it is freed, for tests that no secret is left in one.
//! The only way to see freed memory without reading it after it was freed is to be the allocator.

#![allow(unsafe_code, dead_code, unreachable_pub, reason = "a global allocator, shared by path")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system's heap, watched.
pub struct Watched;

// JUSTIFICATION: there is no safe interface to an allocator.
// SAFETY: every block comes from and goes back to `System` with the layout it was asked for.
// Blocks are zeroed first, so that looking at one before it is freed reads initialised bytes.
// `realloc` is the default one: a new block, a copy, and the old block freed under watch.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up a live block of this layout; nobody else uses it now.
        look(unsafe { std::slice::from_raw_parts(block, layout.size()) });
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// One test that has the heap to itself: what another one frees meanwhile would count here.
pub struct Watch(MutexGuard<'static, ()>);

impl Watch {
    /// Waits for the test before this one; taken before anything else in every test.
    pub fn alone() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        Self(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many blocks were freed, while `work` ran, with `secret` still in them.
    pub fn left_behind(&self, secret: [u8; 16], work: impl FnOnce()) -> usize {
        let (low, high) = halves(u128::from_ne_bytes(secret));
        LOW.store(low, Ordering::SeqCst);
        HIGH.store(high, Ordering::SeqCst);
        FOUND.store(0, Ordering::SeqCst);
        work();
        LOW.store(0, Ordering::SeqCst);
        HIGH.store(0, Ordering::SeqCst);
        FOUND.load(Ordering::SeqCst)
    }
}

fn look(block: &[u8]) {
    let secret = (LOW.load(Ordering::Relaxed), HIGH.load(Ordering::Relaxed));
    if secret == (0, 0) {
        return;
    }
    // Found without allocating: this runs inside the allocator.
    let first = secret.0.to_ne_bytes()[0];
    let found = block.windows(16).any(|w| {
        w.first() == Some(&first)
            && w.try_into().is_ok_and(|w| halves(u128::from_ne_bytes(w)) == secret)
    });
    if found {
        FOUND.fetch_add(1, Ordering::SeqCst);
    }
}

/// In memory order on the little-endian machines this runs on.
const fn halves(secret: u128) -> (u64, u64) {
    (secret as u64, (secret >> 64) as u64)
}

static LOW: AtomicU64 = AtomicU64::new(0);
static HIGH: AtomicU64 = AtomicU64::new(0);
static FOUND: AtomicUsize = AtomicUsize::new(0);
