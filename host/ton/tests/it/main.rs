//! The contracts in a real TVM: a payer, a payee, a meter and strangers send them what they may and
//! what they may not. Everything goes through messages, as on the chain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod cells;
mod closing;
mod conservation;
mod deploying;
mod fees;
mod metering;
mod model;
mod node;
mod registry;
mod sandbox;
mod settling;
mod traps;
mod vectors;
mod wallet;

use chrysalis_devchain::{ChainError, DevChain, Transaction, Transfer};
use chrysalis_receipt::{
    Cell, ChannelId, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey, Settlement,
    SignedCap, SignedSettlement, boc,
};
use chrysalis_ton::{ChannelConfig, Refusal, settle, settle_external};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use zeroize::Zeroizing;

pub const PAYER: Digest = Digest([8; 32]);
pub const PAYEE: Digest = Digest([7; 32]);
pub const STRANGER: Digest = Digest([9; 32]);
pub const GRAM: u128 = 1_000_000_000;
/// What the tests attach to an internal message for its fees.
pub const FOR_FEES: u128 = GRAM / 20;
pub const NOW: u32 = 1_795_000_000;

/// A channel that is open on a chain, with everybody's keys.
#[derive(Clone)]
pub struct World {
    pub chain: DevChain,
    pub config: ChannelConfig,
    pub channel: ChannelId,
}

pub fn payer() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

pub fn meter() -> MeterKey {
    MeterKey::from_seed(&Zeroizing::new([0x11; 32]))
}

pub fn other_meter() -> MeterKey {
    MeterKey::from_seed(&Zeroizing::new([0x12; 32]))
}

pub fn meter_key(meter: &MeterKey) -> MeterPublicKey {
    MeterPublicKey::parse(&meter.public()).unwrap()
}

pub fn config() -> ChannelConfig {
    let key = PayerPublicKey::parse(&payer().public()).unwrap();
    ChannelConfig::new(key, PAYER, PAYEE, 1).unwrap()
}

pub fn state(count: u64) -> MeterState {
    MeterState {
        blind: [0xb1; 16],
        count,
        cum_units: 123_456,
        issued_at: UnixTime(NOW.into()),
        prev: Digest([0; 32]),
        log_root: Digest([0xab; 32]),
    }
}

impl World {
    /// An open channel with a deposit, on the main network's rules.
    pub fn open(deposit: u128) -> Self {
        Self::open_on(NetworkId::MAINNET, deposit)
    }

    pub fn open_on(network: NetworkId, deposit: u128) -> Self {
        let chain = Self::wallets(network);
        let config = config();
        let channel = config.id(network).unwrap();
        let mut world = Self { chain, config, channel };
        world.deploy(deposit);
        world
    }

    /// A chain with wallets and no contract.
    pub fn wallets(network: NetworkId) -> DevChain {
        let mut chain = DevChain::new(network, NOW).unwrap();
        for wallet in [PAYER, PAYEE, STRANGER] {
            chain.issue(wallet, 1_000 * GRAM).unwrap();
        }
        chain
    }

    pub fn deploy(&mut self, deposit: u128) -> Vec<Transaction> {
        let init = Some(boc(&self.config.state_init().unwrap()));
        let deploy = Transfer { init, ..Transfer::new(PAYER, self.channel.account, deposit) };
        let done = self.chain.transfer(&deploy).unwrap();
        assert!(done[0].succeeded(), "{done:?}");
        done
    }

    pub fn cap(&self, max_cum: u128) -> SignedCap {
        payer().sign(self.channel, meter_key(&meter()), max_cum).unwrap()
    }

    pub fn settlement(&self, cum_amount: u128) -> SignedSettlement {
        let settlement = Settlement { channel: self.channel, cum_amount, state: state(7) };
        meter().sign_settlement(settlement).unwrap()
    }

    /// Settles by an external message.
    pub fn settle(
        &mut self,
        cap: &SignedCap,
        settlement: &SignedSettlement,
    ) -> Result<Vec<Transaction>, ChainError> {
        let mut message = settle_external(cap, settlement).unwrap();
        if cap.cap().channel.account != self.channel.account {
            message = traps::external_to(self.channel.account, &settle(cap, settlement).unwrap());
        }
        self.chain.send_boc(&boc(&message))
    }

    /// Settles up to an amount under a cap of that amount.
    pub fn settle_up_to(&mut self, cum: u128) -> Result<Vec<Transaction>, ChainError> {
        self.settle(&self.cap(cum), &self.settlement(cum))
    }

    /// Sends a body from a wallet, with coins for its fees, that bounces when refused.
    pub fn send(&mut self, from: Digest, body: &Cell) -> Vec<Transaction> {
        self.send_with(from, FOR_FEES, body)
    }

    pub fn send_with(&mut self, from: Digest, value: u128, body: &Cell) -> Vec<Transaction> {
        let body = Some(boc(body));
        let to = self.channel.account;
        let transfer = Transfer { bounce: true, body, ..Transfer::new(from, to, value) };
        self.chain.transfer(&transfer).unwrap()
    }

    pub fn deposit(&mut self, value: u128) {
        self.chain.transfer(&Transfer::new(PAYER, self.channel.account, value)).unwrap();
    }

    pub fn state(&self) -> ChannelState {
        let values = self.chain.get(self.channel.account, "channel_state", &[]).unwrap();
        let [cum_paid, close_at, balance] = values[..] else { panic!("{values:?}") };
        let [cum_paid, close_at, balance] = [cum_paid, close_at, balance].map(small);
        ChannelState { cum_paid, close_at: close_at.try_into().unwrap(), balance }
    }
}

/// What the contract's get-method says.
#[derive(Debug, PartialEq, Eq)]
pub struct ChannelState {
    pub cum_paid: u128,
    pub close_at: u32,
    pub balance: u128,
}

/// A number of 128 bits in 32 bytes.
pub fn small(number: Digest) -> u128 {
    let (high, low) = number.0.split_at(16);
    assert_eq!(high, [0; 16]);
    u128::from_be_bytes(low.try_into().unwrap())
}

/// The refusal of an external message.
pub fn not_accepted(result: Result<Vec<Transaction>, ChainError>) -> Refusal {
    match result {
        Err(ChainError::NotAccepted { exit_code }) => Refusal::from_exit_code(exit_code).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The refusal of an internal message, which came back.
pub fn bounced(done: &[Transaction]) -> Refusal {
    assert!(done[0].aborted && done[0].sent[0].bounced, "{done:?}");
    Refusal::from_exit_code(done[0].exit_code.unwrap()).unwrap()
}

/// What a transaction sent to an account, nanogram.
pub fn sent_to(done: &[Transaction], account: Digest) -> u128 {
    done[0].sent.iter().filter(|sent| sent.to == account).map(|sent| sent.value).sum()
}
