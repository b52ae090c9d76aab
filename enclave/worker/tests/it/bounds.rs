//! What peers may take: connections, places, memory and time. Each test fails if its bound is not
//! there, because then what it waits for does not happen.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrysalis_api::limits::MAX_ANSWER_BYTES;
use chrysalis_channel::{FrameKind, OsRandom, ReplayCache, open_request};
use chrysalis_engine::testing::TinyModel;
use chrysalis_receipt::PublicReceipt;
use chrysalis_wire::RequestId;
use chrysalis_worker::answer::{Answer, Gone};
use chrysalis_worker::limits::{
    Bounds, DELIVERY_TIMEOUT, LONG_DELIVERY_RATE, MAX_GRANT_BYTES, SMALL_BODY_BYTES,
};
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::rig::{NOW, REQUEST_BYTES, Rig, chat, code, engine, eventually, trusting};

const SHORT: Duration = Duration::from_millis(300);
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Answers of about 2 MB: more than the sockets between two processes hold.
pub(crate) fn talkative() -> TinyModel {
    let (a, b) = ("a".repeat(500), "b".repeat(500));
    TinyModel::endless(&[a, b]).context(4096)
}

fn post(path: &str, headers: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_frees_its_place_and_its_connection() {
    let bounds = Bounds { stall: SHORT, connections: 1, ..Bounds::default() };
    let rig = Rig::start(bounds, Some(engine(&talkative()))).await;
    let (sealed, _) = rig.seal(1, &chat("talk"));
    let mut tls = rig.tls(trusting()).await;
    tls.write_all(&post("/v1/sealed", &format!("content-length: {}", sealed.len()))).await.unwrap();
    tls.write_all(&sealed).await.unwrap();
    let mut first = [0; 12];
    tls.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    eventually("the place is free", || rig.free() == rig.places()).await;
    // The one connection is free too, while the peer still holds its end open.
    let livez = timeout(LONG, rig.send(Method::GET, "/livez", Vec::new())).await.unwrap();
    assert_eq!(livez.status(), 200);
    let stored = rig.worker.receipts.get(&RequestId([1; 16])).expect("what was sent is billed");
    assert!(PublicReceipt::from_json(&stored).is_ok());
    drop(tls);
}

/// An answer to a request that was opened, and its reader.
async fn open_answer(patience: Duration) -> (Answer, mpsc::Receiver<Bytes>) {
    let rig = Rig::saying(&["ok"]).await;
    let (sealed, _) = rig.seal(1, &chat("hello"));
    let opened = open_request(
        &rig.worker.session.ring(),
        &mut rig.worker.replay(),
        &rig.worker.expectation(),
        NOW,
        &sealed,
        &mut OsRandom,
    )
    .unwrap();
    let (frames, reader) = mpsc::channel(1);
    (Answer::new(frames, opened.sealer, patience), reader)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_a_frame_now_and_then_does_not_get_the_rest_once_all_is_there() {
    let (mut answer, mut reader) = open_answer(LONG).await;
    let slow = tokio::spawn(async move {
        while reader.recv().await.is_some() {
            sleep(SHORT / 6).await;
        }
    });
    let begun = Instant::now();
    // While there is more to come, a reader may take its time.
    while begun.elapsed() < 2 * SHORT {
        assert_eq!(answer.send(FrameKind::Chunk, b"some", false).await, Ok(()));
    }
    answer.hurry(SHORT);
    let complete = Instant::now();
    while answer.send(FrameKind::Chunk, b"more", false).await.is_ok() {
        answer.hurry(LONG);
        assert!(complete.elapsed() < LONG, "each frame is taken in time, and there is no end");
    }
    assert!(complete.elapsed() >= SHORT / 2);
    slow.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_that_is_read_at_a_trickle_does_not_hold_its_place_for_long() {
    let (mut answer, mut reader) = open_answer(LONG).await;
    // 16 KiB every 50 ms: ten such readers need less than an ordinary line.
    let slow = tokio::spawn(async move {
        while reader.recv().await.is_some() {
            sleep(SHORT / 6).await;
        }
    });
    let complete = Instant::now();
    answer.hurry(SHORT);
    while answer.send(FrameKind::Body, &[b'x'; 16 * 1024], false).await.is_ok() {
        assert!(
            complete.elapsed() < LONG,
            "it may go on for as long as there is something to read"
        );
    }
    slow.await.unwrap();
    // The largest body that a client reads is over in time for whoever waits for a place.
    let most = MAX_ANSWER_BYTES / LONG_DELIVERY_RATE;
    assert!(DELIVERY_TIMEOUT + Duration::from_secs(most as u64) <= Duration::from_secs(125));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_frame_follows_one_that_was_not_taken_in_time() {
    let (mut answer, mut reader) = open_answer(SHORT).await;
    assert_eq!(answer.send(FrameKind::Chunk, b"taken", false).await, Ok(()));
    assert_eq!(answer.send(FrameKind::Chunk, b"left", false).await, Err(Gone));
    assert!(reader.recv().await.is_some());
    assert_eq!(answer.send(FrameKind::Receipt, b"last", true).await, Err(Gone));
    assert!(reader.recv().await.is_none(), "a frame is missing, so the stream has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_of_a_body_takes_no_room() {
    let bounds = Bounds { body_bytes: 1, ..Bounds::default() };
    let rig = Rig::start(bounds, Some(engine(&TinyModel::scripted(&["ok"])))).await;
    let mut idle = Vec::new();
    for at in 0..8 {
        let mut tls = rig.tls(trusting()).await;
        let length = format!("content-length: {REQUEST_BYTES}");
        let said = if at % 2 == 0 { &length } else { "transfer-encoding: chunked" };
        tls.write_all(&post("/v1/sealed", said)).await.unwrap();
        idle.push(tls);
    }
    let grant = code(rig.send(Method::POST, "/v1/grant", vec![0; 100]).await).await;
    assert_eq!(grant, (409, "E-NO-GRANT-EXPECTED".to_owned()), "it was read");
    let (small, _) = rig.seal(1, &chat("hi"));
    assert!(small.len() <= SMALL_BODY_BYTES, "{}", small.len());
    let served = rig.send(Method::POST, "/v1/sealed", small).await;
    assert_eq!(served.status(), 200);
    assert_eq!(rig.worker.bodies.available_permits(), 1);
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_arrive_take_no_more_than_their_share_of_memory() {
    let bounds = Bounds { body_bytes: 100, ..Bounds::default() };
    let rig = Rig::start(bounds, Some(engine(&TinyModel::scripted(&["ok"])))).await;
    let mut half = rig.tls(trusting()).await;
    half.write_all(&post("/v1/sealed", &format!("content-length: {REQUEST_BYTES}"))).await.unwrap();
    half.write_all(&[0; SMALL_BODY_BYTES + 60]).await.unwrap();
    eventually("its room is taken", || rig.worker.bodies.available_permits() == 40).await;
    let fits = vec![0; SMALL_BODY_BYTES + 40];
    let fits = code(rig.send(Method::POST, "/v1/sealed", fits).await).await;
    assert_eq!(fits.0, 400, "what there is room for is read");
    let more = vec![0; SMALL_BODY_BYTES + 41];
    let refused = rig.send(Method::POST, "/v1/sealed", more).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(code(refused).await, (429, "E-BUSY".to_owned()));
    drop(half);
    eventually("the room is free again", || rig.worker.bodies.available_permits() == 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_ends_at_the_limit() {
    let rig = Rig::saying(&["ok"]).await;
    let mut chunked = rig.tls(trusting()).await;
    chunked.write_all(&post("/v1/grant", "transfer-encoding: chunked")).await.unwrap();
    let mut chunk = format!("{:x}\r\n", MAX_GRANT_BYTES + 1).into_bytes();
    chunk.resize(chunk.len() + MAX_GRANT_BYTES + 1, 0);
    chunked.write_all(&chunk).await.unwrap();
    let mut answer = [0; 12];
    timeout(LONG, chunked.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stated_length_over_the_limit_is_refused_before_a_byte_of_it_arrives() {
    let rig = Rig::saying(&["ok"]).await;
    for (path, length, refused) in [
        ("/v1/sealed", (REQUEST_BYTES + 1).to_string(), b"HTTP/1.1 413"),
        ("/v1/grant", (MAX_GRANT_BYTES + 1).to_string(), b"HTTP/1.1 413"),
        // hyper's own answer to a length it cannot count.
        ("/v1/sealed", u64::MAX.to_string(), b"HTTP/1.1 431"),
    ] {
        let mut tls = rig.tls(trusting()).await;
        tls.write_all(&post(path, &format!("content-length: {length}"))).await.unwrap();
        let mut answer = [0; 12];
        timeout(LONG, tls.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, refused, "{path} {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_in_time_is_refused() {
    let (whole, idle) = (Bounds::default().body, Bounds::default().idle);
    for (body, idle) in [(SHORT, idle), (whole, SHORT)] {
        let bounds = Bounds { body, idle, ..Bounds::default() };
        let rig = Rig::start(bounds, Some(engine(&TinyModel::scripted(&["ok"])))).await;
        let mut tls = rig.tls(trusting()).await;
        tls.write_all(&post("/v1/sealed", "content-length: 100")).await.unwrap();
        let mut answer = [0; 12];
        timeout(SHORT * 20, tls.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_arrive_in_time_ends_the_connection() {
    let bounds = Bounds { head: SHORT, ..Bounds::default() };
    let rig = Rig::start(bounds, None).await;
    let mut tls = rig.tls(trusting()).await;
    tls.write_all(b"GET /livez HTT").await.unwrap();
    let mut answer = Vec::new();
    drop(timeout(LONG, tls.read_to_end(&mut answer)).await.expect("the connection ends"));
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_finish_the_handshake_is_let_go() {
    let bounds = Bounds { handshake: SHORT, connections: 1, ..Bounds::default() };
    let rig = Rig::start(bounds, None).await;
    let mut tcp = TcpStream::connect(rig.address).await.unwrap();
    let mut nothing = Vec::new();
    timeout(LONG, tcp.read_to_end(&mut nothing)).await.expect("the connection ends").unwrap();
    assert_eq!(rig.send(Method::GET, "/livez", Vec::new()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_more_than_allowed_waits_until_another_ends() {
    let bounds = Bounds { connections: 1, ..Bounds::default() };
    let rig = Rig::start(bounds, None).await;
    let first = rig.tls(trusting()).await;
    let second = rig.tls(trusting());
    tokio::pin!(second);
    assert!(timeout(SHORT, &mut second).await.is_err(), "two connections at once");
    drop(first);
    timeout(LONG, second).await.expect("the second is served after the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_in_time_while_every_connection_is_taken_and_none_is_read() {
    let bounds = Bounds { connections: 1, drain: SHORT, stall: 10 * LONG, ..Bounds::default() };
    let rig = Rig::start(bounds, Some(engine(&talkative()))).await;
    let (sealed, _) = rig.seal(1, &chat("talk"));
    let mut tls = rig.tls(trusting()).await;
    tls.write_all(&post("/v1/sealed", &format!("content-length: {}", sealed.len()))).await.unwrap();
    tls.write_all(&sealed).await.unwrap();
    let mut first = [0; 12];
    tls.read_exact(&mut first).await.unwrap();
    rig.stop.send_replace(true);
    timeout(LONG, rig.serving).await.expect("the listener stops").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replay_cache_is_the_workers_fault_and_nothing_is_forgotten() {
    let rig = Rig::saying(&["ok"]).await;
    *rig.worker.replay() = ReplayCache::new(1);
    let (first, _) = rig.seal(1, &chat("hi"));
    rig.ask(2, &chat("hi")).await;
    let refused = rig.send(Method::POST, "/v1/sealed", first.clone()).await;
    assert_eq!(code(refused).await, (503, "E-SEAL-REPLAY-FULL".to_owned()));
    // Still full: the entry was not evicted to make room.
    let again = rig.send(Method::POST, "/v1/sealed", first).await;
    assert_eq!(code(again).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_fills_the_replay_cache_only_makes_the_worker_change_its_key() {
    let rig = Rig::saying(&["ok"]).await;
    *rig.worker.replay() = ReplayCache::new(4);
    let keys = || rig.worker.session.keyset(NOW.seconds()).seal_keys;
    let before = keys();
    // Anybody can seal what opens and says nothing.
    for id in 1..=4 {
        rig.ask(id, "junk").await;
    }
    let (late, _) = rig.seal(5, &chat("hi"));
    let refused = rig.send(Method::POST, "/v1/sealed", late).await;
    assert_eq!(code(refused).await, (503, "E-SEAL-REPLAY-FULL".to_owned()));
    rig.worker.maintain(NOW.seconds()).unwrap();
    let after = keys();
    assert_eq!(after.len(), before.len() + 1, "one kind of key is new, and the others are not");
    rig.ask(6, &chat("hi")).await;
}
