//! From requests to money: a payer signs, a meter counts, the payee's ledger keeps the claim, and the
//! contract pays it, to the nanogram.

use std::path::Path;

use chrysalis_ledger::{Entry, Ledger, LedgerView, Side};
use chrysalis_receipt::{
    ChannelTerms, Charge, Claim, MeterBook, MeterKey, Offer, Payee, ReceiptError, SignedCap,
};
use chrysalis_ton::{RESERVE, Refusal};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use tempfile::TempDir;

use crate::{
    FOR_FEES, GRAM, NOW, PAYEE, PAYER, World, meter, meter_key, not_accepted, other_meter, payer,
    sent_to,
};

const AT: UnixTime = UnixTime(NOW as u64);
/// Most that one request of these tests can cost.
const WORST: u128 = 5_000_000;

/// A worker's meter, and the ledger of its owner.
struct Worker<'a> {
    key: MeterKey,
    book: MeterBook,
    terms: ChannelTerms,
    world: &'a World,
    ledger: &'a Path,
    served: u64,
}

impl<'a> Worker<'a> {
    fn start(key: MeterKey, world: &'a World, ledger: &'a Path) -> Self {
        let network = NetworkId::MAINNET;
        let payee = Payee { network, account: PAYEE, worker: 0, meter_key: meter_key(&key) };
        let book = MeterBook::new(payee);
        let mut worker =
            Self { key, book, terms: world.config.terms().unwrap(), world, ledger, served: 0 };
        // What the owner kept of the boot before is where this one goes on.
        for claim in worker.kept() {
            worker.book.resume(&claim.verify().unwrap()).unwrap();
        }
        worker
    }

    fn cap(&self, max_cum: u128) -> SignedCap {
        payer().sign(self.world.channel, meter_key(&self.key), max_cum).unwrap()
    }

    fn serve(&mut self, max_cum: u128, amount: u128) -> Result<(), ReceiptError> {
        self.served += 1;
        let mut request = Digest([0; 32]);
        request.0[..8].copy_from_slice(&self.served.to_be_bytes());
        let offer = Offer::sign(&payer(), self.terms.clone(), self.cap(max_cum), &request)?;
        let offer = offer.verify(&request, self.book.payee())?;
        let reservation = self.book.reserve(offer, WORST, AT)?;
        self.book.charge(reservation, Charge { amount, units: 10, receipt: request })
    }

    /// What the console says, as the owner's host takes it.
    fn report(&mut self) {
        let ledger = Ledger::open(self.ledger, Side::Payee).unwrap();
        for claim in self.book.grown(&self.key, AT) {
            let claim = Claim::decode(&claim.encode()).unwrap();
            ledger.record(&Entry::Claim(&claim), AT).unwrap();
        }
    }

    fn kept(&self) -> Vec<Claim> {
        if !self.ledger.exists() {
            return vec![];
        }
        let channels = LedgerView::open(self.ledger, Side::Payee).unwrap().channels().unwrap();
        channels.into_iter().filter_map(|channel| channel.claim).collect()
    }
}

fn kept(ledger: &Path) -> Claim {
    let channels = LedgerView::open(ledger, Side::Payee).unwrap().channels().unwrap();
    channels[0].claim.clone().unwrap()
}

/// Amounts that are no round numbers.
fn amounts(requests: u128) -> impl Iterator<Item = u128> {
    (1..=requests).map(|n| n * 7_919 % 1_000_003)
}

