//! With servers that tell the truth.

use chrysalis_ton::{RESERVE, Refusal};
use chrysalis_watch::{
    Decision, Note, Outcome, POLL_SECONDS, REPEAT_SECONDS, Reason, URGENT_SECONDS, Waiting,
};
use chrysalis_wire::{Digest, UnixTime};

use crate::chain::Manner::Honest;
use crate::world::{DAY, GRAM, HOUR, World, taken};

fn waiting(decision: Decision) -> Waiting {
    match decision {
        Decision::Wait { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn reason(decision: Decision) -> Reason {
    match decision {
        Decision::Settle { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_brings_what_is_owed_and_a_second_look_takes_the_payment_down() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.watcher(&[Honest]);
    assert_eq!(world.look(&mut watcher).decision, Decision::Nothing);
    world.earns(GRAM / 2);
    let report = world.look(&mut watcher);
    assert!(taken(&report), "{report:?}");
    assert_eq!((reason(report.decision), world.paid()), (Reason::Insist, GRAM / 2));
    world.passes(60);
    let report = world.look(&mut watcher);
    assert_eq!(report.decision, Decision::Nothing);
    let notes = world.book.notes.lock().unwrap().clone();
    let [Note::Paid { cum_paid, fee, transaction }] = notes[..] else { panic!("{notes:?}") };
    assert_eq!(cum_paid, GRAM / 2);
    assert!(fee > 300_000 && fee < 800_000, "{fee}");
    assert_ne!(transaction, Digest([0; 32]));
}

#[test]
fn enough_is_settled_at_once_and_less_after_a_while() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.settled_watcher(&[Honest]);
    world.earns(2 * GRAM);
    let report = world.look(&mut watcher);
    assert_eq!((reason(report.decision), world.paid()), (Reason::Amount, 2 * GRAM));
    world.passes(200);
    world.look(&mut watcher);

    world.earns(2 * GRAM + GRAM / 2);
    let due = UnixTime(world.now().0 + u64::from(DAY));
    let report = world.look(&mut watcher);
    assert_eq!(waiting(report.decision), Waiting::UntilThreshold { at: due });
    // Three quarters of the closing delay later it is brought anyway: this might be a lie.
    world.passes(DAY / 4 * 3 - 200);
    let report = world.look(&mut watcher);
    assert_eq!((reason(report.decision), world.paid()), (Reason::Insist, 5 * GRAM / 2));
}

#[test]
fn a_channel_that_closes_slowly_is_settled_by_age() {
    let mut world = World::open_with_delay(5 * GRAM, 7 * DAY);
    let mut watcher = world.settled_watcher(&[Honest]);
    world.earns(GRAM + GRAM / 2);
    assert!(matches!(waiting(world.look(&mut watcher).decision), Waiting::UntilThreshold { .. }));
    world.passes(DAY - 1);
    assert!(matches!(waiting(world.look(&mut watcher).decision), Waiting::UntilThreshold { .. }));
    world.passes(1);
    let report = world.look(&mut watcher);
    assert_eq!((reason(report.decision), world.paid()), (Reason::Age, GRAM * 3 / 2));
}

#[test]
fn an_amount_whose_fee_is_too_large_a_part_waits_however_old() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.settled_watcher(&[Honest]);
    // Above the channel's smallest settlement, under one percent.
    world.earns(GRAM + GRAM * 6 / 100);
    assert_eq!(waiting(world.look(&mut watcher).decision), Waiting::FeeShare);
    world.earns(GRAM + GRAM / 100);
    let below = Waiting::BelowMinimum { refund_from: None };
    assert_eq!(waiting(world.look(&mut watcher).decision), below);
}

#[test]
fn a_payer_who_closes_at_a_low_state_pays_the_latest_one() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.settled_watcher(&[Honest]);
    world.earns(GRAM + GRAM * 6 / 100);
    world.starts_to_close();
    let refund_from = UnixTime(world.now().0 + u64::from(DAY));
    let round = world.round(&mut watcher);
    assert_eq!(reason(round.reports[0].decision), Reason::Closing { refund_from });
    assert_eq!(world.paid(), GRAM + GRAM * 6 / 100);
    assert_eq!(round.next_in(), URGENT_SECONDS);
    assert!(world.book.notes.lock().unwrap().contains(&Note::Closing { refund_from }));
    // And what is earned while the delay runs.
    world.passes(HOUR);
    world.earns(2 * GRAM);
    assert!(taken(&world.look(&mut watcher)));
    world.passes(DAY);
    world.finishes_the_close();
    assert_eq!(world.paid(), 2 * GRAM);
}

#[test]
fn what_is_below_the_smallest_settlement_is_said_to_need_a_wallet() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.settled_watcher(&[Honest]);
    world.starts_to_close();
    world.earns(GRAM + 1);
    let refund_from = Some(UnixTime(world.now().0 + u64::from(DAY)));
    let round = world.round(&mut watcher);
    assert_eq!(waiting(round.reports[0].decision), Waiting::BelowMinimum { refund_from });
    assert_eq!(round.next_in(), URGENT_SECONDS);
}

#[test]
fn a_message_that_was_lost_is_sent_again() {
    use crate::chain::Manner::Loses;
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.watcher(&[Loses(2)]);
    world.earns(GRAM);
    for _ in 0..2 {
        assert!(taken(&world.look(&mut watcher)), "the server says that it took it");
        world.passes(REPEAT_SECONDS as u32 - 1);
        assert_eq!(waiting(world.look(&mut watcher).decision), Waiting::Underway);
        assert_eq!(world.paid(), 0);
        world.passes(1);
    }
    assert!(taken(&world.look(&mut watcher)));
    assert_eq!(world.paid(), GRAM);
}

#[test]
fn a_restart_loses_nothing_and_pays_nothing_twice() {
    let mut world = World::open(5 * GRAM);
    world.earns(GRAM);
    for _ in 0..3 {
        let report = world.look(&mut world.watcher(&[Honest]));
        assert_eq!(reason(report.decision), Reason::Insist);
        assert_eq!(world.paid(), GRAM);
    }
    let refused = Outcome::Refused { refusal: Some(Refusal::AlreadyPaid) };
    assert_eq!(world.look(&mut world.watcher(&[Honest])).outcome, Some(refused));
    assert_eq!(world.book.notes.lock().unwrap().len(), 1);
}

#[test]
fn a_deposit_that_is_too_small_pays_what_it_has_and_then_waits() {
    let mut world = World::open(GRAM);
    let mut watcher = world.watcher(&[Honest]);
    world.earns(3 * GRAM);
    world.look(&mut watcher);
    let paid = world.paid();
    assert!(paid > GRAM - 2 * RESERVE && paid < GRAM, "{paid}");
    world.passes(REPEAT_SECONDS as u32);
    assert_eq!(waiting(world.look(&mut watcher).decision), Waiting::NotCovered);
}

#[test]
fn a_claim_that_does_not_hold_is_reported_and_not_brought() {
    let mut world = World::open(5 * GRAM);
    world.earns_under(2 * GRAM, GRAM);
    let mut watcher = world.watcher(&[Honest]);
    let round = world.round(&mut watcher);
    assert_eq!(round.refused.iter().map(|r| r.code()).collect::<Vec<_>>(), ["E-CAP-OVER"]);
    assert_eq!(round.reports, []);
    assert_eq!(world.paid(), 0);
}

#[test]
fn a_book_that_takes_no_note_does_not_keep_the_claim_from_the_chain() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.settled_watcher(&[Honest]);
    world.book.full = true;
    world.starts_to_close();
    world.earns(2 * GRAM);
    let report = world.look(&mut watcher);
    assert!(report.not_noted.is_some() && taken(&report), "{report:?}");
    assert_eq!(world.paid(), 2 * GRAM);
}

#[test]
fn a_quiet_channel_is_looked_at_every_quarter_of_an_hour() {
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.settled_watcher(&[Honest]);
    assert_eq!(world.round(&mut watcher).next_in(), POLL_SECONDS);
}
