//! A payer and a meter over many requests: what is refused, what is owed, what survives a restart.

use chrysalis_receipt::{
    CLAIM_BYTES, ChannelId, ChannelTerms, Charge, Claim, MAX_CHANNELS, MAX_CLAIMED, MeterBook,
    MeterKey, MeterPublicKey, MeterState, OFFER_BYTES, Offer, Payee, PayerKey, PayerPublicKey,
    PaymentRequired, ReceiptError, Reservation, STATE_REQUEST_BYTES, Settlement, Shortfall,
    SignedCap, StateRequest, TermsParts, VerifiedClaim,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use proptest::prelude::*;
use zeroize::Zeroizing;

const NETWORK: NetworkId = NetworkId::TESTNET;
const PAYEE: Digest = Digest([7; 32]);
const REQUEST: Digest = Digest([0xee; 32]);
const NOW: UnixTime = UnixTime(1_795_000_000);
const NONE: Digest = Digest([0; 32]);

fn meter(seed: u8) -> MeterKey {
    MeterKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn payer() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

fn public(meter: &MeterKey) -> MeterPublicKey {
    MeterPublicKey::parse(&meter.public()).unwrap()
}

fn payee(meter: &MeterKey) -> Payee {
    Payee { network: NETWORK, account: PAYEE, worker: 0, meter_key: public(meter) }
}

fn parts() -> TermsParts {
    TermsParts {
        payer_key: PayerPublicKey::parse(&payer().public()).unwrap(),
        payer: Digest([8; 32]),
        payee: PAYEE,
        close_delay: 86_400,
        min_settle: 50_000_000,
        salt: 1,
    }
}

fn terms() -> ChannelTerms {
    ChannelTerms::new(parts()).unwrap()
}

fn channel() -> ChannelId {
    terms().id(NETWORK).unwrap()
}

fn cap(meter: &MeterKey, max_cum: u128) -> SignedCap {
    payer().sign(channel(), public(meter), max_cum).unwrap()
}

fn offer(meter: &MeterKey, max_cum: u128) -> Offer {
    Offer::sign(&payer(), terms(), cap(meter, max_cum), &REQUEST).unwrap()
}

/// A meter and its book.
struct Side {
    key: MeterKey,
    book: MeterBook,
}

impl Side {
    fn new(seed: u8) -> Self {
        let key = meter(seed);
        Self { book: MeterBook::new(payee(&key)), key }
    }

    fn reserve(&mut self, max_cum: u128, worst: u128) -> Result<Reservation, ReceiptError> {
        let offer = Offer::decode(&offer(&self.key, max_cum).encode()).unwrap();
        self.book.reserve(offer.verify(&REQUEST, self.book.payee())?, worst, NOW)
    }

    /// One request from beginning to end.
    fn serve(&mut self, max_cum: u128, worst: u128, amount: u128) -> Result<(), ReceiptError> {
        let reservation = self.reserve(max_cum, worst)?;
        self.book.charge(reservation, charge(amount))
    }

    fn ask(&mut self, acknowledged: Digest) -> Result<Claim, ReceiptError> {
        let key = public(&self.key);
        let question = StateRequest::sign(&payer(), channel(), &key, acknowledged).unwrap();
        let question = StateRequest::decode(&question.encode()).unwrap();
        self.book.answer(&question, &self.key, NOW)
    }

    fn standing(&self) -> (u128, u128) {
        self.book.standing(&channel().account)
    }
}

fn charge(amount: u128) -> Charge {
    Charge { amount, units: 1, receipt: Digest([0xcc; 32]) }
}

#[test]
fn a_request_is_served_up_to_the_last_nanogram_of_the_cap_and_no_further() {
    let mut m = Side::new(0x11);
    assert_eq!(m.serve(100, 60, 60), Ok(()));
    let short = Shortfall { owed: 60, reserved: 0, request: 41, max_cum: 100 };
    assert_eq!(m.serve(100, 41, 41), Err(ReceiptError::Uncovered(short)));
    assert_eq!((short.missing(), short.wanted()), (1, 101));
    assert_eq!(m.serve(100, 40, 40), Ok(()));
    assert_eq!(m.standing(), (100, 0));
}

#[test]
fn requests_that_run_together_are_covered_together() {
    let mut m = Side::new(0x11);
    let first = m.reserve(100, 50).unwrap();
    let second = m.reserve(100, 50).unwrap();
    let short = Shortfall { owed: 0, reserved: 100, request: 1, max_cum: 100 };
    assert_eq!(m.reserve(100, 1).map(|_| ()), Err(ReceiptError::Uncovered(short)));
    m.book.release(first);
    m.book.charge(second, charge(10)).unwrap();
    assert_eq!(m.standing(), (10, 0));
    assert_eq!(m.serve(100, 90, 5), Ok(()));
}

#[test]
fn a_reservation_is_narrowed_but_never_widened() {
    let mut m = Side::new(0x11);
    let mut r = m.reserve(100, 50).unwrap();
    m.book.narrow(&mut r, 20);
    m.book.narrow(&mut r, 90);
    assert_eq!(m.standing(), (0, 20));
    m.book.release(r);
    assert_eq!(m.standing(), (0, 0));
}

#[test]
fn more_than_was_set_aside_is_not_charged() {
    let mut m = Side::new(0x11);
    let refused = ReceiptError::OverReservation { reserved: 50, got: 51 };
    assert_eq!(m.serve(100, 50, 51), Err(refused));
    assert_eq!(m.standing(), (0, 0));
}

#[test]
fn a_lower_cap_does_not_replace_a_higher_one() {
    let mut m = Side::new(0x11);
    m.serve(1_000, 500, 500).unwrap();
    assert_eq!(m.serve(600, 500, 100), Ok(()), "the cap of 1000 still holds");
    assert_eq!(m.ask(NONE).unwrap().cap().cap().max_cum, 1_000);
}

#[test]
fn refuses_an_offer_for_another_request_payee_network_or_meter() {
    let m = Side::new(0x11);
    let good = offer(&m.key, 100);
    let ok = payee(&m.key);
    assert!(good.clone().verify(&REQUEST, &ok).is_ok());
    let verify = |request: &Digest, payee: &Payee| {
        good.clone().verify(request, payee).map(|_| ()).unwrap_err().code()
    };
    assert_eq!(verify(&Digest([0xef; 32]), &ok), "E-PAYMENT-SIGNATURE");
    assert_eq!(verify(&REQUEST, &Payee { account: Digest([6; 32]), ..ok }), "E-PAYMENT-PAYEE");
    // One channel at two workers of a payee would be spent twice, and paid once.
    assert_eq!(verify(&REQUEST, &Payee { worker: 1, ..ok }), "E-PAYMENT-WORKER");
    assert_eq!(verify(&REQUEST, &Payee { network: NetworkId::MAINNET, ..ok }), "E-CAP-CHANNEL");
    let other = Payee { meter_key: public(&meter(0x12)), ..ok };
    assert_eq!(verify(&REQUEST, &other), "E-CAP-METER");
}

/// A cap is public once it was settled by: knowing it must not be enough to spend it.
#[test]
fn refuses_a_stranger_who_shows_the_payers_cap() {
    let m = Side::new(0x11);
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let offer = Offer::sign(&stranger, terms(), cap(&m.key, 100), &REQUEST).unwrap();
    let refused = offer.verify(&REQUEST, &payee(&m.key)).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::SpendSignature));
}

