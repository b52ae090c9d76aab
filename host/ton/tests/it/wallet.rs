//! TON's standard wallet in the TVM: orders built here deploy it, pay, and open a channel.

use chrysalis_devchain::{ChainError, Transaction};
use chrysalis_receipt::{PayerPublicKey, boc};
use chrysalis_ton::{ChannelConfig, Outgoing, Wallet};
use chrysalis_wire::{Digest, NetworkId};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::{GRAM, NOW, PAYEE, World, payer};

struct Owner {
    world: World,
    key: SigningKey,
    wallet: Wallet,
}

impl Owner {
    fn new() -> Self {
        let mut world = World::open(GRAM);
        let key = SigningKey::from_bytes(&[0x42; 32]);
        let wallet = Wallet::new(key.verifying_key().to_bytes(), NetworkId::MAINNET);
        world.chain.issue(wallet.account().unwrap(), 10 * GRAM).unwrap();
        Self { world, key, wallet }
    }

    fn order(&mut self, seqno: u32, messages: &[Outgoing]) -> Result<Vec<Transaction>, ChainError> {
        let order = self.wallet.order(seqno, NOW + 60, messages).unwrap();
        let signature = self.key.sign(&order.hash().0).to_bytes();
        self.world.chain.send_boc(&boc(&order.signed(&signature).unwrap()))
    }
}

fn coins(to: Digest, value: u128) -> Outgoing {
    Outgoing { to, value, bounce: false, init: None, body: None }
}

fn refused(result: Result<Vec<Transaction>, ChainError>) -> i32 {
    match result {
        Err(ChainError::NotAccepted { exit_code }) => exit_code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_order_deploys_the_wallet_and_each_is_carried_out_once() {
    let mut owner = Owner::new();
    let done = owner.order(0, &[coins(PAYEE, GRAM), coins(PAYEE, GRAM / 2)]).unwrap();
    assert!(done[0].succeeded() && done.len() == 3, "{done:?}");
    assert_eq!(owner.world.chain.balance(PAYEE).unwrap(), 1_000 * GRAM + GRAM * 3 / 2);
    // invalid_seqno
    assert_eq!(refused(owner.order(0, &[coins(PAYEE, GRAM)])), 133);
    assert_eq!(owner.order(1, &[coins(PAYEE, GRAM)]).unwrap().len(), 2);
}

#[test]
fn an_order_ends_with_its_time_and_is_worth_nothing_under_another_key() {
    let mut owner = Owner::new();
    owner.order(0, &[coins(PAYEE, 1)]).unwrap();
    owner.key = SigningKey::from_bytes(&[0x43; 32]);
    // invalid_signature
    assert_eq!(refused(owner.order(1, &[coins(PAYEE, 1)])), 135);
    owner.key = SigningKey::from_bytes(&[0x42; 32]);
    owner.world.chain.advance(61);
    // expired
    assert_eq!(refused(owner.order(1, &[coins(PAYEE, 1)])), 136);
}

#[test]
fn a_wallet_opens_a_channel_of_its_own() {
    let mut owner = Owner::new();
    let account = owner.wallet.account().unwrap();
    let key = PayerPublicKey::parse(&payer().public()).unwrap();
    let config = ChannelConfig::new(key, account, PAYEE, 9).unwrap();
    let channel = config.id(NetworkId::MAINNET).unwrap();
    let deploy = Outgoing {
        bounce: true,
        init: Some(config.state_init().unwrap()),
        ..coins(channel.account, 2 * GRAM)
    };
    let done = owner.order(0, &[deploy]).unwrap();
    assert!(done.iter().all(|t| !t.aborted) && done.len() == 2, "{done:?}");
    owner.world.channel = channel;
    assert_eq!((owner.world.state().cum_paid, owner.world.state().close_at), (0, 0));
    owner.world.settle_up_to(GRAM).unwrap();
}
