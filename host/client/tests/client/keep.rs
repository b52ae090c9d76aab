//! An accepted worker is looked after beside the requests: challenged again while it answers, judged
//! again when the policy changes. A worker that fails that has its answer ended, with the reason.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrysalis_client::{AttestedWorker, Bounds, ClientError, PathId, ResponseStream};
use chrysalis_evidence::exchange::Due;

use crate::bench::{Bench, SHORT_WAITS, STREAM, denying, judge, pins, stream};
use crate::fake::FakeWorker;
use crate::fake::relay::Relay;
use crate::fake::script::{Answer, Evidence};

const INTERVAL: Duration = Duration::from_millis(1600);
const LONG: Duration = Duration::from_secs(20);

/// A client that challenges every [`INTERVAL`].
async fn kept(bench: &Bench) -> AttestedWorker {
    let bounds = Bounds { reattest: INTERVAL, idle: LONG, ..SHORT_WAITS };
    bench.client().with_bounds(bounds).appraise().await.unwrap()
}

/// An answer that says a few words and then nothing, for as long as one listens.
async fn stalled(bench: &Bench, worker: &AttestedWorker) -> ResponseStream {
    bench.worker.next_answer(Answer::Stalls);
    worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await.unwrap()
}

/// How the answer ends; it has to, soon.
async fn end(mut answer: ResponseStream) -> ClientError {
    let ended = async {
        loop {
            match answer.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the answer ended quietly"),
                Err(error) => return error,
            }
        }
    };
    tokio::time::timeout(LONG / 2, ended).await.expect("the answer goes on")
}

#[tokio::test]
async fn a_worker_that_is_answering_is_challenged_again_in_time_and_its_answer_goes_on() {
    let bench = Bench::start().await;
    let worker = kept(&bench).await;
    let mut answer = stalled(&bench, &worker).await;
    let begun = Instant::now();
    while begun.elapsed() < 2 * INTERVAL {
        match tokio::time::timeout(Duration::from_millis(100), answer.next()).await {
            Err(_) | Ok(Ok(Some(_))) => {}
            Ok(other) => panic!("the answer ended: {other:?}"),
        }
    }
    assert!(bench.worker.attestations() >= 3, "{} challenges", bench.worker.attestations());
    let age = worker.evidence().await.at;
    assert_eq!(age, bench.clock.now().seconds());
}

#[tokio::test]
async fn an_answer_in_progress_ends_when_its_worker_does_not_prove_itself_again() {
    let bench = Bench::start().await;
    for script in [Evidence::OtherNonce, Evidence::OtherBoot] {
        bench.worker.evidence(Evidence::Genuine);
        let worker = kept(&bench).await;
        let answer = stalled(&bench, &worker).await;
        bench.worker.evidence(script);
        let error = end(answer).await;
        assert!(matches!(error.code(), "E-REPORT-DATA" | "E-ATTEST-CHANGED"), "{error:?}");
        if let ClientError::Reattestation { due, .. } = error {
            assert_eq!(due, Due::Interval);
        }
    }
}

