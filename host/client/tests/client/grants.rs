//! Model keys reach only an attested worker, and only for the model it was measured with.

use chrysalis_client::ClientError;
use chrysalis_vault::ModelKey;
use chrysalis_wire::Digest;

use crate::bench::Bench;

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
    let error = worker.grant(Digest([1; 32]), &key).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::WorkerRefused { code, .. } if code == "E-SEAL-MODEL-ROOT")
    );
    assert!(bench.worker.state.granted.lock().unwrap().is_empty());
}
