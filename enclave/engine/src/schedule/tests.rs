//! The core with a simulated model, which reads its pages as attention would: what it stores at a
//! position depends on every token before, so a wrong page, a page that was not wiped and a token that
//! was left out all change the answer.

mod memory;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::kernels::PAGE_TOKENS;

/// What one request asks.
#[derive(Clone, Debug)]
struct Asked {
    tenant: Option<u8>,
    priority: u8,
    prompt: Vec<u32>,
    max_new: usize,
}

impl Asked {
    fn new(tenant: Option<u8>, prompt: Vec<u32>, max_new: usize) -> Self {
        Self { tenant, priority: 0, prompt, max_new }
    }

    fn submission(&self) -> Submission {
        Submission {
            kin: Kin::Alone,
            tenant: self.tenant.map(|n| Tenant([n; 32])),
            priority: self.priority,
            begin_by: None,
            deadline: None,
            prompt: Zeroizing::new(self.prompt.clone()),
            max_new: self.max_new,
        }
    }

    /// The answer of the model alone.
    fn answer(&self) -> Vec<u32> {
        let mut state = self.prompt.iter().fold(START, |state, token| mix(state, *token));
        let (mut out, mut last) = (Vec::new(), *self.prompt.last().unwrap());
        while let Some(token) = draw(state, last).filter(|_| out.len() < self.max_new) {
            out.push(token);
            (state, last) = (mix(state, token), token);
        }
        out
    }
}

const START: u64 = 1;

/// SplitMix64; never 0 in practice, which is what a wiped slot holds.
fn mix(state: u64, token: u32) -> u64 {
    let z = state.wrapping_add(u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) | 1
}

/// The next token; `None` ends the answer. Often it follows from the last one alone, so that there is
/// something to guess.
fn draw(state: u64, last: u32) -> Option<u32> {
    if state >> 61 > 0 {
        return Some(last % 5 + 1);
    }
    let token = (state >> 33) % 10;
    (token > 0).then_some(token as u32)
}

/// The driver, with the simulated model.
struct Simulated {
    core: Core,
    limits: Limits,
    /// Pages there is memory for.
    memory: usize,
    slots: Vec<[u64; PAGE_TOKENS]>,
    /// Page and slot of drafts that were not drawn: they may be overwritten, and nobody reads them.
    refused: BTreeSet<(PageId, usize)>,
    /// Drafts computed, and those of them that were drawn.
    drafts: [usize; 2],
    /// Drawn so far, and the most that may be.
    live: BTreeMap<Ticket, (Vec<u32>, usize)>,
    done: BTreeMap<Ticket, Vec<u32>>,
    /// What was drawn for those that became too large.
    outgrown: BTreeMap<Ticket, Vec<u32>>,
    cached: BTreeMap<Ticket, usize>,
    /// Tokens computed in all steps.
    computed: usize,
}

impl Simulated {
    fn new(limits: Limits) -> Self {
        Self {
            core: Core::new(limits),
            limits,
            memory: limits.pages,
            slots: vec![[0; PAGE_TOKENS]; limits.pages],
            refused: BTreeSet::new(),
            drafts: [0; 2],
            live: BTreeMap::new(),
            done: BTreeMap::new(),
            outgrown: BTreeMap::new(),
            cached: BTreeMap::new(),
            computed: 0,
        }
    }

    fn submit(&mut self, asked: &Asked) -> Result<Ticket, Refused> {
        let ticket = self.core.submit(asked.submission())?;
        self.live.insert(ticket, (Vec::new(), asked.max_new));
        Ok(ticket)
    }

    fn cancel(&mut self, ticket: Ticket) {
        self.core.end(ticket);
        self.live.remove(&ticket);
    }

