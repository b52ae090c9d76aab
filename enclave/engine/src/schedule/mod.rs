//! What is computed next. The scheduler's core decides; it computes nothing, and reads no clock, no
//! randomness and no text: time and tokens are arguments, so the same calls give the same decisions.
//! It trusts its driver (`scheduler.rs`) to compute what a [`Step`] says, and no request.
//!
//! **Continuous batching.** Every step computes tokens of many sequences together: the next token of
//! those that answer, and with what is left of the step's budget a part of the prompts of others. A
//! quarter of the budget is the prompts' if there are any, the rest the answers'; neither waits for
//! the other to end. How a prompt is cut depends on who else is served, its numbers do not: see
//! `kernels/mod.rs`.
//!
//! **Pages.** A sequence is admitted when the pages of its prompt and of one token more can be had at
//! once. It grows page by page. When there is none left, the youngest sequence loses its pages and
//! waits: its tokens are kept and computed again later, with the same bits. So the oldest always goes
//! on, and every request ends.
//!
//! **Windows.** If every layer sees a window only, a sequence gives pages back when they lie before it. Its
//! tokens are kept, so that it may be computed again, and tenants find those pages as long as nobody else
//! needs them. Where one layer sees everything, a page holds that too: nothing is given back.
//!
//! **Memory.** Pages get memory when they are first handed out. If the system has none, the pool ends
//! before them: who got them has pages instead that are kept for prefixes, or waits as those that lost their
//! pages; the others of the step go on, and only what no longer fits when it is alone is ended: a prompt, or
//! what is to be computed again, needs pages for all its tokens, also where a window sees a part of them. Once
//! nothing is left to do, the pool is as large as it was.
//!
//! **Fairness.** Each caller has an account of the tokens computed for it, and of the work that constraints on
//! its answers took, for which everybody's step waits (see `constrain/machine.rs`). Whose account is lowest goes
//! first; accounts start at the virtual time, which advances by the tokens computed, divided by the
//! callers there are. A caller that was away has saved nothing, and new callers cannot keep an old one
//! from its turn: virtual time passes it. Priorities order the requests of one caller among themselves
//! and take nothing from others.
//!
//! **Drafts.** While few sequences of one caller answer, nothing else is computed and nobody else waits, a step also
//! computes tokens that may come next: see [`draft`]. They count as tokens of the step and of the account, take no page that another
//! could need soon, and are gone before the next step, unless they were drawn.

mod core;
mod draft;
mod pages;

use std::ops::Range;

use zeroize::Zeroizing;

pub(crate) use self::core::Core;
pub(crate) use self::draft::MAX_DRAFT_TOKENS;
use crate::cache::PageId;

/// Who shares: requests of one tenant may use each other's computed prefixes, and have one account.
/// It must be a secret of the tenant or be derived from one that was verified; a name that another can
/// say would let it probe what this one asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(pub [u8; 32]);

/// It may be a secret.
impl ::core::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str("Tenant(..)")
    }
}

/// How much is computed at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sequences that are computed in turn.
    pub(crate) running: usize,
    /// Sequences that may wait beside them.
    pub(crate) waiting: usize,
    /// Tokens of a step; at least [`MIN_STEP_TOKENS`] are used.
    pub(crate) step_tokens: usize,
    /// Pages of the pool.
    pub(crate) pages: usize,
    /// Most tokens of a step that has drafts; none has any if this is less than two.
    pub(crate) draft_rows: usize,
    /// Most tokens that one sees, itself the last, if every layer of the model has such a window.
    pub(crate) window: Option<usize>,
}

/// A sequence, by the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Whose computed prefixes a sequence finds, and who finds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    /// Every request of a tenant.
    Tenant(Tenant),
    /// The sequences of one request, by the first of them. Nothing is kept once they have ended.
    Request(Ticket),
}

/// The place of a sequence among those of its request, which have the same prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kin {
    /// There is no other.
    Alone,
    /// Others will follow.
    First,
    /// It follows this one.
    Of(Ticket),
}

/// What is asked for.
pub(crate) struct Submission {
    /// The others of the same request.
    pub(crate) kin: Kin,
    /// Without one the request shares with nobody, and nothing of it is kept.
    pub(crate) tenant: Option<Tenant>,
    /// How many [`PRIORITY_LEAD`]s of requests of the same caller it may overtake.
    pub(crate) priority: u8,
    /// When it is given up if it has not begun, on the clock of [`Core::plan`].
    pub(crate) begin_by: Option<u64>,
    /// When it is given up, whatever it is doing.
    pub(crate) deadline: Option<u64>,
    /// The prompt, at least one token.
    pub(crate) prompt: Zeroizing<Vec<u32>>,
    /// Most tokens that may follow.
    pub(crate) max_new: usize,
}

/// Why a sequence was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many as may run and wait are there. When a place will be free follows from what others asked
    /// for, so it is not told: the hint to a caller is a constant.
    Busy,
    /// It would not fit if it were alone, or has no prompt.
    Size,
}

/// What to compute together.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Pages to wipe first: they belonged to others.
    pub(crate) wipe: Vec<PageId>,
    /// Sequences whose first step this is, and how many tokens of their prompts need none.
    pub(crate) started: Vec<(Ticket, usize)>,
    /// Sequences that ended because of one of their deadlines.
    pub(crate) expired: Vec<Ticket>,
    /// Sequences that ended because the pool has become too small for them.
    pub(crate) outgrown: Vec<Ticket>,
    /// Pages, from the first, that there must be memory for: see [`Core::shrink`].
    pub(crate) pages: usize,
    /// Sequences and the tokens to compute, each sequence once.
    pub(crate) work: Vec<Work>,
}

/// The part of one sequence in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) ticket: Ticket,
    /// Positions of its tokens, drafts included.
    pub(crate) tokens: Range<usize>,
    /// From how many of the last of them tokens are drawn: from none if there are others to compute before,
    /// else from the last token there is, and as long as drafts are what is drawn from theirs.
    pub(crate) draws: usize,
}

/// Fewest tokens of a step.
pub(crate) const MIN_STEP_TOKENS: usize = 4;
/// Requests of the same caller that a priority of one overtakes.
pub(crate) const PRIORITY_LEAD: u64 = 16;

#[cfg(test)]
mod tests;
