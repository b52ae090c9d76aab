//! `/v1/embeddings` over the real socket: vectors that are the engine's, a receipt for the tokens of the
//! texts, and what is refused inside the channel.

use std::time::Duration;

use chrysalis_api::EmbeddingRequest;
use chrysalis_api::limits::MAX_EMBEDDING_INPUTS;
use chrysalis_channel::{Frame, FrameKind, Header, PathId};
use chrysalis_engine::testing::{TinyBert, embed, embed_options, embedder};
use chrysalis_engine::{EmbedOptions, Embedder};
use chrysalis_receipt::Finish;
use chrysalis_wire::{Digest, RequestId};
use chrysalis_worker::limits::Bounds;
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::payment;
use crate::rig::{MODEL, Rig, chat, eventually, receipt, text};

/// Tokens of a request in these tests.
const REQUEST_TOKENS: u32 = 40;

fn tiny() -> Embedder {
    let options = EmbedOptions { request_tokens: REQUEST_TOKENS, ..embed_options(1) };
    embedder(&TinyBert::default().files(), options).unwrap()
}

/// Sends `json` as a request for embeddings, which pays for no completion.
async fn ask(rig: &Rig, id: u8, json: &str) -> Vec<Frame> {
    let header = Header { path: PathId::Embeddings, max_tokens: 0, ..rig.header(id) };
    ask_with(rig, &header, json).await
}

async fn ask_with(rig: &Rig, header: &Header, json: &str) -> Vec<Frame> {
    let (sealed, mut opener) = rig.seal_with(header, json);
    let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
    assert_eq!(response.status(), StatusCode::OK);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let frames = opener.push(&bytes).unwrap();
    opener.finish().unwrap();
    frames
}

fn body(frames: &[Frame]) -> Value {
    let bodies = frames.iter().filter(|frame| frame.kind == FrameKind::Body);
    let bytes: Vec<u8> = bodies.flat_map(|frame| frame.payload.expose().to_vec()).collect();
    serde_json::from_slice(&bytes).unwrap()
}

