//! The decisions: which sequences run, and what each step computes of them.

use core::iter;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::draft::{Drafter, MAX_DRAFT_TOKENS, guess};
use super::pages::{BlockId, PagePool};
use super::{
    Kin, Limits, MIN_STEP_TOKENS, Owner, PRIORITY_LEAD, Refused, Step, Submission, Tenant, Ticket,
    Work,
};
use crate::cache::PageId;
use crate::kernels::PAGE_TOKENS;

/// The sequences there are, and the pages they have.
pub(crate) struct Core {
    limits: Limits,
    pool: PagePool,
    sequences: BTreeMap<Ticket, Sequence>,
    accounts: BTreeMap<Payer, Account>,
    /// What an account starts with, in units of [`UNIT`] to a token.
    virtual_time: u64,
    next: u64,
    /// Steps so far.
    steps: u64,
}

/// Whose account a sequence is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Payer {
    Tenant(Tenant),
    Alone(Ticket),
}

#[derive(Clone, Copy)]
struct Account {
    /// Computed for it, in units of [`UNIT`] to a token.
    served: u64,
    /// Its sequences.
    live: usize,
}

struct Sequence {
    owner: Option<Owner>,
    payer: Payer,
    /// Its place among the requests of its caller.
    rank: u64,
    begin_by: Option<u64>,
    deadline: Option<u64>,
    /// The prompt, then what was drawn, then drafts.
    tokens: Zeroizing<Vec<u32>>,
    /// How many of the last tokens are drafts: none between two steps.
    drafts: usize,
    drafter: Drafter,
    /// Drafts of the last step that were drawn.
    right: usize,
    /// Most tokens there may ever be.
    most: usize,
    /// Tokens whose keys and values are in `pages`, without drafts.
    computed: usize,
    pages: Vec<PageId>,
    /// The first of them, which no token to come sees: they were given back, and a page of its own is named
    /// in their places.
    left: usize,
    /// Pages that were shown to the prefix cache, and what the last of them is known as.
    published: usize,
    chain: Option<BlockId>,
    running: bool,
    started: bool,
    /// The last step that computed some of it.
    last: u64,
}

impl Sequence {
    fn pending(&self) -> usize {
        self.tokens.len().saturating_sub(self.computed)
    }

    /// Tokens that are no drafts.
    fn certain(&self) -> usize {
        self.tokens.len().saturating_sub(self.drafts)
    }

    /// Shows the prefix cache the pages that are full by now.
    fn publish(&mut self, pool: &mut PagePool) {
        let Some(owner) = self.owner else { return };
        let blocks = self.tokens.chunks_exact(PAGE_TOKENS);
        let full = self.computed / PAGE_TOKENS;
        for (at, tokens) in blocks.enumerate().take(full).skip(self.published) {
            let Some(page) = self.pages.get_mut(at) else { break };
            match pool.publish(*page, owner, self.chain, tokens) {
                Some((known, id)) => {
                    (*page, self.published, self.chain) = (known, at.saturating_add(1), Some(id));
                }
                None => {
                    self.published = usize::MAX;
                    break;
                }
            }
        }
    }
}

impl Sequence {
    /// Pages that are its own now.
    fn held(&self) -> &[PageId] {
        self.pages.get(self.left..).unwrap_or_default()
    }

    /// Gives pages back that end before what the next token sees: `window` tokens, itself the last.
    fn leave(&mut self, window: Option<usize>, pool: &mut PagePool) {
        let Some(window) = window else { return };
        let seen = self.computed.saturating_add(1).saturating_sub(window);
        // One stays in any case, to be named in their places.
        let left = (seen / PAGE_TOKENS).min(self.pages.len().saturating_sub(1));
        let (Some(gone), Some(own)) =
            (self.pages.get(self.left..left), self.pages.get(left).copied())
        else {
            return;
        };
        if !gone.is_empty() {
            pool.release(gone);
            self.pages.iter_mut().take(left).for_each(|page| *page = own);
            self.left = left;
        }
    }
}

