//! Model keys reach only an attested worker, and only for the model it was measured with.

use std::sync::Arc;
use std::time::Duration;

use chrysalis_client::{Bounds, ClientError};
use chrysalis_vault::ModelKey;
use chrysalis_wire::Digest;

use crate::bench::{Bench, SHORT_WAITS, denying, judge};
use crate::fake::script::Evidence;

#[tokio::test]
async fn grants_a_model_key_that_only_the_worker_opens() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let key = ModelKey::from_bytes(&[7; 32]).unwrap();
    worker.grant(bench.worker.state.manifest.model.root, &key).await.unwrap();
    let granted = bench.worker.state.granted.lock().unwrap();
    assert_eq!(granted[0].expose(), [7; 32]);
}

#[tokio::test]
async fn a_key_for_another_model_is_refused() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let key = ModelKey::from_bytes(&[7; 32]).unwrap();
    let (asked, measured) = (Digest([1; 32]), bench.worker.state.manifest.model.root);
    let error = worker.grant(asked, &key).await.unwrap_err();
    assert_eq!(error, ClientError::KeyOfAnotherModel { asked, measured });
    assert!(bench.worker.state.granted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_worker_that_was_denied_since_gets_no_key() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    worker.worker().set_policy(judge(&denying()), Arc::clone(&bench.collateral));
    let key = ModelKey::from_bytes(&[7; 32]).unwrap();
    let error = worker.grant(bench.worker.state.manifest.model.root, &key).await.unwrap_err();
    assert!(matches!(&error, ClientError::Appraisal(_)), "{error:?}");
    assert!(bench.worker.state.granted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_worker_whose_evidence_is_old_proves_itself_again_before_it_gets_a_key() {
    let bench = Bench::start().await;
    let bounds = Bounds { reattest: Duration::ZERO, ..SHORT_WAITS };
    let worker = bench.client().with_bounds(bounds).appraise().await.unwrap();
    let key = ModelKey::from_bytes(&[7; 32]).unwrap();
    let root = bench.worker.state.manifest.model.root;
    worker.grant(root, &key).await.unwrap();
    assert_eq!(bench.worker.attestations(), 2);
    bench.worker.evidence(Evidence::Replayed);
    let error = worker.grant(root, &key).await.unwrap_err();
    assert_eq!(error.code(), "E-REPORT-DATA");
    assert_eq!(bench.worker.state.granted.lock().unwrap().len(), 1);
}