    fn step(&mut self) -> Step {
        let mut step = self.core.plan(0);
        if self.memory < step.pages {
            self.core.shrink(self.memory, &mut step);
        }
        for ticket in &step.outgrown {
            let (drawn, _) = self.live.remove(ticket).unwrap();
            self.outgrown.insert(*ticket, drawn);
        }
        for page in &step.wipe {
            self.slots[page.0] = [0; PAGE_TOKENS];
            self.refused.retain(|(refused, _)| refused != page);
        }
        let total: usize = step.work.iter().map(|work| work.tokens.len()).sum();
        assert!(total <= self.limits.step_tokens.max(MIN_STEP_TOKENS), "over the budget");
        assert!(step.work.len() <= self.limits.running.max(1));
        self.computed += total;
        self.cached.extend(step.started.iter().copied());
        let mut seen = Vec::new();
        let states: Vec<_> = step.work.iter().map(|work| self.compute(work)).collect();
        self.core.computed(&step);
        for (work, states) in step.work.iter().zip(states) {
            assert!(!seen.contains(&work.ticket), "twice in a step");
            seen.push(work.ticket);
            self.draw(work, &states);
        }
        self.core.check();
        step
    }

    /// Draws what `states`, after each token of `work`, say.
    fn draw(&mut self, work: &Work, states: &[u64]) {
        let tokens = self.core.tokens_of(work).to_vec();
        assert_eq!(self.core.drafts_of(work).len(), work.draws.saturating_sub(1));
        let drafts = self.core.drafts_of(work).iter().map(|draft| Some(*draft)).chain([None]);
        let drafts: Vec<_> = drafts.collect();
        self.drafts[0] += drafts.len() - 1;
        let first = tokens.len() - work.draws;
        for (at, draft) in (first..tokens.len()).zip(drafts) {
            let (drawn, most) = self.live.get_mut(&work.ticket).unwrap();
            let token = draw(states[at], tokens[at]);
            drawn.extend(token);
            if token.is_none() || drawn.len() == *most {
                self.core.end(work.ticket);
                let (drawn, _) = self.live.remove(&work.ticket).unwrap();
                self.done.insert(work.ticket, drawn);
                return;
            }
            self.core.append(work.ticket, token.unwrap());
            if token != draft {
                let pages = self.core.pages(work.ticket);
                let gone = (work.tokens.start + at + 1..work.tokens.end)
                    .map(|position| (pages[position / PAGE_TOKENS], position % PAGE_TOKENS));
                self.refused.extend(gone);
                return;
            }
            self.drafts[1] += 1;
        }
    }

    /// The state after each token of `work`.
    fn compute(&mut self, work: &Work) -> Vec<u64> {
        let pages = self.core.pages(work.ticket);
        let certain = self.core.tokens(work.ticket);
        let before = certain[..work.tokens.start].iter();
        let (mut state, mut states) = (START, Vec::new());
        for (position, token) in before.chain(self.core.tokens_of(work)).enumerate() {
            state = mix(state, *token);
            let (page, at) = (pages[position / PAGE_TOKENS], position % PAGE_TOKENS);
            assert!(page.0 < self.memory, "a page without memory");
            let slot = &mut self.slots[page.0][at];
            if position < work.tokens.start {
                // What none of the new tokens sees may be anything.
                let seen =
                    self.limits.window.map_or(0, |w| (work.tokens.start + 1).saturating_sub(w));
                let right = position < seen || *slot == state;
                assert!(right, "the page of a token before is not its own");
            } else {
                let free = *slot == 0 || self.refused.remove(&(page, at));
                assert!(free, "a page that was not wiped, or belongs to two");
                *slot = state;
                states.push(state);
            }
        }
        states
    }

    /// Steps until nothing is left, at most `steps`.
    fn finish(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.core.is_empty() {
                // Nothing is computed, and what the last ones left is wiped.
                assert!(self.step().work.is_empty());
                return self.check_idle();
            }
            self.step();
        }
        panic!("{} requests are still there after {steps} steps", self.live.len());
    }

    fn check_idle(&self) {
        let pool = self.core.pool();
        assert_eq!((pool.users(), pool.available()), (0, pool.len()), "a page has leaked");
        assert!(pool.len() == self.limits.pages || pool.len() == self.memory);
        for (n, slots) in self.slots.iter().enumerate() {
            let empty = *slots == [0; PAGE_TOKENS];
            assert!(empty || !pool.is_free(PageId(n)), "page {n} is free and holds tokens");
        }
    }
}

fn limits(running: usize, pages: usize) -> Limits {
    Limits {
        running,
        waiting: 1000,
        step_tokens: 16,
        pages,
        draft_rows: MAX_DRAFT_TOKENS + 1,
        window: None,
    }
}

