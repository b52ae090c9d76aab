//! The OpenAI API on loopback, spoken to as an SDK would, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use chrysalis_client::{Exposure, Gateway, Keep, ReceiptStore, Transcript};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::bench::{Bench, STREAM, WHOLE};
use crate::fake::script::{Answer, Evidence};

/// A gateway in front of a fake worker.
struct Local {
    bench: Bench,
    address: SocketAddr,
    receipts: ReceiptStore,
    directory: TempDir,
    server: JoinHandle<()>,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: hyper::HeaderMap,
    body: String,
    /// Whether the body ended as HTTP says it should.
    whole: bool,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    /// The error in OpenAI's shape: `(type, param, code)`, with a message that names no prompt.
    fn error(&self) -> (String, Value, String) {
        let json = self.json();
        assert_eq!(self.header("content-type"), Some("application/json"));
        let error = json["error"].as_object().unwrap();
        assert_eq!(error.len(), 4, "{error:?}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert!(!self.body.contains("canary"), "{}", self.body);
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        (text("type"), error["param"].clone(), text("code"))
    }

    /// The `data:` lines of an event stream.
    fn events(&self) -> Vec<&str> {
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        self.body.split_terminator("\n\n").map(|e| e.strip_prefix("data: ").unwrap()).collect()
    }
}

impl Local {
    async fn start() -> Self {
        Self::keeping(Keep::Receipt).await
    }

    async fn keeping(keep: Keep) -> Self {
        let bench = Bench::start().await;
        let directory = TempDir::new().unwrap();
        let receipts = ReceiptStore::open(directory.path().join("receipts")).unwrap();
        let gateway =
            Gateway::new(bench.attested().await, receipts.clone(), Exposure::LoopbackOnly, keep);
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Gateway::bind(any, Exposure::LoopbackOnly).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            gateway.serve(listener, std::future::pending()).await;
        });
        Self { bench, address, receipts, directory, server }
    }

    async fn with_answers(script: Answer) -> Self {
        let local = Self::start().await;
        local.bench.worker.answers(script);
        local
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    async fn call(&self, request: Request<Full<Bytes>>) -> Reply {
        let response = self.send(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let (mut body, mut whole) = (Vec::new(), true);
        let mut incoming = response.into_body();
        while let Some(frame) = incoming.frame().await {
            match frame {
                Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap()),
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        Reply { status, headers, body: String::from_utf8(body).unwrap(), whole }
    }

    fn request(&self, method: Method, path: &str, json: &str) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, "Bearer canary-key")
            .body(Full::new(Bytes::copy_from_slice(json.as_bytes())))
            .unwrap()
    }

    async fn get(&self, path: &str) -> Reply {
        self.call(self.request(Method::GET, path, "")).await
    }

    async fn post(&self, path: &str, json: &str) -> Reply {
        self.call(self.request(Method::POST, path, json)).await
    }

    async fn chat(&self, json: &str) -> Reply {
        self.post("/v1/chat/completions", json).await
    }
}

#[tokio::test]
async fn lists_the_model_of_the_attested_worker() {
    let local = Local::start().await;
    let reply = local.get("/v1/models").await;
    assert_eq!(reply.json()["object"], "list");
    assert_eq!(reply.json()["data"][0]["id"], "fake-model");
    let reply = local.get("/v1/models/fake-model").await;
    assert_eq!((reply.status, &reply.json()["object"]), (StatusCode::OK, &"model".into()));
}

#[tokio::test]
async fn another_model_is_not_found() {
    let local = Local::start().await;
    let reply = local.get("/v1/models/other").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.error().2, "model_not_found");
    let reply = local.chat(&WHOLE.replace("fake-model", "other")).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.error().1, "model");
}

#[tokio::test]
async fn says_what_it_stands_in_front_of() {
    let local = Local::start().await;
    let health = local.get("/healthz").await.json();
    assert_eq!(health["ok"], true);
    assert_eq!(health["accepted"], true);
    assert_eq!(health["insecure_sim"], true);
    assert_eq!(health["policy"]["pins_sha256"].as_str().unwrap().len(), 64);
    assert!(health["policy"]["refused"].is_null());
}

#[tokio::test]
async fn answers_a_chat_and_keeps_its_receipt() {
    let local = Local::start().await;
    let reply = local.chat(WHOLE).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.json()["object"], "chat.completion");
    assert_eq!(reply.header("x-chrysalis-platform"), Some("INSECURE-SIM"));
    let id = reply.header("x-chrysalis-receipt-id").unwrap().to_owned();
    assert_eq!(reply.header("x-request-id"), Some(&*id));
    let receipt = local.get(&format!("/v1/receipts/{id}")).await;
    assert_eq!(receipt.json()["schema"], "chrysalis/stored-receipt/v1");
    assert!(local.receipts.load(id.parse().unwrap()).is_ok());
}