/// Status and error of an answer that is one.
fn error(frames: &[Frame]) -> (u16, Value) {
    let [Frame { kind: FrameKind::Error, payload, last: true }] = frames else {
        panic!("not one error: {} frames", frames.len())
    };
    let (status, json) = chrysalis_wire::inner::decode_error(payload.expose()).unwrap();
    let json: Value = serde_json::from_slice(json).unwrap();
    (status, json["error"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_input_gives_the_engines_vectors_and_a_receipt_for_their_tokens() {
    let rig = Rig::embedding(tiny(), "").await;
    let texts = ["the cat sat.", "dogs"];
    let expected = tokio::task::spawn_blocking(move || embed(&tiny(), &texts).unwrap());
    let expected = expected.await.unwrap();
    // the cat sat . | dog ##s, each with two around it
    let ids = [vec![5, 6, 9, 10], vec![7, 8]];
    let inputs = [
        (json!(texts[0]), 1, 6),
        (json!(texts), 2, 10),
        (json!(ids[0]), 1, 6),
        (json!(ids), 2, 10),
    ];
    for (id, (input, count, tokens)) in (1..).zip(inputs) {
        let request = json!({"model": MODEL, "input": input, "user": "u"}).to_string();
        let frames = ask(&rig, id, &request).await;
        let answer = body(&frames);
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!(MODEL)));
        assert_eq!(answer["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
        let data = answer["data"].as_array().unwrap();
        assert_eq!(data.len(), count);
        for (index, (item, expected)) in data.iter().zip(&expected).enumerate() {
            assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(index)));
            let got: Vec<f32> = serde_json::from_value(item["embedding"].clone()).unwrap();
            assert_eq!(&got, expected, "numbers read back as the same bits");
        }
        let receipt = receipt(&frames);
        let usage = &receipt.receipt().usage;
        assert_eq!((usage.prompt, usage.cached, usage.completion), (tokens, 0, 0));
        assert_eq!(usage.finish, Finish::Stop);
        // 20 000 000 nanogram for 10^6 tokens.
        assert_eq!(receipt.receipt().amount, u128::from(tokens) * 20);
        let parsed = EmbeddingRequest::parse(request.as_bytes(), &Default::default()).unwrap();
        let sampling = Digest(Sha256::digest(parsed.canonical_bytes()).into());
        assert_eq!(receipt.receipt().model.sampling_hash, sampling);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn base64_is_the_same_numbers() {
    let rig = Rig::embedding(tiny(), "").await;
    let request = |format: &str| {
        json!({"model": MODEL, "input": "the dog", "encoding_format": format}).to_string()
    };
    let plain = body(&ask(&rig, 1, &request("float")).await);
    let coded = body(&ask(&rig, 2, &request("base64")).await);
    let plain: Vec<f32> = serde_json::from_value(plain["data"][0]["embedding"].clone()).unwrap();
    let mut bytes = Vec::new();
    plain.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    assert_eq!(coded["data"][0]["embedding"], json!(base64(&bytes)));
}

/// RFC 4648 §4, to look at the answer without the code that wrote it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n) & 63) as usize];
            out.push(if n > group.len() { '=' } else { letter.into() });
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_the_name_of_its_field_and_nothing_is_cut() {
    let rig = Rig::embedding(tiny(), "").await;
    let long = "a ".repeat(15);
    let fits = "a ".repeat(14);
    let cases = [
        (json!({"input": ["a", long]}), "context_length_exceeded", Some("input[1]")),
        (json!({"input": [fits, fits, fits]}), "context_length_exceeded", Some("input")),
        (json!({"input": [[5, 9999]]}), "invalid_value", Some("input[0]")),
        (json!({"input": [[2]]}), "invalid_value", Some("input[0]")),
        (json!({"input": ""}), "empty_value", Some("input")),
        (json!({"input": "a", "dimensions": 8}), "unsupported_parameter", Some("dimensions")),
        (json!({"input": "a", "seed": 1}), "unknown_parameter", Some("seed")),
    ];
    for (id, (request, code, param)) in (1..).zip(cases) {
        let mut request = request;
        request["model"] = MODEL.into();
        let (status, error) = error(&ask(&rig, id, &request.to_string()).await);
        assert_eq!((status, &error["code"], error["param"].as_str()), (400, &json!(code), param));
    }
    let other = json!({"model": "other", "input": "a"}).to_string();
    assert_eq!(error(&ask(&rig, 99, &other).await).0, 404);
    let fine = json!({"model": MODEL, "input": [fits, fits]}).to_string();
    assert_eq!(body(&ask(&rig, 100, &fine).await)["usage"]["prompt_tokens"], 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_in_the_making_say_so() {
    // About a second of work.
    let model = TinyBert { hidden: 64, layers: 8, ..TinyBert::default() };
    let embedder = embedder(&model.files(), embed_options(1)).unwrap();
    let bounds = Bounds { keep_alive: Duration::from_millis(2), ..Bounds::default() };
    let rig = Rig::embedding_within(bounds, embedder, "").await;
    let texts = vec!["the cat sat."; MAX_EMBEDDING_INPUTS];
    let frames = ask(&rig, 1, &json!({"model": MODEL, "input": texts}).to_string()).await;
    assert!(frames.iter().any(|frame| frame.kind == FrameKind::KeepAlive));
    assert_eq!(body(&frames)["data"].as_array().unwrap().len(), texts.len());
    assert_eq!(receipt(&frames).receipt().usage.finish, Finish::Stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_no_client_could_read_are_refused_before_they_are_computed() {
    // Room for two vectors of 32 numbers, and not for three.
    let bounds = Bounds { answer_bytes: 2400, ..Bounds::default() };
    let rig = Rig::embedding_within(bounds, tiny(), "").await;
    let request = |texts: &[&str]| json!({"model": MODEL, "input": texts}).to_string();
    let frames = ask(&rig, 1, &request(&["a", "b"])).await;
    assert_eq!(body(&frames)["data"].as_array().unwrap().len(), 2);
    // One error and no receipt: nothing was computed, and nothing is billed.
    let (status, refused) = error(&ask(&rig, 2, &request(&["a", "b", "c"])).await);
    let parts = (status, &refused["code"], &refused["param"]);
    assert_eq!(parts, (400, &json!("array_above_max_length"), &json!("input")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_that_fails_says_so_and_costs_nothing() {
    let mut files = TinyBert::default().files();
    let weights = &mut files.iter_mut().find(|(path, _)| path == "model.safetensors").unwrap().1;
    // The last table is that of token types, which every text adds.
    let at = weights.len() - 2 * TinyBert::default().hidden * size_of::<f32>();
    weights[at..at + size_of::<f32>()].copy_from_slice(&f32::NAN.to_le_bytes());
    let rig = Rig::embedding(embedder(&files, embed_options(1)).unwrap(), "").await;
    let frames = ask(&rig, 1, &json!({"model": MODEL, "input": "the cat"}).to_string()).await;
    let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [FrameKind::Error, FrameKind::Receipt]);
    assert!(text(&frames[..1]).contains("internal_error") && !text(&frames).contains("the cat"));
    let receipt = receipt(&frames);
    let usage = &receipt.receipt().usage;
    assert_eq!((usage.finish, usage.prompt, receipt.receipt().amount), (Finish::Failed, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_that_goes_away_pays_for_the_texts_that_were_computed_and_its_place_is_free() {
    let rig =
        Rig::embedding(embedder(&TinyBert::default().files(), embed_options(1)).unwrap(), "").await;
    let input = vec!["a"; MAX_EMBEDDING_INPUTS];
    let header = Header { path: PathId::Embeddings, max_tokens: 0, ..rig.header(1) };
    let (sealed, _) = rig.seal_with(&header, &json!({"model": MODEL, "input": input}).to_string());
    drop(rig.send(Method::POST, "/v1/sealed", sealed).await);
    eventually("the place is free", || rig.free() == rig.places()).await;
    let stored =
        rig.worker.receipts.get(&header.request_id).expect("what was taken on is provable");
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let amount: usize = stored["head"]["amount"].as_str().unwrap().parse().unwrap();
    // One token each and two around it, at 20 nanogram; how many were computed by then is chance.
    let each = 3 * 20;
    assert!(amount.is_multiple_of(each) && amount <= each * MAX_EMBEDDING_INPUTS, "{amount}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_paid_for_by_their_texts_and_nothing_more_stays_set_aside() {
    let rig = Rig::embedding(tiny(), &payment::section()).await;
    let header = Header { path: PathId::Embeddings, max_tokens: 0, ..rig.header(1) };
    let json = json!({"model": MODEL, "input": "the cat sat."}).to_string();
    let (sealed, opener) = rig.seal_with(&header, &json);
    let offer = payment::offer(&rig, &sealed, payment::PLENTY);
    let response = payment::post(&rig, Some(offer), sealed).await;
    assert_eq!(payment::amount(response, opener).await, 6 * 20);
    let payments = rig.worker.payments.as_ref().unwrap();
    assert_eq!(payments.standing(&payment::channel(&rig)), (6 * 20, 0));
    // What is refused inside the channel gives everything back.
    let header = Header { request_id: RequestId([2; 16]), ..header };
    let (sealed, _) = rig.seal_with(&header, &json.replace("the cat sat.", &"a ".repeat(99)));
    let offer = payment::offer(&rig, &sealed, payment::PLENTY);
    drop(payment::post(&rig, Some(offer), sealed).await.into_body().collect().await.unwrap());
    assert_eq!(payments.standing(&payment::channel(&rig)), (6 * 20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_asked_at_another_endpoint_says_where_it_is_served() {
    let vectors = Rig::embedding(tiny(), "").await;
    let (status, refused) = error(&ask_with(&vectors, &vectors.header(1), &chat("hi")).await);
    assert_eq!((status, &refused["code"]), (400, &json!("unsupported_endpoint")));
    assert!(refused["message"].as_str().unwrap().contains("/v1/embeddings"), "{refused}");
    let words = Rig::saying(&["Hello"]).await;
    let request = json!({"model": MODEL, "input": "hi"}).to_string();
    let (status, refused) = error(&ask(&words, 1, &request).await);
    assert_eq!((status, &refused["code"]), (400, &json!("unsupported_endpoint")));
    assert!(refused["message"].as_str().unwrap().contains("/v1/chat/completions"), "{refused}");
}
