//! What a payer may owe on one channel, and the caps that follow from it. Pure arithmetic: amounts
//! come from receipts and claims that were verified elsewhere. Where it cannot know, it takes the
//! larger number, so that what it calls too much is too much.

use chrysalis_ledger::OpenRequest;
use chrysalis_wire::manifest::LimitsSection;
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
    /// Requests whose answer was given up, and of which no claim says yet what they cost.
    pub(crate) lost: Vec<OpenRequest>,
    /// Those that a claim ought to say it of: they cost nothing, as far as is known, and may all the same.
    pub(crate) late: Vec<OpenRequest>,
}

/// What was known when a claim was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    receipted: u128,
    at: UnixTime,
    /// From when on a request was signed for, the longest until what it cost is in a claim, seconds.
    longest: u64,
}

/// What a claim says of requests without a receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// They ought to be in it.
    pub(crate) late: Vec<RequestId>,
    /// They are, or nothing will come of them any more.
    pub(crate) ended: Vec<RequestId>,
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
        // A worker counts within its caps, and a claim above them does not verify.
        self.owed().min(self.known.covered)
    }

    fn owed(&self) -> u128 {
        let Known { claimed, receipted, included, lost, .. } = &self.known;
        worst(lost)
            .saturating_add(*claimed)
            .saturating_add(receipted.saturating_sub(*included))
            .saturating_add(self.open)
    }

    /// The most that a claim may say: a request may take longer than any ought to.
    pub(crate) fn accountable(&self) -> u128 {
        self.owed().saturating_add(worst(&self.known.late)).min(self.known.covered)
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

    /// A receipt was found of a request whose answer was given up.
    pub(crate) fn find(&mut self, request: RequestId, amount: u128) {
        let other = |open: &OpenRequest| open.request != request;
        self.known.lost.retain(other);
        self.known.late.retain(other);
        self.known.receipted = self.known.receipted.saturating_add(amount);
    }

    /// The most that a request can cost whose answer was given up; `None` for any other.
    pub(crate) fn worst_of(&self, request: RequestId) -> Option<u128> {
        let mut missing = self.known.lost.iter().chain(&self.known.late);
        missing.find(|open| open.request == request).map(|open| open.worst)
    }

    /// Requests whose answers were given up, the last one first.
    pub(crate) fn missing(&self) -> Vec<RequestId> {
        let mut missing: Vec<_> = self.known.lost.iter().chain(&self.known.late).collect();
        missing.sort_by_key(|open| std::cmp::Reverse(open.begun));
        missing.into_iter().map(|open| open.request).collect()
    }

    /// To be kept until the answer to a question for a claim of a worker whose requests end within
    /// `longest` seconds.
    pub(crate) const fn ask(&self, now: UnixTime, longest: u64) -> Asked {
        Asked { receipted: self.known.receipted, at: now, longest }
    }

    /// Takes the claim for `cum`, and says what becomes of requests without a receipt; `None` if it says
    /// less than one before.
    ///
    /// # Errors
    /// [`TooMuch`] for more than every receipt and every request without one comes to.
    pub(crate) fn accept(&mut self, asked: Asked, cum: u128) -> Result<Option<Ended>, TooMuch> {
        let accounted = self.accountable();
        if cum > accounted {
            return Err(TooMuch { accounted });
        }
        let more = cum.saturating_sub(self.may_owe());
        let known = &mut self.known;
        if cum < known.claimed {
            return Ok(None);
        }
        known.claimed = cum;
        // What came while the question was on its way may be in the claim or not.
        known.included = known.included.max(asked.receipted);
        let mut ended =
            known.late.extract_if(.., |late| asked.since(late) >= LATE_SECONDS).collect();
        // What no receipt and no request on its way explains came of late ones.
        take(&mut known.late, more, &mut ended);
        // Whatever a request cost that was over when the question was asked is in the claim.
        let over = |lost: &mut OpenRequest| asked.since(lost) >= asked.longest;
        let late: Vec<_> = known.lost.extract_if(.., over).collect();
        let requests = |open: &[OpenRequest]| open.iter().map(|open| open.request).collect();
        let told = Ended { late: requests(&late), ended: requests(&ended) };
        known.late.extend(late);
        Ok(Some(told))
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

impl Asked {
    const fn since(&self, open: &OpenRequest) -> u64 {
        self.at.0.saturating_sub(open.begun.0)
    }
}

/// From when a request was signed for, the longest until what it cost is in the worker's next claim,
/// seconds. A host that keeps the connection of a requester who left lets the worker finish a whole
/// answer, for which the worker has a limit.
pub(crate) fn longest(limits: &LimitsSection) -> u64 {
    limits.longest_seconds().saturating_add(DELIVERY_SECONDS)
}

fn worst(open: &[OpenRequest]) -> u128 {
    open.iter().map(|open| open.worst).fold(0, u128::saturating_add)
}

/// Moves requests that together can have cost `amount` from `late` to `ended`: one if one can, and else the
/// smallest first, so that what is left can account for as much as the others really cost.
fn take(late: &mut Vec<OpenRequest>, mut amount: u128, ended: &mut Vec<OpenRequest>) {
    late.sort_by_key(|open| open.worst);
    while amount > 0 && !late.is_empty() {
        let place = late.iter().position(|open| open.worst >= amount).unwrap_or(0);
        let one = late.remove(place);
        amount = amount.saturating_sub(one.worst);
        ended.push(one);
    }
}

/// For everything before the worker takes a request on, and from the end of its answer to the claim.
const DELIVERY_SECONDS: u64 = 1_800;
/// After this, seconds, nothing comes any more of a request without a receipt: a week.
pub(crate) const LATE_SECONDS: u64 = 7 * 86_400;
/// From this part of the budget on its owner is warned.
const NEAR_PERCENT: u128 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { limit: 1_000, step: 100 };
    const NOW: UnixTime = UnixTime(1_795_000_000);
    const LONGEST: u64 = 4_000;

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
        s.accept(s.ask(at, LONGEST), cum).map(|taken| taken.is_some())
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
        let asked = s.ask(NOW, LONGEST);
        s.end(60, 50);
        assert_eq!(s.accept(asked, 50), Ok(Some(Ended::default())));
        assert_eq!(s.may_owe(), 100, "it may not have been in the claim");
        assert_eq!(accept(&mut s, NOW, 50), Ok(true));
        assert_eq!(s.may_owe(), 50);
    }

    #[test]
    fn two_questions_at_once_take_no_receipt_for_included_twice() {
        let mut s = standing();
        begin(&mut s, 100).unwrap();
        s.end(60, 50);
        let (first, second) = (s.ask(NOW, LONGEST), s.ask(NOW, LONGEST));
        assert_eq!(s.accept(first, 50), Ok(Some(Ended::default())));
        s.end(40, 30);
        assert_eq!(s.accept(second, 50), Ok(Some(Ended::default())));
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
        assert_eq!(accept(&mut s, later(LONGEST - 1), 20), Ok(true));
        assert_eq!(s.may_owe(), 80);
        let over = s.accept(s.ask(later(LONGEST), LONGEST), 20);
        assert_eq!(over, Ok(Some(Ended { late: vec![lost(60).request], ended: vec![] })));
        assert_eq!(s.may_owe(), 20, "it is not held back from the budget any more");
    }

    #[test]
    fn a_request_that_takes_longer_than_any_ought_to_is_no_overcharge() {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        s.lose(lost(60));
        assert_eq!(accept(&mut s, later(LONGEST), 0), Ok(true));
        assert_eq!(accept(&mut s, later(LONGEST), 61), Err(TooMuch { accounted: 60 }));
        let over = s.accept(s.ask(later(LONGEST), LONGEST), 25);
        assert_eq!(over, Ok(Some(Ended { late: vec![], ended: vec![lost(60).request] })));
        assert_eq!(accept(&mut s, later(LONGEST), 26), Err(TooMuch { accounted: 25 }), "only once");
        // And not for ever.
        s.lose(OpenRequest { worst: 30, ..lost(30) });
        assert_eq!(accept(&mut s, later(LONGEST), 25), Ok(true));
        assert_eq!(accept(&mut s, later(LATE_SECONDS), 25), Ok(true));
        assert_eq!(accept(&mut s, later(LATE_SECONDS), 26), Err(TooMuch { accounted: 25 }));
    }

    #[test]
    fn what_came_late_is_taken_from_the_request_that_can_have_cost_it() {
        let open = |id, worst| OpenRequest { request: RequestId([id; 16]), worst, begun: NOW };
        let left = |amount| {
            let (mut late, mut ended) = (vec![open(1, 60), open(2, 20), open(3, 30)], vec![]);
            take(&mut late, amount, &mut ended);
            late.into_iter().map(|open| open.worst).collect::<Vec<_>>()
        };
        assert_eq!(left(0), [20, 30, 60]);
        assert_eq!(left(21), [20, 60]);
        assert_eq!(left(60), [20, 30]);
        assert_eq!(left(61), [30], "20, and 60 for the 41 that are left");
        assert!(left(111).is_empty());
    }

    #[test]
    fn a_receipt_that_is_found_ends_a_lost_request_for_what_it_cost() {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        s.lose(lost(60));
        assert_eq!(s.missing(), [lost(60).request]);
        s.find(lost(60).request, 7);
        assert_eq!((s.may_owe(), s.missing()), (7, vec![]));
        assert_eq!(accept(&mut s, NOW, 8), Err(TooMuch { accounted: 7 }));
        assert_eq!(accept(&mut s, NOW, 7), Ok(true));
        assert_eq!(s.may_owe(), 7);
    }

    #[test]
    fn the_longest_request_follows_from_what_the_manifest_allows() {
        let limits = |context_tokens, completion_tokens| LimitsSection {
            request_bytes: 1,
            context_tokens,
            completion_tokens,
            concurrent_requests: 1,
        };
        assert_eq!(longest(&limits(4_096, 2_048)), 3_600 + 2_048 + 409);
        assert!(longest(&limits(1 << 20, 1 << 20)) > 1 << 20, "a token in a second");
    }

    #[test]
    fn after_a_start_what_came_since_the_last_claim_and_what_did_not_end_may_be_owed() {
        let known = Known {
            covered: 300,
            claimed: 120,
            receipted: 140,
            included: 110,
            lost: vec![lost(40)],
            late: vec![],
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
