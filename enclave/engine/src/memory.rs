//! How many pages of keys and values the machine has memory for. Under Linux a process is given more than
//! there is and ended when it touches it: so the pool is no larger than what was there once the weights were.
//! What the system says is trusted as the system is; a wrong figure costs requests and tells nothing.

use std::fs::File;
use std::io::Read as _;

/// Bytes that can be had without swapping, as the kernel estimates them; `None` if it does not say.
pub(crate) fn available() -> Option<u64> {
    let mut text = String::new();
    File::open(MEMINFO).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    parse(&text)
}

fn parse(meminfo: &str) -> Option<u64> {
    let given = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    // The unit is written there and has been 1024 bytes ever since.
    let kibibytes: u64 = given.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Of `wanted` pages of `page` bytes each, those for which `available` bytes suffice. A quarter of these,
/// but no more than [`MOST_RESERVED`], is left for buffers of steps, requests and answers.
pub(crate) fn affordable(available: u64, page: u64, wanted: usize) -> usize {
    let left = available.saturating_sub((available / 4).min(MOST_RESERVED));
    let pages = left.checked_div(page).unwrap_or(u64::MAX);
    usize::try_from(pages).map_or(wanted, |pages| pages.min(wanted))
}

/// Most bytes that are left for everything else: logits of 256 tokens of a vocabulary of 262 144 are a
/// quarter of it, requests and answers that a worker holds another.
const MOST_RESERVED: u64 = 1 << 30;

/// Of procfs: see proc(5).
const MEMINFO: &str = "/proc/meminfo";
/// More than the file is: 1.5 KB.
const MAX_BYTES: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says_is_available_and_nothing_else() {
        let text = "MemTotal:       24629884 kB\nMemAvailable:    1024 kB\nBuffers:  7 kB\n";
        assert_eq!(parse(text), Some(1 << 20));
        for text in [
            "",
            "MemFree: 1 kB",
            "MemAvailable: 1",
            "MemAvailable: 1 MB",
            "MemAvailable: -1 kB",
            "MemAvailable: 18014398509481984 kB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(available().is_some_and(|bytes| bytes > 1 << 20), "Linux says it");
    }

    #[test]
    fn a_page_more_than_there_is_memory_for_is_not_there() {
        // Of little a quarter stays, of much a gibibyte.
        for (available, left) in [(400, 300), (4 << 30, 3 << 30), (100 << 30, 99 << 30)] {
            for page in [1, 7, 100] {
                let fits = usize::try_from(left / page).unwrap();
                let of = |wanted| affordable(available, page, wanted);
                assert_eq!([of(fits - 1), of(fits), of(fits + 1)], [fits - 1, fits, fits]);
            }
        }
        assert_eq!((affordable(0, 10, 5), affordable(13, 10, 5)), (0, 1));
        assert_eq!(affordable(0, 0, 5), 5, "pages of nothing");
    }
}
