//! A history as a party writes it from what it kept, against the meter that counted.

use chrysalis_client::ChannelHistory;
use chrysalis_receipt::{
    ChannelTerms, Charge, Claim, MeterBook, MeterKey, MeterPublicKey, Offer, Outcome, Payee,
    PayerKey, PayerPublicKey, SignedReceipt, StateRequest, TermsParts,
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
        let (key, request) = (payer(), Digest([id; 32]));
        let channel = terms().id(NETWORK).unwrap();
        let cap = key.sign(channel, self.book.payee().meter_key, 1_000).unwrap();
        let offer = Offer::sign(&key, terms(), cap, &request).unwrap();
        let offer = offer.verify(&request, self.book.payee()).unwrap();
        let reservation = self.book.reserve(offer, amount.into(), NOW).unwrap();
        let receipt = receipt(&self.key, id, amount);
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

fn assembled(claims: &[Claim], receipts: &[SignedReceipt]) -> ChannelHistory {
    let history = ChannelHistory::assemble(&terms(), NETWORK, claims, receipts).unwrap();
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
    let channel = ChannelHistory::assemble(&terms(), NetworkId::MAINNET, &claims, &receipts);
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
