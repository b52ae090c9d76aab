//! What a request that is on its way comes to, by what ends it.

use super::*;

/// A request that was signed for.
fn ticket(payer: &Payer, worker: &Worker, id: u8, worst: u128) -> Ticket {
    let (request, meter) = (begun(id, worst), worker.book.payee().meter_key);
    payer.inner.offer(meter, &Digest([id; 32]), request).unwrap();
    Ticket { payer: payer.clone(), request, over: false }
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
