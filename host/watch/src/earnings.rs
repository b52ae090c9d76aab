//! What an owner earned, told in sums: a pure function of her book and the time.

use chrysalis_wire::UnixTime;

use crate::policy::{EXPECTED_FEE, Policy, fee_ppm};

/// Something that happened, for the sums. Amounts are nanogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// When.
    pub at: UnixTime,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A meter counted more.
    Earned {
        /// How much more.
        amount: u128,
        /// Requests in it.
        requests: u64,
    },
    /// The chain paid.
    Settled {
        /// How much.
        amount: u128,
        /// Its fee, which the deposit paid.
        fee: u128,
    },
    /// It had not paid, after all.
    NotSettled {
        /// How much less.
        amount: u128,
    },
}

/// A channel as it stands. Amounts are nanogram since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Owed by the latest cumulative receipt.
    pub earned: u128,
    /// Most that the payer has allowed.
    pub covered: u128,
    /// Paid on the chain.
    pub settled: u128,
    /// Smallest settlement.
    pub min_settle: u128,
    /// When something was last paid, or the channel became known.
    pub since: UnixTime,
}

/// Sums of a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Earned, nanogram.
    pub earned: u128,
    /// Paid on the chain, nanogram.
    pub settled: u128,
    /// Fees of those payments, which the payers' deposits paid, nanogram.
    pub fees: u128,
    /// Requests.
    pub requests: u64,
}

/// The next settlement, if nothing more is earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upcoming {
    /// What it will pay, nanogram.
    pub amount: u128,
    /// When, at the latest; `None` while the amount is too small to settle.
    pub at: Option<UnixTime>,
    /// What it will cost, nanogram.
    pub fee: u128,
    /// That, in parts in a million of the payment.
    pub fee_ppm: u128,
}

/// What an owner earned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earnings {
    /// Since midnight UTC.
    pub today: Window,
    /// In the last seven times 24 hours.
    pub week: Window,
    /// In the last thirty times 24 hours.
    pub month: Window,
    /// Ever.
    pub total: Window,
    /// Most that payers have allowed and is not earned yet, nanogram.
    pub room: u128,
    /// Earned and not paid yet, nanogram.
    pub unsettled: u128,
    /// The settlement that comes first.
    pub next: Option<Upcoming>,
}

impl Earnings {
    /// Adds up what happened until now. Facts from after `now`, which a clock that was set back
    /// leaves, are in every sum.
    pub fn of(
        standings: &[Standing],
        facts: impl IntoIterator<Item = Fact>,
        policy: &Policy,
        now: UnixTime,
    ) -> Self {
        let midnight = UnixTime(now.0.saturating_sub(now.0 % DAY));
        let since = |days: u64| UnixTime(now.0.saturating_sub(days.saturating_mul(DAY)));
        let mut windows = [
            (midnight, Window::default()),
            (since(7), Window::default()),
            (since(30), Window::default()),
            (UnixTime(0), Window::default()),
        ];
        for fact in facts {
            for (from, window) in &mut windows {
                if fact.at >= *from {
                    window.add(&fact.what);
                }
            }
        }
        let [(_, today), (_, week), (_, month), (_, total)] = windows;
        let sum = |of: fn(&Standing) -> u128| {
            standings.iter().fold(0u128, |sum, standing| sum.saturating_add(of(standing)))
        };
        let next = standings.iter().filter_map(|standing| standing.next(policy));
        Self {
            today,
            week,
            month,
            total,
            room: sum(|s| s.covered.saturating_sub(s.earned)),
            unsettled: sum(Standing::unsettled),
            // One with a date comes before one without.
            next: next.min_by_key(|next| (next.at.is_none(), next.at)),
        }
    }
}

