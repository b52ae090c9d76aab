//! Requests that wait: how many, in which order, and how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrysalis_channel::{Frame, FrameKind, ResponseOpener};
use chrysalis_engine::testing::TinyModel;
use chrysalis_engine::{Engine, EngineOptions, PREFILL_CHUNK_TOKENS};
use chrysalis_receipt::{Finish, PublicReceipt};
use chrysalis_wire::RequestId;
use chrysalis_wire::inner::decode_error;
use chrysalis_wire::manifest::WAITING_SECONDS;
use chrysalis_worker::limits::Bounds;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use tokio::time::timeout;

use crate::bounds::{LONG, talkative};
use crate::payment;
use crate::rig::{Rig, chat, code, engine_with, eventually, receipt, text};

/// An engine that computes one request at a time, by this clock.
fn narrow(clock: fn() -> Instant) -> Arc<dyn Engine> {
    let options = EngineOptions { max_concurrent: 1, clock, ..EngineOptions::new(|| 1) };
    engine_with(&talkative(), options)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_behind_those_that_are_computed_waits_and_one_without_a_place_is_told_to() {
    let bounds = Bounds { waiting: 1, ..Bounds::default() };
    let rig = Rig::start(bounds, Some(narrow(Instant::now))).await;
    let (first, _) = rig.seal(1, &chat("talk"));
    let held = rig.send(Method::POST, "/v1/sealed", first).await;
    assert_eq!(held.status(), 200);
    // Nobody reads the first, so its place stays taken.
    let (second, mut opener) = rig.seal(2, &chat("talk"));
    let mut waits = rig.send(Method::POST, "/v1/sealed", second).await;
    assert_eq!((waits.status(), rig.free()), (StatusCode::OK, 0));
    let (third, _) = rig.seal(3, &chat("talk"));
    let refused = rig.send(Method::POST, "/v1/sealed", third.clone()).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(code(refused).await, (429, "E-BUSY".to_owned()));
    // The first requester goes away.
    drop(held);
    timeout(LONG, text_begins(&mut waits, &mut opener)).await.expect("its turn came");
    drop(waits);
    eventually("the places are free", || rig.free() == rig.places()).await;
    let served = rig.send(Method::POST, "/v1/sealed", third).await;
    assert_eq!(served.status(), 200, "a request that found no place may be sent again as it is");
}

/// The amount of a stored receipt, once it is there.
async fn amount(rig: &Rig, id: u8) -> u128 {
    let stored = || rig.worker.receipts.get(&RequestId([id; 16]));
    eventually("a receipt is stored", || stored().is_some()).await;
    PublicReceipt::from_json(&stored().unwrap()).unwrap().amount()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_waiting_pays_nothing_and_who_leaves_later_pays_the_prompt() {
    let rig = Rig::paid_with(narrow(Instant::now), &payment::section()).await;
    let standing = || rig.worker.payments.as_ref().unwrap().standing(&payment::channel(&rig));
    let (mut held, mut opener) = paid(&rig, 1, "talk").await;
    timeout(LONG, text_begins(&mut held, &mut opener)).await.unwrap();
    let before = standing();
    drop(paid(&rig, 2, "talk").await);
    assert_eq!(amount(&rig, 2).await, 0, "nothing of it was computed");
    assert_eq!(standing(), before, "what was set aside for it is given back");
    drop(held);
    let cost = amount(&rig, 1).await;
    assert!(cost > 0);
    assert_eq!(standing(), (cost, 0));
}

/// Sends a request that is paid for.
async fn paid(rig: &Rig, id: u8, prompt: &str) -> (Response<Incoming>, ResponseOpener) {
    let (sealed, opener) = rig.seal(id, &chat(prompt));
    let offer = payment::offer(rig, &sealed, payment::PLENTY);
    (payment::post(rig, Some(offer), sealed).await, opener)
}

/// Steps that the engine of [`who_leaves_while_the_prompt_is_computed_pays_as_far_as_it_was`] came to, and
/// whether it may compute the second.
static READS: AtomicU64 = AtomicU64::new(0);
static GOES_ON: AtomicBool = AtomicBool::new(false);

fn stops_after_a_step() -> Instant {
    let (begun, step) = (Instant::now(), READS.fetch_add(1, Ordering::SeqCst));
    // It is read once when the engine starts, then before each step.
    while step == 2 && !GOES_ON.load(Ordering::SeqCst) && begun.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(5));
    }
    Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_the_prompt_is_computed_pays_as_far_as_it_was() {
    let rig = Rig::paid_with(narrow(stops_after_a_step), &payment::section()).await;
    let (held, _) = paid(&rig, 1, &"hi ".repeat(100)).await;
    eventually("a step was computed", || READS.load(Ordering::SeqCst) == 3).await;
    drop(held);
    let amount = amount(&rig, 1).await;
    GOES_ON.store(true, Ordering::SeqCst);
    let prices = rig.worker.manifest.prices;
    let computed = u64::try_from(PREFILL_CHUNK_TOKENS).unwrap();
    assert_eq!(amount, u128::from(computed * prices.prompt / 1_000_000));
    let payments = rig.worker.payments.as_ref().unwrap();
    assert_eq!(payments.standing(&payment::channel(&rig)), (amount, 0));
}

/// Reads until the answer says something.
async fn text_begins(response: &mut Response<Incoming>, opener: &mut ResponseOpener) {
    while let Some(piece) = response.body_mut().frame().await {
        let frames = opener.push(&piece.unwrap().into_data().unwrap()).unwrap();
        if text(&frames).contains("aaa") || text(&frames).contains("bbb") {
            return;
        }
    }
    panic!("the answer ended without a word");
}

/// Whether the engine of [`the_lower_priority_of_one_cache_key_goes_first`] may begin.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// The time, once the test has sent what is to be ordered.
fn held_back() -> Instant {
    while !BEGUN.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(5));
    }
    Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lower_priority_of_one_cache_key_goes_first() {
    let rig = Rig::start(Bounds::default(), Some(narrow(held_back))).await;
    let keyed = |priority: i32| {
        let more = format!(r#"{{"prompt_cache_key":"{}","priority":{priority},"#, "k".repeat(32));
        chat("talk").replacen('{', &more, 1)
    };
    let mut answers = Vec::new();
    for (id, priority) in [(1, 0), (2, 0), (3, -1)] {
        let (sealed, opener) = rig.seal(id, &keyed(priority));
        answers.push((rig.send(Method::POST, "/v1/sealed", sealed).await, opener));
    }
    assert_eq!(rig.places() - rig.free(), 3);
    BEGUN.store(true, Ordering::SeqCst);
    let [_, late, early] = &mut answers[..] else { panic!("three answers") };
    // The other one begins when this one has ended, thousands of tokens later.
    timeout(LONG, async {
        tokio::select! {
            () = text_begins(&mut early.0, &mut early.1) => {}
            () = text_begins(&mut late.0, &mut late.1) => panic!("the later number went first"),
        }
    })
    .await
    .unwrap();
}

/// Longest a request may wait for its turn.
const WAITING: Duration = Duration::from_secs(WAITING_SECONDS);
/// The longest of the rig's manifest: half an hour, 4000 tokens and a tenth of 4096.
const LONGEST: Duration = Duration::from_secs(1800 + 4000 + 409);

/// The time after the first step: what begins in it is computed by `later` from then on. `steps` counts them.
fn jumps(steps: &AtomicU64, later: Duration) -> Instant {
    // The engine reads it once when it starts, then before each step.
    let begins = steps.fetch_add(1, Ordering::SeqCst) < 2;
    Instant::now() + if begins { Duration::ZERO } else { later }
}

fn jumps_to_its_end() -> Instant {
    static STEPS: AtomicU64 = AtomicU64::new(0);
    jumps(&STEPS, LONGEST)
}

fn jumps_before_its_end() -> Instant {
    static STEPS: AtomicU64 = AtomicU64::new(0);
    jumps(&STEPS, LONGEST - LONG)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_given_up_that_does_not_begin_in_time_and_one_that_began_has_its_own_time() {
    type Clock = fn() -> Instant;
    let clocks: [(Clock, Option<&str>); 4] = [
        (|| Instant::now() + WAITING - LONG, None),
        (|| Instant::now() + WAITING, Some("rate_limit_exceeded")),
        (jumps_before_its_end, None),
        (jumps_to_its_end, Some("timeout")),
    ];
    for (clock, refused) in clocks {
        let options = EngineOptions { clock, ..EngineOptions::new(|| 1) };
        let model = TinyModel::scripted(&["Hello"]).context(4096);
        let rig = Rig::paid_with(engine_with(&model, options), &payment::section()).await;
        // Its prompt takes more than a step.
        let (response, opener) = paid(&rig, 1, &"hi ".repeat(100)).await;
        let frames = read(response, opener).await;
        assert_eq!(text(&frames).contains("Hello"), refused.is_none());
        assert!(refused.is_none_or(|code| text(&frames).contains(code)), "{refused:?}");
        let receipt = receipt(&frames);
        let (usage, amount) = (&receipt.receipt().usage, receipt.receipt().amount);
        assert_eq!(usage.finish == Finish::Failed, refused.is_some());
        assert_eq!(amount == 0, refused.is_some(), "nobody pays for an answer that never came");
        let payments = rig.worker.payments.as_ref().unwrap();
        assert_eq!(payments.standing(&payment::channel(&rig)), (amount, 0));
    }
}

async fn read(response: Response<Incoming>, mut opener: ResponseOpener) -> Vec<Frame> {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let frames = opener.push(&bytes).unwrap();
    opener.finish().unwrap();
    frames
}

/// The time, until the requester has a part of its answer; then that is over.
static ANSWERING: AtomicBool = AtomicBool::new(false);

fn ends_midway() -> Instant {
    let answering = ANSWERING.load(Ordering::SeqCst);
    Instant::now() + if answering { LONGEST } else { Duration::ZERO }
}

/// 429 has every SDK ask again, which would cost the same again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_time_is_over_midway_is_paid_so_far_and_said_to_take_too_long() {
    let rig = Rig::paid_with(narrow(ends_midway), &payment::section()).await;
    let (mut response, mut opener) = paid(&rig, 1, "talk").await;
    timeout(LONG, text_begins(&mut response, &mut opener)).await.unwrap();
    ANSWERING.store(true, Ordering::SeqCst);
    let frames = read(response, opener).await;
    let [.., error, last] = &frames[..] else { panic!("{} frames", frames.len()) };
    assert_eq!((error.kind, last.kind), (FrameKind::Error, FrameKind::Receipt));
    let (status, json) = decode_error(error.payload.expose()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!((status, &json["error"]["code"]), (504, &"timeout".into()));
    let receipt = receipt(&frames);
    assert_eq!(receipt.receipt().usage.finish, Finish::Failed);
    assert!(receipt.receipt().usage.completion > 0 && receipt.receipt().amount > 0);
}