impl Core {
    pub(crate) fn new(limits: Limits) -> Self {
        let limits = Limits {
            running: limits.running.max(1),
            step_tokens: limits.step_tokens.max(MIN_STEP_TOKENS),
            ..limits
        };
        Self {
            limits,
            pool: PagePool::new(limits.pages),
            sequences: BTreeMap::new(),
            accounts: BTreeMap::new(),
            virtual_time: 0,
            next: 0,
            steps: 0,
        }
    }

    /// Takes a sequence; it waits until a step begins it.
    pub(crate) fn submit(&mut self, asked: Submission) -> Result<Ticket, Refused> {
        let most = asked.prompt.len().saturating_add(asked.max_new);
        if self.sequences.is_empty() {
            // Whoever had the memory may have given it back.
            self.pool.resize(self.limits.pages);
        }
        if asked.prompt.is_empty() || pages_for(most) > self.pool.len() {
            return Err(Refused::Size);
        }
        if self.sequences.len() >= self.limits.running.saturating_add(self.limits.waiting) {
            return Err(Refused::Busy);
        }
        let ticket = Ticket(self.next);
        self.next = self.next.saturating_add(1);
        // The sequences of one request are one caller's, whoever it is.
        let first = if let Kin::Of(first) = asked.kin { first } else { ticket };
        let payer = asked.tenant.map_or(Payer::Alone(first), Payer::Tenant);
        let kept = (asked.kin != Kin::Alone).then_some(Owner::Request(first));
        let owner = asked.tenant.map(Owner::Tenant).or(kept);
        let account = self.accounts.entry(payer).or_insert(Account { served: 0, live: 0 });
        account.served = account.served.max(self.virtual_time);
        account.live = account.live.saturating_add(1);
        let lead = u64::from(asked.priority).saturating_mul(PRIORITY_LEAD);
        let sequence = Sequence {
            owner,
            payer,
            // Higher priorities would otherwise be cut at the first ticket.
            rank: ticket.0.saturating_add(MOST_LEAD).saturating_sub(lead),
            begin_by: asked.begin_by,
            deadline: asked.deadline,
            tokens: asked.prompt,
            drafts: 0,
            drafter: Drafter::default(),
            right: 0,
            most,
            computed: 0,
            pages: Vec::new(),
            left: 0,
            published: 0,
            chain: None,
            running: false,
            started: false,
            last: 0,
        };
        self.sequences.insert(ticket, sequence);
        Ok(ticket)
    }

    /// The tokens of a sequence, without drafts.
    pub(crate) fn tokens(&self, ticket: Ticket) -> &[u32] {
        let sequence = self.sequences.get(&ticket);
        sequence.and_then(|s| s.tokens.get(..s.certain())).unwrap_or_default()
    }

    /// The tokens that `work` is about.
    pub(crate) fn tokens_of(&self, work: &Work) -> &[u32] {
        let sequence = self.sequences.get(&work.ticket);
        sequence.and_then(|s| s.tokens.get(work.tokens.clone())).unwrap_or_default()
    }

    /// The drafts among the tokens of `work`.
    pub(crate) fn drafts_of(&self, work: &Work) -> &[u32] {
        let tokens = self.tokens_of(work);
        let first = tokens.len().saturating_sub(work.draws.saturating_sub(1));
        tokens.get(first..).unwrap_or_default()
    }

    /// The pages of a sequence, in the order of its tokens.
    pub(crate) fn pages(&self, ticket: Ticket) -> &[PageId] {
        self.sequences.get(&ticket).map_or(&[], |sequence| &sequence.pages)
    }

    /// Whether there is nothing to compute, now or later.
    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// What to compute next, at the time `now`. What it says is to be computed and then told to
    /// [`Core::computed`], or its sequences ended, before the next call.
    pub(crate) fn plan(&mut self, now: u64) -> Step {
        let mut step =
            Step { expired: self.expire(now), outgrown: self.outgrown(), ..Step::default() };
        self.close_accounts();
        self.steps = self.steps.saturating_add(1);
        let mut left = self.limits.step_tokens;
        for ticket in self.answering() {
            // Another may have taken its pages meanwhile.
            if self.is_running(ticket) && self.grow(ticket) {
                left = left.saturating_sub(self.assign(ticket, 1, &mut step));
            }
        }
        let answers = step.work.len();
        let mut full = false;
        for ticket in self.prompts() {
            if left == 0 {
                break;
            }
            if !self.is_running(ticket) {
                // Who comes next does not overtake: else a long prompt would never find room.
                full = full || !self.admit(ticket, &mut step);
                if full {
                    continue;
                }
            }
            left = left.saturating_sub(self.assign(ticket, left, &mut step));
        }
        if step.work.len() == answers {
            self.draft(left, &mut step);
        }
        (step.wipe, step.pages) = (self.pool.freed(), self.pool.reach());
        step
    }