impl Window {
    fn add(&mut self, what: &Happened) {
        match what {
            Happened::Earned { amount, requests } => {
                self.earned = self.earned.saturating_add(*amount);
                self.requests = self.requests.saturating_add(*requests);
            }
            Happened::Settled { amount, fee } => {
                self.settled = self.settled.saturating_add(*amount);
                self.fees = self.fees.saturating_add(*fee);
            }
            Happened::NotSettled { amount } => {
                self.settled = self.settled.saturating_sub(*amount);
            }
        }
    }
}

impl Standing {
    const fn unsettled(&self) -> u128 {
        self.earned.saturating_sub(self.settled)
    }

    fn next(&self, policy: &Policy) -> Option<Upcoming> {
        let amount = self.unsettled();
        if amount == 0 {
            return None;
        }
        let at = if amount < self.min_settle || !policy.worth_its_fee(amount) {
            None
        } else if amount >= policy.settle_at() {
            Some(self.since)
        } else {
            Some(UnixTime(self.since.0.saturating_add(policy.settle_after())))
        };
        Some(Upcoming { amount, at, fee: EXPECTED_FEE, fee_ppm: fee_ppm(amount) })
    }
}

const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_795_000_000);
    const GRAM: u128 = 1_000_000_000;

    fn earned(ago: u64, amount: u128) -> Fact {
        Fact { at: UnixTime(NOW.0 - ago), what: Happened::Earned { amount, requests: 2 } }
    }

    fn standing(earned: u128, settled: u128) -> Standing {
        let since = UnixTime(NOW.0 - 100);
        Standing { earned, covered: 5 * GRAM, settled, min_settle: GRAM / 20, since }
    }

    #[test]
    fn a_fact_counts_in_every_stretch_that_reaches_back_to_it_and_no_other() {
        let midnight = NOW.0 % DAY;
        let (week, month) = (7 * DAY, 30 * DAY);
        for (ago, expected) in [
            (0, [1, 1, 1, 1]),
            (midnight, [1, 1, 1, 1]),
            (midnight + 1, [0, 1, 1, 1]),
            (week, [0, 1, 1, 1]),
            (week + 1, [0, 0, 1, 1]),
            (month, [0, 0, 1, 1]),
            (month + 1, [0, 0, 0, 1]),
        ] {
            let e = Earnings::of(&[], [earned(ago, 1)], &Policy::default(), NOW);
            let sums = [e.today, e.week, e.month, e.total].map(|w| w.earned);
            assert_eq!(sums, expected, "{ago} s ago");
        }
    }

    #[test]
    fn payments_and_fees_are_apart_from_what_was_earned() {
        let paid = Happened::Settled { amount: GRAM, fee: 7 };
        let facts = [earned(5, 2 * GRAM), Fact { at: NOW, what: paid }];
        let e = Earnings::of(&[standing(2 * GRAM, GRAM)], facts, &Policy::default(), NOW);
        let window = Window { earned: 2 * GRAM, settled: GRAM, fees: 7, requests: 2 };
        assert_eq!((e.today, e.total), (window, window));
        assert_eq!((e.unsettled, e.room), (GRAM, 3 * GRAM));
    }

    #[test]
    fn the_next_settlement_is_the_earliest_and_says_its_share_of_fees() {
        let next =
            |standings: &[Standing]| Earnings::of(standings, [], &Policy::default(), NOW).next;
        let day = UnixTime(NOW.0 - 100 + DAY);
        let small = Upcoming { amount: 1, at: None, fee: EXPECTED_FEE, fee_ppm: 702_136_000_000 };
        assert_eq!(next(&[standing(GRAM, GRAM)]), None);
        assert_eq!(next(&[standing(1, 0)]), Some(small));
        let half = Upcoming { amount: GRAM / 2, at: Some(day), fee: EXPECTED_FEE, fee_ppm: 1_404 };
        assert_eq!(next(&[standing(1, 0), standing(GRAM / 2, 0)]), Some(half));
        let whole = next(&[standing(GRAM / 2, 0), standing(GRAM, 0)]).unwrap();
        assert_eq!((whole.amount, whole.at), (GRAM, Some(UnixTime(NOW.0 - 100))));
    }
}
