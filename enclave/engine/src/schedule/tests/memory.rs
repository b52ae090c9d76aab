//! A pool whose pages have no memory when they are handed out: who got them waits, and nobody else.

use super::*;

/// Pages that `tokens` lie in.
fn pages(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

impl Simulated {
    fn with_memory(limits: Limits, memory: usize) -> Self {
        Self { memory, ..Self::new(limits) }
    }
}

#[test]
fn a_page_without_memory_delays_who_got_it_and_nobody_else() {
    let mut sim = Simulated::with_memory(Limits { step_tokens: 200, ..limits(3, 20) }, 5);
    let asked = [(0, 60), (1, 90), (2, 30)].map(|(k, n)| Asked::new(Some(1), prompt(k, n), 20));
    let [first, second, third] = asked.clone().map(|asked| sim.submit(&asked).unwrap());
    let step = sim.step();
    let work: Vec<_> = step.work.iter().map(|work| work.ticket).collect();
    // Two pages, then three, then one that is not there.
    assert_eq!((step.pages, work), (6, vec![first, second]));
    assert_eq!(step.started, [(first, 0), (second, 0)], "the third starts when it does");
    assert_eq!(sim.core.pages(third), []);
    sim.finish(400);
    for (asked, ticket) in asked.iter().zip([first, second, third]) {
        assert_eq!(sim.done[&ticket], asked.answer());
    }
}

#[test]
fn what_is_not_computed_for_want_of_memory_is_on_nobodys_account() {
    let mut sim = Simulated::with_memory(Limits { step_tokens: 200, ..limits(3, 20) }, 5);
    let asked = [(0, 60), (1, 90), (2, 30)];
    let tickets = asked.map(|(k, n)| sim.submit(&Asked::new(Some(k), prompt(k.into(), n), 20)));
    let tickets = tickets.map(Result::unwrap);
    assert_eq!(sim.step().work.len(), 2);
    assert_eq!(tickets.map(|ticket| sim.core.charged(ticket)), [60, 90, 0]);
    // Nor has time gone on for it: of 150 tokens a third for each caller.
    let next = sim.submit(&Asked::new(Some(3), prompt(3, 5), 1)).unwrap();
    assert_eq!(sim.core.charged(next), 50);
}

#[test]
fn a_page_without_memory_is_one_that_was_kept_for_a_prefix_before_anybody_waits() {
    let mut sim = Simulated::with_memory(Limits { step_tokens: 200, ..limits(1, 20) }, 5);
    // Four full pages stay, the fifth is free.
    shape(&mut sim, &Asked::new(Some(1), prompt(0, 4 * PAGE_TOKENS + 2), 1));
    let asked = Asked::new(Some(2), prompt(1, 90), 20);
    let ticket = sim.submit(&asked).unwrap();
    let step = sim.step();
    assert!(step.pages > 5, "the test is too small: there was memory");
    assert_eq!(step.work.first().map(|work| (work.ticket, work.draws)), Some((ticket, 1)));
    sim.finish(100);
    assert_eq!(sim.done[&ticket], asked.answer());
}

#[test]
fn an_answer_alone_goes_on_in_what_it_left_where_there_is_memory_for_its_window() {
    // Those of the window, the one it moves out of, and the one that is admitted for the next token.
    let (window, memory) = (3 * PAGE_TOKENS, 5);
    for tenant in [None, Some(1)] {
        let asked = Asked { tenant, ..chatty(400) };
        let limits = Limits { window: Some(window), ..limits(1, 40) };
        let mut sim = Simulated::with_memory(limits, memory);
        let ticket = sim.submit(&asked).unwrap();
        sim.finish(500);
        assert_eq!(sim.done.get(&ticket), Some(&asked.answer()), "{tenant:?}");
    }
}

#[test]
fn what_does_not_fit_alone_is_ended_and_takes_nobodys_turn() {
    let mut sim = Simulated::with_memory(Limits { step_tokens: 200, ..limits(1, 20) }, 3);
    let large = sim.submit(&Asked::new(None, prompt(0, 100), 5)).unwrap();
    let small = Asked::new(None, prompt(1, 50), 20);
    let ticket = sim.submit(&small).unwrap();
    assert!(sim.step().work.is_empty());
    assert_eq!(sim.step().outgrown, [large]);
    sim.finish(200);
    assert_eq!(sim.done[&ticket], small.answer());
}

#[test]
fn an_answer_that_grows_past_the_memory_there_is_ends_and_leaves_its_pages() {
    let mut sim = Simulated::with_memory(limits(2, 20), 2);
    let long = chatty(100);
    let ticket = sim.submit(&long).unwrap();
    sim.finish(400);
    assert!(!sim.done.contains_key(&ticket));
    let drawn = &sim.outgrown[&ticket];
    assert!(drawn.len() > 50 && long.answer().starts_with(drawn), "{}", drawn.len());
}

#[test]
fn an_idle_pool_asks_for_its_memory_again() {
    let mut sim = Simulated::with_memory(Limits { step_tokens: 200, ..limits(2, 8) }, 2);
    let large = Asked::new(None, prompt(0, 150), 5);
    let refused = sim.submit(&large).unwrap();
    let small = sim.submit(&Asked::new(None, prompt(1, 5), 40)).unwrap();
    sim.step();
    assert_eq!(sim.submit(&large), Err(Refused::Size), "while it is known to be too small");
    sim.finish(100);
    assert!(sim.outgrown.contains_key(&refused) && sim.done.contains_key(&small));
    sim.memory = 8;
    let taken = sim.submit(&large).unwrap();
    sim.finish(100);
    assert_eq!(sim.done[&taken], large.answer());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// However little memory there is behind the pages: what fits is answered as the model alone would, what
    /// does not is ended, and no page is lost.
    #[test]
    fn only_what_does_not_fit_alone_goes_without_an_answer(
        requests in proptest::collection::vec((asked(), 0usize..40), 1..12),
        running in 1usize..6,
        step_tokens in 1usize..80,
        memory in 0usize..16,
        draft_rows in 0usize..12,
        window in proptest::option::of(1usize..90),
    ) {
        let limits = Limits { running, waiting: 100, step_tokens, pages: 16, draft_rows, window };
        let mut sim = Simulated::with_memory(limits, memory);
        let mut expected = BTreeMap::new();
        for step in 0..40 {
            for (asked, _) in requests.iter().filter(|(_, arrival)| *arrival == step) {
                match sim.submit(asked) {
                    Ok(ticket) => drop(expected.insert(ticket, asked)),
                    Err(refused) => {
                        prop_assert_eq!(refused, Refused::Size);
                        prop_assert!(pages(asked.prompt.len() + asked.max_new) > memory);
                    }
                }
            }
            sim.step();
        }
        let most: usize = requests.iter().map(|(a, ..)| a.prompt.len() + a.max_new).sum();
        sim.finish(4 * most + 10);
        for (ticket, asked) in expected {
            let answer = asked.answer();
            if let Some(drawn) = sim.outgrown.get(&ticket) {
                prop_assert!(pages(asked.prompt.len() + drawn.len() + 1) > memory);
                prop_assert!(answer.starts_with(drawn));
            } else {
                prop_assert_eq!(&sim.done[&ticket], &answer);
            }
        }
    }
}
