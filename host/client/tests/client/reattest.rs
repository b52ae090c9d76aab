//! A worker that was accepted proves itself again: on the connection that is open, before anything
//! more is sealed, and as the same boot. One that does not is sent nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrysalis_client::{AttestedWorker, Bounds, ClientError, PathId};
use chrysalis_evidence::exchange::{Due, ExchangeError};

use crate::bench::{Bench, SHORT_WAITS, STREAM, stream};
use crate::fake::script::Evidence;

/// A client whose evidence is too old for every request.
async fn impatient(bench: &Bench) -> AttestedWorker {
    let bounds = Bounds { reattest: Duration::ZERO, ..SHORT_WAITS };
    bench.client().with_bounds(bounds).appraise().await.unwrap()
}

async fn refusal(worker: &AttestedWorker) -> ClientError {
    match worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await {
        Ok(_) => panic!("the request was sent"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_live_connection_is_challenged_again_once_the_interval_is_over() {
    let bench = Bench::start().await;
    let worker = impatient(&bench).await;
    let before = worker.evidence().await.session.clone();
    stream(&worker).await;
    assert_eq!((bench.worker.attestations(), bench.worker.connections()), (2, 1));
    let after = worker.evidence().await.session.clone();
    assert_ne!(before.nonce, after.nonce);
    // The exporter says that it is the same connection.
    assert_eq!((before.exporter, before.tls_spki), (after.exporter, after.tls_spki));
}

#[tokio::test]
async fn a_live_connection_is_challenged_again_before_a_new_keyset_is_used() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let before = worker.evidence().await.verified.keyset_digest();
    bench.clock.advance(5000);
    bench.worker.state.rotate();
    stream(&worker).await;
    assert_eq!((bench.worker.attestations(), bench.worker.connections()), (2, 1));
    assert_ne!(worker.evidence().await.verified.keyset_digest(), before);
}

#[tokio::test]
async fn evidence_within_its_interval_is_not_asked_for_again() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    stream(&worker).await;
    stream(&worker).await;
    assert_eq!(bench.worker.attestations(), 1);
}

#[tokio::test]
async fn sends_nothing_to_a_worker_that_does_not_prove_itself_again_and_closes() {
    let bench = Bench::start().await;
    for script in [Evidence::Replayed, Evidence::OtherNonce, Evidence::OtherExporter] {
        bench.worker.evidence(Evidence::Genuine);
        let worker = impatient(&bench).await;
        let connections = bench.worker.connections();
        bench.worker.evidence(script);
        let error = refusal(&worker).await;
        let ClientError::Reattestation { due: Due::Interval, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(error.code(), "E-REPORT-DATA");
        assert_eq!(bench.worker.connections(), connections, "it was asked on a new connection");
        // What was open is closed: whoever proves itself later does so on a connection of its own.
        bench.worker.evidence(Evidence::Genuine);
        stream(&worker).await;
        assert_eq!(bench.worker.connections(), connections + 1);
    }
    assert_eq!(bench.worker.state.posts.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn refuses_another_boot_behind_a_live_connection() {
    let bench = Bench::start().await;
    let worker = impatient(&bench).await;
    bench.worker.evidence(Evidence::OtherBoot);
    let error = refusal(&worker).await;
    let ClientError::Reattestation { error, .. } = error else { panic!("{error:?}") };
    let ClientError::Exchange(ExchangeError::Changed { what, .. }) = *error else {
        panic!("{error:?}")
    };
    assert_eq!((what, bench.worker.requests()), ("meter key", 0));
}