#[tokio::test]
async fn answers_text_completions() {
    let local = Local::start().await;
    let json = r#"{"model":"fake-model","prompt":"canary","max_tokens":3}"#;
    let reply = local.post("/v1/completions", json).await;
    assert_eq!(reply.json()["choices"][0]["text"], "0-wörd 1-wörd 2-wörd");
}

#[tokio::test]
async fn streams_a_chat_and_says_done_only_after_its_receipt() {
    let local = Local::start().await;
    let reply = local.chat(STREAM).await;
    let events = reply.events();
    assert!(reply.whole);
    assert_eq!(events.last(), Some(&"[DONE]"));
    let usage: Value = serde_json::from_str(events[events.len() - 2]).unwrap();
    assert_eq!(usage["usage"]["completion_tokens"], 12);
    let id = reply.header("x-chrysalis-receipt-id").unwrap();
    assert!(local.receipts.load(id.parse().unwrap()).is_ok());
}

#[tokio::test]
async fn refuses_an_unknown_field_by_name_before_anything_is_sealed() {
    let local = Local::start().await;
    let reply = local.chat(&WHOLE.replace("\"max_tokens\"", "\"frobnicate\"")).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let (kind, param, code) = reply.error();
    assert_eq!((&*kind, &*code), ("invalid_request_error", "unknown_parameter"));
    assert_eq!(param, "frobnicate");
    assert_eq!(local.bench.worker.requests(), 0);
}

