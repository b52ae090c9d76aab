//! Threads that share one piece of work at a time. A thread that finds none looks for it for some
//! tens of microseconds, the time between two products of a token, and then sleeps: an idle machine
//! stays idle, and a busy one is not slowed down by waiting. Who brings the work takes part in it and
//! never waits for a thread that has not woken up yet.
//!
//! JUSTIFICATION: threads that outlive one piece of work borrow it from the stack of who brings it, which safe
//! Rust allows to threads of a scope only. A token needs some hundred products, each of them too short to start
//! threads for.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::isa::Path;

/// A fixed number of threads, and the instructions they compute with.
pub(crate) struct Pool {
    path: Path,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by who has brought the work.
    turn: Mutex<()>,
}

impl Pool {
    /// As many threads as `threads`, the caller's among them; without a number, as many as this
    /// process may use. Fewer if the system gives fewer.
    pub(crate) fn new(threads: Option<NonZeroUsize>) -> Self {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::with_path(threads.map_or_else(available, NonZeroUsize::get), Path::best())
    }

    /// As [`Pool::new`], with the instructions of `path`.
    pub(crate) fn with_path(threads: usize, path: Path) -> Self {
        let threads = threads.min(MAX_THREADS);
        let sleeping = (1..threads).map(|_| AtomicBool::new(false)).collect();
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            taken: (0..threads).map(|_| Taken(AtomicUsize::new(0))).collect(),
            broken: AtomicBool::new(false),
            sleeping,
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("chrysalis-compute-{}", index.saturating_add(1));
            std::thread::Builder::new().name(name).spawn(move || shared.work(index))
        };
        let workers = (0..threads.saturating_sub(1)).map_while(|i| spawn(i).ok()).collect();
        Self { path, shared, workers, turn: Mutex::new(()) }
    }

    /// The instructions to compute with.
    pub(crate) const fn path(&self) -> Path {
        self.path
    }

    /// Threads that compute.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len().saturating_add(1)
    }

    /// Calls `work` with parts of `data` that together are all of it, each a whole number of chunks of
    /// `chunk` items (the last one may be shorter), and the number of its first chunk. `work` must not
    /// bring work itself: it would wait for its own end.
    ///
    /// # Panics
    /// If `work` panics, or did in a thread of this pool before.
    pub(crate) fn chunks<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let chunks = data.len().div_ceil(chunk);
        if self.workers.is_empty() || chunks < 2 {
            return work(0, data);
        }
        let (len, base) = (data.len(), Shareable(data.as_mut_ptr()));
        self.run(chunks, &|part| {
            let base = &base;
            let [from, to] = [part.start, part.end].map(|at| (at * chunk).min(len));
            // SAFETY: `from <= to <= len`, so this lies in `data`, which is borrowed for the whole call.
            // `run` calls this with parts none of which has an item of another.
            let items = unsafe { core::slice::from_raw_parts_mut(base.0.add(from), to - from) };
            work(part.start, items);
        });
    }

    /// Calls `task` with parts of `0..count` that together are all of it, each number in one of them, and
    /// returns when all calls have.
    fn run(&self, count: usize, task: &Task<'_>) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes. The task is gone from the job, and no thread is inside,
        // once `Open` below is dropped, which is before this function returns or unwinds.
        let task: &'static Task<'static> = unsafe { core::mem::transmute(task) };
        // SAFETY: workers read the job only while they are inside an open job. None is open, and
        // nobody is inside: the last `Open` waited for that, and `turn` keeps other callers out.
        unsafe { *self.shared.job.get() = Some(Job { task, count }) };
        for taken in &self.shared.taken {
            taken.0.store(0, Ordering::Relaxed);
        }
        let open = Open::new(self);
        self.shared.share(Job { task, count }, self.workers.len());
        drop(open);
        drop(turn);
        let broken = self.shared.broken.load(Ordering::Acquire);
        assert!(!broken, "a compute thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.fetch_or(STOP, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            worker.join().ok();
        }
    }
}

/// A job that threads may enter, until it is dropped.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(pool: &'a Pool) -> Self {
        let state = &pool.shared.state;
        let epoch = (state.load(Ordering::Relaxed) & !(STOP | OPEN | INSIDE)).wrapping_add(EPOCH);
        state.store(epoch | OPEN, Ordering::SeqCst);
        for (worker, sleeping) in pool.workers.iter().zip(&pool.shared.sleeping) {
            if sleeping.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        Self(&pool.shared)
    }
}

