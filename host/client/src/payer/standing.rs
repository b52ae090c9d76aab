//! What a payer may owe on one channel, and the caps that follow from it. Pure arithmetic: amounts
//! come from receipts and claims that were verified elsewhere. Where it cannot know, it takes the
//! larger number, so that what it calls too much is too much.

use chrysalis_ledger::{OpenRequest, Question};
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
    /// The most of all receipts that came from meters before this one and that no claim had then: one that is
    /// handed in late has them, or none ever.
    adrift: u128,
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
    /// What claims said that only late requests explain. Which of them it was for is not known.
    pub(crate) explained: u128,
    /// The most that claims can say of requests that are over without a receipt, and of those it forgot.
    pub(crate) unreceipted: u128,
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
    pub(crate) fn new(budget: Budget, mut known: Known) -> Self {
        known.explained = known.explained.min(worst(&known.late));
        Self { budget, known, open: 0, adrift: 0 }
    }

    /// The most that may be owed.
    pub(crate) fn may_owe(&self) -> u128 {
        // A worker counts within its caps, and a claim above them does not verify.
        self.owed().min(self.most()).min(self.known.covered)
    }

    /// What every request comes to, each by its receipt or at its most. No claim raises it: one that says
    /// what a request without a receipt cost does not make room for another one that says so again.
    fn most(&self) -> u128 {
        let Known { receipted, lost, late, unreceipted, .. } = &self.known;
        [*receipted, self.open, worst(lost), worst(late)]
            .into_iter()
            .fold(*unreceipted, u128::saturating_add)
    }

    /// By the last claim: what is in it and what came since or may come.
    fn owed(&self) -> u128 {
        let Known { claimed, receipted, included, lost, .. } = &self.known;
        worst(lost)
            .saturating_add(*claimed)
            .saturating_add(receipted.saturating_sub(*included))
            .saturating_add(self.open)
    }

    /// The most that a claim may say: a request may take longer than any ought to.
    pub(crate) fn accountable(&self) -> u128 {
        let by_claim = self.owed().saturating_add(self.known.still_late());
        by_claim.min(self.most()).min(self.known.covered)
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

    /// Another meter counts from now on, or this may be one. It goes on from some claim of those before, and what
    /// came since the last one that was accepted it may get to know at any time.
    pub(crate) fn change_meter(&mut self) {
        self.adrift = self.unclaimed();
    }

    /// A receipt that was just found is of a meter before this one.
    pub(crate) fn stray(&mut self, amount: u128) {
        self.adrift = self.adrift.saturating_add(amount).min(self.unclaimed());
    }

    /// What may have come since the last claim that was accepted.
    const fn unclaimed(&self) -> u128 {
        self.known.receipted.saturating_sub(self.known.included).saturating_add(self.open)
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
        let late = self.known.late.extract_if(.., |open| !other(open)).count() > 0;
        if late {
            // Claims may have said it already: then the others explain so much less of them.
            let explained = self.known.explained.saturating_sub(amount);
            self.known.explained = explained.min(worst(&self.known.late));
        }
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
        if cum < self.known.claimed {
            return Ok(None);
        }
        // Also what it says that nothing else explains; else of receipts of earlier meters nothing is known.
        let beside = self.most().saturating_sub(self.known.receipted);
        let explained = cum.saturating_sub(beside).min(asked.receipted);
        self.known.included = self.question(asked).receipted.max(explained);
        self.adrift = self.adrift.min(self.unclaimed());
        let known = &mut self.known;
        known.claimed = cum;
        // What no receipt and no request on its way explains came of late ones. Those whose time is over
        // may be the very ones, so that comes before they go, each with the most that it can have explained.
        known.explained = known.explained.saturating_add(more);
        let over = |late: &mut OpenRequest| asked.since(late) >= LATE_SECONDS;
        let mut ended: Vec<_> = known.late.extract_if(.., over).collect();
        known.explained = known.explained.saturating_sub(worst(&ended));
        ended.append(&mut known.settle_late());
        // They cost what the claim says beyond its receipts, and no more than their most.
        let beyond = cum.saturating_sub(known.included);
        known.unreceipted = known.unreceipted.saturating_add(worst(&ended)).min(beyond);
        // Whatever a request cost that was over when the question was asked is in the claim.
        let over = |lost: &mut OpenRequest| asked.since(lost) >= asked.longest;
        let late: Vec<_> = known.lost.extract_if(.., over).collect();
        let requests = |open: &[OpenRequest]| open.iter().map(|open| open.request).collect();
        let told = Ended { late: requests(&late), ended: requests(&ended) };
        known.late.extend(late);
        Ok(Some(told))
    }

    /// The question, as a proof has it. What came while it was on its way may be in the claim or not.
    pub(crate) fn question(&self, asked: Asked) -> Question {
        let receipted = asked.receipted.saturating_sub(self.adrift).max(self.known.included);
        Question { receipted, at: asked.at }
    }

    /// Takes a claim that this payer's own signature proves and its memory does not hold.
    pub(crate) fn adopt(&mut self, cum: u128, max_cum: u128) {
        self.known.claimed = self.known.claimed.max(cum);
        self.known.covered = self.known.covered.max(max_cum);
        let beyond = cum.saturating_sub(self.known.included);
        self.known.unreceipted = self.known.unreceipted.max(beyond);
    }

    /// Receipts that the last accepted claim includes for certain.
    pub(crate) const fn included(&self) -> u128 {
        self.known.included
    }

    /// What claims said that only late requests explain.
    pub(crate) const fn explained(&self) -> u128 {
        self.known.explained
    }

    /// The most that claims can say of requests that are over without a receipt, and of those it forgot.
    pub(crate) const fn unreceipted(&self) -> u128 {
        self.known.unreceipted
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

impl Known {
    /// The most that late requests can still cost. It is not known which of them came, but that their worst
    /// cases add up to what came, so neither are more left than the fewest that can have come leave.
    fn still_late(&self) -> u128 {
        let mut worsts: Vec<_> = self.late.iter().map(|late| late.worst).collect();
        worsts.sort_unstable_by_key(|worst| std::cmp::Reverse(*worst));
        let total = |worsts: &[u128]| worsts.iter().copied().fold(0, u128::saturating_add);
        let (mut fewest, mut covered) = (0_usize, 0_u128);
        for worst in &worsts {
            if covered >= self.explained {
                break;
            }
            covered = covered.saturating_add(*worst);
            fewest = fewest.saturating_add(1);
        }
        let largest = worsts.get(..worsts.len().saturating_sub(fewest)).unwrap_or_default();
        total(&worsts).saturating_sub(self.explained).min(total(largest))
    }

    /// Once nothing can come of any late request they are over, and returned.
    fn settle_late(&mut self) -> Vec<OpenRequest> {
        if self.still_late() > 0 {
            return vec![];
        }
        self.explained = 0;
        std::mem::take(&mut self.late)
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

/// For everything before the worker takes a request on, and from the end of its answer to the claim.
const DELIVERY_SECONDS: u64 = 1_800;
/// After this, seconds, nothing comes any more of a request without a receipt: a week.
pub(crate) const LATE_SECONDS: u64 = 7 * 86_400;
/// From this part of the budget on its owner is warned.
const NEAR_PERCENT: u128 = 80;

#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;
