//! Three ways to be paid twice or for nothing that look impossible on paper. Each was found by
//! running a contract, so each runs here.

use chrysalis_devchain::{DevChain, Transfer};
use chrysalis_receipt::{Cell, CellBuilder, MeterPublicKey, PayerPublicKey, ReceiptError, boc};
use chrysalis_ton::{
    DEFAULT_CLOSE_DELAY, Refusal, channel_code, coop_close, finish_close, settle, start_close,
};
use chrysalis_wire::{Digest, NetworkId};

use crate::{GRAM, NOW, PAYEE, PAYER, World, not_accepted};

/// An external message to an account, the body in line.
pub fn external_to(account: Digest, body: &Cell) -> Cell {
    let mut b = CellBuilder::new();
    b.uint(0b1000, 4).unwrap();
    address(&mut b, account);
    b.coins(0).unwrap().uint(0, 1).unwrap().uint(1, 1).unwrap();
    b.reference(body.clone()).unwrap();
    b.build().unwrap()
}

fn address(b: &mut CellBuilder, account: Digest) {
    b.uint(0b100, 3).unwrap().uint(0, 8).unwrap().bytes(&account.0).unwrap();
}

/// A contract that destroyed itself when it closed could be deployed again with nothing paid, and
/// every old receipt would count once more.
#[test]
fn a_closed_channel_that_is_deployed_again_does_not_pay_old_receipts() {
    let mut world = World::open(2 * GRAM);
    let (cap, old) = (world.cap(GRAM), world.settlement(GRAM));
    world.settle(&cap, &old).unwrap();
    world.send(PAYER, &start_close(1).unwrap());
    world.chain.advance(DEFAULT_CLOSE_DELAY);
    world.send(PAYER, &finish_close(2).unwrap());
    world.deploy(2 * GRAM);
    assert_eq!(not_accepted(world.settle(&cap, &old)), Refusal::AlreadyPaid);

    world.send(PAYEE, &coop_close(3).unwrap());
    world.deploy(2 * GRAM);
    assert_eq!(not_accepted(world.settle(&cap, &old)), Refusal::AlreadyPaid);
}

/// The account of a contract does not depend on the network, so signatures have to.
#[test]
fn what_was_signed_on_a_test_network_is_worth_nothing_on_the_main_network() {
    let test = World::open_on(NetworkId::TESTNET, 2 * GRAM);
    let mut main = World::open_on(NetworkId::MAINNET, 2 * GRAM);
    assert_eq!(test.channel.account, main.channel.account);
    let (cap, receipt) = (test.cap(GRAM), test.settlement(GRAM));
    assert_eq!(not_accepted(main.settle(&cap, &receipt)), Refusal::CapForAnotherChannel);
    assert_eq!(
        not_accepted(main.settle(&main.cap(GRAM), &receipt)),
        Refusal::ReceiptForAnotherChannel
    );
    assert!(test.clone().settle(&cap, &receipt).is_ok(), "it is good where it was signed for");
}

/// TON's virtual machine verifies signatures under keys of small order, for which nobody needs a
/// private key. The contract cannot afford to look, so whoever uses a channel must: our types have
/// no place for such a key.
#[test]
fn the_tvm_pays_on_forged_signatures_of_weak_keys_which_our_types_refuse() {
    // The neutral element: R = 1, S = 0 is a signature of everything.
    let mut weak = [0; 32];
    weak[0] = 1;
    let mut forged = [0; 64];
    forged[0] = 1;
    assert_eq!(PayerPublicKey::parse(&weak), Err(ReceiptError::WeakPayerKey));
    assert_eq!(MeterPublicKey::parse(&weak), Err(ReceiptError::WeakKey));

    let init = state_init_with_key(&weak);
    let account = init.hash();
    let mut chain = DevChain::new(NetworkId::MAINNET, NOW).unwrap();
    chain.issue(PAYER, 10 * GRAM).unwrap();
    let deploy = Transfer { init: Some(boc(&init)), ..Transfer::new(PAYER, account, 2 * GRAM) };
    chain.transfer(&deploy).unwrap();

    let mut cap = CellBuilder::new();
    cap.bytes(b"CAP1").unwrap().int32(-239).unwrap().bytes(&account.0).unwrap();
    cap.bytes(&weak).unwrap().coins(GRAM).unwrap();
    let mut receipt = CellBuilder::new();
    receipt.bytes(b"STR1").unwrap().int32(-239).unwrap().bytes(&account.0).unwrap();
    receipt.coins(GRAM).unwrap().bytes(&[0; 32]).unwrap();
    let mut signed = CellBuilder::new();
    signed.bytes(&forged).unwrap().reference(receipt.build().unwrap()).unwrap();
    let mut body = CellBuilder::new();
    body.bytes(b"SET1").unwrap().bytes(&forged).unwrap();
    body.reference(cap.build().unwrap()).unwrap().reference(signed.build().unwrap()).unwrap();

    let message = external_to(account, &body.build().unwrap());
    let done = chain.send_boc(&boc(&message)).unwrap();
    assert_eq!(crate::sent_to(&done, PAYEE), GRAM, "the trap is gone; say so where it is named");
}

/// The state of a channel whose payer key no [`PayerPublicKey`] would hold.
fn state_init_with_key(payer_key: &[u8; 32]) -> Cell {
    let mut payer = CellBuilder::new();
    address(&mut payer, PAYER);
    let mut config = CellBuilder::new();
    config.bytes(payer_key).unwrap();
    address(&mut config, PAYEE);
    config.uint(86_400, 32).unwrap().coins(50_000_000).unwrap().uint(1, 64).unwrap();
    config.reference(payer.build().unwrap()).unwrap();
    let mut data = CellBuilder::new();
    data.coins(0).unwrap().uint(0, 32).unwrap().reference(config.build().unwrap()).unwrap();
    let mut init = CellBuilder::new();
    init.uint(0b00110, 5).unwrap();
    init.reference(channel_code().unwrap()).unwrap().reference(data.build().unwrap()).unwrap();
    init.build().unwrap()
}

/// A body in a cell of its own means the same as one in line.
#[test]
fn a_settlement_is_read_wherever_its_body_stands() {
    let mut world = World::open(2 * GRAM);
    let body = settle(&world.cap(GRAM), &world.settlement(GRAM)).unwrap();
    let message = external_to(world.channel.account, &body);
    assert!(world.chain.send_boc(&boc(&message)).unwrap()[0].succeeded());
}
