//! Deposits that an owner vouches for: how far they are relied on, and which notes are refused.

use chrysalis_receipt::{
    ChannelId, ChannelTerms, Claim, FundingKey, FundingNote, FundingPublicKey, MAX_CHANNELS,
    MAX_NOTE_SECONDS, MeterBook, MeterKey, MeterPublicKey, MeterState, NOTE_BYTES,
    NOTE_SKEW_SECONDS, Offer, Payee, PayerKey, PayerPublicKey, ReceiptError, Reservation,
    Settlement, SignedNote, TermsParts,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use zeroize::Zeroizing;

const NETWORK: NetworkId = NetworkId::TESTNET;
const REQUEST: Digest = Digest([0xee; 32]);
const NOW: UnixTime = UnixTime(1_795_000_000);

fn seed(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

fn meter() -> MeterPublicKey {
    MeterPublicKey::parse(&MeterKey::from_seed(&seed(0x11)).public()).unwrap()
}

fn terms() -> ChannelTerms {
    ChannelTerms::new(TermsParts {
        payer_key: PayerPublicKey::parse(&PayerKey::from_seed(&seed(0x22)).public()).unwrap(),
        payer: Digest([8; 32]),
        payee: Digest([7; 32]),
        close_delay: 86_400,
        min_settle: 50_000_000,
        salt: 1,
    })
    .unwrap()
}

fn channel() -> ChannelId {
    terms().id(NETWORK).unwrap()
}

fn owner() -> FundingKey {
    FundingKey::from_seed(&seed(0x33))
}

fn book() -> MeterBook {
    let key = FundingPublicKey::parse(&owner().public()).unwrap();
    MeterBook::new(Payee {
        network: NETWORK,
        account: Digest([7; 32]),
        worker: 0,
        meter_key: meter(),
    })
    .funded_by(key)
}

fn reserve(
    book: &mut MeterBook,
    max_cum: u128,
    worst: u128,
    now: UnixTime,
) -> Result<Reservation, ReceiptError> {
    let payer = PayerKey::from_seed(&seed(0x22));
    let cap = payer.sign(channel(), meter(), max_cum).unwrap();
    let offer = Offer::sign(&payer, terms(), cap, &REQUEST).unwrap();
    let offer = offer.verify(&REQUEST, book.payee()).unwrap();
    book.reserve(offer, worst, now)
}

fn note(covers: u128, seen_at: UnixTime) -> FundingNote {
    let until = UnixTime(seen_at.0 + 600);
    FundingNote { channel: channel(), meter_key: meter(), covers, paid: 0, seen_at, until }
}

fn signed(note: FundingNote) -> SignedNote {
    SignedNote::decode(&owner().sign(note).unwrap().encode()).unwrap()
}

fn after(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

#[test]
fn a_cap_without_coins_behind_it_is_served_nothing_and_is_told_so() {
    let mut book = book();
    let refused = reserve(&mut book, 1_000, 10, NOW).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::Unfunded { needed: 10, covers: None }));
    assert_eq!(refused.unwrap_err().code(), "E-PAYMENT-FUNDING");
}

#[test]
fn serves_to_the_last_nanogram_that_is_seen_and_on_after_a_top_up() {
    let mut book = book();
    book.fund(signed(note(100, NOW)), NOW).unwrap();
    let _first = reserve(&mut book, 1_000, 60, NOW).unwrap();
    let refused = reserve(&mut book, 1_000, 41, NOW).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::Unfunded { needed: 101, covers: Some(100) }));
    let _second = reserve(&mut book, 1_000, 40, NOW).unwrap();
    book.fund(signed(note(200, after(1))), after(1)).unwrap();
    let _third = reserve(&mut book, 1_000, 100, after(1)).unwrap();
    assert!(reserve(&mut book, 1_000, 1, after(1)).is_err());
}

/// The coins are gone, and what they paid for is in a claim that its payer keeps to herself.
#[test]
fn serves_nothing_to_whoever_hides_the_claim_that_the_chain_paid_by() {
    let mut book = book();
    book.fund(signed(FundingNote { paid: 900, ..note(1_000, NOW) }), NOW).unwrap();
    let refused = reserve(&mut book, 2_000, 10, NOW).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::Unclaimed { paid: 900, claimed: 0 }));
    let claim = |cum| {
        let (payer, other) = (PayerKey::from_seed(&seed(0x22)), MeterKey::from_seed(&seed(0x12)));
        let named = MeterPublicKey::parse(&other.public()).unwrap();
        let cap = payer.sign(channel(), named, cum).unwrap();
        let none = Digest([0; 32]);
        let state = MeterState {
            blind: [0; 16],
            count: 1,
            cum_units: 1,
            issued_at: NOW,
            prev: none,
            log_root: none,
        };
        let settlement = Settlement { channel: channel(), cum_amount: cum, state };
        let claim = Claim::new(terms(), cap, other.sign_settlement(settlement).unwrap()).unwrap();
        claim.verify().unwrap()
    };
    book.resume(&claim(899)).unwrap();
    let refused = reserve(&mut book, 2_000, 10, NOW).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::Unclaimed { paid: 900, claimed: 899 }));
    book.resume(&claim(900)).unwrap();
    let refused = reserve(&mut book, 2_000, 101, NOW).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::Unfunded { needed: 1_001, covers: Some(1_000) }));
    let _last = reserve(&mut book, 2_000, 100, NOW).unwrap();
}

#[test]
fn channels_that_are_not_there_take_no_place_from_one_that_is() {
    let mut book = book();
    for n in 0..MAX_CHANNELS as u64 {
        let mut account = Digest([0xaa; 32]);
        account.0[..8].copy_from_slice(&n.to_be_bytes());
        let channel = ChannelId { account, ..channel() };
        book.fund(signed(FundingNote { channel, ..note(0, NOW) }), NOW).unwrap();
    }
    book.fund(signed(note(100, NOW)), NOW).unwrap();
    let _served = reserve(&mut book, 100, 100, NOW).unwrap();
}