/// The payer key is part of the account, so a stranger's key makes another channel.
#[test]
fn refuses_a_cap_of_a_channel_whose_terms_are_others() {
    let m = Side::new(0x11);
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let key = PayerPublicKey::parse(&stranger.public()).unwrap();
    let theirs = ChannelTerms::new(TermsParts { payer_key: key, ..parts() }).unwrap();
    let refused = Offer::sign(&stranger, theirs, cap(&m.key, 100), &REQUEST);
    assert!(matches!(refused, Err(ReceiptError::OtherChannel { .. })));
}

#[test]
fn a_question_is_answered_to_the_payer_alone() {
    let mut m = Side::new(0x11);
    assert_eq!(m.ask(NONE).map(|_| ()), Err(ReceiptError::NoSuchChannel));
    m.serve(100, 10, 10).unwrap();
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let question = StateRequest::sign(&stranger, channel(), &public(&m.key), NONE).unwrap();
    let refused = m.book.answer(&question, &m.key, NOW).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::SpendSignature));
    let claim = m.ask(NONE).unwrap();
    assert_eq!(claim.cum_amount(), 10);
    assert!(claim.verify().is_ok());
}

#[test]
fn the_same_standing_has_one_claim_and_the_next_names_the_one_acknowledged() {
    let mut m = Side::new(0x11);
    m.serve(100, 10, 10).unwrap();
    let first = m.ask(NONE).unwrap();
    assert_eq!(m.ask(NONE).unwrap(), first);
    let prev = |claim: &Claim| claim.settlement().settlement().state.prev;
    assert_eq!(prev(&first), NONE);
    m.ask(first.hash()).unwrap();
    m.serve(100, 10, 10).unwrap();
    let second = m.ask(first.hash()).unwrap();
    assert_eq!(prev(&second), first.hash());
    assert_eq!(m.ask(Digest([1; 32])).map(|c| prev(&c)), Ok(first.hash()), "it was never signed");
}

