//! A worker whose engine is gone for good: what its requesters still hear, and for how long it waits for them.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use chrysalis_channel::FrameKind;
use chrysalis_engine::testing::TinyModel;
use chrysalis_engine::{
    Engine, EngineError, Event, GenerateRequest, Generation, ModelInfo, ToolStyle,
};
use chrysalis_receipt::Finish;
use chrysalis_wire::RequestId;
use chrysalis_worker::limits::Bounds;
use chrysalis_worker::lost::last_words;
use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::net::TcpStream;
use tokio::sync::mpsc as events;
use tokio::time::{sleep, timeout};

use crate::bounds::{LONG, talkative};
use crate::rig::{Rig, chat, engine, eventually, receipt, text};

/// An engine that is gone after the first words of its first answer, and calls what it was given then, on the
/// thread that told everybody.
struct Mortal {
    inner: Arc<dyn Engine>,
    gone: mpsc::Sender<()>,
}

impl Engine for Mortal {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    fn tool_style(&self) -> ToolStyle {
        self.inner.tool_style()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        let Generation { prompt_tokens, reasoning, mut events, control } =
            self.inner.generate(request)?;
        let (sender, receiver) = events::channel(64);
        let gone = self.gone.clone();
        std::thread::spawn(move || {
            let first = std::iter::from_fn(|| events.blocking_recv())
                .find(|event| matches!(event, Event::Delta(_)))
                .unwrap();
            let error = EngineError::Lost { call: "cuLaunchKernel", code: 719 };
            for event in [first, Event::Failed(error)] {
                sender.blocking_send(event).unwrap();
            }
            drop((events, sender));
            gone.send(()).unwrap();
        });
        Ok(Generation { prompt_tokens, reasoning, events: receiver, control })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_an_engine_ends_once_its_requesters_have_heard_what_they_got() {
    let (gone, told) = mpsc::channel();
    let mortal = Mortal { inner: engine(&TinyModel::endless(&["word "])), gone };
    let rig = Rig::start(Bounds::default(), Some(Arc::new(mortal))).await;
    // One that asks nothing keeps nobody waiting.
    let idle = rig.http().await;
    let worker = Arc::clone(&rig.worker);
    let ending = tokio::task::spawn_blocking(move || {
        told.recv().unwrap();
        let all = last_words(&worker);
        // What it is to wait for is done by now.
        (all, worker.receipts.get(&RequestId([1; 16])).is_some())
    });
    let (sealed, mut opener) = rig.seal(1, &chat("talk"));
    let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
    eventually("all is said", || rig.worker.receipts.get(&RequestId([1; 16])).is_some()).await;
    // Nobody has read it, and what this process has not sent may be gone with it.
    sleep(SOON).await;
    assert!(!ending.is_finished());
    // Others are sent elsewhere.
    assert!(TcpStream::connect(rig.address).await.is_err());
    let frames = opener.push(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    opener.finish().unwrap();
    assert_eq!(timeout(LONG, ending).await.unwrap().unwrap(), (true, true));
    assert!(text(&frames).contains("word"));
    assert!(frames.iter().any(|frame| frame.kind == FrameKind::Error));
    let receipt = receipt(&frames);
    assert_eq!(receipt.receipt().usage.finish, Finish::Failed);
    assert!(receipt.receipt().amount > 0, "what came before is paid");
    drop(idle);
}

/// Between two processes that talk, everything has come by then.
const SOON: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_that_does_not_read_keeps_no_worker_from_ending() {
    let bounds = Bounds { delivery: Duration::from_millis(300), ..Bounds::default() };
    let rig = Rig::start(bounds, Some(engine(&talkative()))).await;
    let (sealed, _) = rig.seal(1, &chat("talk"));
    let held = rig.send(Method::POST, "/v1/sealed", sealed).await;
    let worker = Arc::clone(&rig.worker);
    assert!(!tokio::task::spawn_blocking(move || last_words(&worker)).await.unwrap());
    drop(held);
}
