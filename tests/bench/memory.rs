//! How fast this machine reads memory: what no decoder that reads all of its weights for each token can
//! exceed.

use std::num::Wrapping;
use std::thread;
use std::time::Instant;

/// A buffer that no cache holds.
pub(crate) struct Memory(Vec<u64>);

impl Memory {
    /// Fills the buffer, so that its pages exist.
    pub(crate) fn new() -> Self {
        Self((0..WORDS).collect())
    }

    /// Reads all of it once with `threads` threads; bytes per second.
    pub(crate) fn rate(&self, threads: usize) -> f64 {
        let part = self.0.len().div_ceil(threads);
        let started = Instant::now();
        let sum: u64 = thread::scope(|scope| {
            let readers: Vec<_> = self.0.chunks(part).map(|own| scope.spawn(|| sum(own))).collect();
            // A reader that panics has read nothing; the sum shows it below.
            readers.into_iter().map(|reader| reader.join().unwrap_or(0)).fold(0, u64::wrapping_add)
        });
        let seconds = started.elapsed().as_secs_f64();
        debug_assert_eq!(sum, (0..WORDS).fold(0, u64::wrapping_add));
        std::hint::black_box(sum);
        (self.0.len() * size_of::<u64>()) as f64 / seconds
    }
}

/// Eight sums at a time, so that the loads and not the additions are waited for.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [Wrapping(0); 8];
    let (chunks, rest) = words.as_chunks::<8>();
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum += word;
        }
    }
    sums.into_iter().chain(rest.iter().copied().map(Wrapping)).sum::<Wrapping<u64>>().0
}

/// 512 MiB.
const WORDS: u64 = 64 << 20;
