//! What a payer may owe on one channel, and the caps that follow from it. Pure arithmetic: amounts
//! come from receipts and claims that were verified elsewhere. Where it cannot know, it takes the
//! larger number, so that what it calls too much is too much.

use chrysalis_ledger::OpenRequest;
use chrysalis_wire::{RequestId, UnixTime};

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
    known: Known,
    /// The most that requests on their way can cost.
    open: u128,
}

/// What outlives a process. Amounts are nanogram since the channel was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Largest cap.
    pub(crate) covered: u128,
    /// By the last claim that was accepted.
    pub(crate) claimed: u128,
    /// Receipts that came.
    pub(crate) receipted: u128,
    /// Those of them that the last accepted claim includes for certain.
    pub(crate) included: u128,
    /// Requests whose receipt will not come any more.
    pub(crate) lost: Vec<OpenRequest>,
}

/// What was known when a claim was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    receipted: u128,
    at: UnixTime,
}

/// A claim for more than the payer can account for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch {
    pub(crate) accounted: u128,
}

impl Standing {
    pub(crate) const fn new(budget: Budget, known: Known) -> Self {
        Self { budget, known, open: 0 }
    }

    /// The most that may be owed.
    pub(crate) fn may_owe(&self) -> u128 {
        let Known { covered, claimed, receipted, included, lost } = &self.known;
        lost.iter()
            .map(|lost| lost.worst)
            .fold(*claimed, u128::saturating_add)
            .saturating_add(receipted.saturating_sub(*included))
            .saturating_add(self.open)
            // A worker counts within its caps, and a claim above them does not verify.
            .min(*covered)
    }

    /// The cap under which one more request of at most `worst` is covered: the one there is, or the
    /// next step within the budget. A meter that is not `named` yet is given the one there is only as
    /// far as the budget goes, which may have been lowered since.
    ///
    /// # Errors
    /// The cap that would be needed, if the budget does not reach.
    pub(crate) fn cap_for(&self, worst: u128, named: bool) -> Result<u128, u128> {
        let owed = self.may_owe();
        let needed = owed.saturating_add(worst);
        if needed > self.budget.limit {
            return Err(needed);
        }
        if needed <= self.known.covered {
            let within = self.known.covered.min(self.budget.limit);
            return Ok(if named { self.known.covered } else { needed.max(within) });
        }
        let stepped = owed.saturating_add(self.budget.step).min(self.budget.limit);
        Ok(needed.max(stepped).max(self.known.covered))
    }

    /// A cap was signed.
    pub(crate) fn cover(&mut self, max_cum: u128) {
        self.known.covered = self.known.covered.max(max_cum);
    }

    /// A request is on its way.
    pub(crate) fn begin(&mut self, worst: u128) {
        self.open = self.open.saturating_add(worst);
    }

    /// Its receipt came; zero if it was refused.
    pub(crate) fn end(&mut self, worst: u128, amount: u128) {
        self.open = self.open.saturating_sub(worst);
        self.known.receipted = self.known.receipted.saturating_add(amount);
    }

    /// No receipt will come.
    pub(crate) fn lose(&mut self, request: OpenRequest) {
        self.open = self.open.saturating_sub(request.worst);
        self.known.lost.push(request);
    }

    /// To be kept until the answer to a question for a claim.
    pub(crate) const fn ask(&self, now: UnixTime) -> Asked {
        Asked { receipted: self.known.receipted, at: now }
    }

    /// Takes the claim for `cum`, and says which requests without a receipt are over with it; `None` if
    /// it says less than one before.
    ///
    /// # Errors
    /// [`TooMuch`] for more than every receipt and every request without one comes to.
    pub(crate) fn accept(
        &mut self,
        asked: Asked,
        cum: u128,
    ) -> Result<Option<Vec<RequestId>>, TooMuch> {
        let accounted = self.may_owe();
        if cum > accounted {
            return Err(TooMuch { accounted });
        }
        let known = &mut self.known;
        if cum < known.claimed {
            return Ok(None);
        }
        known.claimed = cum;
        // What came while the question was on its way may be in the claim or not.
        known.included = known.included.max(asked.receipted);
        // Whatever a request cost that was over when the question was asked is in the claim.
        let over =
            |lost: &OpenRequest| asked.at.0 >= lost.begun.0.saturating_add(LONGEST_REQUEST_SECONDS);
        let ended = known.lost.iter().filter(|lost| over(lost)).map(|lost| lost.request).collect();
        known.lost.retain(|lost| !over(lost));
        Ok(Some(ended))
    }

    /// Takes a claim that this payer's own signature proves and its memory does not hold.
    pub(crate) fn adopt(&mut self, cum: u128, max_cum: u128) {
        self.known.claimed = self.known.claimed.max(cum);
        self.known.covered = self.known.covered.max(max_cum);
    }

    /// Receipts that the last accepted claim includes for certain.
    pub(crate) const fn included(&self) -> u128 {
        self.known.included
    }

    /// Largest cap.
    pub(crate) const fn covered(&self) -> u128 {
        self.known.covered
    }

    /// Whether most of the budget may be owed.
    pub(crate) fn near(&self) -> bool {
        self.may_owe() > self.budget.limit / 100 * NEAR_PERCENT
    }
}

