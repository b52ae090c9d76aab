//! Caps and settlements between a payer and a meter: what each accepts from the other.

use chrysalis_receipt::{
    CellError, ChannelId, MeterKey, MeterPublicKey, MeterRole, MeterState, PayerKey,
    PayerPublicKey, ReceiptError, Settlement, SignedCap, SignedSettlement, VerifiedCap,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use zeroize::Zeroizing;

use crate::meter;

const CHANNEL: ChannelId = ChannelId { network: NetworkId::TESTNET, account: Digest([0xc1; 32]) };
const MAX_CUM: u128 = 1_500_000_000;

fn payer() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

fn payer_key() -> PayerPublicKey {
    PayerPublicKey::parse(&payer().public()).unwrap()
}

fn meter_key(meter: &MeterKey) -> MeterPublicKey {
    MeterPublicKey::parse(&meter.public()).unwrap()
}

fn cap() -> SignedCap {
    payer().sign(CHANNEL, meter_key(&meter()), MAX_CUM).unwrap()
}

fn verify(cap: &SignedCap) -> Result<VerifiedCap, ReceiptError> {
    cap.verify(&payer_key(), CHANNEL, &meter_key(&meter()))
}

fn settlement(cum_amount: u128) -> Settlement {
    let state = MeterState {
        blind: [0xb1; 16],
        count: 7,
        cum_units: 123_456,
        issued_at: UnixTime(1_795_000_000),
        prev: Digest([0; 32]),
        log_root: Digest([0xab; 32]),
    };
    Settlement { channel: CHANNEL, cum_amount, state }
}

fn settled(settlement: Settlement) -> Result<u128, ReceiptError> {
    let signed = meter().sign_settlement(settlement)?;
    Ok(signed.verify(&verify(&cap()).unwrap())?.settlement().cum_amount)
}

#[test]
fn accepts_a_cap_and_a_settlement_up_to_it() {
    assert_eq!(verify(&cap()).unwrap().cap().max_cum, MAX_CUM);
    assert_eq!(settled(settlement(MAX_CUM)), Ok(MAX_CUM));
}

#[test]
fn refuses_a_settlement_one_nanogram_above_the_cap() {
    assert_eq!(
        settled(settlement(MAX_CUM + 1)),
        Err(ReceiptError::OverCap { needed: MAX_CUM + 1, max_cum: MAX_CUM })
    );
}

#[test]
fn refuses_a_cap_or_a_settlement_for_another_network_or_channel() {
    for got in [
        ChannelId { network: NetworkId::MAINNET, ..CHANNEL },
        ChannelId { account: Digest([0xc2; 32]), ..CHANNEL },
    ] {
        let refused = ReceiptError::OtherChannel { expected: CHANNEL, got };
        let other = payer().sign(got, meter_key(&meter()), MAX_CUM).unwrap();
        assert_eq!(verify(&other).map(|_| ()), Err(refused.clone()));
        assert_eq!(settled(Settlement { channel: got, ..settlement(1) }), Err(refused));
    }
}

#[test]
fn refuses_a_cap_for_another_meter() {
    let other = MeterKey::from_seed(&Zeroizing::new([0x12; 32]));
    let cap = payer().sign(CHANNEL, meter_key(&other), MAX_CUM).unwrap();
    assert_eq!(
        verify(&cap).map(|_| ()),
        Err(ReceiptError::OtherMeter {
            expected: Digest(meter().public()),
            got: Digest(other.public()),
        })
    );
}

#[test]
fn refuses_a_cap_that_its_payer_did_not_sign() {
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let forged = stranger.sign(CHANNEL, meter_key(&meter()), MAX_CUM).unwrap();
    assert_eq!(verify(&forged).map(|_| ()), Err(ReceiptError::CapSignature));
}

#[test]
fn refuses_a_cap_that_was_raised_after_it_was_signed() {
    let mut raised = cap().cap().clone();
    raised.max_cum += 1;
    let raised = SignedCap::new(raised, *cap().signature()).unwrap();
    assert_eq!(verify(&raised).map(|_| ()), Err(ReceiptError::CapSignature));
}

#[test]
fn refuses_a_settlement_of_a_meter_that_the_cap_does_not_name() {
    let other = MeterKey::from_seed(&Zeroizing::new([0x12; 32]));
    let signed = other.sign_settlement(settlement(1)).unwrap();
    assert_eq!(signed.verify(&verify(&cap()).unwrap()).map(|_| ()), Err(ReceiptError::Signature));
}

#[test]
fn refuses_a_settlement_with_any_changed_field() {
    let signed = meter().sign_settlement(settlement(1_000)).unwrap();
    let changes: [fn(&mut Settlement); 7] = [
        |s| s.cum_amount += 1,
        |s| s.state.blind[0] ^= 1,
        |s| s.state.count += 1,
        |s| s.state.cum_units += 1,
        |s| s.state.issued_at.0 += 1,
        |s| s.state.prev.0[31] ^= 1,
        |s| s.state.log_root.0[0] ^= 1,
    ];
    let cap = verify(&cap()).unwrap();
    for change in changes {
        let mut changed = settlement(1_000);
        change(&mut changed);
        let changed = SignedSettlement::new(changed, *signed.signature()).unwrap();
        assert_eq!(changed.verify(&cap).map(|_| ()), Err(ReceiptError::Signature));
    }
    assert!(signed.verify(&cap).is_ok());
}

/// The group order added to `S` gives a second signature to verifiers that do not look.
#[test]
fn refuses_a_malleated_signature_of_a_cap() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = *cap().signature();
    let mut carry = 0u16;
    for (s, o) in signature[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*s) + u16::from(o);
        *s = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    let malleated = SignedCap::new(cap().cap().clone(), signature).unwrap();
    assert_eq!(verify(&malleated).map(|_| ()), Err(ReceiptError::CapSignature));
}

