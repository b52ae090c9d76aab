//! Sequences of a model whose layers all have a window give pages back that no token to come sees.

use super::*;

fn windowed(running: usize, pages: usize, window: usize) -> Limits {
    Limits { window: Some(window), ..limits(running, pages) }
}

/// Most pages that are used at once until nothing is left.
fn most_used(sim: &mut Simulated) -> usize {
    let mut most = 0;
    while !sim.core.is_empty() {
        sim.step();
        most = sim.core.pool().users().max(most);
    }
    most
}

#[test]
fn a_long_answer_holds_the_pages_of_its_window_and_no_more() {
    for tenant in [None, Some(1)] {
        let asked = Asked { tenant, ..chatty(400) };
        let mut sim = Simulated::new(windowed(1, 40, 3 * PAGE_TOKENS));
        let ticket = sim.submit(&asked).unwrap();
        // Those of the window, the one it moves out of, and the one that is admitted for the next token.
        assert!(most_used(&mut sim) <= 5);
        assert_eq!(sim.done[&ticket], asked.answer());
        let mut all = Simulated::new(limits(1, 40));
        all.submit(&asked).unwrap();
        assert_eq!(most_used(&mut all), (asked.prompt.len() + 400).div_ceil(PAGE_TOKENS));
    }
}

#[test]
fn pages_that_were_left_serve_others_at_once_and_are_wiped_before() {
    // Alone the answer takes sixteen pages, and there are eighteen for two of them.
    let mut sim = Simulated::new(windowed(2, 18, 2 * PAGE_TOKENS));
    let asked = chatty(500);
    let tickets = [(); 2].map(|()| sim.submit(&asked).unwrap());
    let mut lost = false;
    while !sim.core.is_empty() {
        sim.step();
        lost |= tickets.iter().any(|ticket| {
            sim.live.get(ticket).is_some_and(|(drawn, _)| !drawn.is_empty())
                && sim.core.pages(*ticket).is_empty()
        });
    }
    assert!(!lost, "one lost its pages to the other");
    assert!(tickets.iter().all(|ticket| sim.done[ticket] == asked.answer()));
}

#[test]
fn a_tenant_finds_what_was_left_until_somebody_needs_the_room() {
    let asked = Asked::new(Some(1), prompt(1, 300), 4);
    let mut sim = Simulated::new(windowed(1, 20, 40));
    assert_eq!(shape(&mut sim, &asked).0, 0);
    assert_eq!(shape(&mut sim, &asked).0, 9 * PAGE_TOKENS);
    // Others take all pages but those of their window, then all.
    for kind in [2, 3] {
        assert_eq!(shape(&mut sim, &Asked::new(None, prompt(kind, 600), 4)).0, 0);
    }
    assert_eq!(shape(&mut sim, &asked).0, 0, "its pages hold other tokens by now");
    let answer = sim.done.values().filter(|answer| **answer == asked.answer()).count();
    assert_eq!(answer, 3);
    sim.finish(1);
}

#[test]
fn a_page_that_holds_other_tokens_by_now_is_not_taken_for_what_it_held() {
    // The first pages of one are left and taken by another of the same tenant, who publishes other tokens in
    // them while the first one goes on and publishes behind what it left.
    let mut sim = Simulated::new(windowed(2, 14, 20));
    let (a, b) = (Asked { tenant: Some(1), ..chatty(300) }, Asked::new(Some(1), prompt(4, 290), 4));
    let first = sim.submit(&a).unwrap();
    for _ in 0..60 {
        sim.step();
    }
    let second = sim.submit(&b).unwrap();
    sim.finish(2000);
    assert_eq!((&sim.done[&first], &sim.done[&second]), (&a.answer(), &b.answer()));
    let both = Asked { prompt: [b.prompt.clone(), b.answer()].concat(), ..b };
    shape(&mut sim, &both);
    let last = sim.done.keys().max().copied().unwrap();
    assert_eq!(sim.done[&last], both.answer());
}
