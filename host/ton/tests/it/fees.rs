//! What things cost at the prices of `chrysalis_devchain::config`. The bars are promises; the exact
//! numbers are there so that a change of a contract shows what it costs.

use chrysalis_ton::{DEFAULT_CLOSE_DELAY, finish_close, settle, start_close};

use crate::{GRAM, PAYER, STRANGER, World, meter, state};

/// Most gas of one settlement. An external message has 10 000 before the contract must accept it.
const MAX_SETTLE_GAS: u64 = 7_000;
/// Most that one settlement may cost its payer besides the payment, nanogram: 0.0008 GRAM.
const MAX_SETTLE_COST: u128 = 800_000;

#[test]
fn one_settlement_stays_within_its_gas_and_its_fee_for_any_number_of_receipts() {
    let mut costs = Vec::new();
    for count in [1, 1_000_000_000_000] {
        let mut world = World::open(2 * GRAM);
        let channel = world.channel;
        let settlement =
            chrysalis_receipt::Settlement { channel, cum_amount: GRAM, state: state(count) };
        let settlement = meter().sign_settlement(settlement).unwrap();
        let done = world.settle(&world.cap(GRAM), &settlement).unwrap();
        assert!(done[0].gas <= MAX_SETTLE_GAS, "{} gas", done[0].gas);
        assert!(done[0].cost() <= MAX_SETTLE_COST, "{} nanogram", done[0].cost());
        costs.push((done[0].gas, done[0].cost()));
    }
    assert_eq!(costs, [(6_496, 702_136); 2]);
}

#[test]
fn what_else_it_does_costs_what_it_cost_before() {
    let mut world = World::open(3 * GRAM);
    let deploy = world.clone().deploy(GRAM)[0].cost();
    let internal = settle(&world.cap(GRAM), &world.settlement(GRAM)).unwrap();
    let internal = world.send(STRANGER, &internal)[0].clone();
    let start = world.send(PAYER, &start_close(1).unwrap())[0].clone();
    world.chain.advance(DEFAULT_CLOSE_DELAY);
    let finish = world.send(PAYER, &finish_close(2).unwrap())[0].clone();
    let costs = [internal, start, finish].map(|t| (t.gas, t.cost()));
    assert_eq!(deploy, 42_734);
    assert_eq!(costs, [(7_856, 657_068), (2_435, 162_334), (3_657, 313_316)]);
}
