//! When to settle, unless the payer forces it.

use crate::error::WatchError;

/// When a claim is brought to the chain. Amounts are nanogram, times are seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    settle_at: u128,
    settle_after: u64,
    fee_share_ppm: u32,
}

impl Policy {
    /// Settles once `settle_at` is owed, or anything for `settle_after` seconds, but not while the fee
    /// would be over `fee_share_ppm` parts in a million of the payment.
    ///
    /// # Errors
    /// [`WatchError::FeeShare`], [`WatchError::SettleAfter`] outside of their limits.
    pub const fn new(
        settle_at: u128,
        settle_after: u64,
        fee_share_ppm: u32,
    ) -> Result<Self, WatchError> {
        if fee_share_ppm == 0 || fee_share_ppm > MAX_FEE_SHARE_PPM {
            return Err(WatchError::FeeShare { got: fee_share_ppm });
        }
        if settle_after < MIN_SETTLE_AFTER || settle_after > MAX_SETTLE_AFTER {
            return Err(WatchError::SettleAfter { got: settle_after });
        }
        Ok(Self { settle_at, settle_after, fee_share_ppm })
    }

    /// Owed, at which it settles.
    #[must_use]
    pub const fn settle_at(&self) -> u128 {
        self.settle_at
    }

    /// Seconds after which it settles less.
    #[must_use]
    pub const fn settle_after(&self) -> u64 {
        self.settle_after
    }

    /// Whether the fee of a payment is a small enough part of it.
    #[must_use]
    pub const fn worth_its_fee(&self, payment: u128) -> bool {
        fee_ppm(payment) <= self.fee_share_ppm as u128
    }

    /// Least payment that is worth its fee.
    #[must_use]
    pub const fn least_worth_its_fee(&self) -> u128 {
        // Exact: the shares are small whole numbers, and a share of zero cannot be.
        match EXPECTED_FEE.saturating_mul(MILLION).checked_div(self.fee_share_ppm as u128) {
            Some(payment) => payment,
            None => u128::MAX,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let (settle_at, settle_after) = (DEFAULT_SETTLE_AT, DEFAULT_SETTLE_AFTER);
        Self { settle_at, settle_after, fee_share_ppm: DEFAULT_FEE_SHARE_PPM }
    }
}

/// The fee in parts in a million of a payment, rounded down; of no payment, everything.
pub(crate) const fn fee_ppm(payment: u128) -> u128 {
    match EXPECTED_FEE.saturating_mul(MILLION).checked_div(payment) {
        Some(ppm) => ppm,
        None => u128::MAX,
    }
}

/// What one settlement costs the deposit at the prices of mid-2026, nanogram; the tests of the
/// contract hold this number.
pub const EXPECTED_FEE: u128 = 702_136;
/// Owed at which it settles unless said otherwise: 1 GRAM.
pub const DEFAULT_SETTLE_AT: u128 = 1_000_000_000;
/// Seconds after which it settles less unless said otherwise: a day.
pub const DEFAULT_SETTLE_AFTER: u64 = 86_400;
/// Shortest such time, an hour: below, fees eat the deposit.
pub const MIN_SETTLE_AFTER: u64 = 3_600;
/// Longest such time: thirty days.
pub const MAX_SETTLE_AFTER: u64 = 30 * 86_400;
/// Largest share of the fee unless said otherwise: one in a hundred.
pub const DEFAULT_FEE_SHARE_PPM: u32 = 10_000;
/// Largest share that can be asked for: half of the payment.
pub const MAX_FEE_SHARE_PPM: u32 = 500_000;
/// Seconds between two looks at a channel. Its shortest closing delay is four times this.
pub const POLL_SECONDS: u64 = 900;
/// Seconds between two looks while something is under way.
pub const URGENT_SECONDS: u64 = 60;
/// Seconds after which a message that had no effect is thought to be lost, and sent again.
pub const REPEAT_SECONDS: u64 = 120;

const MILLION: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use chrysalis_ton::MIN_CLOSE_DELAY;

    use super::*;

    #[test]
    fn the_chain_is_looked_at_often_enough_for_the_shortest_closing_delay() {
        assert!(POLL_SECONDS * 4 <= MIN_CLOSE_DELAY.into());
        const { assert!(URGENT_SECONDS < REPEAT_SECONDS && REPEAT_SECONDS < POLL_SECONDS) }
    }

    #[test]
    fn refuses_settings_one_past_their_limits() {
        let share = |ppm| Policy::new(1, MIN_SETTLE_AFTER, ppm).is_ok();
        assert!(share(1) && share(MAX_FEE_SHARE_PPM));
        assert!(!share(0) && !share(MAX_FEE_SHARE_PPM + 1));
        let after = |seconds| Policy::new(1, seconds, 1).is_ok();
        assert!(after(MIN_SETTLE_AFTER) && after(MAX_SETTLE_AFTER));
        assert!(!after(MIN_SETTLE_AFTER - 1) && !after(MAX_SETTLE_AFTER + 1));
    }

    #[test]
    fn a_payment_is_worth_its_fee_from_one_amount_on() {
        let policy = Policy::default();
        let least = policy.least_worth_its_fee();
        assert_eq!(least, 70_213_600);
        assert!(policy.worth_its_fee(least) && policy.worth_its_fee(u128::MAX));
        assert!(!policy.worth_its_fee(least / 2) && !policy.worth_its_fee(0));
    }
}
