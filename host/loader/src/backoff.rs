//! How long to wait before a worker that ended is started again. Pure arithmetic.

use std::time::Duration;

/// Doubling delays between a first and a largest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    consecutive: u32,
}

impl Backoff {
    /// Delays `first`, `2 first`, `4 first`, … never above `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, consecutive: 0 }
    }

    /// The delay before the next start.
    pub fn delay(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.consecutive).unwrap_or(u32::MAX);
        self.consecutive = self.consecutive.saturating_add(1);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// How many delays were asked for since the last reset.
    #[must_use]
    pub const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// The worker ran long enough: the next delay is the first again.
    pub const fn reset(&mut self) {
        self.consecutive = 0;
    }
}

/// Delay before the first restart.
pub const FIRST_RESTART_DELAY: Duration = Duration::from_millis(500);

/// Longest delay between restarts.
pub const MAX_RESTART_DELAY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_largest_delay_and_stays_there() {
        let mut b = Backoff::new(Duration::from_millis(500), Duration::from_secs(3));
        let delays: Vec<u128> = (0..5).map(|_| b.delay().as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 3000, 3000]);
    }

    #[test]
    fn never_overflows() {
        let mut b = Backoff::new(FIRST_RESTART_DELAY, MAX_RESTART_DELAY);
        for _ in 0..100 {
            assert!(b.delay() <= MAX_RESTART_DELAY);
        }
        assert_eq!(b.delay(), MAX_RESTART_DELAY);
    }

    #[test]
    fn starts_over_after_a_reset() {
        let mut b = Backoff::new(FIRST_RESTART_DELAY, MAX_RESTART_DELAY);
        b.delay();
        b.delay();
        b.reset();
        assert_eq!((b.delay(), b.consecutive()), (FIRST_RESTART_DELAY, 1));
    }
}