impl Drop for Open<'_> {
    /// Lets nobody in any more, waits for who is inside (mostly the time of one part), and forgets the
    /// task, which its owner may now end.
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.0.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins = spins.saturating_add(1);
            if spins < SPINS { spin_loop() } else { std::thread::yield_now() }
        }
        // SAFETY: nobody is inside, or can enter until the next `Open`.
        unsafe { *self.0.job.get() = None };
    }
}

struct Shared {
    /// Threads inside the job, whether it is open to more, and its number.
    state: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    /// How much of each range was taken: one for each thread, and for threads that the system did not give.
    taken: Vec<Taken>,
    /// A worker panicked, so that some part is not done.
    broken: AtomicBool,
    sleeping: Vec<AtomicBool>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written with no thread inside,
// and read inside only; `state` orders the two.
unsafe impl Sync for Shared {}

/// On cache lines of its own, two of which are fetched together: while threads have work of their own
/// they write to none that another one reads.
#[repr(align(128))]
struct Taken(AtomicUsize);

/// What is done with a part of the work.
type Task<'a> = dyn Fn(Range<usize>) + Sync + 'a;

#[derive(Clone, Copy)]
struct Job {
    task: &'static Task<'static>,
    count: usize,
}

impl Shared {
    /// Does what is left of the range of the thread `index`, and then of the others' ranges. A range is a
    /// thread's in every job of the same size, so that the next product finds what the last one left in
    /// this thread's cache. The parts become smaller towards its end: threads end together, and one that
    /// is interrupted holds up little.
    fn share(&self, job: Job, index: usize) {
        let threads = self.taken.len();
        let start = |thread: usize| thread.saturating_mul(job.count) / threads;
        for owner in (index..threads).chain(0..index) {
            let len = start(owner + 1) - start(owner);
            let end = |from: usize| from + (len - from).div_ceil(PARTS);
            let taken = &self.taken[owner].0;
            let next = |from: usize| (from < len).then(|| end(from));
            while let Ok(from) = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
                (job.task)(start(owner) + from..start(owner) + end(from));
            }
        }
    }

    /// The life of a worker.
    fn work(&self, index: usize) {
        let mut last = 0;
        while let Some(epoch) = self.enter(index, last) {
            last = epoch;
            let inside = Inside(self);
            // SAFETY: this thread is inside an open job, so nobody writes.
            if let Some(job) = unsafe { *self.job.get() } {
                self.share(job, index);
            }
            drop(inside);
        }
    }

    /// Waits for a job other than `last` and enters it; `None` to end.
    fn enter(&self, index: usize, last: u64) -> Option<u64> {
        let mut spins = 0u32;
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & STOP != 0 {
                return None;
            }
            let epoch = state & !(STOP | OPEN | INSIDE);
            if state & OPEN != 0 && epoch != last {
                let inside = state.wrapping_add(1);
                let entered =
                    self.state.compare_exchange(state, inside, Ordering::AcqRel, Ordering::Relaxed);
                if entered.is_ok() {
                    return Some(epoch);
                }
                continue;
            }
            spins = spins.saturating_add(1);
            if spins < SPINS {
                spin_loop();
                continue;
            }
            spins = 0;
            if let Some(sleeping) = self.sleeping.get(index) {
                // Said before looking once more: who opens a job looks at it afterwards.
                sleeping.store(true, Ordering::SeqCst);
                if self.state.load(Ordering::SeqCst) == state {
                    std::thread::park();
                }
                sleeping.store(false, Ordering::SeqCst);
            }
        }
    }
}

/// A thread inside a job, until it is dropped.
struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Release);
        }
        self.0.state.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The start of a slice whose parts go to different threads.
struct Shareable<T>(*mut T);

// SAFETY: it is used to give each part of a slice of `T: Send` to one thread; see `Pool::chunks`.
unsafe impl<T: Send> Sync for Shareable<T> {}