#[tokio::test]
async fn a_worker_that_cannot_be_asked_has_until_the_interval_is_over() {
    let bench = Bench::start().await;
    let worker = kept(&bench).await;
    let answer = stalled(&bench, &worker).await;
    let begun = Instant::now();
    bench.worker.evidence(Evidence::Refused);
    let error = end(answer).await;
    assert!(matches!(error, ClientError::Reattestation { .. }), "{error:?}");
    assert!(begun.elapsed() >= INTERVAL * 3 / 4, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_denial_ends_the_answer_in_progress_and_closes_what_is_idle() {
    let bench = Bench::start().await;
    // The interval is minutes: it is the denial that ends it.
    let bounds = Bounds { idle: LONG, ..SHORT_WAITS };
    let worker = bench.client().with_bounds(bounds).appraise().await.unwrap();
    let answer = stalled(&bench, &worker).await;
    let collateral = Arc::clone(&bench.collateral);
    worker.worker().set_policy(judge(&denying()), Arc::clone(&collateral));
    let ClientError::Appraisal(refusal) = end(answer).await else { panic!("another error") };
    assert!(refusal.code.contains("DENIED"), "{refusal}");
    let posts = bench.worker.requests();
    let refused = worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await;
    let Err(ClientError::Appraisal(_)) = refused else { panic!("it is asked all the same") };
    assert_eq!(bench.worker.requests(), posts);
    // Pins that accept it again do so.
    worker.worker().set_policy(judge(&pins()), collateral);
    stream(&worker).await;
}

#[tokio::test]
async fn a_denial_does_not_wait_for_a_worker_that_is_being_asked() {
    let bench = Bench::start().await;
    let bounds = Bounds { reattest: INTERVAL, idle: LONG, attestation: LONG, ..SHORT_WAITS };
    let worker = bench.client().with_bounds(bounds).appraise().await.unwrap();
    let answer = stalled(&bench, &worker).await;
    bench.worker.evidence(Evidence::Silent);
    let asked = bench.worker.attestations();
    while bench.worker.attestations() == asked {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.worker().set_policy(judge(&denying()), Arc::clone(&bench.collateral));
    let ClientError::Appraisal(refusal) = end(answer).await else { panic!("another error") };
    assert!(refusal.code.contains("DENIED"), "{refusal}");
}

#[tokio::test]
async fn an_answer_of_one_boot_ends_when_requests_go_to_another() {
    let bench = Bench::start().await;
    let other = FakeWorker::start(bench.clock.clone()).await;
    let relay = Relay::to(bench.worker.address).await;
    // The interval is minutes: nothing but the other boot ends it.
    let bounds = Bounds { idle: LONG, ..SHORT_WAITS };
    let client = bench.client_with(&relay.address.to_string(), &pins()).with_bounds(bounds);
    let worker = client.appraise().await.unwrap();
    let answer = stalled(&bench, &worker).await;
    relay.turn(other.address);
    stream(&worker).await;
    assert_eq!((bench.worker.requests(), other.requests()), (1, 1));
    let error = end(answer).await;
    assert_eq!(error.code(), "E-ATTEST-CHANGED", "{error:?}");
    // The other boot is looked after as the first one was.
    other.next_answer(Answer::Stalls);
    let answer = worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await.unwrap();
    worker.worker().set_policy(judge(&denying()), Arc::clone(&bench.collateral));
    assert!(matches!(end(answer).await, ClientError::Appraisal(_)));
}

#[tokio::test]
async fn a_request_on_its_way_is_not_sent_to_a_worker_that_is_denied_meanwhile() {
    let bench = Bench::start().await;
    let relay = Relay::to(bench.worker.address).await;
    let bounds = Bounds { idle: LONG, handshake: LONG, ..SHORT_WAITS };
    let client = bench.client_with(&relay.address.to_string(), &pins()).with_bounds(bounds);
    let worker = client.appraise().await.unwrap();
    // It holds the connection that is open; the next request needs one of its own.
    let answer = stalled(&bench, &worker).await;
    relay.hold();
    let request = worker.request(PathId::ChatCompletions, STREAM.as_bytes());
    let denial = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        worker.worker().set_policy(judge(&denying()), Arc::clone(&bench.collateral));
        relay.turn(bench.worker.address);
    };
    let (sent, ()) = tokio::join!(request, denial);
    let error = sent.err().expect("it was sent");
    assert!(matches!(error, ClientError::Appraisal(_)), "{error:?}");
    assert_eq!(bench.worker.state.posts.load(Ordering::SeqCst), 1);
    end(answer).await;
}

#[tokio::test]
async fn what_arrived_before_a_refusal_is_not_told_after_it() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let mut answer = worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await.unwrap();
    assert!(answer.next().await.unwrap().is_some());
    // All of the answer is on this side by now, its receipt too.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(answer.next().await.unwrap().is_some());
    worker.worker().set_policy(judge(&denying()), Arc::clone(&bench.collateral));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(matches!(answer.next().await, Err(ClientError::Appraisal(_))));
    assert!(matches!(answer.next().await, Ok(None)));
}

#[tokio::test]
async fn a_worker_that_was_refused_proves_itself_again_before_it_is_used() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let answer = stalled(&bench, &worker).await;
    worker.worker().set_policy(judge(&denying()), Arc::clone(&bench.collateral));
    end(answer).await;
    worker.worker().set_policy(judge(&pins()), Arc::clone(&bench.collateral));
    stream(&worker).await;
    assert_eq!(bench.worker.attestations(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_once_its_evidence_is_old() {
    let bench = Bench::start().await;
    let worker = kept(&bench).await;
    stream(&worker).await;
    assert_eq!(bench.worker.connections(), 1);
    tokio::time::sleep(2 * INTERVAL).await;
    stream(&worker).await;
    assert_eq!((bench.worker.connections(), bench.worker.attestations()), (2, 2));
}

#[tokio::test]
async fn a_policy_that_is_refused_changes_nothing_and_is_named() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let before = worker.worker().policy();
    worker.worker().refuse_policy("E-PINS-FORM", "not TOML");
    let after = worker.worker().policy();
    assert_eq!(after.judge.pins().digest(), before.judge.pins().digest());
    let refused = after.refused.clone().unwrap();
    assert_eq!((&*refused.code, refused.at), ("E-PINS-FORM", bench.clock.now().seconds()));
    stream(&worker).await;
    worker.worker().set_policy(judge(&pins()), Arc::clone(&bench.collateral));
    assert_eq!(worker.worker().policy().refused, None);
}
