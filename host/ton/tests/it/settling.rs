//! Settling: what a cap and a receipt pay, and each way in which they do not.

use chrysalis_receipt::{
    CellBuilder, ChannelId, PayerKey, Settlement, SignedCap, SignedSettlement, boc,
};
use chrysalis_ton::{DEFAULT_MIN_SETTLE, RESERVE, Refusal, settle, start_close};
use chrysalis_wire::{Digest, NetworkId};
use zeroize::Zeroizing;

use crate::{
    GRAM, PAYEE, PAYER, STRANGER, World, bounced, meter, meter_key, not_accepted, other_meter,
    payer, sent_to, state, traps,
};

#[test]
fn anybody_settles_and_the_payee_gets_exactly_what_is_owed() {
    let mut world = World::open(2 * GRAM);
    let before = world.chain.balance(PAYEE).unwrap();
    let done = world.settle(&world.cap(3 * GRAM / 2), &world.settlement(GRAM)).unwrap();
    assert!(done[0].succeeded(), "{done:?}");
    assert_eq!(sent_to(&done, PAYEE), GRAM);
    assert_eq!(world.state().cum_paid, GRAM);
    let after = world.chain.balance(PAYEE).unwrap();
    assert!(after > before + GRAM - 10_000, "but for the rent of its wallet");
}

#[test]
fn later_settlements_pay_the_difference_only() {
    let mut world = World::open(3 * GRAM);
    world.settle_up_to(GRAM).unwrap();
    let done = world.settle_up_to(GRAM + DEFAULT_MIN_SETTLE).unwrap();
    assert_eq!(sent_to(&done, PAYEE), DEFAULT_MIN_SETTLE);
}

#[test]
fn an_internal_settlement_costs_the_deposit_only_the_payment_and_its_delivery() {
    let mut world = World::open(2 * GRAM);
    let before = world.chain.balance(world.channel.account).unwrap();
    let body = settle(&world.cap(GRAM), &world.settlement(GRAM)).unwrap();
    let done = world.send(STRANGER, &body);
    assert!(done[0].succeeded(), "{done:?}");
    assert_eq!(sent_to(&done, PAYEE), GRAM);
    assert!(sent_to(&done, STRANGER) > 0, "the rest of what was brought goes back: {done:?}");
    let spent = before - world.chain.balance(world.channel.account).unwrap();
    assert!((GRAM..GRAM + 100_000).contains(&spent), "{spent}");
}

#[test]
fn refuses_what_was_paid_before() {
    let mut world = World::open(3 * GRAM);
    world.settle_up_to(GRAM).unwrap();
    assert_eq!(not_accepted(world.settle_up_to(GRAM)), Refusal::AlreadyPaid);
    assert_eq!(not_accepted(world.settle_up_to(GRAM / 2)), Refusal::AlreadyPaid);
    // Under a larger cap too.
    let refused = world.settle(&world.cap(3 * GRAM), &world.settlement(GRAM));
    assert_eq!(not_accepted(refused), Refusal::AlreadyPaid);
}

#[test]
fn refuses_a_receipt_one_nanogram_above_its_cap() {
    let mut world = World::open(3 * GRAM);
    let refused = world.settle(&world.cap(GRAM), &world.settlement(GRAM + 1));
    assert_eq!(not_accepted(refused), Refusal::AboveCap);
    assert!(world.settle(&world.cap(GRAM), &world.settlement(GRAM)).is_ok());
}

#[test]
fn refuses_one_nanogram_less_than_the_smallest_settlement() {
    let mut world = World::open(GRAM);
    assert_eq!(not_accepted(world.settle_up_to(DEFAULT_MIN_SETTLE - 1)), Refusal::BelowMinimum);
    assert!(world.settle_up_to(DEFAULT_MIN_SETTLE).is_ok());
}

#[test]
fn a_deposit_that_is_too_small_pays_what_it_has_and_the_rest_after_a_top_up() {
    let mut world = World::open(GRAM);
    let done = world.settle_up_to(2 * GRAM).unwrap();
    let paid = sent_to(&done, PAYEE);
    // Deploying and importing the message cost something before.
    assert!(paid < GRAM - RESERVE && paid > GRAM - RESERVE - 300_000, "{paid}");
    assert_eq!(world.state().cum_paid, paid);
    assert_eq!(not_accepted(world.settle_up_to(2 * GRAM)), Refusal::NotCovered);
    world.deposit(2 * GRAM);
    let done = world.settle_up_to(2 * GRAM).unwrap();
    assert_eq!(sent_to(&done, PAYEE), 2 * GRAM - paid);
}

#[test]
fn what_is_brought_with_a_message_is_no_deposit() {
    let mut world = World::open(RESERVE);
    let body = settle(&world.cap(GRAM), &world.settlement(GRAM)).unwrap();
    let done = world.send_with(PAYEE, 2 * GRAM, &body);
    assert_eq!(bounced(&done), Refusal::NotCovered);
}

#[test]
fn refuses_a_cap_for_another_network_or_channel() {
    let mut world = World::open(2 * GRAM);
    for channel in [
        ChannelId { network: NetworkId::TESTNET, ..world.channel },
        ChannelId { account: Digest([1; 32]), ..world.channel },
    ] {
        let cap = payer().sign(channel, meter_key(&meter()), GRAM).unwrap();
        let refused = world.settle(&cap, &world.settlement(GRAM));
        assert_eq!(not_accepted(refused), Refusal::CapForAnotherChannel);
    }
}