#[test]
fn a_new_meter_goes_on_from_the_claim_of_the_one_before() {
    let mut old = Side::new(0x11);
    old.serve(1_000, 400, 400).unwrap();
    let kept = old.ask(NONE).unwrap();
    let mut new = Side::new(0x12);
    new.book.resume(&kept.clone().verify().unwrap()).unwrap();
    let short = Shortfall { owed: 400, reserved: 0, request: 200, max_cum: 500 };
    assert_eq!(new.serve(500, 200, 150), Err(ReceiptError::Uncovered(short)));
    new.serve(600, 200, 150).unwrap();
    let claim = new.ask(NONE).unwrap();
    assert_eq!(claim.cum_amount(), 550);
    assert_eq!(claim.settlement().settlement().state.prev, kept.hash());
    assert!(claim.verify().is_ok());
}

/// A payer who lost her ledger has to hear it before she signs: her cap may be the one that was used up.
#[test]
fn a_payer_is_shown_the_claim_of_another_meter_before_her_first_request() {
    let mut old = Side::new(0x11);
    old.serve(1_000, 400, 400).unwrap();
    let kept = old.ask(NONE).unwrap();
    let mut new = Side::new(0x12);
    new.book.resume(&kept.clone().verify().unwrap()).unwrap();
    assert_eq!(new.ask(NONE).as_ref(), Ok(&kept));
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let question = StateRequest::sign(&stranger, channel(), &public(&new.key), NONE).unwrap();
    let refused = new.book.answer(&question, &new.key, NOW).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::SpendSignature));
    new.serve(600, 100, 50).unwrap();
    let own = new.ask(NONE).unwrap();
    assert_eq!((own.cum_amount(), own.cap().cap().meter_key), (450, public(&new.key)));
}

/// A payer who withholds the last claim and pays for a request first gains nothing once the payee's
/// host hands it in.
#[test]
fn a_claim_that_comes_late_still_counts_and_a_lower_one_changes_nothing() {
    let mut old = Side::new(0x11);
    old.serve(1_000, 300, 300).unwrap();
    let lower = old.ask(NONE).unwrap().verify().unwrap();
    old.serve(1_000, 100, 100).unwrap();
    let kept = old.ask(NONE).unwrap().verify().unwrap();
    let mut new = Side::new(0x12);
    new.serve(200, 150, 150).unwrap();
    new.book.resume(&kept).unwrap();
    new.book.resume(&lower).unwrap();
    assert_eq!(new.standing(), (550, 0));
    assert_eq!(new.ask(NONE).unwrap().cum_amount(), 200, "no contract would take more");
    assert!(new.serve(550, 1, 0).is_err());
    new.serve(551, 1, 0).unwrap();
    assert_eq!(new.ask(NONE).unwrap().cum_amount(), 550);
}

/// A payer can have a meter key of her own, and sign whatever she likes with both.
fn payer_made(amount: u128) -> VerifiedClaim {
    payer_made_on(1, amount)
}

fn payer_made_on(salt: u64, amount: u128) -> VerifiedClaim {
    let terms = ChannelTerms::new(TermsParts { salt, ..parts() }).unwrap();
    let channel = terms.id(NETWORK).unwrap();
    let hers = meter(0x66);
    let state = MeterState {
        blind: [0; 16],
        count: 0,
        cum_units: 0,
        issued_at: NOW,
        prev: NONE,
        log_root: NONE,
    };
    let settlement = Settlement { channel, cum_amount: amount, state };
    let settlement = hers.sign_settlement(settlement).unwrap();
    let cap = payer().sign(channel, public(&hers), amount).unwrap();
    Claim::new(terms, cap, settlement).unwrap().verify().unwrap()
}

