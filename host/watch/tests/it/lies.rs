//! With servers that lie, or are not there.

use chrysalis_watch::{Decision, Outcome, Reason, Waiting};

use crate::chain::Manner::{
    AnswersEach, ClaimsAllIsPaid, ClaimsClosingAndEmpty, Gone, HidesClosing, HidesTheChannel,
    Honest,
};
use crate::world::{DAY, GRAM, HOUR, World, taken};

#[test]
fn no_lie_about_the_channel_keeps_the_payment_past_the_closing_delay() {
    for manner in [HidesClosing, ClaimsAllIsPaid, HidesTheChannel, ClaimsClosingAndEmpty] {
        let mut world = World::open(5 * GRAM);
        let mut watcher = world.watcher(&[manner]);
        world.earns(GRAM / 2);
        world.look(&mut watcher);
        world.passes(HOUR);
        world.earns(GRAM);
        world.starts_to_close();
        // What the only server calls over is left out of some looks, and not of all.
        for _ in 0..23 {
            world.round(&mut watcher);
            world.passes(HOUR);
        }
        assert_eq!(world.paid(), GRAM, "{manner:?}");
        world.passes(2 * HOUR);
        world.finishes_the_close();
    }
}

#[test]
fn a_lie_makes_it_early_no_more_than_once_in_three_quarters_of_the_delay() {
    let mut world = World::open(5 * GRAM);
    let server = world.server(ClaimsAllIsPaid);
    let mut watcher =
        chrysalis_watch::Watcher::new(vec![server.clone()], chrysalis_watch::Policy::default());
    world.earns(GRAM / 10);
    for hour in 0..10 * 24 {
        world.earns(GRAM / 10 + hour * 1_000_000);
        world.look(&mut watcher);
        world.passes(HOUR);
    }
    // Hours 0, 18, 36 and so on to 234.
    assert_eq!(server.messages(), 14);
    assert_eq!(*world.book.notes.lock().unwrap(), [], "more was paid than was ever owed?");
}

#[test]
fn a_server_that_comes_and_goes_makes_it_early_no_more_than_once_in_three_quarters_of_the_delay() {
    let mut world = World::open(5 * GRAM);
    let (honest, flaky) = (world.server(Honest), world.server(AnswersEach(4)));
    let servers = vec![honest.clone(), flaky];
    let mut watcher = chrysalis_watch::Watcher::new(servers, chrysalis_watch::Policy::default());
    let (mut owed, mut heard) = (GRAM / 10, 0);
    let end = world.now().0 + u64::from(17 * HOUR);
    while world.now().0 < end {
        world.earns(owed);
        owed += GRAM / 1_000;
        let round = world.round(&mut watcher);
        heard += u32::from(round.heard_again);
        world.passes(u32::try_from(round.next_in()).unwrap());
    }
    assert!(heard > 10, "it came back {heard} times");
    assert_eq!(honest.messages(), 2, "at the start, and once more");
}

#[test]
fn one_honest_server_of_three_is_enough() {
    for others in [[HidesClosing, ClaimsAllIsPaid], [HidesTheChannel, Gone], [Gone, HidesClosing]] {
        let mut world = World::open(5 * GRAM);
        let mut watcher = world.settled_watcher(&[others[0], Honest, others[1]]);
        world.starts_to_close();
        world.earns(2 * GRAM);
        let report = world.look(&mut watcher);
        assert!(
            matches!(report.decision, Decision::Settle { why: Reason::Closing { .. }, .. }),
            "{others:?}: {report:?}"
        );
        assert_eq!(world.paid(), 2 * GRAM);
    }
}

#[test]
fn a_server_that_claims_a_close_cannot_make_it_pay_below_the_smallest_settlement() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.settled_watcher(&[Honest, ClaimsClosingAndEmpty]);
    world.earns(GRAM + 1_000);
    let report = world.look(&mut watcher);
    assert!(matches!(
        report.decision,
        Decision::Wait { why: Waiting::BelowMinimum { refund_from: Some(_) }, .. }
    ));
    assert_eq!(world.paid(), GRAM);
}

#[test]
fn while_no_server_can_be_reached_it_goes_on_trying() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.watcher(&[Gone]);
    world.earns(GRAM);
    for _ in 0..3 {
        let report = world.look(&mut watcher);
        assert!(matches!(report.outcome, Some(Outcome::Undelivered { .. })), "{report:?}");
        assert_eq!(report.unanswered.len(), 1);
        world.passes(60);
    }
    let mut watcher = world.watcher(&[Gone, Honest]);
    assert!(taken(&world.look(&mut watcher)));
    assert_eq!(world.paid(), GRAM);
    world.passes(DAY);
}
