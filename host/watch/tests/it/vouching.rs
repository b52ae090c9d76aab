//! What an owner may vouch for, by honest servers and others.

use chrysalis_chain::AccessError;
use chrysalis_ton::RESERVE;
use chrysalis_watch::{Deposit, FEES_KEPT, deposit};

use crate::chain::Manner::{
    self, ClaimsAllIsPaid, ClaimsPaid, Gone, HidesClosing, HidesTheChannel, Honest,
};
use crate::world::{GRAM, World};

/// Fees and rent of the messages of a test, nanogram.
const LITTLE: u128 = 2_000_000;

fn seen(world: &World, manners: &[Manner]) -> Result<Deposit, AccessError> {
    let servers: Vec<_> = manners.iter().map(|manner| world.server(*manner)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(deposit(&servers, world.channel.account, world.config.min_settle()))
}

fn covers(world: &World, manners: &[Manner]) -> u128 {
    seen(world, manners).unwrap().covers
}

#[test]
fn a_deposit_covers_itself_less_fees_and_still_does_after_a_settlement() {
    let mut world = World::open(5 * GRAM);
    let before = covers(&world, &[Honest]);
    let most = 5 * GRAM - RESERVE - FEES_KEPT;
    assert!((most - LITTLE..=most).contains(&before), "{before}");
    let mut watcher = world.watcher(&[Honest]);
    world.earns(2 * GRAM);
    world.look(&mut watcher);
    assert_eq!(world.paid(), 2 * GRAM);
    let after = covers(&world, &[Honest]);
    assert!(after <= before && before - after < LITTLE, "{before} {after}");
}

#[test]
fn a_channel_that_closes_covers_nothing_whoever_hides_it() {
    let mut world = World::open(5 * GRAM);
    world.starts_to_close();
    assert_eq!(covers(&world, &[Honest]), 0);
    assert_eq!(covers(&world, &[HidesClosing, Honest]), 0);
    assert!(covers(&world, &[HidesClosing]) > 0, "the lie is one");
}

#[test]
fn the_least_of_what_servers_say_counts_and_a_dead_one_does_not() {
    let world = World::open(5 * GRAM);
    let honest = covers(&world, &[Honest]);
    assert!(covers(&world, &[ClaimsAllIsPaid]) > honest, "the lie is one");
    assert_eq!(covers(&world, &[ClaimsAllIsPaid, Gone, Honest]), honest);
    assert_eq!(seen(&world, &[Gone, Honest, Honest]).unwrap().unanswered.len(), 1);
    assert_eq!(covers(&world, &[Honest, HidesTheChannel]), 0);
    assert!(matches!(seen(&world, &[Gone, Gone]), Err(AccessError::Unreachable(_))));
}

/// Its payer runs one of two servers, and keeps the other busy.
#[test]
fn one_server_of_several_is_not_believed_while_the_others_are_silent() {
    let world = World::open(5 * GRAM);
    for alone in [&[ClaimsAllIsPaid, Gone][..], &[Honest, Gone], &[Gone, Gone, Honest]] {
        assert!(matches!(seen(&world, alone), Err(AccessError::Unreachable(_))), "{alone:?}");
    }
    assert!(seen(&world, &[Honest]).is_ok(), "who asks one server has its word");
}

#[test]
fn what_was_paid_is_told_apart_from_what_is_left_and_the_most_of_it_counts() {
    let mut world = World::open(5 * GRAM);
    world.settled_watcher(&[Honest]);
    assert_eq!(seen(&world, &[Honest]).unwrap().paid, GRAM);
    assert_eq!(seen(&world, &[Honest, ClaimsPaid(2_000_000_000)]).unwrap().paid, 2 * GRAM);
}

/// Less than the smallest settlement is brought by a wallet, and nobody vouches for that.
#[test]
fn a_rest_below_the_smallest_settlement_covers_nothing() {
    let least = 50_000_000 + RESERVE + FEES_KEPT;
    assert_eq!(covers(&World::open(least - 1), &[Honest]), 0);
    assert!(covers(&World::open(least + LITTLE), &[Honest]) >= 50_000_000);
}
