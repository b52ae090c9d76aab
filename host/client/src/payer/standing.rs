//! What a payer may owe on one channel, and the caps that follow from it. Pure arithmetic: amounts
//! come from receipts and claims that were verified elsewhere. Where it cannot know, it takes the
//! larger number, so that what it calls too much is too much.

use std::time::{Duration, Instant};

/// How much of a channel a payer lets itself be charged, nanogram since the channel was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// No cap goes above this, ever.
    pub limit: u128,
    /// How much more than is owed a new cap allows, as far as the limit does: one signature for many
    /// requests, and the most a worker that vanishes with the cap could claim for nothing.
    pub step: u128,
}

/// Where a channel stands for its payer.
#[derive(Debug)]
pub(crate) struct Standing {
    budget: Budget,
    covered: u128,
    /// By the last claim that was accepted.
    claimed: u128,
    /// Receipts that came since.
    known: u128,
    /// The most that requests on their way can cost.
    open: u128,
    /// The same of requests whose receipt will not come any more, and since when.
    lost: Vec<(Instant, u128)>,
}

/// What was known when a claim was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    known: u128,
    at: Instant,
}

/// A claim for more than the payer can account for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch {
    pub(crate) accounted: u128,
}

impl Standing {
    /// After a start: what was covered and not claimed may be owed, for all that is known.
    pub(crate) fn new(budget: Budget, covered: u128, claimed: u128, now: Instant) -> Self {
        let unknown = covered.saturating_sub(claimed);
        let lost = if unknown > 0 { vec![(now, unknown)] } else { vec![] };
        Self { budget, covered, claimed, known: 0, open: 0, lost }
    }

    /// The most that may be owed.
    pub(crate) fn may_owe(&self) -> u128 {
        self.lost
            .iter()
            .map(|(_, amount)| *amount)
            .fold(self.claimed, u128::saturating_add)
            .saturating_add(self.known)
            .saturating_add(self.open)
            // A worker counts within its caps, and a claim above them does not verify.
            .min(self.covered)
    }

    /// The cap under which one more request of at most `worst` is covered: the one there is, or the
    /// next step within the budget.
    ///
    /// # Errors
    /// The cap that would be needed, if the budget does not reach.
    pub(crate) fn cap_for(&self, worst: u128) -> Result<u128, u128> {
        let owed = self.may_owe();
        let needed = owed.saturating_add(worst);
        if needed <= self.covered {
            return Ok(self.covered);
        }
        if needed > self.budget.limit {
            return Err(needed);
        }
        let stepped = owed.saturating_add(self.budget.step).min(self.budget.limit);
        Ok(needed.max(stepped).max(self.covered))
    }

    /// A cap was signed.
    pub(crate) fn cover(&mut self, max_cum: u128) {
        self.covered = self.covered.max(max_cum);
    }

    /// A request is on its way.
    pub(crate) fn begin(&mut self, worst: u128) {
        self.open = self.open.saturating_add(worst);
    }

    /// Its receipt came; zero if it was refused.
    pub(crate) fn end(&mut self, worst: u128, amount: u128) {
        self.open = self.open.saturating_sub(worst);
        self.known = self.known.saturating_add(amount);
    }

    /// No receipt will come.
    pub(crate) fn lose(&mut self, worst: u128, now: Instant) {
        self.open = self.open.saturating_sub(worst);
        self.lost.push((now, worst));
    }

    /// To be kept until the answer to a question for a claim.
    pub(crate) const fn ask(&self, now: Instant) -> Asked {
        Asked { known: self.known, at: now }
    }

    /// Takes the claim for `cum`; false if it says less than one before.
    ///
    /// # Errors
    /// [`TooMuch`] for more than every receipt and every request without one comes to.
    pub(crate) fn accept(&mut self, asked: Asked, cum: u128) -> Result<bool, TooMuch> {
        let accounted = self.may_owe();
        if cum > accounted {
            return Err(TooMuch { accounted });
        }
        if cum < self.claimed {
            return Ok(false);
        }
        self.claimed = cum;
        // What came while the question was on its way may be in the claim or not.
        self.known = self.known.saturating_sub(asked.known);
        // A worker is done with a request that nobody waits for by then; it is in the claim.
        self.lost.retain(|(since, _)| asked.at.duration_since(*since) < LOST_FOR);
        Ok(true)
    }

    /// Takes a claim that this payer's own signature proves and its memory does not hold.
    pub(crate) fn adopt(&mut self, cum: u128, max_cum: u128) {
        self.claimed = self.claimed.max(cum);
        self.covered = self.covered.max(max_cum);
    }

