//! Sealed requests: what is answered, how an answer ends, and what the carrier learns.

use std::sync::Arc;
use std::time::Duration;

use chrysalis_channel::{FrameKind, Header};
use chrysalis_engine::testing::TinyModel;
use chrysalis_engine::{Engine, EngineError, GenerateRequest, Generation, ModelInfo};
use chrysalis_receipt::Finish;
use chrysalis_wire::{Digest, NetworkId, UnixMillis};
use chrysalis_worker::limits::Bounds;
use http_body_util::BodyExt;
use hyper::Method;

use crate::rig::{MODEL, NOW, Rig, chat, code, engine, receipt, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_with_a_receipt_that_its_requester_alone_can_open() {
    let rig = Rig::saying(&["Hello", " there"]).await;
    let frames = rig.ask(1, &chat("hi")).await;
    assert!(frames[..frames.len() - 1].iter().all(|f| !f.last && f.kind == FrameKind::Chunk));
    assert!(text(&frames).contains(" there"), "{}", text(&frames));
    assert_eq!(frames.last().unwrap().kind, FrameKind::Receipt);
    let signed = receipt(&frames);
    assert_eq!(signed.receipt().usage.finish, Finish::Stop);
    // What the host can fetch afterwards has no salt and no blind.
    let path = format!("/v1/receipts/{}", "01".repeat(16));
    let public = rig.send(Method::GET, &path, Vec::new()).await;
    let public = public.into_body().collect().await.unwrap().to_bytes();
    let public = String::from_utf8(public.to_vec()).unwrap();
    let whole = String::from_utf8(frames.last().unwrap().payload.expose().to_vec()).unwrap();
    assert!(whole.contains("blind") && !public.contains("blind"), "{public}");
    assert!(!public.contains(&"05".repeat(32)), "the salt of the request");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_streamed_is_one_body_and_the_receipt() {
    let rig = Rig::saying(&["Hello", " there"]).await;
    let frames = rig.ask(1, &chat("hi").replace("true", "false")).await;
    let kinds: Vec<_> = frames.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [FrameKind::Body, FrameKind::Receipt]);
    assert!(text(&frames[..1]).contains("Hello there"));
}

/// Says nothing for a while, as an engine does that has others to serve first.
struct Silent(Arc<dyn Engine>, Duration);

impl Engine for Silent {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        let mut generation = self.0.generate(request)?;
        let (forward, events) = tokio::sync::mpsc::channel(64);
        let (mut said, silence) = (std::mem::replace(&mut generation.events, events), self.1);
        tokio::spawn(async move {
            tokio::time::sleep(silence).await;
            while let Some(event) = said.recv().await {
                drop(forward.send(event).await);
            }
        });
        Ok(generation)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_the_making_says_so_and_its_receipt_is_about_the_answer_alone() {
    let keep_alive = Duration::from_millis(50);
    let inner = engine(&TinyModel::scripted(&["Hello", " there"]));
    let bounds = Bounds { keep_alive, ..Bounds::default() };
    let rig = Rig::start(bounds, Some(Arc::new(Silent(inner, 10 * keep_alive)))).await;
    let (plain, quick) =
        (chat("hi").replace("true", "false"), Rig::saying(&["Hello", " there"]).await);
    for (id, json) in [(1, plain), (2, chat("hi"))] {
        let (silent, content): (Vec<_>, Vec<_>) =
            rig.ask(id, &json).await.into_iter().partition(|f| f.kind == FrameKind::KeepAlive);
        assert!((2..=10).contains(&silent.len()), "{}", silent.len());
        let expected = quick.ask(id, &json).await;
        assert_eq!(receipt(&content).receipt().io, receipt(&expected).receipt().io);
    }
}

/// Cancels every request as soon as its turn has come: one that only waited is billed as one that failed.
struct Cancelling(Arc<dyn Engine>);

impl Engine for Cancelling {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        let generation = self.0.generate(request)?;
        while generation.control.usage().prompt == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        generation.control.cancel();
        Ok(generation)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_the_engine_cancelled_is_not_presented_as_complete() {
    let inner = engine(&TinyModel::endless(&["ab", "cd"]).context(4096));
    let rig = Rig::start(Bounds::default(), Some(Arc::new(Cancelling(inner)))).await;
    for (id, json) in [(1, chat("hi")), (2, chat("hi").replace("true", "false"))] {
        let frames = rig.ask(id, &json).await;
        let content = text(&frames[..frames.len() - 1]);
        assert!(!content.contains(r#""finish_reason":"length""#), "{content}");
        assert!(!content.contains(r#""finish_reason":"stop""#), "{content}");
        assert_eq!(receipt(&frames).receipt().usage.finish, Finish::Aborted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_midway_gives_an_error_and_then_the_receipt() {
    let rig =
        Rig::start(Bounds::default(), Some(engine(&TinyModel::random(1).poisoned(b'!')))).await;
    let frames = rig.ask(1, &chat("boom!")).await;
    let kinds: Vec<_> = frames.iter().map(|f| f.kind).collect();
    assert!(kinds.ends_with(&[FrameKind::Error, FrameKind::Receipt]), "{kinds:?}");
    assert!(text(&frames).contains("internal_error"));
    assert_eq!(receipt(&frames).receipt().usage.finish, Finish::Failed);
    assert_eq!(rig.ask(2, &chat("fine")).await.last().unwrap().kind, FrameKind::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_more_tokens_than_the_header_pays_for() {
    let rig = Rig::saying(&["ok"]).await;
    let header = Header { max_tokens: 5, ..rig.header(1) };
    let json = chat("hi").replace("\"stream\"", "\"max_tokens\":6,\"stream\"");
    let (sealed, mut opener) = rig.seal_with(&header, &json);
    let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let frames = opener.push(&bytes).unwrap();
    assert_eq!((frames.len(), frames[0].kind), (1, FrameKind::Error));
    assert!(text(&frames).contains("max_tokens_exceeded"), "{}", text(&frames));
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_at_the_tokens_the_header_pays_for_when_the_request_names_none() {
    let rig = Rig::start(Bounds::default(), Some(engine(&TinyModel::endless(&["ab", "cd"])))).await;
    let header = Header { max_tokens: 3, ..rig.header(1) };
    let (sealed, mut opener) = rig.seal_with(&header, &chat("hi"));
    let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let frames = opener.push(&bytes).unwrap();
    assert_eq!(receipt(&frames).receipt().usage.completion, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_reused_and_billed_as_such_for_who_knows_the_key_and_nobody_else() {
    let model = TinyModel::endless(&["ab", "cd"]).context(4096);
    let rig = Rig::start(Bounds::default(), Some(engine(&model))).await;
    let prompt = "what was said before ".repeat(10);
    let json = chat(&prompt).replace("\"stream\"", "\"max_tokens\":4,\"stream\"");
    let keyed = |key: char| {
        let key = format!("\"prompt_cache_key\":\"{}\",\"stream\"", key.to_string().repeat(32));
        json.replace("\"stream\"", &key)
    };
    let mut seen = Vec::new();
    for (id, json) in
        (1..).zip([keyed('a'), keyed('a'), keyed('b'), json.clone(), json.clone(), keyed('a')])
    {
        let signed = receipt(&rig.ask(id, &json).await);
        let usage = &signed.receipt().usage;
        assert_eq!(usage.completion, 4);
        seen.push(usage.cached);
    }
    let cached = seen[1];
    assert!(cached >= 192, "six pages of 32 tokens: {cached}");
    assert_eq!(seen, [0, cached, 0, 0, 0, cached]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_evidence_it_did_not_produce() {
    let rig = Rig::saying(&["ok"]).await;
    let inner = chrysalis_wire::InnerRequest {
        salt: [5; 32],
        evidence: vec![Digest([8; 32])],
        json: chat("hi").as_bytes(),
    }
    .encode();
    let keyset = rig.worker.session.keyset(NOW.seconds());
    let key = keyset.seal_key(chrysalis_wire::KeyRole::Worker, NOW.seconds()).unwrap();
    let mut random = chrysalis_channel::OsRandom;
    let (sealed, mut opener) =
        chrysalis_channel::seal_request(&rig.header(1), &[key], inner.expose(), &mut random)
            .unwrap();
    let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(text(&opener.push(&bytes).unwrap()).contains("E-EVIDENCE-UNKNOWN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_replayed_changed_and_misdirected_requests_by_code_and_keeps_serving() {
    let rig = Rig::saying(&["ok"]).await;
    let post = |body| rig.send(Method::POST, "/v1/sealed", body);
    let (sealed, _) = rig.seal(1, &chat("hi"));
    post(sealed.clone()).await.into_body().collect().await.unwrap();
    assert_eq!(code(post(sealed.clone()).await).await, (400, "E-SEAL-REPLAY".to_owned()));

    let (mut changed, _) = rig.seal(2, &chat("hi"));
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let (_, refused) = code(post(changed).await).await;
    let (mut cut, _) = rig.seal(3, &chat("hi"));
    cut.pop();
    assert_ne!(code(post(cut).await).await.1, "E-SEAL-REPLAY");
    assert_eq!(refused, "E-SEAL-REFUSED");

    let mut seen = Vec::new();
    for header in [
        Header { network: NetworkId(-239), ..rig.header(4) },
        Header { model_root: Digest([1; 32]), ..rig.header(4) },
        Header { policy_digest: Digest([1; 32]), ..rig.header(4) },
        Header { time: UnixMillis(NOW.0 - 301_000), ..rig.header(4) },
        Header { time: UnixMillis(NOW.0 + 301_000), ..rig.header(4) },
    ] {
        let (sealed, _) = rig.seal_with(&header, &chat("hi"));
        let (status, code) = code(post(sealed).await).await;
        assert_eq!(status, 400);
        seen.push(code);
    }
    assert!(seen.iter().all(|c| c.starts_with("E-SEAL-") && c != "E-SEAL-REFUSED"), "{seen:?}");
    assert!(text(&rig.ask(5, &chat("hi")).await).contains("ok"));
}

/// The canary is where a careless message would quote it.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_request_reaches_an_error_a_header_or_the_console() {
    let rig = Rig::saying(&["ok"]).await;
    let canary = "canary-7319-quartz";
    let good = chat("hi");
    for (id, json) in (1..).zip([
        good.replace(MODEL, canary),
        good.replace("\"stream\"", &format!("\"{canary} !\":1,\"stream\"")),
        good.replace("\"temperature\":0", &format!("\"temperature\":\"{canary}\"")),
        good.replace("\"user\"", &format!("\"{canary}\"")),
        format!("{canary}{good}"),
        good.replace("}]}", &format!("}}], \"stop\":[\"{canary}{}\"]}}", "x".repeat(64))),
        good.replace("\"stream\"", "\"max_tokens\":9999,\"stream\"").replace("hi", canary),
        good.replace("hi", &format!("{canary} {}", "long ".repeat(5000))),
    ]) {
        let (sealed, mut opener) = rig.seal(id, &json);
        let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
        assert_eq!(response.status(), 200, "case {id}");
        assert!(!format!("{:?}", response.headers()).contains(canary));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let frames = opener.push(&bytes).unwrap();
        assert_eq!((frames.len(), frames[0].kind), (1, FrameKind::Error), "case {id}");
        assert!(!text(&frames).contains(canary), "case {id}: {}", text(&frames));
    }
    assert!(!rig.console().is_empty() && !rig.console().contains(canary));
}