/// More than a decoder of the sizes run here can use, and far fewer than [`INSIDE`] can count.
pub(crate) const MAX_THREADS: usize = 64;
/// A thread takes one of so many parts of what is left of a range at once.
const PARTS: usize = 4;
/// Looks at the state before a thread sleeps: about 40 µs.
const SPINS: u32 = 2000;

const INSIDE: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const STOP: u64 = 1 << 17;
const EPOCH: u64 = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_whatever_the_sizes() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::with_path(threads, Path::best());
            for (len, chunk) in [(0, 1), (1, 1), (7, 3), (100, 1), (1000, 7), (64, 64), (65, 64)] {
                let mut items = vec![0usize; len];
                pool.chunks(&mut items, chunk, |first, items| {
                    for (i, item) in items.iter_mut().enumerate() {
                        *item += 1 + first * chunk + i;
                    }
                });
                assert!(items.iter().enumerate().all(|(i, n)| *n == i + 1), "{len} by {chunk}");
            }
        }
    }

    #[test]
    fn who_is_held_up_has_its_work_done_by_the_others() {
        let pool = Pool::with_path(2, Path::best());
        let caller = std::thread::current().id();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let wait = |until: &dyn Fn() -> bool| {
            while !until() {
                assert!(std::time::Instant::now() < deadline, "nobody does the rest");
                std::thread::yield_now();
            }
        };
        for _ in 0..50 {
            let (done, arrived) = (AtomicUsize::new(0), AtomicBool::new(false));
            pool.chunks(&mut [0u8; 64], 1, |_, items| {
                if std::thread::current().id() == caller {
                    wait(&|| arrived.load(Ordering::Relaxed));
                } else {
                    arrived.store(true, Ordering::Relaxed);
                    wait(&|| done.load(Ordering::Relaxed) + items.len() == 64);
                }
                done.fetch_add(items.len(), Ordering::Relaxed);
            });
        }
    }

    #[test]
    fn callers_take_turns() {
        let pool = Pool::with_path(3, Path::best());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..500usize {
                        let mut items = [0; 24];
                        pool.chunks(&mut items, 1, |first, items| items.fill(first + round));
                        let wanted = |i: usize, n: &usize| *n <= i + round && *n >= round;
                        assert!(items.iter().enumerate().all(|(i, n)| wanted(i, n)));
                    }
                });
            }
        });
    }

    #[test]
    fn work_after_a_pause_wakes_sleepers() {
        let pool = Pool::with_path(2, Path::best());
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let mut items = [0u8; 64];
            pool.chunks(&mut items, 1, |_, items| items.fill(1));
            assert_eq!(items, [1; 64]);
        }
    }

    #[test]
    fn starts_no_more_threads_than_the_limit() {
        let pool = Pool::with_path(MAX_THREADS + 1, Path::best());
        assert!(pool.threads() <= MAX_THREADS);
    }

    #[test]
    fn a_panic_of_the_caller_leaves_a_pool_that_works() {
        let pool = Pool::with_path(3, Path::best());
        let caller = std::thread::current().id();
        for _ in 0..50 {
            let mut items = [0u8; 64];
            let once = std::panic::AssertUnwindSafe(|| {
                pool.chunks(&mut items, 1, |_, _| {
                    assert!(std::thread::current().id() != caller, "the caller's part");
                });
            });
            // Unless the others took every part.
            let _ = std::panic::catch_unwind(once);
            pool.chunks(&mut items, 1, |_, items| items.fill(1));
            assert_eq!(items, [1; 64]);
        }
    }

    #[test]
    fn idle_threads_sleep() {
        let pool = Pool::with_path(3, Path::best());
        pool.chunks(&mut [0u8; 64], 1, |_, _| {});
        let asleep = || pool.shared.sleeping.iter().all(|s| s.load(Ordering::SeqCst));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !asleep() {
            assert!(std::time::Instant::now() < deadline, "threads look for work without end");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    #[test]
    #[should_panic(expected = "panicked")]
    fn a_panic_in_any_thread_reaches_the_caller() {
        let pool = Pool::with_path(2, Path::best());
        for _ in 0..1000 {
            pool.chunks(&mut [0u8; 64], 1, |_, _| {
                assert!(std::thread::current().name() != Some("chrysalis-compute-1"), "broken");
                std::thread::sleep(std::time::Duration::from_micros(50));
            });
        }
    }
}
