//! What is refused on this side, before anything is sealed.

use chrysalis_client::{ClientError, PathId};

use crate::bench::Bench;

/// The refusal of a chat request, and proof that the worker never saw it.
async fn refused(json: &str) -> ClientError {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let Err(error) = worker.request(PathId::ChatCompletions, json.as_bytes()).await else {
        panic!("accepted {json}")
    };
    assert_eq!(bench.worker.requests(), 0);
    assert!(!format!("{error} {error:?}").contains("canary"));
    error
}

/// The field a request is refused for.
async fn refused_for(json: &str) -> Option<String> {
    let ClientError::Api(error) = refused(json).await else { panic!("not an API error") };
    error.param().map(str::to_owned)
}

#[tokio::test]
async fn refuses_an_unknown_field_by_name() {
    let json = r#"{"model":"fake-model","messages":[{"role":"user","content":"canary"}],"x":1}"#;
    assert_eq!(refused_for(json).await.as_deref(), Some("x"));
}

#[tokio::test]
async fn refuses_a_model_the_worker_does_not_serve() {
    let json = r#"{"model":"canary","messages":[{"role":"user","content":"canary"}]}"#;
    let ClientError::Api(error) = refused(json).await else { panic!("not an API error") };
    assert_eq!((error.status(), error.code()), (404, "model_not_found"));
}

#[tokio::test]
async fn refuses_embeddings_of_a_model_that_answers_with_text() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let json = br#"{"model":"fake-model","input":"canary"}"#;
    let Err(ClientError::Api(error)) = worker.request(PathId::Embeddings, json).await else {
        panic!("accepted")
    };
    assert_eq!((error.status(), error.code()), (400, "unsupported_endpoint"));
    assert!(error.message().contains("/v1/chat/completions") && bench.worker.requests() == 0);
}

#[tokio::test]
async fn refuses_more_tokens_than_the_measured_manifest_allows() {
    let request = |n: u32| {
        format!(
            r#"{{"model":"fake-model","messages":[{{"role":"user","content":"canary"}}],"max_tokens":{n}}}"#
        )
    };
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let at_limit = request(512);
    assert!(worker.request(PathId::ChatCompletions, at_limit.as_bytes()).await.is_ok());
    assert_eq!(refused_for(&request(513)).await.as_deref(), Some("max_tokens"));
}

#[tokio::test]
async fn refuses_a_request_the_worker_would_find_too_large() {
    // Under the limit as JSON, over it once sealed: three frames of 64 KiB and some.
    let text = "canary".repeat(43_000);
    let json =
        format!(r#"{{"model":"fake-model","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    assert!(json.len() < 262_144);
    assert!(matches!(
        refused(&json).await,
        ClientError::RequestTooLarge { limit: 262_144, got } if got > 262_144
    ));
}

#[tokio::test]
async fn refuses_a_request_that_is_not_json() {
    assert_eq!(refused("canary").await.code(), "E-REQUEST");
}
