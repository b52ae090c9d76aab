//! The ledger as a payer, a payee and a reader of its file meet it. Everything goes through the public
//! API and real signatures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod crash;
mod opening;
mod recording;

use chrysalis_ledger::{Entry, Ledger, Question, Recorded};
use chrysalis_receipt::{
    ChannelId, ChannelTerms, Claim, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey,
    Settlement, SignedCap, TermsParts,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use zeroize::Zeroizing;

pub const NOW: UnixTime = UnixTime(1_795_000_000);
/// Asked with a receipt for 50 nanogram.
pub const ASKED: Question = Question { receipted: 50, at: NOW };
pub const NETWORK: NetworkId = NetworkId::TESTNET;

pub fn payer() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

pub fn meter(seed: u8) -> MeterKey {
    MeterKey::from_seed(&Zeroizing::new([seed; 32]))
}

pub fn terms() -> ChannelTerms {
    ChannelTerms::new(TermsParts {
        payer_key: PayerPublicKey::parse(&payer().public()).unwrap(),
        payer: Digest([8; 32]),
        payee: Digest([7; 32]),
        close_delay: 86_400,
        min_settle: 50_000_000,
        salt: 1,
    })
    .unwrap()
}

pub fn channel() -> ChannelId {
    terms().id(NETWORK).unwrap()
}

pub fn cap_for(meter: &MeterKey, max_cum: u128) -> SignedCap {
    let meter = MeterPublicKey::parse(&meter.public()).unwrap();
    payer().sign(channel(), meter, max_cum).unwrap()
}

pub fn cap(max_cum: u128) -> SignedCap {
    cap_for(&meter(0x11), max_cum)
}

pub fn claim_of(meter: &MeterKey, cum_amount: u128, count: u64) -> Claim {
    let state = MeterState {
        blind: [0xb1; 16],
        count,
        cum_units: 10 * count,
        issued_at: NOW,
        prev: Digest([0; 32]),
        log_root: Digest([0xab; 32]),
    };
    let settlement = Settlement { channel: channel(), cum_amount, state };
    let settlement = meter.sign_settlement(settlement).unwrap();
    Claim::new(terms(), cap_for(meter, cum_amount), settlement).unwrap()
}

pub fn claim(cum_amount: u128, count: u64) -> Claim {
    claim_of(&meter(0x11), cum_amount, count)
}

pub fn open_channel(ledger: &Ledger) {
    let terms = terms();
    let opened = ledger.record(&Entry::Opened { network: NETWORK, terms: &terms }, NOW).unwrap();
    assert!(matches!(opened, Recorded::New { .. } | Recorded::Known));
}