#[test]
fn hundreds_of_requests_are_settled_at_once_and_every_nanogram_is_accounted_for() {
    let dir = TempDir::new().unwrap();
    let ledger = dir.path().join("earnings");
    let mut world = World::open(10 * GRAM);
    let owed: u128 = amounts(300).sum();
    {
        let mut worker = Worker::start(meter(), &world, &ledger);
        for amount in amounts(300) {
            worker.serve(GRAM, amount).unwrap();
        }
        worker.report();
    }
    let claim = kept(&ledger);
    assert_eq!(claim.cum_amount(), owed);

    let (payee, deposit) =
        (world.chain.balance(PAYEE).unwrap(), world.chain.balance(world.channel.account).unwrap());
    let done = world.settle(claim.cap(), claim.settlement()).unwrap();
    assert_eq!(sent_to(&done, PAYEE), owed);
    assert_eq!(world.chain.balance(PAYEE).unwrap(), payee + owed);
    let spent = deposit - world.chain.balance(world.channel.account).unwrap();
    let fees = spent - owed;
    assert!(fees > 0 && fees <= 800_000, "{fees} nanogram of fees");
    assert_eq!(world.state().cum_paid, owed);
    assert_eq!(world.chain.balances().unwrap() + world.chain.fees(), world.chain.issued());

    let again = world.settle(claim.cap(), claim.settlement());
    assert_eq!(not_accepted(again), Refusal::AlreadyPaid, "it is paid once");

    // What the reader of the chain writes down closes the account.
    let paid = Entry::Paid {
        channel: world.channel,
        cum_paid: world.state().cum_paid,
        fee: fees,
        transaction: Digest([1; 32]),
    };
    Ledger::open(&ledger, Side::Payee).unwrap().record(&paid, AT).unwrap();
    let channel = LedgerView::open(&ledger, Side::Payee).unwrap().channels().unwrap().remove(0);
    assert_eq!((channel.earned, channel.settled, channel.unsettled()), (owed, owed, 0));
    assert_eq!((channel.requests, channel.fees), (300, fees));
}

#[test]
fn a_restarted_worker_goes_on_and_the_contract_pays_the_difference() {
    let dir = TempDir::new().unwrap();
    let ledger = dir.path().join("earnings");
    let mut world = World::open(10 * GRAM);
    let first: u128 = amounts(200).sum();
    {
        let mut worker = Worker::start(meter(), &world, &ledger);
        amounts(200).for_each(|amount| worker.serve(GRAM, amount).unwrap());
        worker.report();
    }
    let claim = kept(&ledger);
    world.settle(claim.cap(), claim.settlement()).unwrap();
    {
        // Another key, nothing remembered: what was owed comes from the owner's ledger.
        let mut worker = Worker::start(other_meter(), &world, &ledger);
        let low = worker.serve(first + WORST - 1, 1).unwrap_err();
        assert_eq!(low.code(), "E-PAYMENT-CAP", "the old debt counts against the cap");
        amounts(200).for_each(|amount| worker.serve(GRAM, amount).unwrap());
        worker.report();
    }
    let claim = kept(&ledger);
    assert_eq!(claim.cum_amount(), 2 * first);
    let done = world.settle(claim.cap(), claim.settlement()).unwrap();
    assert_eq!(sent_to(&done, PAYEE), first, "and not what was paid before");
}

/// The payer gets everything that was not earned, less what the chain takes.
#[test]
fn the_rest_goes_back_to_the_payer() {
    let dir = TempDir::new().unwrap();
    let ledger = dir.path().join("earnings");
    let mut world = World::open(10 * GRAM);
    let owed: u128 = amounts(200).sum();
    {
        let mut worker = Worker::start(meter(), &world, &ledger);
        amounts(200).for_each(|amount| worker.serve(GRAM, amount).unwrap());
        worker.report();
    }
    let claim = kept(&ledger);
    world.settle(claim.cap(), claim.settlement()).unwrap();
    let before = world.chain.balance(PAYER).unwrap();
    world.send(PAYEE, &chrysalis_ton::coop_close(1).unwrap());
    let back = world.chain.balance(PAYER).unwrap() - before;
    // Of the deposit and of what the payee attached for fees.
    let fees = 10 * GRAM + FOR_FEES - owed - RESERVE - back;
    assert!(back > 0 && fees < GRAM / 100, "{back} came back, {fees} went in fees");
}
