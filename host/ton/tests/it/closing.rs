//! Closing: the payer's way out needs nobody, and the payee keeps the time to settle.

use chrysalis_devchain::Transaction;
use chrysalis_ton::{DEFAULT_CLOSE_DELAY, RESERVE, Refusal, coop_close, finish_close, start_close};
use chrysalis_wire::Digest;

use crate::{GRAM, NOW, PAYEE, PAYER, STRANGER, World, bounced, not_accepted, sent_to};

fn start(world: &mut World, from: Digest) -> Vec<Transaction> {
    world.send(from, &start_close(1).unwrap())
}

fn finish(world: &mut World, from: Digest) -> Vec<Transaction> {
    world.send(from, &finish_close(2).unwrap())
}

fn coop(world: &mut World, from: Digest) -> Vec<Transaction> {
    world.send(from, &coop_close(3).unwrap())
}

#[test]
fn the_payer_gets_the_rest_after_the_delay_whoever_asks() {
    for who in [PAYER, PAYEE, STRANGER] {
        let mut world = World::open(2 * GRAM);
        world.settle_up_to(GRAM).unwrap();
        assert!(start(&mut world, PAYER)[0].succeeded());
        assert_eq!(world.state().close_at, NOW + DEFAULT_CLOSE_DELAY);
        world.chain.advance(DEFAULT_CLOSE_DELAY);
        let done = finish(&mut world, who);
        assert!(done[0].succeeded(), "{done:?}");
        assert!(sent_to(&done, PAYER) > GRAM - RESERVE, "{done:?}");
        assert!(world.state().balance <= RESERVE);
    }
}

#[test]
fn refuses_to_finish_one_second_early_or_without_a_request() {
    let mut world = World::open(2 * GRAM);
    assert_eq!(bounced(&finish(&mut world, PAYER)), Refusal::NotYetClosed);
    start(&mut world, PAYER);
    world.chain.advance(DEFAULT_CLOSE_DELAY - 1);
    assert_eq!(bounced(&finish(&mut world, PAYER)), Refusal::NotYetClosed);
    world.chain.advance(1);
    assert!(finish(&mut world, PAYER)[0].succeeded());
}

#[test]
fn the_payee_settles_until_the_rest_is_gone() {
    let mut world = World::open(3 * GRAM);
    start(&mut world, PAYER);
    world.chain.advance(DEFAULT_CLOSE_DELAY + 1);
    assert_eq!(sent_to(&world.settle_up_to(GRAM).unwrap(), PAYEE), GRAM);
    finish(&mut world, PAYER);
    assert_eq!(not_accepted(world.settle_up_to(2 * GRAM)), Refusal::NotCovered);
}

#[test]
fn refuses_a_close_request_of_anybody_but_the_payer() {
    let mut world = World::open(2 * GRAM);
    for who in [PAYEE, STRANGER] {
        assert_eq!(bounced(&start(&mut world, who)), Refusal::NotThePayer);
    }
    assert_eq!(world.state().close_at, 0);
}

#[test]
fn refuses_a_second_close_request_which_would_move_the_date() {
    let mut world = World::open(2 * GRAM);
    start(&mut world, PAYER);
    world.chain.advance(100);
    assert_eq!(bounced(&start(&mut world, PAYER)), Refusal::AlreadyClosing);
    assert_eq!(world.state().close_at, NOW + DEFAULT_CLOSE_DELAY);
}

#[test]
fn the_payee_may_close_at_once_and_nobody_else() {
    let mut world = World::open(2 * GRAM);
    for who in [PAYER, STRANGER] {
        assert_eq!(bounced(&coop(&mut world, who)), Refusal::NotThePayee);
    }
    let done = coop(&mut world, PAYEE);
    assert!(done[0].succeeded() && sent_to(&done, PAYER) > 2 * GRAM - RESERVE, "{done:?}");
    assert_eq!(world.state().close_at, NOW);
}

#[test]
fn the_payee_may_close_at_once_while_the_delay_runs() {
    let mut world = World::open(2 * GRAM);
    start(&mut world, PAYER);
    world.chain.advance(10);
    let done = coop(&mut world, PAYEE);
    assert!(done[0].succeeded() && sent_to(&done, PAYER) > 2 * GRAM - RESERVE, "{done:?}");
    assert_eq!(world.state().close_at, NOW + DEFAULT_CLOSE_DELAY, "the date stays");
}

#[test]
fn a_closed_channel_never_opens_again() {
    let mut world = World::open(2 * GRAM);
    coop(&mut world, PAYEE);
    world.deposit(GRAM);
    world.deploy(GRAM);
    assert_ne!(world.state().close_at, 0);
    let done = finish(&mut world, PAYER);
    assert!(sent_to(&done, PAYER) > 2 * GRAM - RESERVE, "{done:?}");
}

#[test]
fn finishing_twice_gives_back_no_more_than_was_brought() {
    let mut world = World::open(2 * GRAM);
    coop(&mut world, PAYEE);
    let before = world.chain.balance(world.channel.account).unwrap();
    let done = finish(&mut world, STRANGER);
    assert!(done[0].succeeded() && sent_to(&done, PAYER) < crate::FOR_FEES, "{done:?}");
    let after = world.chain.balance(world.channel.account).unwrap();
    assert!(after <= RESERVE && after + 1_000 > before, "{before} {after}");
}

#[test]
fn what_was_paid_is_remembered_for_years_after_the_refund() {
    let mut world = World::open(2 * GRAM);
    world.settle_up_to(GRAM).unwrap();
    coop(&mut world, PAYEE);
    world.chain.advance(3 * 365 * 86_400);
    world.deposit(2 * GRAM);
    assert_eq!(world.state().cum_paid, GRAM);
    assert_eq!(not_accepted(world.settle_up_to(GRAM)), Refusal::AlreadyPaid);
}
