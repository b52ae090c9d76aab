//! Keys expire and workers restart: evidence is then fetched anew and must pass the same pins.
//! Whoever takes over the address without evidence gets nothing.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrysalis_client::{ClientError, PathId};

use crate::bench::{Bench, STREAM, stream};
use crate::fake::FakeWorker;
use crate::fake::script::{Answer, Certificate, Evidence};

/// Another worker at the address of one that is gone.
async fn restart(bench: &mut Bench) {
    let address = bench.worker.address;
    // Stops the old one and frees its port.
    let placeholder: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let clock = bench.clock.clone();
    bench.worker = FakeWorker::start_with(clock.clone(), Certificate::Genuine, placeholder).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.worker = FakeWorker::start_with(clock, Certificate::Genuine, address).await;
}

async fn request(worker: &chrysalis_client::AttestedWorker) -> Result<(), ClientError> {
    worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await.map(drop)
}

#[tokio::test]
async fn evidence_is_used_until_its_seal_keys_expire() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.clock.advance(4000);
    stream(&worker).await;
    assert_eq!(bench.worker.attestations(), 1);
}

#[tokio::test]
async fn evidence_is_fetched_anew_when_no_seal_key_is_valid() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let before = worker.evidence().await.session.nonce;
    bench.clock.advance(5000);
    bench.worker.state.rotate();
    stream(&worker).await;
    assert_eq!(bench.worker.attestations(), 2);
    assert_ne!(worker.evidence().await.session.nonce, before);
}

#[tokio::test]
async fn requests_at_the_same_time_fetch_evidence_once() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.clock.advance(5000);
    bench.worker.state.rotate();
    tokio::join!(stream(&worker), stream(&worker), stream(&worker));
    assert_eq!(bench.worker.attestations(), 2);
}

#[tokio::test]
async fn a_key_that_takes_no_more_requests_is_replaced_by_the_next() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.next_answer(Answer::KeyFull);
    bench.worker.state.rotate();
    stream(&worker).await;
    assert_eq!((bench.worker.attestations(), bench.worker.requests()), (2, 1));
    // Where the next is full too, it is not a worker that is still starting.
    bench.worker.answers(Answer::KeyFull);
    let refused = request(&worker).await.unwrap_err();
    assert!(matches!(refused, ClientError::WorkerRefused { status: 503, .. }), "{refused}");
    assert_eq!(bench.worker.attestations(), 3, "once");
}

#[tokio::test]
async fn nothing_is_sealed_when_new_evidence_is_refused() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.clock.advance(5000);
    bench.worker.state.rotate();
    bench.worker.evidence(Evidence::Replayed);
    assert_eq!(request(&worker).await.unwrap_err().code(), "E-REPORT-DATA");
    assert_eq!(bench.worker.requests(), 0);
}

#[tokio::test]
async fn nothing_is_sealed_after_the_collateral_expired() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.clock.advance(31 * 86_400);
    bench.worker.state.rotate();
    assert_eq!(request(&worker).await.unwrap_err().code(), "E-COLLATERAL-EXPIRED");
    assert_eq!(bench.worker.requests(), 0);
}

#[tokio::test]
async fn a_worker_that_restarted_is_appraised_again() {
    let mut bench = Bench::start().await;
    let worker = bench.attested().await;
    let before = worker.evidence().await.session.tls_spki;
    restart(&mut bench).await;
    stream(&worker).await;
    assert_ne!(worker.evidence().await.session.tls_spki, before);
    assert_eq!(bench.worker.attestations(), 1);
    // The other key was noticed in the handshake: nothing was posted under the old evidence.
    assert_eq!(bench.worker.state.posts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn refuses_whoever_took_over_the_address_without_evidence() {
    let mut bench = Bench::start().await;
    let worker = bench.attested().await;
    restart(&mut bench).await;
    bench.worker.evidence(Evidence::OtherExporter);
    assert_eq!(request(&worker).await.unwrap_err().code(), "E-REPORT-DATA");
    assert_eq!(bench.worker.requests(), 0);
}

#[tokio::test]
async fn a_request_the_worker_has_no_key_for_is_sealed_again_once() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.next_answer(Answer::KeyUnknown);
    stream(&worker).await;
    assert_eq!((bench.worker.attestations(), bench.worker.requests()), (2, 1));
}

#[tokio::test]
async fn a_request_that_names_forgotten_evidence_is_sealed_again_once() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.next_answer(Answer::EvidenceUnknown);
    stream(&worker).await;
    assert_eq!((bench.worker.attestations(), bench.worker.requests()), (2, 2));
}

#[tokio::test]
async fn a_worker_that_never_knows_its_keys_is_asked_twice_and_no_more() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.answers(Answer::KeyUnknown);
    let error = request(&worker).await.unwrap_err();
    assert!(
        matches!(error, ClientError::WorkerRefused { code, .. } if code == "E-SEAL-NO-RECIPIENT")
    );
    assert_eq!(bench.worker.attestations(), 2);
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.next_answer(Answer::Closes);
    drop(request(&worker).await);
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream(&worker).await;
    assert_eq!((bench.worker.connections(), bench.worker.attestations()), (2, 1));
}