/// From when a request was signed for, the longest until what it cost is in the worker's next claim,
/// seconds. A host that keeps the connection of a requester who left lets the worker finish a whole
/// answer; this is 4096 tokens at little more than one in a second.
pub(crate) const LONGEST_REQUEST_SECONDS: u64 = 3_600;
/// From this part of the budget on its owner is warned.
const NEAR_PERCENT: u128 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { limit: 1_000, step: 100 };
    const NOW: UnixTime = UnixTime(1_795_000_000);

    fn standing() -> Standing {
        Standing::new(BUDGET, Known::default())
    }

    fn later(seconds: u64) -> UnixTime {
        UnixTime(NOW.0 + seconds)
    }

    fn lost(worst: u128) -> OpenRequest {
        OpenRequest { request: RequestId([1; 16]), worst, begun: NOW }
    }

    /// Signs what is needed and begins a request.
    fn begin(s: &mut Standing, worst: u128) -> Result<u128, u128> {
        let cap = s.cap_for(worst, true)?;
        s.cover(cap);
        s.begin(worst);
        Ok(cap)
    }

    fn accept(s: &mut Standing, at: UnixTime, cum: u128) -> Result<bool, TooMuch> {
        s.accept(s.ask(at), cum).map(|taken| taken.is_some())
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
    fn a_budget_that_was_lowered_holds_for_requests_and_for_new_meters() {
        let known = Known { covered: 300, claimed: 50, ..Known::default() };
        let s = Standing::new(Budget { limit: 100, step: 10 }, known);
        assert_eq!(s.cap_for(60, true), Err(110));
        assert_eq!(s.cap_for(50, true), Ok(300), "it has that one already");
        assert_eq!(s.cap_for(50, false), Ok(100));
    }

    #[test]
    fn a_claim_for_one_nanogram_more_than_the_receipts_is_too_much() {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        s.end(60, 50);
        assert_eq!(accept(&mut s, NOW, 51), Err(TooMuch { accounted: 50 }));
        assert_eq!(accept(&mut s, NOW, 50), Ok(true));
        assert_eq!(s.may_owe(), 50);
        assert_eq!(accept(&mut s, NOW, 49), Ok(false), "an old one changes nothing");
        assert_eq!(s.may_owe(), 50);
    }

    #[test]
    fn a_receipt_that_comes_while_a_claim_is_asked_for_counts_until_the_next() {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        let asked = s.ask(NOW);
        s.end(60, 50);
        assert_eq!(s.accept(asked, 50), Ok(Some(vec![])));
        assert_eq!(s.may_owe(), 100, "it may not have been in the claim");
        assert_eq!(accept(&mut s, NOW, 50), Ok(true));
        assert_eq!(s.may_owe(), 50);
    }

    #[test]
    fn two_questions_at_once_take_no_receipt_for_included_twice() {
        let mut s = standing();
        begin(&mut s, 100).unwrap();
        s.end(60, 50);
        let (first, second) = (s.ask(NOW), s.ask(NOW));
        assert_eq!(s.accept(first, 50), Ok(Some(vec![])));
        s.end(40, 30);
        assert_eq!(s.accept(second, 50), Ok(Some(vec![])));
        assert_eq!(s.may_owe(), 80, "the receipt that came between is in no claim");
    }

    #[test]
    fn a_request_without_a_receipt_may_cost_its_most_until_a_claim_after_the_longest() {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        s.lose(lost(60));
        // It is still running somewhere; the next claim has it, and that is not too much.
        assert_eq!(accept(&mut s, later(60), 0), Ok(true));
        assert_eq!(s.may_owe(), 60);
        assert_eq!(accept(&mut s, later(120), 20), Ok(true));
        assert_eq!(s.may_owe(), 80, "whether it is in there is not known");
        assert_eq!(accept(&mut s, later(LONGEST_REQUEST_SECONDS - 1), 20), Ok(true));
        assert_eq!(s.may_owe(), 80);
        let over = s.accept(s.ask(later(LONGEST_REQUEST_SECONDS)), 20);
        assert_eq!(over, Ok(Some(vec![lost(60).request])));
        assert_eq!(s.may_owe(), 20);
        assert_eq!(accept(&mut s, later(9_999), 21), Err(TooMuch { accounted: 20 }));
    }

    #[test]
    fn after_a_start_what_came_since_the_last_claim_and_what_did_not_end_may_be_owed() {
        let known = Known {
            covered: 300,
            claimed: 120,
            receipted: 140,
            included: 110,
            lost: vec![lost(40)],
        };
        let mut s = Standing::new(BUDGET, known);
        assert_eq!(s.may_owe(), 190);
        assert_eq!(accept(&mut s, NOW, 191), Err(TooMuch { accounted: 190 }));
        assert_eq!(accept(&mut s, NOW, 150), Ok(true));
        assert_eq!(s.may_owe(), 190);
        assert_eq!(s.cap_for(100, true), Ok(300));
    }

    #[test]
    fn a_claim_it_signed_for_and_forgot_is_adopted() {
        let mut s = standing();
        s.adopt(400, 500);
        assert_eq!((s.may_owe(), s.covered()), (400, 500));
        assert_eq!(s.cap_for(100, true), Ok(500));
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
