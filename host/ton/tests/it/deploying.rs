//! Deploying a channel and giving it coins.

use chrysalis_receipt::{CellBuilder, boc};
use chrysalis_ton::{RESERVE, Refusal, top_up};

use crate::{ChannelState, GRAM, PAYER, STRANGER, World, bounced, sent_to};

#[test]
fn a_channel_opens_at_the_address_of_its_settings() {
    let world = World::open(2 * GRAM);
    let state = world.state();
    assert_eq!((state.cum_paid, state.close_at), (0, 0));
    // The contract paid for its first transaction.
    assert!(state.balance < 2 * GRAM && state.balance > 2 * GRAM - 100_000, "{state:?}");
}

#[test]
fn anybody_may_deposit_with_or_without_a_body() {
    let mut world = World::open(GRAM);
    let before = world.state().balance;
    world.deposit(GRAM);
    let done = world.send_with(STRANGER, GRAM, &top_up(1).unwrap());
    assert!(done[0].succeeded(), "{done:?}");
    let after = world.state().balance;
    assert!(after > before + 2 * GRAM - 300_000 && after < before + 2 * GRAM, "{before} {after}");
}

#[test]
fn deploying_again_changes_nothing_but_the_balance() {
    let mut world = World::open(2 * GRAM);
    world.settle_up_to(GRAM).unwrap();
    world.deploy(GRAM);
    assert_eq!(world.state().cum_paid, GRAM);
}

#[test]
fn refuses_a_message_it_does_not_know_and_sends_the_coins_back() {
    let mut world = World::open(GRAM);
    for body in [b"CLS4".as_slice(), &[0; 8], b"CLS"] {
        let mut b = CellBuilder::new();
        b.bytes(body).unwrap();
        let done = world.send_with(PAYER, GRAM, &b.build().unwrap());
        assert_eq!(bounced(&done), Refusal::UnknownMessage);
        assert!(sent_to(&done, PAYER) > GRAM - 500_000, "{done:?}");
    }
}

#[test]
fn refuses_an_external_message_it_does_not_know_before_paying_for_it() {
    let mut world = World::open(GRAM);
    let before = world.state();
    let mut b = CellBuilder::new();
    b.bytes(b"TOPU").unwrap().uint(1, 64).unwrap();
    let message = crate::traps::external_to(world.channel.account, &b.build().unwrap());
    let refused = world.chain.send_boc(&boc(&message));
    assert_eq!(crate::not_accepted(refused), Refusal::UnknownMessage);
    assert_eq!(world.state(), before);
}

#[test]
fn a_new_channel_without_a_deposit_settles_nothing() {
    let mut world = World::open(RESERVE);
    assert_eq!(crate::not_accepted(world.settle_up_to(GRAM)), Refusal::NotCovered);
    assert!(matches!(world.state(), ChannelState { cum_paid: 0, close_at: 0, .. }));
}