#[tokio::test]
async fn refuses_a_body_over_its_limit() {
    let local = Local::start().await;
    let reply = local.chat(&"x".repeat(262_145)).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    reply.error();
    let limit = chrysalis_client::limits::MAX_GATEWAY_REQUEST_BYTES;
    let reply = local.chat(&"x".repeat(limit + 1)).await;
    assert_eq!(
        (reply.status, &*reply.error().2),
        (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large")
    );
}

/// A stream that breaks: an error event with this code, no `[DONE]`, a broken body, no receipt.
async fn breaks(script: Answer, code: &str) {
    let local = Local::with_answers(script).await;
    let reply = local.chat(STREAM).await;
    let events = reply.events();
    assert!(!reply.whole, "the body ends as if it were complete");
    assert!(!events.contains(&"[DONE]"));
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], code, "{last}");
    assert!(!events.last().unwrap().contains("canary"));
    assert!(local.receipts.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_without_its_final_frame_ends_in_an_error_event() {
    breaks(Answer::EndsEarly, "E-TRUNCATED").await;
}

#[tokio::test]
async fn a_stream_of_a_worker_killed_midway_ends_in_an_error_event() {
    breaks(Answer::Killed, "E-TRUNCATED").await;
}

#[tokio::test]
async fn a_stream_whose_receipt_does_not_hold_ends_in_an_error_event() {
    breaks(Answer::BadSignature, "E-RECEIPT").await;
}

#[tokio::test]
async fn a_stream_with_a_forged_event_ends_in_an_error_event() {
    breaks(Answer::LineBreak, "E-FRAME-ORDER").await;
}

#[tokio::test]
async fn a_stream_that_stalls_ends_in_an_error_event() {
    breaks(Answer::Stalls, "E-TIMEOUT").await;
}

#[tokio::test]
async fn an_engine_that_fails_midway_ends_the_stream_and_its_receipt_is_kept() {
    let local = Local::with_answers(Answer::FailsMidway).await;
    let reply = local.chat(STREAM).await;
    let events = reply.events();
    assert!(!reply.whole && !events.contains(&"[DONE]"));
    assert!(events.last().unwrap().contains("internal_error"));
    assert_eq!(local.receipts.list().unwrap().len(), 1);
}

/// An answer that is not streamed and cannot be shown: this status and code, and no text of it.
async fn withheld(script: Answer, status: StatusCode, code: &str) -> Reply {
    let local = Local::with_answers(script).await;
    let reply = local.chat(WHOLE).await;
    assert_eq!((reply.status, &*reply.error().2), (status, code));
    assert!(!reply.body.contains("wörd"));
    reply
}

#[tokio::test]
async fn an_answer_without_its_final_frame_is_withheld() {
    withheld(Answer::EndsEarly, StatusCode::BAD_GATEWAY, "E-TRUNCATED").await;
}

#[tokio::test]
async fn an_answer_whose_receipt_does_not_hold_is_withheld_and_not_retried() {
    let reply = withheld(Answer::OtherModel, StatusCode::BAD_GATEWAY, "E-RECEIPT").await;
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

/// SDKs repeat every 5xx twice by default, which would cost three times as much for nothing.
#[tokio::test]
async fn an_answer_that_failed_and_cost_something_is_not_retried() {
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    let reply = withheld(Answer::FailsMidway, failed, "internal_error").await;
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn an_answer_that_ran_out_of_time_is_not_retried_and_its_requester_is_not_told_to_wait() {
    let reply = withheld(Answer::OutOfTime, StatusCode::GATEWAY_TIMEOUT, "timeout").await;
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!(reply.headers.get(RETRY_AFTER), None);
}

#[tokio::test]
async fn a_refusal_inside_the_channel_keeps_its_status() {
    let reply =
        withheld(Answer::RefusedInside, StatusCode::UNPROCESSABLE_ENTITY, "E-CANARY-REFUSED").await;
    assert!(reply.header("x-chrysalis-receipt-id").is_some());
    let local = Local::with_answers(Answer::RefusedInside).await;
    assert_eq!(local.chat(STREAM).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_busy_worker_is_429_with_the_time_to_wait() {
    let reply = withheld(Answer::Busy, StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded").await;
    assert_eq!(reply.headers.get(RETRY_AFTER).unwrap(), "7");
    assert_eq!(reply.header("x-should-retry"), None);
}

#[tokio::test]
async fn a_request_that_finds_no_place_inside_the_channel_is_told_to_wait_as_well() {
    for json in [WHOLE, STREAM] {
        let local = Local::with_answers(Answer::BusyInside).await;
        let reply = local.chat(json).await;
        let told = (reply.status, &*reply.error().2);
        assert_eq!(told, (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"));
        assert_eq!(reply.headers.get(RETRY_AFTER).unwrap(), "1");
        assert_eq!(reply.header("x-should-retry"), None);
    }
    // Only what may find a place later.
    let other = Local::with_answers(Answer::RefusedInside).await.chat(WHOLE).await;
    assert_eq!(other.headers.get(RETRY_AFTER), None);
}

#[tokio::test]
async fn a_stream_that_the_worker_is_at_work_on_begins_before_its_first_event() {
    let json = r#"{"model":"fake-model","stream":true,"prompt":"canary","max_tokens":3}"#;
    let local = Local::with_answers(Answer::AtWork).await;
    let reply = local.post("/v1/completions", json).await;
    assert_eq!(reply.status, StatusCode::OK, "its head left while there was no event yet");
    assert!(!reply.whole);
    let [event] = reply.events()[..] else { panic!("{}", reply.body) };
    assert!(event.contains("E-TIMEOUT"), "{event}");
    // An answer in one piece has no way to say so, and keeps a status of its own.
    withheld(Answer::AtWork, StatusCode::GATEWAY_TIMEOUT, "E-TIMEOUT").await;
}

#[tokio::test]
async fn a_worker_that_is_refused_is_not_retried() {
    let local = Local::start().await;
    local.bench.clock.advance(5000);
    local.bench.worker.state.rotate();
    local.bench.worker.evidence(Evidence::Replayed);
    let reply = local.chat(WHOLE).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    let (kind, _, code) = reply.error();
    assert_eq!((&*kind, &*code), ("refused_error", "E-REPORT-DATA"));
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn an_answer_whose_receipt_cannot_be_kept_is_withheld() {
    let local = Local::start().await;
    std::fs::remove_dir_all(local.directory.path().join("receipts")).unwrap();
    let reply = local.chat(WHOLE).await;
    assert_eq!((reply.status, &*reply.error().2), (StatusCode::INTERNAL_SERVER_ERROR, "E-STORE"));
}

/// The local requester goes away while the worker answers.
async fn requester_leaves(json: &str) {
    let local = Local::with_answers(Answer::Stalls).await;
    let stream = TcpStream::connect(local.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = local.request(Method::POST, "/v1/chat/completions", json);
    let pending = tokio::spawn(async move { sender.send_request(request).await });
    while local.bench.worker.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    pending.abort();
    connection.abort();
    // Well before the client itself would give up on a silent worker.
    tokio::time::timeout(Duration::from_millis(1500), local.bench.worker.wait_for_cancelled(1))
        .await
        .expect("the worker goes on for nobody");
    local.bench.worker.answers(Answer::Good);
    assert_eq!(local.chat(WHOLE).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_requester_that_leaves_a_stream_stops_the_worker() {
    requester_leaves(STREAM).await;
}

#[tokio::test]
async fn a_requester_that_leaves_before_the_answer_stops_the_worker() {
    requester_leaves(WHOLE).await;
}

#[tokio::test]
async fn refuses_web_pages() {
    let local = Local::start().await;
    let mut request = local.request(Method::POST, "/v1/chat/completions", WHOLE);
    request.headers_mut().insert(ORIGIN, "https://evil.example".parse().unwrap());
    let reply = local.call(request).await;
    assert_eq!((reply.status, &*reply.error().2), (StatusCode::FORBIDDEN, "E-BROWSER"));
    assert_eq!(local.bench.worker.requests(), 0);
}

#[tokio::test]
async fn refuses_what_a_page_makes_a_browser_fetch_without_an_origin() {
    let local = Local::start().await;
    for (site, status) in [
        ("cross-site", StatusCode::FORBIDDEN),
        ("same-site", StatusCode::FORBIDDEN),
        ("same-origin", StatusCode::FORBIDDEN),
        ("none", StatusCode::OK),
    ] {
        let mut request = local.request(Method::GET, "/healthz", "");
        request.headers_mut().insert("sec-fetch-site", site.parse().unwrap());
        assert_eq!(local.call(request).await.status, status, "{site}");
    }
}

#[tokio::test]
async fn refuses_a_request_that_names_another_host_besides() {
    let local = Local::start().await;
    let mut request = local.request(Method::GET, "/healthz", "");
    request.headers_mut().append(HOST, "evil.example".parse().unwrap());
    assert_eq!(local.call(request).await.status, StatusCode::MISDIRECTED_REQUEST);
    let request = local.request(Method::GET, "http://evil.example/healthz", "");
    assert_eq!(local.call(request).await.status, StatusCode::MISDIRECTED_REQUEST);
    let request = local.request(Method::GET, "http://localhost/healthz", "");
    assert_eq!(local.call(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn keeps_the_words_only_where_it_is_told_to() {
    let local = Local::start().await;
    local.chat(WHOLE).await;
    let files = || std::fs::read_dir(local.directory.path().join("receipts")).unwrap();
    assert_eq!(files().count(), 1);
    for json in [WHOLE, STREAM] {
        let local = Local::keeping(Keep::Words).await;
        let reply = local.chat(json).await;
        let id = reply.header("x-chrysalis-receipt-id").unwrap().parse().unwrap();
        let kept = std::fs::read(local.receipts.transcript_path(id)).unwrap();
        let kept = Transcript::parse(&kept).unwrap();
        assert_eq!(kept.request(), json.as_bytes());
        assert_eq!(*kept.response(), *chrysalis_client::payloads_of(reply.body.as_bytes()));
        // The words are no receipt, and the API does not hand them out.
        assert_eq!(local.receipts.list().unwrap(), [id]);
        let reply = local.get(&format!("/v1/receipts/{id}.transcript")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_complete_leaves_no_words() {
    let local = Local::keeping(Keep::Words).await;
    local.bench.worker.answers(Answer::EndsEarly);
    local.chat(STREAM).await;
    assert_eq!(std::fs::read_dir(local.directory.path().join("receipts")).unwrap().count(), 0);
}

#[tokio::test]
async fn refuses_a_name_that_was_rebound_to_loopback() {
    let local = Local::start().await;
    let mut request = local.request(Method::GET, "/v1/models", "");
    request.headers_mut().insert(HOST, "evil.example".parse().unwrap());
    let reply = local.call(request).await;
    assert_eq!((reply.status, &*reply.error().2), (StatusCode::MISDIRECTED_REQUEST, "E-HOST"));
}

#[tokio::test]
async fn a_receipt_id_cannot_leave_the_directory() {
    let local = Local::start().await;
    std::fs::write(local.directory.path().join("secret.json"), b"canary").unwrap();
    for id in ["..%2Fsecret", "%2e%2e%2fsecret", "../secret", "xx", &"A".repeat(32)] {
        let reply = local.get(&format!("/v1/receipts/{id}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{id}");
        reply.error();
    }
    let unknown = local.get(&format!("/v1/receipts/{}", "0".repeat(32))).await;
    assert_eq!((unknown.status, &*unknown.error().2), (StatusCode::NOT_FOUND, "E-NO-RECEIPT"));
}

#[tokio::test]
async fn other_routes_and_methods_are_errors_in_the_same_shape() {
    let local = Local::start().await;
    let reply = local.post("/v1/images/generations", "{}").await;
    assert_eq!((reply.status, &*reply.error().2), (StatusCode::NOT_FOUND, "not_found"));
    assert_eq!(local.get("/v1/receipts").await.status, StatusCode::NOT_FOUND);
    let reply = local.get("/v1/chat/completions").await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.error().2, "method_not_allowed");
}