#[test]
fn a_claim_that_the_payer_made_herself_holds_back_nothing_that_was_earned() {
    let mut m = Side::new(0x11);
    let running = m.reserve(100, 60).unwrap();
    m.book.resume(&payer_made(1 << 119)).unwrap();
    m.book.charge(running, charge(60)).unwrap();
    let claims = m.book.grown(&m.key, NOW);
    assert_eq!(claims.iter().map(Claim::cum_amount).collect::<Vec<_>>(), [100], "all she allowed");
    assert!(claims[0].clone().verify().is_ok());
    assert!(m.book.grown(&m.key, NOW).is_empty(), "it says no more the second time");
    assert!(m.serve(100, 1, 0).is_err(), "and she is served nothing more");
}

#[test]
fn a_meter_that_is_handed_its_own_sum_inside_anothers_claim_counts_it_once() {
    let (mut a, mut b) = (Side::new(0x11), Side::new(0x12));
    a.serve(1_000, 100, 100).unwrap();
    b.book.resume(&a.ask(NONE).unwrap().verify().unwrap()).unwrap();
    b.serve(1_000, 50, 50).unwrap();
    let of_both = b.ask(NONE).unwrap();
    assert_eq!(of_both.cum_amount(), 150);
    a.book.resume(&of_both.verify().unwrap()).unwrap();
    assert_eq!(a.standing(), (150, 0));
    a.serve(1_000, 5, 5).unwrap();
    assert_eq!(a.ask(NONE).unwrap().cum_amount(), 155);
}

#[test]
fn what_a_meter_never_signed_for_is_in_no_claim_of_another() {
    let (mut a, mut b) = (Side::new(0x11), Side::new(0x12));
    a.serve(1_000, 100, 100).unwrap();
    b.book.resume(&a.ask(NONE).unwrap().verify().unwrap()).unwrap();
    a.serve(1_000, 30, 30).unwrap();
    b.serve(1_000, 50, 50).unwrap();
    a.book.resume(&b.ask(NONE).unwrap().verify().unwrap()).unwrap();
    assert_eq!(a.standing(), (180, 0));
}

#[test]
fn a_claim_handed_in_while_requests_run_is_added_to_what_they_come_to() {
    let mut old = Side::new(0x11);
    old.serve(1_000, 400, 400).unwrap();
    let kept = old.ask(NONE).unwrap().verify().unwrap();
    let mut new = Side::new(0x12);
    let running = new.reserve(1_000, 100).unwrap();
    new.book.resume(&kept).unwrap();
    assert_eq!(new.standing(), (400, 100));
    assert!(new.reserve(1_000, 501).is_err(), "what runs stays covered");
    new.book.charge(running, charge(70)).unwrap();
    assert_eq!(new.standing(), (470, 0));
}

#[test]
fn the_payee_is_told_what_grew_and_once() {
    let mut m = Side::new(0x11);
    let grown = |m: &mut Side| -> Vec<u128> {
        m.book.grown(&m.key, NOW).iter().map(Claim::cum_amount).collect()
    };
    let none: Vec<u128> = vec![];
    m.serve(100, 10, 10).unwrap();
    assert_eq!(grown(&mut m), [10]);
    assert_eq!(grown(&mut m), none);
    m.serve(100, 10, 5).unwrap();
    m.serve(100, 10, 5).unwrap();
    assert_eq!(grown(&mut m), [20]);
}

#[test]
fn one_channel_more_than_the_most_takes_the_place_of_none_that_is_owed() {
    let key = meter(0x11);
    let mut book = MeterBook::new(payee(&key));
    let reserve = |salt: u64, book: &mut MeterBook| {
        let terms = ChannelTerms::new(TermsParts { salt, ..parts() }).unwrap();
        let cap = payer().sign(terms.id(NETWORK).unwrap(), public(&key), 10).unwrap();
        let offer = Offer::sign(&payer(), terms, cap, &REQUEST).unwrap();
        book.reserve(offer.verify(&REQUEST, &payee(&key)).unwrap(), 10, NOW)
    };
    for salt in 0..MAX_CHANNELS as u64 - 1 {
        let reservation = reserve(salt, &mut book).unwrap();
        book.charge(reservation, charge(1)).unwrap();
    }
    let last = reserve(MAX_CHANNELS as u64, &mut book).unwrap();
    let refused = reserve(MAX_CHANNELS as u64 + 1, &mut book).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::ChannelsFull));
    book.release(last);
    assert!(reserve(MAX_CHANNELS as u64 + 1, &mut book).is_ok());
}

