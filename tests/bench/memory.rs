//! How fast this machine reads memory: what no decoder that reads all of its weights for each token can
//! exceed. The buffer is what weights lie in, or its pages would be smaller and the limit with them.

use std::num::Wrapping;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use chrysalis_vault::LockedBytes;

/// A buffer that no cache holds.
pub(crate) struct Memory {
    bytes: LockedBytes,
    sum: u64,
}

impl Memory {
    /// Fills the buffer, so that its pages exist.
    pub(crate) fn new() -> Result<Self> {
        let mut bytes = LockedBytes::zeroed(BYTES)?;
        for (number, word) in bytes.as_mut_slice().as_chunks_mut().0.iter_mut().enumerate() {
            *word = u64::try_from(number)?.to_le_bytes();
        }
        Ok(Self { bytes, sum: (0..(BYTES / 8) as u64).sum() })
    }

    /// Reads all of it with `threads` threads; bytes per second of the fastest of several passes.
    pub(crate) fn rate(&self, threads: usize) -> Result<f64> {
        (0..PASSES).try_fold(0.0, |best: f64, _| Ok(best.max(self.pass(threads)?)))
    }

    fn pass(&self, threads: usize) -> Result<f64> {
        let bytes = self.bytes.as_slice();
        let part = bytes.len().div_ceil(8 * threads) * 8;
        let parts: Vec<&[u8]> = bytes.chunks(part).collect();
        let ready = Barrier::new(parts.len());
        let read = |own: &[u8]| {
            // Every thread runs before one reads.
            ready.wait();
            let started = Instant::now();
            (sum(own), started, Instant::now())
        };
        let done = thread::scope(|scope| {
            let readers: Vec<_> = parts.into_iter().map(|own| scope.spawn(|| read(own))).collect();
            let done = readers.into_iter().map(|reader| reader.join().ok());
            done.collect::<Option<Vec<_>>>().context("a reader panicked")
        })?;
        let total = done.iter().fold(0u64, |total, (sum, ..)| total.wrapping_add(*sum));
        let first = done.iter().map(|(_, started, _)| *started).min().context("no reader")?;
        let last = done.iter().map(|(.., ended)| *ended).max().context("no reader")?;
        let seconds = (last - first).as_secs_f64();
        ensure!(total == self.sum, "a pass over the memory left some of it out");
        Ok(bytes.len() as f64 / seconds)
    }
}

/// Adds up the words of `bytes`. Eight sums at a time, so that the loads and not the additions are waited for.
fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [Wrapping(0); 8];
    let (words, _) = bytes.as_chunks();
    let (lines, rest) = words.as_chunks::<8>();
    for line in lines {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum += u64::from_le_bytes(*word);
        }
    }
    let rest = rest.iter().map(|word| Wrapping(u64::from_le_bytes(*word)));
    sums.into_iter().chain(rest).sum::<Wrapping<u64>>().0
}

/// 512 MiB, more than any cache.
const BYTES: usize = 512 << 20;
const PASSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        // Words that do not fill their last line.
        let bytes: Vec<u8> = (0..107u64).flat_map(u64::to_le_bytes).collect();
        assert_eq!(sum(&bytes), 107 * 106 / 2);
    }
}
