//! A payer against the meter of a worker, without the network between them.

use std::path::Path;

use chrysalis_ledger::{LedgerView, Side};
use chrysalis_receipt::{
    Charge, MeterBook, MeterKey, Payee, PayerPublicKey, Shortfall, TermsParts,
};
use chrysalis_wire::{UnixMillis, UnixTime};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;

const NETWORK: NetworkId = NetworkId::TESTNET;
const PAYEE: Digest = Digest([7; 32]);
const NOW: UnixTime = UnixTime(1_795_000_000);
const BUDGET: Budget = Budget { limit: 1_000, step: 100 };

fn payer_key() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

fn open(dir: &Path, budget: Budget) -> Payer {
    let terms = ChannelTerms::new(TermsParts {
        payer_key: PayerPublicKey::parse(&payer_key().public()).unwrap(),
        payer: Digest([8; 32]),
        payee: PAYEE,
        close_delay: 86_400,
        min_settle: 50_000_000,
        salt: 1,
    })
    .unwrap();
    let ledger = Ledger::open(&dir.join("payments"), Side::Payer).unwrap();
    let clock = Clock::new(|| UnixMillis(NOW.0 * 1000));
    Payer::open(payer_key(), terms, NETWORK, budget, ledger, clock).unwrap()
}

struct Worker {
    key: MeterKey,
    book: MeterBook,
    asked: u8,
}

impl Worker {
    fn new(seed: u8) -> Self {
        let key = MeterKey::from_seed(&Zeroizing::new([seed; 32]));
        let meter_key = MeterPublicKey::parse(&key.public()).unwrap();
        let book = MeterBook::new(Payee { network: NETWORK, account: PAYEE, meter_key });
        Self { key, book, asked: 0 }
    }

    /// One request that may cost `worst` and costs `amount`.
    fn serve(&mut self, payer: &Payer, worst: u128, amount: u128) -> Result<(), ClientError> {
        self.asked += 1;
        let request = Digest([self.asked; 32]);
        let offer = payer.inner.offer(self.book.payee().meter_key, &request, worst)?;
        let offer = offer.verify(&request, self.book.payee())?;
        let reservation = self.book.reserve(offer, worst, NOW)?;
        self.book.charge(reservation, Charge { amount, units: 1, receipt: request })?;
        payer.inner.state().standing.end(worst, amount);
        Ok(())
    }

    /// The payer asks where it stands.
    fn claim(&mut self, payer: &Payer) -> Result<u128, ClientError> {
        let (meter, state) = (self.book.payee().meter_key, payer.inner.state());
        let acknowledged = state.claim.as_ref().map_or(Digest([0; 32]), Claim::hash);
        let asked = state.standing.ask(Instant::now());
        drop(state);
        let (key, channel) = (&payer.inner.key, payer.inner.channel);
        let question = StateRequest::sign(key, channel, &meter, acknowledged)?;
        let claim = self.book.answer(&question, &self.key, NOW)?;
        let claim = payer.own(Claim::decode(&claim.encode())?)?;
        Ok(payer.inner.accept(asked, claim)?.cum_amount())
    }
}