/// Claims are made for nothing. As many as there is room for take no place of whoever pays, and their
/// makers take one only by paying.
#[test]
fn claims_of_strangers_keep_nobody_from_being_served() {
    let mut m = Side::new(0x11);
    for salt in 2..MAX_CLAIMED as u64 + 2 {
        m.book.resume(&payer_made_on(salt, 1 << 60)).unwrap();
    }
    let one_more = payer_made_on(MAX_CLAIMED as u64 + 2, 1 << 60);
    assert_eq!(m.book.resume(&one_more), Err(ReceiptError::ClaimsFull));
    assert_eq!(m.serve(100, 60, 60), Ok(()), "a new payer");
    m.book.resume(&payer_made_on(1, 70)).unwrap();
    assert_eq!(m.standing(), (130, 0), "who is served needs no place for a claim");
    let offered = |salt: u64, max_cum: u128, m: &mut Side| {
        let terms = ChannelTerms::new(TermsParts { salt, ..parts() }).unwrap();
        let cap = payer().sign(terms.id(NETWORK).unwrap(), public(&m.key), max_cum).unwrap();
        let offer = Offer::sign(&payer(), terms, cap, &REQUEST).unwrap();
        m.book.reserve(offer.verify(&REQUEST, m.book.payee()).unwrap(), 10, NOW).map(|_| ())
    };
    let short = Shortfall { owed: 1 << 60, reserved: 0, request: 10, max_cum: 10 };
    assert_eq!(offered(2, 10, &mut m), Err(ReceiptError::Uncovered(short)));
    assert_eq!(m.book.resume(&one_more), Err(ReceiptError::ClaimsFull), "it has its place still");
    assert_eq!(offered(2, (1 << 60) + 10, &mut m), Ok(()));
    assert_eq!(m.book.resume(&one_more), Ok(()), "who pays leaves its place");
}

#[test]
fn messages_have_their_stated_lengths_and_every_shorter_or_longer_one_is_refused() {
    let mut m = Side::new(0x11);
    m.serve(100, 10, 10).unwrap();
    let claim = m.ask(NONE).unwrap().encode();
    let offer = offer(&m.key, 100).encode();
    let question = StateRequest::sign(&payer(), channel(), &public(&m.key), NONE).unwrap().encode();
    assert_eq!(
        (claim.len(), offer.len(), question.len()),
        (CLAIM_BYTES, OFFER_BYTES, STATE_REQUEST_BYTES)
    );
    for len in 0..claim.len() {
        assert!(Claim::decode(&claim[..len]).is_err(), "{len}");
    }
    for len in 0..offer.len() {
        assert!(Offer::decode(&offer[..len]).is_err(), "{len}");
    }
    for len in 0..question.len() {
        assert!(StateRequest::decode(&question[..len]).is_err(), "{len}");
    }
    assert!(Claim::decode(&[claim, vec![0]].concat()).is_err());
    assert!(Offer::decode(&[offer, vec![0]].concat()).is_err());
    assert!(StateRequest::decode(&[question, vec![0]].concat()).is_err());
}

#[test]
fn no_changed_bit_of_a_claim_or_an_offer_verifies() {
    let mut m = Side::new(0x11);
    m.serve(100, 10, 10).unwrap();
    let claim = m.ask(NONE).unwrap().encode();
    for at in 0..claim.len() {
        let mut bad = claim.clone();
        bad[at] ^= 1;
        assert!(Claim::decode(&bad).and_then(Claim::verify).is_err(), "byte {at} of the claim");
    }
    let offer = offer(&m.key, 100).encode();
    for at in 0..offer.len() {
        let mut bad = offer.clone();
        bad[at] ^= 1;
        let verified = Offer::decode(&bad).and_then(|o| o.verify(&REQUEST, &payee(&m.key)));
        assert!(verified.is_err(), "byte {at} of the offer");
    }
}

#[test]
fn a_402_carries_its_numbers_and_its_claim() {
    let mut m = Side::new(0x11);
    m.serve(100, 10, 10).unwrap();
    let claim = m.ask(NONE).unwrap();
    let short = Shortfall { owed: 10, reserved: 1, request: u128::MAX / 2, max_cum: 100 };
    let mut required =
        PaymentRequired::new(NETWORK, PAYEE, terms().code().hash(), Digest(m.key.public()))
            .with_claim(&claim);
    required.shortfall = Some(short.into());
    let json = serde_json::to_string(&required).unwrap();
    let back: PaymentRequired = serde_json::from_str(&json).unwrap();
    assert_eq!(back.claim(), Ok(Some(claim)));
    assert_eq!(back.shortfall.unwrap().parse(), Ok(short));
}

