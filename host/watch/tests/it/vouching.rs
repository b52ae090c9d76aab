//! What an owner may vouch for, by honest servers and others.

use chrysalis_chain::AccessError;
use chrysalis_ton::RESERVE;
use chrysalis_watch::{Deposit, FEES_KEPT, deposit};

use crate::chain::Manner::{self, ClaimsAllIsPaid, Gone, HidesClosing, HidesTheChannel, Honest};
use crate::world::{GRAM, World};

/// Fees and rent of the messages of a test, nanogram.
const LITTLE: u128 = 2_000_000;

fn seen(world: &World, manners: &[Manner]) -> Result<Deposit, AccessError> {
    let servers: Vec<_> = manners.iter().map(|manner| world.server(*manner)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(deposit(&servers, world.channel.account))
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
    assert_eq!(seen(&world, &[Gone, Honest]).unwrap().unanswered.len(), 1);
    assert_eq!(covers(&world, &[Honest, HidesTheChannel]), 0);
    assert!(matches!(seen(&world, &[Gone, Gone]), Err(AccessError::Unreachable(_))));
}
