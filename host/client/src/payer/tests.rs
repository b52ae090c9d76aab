//! A payer against the meter of a worker, without the network between them.

mod late;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use chrysalis_ledger::{EventKind, LedgerView, Side};
use chrysalis_receipt::{
    Att, Blinds, Charge, Finish, Io, MeterBook, MeterKey, MeterState, Model, Payee, PayerPublicKey,
    RequestReceipt, Settlement, TermsParts, Usage,
};
use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{UnixMillis, UnixTime};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;

mod tickets;

const NETWORK: NetworkId = NetworkId::TESTNET;
const PAYEE: Digest = Digest([7; 32]);
const NOW: UnixTime = UnixTime(1_795_000_000);
const BUDGET: Budget = Budget { limit: 1_000, step: 100 };

fn payer_key() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

fn open(dir: &Path, budget: Budget) -> Payer {
    open_at(dir, budget, Clock::new(|| UnixMillis(NOW.0 * 1000)))
}

fn open_at(dir: &Path, budget: Budget, clock: Clock) -> Payer {
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
    Payer::open(payer_key(), terms, NETWORK, budget, ledger, clock).unwrap()
}

fn begun(id: u8, worst: u128) -> OpenRequest {
    OpenRequest { request: RequestId([id; 16]), worst, begun: NOW }
}

impl Payer {
    /// What [`Ticket::receipted`] does, without a runtime.
    fn end(&self, id: u8, worst: u128, amount: u128) {
        self.inner.state().standing.end(worst, amount);
        let (channel, request) = (self.channel(), RequestId([id; 16]));
        self.inner.ledger.record(&Entry::Request { channel, request, amount }, NOW).unwrap();
    }
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
        let book = MeterBook::new(Payee { network: NETWORK, account: PAYEE, worker: 0, meter_key });
        Self { key, book, asked: 0 }
    }

    /// Its meter.
    fn id(&self) -> Digest {
        Digest(self.key.public())
    }

    /// Shows what it knows, before the first cap of a process.
    fn hear(&mut self, payer: &Payer) -> Result<(), ClientError> {
        let meter = Some(Digest(self.book.payee().meter_key.to_bytes()));
        let mut heard = payer.inner.heard.try_lock().unwrap();
        if *heard != meter {
            match self.claim(payer) {
                Ok(_) | Err(ClientError::Payment(ReceiptError::NoSuchChannel)) => {}
                Err(error) => return Err(error),
            }
            *heard = meter;
        }
        Ok(())
    }

    /// One request that may cost `worst` and costs `amount`.
    fn serve(&mut self, payer: &Payer, worst: u128, amount: u128) -> Result<(), ClientError> {
        self.hear(payer)?;
        self.asked += 1;
        let request = Digest([self.asked; 32]);
        let offer =
            payer.inner.offer(self.book.payee().meter_key, &request, begun(self.asked, worst))?;
        let offer = offer.verify(&request, self.book.payee())?;
        let reservation = self.book.reserve(offer, worst, NOW)?;
        self.book.charge(reservation, Charge { amount, units: 1, receipt: request })?;
        payer.end(self.asked, worst, amount);
        Ok(())
    }

    /// One request whose receipt says `told`, and which is counted as `counted`.
    fn overcharge(&mut self, payer: &Payer, told: u128, counted: u128) {
        let request = Digest([0xf9; 32]);
        let offer =
            payer.inner.offer(self.book.payee().meter_key, &request, begun(0xf9, 50)).unwrap();
        payer.end(0xf9, 50, told);
        let offer = offer.verify(&request, self.book.payee()).unwrap();
        let reservation = self.book.reserve(offer, 50, NOW).unwrap();
        let charge = Charge { amount: counted, units: 1, receipt: request };
        self.book.charge(reservation, charge).unwrap();
    }

    /// A request that is signed for, and whose answer is given up.
    fn gives_up(&self, payer: &Payer, id: u8, worst: u128) {
        let meter = self.book.payee().meter_key;
        payer.inner.offer(meter, &Digest([id; 32]), begun(id, worst)).unwrap();
        payer.inner.state().standing.lose(begun(id, worst));
    }

    /// Answers a question of the time `at` with a claim for `cum`.
    fn says(&self, payer: &Payer, at: UnixTime, cum: u128) -> Result<u128, ClientError> {
        let asked = payer.inner.state().standing.ask(at, 3_600);
        payer.inner.accept(asked, signed(&self.key, payer, cum)).map(|claim| claim.cum_amount())
    }

    /// The payer asks where it stands.
    fn claim(&mut self, payer: &Payer) -> Result<u128, ClientError> {
        let (meter, state) = (self.book.payee().meter_key, payer.inner.state());
        let acknowledged = state.claim.as_ref().map_or(Digest([0; 32]), Claim::hash);
        let asked = state.standing.ask(payer.inner.clock.now().seconds(), 3_600);
        drop(state);
        let (key, channel) = (&payer.inner.key, payer.inner.channel);
        let question = StateRequest::sign(key, channel, &meter, acknowledged)?;
        let claim = self.book.answer(&question, &self.key, NOW)?;
        let claim = payer.own(Claim::decode(&claim.encode())?)?;
        let cum = claim.cum_amount();
        if claim.cap().cap().meter_key == meter {
            payer.inner.accept(asked, claim)?;
        } else {
            payer.inner.adopt(&claim)?;
        }
        Ok(cum)
    }
}