#[derive(Clone, Debug)]
enum Step {
    Reserve { raise: u128, worst: u128 },
    Narrow { which: usize, to: u128 },
    Charge { which: usize, part: u8 },
    Release { which: usize },
    Report,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u128..200, 0u128..300).prop_map(|(raise, worst)| Step::Reserve { raise, worst }),
        1 => (any::<usize>(), 0u128..300).prop_map(|(which, to)| Step::Narrow { which, to }),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(which, part)| Step::Charge { which, part }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => Just(Step::Report),
    ]
}

/// A reservation with what the model knows of it.
type Open = (Reservation, u128);

fn take(open: &mut Vec<Open>, which: usize) -> Option<Open> {
    (!open.is_empty()).then(|| open.swap_remove(which % open.len()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order requests come, end and are cancelled in: what is owed is the sum of the
    /// charges, what is owed and promised never exceeds the cap, and no claim exceeds it.
    #[test]
    fn owed_is_the_sum_of_charges_and_never_over_the_cap(
        steps in proptest::collection::vec(step(), 0..40)
    ) {
        let mut m = Side::new(0x11);
        let (mut open, mut max_cum, mut owed): (Vec<Open>, _, _) = (vec![], 0u128, 0u128);
        for step in steps {
            let promised: u128 = open.iter().map(|(_, amount)| amount).sum();
            match step {
                Step::Reserve { raise, worst } => {
                    let offered = max_cum + raise;
                    max_cum = offered;
                    match m.reserve(offered, worst) {
                        Ok(r) => {
                            prop_assert!(owed + promised + worst <= offered);
                            open.push((r, worst));
                        }
                        Err(ReceiptError::Uncovered(short)) => {
                            prop_assert!(owed + promised + worst > offered);
                            prop_assert_eq!(short.wanted(), owed + promised + worst);
                        }
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                Step::Narrow { which, to } => {
                    if let Some((mut r, amount)) = take(&mut open, which) {
                        m.book.narrow(&mut r, to);
                        open.push((r, amount.min(to)));
                    }
                }
                Step::Charge { which, part } => {
                    if let Some((r, amount)) = take(&mut open, which) {
                        let spent = amount * u128::from(part) / 255;
                        prop_assert_eq!(m.book.charge(r, charge(spent)), Ok(()));
                        owed += spent;
                    }
                }
                Step::Release { which } => {
                    if let Some((r, _)) = take(&mut open, which) {
                        m.book.release(r);
                    }
                }
                Step::Report => {
                    for claim in m.book.grown(&m.key, NOW) {
                        prop_assert_eq!(claim.cum_amount(), owed);
                        prop_assert!(claim.verify().is_ok());
                    }
                }
            }
            let promised: u128 = open.iter().map(|(_, amount)| amount).sum();
            prop_assert_eq!(m.standing(), (owed, promised));
            prop_assert!(owed + promised <= max_cum);
        }
    }
}

#[test]
fn no_request_is_begun_beyond_the_window_before_the_payee_was_told_of_those_before() {
    let mut m = Side::new(0x11);
    m.book = MeterBook::new(payee(&m.key)).telling_within(3);
    let account = channel().account;
    m.serve(100, 10, 1).unwrap();
    m.serve(100, 10, 0).unwrap();
    assert_eq!(m.book.untold(&account), 1, "what costs nothing is nothing to lose");
    m.serve(100, 10, 2).unwrap();
    let running = m.reserve(100, 10).unwrap();
    let refused = m.reserve(100, 10).map(|_| ());
    assert_eq!(refused, Err(ReceiptError::Untold { untold: 2 }));
    assert_eq!(m.standing(), (3, 10), "nothing was set aside for it");

    // Signed and not told of yet: the same.
    let claims = m.book.grown(&m.key, NOW);
    assert!(m.reserve(100, 10).is_err());
    m.book.charge(running, charge(4)).unwrap();
    m.book.told(&claims);
    assert_eq!(m.book.untold(&account), 1, "the last one is in no claim yet");
    let two = [m.reserve(100, 10).unwrap(), m.reserve(100, 10).unwrap()];
    assert!(m.reserve(100, 10).is_err());
    for reservation in two {
        m.book.release(reservation);
    }
    assert!(m.reserve(100, 10).is_ok());
}