#[test]
fn no_note_raises_a_cap() {
    let mut book = book();
    book.fund(signed(note(1_000, NOW)), NOW).unwrap();
    let refused = reserve(&mut book, 100, 101, NOW).map(|_| ());
    assert!(matches!(refused, Err(ReceiptError::Uncovered(short)) if short.max_cum == 100));
}

#[test]
fn a_newer_note_holds_also_where_it_says_less_and_an_older_one_never() {
    let mut book = book();
    book.fund(signed(note(100, NOW)), NOW).unwrap();
    book.fund(signed(note(0, after(1))), after(1)).unwrap();
    let refused = reserve(&mut book, 100, 1, after(1)).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::Unfunded { needed: 1, covers: Some(0) }));
    for replayed in [note(100, NOW), note(100, after(1))] {
        let old = ReceiptError::NoteOld { known: after(1), got: replayed.seen_at };
        assert_eq!(book.fund(signed(replayed), after(2)), Err(old));
    }
    assert_eq!(book.fund(signed(note(0, after(1))), after(2)), Ok(()), "the same one again");
}

#[test]
fn a_note_is_good_up_to_its_last_second_and_from_no_later_than_clocks_differ() {
    let mut book = book();
    book.fund(signed(note(100, NOW)), NOW).unwrap();
    let _last = reserve(&mut book, 100, 1, after(599)).unwrap();
    assert!(reserve(&mut book, 100, 1, after(600)).is_err());
    let refused = |seen_at: u64, now: u64| {
        crate::funding::book().fund(signed(note(1, after(seen_at))), after(now)).err()
    };
    assert_eq!(refused(0, 599), None);
    assert!(matches!(refused(0, 600), Some(ReceiptError::NoteTime { .. })));
    assert_eq!(refused(NOTE_SKEW_SECONDS, 0), None);
    assert!(matches!(refused(NOTE_SKEW_SECONDS + 1, 0), Some(ReceiptError::NoteTime { .. })));
}

#[test]
fn refuses_to_sign_and_to_read_a_note_that_is_good_for_a_second_too_long() {
    let longest = FundingNote { until: after(MAX_NOTE_SECONDS), ..note(1, NOW) };
    let mut bytes = owner().sign(longest.clone()).unwrap().encode();
    assert_eq!(bytes.len(), NOTE_BYTES);
    assert_eq!(SignedNote::decode(&bytes).unwrap().note(), &longest);
    for until in [after(MAX_NOTE_SECONDS + 1), NOW] {
        let refused = owner().sign(FundingNote { until, ..note(1, NOW) }).map(|_| ());
        assert_eq!(refused, Err(ReceiptError::NoteTime { seen_at: NOW, until }));
        let at = NOTE_BYTES - 64 - 8;
        bytes[at..at + 8].copy_from_slice(&until.0.to_be_bytes());
        assert!(matches!(SignedNote::decode(&bytes), Err(ReceiptError::NoteTime { .. })));
    }
}

#[test]
fn refuses_the_notes_of_others_other_networks_other_meters_and_every_changed_byte() {
    let mut book = book();
    let stranger = FundingKey::from_seed(&seed(0x34)).sign(note(100, NOW)).unwrap();
    assert_eq!(book.fund(stranger, NOW), Err(ReceiptError::NoteSignature));
    let elsewhere = ChannelId { network: NetworkId::MAINNET, ..channel() };
    let refused = book.fund(signed(FundingNote { channel: elsewhere, ..note(100, NOW) }), NOW);
    assert!(matches!(refused, Err(ReceiptError::OtherChannel { .. })));
    let other = MeterPublicKey::parse(&MeterKey::from_seed(&seed(0x12)).public()).unwrap();
    let refused = book.fund(signed(FundingNote { meter_key: other, ..note(100, NOW) }), NOW);
    assert!(matches!(refused, Err(ReceiptError::OtherMeter { .. })));
    let good = signed(note(100, NOW)).encode();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(SignedNote::decode(&bad).and_then(|n| book.fund(n, NOW)).is_err(), "byte {at}");
    }
    assert!(SignedNote::decode(&[good.clone(), vec![0]].concat()).is_err());
    assert!(reserve(&mut book, 100, 1, NOW).is_err(), "nothing of it counted");
    book.fund(SignedNote::decode(&good).unwrap(), NOW).unwrap();
}

#[test]
fn no_signature_over_a_cap_or_a_request_is_one_over_a_note() {
    // One seed in two roles, which nobody should have: the tags keep them apart.
    let payer = PayerKey::from_seed(&seed(0x33));
    let cap = payer.sign(channel(), meter(), 100).unwrap();
    let mut bytes = signed(note(100, NOW)).encode();
    let at = NOTE_BYTES - 64;
    bytes[at..].copy_from_slice(cap.signature());
    let refused = book().fund(SignedNote::decode(&bytes).unwrap(), NOW);
    assert_eq!(refused, Err(ReceiptError::NoteSignature));
}

#[test]
fn refuses_a_weak_funding_key_and_a_note_where_nobody_vouches() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(FundingPublicKey::parse(&identity), Err(ReceiptError::FundingKey));
    let payee = Payee { network: NETWORK, account: Digest([7; 32]), worker: 0, meter_key: meter() };
    let mut free = MeterBook::new(payee);
    assert_eq!(free.fund(signed(note(1, NOW)), NOW), Err(ReceiptError::FundingKey));
    let _served = reserve(&mut free, 100, 100, NOW).unwrap();
}
