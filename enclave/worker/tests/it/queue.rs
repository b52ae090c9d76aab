//! Requests that wait: how many, in which order, and how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrysalis_channel::ResponseOpener;
use chrysalis_engine::testing::TinyModel;
use chrysalis_engine::{Engine, EngineOptions};
use chrysalis_receipt::{Finish, PublicReceipt};
use chrysalis_wire::RequestId;
use chrysalis_wire::manifest::WAITING_SECONDS;
use chrysalis_worker::limits::Bounds;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use tokio::time::timeout;

use crate::bounds::{LONG, talkative};
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
    let rig = Rig::start(Bounds::default(), Some(narrow(Instant::now))).await;
    let (first, mut opener) = rig.seal(1, &chat("talk"));
    let mut held = rig.send(Method::POST, "/v1/sealed", first).await;
    timeout(LONG, text_begins(&mut held, &mut opener)).await.unwrap();
    let (second, _) = rig.seal(2, &chat("talk"));
    drop(rig.send(Method::POST, "/v1/sealed", second).await);
    assert_eq!(amount(&rig, 2).await, 0, "nothing of it was computed");
    drop(held);
    assert!(amount(&rig, 1).await > 0);
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
    let clocks: [(fn() -> Instant, bool); 4] = [
        (|| Instant::now() + WAITING - LONG, true),
        (|| Instant::now() + WAITING, false),
        (jumps_before_its_end, true),
        (jumps_to_its_end, false),
    ];
    for (clock, answered) in clocks {
        let options = EngineOptions { clock, ..EngineOptions::new(|| 1) };
        let model = TinyModel::scripted(&["Hello"]).context(4096);
        let rig = Rig::start(Bounds::default(), Some(engine_with(&model, options))).await;
        // Its prompt takes more than a step.
        let frames = rig.ask(1, &chat(&"hi ".repeat(100))).await;
        assert_eq!(text(&frames).contains("Hello"), answered);
        assert_eq!(text(&frames).contains("rate_limit_exceeded"), !answered);
        let receipt = receipt(&frames);
        let (usage, amount) = (&receipt.receipt().usage, receipt.receipt().amount);
        assert_eq!(usage.finish == Finish::Failed, !answered);
        assert_eq!(amount == 0, !answered, "nobody pays for an answer that never came");
    }
}