#[test]
fn pays_request_by_request_and_signs_nothing_above_the_budget() {
    let dir = TempDir::new().unwrap();
    let (payer, mut worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    for n in 1..=20 {
        worker.serve(&payer, 50, 49).unwrap();
        assert_eq!(worker.claim(&payer), Ok(n * 49));
        assert!(payer.standing().covered <= BUDGET.limit);
    }
    assert!(payer.standing().near);
    let refused = worker.serve(&payer, 50, 49);
    assert_eq!(refused, Err(ClientError::Budget { needed: 1_030, limit: 1_000 }));
    assert_eq!(payer.standing().covered, 982, "the last step, and no cap for what was refused");
}

#[test]
fn a_cap_is_on_the_disk_before_it_leaves() {
    let dir = TempDir::new().unwrap();
    let (payer, mut worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    worker.serve(&payer, 50, 10).unwrap();
    let view = LedgerView::open(&dir.path().join("payments"), Side::Payer).unwrap();
    assert_eq!(view.channels().unwrap()[0].covered, 100);
}

#[test]
fn a_payer_that_starts_again_knows_what_it_signed_and_what_it_owes() {
    let dir = TempDir::new().unwrap();
    let mut worker = Worker::new(0x11);
    {
        let payer = open(dir.path(), BUDGET);
        worker.serve(&payer, 50, 40).unwrap();
        worker.claim(&payer).unwrap();
        worker.serve(&payer, 60, 20).unwrap();
    }
    let payer = open(dir.path(), BUDGET);
    let standing = payer.standing();
    assert_eq!((standing.covered, standing.may_owe), (100, 100), "what it does not know may be");
    assert_eq!(worker.claim(&payer), Ok(60));
    worker.serve(&payer, 40, 40).unwrap();
}

#[test]
fn a_claim_for_more_than_the_receipts_ends_the_payments() {
    let dir = TempDir::new().unwrap();
    let (payer, mut worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    worker.serve(&payer, 50, 10).unwrap();
    worker.claim(&payer).unwrap();
    // A receipt that says less than what is counted.
    let stolen = Digest([9; 32]);
    let offer = payer.inner.offer(worker.book.payee().meter_key, &stolen, 50).unwrap();
    payer.inner.state().standing.end(50, 1);
    let offer = offer.verify(&stolen, worker.book.payee()).unwrap();
    let reservation = worker.book.reserve(offer, 50, NOW).unwrap();
    worker.book.charge(reservation, Charge { amount: 2, units: 1, receipt: stolen }).unwrap();
    let refused = Err(ClientError::Overcharged { accounted: 11 });
    assert_eq!(worker.claim(&payer), refused);
    assert_eq!(worker.serve(&payer, 1, 1).map(|()| 0), refused);
}

#[test]
fn a_payer_that_lost_its_ledger_learns_from_its_own_signature() {
    let (old, new) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut worker = Worker::new(0x11);
    let payer = open(old.path(), BUDGET);
    worker.serve(&payer, 90, 90).unwrap();
    worker.claim(&payer).unwrap();
    let claim = payer.inner.state().claim.clone().unwrap();
    // The worker restarts, its owner hands in the claim, the payer's disk is gone.
    let mut worker = Worker::new(0x12);
    worker.book.resume(&claim.clone().verify().unwrap()).unwrap();
    let payer = open(new.path(), BUDGET);
    let refused = worker.serve(&payer, 50, 5);
    let short = Shortfall { owed: 90, reserved: 0, request: 50, max_cum: 100 };
    assert_eq!(refused, Err(ReceiptError::Uncovered(short).into()));
    payer.inner.state().standing.end(50, 0);
    assert_eq!(payer.inner.adopt(&payer.own(claim).unwrap()), Ok(true));
    worker.serve(&payer, 50, 5).unwrap();
    assert_eq!(worker.claim(&payer), Ok(95));
}

#[test]
fn refuses_a_claim_that_this_payer_did_not_sign_for() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (payer, mut worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    worker.serve(&payer, 50, 10).unwrap();
    worker.claim(&payer).unwrap();
    let claim = payer.inner.state().claim.clone().unwrap();
    let mut raised = claim.cap().cap().clone();
    raised.max_cum += 1;
    let cap = chrysalis_receipt::SignedCap::new(raised, *claim.cap().signature()).unwrap();
    let forged = Claim::new(claim.terms().clone(), cap, claim.settlement().clone()).unwrap();
    let payer = open(other.path(), BUDGET);
    assert_eq!(payer.own(forged).map(|_| ()), Err(ReceiptError::CapSignature.into()));
    assert!(payer.own(claim).is_ok());
}