    /// Ends the pool behind its first `room` pages: there is memory for no more, and never was. Who was given
    /// others gets pages that nobody uses for them, the oldest sequence first. Where these do not do, what
    /// `step` was to compute is not computed, nor paid for; the sequence waits, as those that were preempted.
    pub(crate) fn shrink(&mut self, room: usize, step: &mut Step) {
        self.pool.resize(room);
        let mut lacking = BTreeSet::new();
        for (ticket, sequence) in &mut self.sequences {
            let beyond: Vec<&mut PageId> =
                sequence.pages.iter_mut().filter(|page| page.0 >= room).collect();
            if beyond.len() > self.pool.available() {
                lacking.insert(*ticket);
                continue;
            }
            for (page, other) in beyond.into_iter().zip(iter::from_fn(|| self.pool.take())) {
                *page = other;
            }
        }
        for ticket in &lacking {
            self.preempt(*ticket);
            if let Some(sequence) = self.sequences.get_mut(ticket) {
                let (certain, drafts) = (sequence.certain(), std::mem::take(&mut sequence.drafts));
                if drafts > 0 {
                    sequence.tokens.truncate(certain);
                }
                // What is told of a start is what is found when it does start.
                sequence.started &= !step.started.iter().any(|(started, _)| started == ticket);
            }
        }
        for work in step.work.extract_if(.., |work| lacking.contains(&work.ticket)) {
            self.refund(work.ticket, work.tokens.len());
        }
        step.started.retain(|(ticket, _)| !lacking.contains(ticket));
        // What was kept for a prefix is somebody else's now.
        step.wipe.extend(self.pool.freed());
    }

    /// Notes that the work of `step` was done.
    pub(crate) fn computed(&mut self, step: &Step) {
        for Work { ticket, tokens, .. } in &step.work {
            if let Some(sequence) = self.sequences.get_mut(ticket) {
                sequence.computed = tokens.end.min(sequence.certain());
                sequence.publish(&mut self.pool);
                sequence.leave(self.limits.window, &mut self.pool);
            }
        }
    }