/// A payer and a worker that has served it once, for ten nanogram, and said so.
fn owing_ten() -> (TempDir, Payer, Worker) {
    let dir = TempDir::new().unwrap();
    let (payer, mut worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    worker.serve(&payer, 50, 10).unwrap();
    worker.claim(&payer).unwrap();
    (dir, payer, worker)
}

/// The same meter, which has served another request as the first one.
fn another_log(payer: &Payer) -> Worker {
    let mut forked = Worker { asked: 100, ..Worker::new(0x11) };
    forked.serve(payer, 50, 10).unwrap();
    forked
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
    assert_eq!((standing.covered, standing.may_owe), (100, 60), "the claim and the receipt since");
    assert_eq!(worker.claim(&payer), Ok(60));
    worker.serve(&payer, 40, 40).unwrap();
}

#[test]
fn a_claim_for_more_than_the_receipts_ends_the_payments() {
    let (_dir, payer, mut worker) = owing_ten();
    worker.overcharge(&payer, 1, 2);
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
    worker.book.resume(&claim.verify().unwrap()).unwrap();
    let payer = open(new.path(), BUDGET);
    worker.serve(&payer, 50, 5).unwrap();
    assert_eq!((payer.standing().may_owe, payer.standing().covered), (95, 190));
    assert_eq!(worker.claim(&payer), Ok(95));
}

/// The new ledger would sign the very cap that was forgotten, and the request fits under it: nobody
/// refuses anything.
#[test]
fn a_payer_that_lost_its_ledger_accuses_nobody_of_what_the_same_cap_covers() {
    for restarted in [false, true] {
        let (old, new) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut worker = Worker::new(0x11);
        let payer = open(old.path(), BUDGET);
        worker.serve(&payer, 50, 40).unwrap();
        worker.claim(&payer).unwrap();
        if restarted {
            let claim = payer.inner.state().claim.clone().unwrap();
            worker = Worker::new(0x12);
            worker.book.resume(&claim.verify().unwrap()).unwrap();
        }
        let payer = open(new.path(), BUDGET);
        worker.serve(&payer, 50, 5).unwrap();
        assert_eq!((payer.standing().may_owe, payer.standing().covered), (45, 100));
        assert_eq!(worker.claim(&payer), Ok(45));
        worker.overcharge(&payer, 1, 2);
        assert_eq!(worker.claim(&payer), Err(ClientError::Overcharged { accounted: 46 }));
    }
}

/// The worker knows a higher cap than this payer remembers.
#[test]
fn a_payer_that_lost_its_ledger_goes_on_under_the_higher_cap_that_it_signed() {
    let (old, new) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut worker = Worker::new(0x11);
    let payer = open(old.path(), Budget { limit: 1_000, step: 500 });
    worker.serve(&payer, 90, 90).unwrap();
    let payer = open(new.path(), BUDGET);
    worker.serve(&payer, 50, 5).unwrap();
    assert_eq!(worker.claim(&payer), Ok(95));
    assert_eq!((payer.standing().may_owe, payer.standing().covered), (95, 500));
    worker.serve(&payer, 50, 5).unwrap();
    assert_eq!(worker.claim(&payer), Ok(100));
}

/// A worker that is told late: it serves, is handed a claim above every cap of the new ledger, and shows
/// it with a refusal.
#[test]
fn a_payer_that_lost_its_ledger_is_shown_a_claim_that_comes_late() {
    let (old, new) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut worker = Worker::new(0x11);
    let payer = open(old.path(), Budget { limit: 1_000, step: 500 });
    worker.serve(&payer, 90, 90).unwrap();
    worker.claim(&payer).unwrap();
    let claim = payer.inner.state().claim.clone().unwrap();
    let mut worker = Worker::new(0x12);
    let payer = open(new.path(), BUDGET);
    worker.serve(&payer, 50, 5).unwrap();
    worker.book.resume(&claim.verify().unwrap()).unwrap();
    assert!(worker.serve(&payer, 50, 5).is_err(), "95 are owed, and 100 allowed");
    payer.inner.state().standing.end(50, 0);
    let shown = worker.book.latest(&payer.channel().account).unwrap().clone();
    assert_eq!(payer.inner.adopt(&payer.own(shown).unwrap()), Ok(true));
    worker.serve(&payer, 50, 5).unwrap();
    assert_eq!(worker.claim(&payer), Ok(100));
}

/// A meter that lies is given a higher cap, counts all of it, and shows that with a refusal.
#[test]
fn a_refusal_is_no_way_to_be_paid_what_no_receipt_says() {
    let dir = TempDir::new().unwrap();
    let (payer, mut worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    worker.serve(&payer, 90, 80).unwrap();
    worker.claim(&payer).unwrap();
    let meter = worker.book.payee().meter_key;
    let digest = Digest([0xf8; 32]);
    let offer = payer.inner.offer(meter, &digest, begun(0xf8, 50)).unwrap();
    assert_eq!(payer.standing().covered, 180);
    payer.inner.state().standing.end(50, 0);
    let offer = offer.verify(&digest, worker.book.payee()).unwrap();
    let reservation = worker.book.reserve(offer, 100, NOW).unwrap();
    let charge = Charge { amount: 100, units: 1, receipt: digest };
    worker.book.charge(reservation, charge).unwrap();
    let claim = worker.book.grown(&worker.key, NOW).pop().unwrap();
    assert_eq!(claim.cum_amount(), 180);
    let refused = Err(ClientError::Overcharged { accounted: 80 });
    assert_eq!(payer.inner.adopt(&payer.own(claim).unwrap()), refused);
    assert_eq!(payer.standing().may_owe, 80, "nothing of it is taken");
}

#[test]
fn a_claim_in_a_refusal_is_not_adopted_for_more_than_its_own_meter_would_have_got() {
    let (_dir, payer, mut worker) = owing_ten();
    worker.overcharge(&payer, 1, 2);
    let claim = worker.book.grown(&worker.key, NOW).pop().unwrap();
    assert_eq!(claim.cum_amount(), 12);
    let refused = Err(ClientError::Overcharged { accounted: 11 });
    assert_eq!(payer.inner.adopt(&payer.own(claim).unwrap()), refused);
    assert_eq!(worker.serve(&payer, 1, 1), refused.map(|_| ()));
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

/// Each `ask` is a process: what a small request could have cost must not add up.
#[test]
fn a_budget_of_five_worst_cases_is_enough_for_many_processes_with_small_costs() {
    let dir = TempDir::new().unwrap();
    let mut worker = Worker::new(0x11);
    let budget = Budget { limit: 250, step: 250 };
    for n in 1..=10 {
        let payer = open(dir.path(), budget);
        worker.serve(&payer, 50, 5).unwrap();
        assert_eq!(payer.standing().may_owe, 5 * n);
    }
}

#[test]
fn a_claim_that_is_too_much_is_refused_after_a_start_as_well() {
    let dir = TempDir::new().unwrap();
    let mut worker = Worker::new(0x11);
    let payer = open(dir.path(), BUDGET);
    worker.serve(&payer, 50, 10).unwrap();
    worker.overcharge(&payer, 1, 2);
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    assert_eq!(worker.claim(&payer), Err(ClientError::Overcharged { accounted: 11 }));
}

#[test]
fn payments_that_ended_stay_ended_and_the_proof_is_kept() {
    let dir = TempDir::new().unwrap();
    let mut worker = Worker::new(0x11);
    let refused = Err(ClientError::Overcharged { accounted: 11 });
    {
        let payer = open(dir.path(), BUDGET);
        worker.serve(&payer, 50, 10).unwrap();
        worker.overcharge(&payer, 1, 2);
        assert_eq!(worker.claim(&payer), refused);
    }
    let payer = open(dir.path(), BUDGET);
    assert_eq!(worker.serve(&payer, 1, 1).map(|()| 0), refused);
    let view = payer.inner.ledger.view();
    let proof = view.memory(payer.channel()).unwrap().unwrap().overcharge.unwrap();
    assert_eq!((proof.accounted, proof.claim.cum_amount()), (11, 12));
    assert!(proof.claim.verify().is_ok());
    let kinds: Vec<_> = view.events(0, 100).unwrap().into_iter().map(|event| event.kind).collect();
    assert!(kinds.iter().any(|k| matches!(k, EventKind::Overcharged { .. })), "{kinds:?}");
    let channel = view.channel(payer.channel()).unwrap().unwrap();
    assert_eq!(channel.earned, 0, "it is no sum to be settled by");
}

/// What the refused claim includes was in no claim that was accepted.
#[test]
fn a_claim_that_is_paid_after_all_can_be_made_for_its_receipts_once_only() {
    let dir = TempDir::new().unwrap();
    let mut worker = Worker::new(0x11);
    let payer = open(dir.path(), Budget { limit: 1_000, step: 500 });
    worker.serve(&payer, 50, 50).unwrap();
    worker.gives_up(&payer, 9, 20);
    let accept = |payer: &Payer, cum| worker.says(payer, NOW, cum);
    assert_eq!(accept(&payer, 80), Err(ClientError::Overcharged { accounted: 70 }));
    payer.inner.ledger.lift(payer.channel(), NOW).unwrap().unwrap();
    drop(payer);
    let payer = open(dir.path(), Budget { limit: 1_000, step: 500 });
    assert_eq!(payer.standing().may_owe, 80);
    assert_eq!(accept(&payer, 130), Err(ClientError::Overcharged { accounted: 100 }));
}

/// The answer to one question is refused while another request has its receipt already, which is not in it.
#[test]
fn a_receipt_that_came_after_the_claim_that_is_paid_after_all_is_owed_on_top() {
    let dir = TempDir::new().unwrap();
    let budget = Budget { limit: 1_000, step: 500 };
    let mut worker = Worker::new(0x11);
    let payer = open(dir.path(), budget);
    worker.serve(&payer, 50, 50).unwrap();
    let asked = payer.inner.state().standing.ask(NOW, 3_600);
    worker.serve(&payer, 50, 50).unwrap();
    let too_much = signed(&worker.key, &payer, 110);
    let refused = payer.inner.accept(asked, too_much).map(|claim| claim.cum_amount());
    assert_eq!(refused, Err(ClientError::Overcharged { accounted: 100 }));
    payer.inner.ledger.lift(payer.channel(), NOW).unwrap().unwrap();
    drop(payer);
    let payer = open(dir.path(), budget);
    let accept = |cum| worker.says(&payer, NOW, cum);
    assert_eq!(accept(160), Ok(160));
    assert_eq!(accept(161), Err(ClientError::Overcharged { accounted: 160 }));
}

#[test]
fn a_request_that_did_not_end_may_cost_its_most_in_the_next_process_too() {
    let dir = TempDir::new().unwrap();
    let mut worker = Worker::new(0x11);
    let payer = open(dir.path(), BUDGET);
    worker.serve(&payer, 50, 10).unwrap();
    payer.inner.offer(worker.book.payee().meter_key, &Digest([9; 32]), begun(9, 50)).unwrap();
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    assert_eq!(payer.standing().may_owe, 60);
}

#[tokio::test]
async fn a_ticket_ends_by_its_receipt_by_a_refusal_or_by_being_dropped() {
    let dir = TempDir::new().unwrap();
    let (payer, worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    let ticket = |id: u8| {
        let request = begun(id, 20);
        let meter = worker.book.payee().meter_key;
        payer.inner.offer(meter, &Digest([id; 32]), request).unwrap();
        Ticket { payer: payer.clone(), request, over: false }
    };
    let (receipted, refused, dropped) = (ticket(1), ticket(2), ticket(3));
    assert_eq!(payer.standing().may_owe, 60);
    receipted.receipted(5).await.unwrap();
    refused.refused().await.unwrap();
    drop(dropped);
    assert_eq!(payer.standing().may_owe, 25);
    let memory = payer.inner.ledger.view().memory(payer.channel()).unwrap().unwrap();
    assert_eq!(memory.open, [begun(3, 20)]);
}

#[test]
fn a_meter_that_shows_two_logs_is_paid_no_more() {
    let (dir, payer, mut worker) = owing_ten();
    let mut forked = another_log(&payer);
    let refused = Err(ClientError::LogForked { before: 1, count: 1 });
    assert_eq!(forked.claim(&payer), refused, "another request, as the first one");
    assert_eq!(worker.serve(&payer, 1, 1).map(|()| 0), refused);
    // Nor in the next process, to which the meter shows the first log again.
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    assert_eq!(worker.serve(&payer, 1, 1).map(|()| 0), refused);
    let Some(Stopped::Fork(proof)) = payer.inner.ledger.lift(payer.channel(), NOW).unwrap() else {
        panic!("no proof was kept")
    };
    for claim in [&proof.before, &proof.claim] {
        assert_eq!(meter_of(claim), worker.book.payee().meter_key.to_bytes());
        assert!(claim.clone().verify().is_ok());
    }
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    worker.serve(&payer, 1, 1).unwrap();
    assert_eq!(
        worker.claim(&payer),
        Ok(11),
        "forgiven, and what it says is still held against receipts"
    );
}

#[test]
fn a_payer_that_stopped_judges_nothing_more_and_writes_nothing_down() {
    let (dir, payer, worker) = owing_ten();
    let mut forked = another_log(&payer);
    let refused = Err(ClientError::LogForked { before: 1, count: 1 });
    assert_eq!(forked.claim(&payer), refused);
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    assert_eq!(payer.signs().map(|()| 0), refused);
    let view = payer.inner.ledger.view();
    let left = || (view.events(0, 100).unwrap(), view.memory(payer.channel()).unwrap());
    let before = left();
    let too_much = signed(&worker.key, &payer, payer.standing().covered);
    for _ in 0..2 {
        assert_eq!(forked.claim(&payer), refused, "the other log once more");
        let asked = payer.inner.state().standing.ask(NOW, 3_600);
        let accepted = payer.inner.accept(asked, too_much.clone());
        assert_eq!(accepted.map(|claim| claim.cum_amount()), refused);
        assert_eq!(payer.inner.adopt(&too_much).map(|_| 0), refused);
    }
    assert_eq!(left(), before);
}

#[test]
fn an_answer_that_was_overtaken_by_a_later_one_is_no_second_log() {
    let (_dir, payer, mut worker) = owing_ten();
    let earlier = payer.inner.state().claim.clone().unwrap();
    worker.serve(&payer, 50, 10).unwrap();
    worker.claim(&payer).unwrap();
    let asked = payer.inner.state().standing.ask(NOW, 3_600);
    assert!(payer.inner.accept(asked, earlier).is_ok());
    worker.serve(&payer, 50, 10).unwrap();
    assert_eq!(worker.claim(&payer), Ok(30));
}

/// Which of the late requests a claim has is not known, in the next process either.
#[test]
fn what_late_requests_came_to_is_remembered_over_a_start() {
    let dir = TempDir::new().unwrap();
    let worker = Worker::new(0x11);
    let budget = Budget { limit: 1_000, step: 500 };
    let payer = open(dir.path(), budget);
    for (id, worst) in [(1, 30), (2, 50), (3, 60)] {
        worker.gives_up(&payer, id, worst);
    }
    let later = UnixTime(NOW.0 + 3_600);
    let accept = |payer: &Payer, cum| worker.says(payer, later, cum);
    assert_eq!(accept(&payer, 1), Ok(1), "all three are late, and may have cost that");
    assert_eq!(accept(&payer, 100), Ok(100));
    drop(payer);
    let payer = open(dir.path(), budget);
    assert_eq!(accept(&payer, 110), Ok(110), "the larger two, for all that is known");
    drop(payer);
    let payer = open(dir.path(), budget);
    assert_eq!(accept(&payer, 141), Err(ClientError::Overcharged { accounted: 140 }));
}

/// A claim for `cum` nanogram under the largest cap of `payer`, of a meter that has counted one request.
fn signed(meter: &MeterKey, payer: &Payer, cum_amount: u128) -> Claim {
    let (channel, digest) = (payer.channel(), Digest([0; 32]));
    let named = MeterPublicKey::parse(&meter.public()).unwrap();
    let cap = payer_key().sign(channel, named, payer.standing().covered).unwrap();
    let state = MeterState {
        blind: [0; 16],
        count: 1,
        cum_units: 1,
        issued_at: NOW,
        prev: digest,
        log_root: digest,
    };
    let settlement = Settlement { channel, cum_amount, state };
    let settlement = meter.sign_settlement(settlement).unwrap();
    Claim::new(payer.inner.terms.clone(), cap, settlement).unwrap()
}

#[test]
fn a_receipt_that_is_not_there_is_asked_for_after_longer_pauses_whatever_else_is_asked() {
    let (dir, now) = (TempDir::new().unwrap(), Arc::new(AtomicU64::new(NOW.0)));
    let time = Arc::clone(&now);
    let clock = Clock::new(move || UnixMillis(time.load(Ordering::SeqCst) * 1000));
    let payer = open_at(dir.path(), BUDGET, clock);
    let mut worker = Worker::new(0x11);
    worker.hear(&payer).unwrap();
    worker.gives_up(&payer, 9, 50);
    let asked = || payer.missing().len();
    assert_eq!([asked(), asked()], [1, 0], "not by every question");
    let mut pauses = vec![];
    for _ in 0..10 {
        let last = now.load(Ordering::SeqCst);
        while asked() == 0 {
            now.fetch_add(5, Ordering::SeqCst);
        }
        pauses.push(now.load(Ordering::SeqCst) - last);
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 960, 1_920, 3_840, 3_840]);
    now.store(NOW.0, Ordering::SeqCst);
    assert_eq!(asked(), 1, "by a clock that was set back");
}

/// A receipt for `amount`, as a meter shows it to anybody.
fn closed(meter: &MeterKey, id: u8, amount: u64) -> PublicReceipt {
    let digest = Digest([1; 32]);
    let (prompt, none) = (amount * 1_000_000, 0);
    let prices = PricesSection { prompt, cached: none, completion: none, reasoning: none };
    let receipt = RequestReceipt {
        network: NETWORK,
        registry: digest,
        request_id: RequestId([id; 16]),
        issued_at: NOW,
        amount: amount.into(),
        io: Io { request_commit: digest, response_commit: digest },
        usage: Usage {
            prompt: 1,
            cached: 0,
            completion: 0,
            reasoning: 0,
            finish: Finish::Aborted,
            prices,
            started: NOW.millis(),
            ended: NOW.millis(),
        },
        model: Model {
            manifest_sha256: digest,
            engine_image_sha256: digest,
            sampling_hash: digest,
        },
        att: Att { evidence_sha256: digest, measurement_sha256: digest },
    };
    let blinds = Blinds::derive(&[9; 32], receipt.request_id);
    PublicReceipt::from(&meter.sign(&receipt, blinds).unwrap())
}

#[test]
fn a_receipt_that_was_found_counts_once_and_for_no_more_than_its_request_could_cost() {
    let dir = TempDir::new().unwrap();
    let (payer, worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    worker.gives_up(&payer, 9, 50);
    let refused = payer.inner.find(&closed(&worker.key, 9, 51), worker.id());
    assert!(matches!(refused, Err(ClientError::ReceiptMalformed(_))), "{refused:?}");
    assert_eq!(payer.standing().may_owe, 50);
    for _ in 0..2 {
        payer.inner.find(&closed(&worker.key, 9, 7), worker.id()).unwrap();
        assert_eq!(payer.standing().may_owe, 7);
    }
    let channel = payer.channel();
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    assert_eq!(payer.standing().may_owe, 7, "and after a start");
    assert_eq!(payer.inner.ledger.view().memory(channel).unwrap().unwrap().found.len(), 1);
}
