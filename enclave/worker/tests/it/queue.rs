//! Requests that wait: how many, in which order, and how long.

use std::sync::Arc;
use std::time::Instant;

use chrysalis_channel::ResponseOpener;
use chrysalis_engine::{Engine, EngineOptions};
use chrysalis_worker::limits::Bounds;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use tokio::time::timeout;

use crate::bounds::{LONG, talkative};
use crate::rig::{Rig, chat, code, engine_with, eventually, text};

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