    /// Appends the token that was drawn for a sequence. If that is the next draft, it is computed already,
    /// and the token after it can be drawn from its logits; else the drafts are gone.
    pub(crate) fn append(&mut self, ticket: Ticket, token: u32) {
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return };
        let certain = sequence.certain();
        if sequence.drafts > 0 && sequence.tokens.get(certain) == Some(&token) {
            sequence.drafts = sequence.drafts.saturating_sub(1);
            sequence.computed = sequence.computed.saturating_add(1);
            sequence.right = sequence.right.saturating_add(1);
            sequence.publish(&mut self.pool);
            sequence.leave(self.limits.window, &mut self.pool);
            return;
        }
        let right = std::mem::take(&mut sequence.right);
        let guessed = std::mem::take(&mut sequence.drafts).saturating_add(right);
        if guessed > 0 {
            sequence.drafter.learn(guessed, right);
            // What is overwritten lies before the end; the allocation is wiped with the sequence.
            sequence.tokens.truncate(certain);
        }
        push(&mut sequence.tokens, token);
    }

    /// Puts work for a sequence on the account of its caller that is as much as computing `count` tokens.
    pub(crate) fn charge_work(&mut self, ticket: Ticket, count: usize) {
        if let Some(payer) = self.sequences.get(&ticket).map(|sequence| sequence.payer) {
            self.charge(payer, count);
        }
    }

    /// Ends a sequence, whatever it is doing. Its pages are free at once and wiped by the next step.
    pub(crate) fn end(&mut self, ticket: Ticket) {
        if let Some(sequence) = self.sequences.remove(&ticket) {
            self.pool.release(sequence.held());
            if let Some(owner @ Owner::Request(_)) = sequence.owner
                && !self.sequences.values().any(|other| other.owner == Some(owner))
            {
                self.pool.forget_owner(owner);
            }
            if let Some(account) = self.accounts.get_mut(&sequence.payer) {
                account.live = account.live.saturating_sub(1);
            }
        }
    }

    fn is_running(&self, ticket: Ticket) -> bool {
        self.sequences.get(&ticket).is_some_and(|sequence| sequence.running)
    }

    fn expire(&mut self, now: u64) -> Vec<Ticket> {
        let late = |s: &Sequence| {
            let begin_by = s.begin_by.filter(|_| !s.started);
            begin_by.into_iter().chain(s.deadline).any(|deadline| deadline <= now)
        };
        let expired: Vec<Ticket> =
            self.sequences.iter().filter(|(_, s)| late(s)).map(|(ticket, _)| *ticket).collect();
        expired.iter().for_each(|ticket| self.end(*ticket));
        expired
    }

    /// Ends sequences that wait for more pages than there are: none before they were taken did, and if
    /// they stayed, nobody behind them would have a turn.
    fn outgrown(&mut self) -> Vec<Ticket> {
        let pages = self.pool.len();
        let waits =
            |s: &Sequence| !s.running && pages_for(s.tokens.len().saturating_add(1)) > pages;
        let outgrown: Vec<Ticket> =
            self.sequences.iter().filter(|(_, s)| waits(s)).map(|(ticket, _)| *ticket).collect();
        outgrown.iter().for_each(|ticket| self.end(*ticket));
        outgrown
    }

    /// Forgets accounts without requests, unless they are ahead: else a caller could end its requests
    /// to start anew.
    fn close_accounts(&mut self) {
        let now = self.virtual_time;
        self.accounts.retain(|payer, account| {
            account.live > 0 || (account.served > now && matches!(payer, Payer::Tenant(_)))
        });
    }

    fn served(&self, sequence: &Sequence) -> u64 {
        self.accounts.get(&sequence.payer).map_or(0, |account| account.served)
    }

    /// Sequences whose next token can be computed in this step, the oldest first. If there are prompts
    /// too, a part of the step is theirs; then who has waited longest goes first.
    fn answering(&self) -> BTreeSet<Ticket> {
        let budget = self.limits.step_tokens;
        let waits = |s: &Sequence| !s.running || s.pending() > 1;
        let prompts = self.sequences.values().any(waits);
        let share = if prompts { budget.saturating_sub(budget / PROMPT_SHARE) } else { budget };
        let ready = self.sequences.iter().filter(|(_, s)| s.running && s.pending() == 1);
        let mut ready: Vec<_> =
            ready.map(|(ticket, s)| (s.last, self.served(s), *ticket)).collect();
        ready.sort_unstable();
        ready.into_iter().take(share).map(|(.., ticket)| ticket).collect()
    }

    /// Sequences with more than a token to compute and those that wait, in the order in which they are
    /// served.
    fn prompts(&self) -> Vec<Ticket> {
        // Accounts with the same balance: whose oldest request is the oldest.
        let mut since: BTreeMap<Payer, Ticket> = BTreeMap::new();
        for (ticket, sequence) in &self.sequences {
            since.entry(sequence.payer).or_insert(*ticket);
        }
        let waits = |s: &Sequence| !s.running || s.pending() > 1;
        let order = |(ticket, s): (&Ticket, &Sequence)| {
            (self.served(s), since.get(&s.payer).copied(), Reverse(s.running), s.rank, *ticket)
        };
        let mut all: Vec<_> = self.sequences.iter().filter(|(_, s)| waits(s)).map(order).collect();
        all.sort_unstable();
        all.into_iter().map(|(.., ticket)| ticket).collect()
    }

    /// Gives a sequence the pages for all its tokens and one more, those of a known prefix among them.
    fn admit(&mut self, ticket: Ticket, step: &mut Step) -> bool {
        let running = self.sequences.values().filter(|sequence| sequence.running).count();
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return false };
        if running >= self.limits.running {
            return false;
        }
        let (mut pages, mut chain) = (Vec::new(), None);
        if let Some(owner) = sequence.owner {
            // The last token is always computed: the answer begins with its logits.
            let reusable = sequence.tokens.len().saturating_sub(1) / PAGE_TOKENS;
            for tokens in sequence.tokens.chunks_exact(PAGE_TOKENS).take(reusable) {
                let Some((page, id)) = self.pool.find(owner, chain, tokens) else { break };
                pages.push(page);
                chain = Some(id);
            }
        }
        pages.iter().for_each(|page| self.pool.share(*page));
        let known = pages.len();
        let wanted = pages_for(sequence.tokens.len().saturating_add(1));
        // A page is left to each that runs: else it would take one from this sequence soon.
        let needed = wanted.saturating_sub(known).saturating_add(running);
        if needed > self.pool.available() {
            self.pool.release(&pages);
            return false;
        }
        while pages.len() < wanted {
            pages.extend(self.pool.take());
        }
        sequence.computed = known.saturating_mul(PAGE_TOKENS);
        (sequence.pages, sequence.published, sequence.running) = (pages, known, true);
        (sequence.left, sequence.chain) = (0, chain);
        if !std::mem::replace(&mut sequence.started, true) {
            step.started.push((ticket, sequence.computed));
        }
        true
    }

    /// Makes room for the next token of a running sequence, if need be by taking the pages of the
    /// youngest one. `false` if that is this one.
    fn grow(&mut self, ticket: Ticket) -> bool {
        loop {
            let Some(sequence) = self.sequences.get_mut(&ticket) else { return false };
            if sequence.pages.len() >= pages_for(sequence.tokens.len()) {
                return true;
            }
            if let Some(page) = self.pool.take() {
                sequence.pages.push(page);
                continue;
            }
            let youngest = self.sequences.iter().rev().find(|(_, s)| s.running);
            let Some(victim) = youngest.map(|(ticket, _)| *ticket) else { return false };
            self.preempt(victim);
            if victim == ticket {
                return false;
            }
        }
    }

    /// Takes the pages of a sequence, which waits from now on.
    fn preempt(&mut self, ticket: Ticket) {
        if let Some(sequence) = self.sequences.get_mut(&ticket) {
            self.pool.release(sequence.held());
            sequence.pages.clear();
            (sequence.computed, sequence.published, sequence.running) = (0, 0, false);
            (sequence.left, sequence.chain) = (0, None);
        }
    }

    /// Adds up to `most` tokens of a running sequence to the step and to its account; how many.
    fn assign(&mut self, ticket: Ticket, most: usize, step: &mut Step) -> usize {
        let Some(sequence) = self.sequences.get_mut(&ticket) else { return 0 };
        let count = sequence.pending().min(most);
        if count == 0 {
            return 0;
        }
        let end = sequence.computed.saturating_add(count);
        let draws = usize::from(end == sequence.tokens.len());
        step.work.push(Work { ticket, tokens: sequence.computed..end, draws });
        sequence.last = self.steps;
        let payer = sequence.payer;
        self.charge(payer, count);
        count
    }

    /// Adds drafts to a step in which sequences of one payer answer and nothing else: as many as there is
    /// room for, `left` tokens at most, the same for each sequence. Beside another's they would make its
    /// step longer when this one's text repeats itself, and another's that waits would begin sooner.
    fn draft(&mut self, left: usize, step: &mut Step) {
        let mut payers = self.sequences.values().map(|sequence| sequence.payer);
        let first = payers.next();
        if !payers.all(|payer| Some(payer) == first) {
            return;
        }
        let answers = step.work.len();
        let room = self.limits.draft_rows.saturating_sub(answers).min(left);
        let share = room.checked_div(answers).unwrap_or(0).min(MAX_DRAFT_TOKENS);
        if share == 0 {
            return;
        }
        let running = self.sequences.values().filter(|sequence| sequence.running).count();
        for work in &mut step.work {
            let Some(sequence) = self.sequences.get_mut(&work.ticket) else { continue };
            // Behind the drafts one more token is drawn, which is computed in no step of these.
            let len = sequence.tokens.len();
            let needed = sequence.most.saturating_sub(len).saturating_sub(1);
            let most = share.min(needed).min(sequence.drafter.turn());
            if most == 0 {
                continue;
            }
            let guessed: Zeroizing<Vec<u32>> =
                Zeroizing::new(guess(&sequence.tokens, most).collect());
            // It will need the next page itself. As when one is admitted, a page is left to each that runs.
            let wanted = pages_for(len.saturating_add(guessed.len()));
            if sequence.pages.len() < wanted && self.pool.available() > running {
                sequence.pages.extend(self.pool.take());
            }
            let held = sequence.pages.len().saturating_mul(PAGE_TOKENS).saturating_sub(len);
            for token in guessed.iter().take(held) {
                push(&mut sequence.tokens, *token);
                sequence.drafts = sequence.drafts.saturating_add(1);
            }
            let (drafts, payer) = (sequence.drafts, sequence.payer);
            work.tokens.end = work.tokens.end.saturating_add(drafts);
            work.draws = work.draws.saturating_add(drafts);
            self.charge(payer, drafts);
        }
    }

    /// Puts `count` computed tokens on an account.
    fn charge(&mut self, payer: Payer, count: usize) {
        let [units, share] = self.units(count);
        if let Some(account) = self.accounts.get_mut(&payer) {
            account.served = account.served.saturating_add(units);
        }
        self.virtual_time = self.virtual_time.saturating_add(share);
    }

    /// Takes `count` tokens back that were charged in this step and are not computed.
    fn refund(&mut self, ticket: Ticket, count: usize) {
        let [units, share] = self.units(count);
        let payer = self.sequences.get(&ticket).map(|sequence| sequence.payer);
        if let Some(account) = payer.and_then(|payer| self.accounts.get_mut(&payer)) {
            account.served = account.served.saturating_sub(units);
        }
        self.virtual_time = self.virtual_time.saturating_sub(share);
    }

    /// What `count` tokens put on an account, and by how much virtual time advances.
    fn units(&self, count: usize) -> [u64; 2] {
        let units = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(UNIT);
        let callers = self.accounts.values().filter(|account| account.live > 0).count();
        let share = units.checked_div(u64::try_from(callers).unwrap_or(u64::MAX)).unwrap_or(0);
        [units, share]
    }

    /// Tokens on the account of a sequence.
    #[cfg(test)]
    pub(super) fn charged(&self, ticket: Ticket) -> u64 {
        self.sequences.get(&ticket).map_or(0, |sequence| self.served(sequence) / UNIT)
    }

    /// Takes the pages of every sequence.
    #[cfg(test)]
    pub(super) fn preempt_all(&mut self) {
        let all: Vec<Ticket> = self.sequences.keys().copied().collect();
        all.into_iter().for_each(|ticket| self.preempt(ticket));
    }

    /// What must hold between two steps.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.pool.check(self.limits.window.is_some());
        let held: usize = self.sequences.values().map(|sequence| sequence.held().len()).sum();
        assert_eq!(self.pool.users(), held, "a page without a user, or a user without a page");
        for sequence in self.sequences.values() {
            assert!(sequence.running || (sequence.pages.is_empty() && sequence.computed == 0));
            assert!(sequence.computed <= sequence.pages.len() * PAGE_TOKENS);
            assert_eq!((sequence.drafts, sequence.right), (0, 0), "drafts outlive a step");
            assert!(sequence.tokens.len() <= sequence.most);
        }
    }

    #[cfg(test)]
    pub(super) const fn pool(&self) -> &PagePool {
        &self.pool
    }
}

const fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

/// Appends without leaving a copy behind: what a vector grows out of is not wiped.
fn push(tokens: &mut Zeroizing<Vec<u32>>, token: u32) {
    if tokens.len() == tokens.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(tokens.len().saturating_mul(2).max(64)));
        larger.extend_from_slice(tokens);
        *tokens = larger;
    }
    tokens.push(token);
}

/// Of a step, one part in this many is for prompts if there are any.
const PROMPT_SHARE: usize = 4;
/// Units of an account to a token: virtual time advances by parts of a token.
const UNIT: u64 = 1 << 16;
/// Lead of the highest priority.
const MOST_LEAD: u64 = (u8::MAX as u64) * PRIORITY_LEAD;
