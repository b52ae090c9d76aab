//! A history as a party writes it from what it kept, against the meter that counted.

use chrysalis_client::ChannelHistory;
use chrysalis_receipt::{
    ChannelTerms, Charge, Claim, MeterBook, MeterKey, MeterPublicKey, Offer, Outcome, Payee,
    PayerKey, PayerPublicKey, PublicReceipt, SignedReceipt, StateRequest, TermsParts,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use zeroize::Zeroizing;

use crate::history::{meter, payer, receipt};

const NETWORK: NetworkId = NetworkId::TESTNET;
const NOW: UnixTime = UnixTime(1_795_000_003);

fn terms() -> ChannelTerms {
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

struct Worker {
    key: MeterKey,
    book: MeterBook,
    acknowledged: Digest,
}

impl Worker {
    fn new(seed: u8) -> Self {
        let key = meter(seed);
        let meter_key = MeterPublicKey::parse(&key.public()).unwrap();
        let payee = Payee { network: NETWORK, account: Digest([7; 32]), worker: 0, meter_key };
        Self { key, book: MeterBook::new(payee), acknowledged: Digest([0; 32]) }
    }

    fn serve(&mut self, id: u8, amount: u64) -> SignedReceipt {
        self.count(id, amount, amount)
    }

    /// Counts `amount` for a request whose receipt says `told`.
    fn count(&mut self, id: u8, amount: u64, told: u64) -> SignedReceipt {
        let (key, request) = (payer(), Digest([id; 32]));
        let channel = terms().id(NETWORK).unwrap();
        let cap = key.sign(channel, self.book.payee().meter_key, 1_000).unwrap();
        let offer = Offer::sign(&key, terms(), cap, &request).unwrap();
        let offer = offer.verify(&request, self.book.payee()).unwrap();
        let reservation = self.book.reserve(offer, amount.into(), NOW).unwrap();
        let receipt = receipt(&self.key, id, told);
        let charge = Charge { amount: amount.into(), units: 1, receipt: receipt.hash() };
        self.book.charge(reservation, charge).unwrap();
        receipt
    }

    fn claim(&mut self) -> Claim {
        let (key, channel): (PayerKey, _) = (payer(), terms().id(NETWORK).unwrap());
        let meter = self.book.payee().meter_key;
        let question = StateRequest::sign(&key, channel, &meter, self.acknowledged).unwrap();
        let claim = self.book.answer(&question, &self.key, NOW).unwrap();
        self.acknowledged = claim.hash();
        claim
    }
}

/// Two boots of a worker: three requests that end in one second, a claim, one more, a claim; a restart.
fn kept() -> (Vec<Claim>, Vec<SignedReceipt>) {
    let mut first = Worker::new(0x11);
    let mut receipts = vec![first.serve(3, 10), first.serve(1, 20), first.serve(2, 30)];
    let mut claims = vec![first.claim()];
    receipts.push(first.serve(4, 5));
    claims.push(first.claim());
    let mut second = Worker::new(0x12);
    second.book.resume(&claims[1].clone().verify().unwrap()).unwrap();
    receipts.push(second.serve(5, 7));
    claims.push(second.claim());
    (claims, receipts)
}

/// One meter, another that goes on from it, and the first again, which is handed the other's claim and
/// counts `amount` for a request whose receipt says five.
fn back_and_forth(amount: u64) -> (Vec<Claim>, Vec<SignedReceipt>) {
    let (mut a, mut b) = (Worker::new(0x11), Worker::new(0x12));
    let mut receipts = vec![a.serve(1, 100)];
    let mut claims = vec![a.claim()];
    b.book.resume(&claims[0].clone().verify().unwrap()).unwrap();
    receipts.push(b.serve(2, 50));
    claims.push(b.claim());
    a.book.resume(&claims[1].clone().verify().unwrap()).unwrap();
    receipts.push(a.count(3, amount, 5));
    claims.push(a.claim());
    (claims, receipts)
}

fn assembled(claims: &[Claim], receipts: &[SignedReceipt]) -> ChannelHistory {
    let history = ChannelHistory::assemble(&terms(), NETWORK, claims, receipts, &[]).unwrap();
    ChannelHistory::parse(&history.to_json().unwrap()).unwrap()
}

#[test]
fn a_payer_that_kept_everything_writes_a_history_that_holds_in_whatever_order_receipts_lie() {
    let (claims, mut receipts) = kept();
    for _ in 0..receipts.len() {
        receipts.rotate_left(1);
        let report = assembled(&claims, &receipts).verify();
        assert!(report.holds, "{:?}", report.checks);
        assert_eq!((report.owed, report.requests, report.bound), (72, 5, true));
    }
}

/// Its answer was given up, so the payer has no more than what the meter shows to anybody.
#[test]
fn a_receipt_whose_parts_are_closed_leaves_a_history_that_holds() {
    let (claims, receipts) = kept();
    for closed in 0..receipts.len() {
        let mut whole = receipts.clone();
        let closed = PublicReceipt::from(&whole.remove(closed));
        let history = ChannelHistory::assemble(
            &terms(),
            NETWORK,
            &claims,
            &whole,
            std::slice::from_ref(&closed),
        )
        .unwrap();
        assert!(history.verify().holds, "{:?}", history.verify().checks);
        assert!(history.proof_of(&receipts[0].hash()).is_ok(), "and proofs go on");
        let twice = [closed.clone(), closed];
        let again = ChannelHistory::assemble(&terms(), NETWORK, &claims, &receipts, &twice);
        assert!(again.unwrap().verify().holds);
    }
}

#[test]
fn what_is_missing_leaves_the_history_incomplete_and_never_wrong() {
    let (claims, receipts) = kept();
    for gone in 0..receipts.len() {
        let mut some = receipts.clone();
        some.remove(gone);
        let report = assembled(&claims, &some).verify();
        assert!(!report.holds && !report.failed(), "without {gone}: {:?}", report.checks);
    }
    for gone in 0..claims.len() - 1 {
        let mut some = claims.clone();
        some.remove(gone);
        assert!(!assembled(&some, &receipts).verify().failed(), "without {gone}");
    }
    let alone = assembled(&claims, &[]).verify();
    assert!(!alone.failed() && alone.owed == 72);
}

#[test]
fn a_channel_that_goes_back_to_an_earlier_meter_has_a_history_that_holds() {
    let (claims, receipts) = back_and_forth(5);
    let report = assembled(&claims, &receipts).verify();
    assert!(report.holds, "{:?}", report.checks);
    assert_eq!((report.owed, report.requests), (155, 3));
    assert!(!assembled(&claims[1..], &receipts).verify().failed(), "a sum may be left out");
    // Without the other meter nothing explains what was added, and a meter that adds it for nothing
    // leaves the same file.
    let alone = [claims[0].clone(), claims[2].clone()];
    assert!(assembled(&alone, &receipts).verify().failed());
}

#[test]
fn a_claim_that_is_handed_in_after_the_first_own_one_leaves_a_history_that_holds() {
    let (mut old, mut new) = (Worker::new(0x11), Worker::new(0x12));
    let mut receipts = vec![old.serve(1, 40), new.serve(2, 5)];
    let late = old.claim();
    let mut claims = vec![new.claim(), late.clone()];
    new.book.resume(&late.verify().unwrap()).unwrap();
    receipts.push(new.serve(3, 3));
    claims.push(new.claim());
    let report = assembled(&claims, &receipts).verify();
    assert!(report.holds, "{:?}", report.checks);
    assert_eq!(report.owed, 43, "what the new one had signed for is taken to be inside");
}

#[test]
fn refuses_a_nanogram_too_much_also_where_another_meter_counted_between() {
    let (claims, receipts) = back_and_forth(6);
    let report = assembled(&claims, &receipts).verify();
    let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Fail);
    assert_eq!(failed.map(|check| check.id).collect::<Vec<_>>(), ["amounts"]);
}

#[test]
fn two_parties_find_out_that_a_meter_signed_them_two_logs() {
    let (claims, receipts) = kept();
    let payers = assembled(&claims, &receipts);
    // The payee has other claims of the same log, and no receipts.
    let payees = assembled(&claims[1..], &[]);
    for (one, other) in [(&payers, &payees), (&payees, &payers), (&payers, &payers)] {
        let check = one.agrees_with(other);
        assert_eq!((check.id, check.outcome), ("agree", Outcome::Pass), "{}", check.detail);
    }
    let mut forked = Worker::new(0x11);
    for (id, amount) in [(6, 10), (7, 20), (8, 35), (9, 5)] {
        forked.serve(id, amount);
    }
    let theirs = assembled(&[forked.claim()], &[]);
    assert!(!theirs.verify().failed(), "alone it holds");
    for (one, other) in [(&payers, &theirs), (&theirs, &payers)] {
        assert_eq!(one.agrees_with(other).outcome, Outcome::Fail);
    }
    let other = assembled(&claims[2..], &[]);
    assert_eq!(theirs.agrees_with(&other).outcome, Outcome::Skip, "no meter is in both");
    let elsewhere = ChannelHistory { channel: crate::history::CHANNEL, ..payers.clone() };
    assert_eq!(payers.agrees_with(&elsewhere).outcome, Outcome::Fail);
}

#[test]
fn a_meter_of_which_nothing_can_be_compared_is_not_agreed_on_because_another_one_is() {
    let (mut first, mut second) = (Worker::new(0x11), Worker::new(0x12));
    first.serve(1, 40);
    let honest = first.claim();
    second.book.resume(&honest.clone().verify().unwrap()).unwrap();
    second.serve(2, 5);
    let early = second.claim();
    second.serve(3, 3);
    let late = second.claim();
    let payers = assembled(&[honest.clone(), early], &[]);
    let payees = assembled(&[honest.clone(), late], &[]);
    let alone = assembled(&[honest], &[]);
    for (one, other) in [(&payers, &payees), (&payers, &alone), (&alone, &payers)] {
        let check = one.agrees_with(other);
        assert_eq!(check.outcome, Outcome::Skip, "{}", check.detail);
    }
    let check = payers.agrees_with(&payers);
    let detail = "2 roots: meter 0 up to receipt 1 of 1, meter 1 up to receipt 1 of 1";
    assert_eq!((check.outcome, check.detail.as_str()), (Outcome::Pass, detail));
}

/// Where receipts lie that no settlement in the file counts is that file's word alone.
#[test]
fn a_party_that_swaps_receipts_behind_its_last_settlement_makes_no_meter_a_liar() {
    let mut worker = Worker::new(0x11);
    let mut receipts = vec![worker.serve(1, 10), worker.serve(2, 20)];
    let first = worker.claim();
    receipts.extend([worker.serve(3, 30), worker.serve(4, 40)]);
    let payees = assembled(&[first, worker.claim()], &receipts);
    let mut payers = payees.clone();
    payers.meters[0].settlements.truncate(1);
    let behind: Vec<_> = payers.meters[0].receipts.iter_mut().filter(|r| r.index >= 2).collect();
    assert_eq!(behind.len(), 2);
    for counted in behind {
        counted.index = 5 - counted.index;
    }
    for (one, other) in [(&payers, &payees), (&payees, &payers)] {
        assert!(!one.verify().failed(), "{:?}", one.verify().checks);
        let check = one.agrees_with(other);
        assert_eq!(check.outcome, Outcome::Pass, "{}", check.detail);
    }
    // A file without a settlement says nothing of any order.
    payers.meters[0].settlements.clear();
    assert_eq!(payers.agrees_with(&payees).outcome, Outcome::Skip);
}

#[test]
fn refuses_a_history_under_other_terms_and_another_payers_key() {
    let (claims, receipts) = kept();
    let good = assembled(&claims, &receipts);
    let other = PayerPublicKey::parse(&PayerKey::from_seed(&Zeroizing::new([9; 32])).public());
    let stolen = ChannelHistory { payer_key: other.unwrap(), ..good.clone() };
    let mut moved = good.clone();
    moved.channel.account = Digest([0xc1; 32]);
    for bad in [stolen, moved] {
        let report = bad.verify();
        assert_eq!((report.checks[0].id, report.checks[0].outcome), ("terms", Outcome::Fail));
    }
    let channel = ChannelHistory::assemble(&terms(), NetworkId::MAINNET, &claims, &receipts, &[]);
    assert_eq!(channel.unwrap_err().code(), "E-CAP-CHANNEL");
}

#[test]
fn a_proof_of_one_receipt_shows_that_it_is_settled_and_no_other_receipt() {
    let (claims, receipts) = kept();
    let history = assembled(&claims, &receipts);
    for receipt in &receipts {
        let proof = history.proof_of(&receipt.hash()).unwrap();
        let proof = ChannelHistory::parse(&proof.to_json().unwrap()).unwrap();
        assert_eq!((proof.meters.len(), proof.meters[0].receipts.len()), (1, 1));
        let report = proof.verify();
        assert!(!report.failed(), "{:?}", report.checks);
        assert!(report.place_of(&receipt.hash()).unwrap().settled);
        let included = &report.checks[8];
        assert_eq!((included.id, included.outcome), ("inclusion", Outcome::Pass));
        let mut bent = proof;
        bent.meters[0].receipts[0].index ^= 1;
        assert_ne!(bent.verify().checks[8].outcome, Outcome::Pass, "another place");
    }
    assert!(history.proof_of(&Digest([1; 32])).is_err());
    let partial = assembled(&claims, &receipts[1..]);
    assert!(partial.proof_of(&receipts[1].hash()).is_err(), "the log cannot be rebuilt");
}