#[test]
fn a_cap_leaves_the_room_that_is_neither_owed_nor_reserved() {
    let cap = verify(&cap()).unwrap();
    assert_eq!(cap.room(1_000_000_000, 400_000_000), Ok(100_000_000));
    assert_eq!(cap.room(1_000_000_000, 500_000_000), Ok(0));
    assert_eq!(
        cap.room(1_000_000_000, 500_000_001),
        Err(ReceiptError::OverCap { needed: MAX_CUM + 1, max_cum: MAX_CUM })
    );
    assert!(cap.room(u128::MAX, u128::MAX).is_err(), "sums do not wrap");
}

#[test]
fn refuses_to_sign_one_bit_more_than_an_amount_has() {
    let wide = ReceiptError::Cell(CellError::CoinsTooWide { needed: 121 });
    let most = (1u128 << 120) - 1;
    assert!(payer().sign(CHANNEL, meter_key(&meter()), most).is_ok());
    assert_eq!(payer().sign(CHANNEL, meter_key(&meter()), most + 1).map(|_| ()), Err(wide.clone()));
    assert_eq!(meter().sign_settlement(settlement(most + 1)).map(|_| ()), Err(wide));
}

#[test]
fn a_payer_key_is_no_meter_key_of_the_same_secret() {
    let secret = Zeroizing::new([1; 32]);
    let mut place = Digest([0; 32]);
    place.0[31] = 5;
    let payer = PayerKey::derive(&secret, NetworkId::MAINNET, 5).public();
    for role in [MeterRole::Worker, MeterRole::Proxy] {
        assert_ne!(payer, MeterKey::derive(&secret, role, NetworkId::MAINNET, &place).public());
    }
    assert_ne!(payer, PayerKey::derive(&secret, NetworkId::MAINNET, 6).public());
    assert_ne!(payer, PayerKey::derive(&secret, NetworkId::TESTNET, 5).public());
    assert_eq!(payer, PayerKey::derive(&secret, NetworkId::MAINNET, 5).public());
}

#[test]
fn debug_shows_no_secret_and_no_blind() {
    assert_eq!(format!("{:?}", payer()), "<redacted payer key>");
    let text = format!("{:?}", settlement(1));
    assert!(!text.contains("177") && !text.contains("b1b1"), "{text}");
}
