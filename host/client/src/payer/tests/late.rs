//! Claims that reach a worker after it has begun to count: of what one meter counted, its payer has
//! receipts, and the meters after it get to know it late or never.

use chrysalis_receipt::VerifiedClaim;

use super::*;

/// What a worker's owner keeps: the last claim of each of its lives.
fn told(worker: &mut Worker) -> VerifiedClaim {
    let mut claims = worker.book.grown(&worker.key, NOW);
    claims.pop().unwrap().verify().unwrap()
}

/// The owner has more of the first life than its payer asked for, and hands it in once the second one has
/// signed for her.
fn handed_in_late(payer: &Payer) -> Worker {
    let mut first = Worker::new(0x11);
    first.serve(payer, 50, 40).unwrap();
    first.claim(payer).unwrap();
    let known = payer.inner.state().claim.clone().unwrap();
    first.serve(payer, 50, 10).unwrap();
    let last = told(&mut first);
    assert_eq!(last.claim().cum_amount(), 50);
    let mut second = Worker { asked: 100, ..Worker::new(0x12) };
    second.book.resume(&known.verify().unwrap()).unwrap();
    second.serve(payer, 50, 5).unwrap();
    assert_eq!(second.claim(payer), Ok(45), "what its payer handed in, and its own request");
    second.book.resume(&last).unwrap();
    second
}

#[test]
fn a_claim_that_is_handed_in_late_makes_no_overcharge_of_receipts_that_came() {
    let dir = TempDir::new().unwrap();
    let payer = open(dir.path(), BUDGET);
    let mut second = handed_in_late(&payer);
    assert_eq!(second.claim(&payer), Ok(50));
    second.serve(&payer, 50, 5).unwrap();
    assert_eq!(second.claim(&payer), Ok(55));
    assert_eq!(payer.standing().may_owe, 60, "what all receipts come to, and no more");
    second.overcharge(&payer, 1, 7);
    assert_eq!(second.claim(&payer), Err(ClientError::Overcharged { accounted: 61 }));
}

#[test]
fn a_claim_that_is_handed_in_late_makes_no_overcharge_in_the_next_process() {
    let dir = TempDir::new().unwrap();
    let mut second = handed_in_late(&open(dir.path(), BUDGET));
    let payer = open(dir.path(), BUDGET);
    assert_eq!(second.claim(&payer), Ok(50));
}

#[test]
fn a_claim_that_is_handed_in_late_is_shown_with_a_refusal_and_accuses_nobody() {
    let dir = TempDir::new().unwrap();
    let payer = open(dir.path(), BUDGET);
    let second = handed_in_late(&payer);
    let shown = second.book.latest(&payer.channel().account).unwrap().clone();
    assert_eq!(shown.cum_amount(), 50);
    assert_eq!(payer.inner.adopt(&payer.own(shown).unwrap()), Ok(false));
    assert_eq!(payer.signs(), Ok(()));
}
