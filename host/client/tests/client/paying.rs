//! A client that pays, over its socket: what a meter shows before its first cap, and what requests cost whose
//! answers were given up.

use std::path::Path;

use chrysalis_client::{Budget, ClientError, ClientEvent, Clock, PathId, Payer, Question, ask};
use chrysalis_ledger::{Ledger, Side};
use chrysalis_receipt::{ChannelTerms, PayerKey, PayerPublicKey, TermsParts, worst_case};
use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::bench::{Bench, STREAM, stream};
use crate::fake::script::Answer;

fn payer(bench: &Bench, directory: &Path, limit: u128) -> Payer {
    let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
    let terms = ChannelTerms::new(TermsParts {
        payer_key: PayerPublicKey::parse(&key.public()).unwrap(),
        payer: Digest([8; 32]),
        payee: Digest([7; 32]),
        close_delay: 86_400,
        min_settle: 50_000_000,
        salt: 1,
    });
    let ledger = Ledger::open(&directory.join("payments.redb"), Side::Payer).unwrap();
    let clock = bench.clock.clone();
    let clock = Clock::new(move || clock.now());
    let budget = Budget { limit, step: limit };
    Payer::open(key, terms.unwrap(), NetworkId::INSECURE_SIM, budget, ledger, clock).unwrap()
}

/// The most that one request of [`STREAM`] can cost.
fn worst(bench: &Bench) -> u128 {
    let manifest = &bench.worker.state.manifest;
    let prices: PricesSection = manifest.prices;
    worst_case(&prices, &manifest.limits, 12)
}

#[tokio::test]
async fn answers_that_are_given_up_cost_what_their_receipts_say_and_no_more() {
    let (bench, dir) = (Bench::start_paid().await, TempDir::new().unwrap());
    let limit = 5 * worst(&bench);
    let payer = payer(&bench, dir.path(), limit);
    let worker = bench.paying(payer.clone()).await;
    bench.worker.answers(Answer::Stalls);
    for _ in 0..5 {
        let mut answer = worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await.unwrap();
        assert!(matches!(answer.next().await, Ok(Some(ClientEvent::Chunk(_)))));
    }
    assert!(payer.standing().may_owe > limit / 5, "for all that is known");
    bench.worker.answers(Answer::Good);
    let (_, sixth) = stream(&worker).await;
    let each = sixth.stored.receipt().receipt().amount;
    let claim = worker.collect_claim().await.unwrap().unwrap();
    assert_eq!(claim.cum_amount(), 6 * each);
    worker.collect_claim().await.unwrap();
    assert_eq!(payer.standing().may_owe, 6 * each, "every one of them was found");
}

#[tokio::test]
async fn a_ledger_that_was_lost_accuses_no_worker_that_has_counted_more() {
    let bench = Bench::start_paid().await;
    let limit = 5 * worst(&bench);
    let mut claimed = 0;
    for _ in 0..2 {
        let dir = TempDir::new().unwrap();
        let payer = payer(&bench, dir.path(), limit);
        let worker = bench.paying(payer.clone()).await;
        stream(&worker).await;
        let claim = worker.collect_claim().await.unwrap().unwrap();
        assert!(claim.cum_amount() > claimed);
        claimed = claim.cum_amount();
        assert_eq!(payer.standing().covered, limit);
    }
}

#[tokio::test]
async fn an_answer_that_fails_costs_what_its_receipt_says() {
    let (bench, dir) = (Bench::start_paid().await, TempDir::new().unwrap());
    let payer = payer(&bench, dir.path(), 5 * worst(&bench));
    let worker = bench.paying(payer.clone()).await;
    bench.worker.answers(Answer::FailsMidway);
    let question = Question { prompt: "count", max_tokens: Some(12), ..Question::default() };
    let mut failed = None;
    let error = ask(&worker, &question, |_| {}, |completed| failed = Some(completed)).await;
    assert!(matches!(error, Err(ClientError::AnswerRefused { status: 500, .. })));
    let amount = failed.unwrap().stored.receipt().receipt().amount;
    assert!(amount > 0);
    worker.collect_claim().await.unwrap();
    assert_eq!(payer.standing().may_owe, amount);
}

#[tokio::test]
async fn no_receipt_is_taken_for_more_than_its_request_can_have_cost() {
    let (bench, dir) = (Bench::start_paid().await, TempDir::new().unwrap());
    let payer = payer(&bench, dir.path(), 5 * worst(&bench));
    let worker = bench.paying(payer.clone()).await;
    bench.worker.answers(Answer::FailsDearly);
    let question = Question { prompt: "count", max_tokens: Some(12), ..Question::default() };
    let error = ask(&worker, &question, |_| {}, |_| panic!("it was told")).await;
    assert!(matches!(error, Err(ClientError::ReceiptMalformed(_))), "{error:?}");
    assert_eq!(payer.standing().may_owe, worst(&bench), "for all that is known");
}
