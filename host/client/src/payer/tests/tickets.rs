//! What a request that is on its way comes to, by what ends it.

use super::*;

/// Signs for a request.
fn offer(payer: &Payer, worker: &Worker, id: u8, worst: u128) {
    let meter = worker.book.payee().meter_key;
    payer.inner.offer(meter, &Digest([id; 32]), begun(id, worst)).unwrap();
}

fn ticket(payer: &Payer, worker: &Worker, id: u8, worst: u128) -> Ticket {
    offer(payer, worker, id, worst);
    Ticket { payer: payer.clone(), request: begun(id, worst), over: false }
}

/// The meter of a hostile owner may sign anything, as far as the prices go: the number of tokens is its own.
#[tokio::test]
async fn a_receipt_that_comes_with_its_answer_makes_room_for_no_more_than_its_request_could_cost() {
    let dir = TempDir::new().unwrap();
    let (payer, worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    let refused = ticket(&payer, &worker, 1, 20).receipted(21).await;
    assert!(matches!(refused, Err(ClientError::ReceiptMalformed(_))), "{refused:?}");
    assert_eq!(payer.standing().may_owe, 20, "for all that is known it has cost its most");
    let asked = payer.inner.state().standing.ask(NOW, 3_600);
    let refused = payer.inner.accept(asked, signed(&worker.key, &payer, 21)).map(|_| ());
    assert_eq!(refused, Err(ClientError::Overcharged { accounted: 20 }));
}

#[tokio::test]
async fn a_receipt_for_all_that_its_request_could_cost_counts() {
    let dir = TempDir::new().unwrap();
    let (payer, worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    ticket(&payer, &worker, 1, 20).receipted(20).await.unwrap();
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    assert_eq!((payer.standing().may_owe, payer.missing()), (20, vec![]));
}

#[tokio::test]
async fn a_receipt_that_cannot_be_written_down_counts_as_little_as_one_that_never_came() {
    let dir = TempDir::new().unwrap();
    let (payer, worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    ticket(&payer, &worker, 1, 20).receipted(5).await.unwrap();
    let mut endless = ticket(&payer, &worker, 2, 30);
    // The sum of receipts has a largest, too.
    endless.request.worst = u128::MAX;
    let lost = endless.request.request;
    let failed = endless.receipted(u128::MAX).await;
    assert!(matches!(failed, Err(ClientError::Ledger(_))), "{failed:?}");
    assert_eq!(payer.missing(), [lost]);
    // What the claim has of it is no receipt's, here and after a start.
    let asked = payer.inner.state().standing.ask(NOW, 3_600);
    payer.inner.accept(asked, signed(&worker.key, &payer, 35)).unwrap();
    assert_eq!(payer.inner.state().standing.included(), 5);
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    assert_eq!((payer.missing(), payer.inner.state().standing.included()), (vec![lost], 5));
}

/// As earlier builds left it: the receipt counted in memory when the claim was accepted, and was never recorded.
#[test]
fn a_receipt_that_was_in_a_claim_and_never_on_the_disk_accuses_no_honest_meter() {
    let dir = TempDir::new().unwrap();
    let (payer, worker) = (open(dir.path(), BUDGET), Worker::new(0x11));
    offer(&payer, &worker, 1, 27);
    let claim = signed(&worker.key, &payer, 27);
    let accepted = Entry::Accepted {
        claim: &claim,
        included: 27,
        late: &[],
        ended: &[],
        explained: 0,
        unreceipted: 0,
    };
    payer.inner.ledger.record(&accepted, NOW).unwrap();
    drop(payer);
    let payer = open(dir.path(), BUDGET);
    let mut cum = 27;
    for id in 2..6 {
        offer(&payer, &worker, id, 10);
        payer.end(id, 10, 2);
        cum += 2;
        let later = UnixTime(NOW.0 + u64::from(id) * standing::LATE_SECONDS);
        let asked = payer.inner.state().standing.ask(later, 3_600);
        let accepted = payer.inner.accept(asked, signed(&worker.key, &payer, cum));
        assert_eq!(accepted.map(|claim| claim.cum_amount()), Ok(cum), "request {id}");
    }
    let asked = payer.inner.state().standing.ask(NOW, 3_600);
    let over = payer.inner.accept(asked, signed(&worker.key, &payer, cum + 1)).map(|_| ());
    assert_eq!(over, Err(ClientError::Overcharged { accounted: cum }), "and no other one");
}

/// The answer to the second question is accepted before the one to the first comes and is too much.
#[test]
fn a_claim_that_is_paid_after_all_has_what_an_earlier_one_had() {
    let dir = TempDir::new().unwrap();
    let budget = Budget { limit: 1_000, step: 500 };
    let (payer, mut worker) = (open(dir.path(), budget), Worker::new(0x11));
    worker.serve(&payer, 50, 50).unwrap();
    let first = payer.inner.state().standing.ask(NOW, 3_600);
    worker.serve(&payer, 50, 50).unwrap();
    let second = payer.inner.state().standing.ask(NOW, 3_600);
    payer.inner.accept(second, signed(&worker.key, &payer, 100)).unwrap();
    let refused = payer.inner.accept(first, signed(&worker.key, &payer, 110)).map(|_| ());
    assert_eq!(refused, Err(ClientError::Overcharged { accounted: 100 }));
    payer.inner.ledger.lift(payer.channel(), NOW).unwrap().unwrap();
    drop(payer);
    let payer = open(dir.path(), budget);
    let asked = payer.inner.state().standing.ask(NOW, 3_600);
    let refused = payer.inner.accept(asked, signed(&worker.key, &payer, 111)).map(|_| ());
    assert_eq!(refused, Err(ClientError::Overcharged { accounted: 110 }), "ten were forgiven");
}
