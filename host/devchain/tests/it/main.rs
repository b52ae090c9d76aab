//! The shared chain and its HTTP interface, as strangers meet them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod client;
mod http;
mod keeping;
mod theirs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chrysalis_devchain::Node;
use chrysalis_receipt::boc;
use chrysalis_ton::{Outgoing, Wallet};
use chrysalis_wire::{Digest, NetworkId};
use ed25519_dalek::{Signer as _, SigningKey};

pub const NETWORK: NetworkId = NetworkId::INSECURE_SIM;
pub const GRAM: u128 = 1_000_000_000;
pub const NOW: u32 = 1_795_000_000;
pub const PAYEE: Digest = Digest([7; 32]);

/// A clock that tests move.
#[derive(Clone)]
pub struct Clock(Arc<AtomicU32>);

impl Clock {
    pub fn start() -> Self {
        Self(Arc::new(AtomicU32::new(NOW)))
    }

    pub fn set(&self, now: u32) {
        self.0.store(now, Ordering::SeqCst);
    }

    pub fn read(&self) -> impl Fn() -> u32 + Send + Sync + 'static {
        let time = Arc::clone(&self.0);
        move || time.load(Ordering::SeqCst)
    }
}

pub fn node(clock: &Clock) -> Node {
    Node::open(NETWORK, clock.read(), None).unwrap()
}

/// A wallet of a person, and its key.
pub struct Owner {
    key: SigningKey,
    pub wallet: Wallet,
    pub account: Digest,
}

impl Owner {
    pub fn new(seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let wallet = Wallet::new(key.verifying_key().to_bytes(), NETWORK);
        Self { key, wallet, account: wallet.account().unwrap() }
    }

    /// The external message of an order to pay.
    pub fn pays(&self, seqno: u32, to: Digest, value: u128) -> Vec<u8> {
        let coins = Outgoing { to, value, bounce: false, init: None, body: None };
        let order = self.wallet.order(seqno, u32::MAX, &[coins]).unwrap();
        let signature = self.key.sign(&order.hash().0).to_bytes();
        boc(&order.signed(&signature).unwrap())
    }
}