#[test]
fn refuses_a_receipt_for_another_network_or_channel() {
    let mut world = World::open(2 * GRAM);
    for channel in [
        ChannelId { network: NetworkId::TESTNET, ..world.channel },
        ChannelId { account: Digest([1; 32]), ..world.channel },
    ] {
        let other = Settlement { channel, cum_amount: GRAM, state: state(7) };
        let other = meter().sign_settlement(other).unwrap();
        let refused = world.settle(&world.cap(GRAM), &other);
        assert_eq!(not_accepted(refused), Refusal::ReceiptForAnotherChannel);
    }
}

#[test]
fn refuses_a_cap_that_the_payer_did_not_sign() {
    let mut world = World::open(2 * GRAM);
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let cap = stranger.sign(world.channel, meter_key(&meter()), GRAM).unwrap();
    let refused = world.settle(&cap, &world.settlement(GRAM));
    assert_eq!(not_accepted(refused), Refusal::PayerSignature);
}

#[test]
fn refuses_a_cap_that_was_raised_after_it_was_signed() {
    let mut world = World::open(2 * GRAM);
    let mut raised = world.cap(GRAM).cap().clone();
    raised.max_cum = 2 * GRAM;
    let raised = SignedCap::new(raised, *world.cap(GRAM).signature()).unwrap();
    let refused = world.settle(&raised, &world.settlement(GRAM));
    assert_eq!(not_accepted(refused), Refusal::PayerSignature);
}

#[test]
fn refuses_a_receipt_of_a_meter_that_the_cap_does_not_name() {
    let mut world = World::open(2 * GRAM);
    let other = Settlement { channel: world.channel, cum_amount: GRAM, state: state(7) };
    let other = other_meter().sign_settlement(other).unwrap();
    assert_eq!(not_accepted(world.settle(&world.cap(GRAM), &other)), Refusal::MeterSignature);
    // A cap that names it makes it the meter: that is how a worker changes its key.
    let cap = payer().sign(world.channel, meter_key(&other_meter()), GRAM).unwrap();
    assert!(world.settle(&cap, &other).is_ok());
}

#[test]
fn refuses_a_receipt_that_was_changed_after_it_was_signed() {
    let mut world = World::open(2 * GRAM);
    let mut changed = world.settlement(GRAM).settlement().clone();
    changed.cum_amount += 1;
    let changed = SignedSettlement::new(changed, *world.settlement(GRAM).signature()).unwrap();
    let refused = world.settle(&world.cap(2 * GRAM), &changed);
    assert_eq!(not_accepted(refused), Refusal::MeterSignature);
}

#[test]
fn refuses_cells_that_are_no_cap_or_no_receipt() {
    let mut world = World::open(2 * GRAM);
    let (cap, receipt) = (world.cap(GRAM), world.settlement(GRAM));
    let swap = |cap_cell: &chrysalis_receipt::Cell, receipt_cell: &chrysalis_receipt::Cell| {
        let mut signed = CellBuilder::new();
        signed.bytes(receipt.signature()).unwrap().reference(receipt_cell.clone()).unwrap();
        let mut b = CellBuilder::new();
        b.bytes(b"SET1").unwrap().bytes(cap.signature()).unwrap();
        b.reference(cap_cell.clone()).unwrap().reference(signed.build().unwrap()).unwrap();
        b.build().unwrap()
    };
    for body in [swap(receipt.cell(), receipt.cell()), swap(cap.cell(), cap.cell())] {
        let message = traps::external_to(world.channel.account, &body);
        let refused = world.chain.send_boc(&boc(&message));
        assert_eq!(not_accepted(refused), Refusal::NotACapOrReceipt);
    }
}

#[test]
fn while_it_closes_an_amount_below_the_minimum_counts_if_its_bringer_pays() {
    let mut world = World::open(2 * GRAM);
    let small = settle(&world.cap(GRAM), &world.settlement(1)).unwrap();
    assert_eq!(bounced(&world.send(PAYEE, &small)), Refusal::BelowMinimum);
    world.send(PAYER, &start_close(1).unwrap());
    // An old receipt after the other would burn the deposit on fees.
    let refused = world.settle(&world.cap(GRAM), &world.settlement(1));
    assert_eq!(not_accepted(refused), Refusal::BelowMinimum);
    let done = world.send(PAYEE, &small);
    assert!(done[0].succeeded(), "{done:?}");
    assert_eq!(world.state().cum_paid, 1);
}

#[test]
fn a_settlement_that_brings_too_little_for_its_fees_changes_nothing() {
    let mut world = World::open(2 * GRAM);
    let body = settle(&world.cap(GRAM), &world.settlement(GRAM)).unwrap();
    // Too little for the gas, and for the message that gives back the rest.
    for value in [100_000, 520_000, 530_000, 580_000] {
        let done = world.send_with(STRANGER, value, &body);
        assert!(done[0].aborted, "{value}: {done:?}");
        assert_eq!(world.state().cum_paid, 0);
    }
    assert!(world.send_with(STRANGER, 700_000, &body)[0].succeeded());
}