/// A prompt of `count` tokens that begins as others of the same `kind` do.
fn prompt(kind: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|n| 1 + kind * 100 + n % 97).collect()
}

fn asked() -> impl Strategy<Value = Asked> {
    (proptest::option::of(0u8..3), 0u8..3, 0u32..2, 1usize..140, 1usize..60).prop_map(
        |(tenant, priority, kind, count, max_new)| Asked {
            tenant,
            priority,
            prompt: prompt(kind, count),
            max_new,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// The whole of it: whoever else is there, whenever each comes and goes, and however little room
    /// there is, every answer is the one the model gives alone, and nothing is left behind.
    #[test]
    fn answers_do_not_depend_on_who_else_is_served_and_no_page_is_lost(
        requests in proptest::collection::vec((asked(), 0usize..60, proptest::option::weighted(0.2, 0usize..40)), 1..14),
        running in 1usize..6,
        step_tokens in 1usize..40,
        pages in 7usize..24,
        draft_rows in 0usize..12,
        window in proptest::option::of(1usize..90),
    ) {
        let limits = Limits { running, waiting: 100, step_tokens, pages, draft_rows, window };
        let mut sim = Simulated::new(limits);
        let mut expected = BTreeMap::new();
        let mut cancelled = Vec::new();
        for step in 0..60 {
            for (asked, _, leaves) in requests.iter().filter(|(_, arrival, _)| *arrival == step) {
                let ticket = sim.submit(asked).unwrap();
                expected.insert(ticket, asked.answer());
                cancelled.extend(leaves.map(|leaves| (ticket, step + leaves)));
            }
            sim.step();
            for (ticket, at) in &cancelled {
                if *at == step && sim.live.contains_key(ticket) {
                    sim.cancel(*ticket);
                    sim.core.check();
                    expected.remove(ticket);
                }
            }
        }
        // Even if each were alone, each token had a step of its own, and all were computed thrice.
        let most: usize = requests.iter().map(|(a, ..)| a.prompt.len() + a.max_new).sum();
        sim.finish(3 * most + 10);
        for (ticket, answer) in expected {
            prop_assert_eq!(&sim.done[&ticket], &answer);
        }
    }

    #[test]
    fn the_order_of_arrival_changes_no_answer(
        requests in proptest::collection::vec(asked(), 2..8),
        pages in 7usize..20,
    ) {
        let run = |order: &mut dyn Iterator<Item = &Asked>| {
            let mut sim = Simulated::new(limits(3, pages));
            let tickets: Vec<_> = order.map(|asked| sim.submit(asked).unwrap()).collect();
            sim.finish(10_000);
            tickets.iter().map(|ticket| sim.done[ticket].clone()).collect::<Vec<_>>()
        };
        let forwards = run(&mut requests.iter());
        let mut backwards = run(&mut requests.iter().rev());
        backwards.reverse();
        prop_assert_eq!(forwards, backwards);
    }
}

#[test]
fn the_same_calls_give_the_same_steps() {
    let run = || {
        let mut sim = Simulated::new(limits(3, 12));
        for n in 0..8 {
            let tenant = (n % 3 > 0).then_some(n % 3);
            sim.submit(&Asked::new(tenant, prompt(u32::from(n % 2), 20 + 9 * usize::from(n)), 40))
                .unwrap();
        }
        (0..200).map(|_| format!("{:?}", sim.step())).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_sequence_that_lost_its_pages_answers_as_if_it_had_not() {
    // Room for the prompts of both, not for their answers.
    let mut sim = Simulated::new(limits(2, 8));
    let long = |kind| (0..).map(move |n| Asked::new(None, prompt(kind, 60 + n), 150));
    // Two whose answers are long.
    let all: Vec<_> =
        (0..2).map(|kind| long(kind).find(|asked| asked.answer().len() > 100).unwrap()).collect();
    let tickets: Vec<_> = all.iter().map(|asked| sim.submit(asked).unwrap()).collect();
    let mut lost = false;
    while !sim.core.is_empty() {
        sim.step();
        lost |= sim.live.contains_key(&tickets[1])
            && !sim.live[&tickets[1]].0.is_empty()
            && sim.core.pages(tickets[1]).is_empty();
        assert!(sim.done.contains_key(&tickets[0]) || !sim.core.pages(tickets[0]).is_empty());
    }
    assert!(lost, "the test is too small: nothing was taken");
    for (asked, ticket) in all.iter().zip(&tickets) {
        assert_eq!(sim.done[ticket], asked.answer());
    }
}

#[test]
fn an_answer_goes_on_in_every_step_while_a_long_prompt_is_computed() {
    let mut sim = Simulated::new(limits(4, 100));
    let chatty = (0..).map(|n| Asked::new(None, prompt(n, 3), 200));
    let chatty = { chatty }.find(|asked| asked.answer().len() > 100).unwrap();
    let first = sim.submit(&chatty).unwrap();
    sim.step();
    let long = sim.submit(&Asked::new(None, prompt(9, 900), 5)).unwrap();
    let mut steps = 0;
    while sim.core.tokens(long).len() == 900 && !sim.done.contains_key(&long) {
        let step = sim.step();
        steps += 1;
        assert!(step.work.iter().any(|work| work.ticket == first && work.draws > 0));
    }
    assert_eq!(steps, 900 / 15, "fifteen of sixteen tokens of a step are the prompt's");
}

#[test]
fn prompts_keep_a_quarter_of_a_step_that_answers_would_fill() {
    let mut sim = Simulated::new(Limits { waiting: 0, step_tokens: 8, ..limits(20, 99) });
    let chatty = (0..).map(|n| Asked::new(None, prompt(n, 2), 90));
    for asked in chatty.filter(|asked| asked.answer().len() == 90).take(12) {
        sim.submit(&asked).unwrap();
    }
    while sim.cached.len() < 12 {
        sim.step();
    }
    let long = sim.submit(&Asked::new(None, prompt(3, 64), 1)).unwrap();
    let mut steps = 0;
    while !sim.done.contains_key(&long) {
        let work = sim.step().work;
        let parts = work.iter().filter(|work| work.ticket == long).map(|work| work.tokens.len());
        assert_eq!((parts.sum::<usize>(), work.len()), (2, 6 + 1), "step {steps}");
        steps += 1;
    }
    assert_eq!(steps, 32);
}

// Drafts.

/// A request whose answer is `len` tokens.
fn chatty(len: usize) -> Asked {
    let mut all = (0..).map(|n| Asked::new(None, prompt(n, 3), len));
    all.find(|asked| asked.answer().len() == len).unwrap()
}

#[test]
fn an_answer_that_repeats_itself_takes_fewer_steps() {
    let steps = |draft_rows| {
        let mut sim = Simulated::new(Limits { draft_rows, ..limits(1, 40) });
        let asked = chatty(150);
        let ticket = sim.submit(&asked).unwrap();
        let steps = (1..).find(|_| {
            sim.step();
            sim.core.is_empty()
        });
        assert_eq!(sim.done[&ticket], asked.answer());
        (steps.unwrap(), sim.drafts)
    };
    let [(without, none), (with, [guessed, right])] = [0, MAX_DRAFT_TOKENS + 1].map(steps);
    assert_eq!((without, none), (150, [0; 2]));
    assert_eq!(with + right, without, "each draft that was drawn is a step less");
    assert!(right > 40 && guessed > right, "{right} of {guessed}: this shows little");
}

#[test]
fn drafts_are_shared_out_among_the_answers_of_one_caller_and_there_are_none_beside_a_prompt() {
    let (mut most, mut beside) = ([0; 4], 0);
    let mut sim = Simulated::new(limits(5, 60));
    for most in &mut most {
        sim.submit(&Asked { tenant: Some(1), ..chatty(200) }).unwrap();
        for _ in 0..20 {
            let step = sim.step();
            let prompt = step.work.iter().any(|work| work.tokens.len() > work.draws);
            for drafts in step.work.iter().map(|work| work.draws.saturating_sub(1)) {
                beside += if prompt { drafts } else { 0 };
                *most = drafts.max(*most);
            }
        }
    }
    assert_eq!(sim.live.len(), 4, "an answer ended early");
    assert_eq!((most, beside), ([7, 3, 1, 1], 0));
}

#[test]
fn a_text_that_repeats_itself_makes_nobody_elses_step_longer() {
    // One neighbour whose guesses are right, and one about whom nothing can be guessed.
    let sizes = |draft_rows, neighbour: &Asked| {
        let mut sim = Simulated::new(Limits { draft_rows, ..limits(3, 60) });
        let watcher = sim.submit(&Asked { tenant: Some(2), ..chatty(200) }).unwrap();
        sim.submit(neighbour).unwrap();
        let mut sizes = Vec::new();
        while sim.live.len() == 2 {
            let step = sim.step();
            assert!(step.work.iter().any(|work| work.ticket == watcher));
            sizes.push(step.work.iter().map(|work| work.tokens.len()).sum::<usize>());
        }
        sizes
    };
    for tenant in [None, Some(1)] {
        let repeats = Asked { tenant, ..chatty(150) };
        let with = sizes(MAX_DRAFT_TOKENS + 1, &repeats);
        assert!(with.len() > 50, "the test is too small");
        assert_eq!(with, sizes(0, &repeats));
    }
}

#[test]
fn a_text_that_repeats_itself_makes_nobody_wait_longer_or_less() {
    // The steps that are computed before the first one of who waits for the only place.
    let before = |draft_rows, tenant| {
        let mut sim = Simulated::new(Limits { draft_rows, ..limits(1, 60) });
        sim.submit(&Asked { tenant, ..chatty(150) }).unwrap();
        let watcher = sim.submit(&Asked { tenant: Some(2), ..chatty(20) }).unwrap();
        let begun = |sim: &mut Simulated| {
            let step = sim.step();
            step.work.iter().any(|work| work.ticket == watcher)
        };
        ((0..).take_while(|_| !begun(&mut sim)).count(), sim.drafts)
    };
    for tenant in [None, Some(1)] {
        assert_eq!(before(MAX_DRAFT_TOKENS + 1, tenant), before(0, tenant));
    }
    // Its own requests may wait less.
    let (with, without) = (before(MAX_DRAFT_TOKENS + 1, Some(2)), before(0, Some(2)));
    assert!(with.0 < without.0, "{} of {} steps", with.0, without.0);
}

#[test]
fn one_row_of_drafts_is_none() {
    let mut sim = Simulated::new(Limits { draft_rows: 1, ..limits(1, 40) });
    sim.submit(&chatty(150)).unwrap();
    sim.finish(200);
    assert_eq!(sim.drafts, [0; 2]);
}

#[test]
fn drafts_take_no_page_that_another_could_need() {
    // Two answers, and two pages for each.
    let mut sim = Simulated::new(limits(2, 4));
    let asked = Asked { tenant: Some(1), ..chatty(2 * PAGE_TOKENS - 3) };
    let tickets = [(); 2].map(|()| sim.submit(&asked).unwrap());
    while !sim.core.is_empty() {
        let lost = tickets.iter().any(|ticket| {
            sim.live.get(ticket).is_some_and(|(drawn, _)| !drawn.is_empty())
                && sim.core.pages(*ticket).is_empty()
        });
        assert!(!lost, "an answer waits for a page");
        sim.step();
    }
    assert!(sim.drafts[1] > 0);
}

#[test]
fn a_tenant_finds_the_pages_of_drafts_that_were_drawn_and_of_no_others() {
    let cached = |draft_rows| {
        let mut sim = Simulated::new(Limits { draft_rows, ..limits(1, 40) });
        let first = Asked { tenant: Some(1), ..chatty(150) };
        shape(&mut sim, &first);
        let next = Asked { prompt: [first.prompt.clone(), first.answer()].concat(), ..first };
        (shape(&mut sim, &next).0, sim.drafts[1] > 0)
    };
    let (with, without) = (cached(MAX_DRAFT_TOKENS + 1), cached(0));
    assert_eq!((with, without), ((4 * PAGE_TOKENS, true), (4 * PAGE_TOKENS, false)));
}

// Fairness.

/// Steps until `asked` is answered while others come all the time: `rivals(step)` come before each,
/// as many as may wait.
fn steps_among(asked: &Asked, waiting: usize, rivals: impl Fn(u32) -> Vec<Asked>) -> u32 {
    let mut sim = Simulated::new(Limits { waiting, ..limits(4, 40) });
    let mut ticket = None;
    for step in 0..4000 {
        if ticket.is_some_and(|ticket| sim.done.contains_key(&ticket)) {
            return step - 20;
        }
        for rival in rivals(step) {
            // One place is left to who is measured.
            if sim.live.len() + 1 < 4 + waiting {
                sim.submit(&rival).unwrap();
            }
        }
        if step == 20 {
            ticket = Some(sim.submit(asked).unwrap());
        }
        sim.step();
    }
    panic!("starved")
}

/// A request of 100 tokens of prompt with an answer of ten.
fn patient(tenant: Option<u8>) -> Asked {
    Asked::new(tenant, prompt(5, 100), 10)
}

#[test]
fn one_tenants_flood_delays_another_by_no_more_than_its_share() {
    // A thousand prompt tokens a step, all of one tenant, where a step has sixteen.
    let flood = |step: u32| {
        (0..10).map(|n| Asked::new(Some(1), prompt(step * 10 + n, 100), 2)).collect::<Vec<_>>()
    };
    let flooded = steps_among(&patient(Some(2)), 1000, flood);
    // Half of 16 tokens a step for 100 tokens, ten steps for the answer, and those that were running.
    assert!(flooded <= 100 / 8 + 10 + 4 * 8, "{flooded} steps");
    let same = steps_among(&patient(Some(1)), 1000, flood);
    assert!(same > 2 * flooded, "among its own it waits its turn: {same} steps");
}

#[test]
fn who_made_others_wait_without_tokens_comes_after_them() {
    let first = |work| {
        let mut sim = Simulated::new(limits(4, 40));
        let [ours, theirs] = [(1, 0), (2, 1)].map(|(tenant, kind)| {
            sim.submit(&Asked::new(Some(tenant), prompt(kind, 400), 1)).unwrap()
        });
        sim.core.charge_work(ours, work);
        assert_eq!((sim.core.charged(ours), sim.core.charged(theirs)), (work as u64, 0));
        let steps = (0..10).map(|_| sim.step().work[0].ticket == theirs);
        steps.filter(|theirs| *theirs).count()
    };
    // A step is sixteen tokens.
    assert_eq!((first(0), first(5 * 16), first(1000)), (5, 7, 10));
}

#[test]
fn new_callers_without_end_do_not_keep_an_old_one_from_its_turn() {
    // Each is a caller of its own, and together they want twice what there is, and four times.
    for (waiting, each) in [(4, 1), (20, 1), (20, 2), (60, 2)] {
        let stream =
            |step: u32| (0..each).map(|n| Asked::new(None, prompt(step + n, 30), 2)).collect();
        let steps = steps_among(&patient(None), waiting, stream);
        // Its share is one part of as many as there may be callers: 110 tokens at 16 a step, and as
        // long again for those who were there before.
        let callers = 4 + u32::try_from(waiting).unwrap();
        assert!(steps <= 2 * 110 * callers / 16, "{steps} steps among {callers}");
    }
}

#[test]
fn a_priority_overtakes_the_callers_own_requests_up_to_its_lead_and_nobody_elses() {
    let order = |asked: Vec<Asked>| {
        let mut sim = Simulated::new(limits(1, 40));
        let tickets: Vec<_> = asked.iter().map(|asked| sim.submit(asked).unwrap()).collect();
        let mut order = Vec::new();
        for _ in 0..5000 {
            order.extend(sim.step().started.iter().map(|(ticket, _)| *ticket));
        }
        tickets.iter().map(|t| order.iter().position(|o| o == t).unwrap()).collect::<Vec<_>>()
    };
    let urgent = |tenant| Asked { priority: 1, ..Asked::new(tenant, prompt(1, 40), 2) };
    let lead = PRIORITY_LEAD as usize;
    let mut own = vec![Asked::new(Some(1), prompt(0, 40), 2); lead + 5];
    own.push(urgent(Some(1)));
    // Before it are `lead` and five; it overtakes those that came less than `lead` before it.
    assert_eq!(order(own).pop(), Some(6));

    let mut others: Vec<_> = (0..6).map(|n| Asked::new(Some(n), prompt(0, 40), 2)).collect();
    others.push(Asked { priority: u8::MAX, ..Asked::new(Some(9), prompt(1, 40), 2) });
    assert_eq!(order(others), [0, 1, 2, 3, 4, 5, 6]);
}

// Leaving.

#[test]
fn who_leaves_frees_its_pages_at_once_and_they_are_wiped_before_anything_is_computed() {
    let mut sim = Simulated::new(limits(1, 10));
    let first = sim.submit(&Asked::new(None, prompt(1, 200), 50)).unwrap();
    for _ in 0..5 {
        sim.step();
    }
    let held = sim.core.pages(first).to_vec();
    assert_eq!(held.len(), 7);
    let waits = sim.submit(&Asked::new(None, prompt(2, 200), 1)).unwrap();
    sim.cancel(first);
    assert_eq!(sim.core.pool().available(), 10);
    let step = sim.step();
    assert!(held.iter().all(|page| step.wipe.contains(page)));
    assert_eq!(step.work.first().map(|work| work.ticket), Some(waits), "in the same step");
    sim.cancel(waits);
    sim.finish(1);
}

#[test]
fn a_deadline_ends_a_request_wherever_it_is() {
    let mut core = Core::new(limits(1, 10));
    let mut submit = |deadline| {
        let asked = Asked::new(None, prompt(1, 100), 5).submission();
        core.submit(Submission { deadline, ..asked }).unwrap()
    };
    let (runs, waits, stays) = (submit(Some(10)), submit(Some(11)), submit(None));
    let step = core.plan(9);
    core.computed(&step);
    assert!(step.expired.is_empty() && step.work[0].ticket == runs);
    let step = core.plan(11);
    assert_eq!(step.expired, [runs, waits]);
    assert_eq!(step.work[0].ticket, stays);
    assert!(!step.wipe.is_empty());
}

#[test]
fn a_request_that_began_in_time_goes_on_and_one_that_waits_longer_than_it_may_is_given_up() {
    let mut core = Core::new(limits(1, 10));
    let mut submit = |begin_by, deadline| {
        let asked = Asked::new(None, prompt(1, 100), 5).submission();
        core.submit(Submission { begin_by, deadline, ..asked }).unwrap()
    };
    let (runs, waits, later) =
        (submit(Some(10), Some(20)), submit(Some(10), Some(20)), submit(Some(11), None));
    let mut at = |now| {
        let step = core.plan(now);
        core.computed(&step);
        let Work { ticket, draws, .. } = step.work[0];
        if draws > 0 {
            core.append(ticket, 1);
        }
        (step.expired, ticket)
    };
    assert_eq!(at(9), (vec![], runs));
    assert_eq!(at(10), (vec![waits], runs));
    assert_eq!(at(19), (vec![later], runs), "it has all of its own part");
    let mut core = Core::new(limits(1, 10));
    let asked = Asked::new(None, prompt(1, 100), 5).submission();
    core.submit(Submission { begin_by: Some(10), deadline: Some(20), ..asked }).unwrap();
    let step = core.plan(9);
    core.computed(&step);
    core.preempt_all();
    assert!(core.plan(19).expired.is_empty(), "who lost its pages has begun all the same");
    assert_eq!(core.plan(20).expired.len(), 1);
}

#[test]
fn refuses_one_request_more_than_may_wait_and_what_would_never_fit() {
    let mut core = Core::new(Limits { waiting: 1, ..limits(2, 4) });
    let fits = Asked::new(None, prompt(1, 4 * PAGE_TOKENS - 5), 5);
    let larger = Asked { max_new: 6, ..fits.clone() };
    assert_eq!(core.submit(larger.submission()), Err(Refused::Size));
    assert_eq!(core.submit(Asked::new(None, Vec::new(), 1).submission()), Err(Refused::Size));
    let tickets = [(); 3].map(|()| core.submit(fits.submission()).unwrap());
    assert_eq!(core.submit(fits.submission()), Err(Refused::Busy));
    core.end(tickets[2]);
    assert!(core.submit(fits.submission()).is_ok());
}

// The prefix cache.

/// The numbers of tokens of each step of a request that comes when the others are done.
fn shape(sim: &mut Simulated, asked: &Asked) -> (usize, Vec<usize>) {
    let ticket = sim.submit(asked).unwrap();
    let mut steps = Vec::new();
    while !sim.core.is_empty() {
        steps.push(sim.step().work.iter().map(|work| work.tokens.len()).sum());
    }
    (sim.cached[&ticket], steps)
}

#[test]
fn a_tenants_prefix_is_computed_once_and_another_tenant_learns_nothing_of_it() {
    let with = |tenant| Asked::new(tenant, prompt(1, 130), 6);
    let alone = shape(&mut Simulated::new(limits(2, 40)), &with(Some(1)));
    assert_eq!(alone.0, 0);

    for (ours, theirs) in [(1, 2), (2, 1)] {
        let mut sim = Simulated::new(limits(2, 40));
        shape(&mut sim, &with(Some(ours)));
        // Four whole pages of 32 are reused, two tokens computed.
        let (cached, steps) = shape(&mut sim, &with(Some(ours)));
        assert_eq!((cached, steps[0]), (128, 2));
        for stranger in [Some(theirs), None] {
            assert_eq!(shape(&mut sim, &with(stranger)), alone, "{stranger:?} sees a difference");
        }
        // Nothing of who has no tenant is kept, not for itself either.
        assert_eq!(shape(&mut sim, &with(None)), alone);
        assert_eq!(shape(&mut sim, &with(Some(theirs))).0, 128, "its own");
    }
}

#[test]
fn what_others_have_cached_takes_no_room_from_a_request() {
    let mut sim = Simulated::new(limits(2, 12));
    let alone = shape(&mut sim, &Asked::new(None, prompt(2, 300), 6));
    for kind in 3..6 {
        shape(&mut sim, &Asked::new(Some(1), prompt(kind, 300), 1));
    }
    assert_eq!(shape(&mut sim, &Asked::new(None, prompt(2, 300), 6)), alone);
    sim.finish(1);
}

#[test]
fn at_least_the_last_token_of_a_prompt_is_computed() {
    let mut sim = Simulated::new(limits(2, 40));
    let whole = Asked::new(Some(1), prompt(1, 2 * PAGE_TOKENS), 4);
    shape(&mut sim, &whole);
    assert_eq!(shape(&mut sim, &whole).0, PAGE_TOKENS);
}

#[test]
fn the_prefix_that_was_not_used_the_longest_goes_first() {
    // Nine pages: three prefixes of three pages each fill them.
    let mut sim = Simulated::new(limits(1, 10));
    let with = |kind| Asked::new(Some(1), prompt(kind, 3 * PAGE_TOKENS + 1), 1);
    for kind in [1, 2, 3] {
        assert_eq!(shape(&mut sim, &with(kind)).0, 0);
    }
    assert_eq!(shape(&mut sim, &with(1)).0, 3 * PAGE_TOKENS, "used again: now the second goes");
    shape(&mut sim, &with(4));
    assert_eq!(shape(&mut sim, &with(3)).0, 3 * PAGE_TOKENS);
    assert_eq!(shape(&mut sim, &with(1)).0, 3 * PAGE_TOKENS);
    assert!(shape(&mut sim, &with(2)).0 < 3 * PAGE_TOKENS);
}

#[test]
fn two_that_compute_the_same_prefix_at_once_end_up_with_the_same_pages() {
    let mut sim = Simulated::new(Limits { step_tokens: 400, ..limits(2, 40) });
    let asked = Asked::new(Some(1), prompt(1, 100), 50);
    let tickets = [(); 2].map(|()| sim.submit(&asked).unwrap());
    let step = sim.step();
    assert_eq!(step.work.len(), 2);
    let [a, b] = tickets.map(|ticket| sim.core.pages(ticket).to_vec());
    assert_eq!(a[..3], b[..3]);
    assert_ne!(a[3], b[3]);
    sim.finish(200);
    assert_eq!(sim.done[&tickets[0]], sim.done[&tickets[1]]);
}