    /// Largest cap.
    pub(crate) const fn covered(&self) -> u128 {
        self.covered
    }

    /// Whether most of the budget may be owed.
    pub(crate) fn near(&self) -> bool {
        self.may_owe() > self.budget.limit / 100 * NEAR_PERCENT
    }
}

/// How long a request without a requester may still be counted after it was lost: the longest a
/// worker lets a reader stall, twice.
const LOST_FOR: Duration = Duration::from_secs(60);
/// From this part of the budget on its owner is warned.
const NEAR_PERCENT: u128 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { limit: 1_000, step: 100 };

    fn standing() -> Standing {
        Standing::new(BUDGET, 0, 0, Instant::now())
    }

    /// Signs what is needed and begins a request.
    fn begin(s: &mut Standing, worst: u128) -> Result<u128, u128> {
        let cap = s.cap_for(worst)?;
        s.cover(cap);
        s.begin(worst);
        Ok(cap)
    }

    #[test]
    fn caps_grow_by_steps_and_never_past_the_limit() {
        let mut s = standing();
        assert_eq!(begin(&mut s, 30), Ok(100));
        s.end(30, 30);
        assert_eq!(begin(&mut s, 70), Ok(100), "the last nanogram of a cap is used");
        s.end(70, 70);
        assert_eq!(begin(&mut s, 1), Ok(200));
        s.end(1, 0);
        assert_eq!(begin(&mut s, 900), Ok(1_000), "a request may need more than a step");
        s.end(900, 900);
        assert_eq!(begin(&mut s, 1), Err(1_001));
        assert_eq!(s.covered(), 1_000);
    }

    #[test]
    fn requests_that_run_together_are_covered_together() {
        let mut s = standing();
        assert_eq!(begin(&mut s, 60), Ok(100));
        assert_eq!(begin(&mut s, 60), Ok(160));
        assert_eq!(begin(&mut s, 881), Err(1_001));
    }

    #[test]
    fn a_claim_for_one_nanogram_more_than_the_receipts_is_too_much() {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        s.end(60, 50);
        let asked = s.ask(Instant::now());
        assert_eq!(s.accept(asked, 51), Err(TooMuch { accounted: 50 }));
        assert_eq!(s.accept(asked, 50), Ok(true));
        assert_eq!(s.may_owe(), 50);
        assert_eq!(s.accept(s.ask(Instant::now()), 49), Ok(false), "an old one changes nothing");
        assert_eq!(s.may_owe(), 50);
    }

    #[test]
    fn a_receipt_that_comes_while_a_claim_is_asked_for_counts_until_the_next() {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        let asked = s.ask(Instant::now());
        s.end(60, 50);
        assert_eq!(s.accept(asked, 50), Ok(true));
        assert_eq!(s.may_owe(), 100, "it may not have been in the claim");
        let asked = s.ask(Instant::now());
        assert_eq!(s.accept(asked, 50), Ok(true));
        assert_eq!(s.may_owe(), 50);
    }

    #[test]
    fn a_request_without_a_receipt_may_cost_its_most_for_a_while() {
        let now = Instant::now();
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        s.lose(60, now);
        assert_eq!(s.accept(s.ask(now), 0), Ok(true));
        assert_eq!(s.may_owe(), 60);
        let later = now + LOST_FOR;
        assert_eq!(s.accept(s.ask(later), 20), Ok(true));
        assert_eq!(s.may_owe(), 20);
    }

    #[test]
    fn after_a_start_everything_covered_may_be_owed_and_nothing_more() {
        let now = Instant::now();
        let mut s = Standing::new(BUDGET, 300, 120, now);
        assert_eq!(s.may_owe(), 300);
        assert_eq!(s.accept(s.ask(now + LOST_FOR), 150), Ok(true));
        assert_eq!(s.may_owe(), 150);
        assert_eq!(s.cap_for(100), Ok(300));
    }

    #[test]
    fn a_claim_it_signed_for_and_forgot_is_adopted() {
        let mut s = standing();
        s.adopt(400, 500);
        assert_eq!((s.may_owe(), s.covered()), (400, 500));
        assert_eq!(s.cap_for(100), Ok(500));
    }

    #[test]
    fn warns_past_four_fifths_of_the_budget() {
        let mut s = standing();
        begin(&mut s, 800).unwrap();
        assert!(!s.near());
        s.end(800, 800);
        begin(&mut s, 1).unwrap();
        assert!(s.near());
    }
}
