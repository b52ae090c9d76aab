//! `POST /v1/sealed`: open, generate, seal, sign.
//!
//! The plaintext of a request exists between [`open_request`] and the engine, the plaintext of
//! an answer between the engine and the frame sealer, both in types that are wiped and do not
//! print. Whatever happens after a request is open is told *inside* the channel.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrysalis_api::{ApiError, Endpoint, InferenceRequest};
use chrysalis_channel::{ChannelError, FrameKind, Header, OpenedRequest, OsRandom, open_request};
use chrysalis_engine::{Engine, EngineError, Event, Generation, ToolStyle};
use chrysalis_receipt::{Finish, PublicReceipt, ResponseCommit};
use chrysalis_wire::manifest::WAITING_SECONDS;
use chrysalis_wire::{SecretBytes, UnixMillis};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::block_in_place;

use crate::answer::{Answer, Gone, Outcome, ReceiptFacts, ending};
use crate::body::ReplyBody;
use crate::convert;
use crate::embeddings;
use crate::http::{Refused, with_type};
use crate::limits::FRAMES_IN_FLIGHT;
use crate::payment::Held;
use crate::worker::{Loaded, Worker};
use crate::writer::Writer;

/// Opens a sealed request and answers it as a stream of sealed frames, until its client is not served
/// any more: `over` then turns true.
///
/// # Errors
/// [`Refused::Busy`] if all places are taken ([`crate::limits::Bounds::places`]), [`Refused::Channel`] if
/// the request does not open.
pub fn answer(
    worker: Arc<Worker>,
    engine: Loaded,
    sealed: &[u8],
    offer: Option<&[u8]>,
    over: watch::Receiver<bool>,
) -> Result<Response<ReplyBody>, Refused> {
    let counters = Arc::clone(&worker);
    let answered = begin(worker, engine, sealed, offer, over);
    let counter =
        if answered.is_ok() { &counters.counters.answered } else { &counters.counters.refused };
    counter.fetch_add(1, Ordering::Relaxed);
    answered
}

fn begin(
    worker: Arc<Worker>,
    engine: Loaded,
    sealed: &[u8],
    offer: Option<&[u8]>,
    over: watch::Receiver<bool>,
) -> Result<Response<ReplyBody>, Refused> {
    let permit = Arc::clone(&worker.requests).try_acquire_owned().map_err(|_| Refused::Busy)?;
    let started = (worker.clock)();
    // Nothing is opened for whoever shows no payer's signature for these very bytes.
    let offer = match &worker.payments {
        Some(payments) => Some((payments, payments.offer(offer, sealed)?)),
        None => None,
    };
    let opened = open(&worker, started, sealed)?;
    let held = match offer {
        Some((payments, offer)) => Some(payments.reserve(
            &worker.manifest,
            offer,
            opened.header.max_tokens,
            started.seconds(),
        )?),
        None => None,
    };
    let (frames, body) = mpsc::channel(FRAMES_IN_FLIGHT);
    let task = async move {
        // A requester that went away has nothing left to be told; its receipt is stored.
        let (Ok(()) | Err(Gone)) = run(&worker, engine, opened, held, started, frames, over).await;
        // The place is free once the engine let go of the request.
        drop::<OwnedSemaphorePermit>(permit);
    };
    tokio::spawn(task);
    Ok(with_type(StatusCode::OK, "application/octet-stream", ReplyBody::Streamed(body)))
}

fn open(worker: &Worker, now: UnixMillis, sealed: &[u8]) -> Result<OpenedRequest, Refused> {
    let mut replay = worker.replay();
    let ring = worker.session.ring();
    open_request(&ring, &mut replay, &worker.expectation(), now, sealed, &mut OsRandom).map_err(
        |error| {
            let (code, message) = (error.code(), error.to_string());
            match error {
                // Not the request's fault: the same bytes are fine for another worker.
                ChannelError::ReplayCacheFull { .. } => Refused::Full { code, message },
                _ => Refused::Channel { code, message },
            }
        },
    )
}

async fn run(
    worker: &Worker,
    engine: Loaded,
    opened: OpenedRequest,
    mut held: Option<Held>,
    started: UnixMillis,
    frames: mpsc::Sender<Bytes>,
    over: watch::Receiver<bool>,
) -> Result<(), Gone> {
    let OpenedRequest { header, body, sealer } = opened;
    let mut answer = Answer::new(frames, sealer, worker.bounds.stall);
    let recipient = answer.recipient();
    let (engine, endpoint) = match (engine, convert::endpoint(header.path)) {
        (Loaded::Text(engine), Some(endpoint)) => (engine, endpoint),
        (Loaded::Embedding(embedder), None) => {
            let asked = (header, body);
            return embeddings::run(worker, &embedder, asked, answer, held, started, over).await;
        }
        _ => {
            let error = convert::wrong_endpoint(&worker.manifest);
            return answer.send(FrameKind::Error, &error.frame_payload(), true).await;
        }
    };
    let asked = (&header, endpoint);
    // Template and tokenizer take a while for a long prompt; the network threads are few.
    let prepared = block_in_place(|| prepare(worker, &*engine, asked, body, recipient, started));
    match prepared {
        Err(error) => answer.send(FrameKind::Error, &error.frame_payload(), true).await,
        Ok(prepared) => {
            if let Some(held) = &mut held {
                let prompt = prepared.generation.prompt_tokens;
                held.narrow(&worker.manifest, prompt, header.max_tokens);
            }
            generate(worker, asked, &mut answer, prepared, held, started, over).await
        }
    }
}

/// A request that was parsed and handed to the engine.
struct Prepared {
    parsed: InferenceRequest,
    style: ToolStyle,
    commit: ResponseCommit,
    facts: ReceiptFacts,
    generation: Generation,
}

/// Parses the opened body and hands it to the engine. The body is wiped on return.
fn prepare(
    worker: &Worker,
    engine: &dyn Engine,
    (header, endpoint): (&Header, Endpoint),
    body: SecretBytes,
    recipient: usize,
    started: UnixMillis,
) -> Result<Prepared, ApiError> {
    let (inner, evidence) = convert::inner(body.expose(), recipient, &worker.session)?;
    let mut parsed = convert::parse(endpoint, inner.json, &worker.manifest)?;
    let sampling = convert::sampling_hash(&parsed);
    let style = engine.tool_style();
    let now = Instant::now();
    let within = |seconds| now.checked_add(Duration::from_secs(seconds));
    let times = (within(WAITING_SECONDS), within(worker.manifest.limits.longest_seconds()));
    let job = convert::job(&mut parsed, header.max_tokens, &worker.manifest, style, times)?;
    let constraint = parsed.constraint.as_ref().map(|(_, field)| *field);
    let refused = |error| convert::engine_error(&error, constraint);
    let generation = engine.generate(job).map_err(refused)?;
    let facts = ReceiptFacts::new(header, &inner.salt, inner.json, sampling, evidence, started);
    Ok(Prepared { parsed, style, commit: ResponseCommit::new(&inner.salt), facts, generation })
}

/// Forwards the engine's events as frames and ends with the receipt, also when the requester has
/// gone or the engine has failed: what was produced is billed and provable.
async fn generate(
    worker: &Worker,
    (header, endpoint): (&Header, Endpoint),
    answer: &mut Answer,
    prepared: Prepared,
    held: Option<Held>,
    started: UnixMillis,
    mut over: watch::Receiver<bool>,
) -> Result<(), Gone> {
    let Prepared { parsed, style, commit, facts, mut generation } = prepared;
    answer.commit_with(commit);
    let fingerprint = worker.fingerprint();
    let mut writer = Writer::new(
        endpoint,
        &parsed,
        header.request_id,
        started.seconds(),
        &fingerprint,
        generation.reasoning,
        style,
    );
    let mut sent = answer.send_content(writer.open()).await;
    let mut finish = Finish::Aborted;
    let mut whole = Finish::Stop;
    while sent.is_ok() {
        let event = tokio::select! {
            event = generation.events.recv() => event,
            () = answer.closed() => None,
            // An answer that is not streamed says nothing until its end, nor does a call while it is read.
            () = answer.silent(worker.bounds.keep_alive) => {
                sent = answer.keep_alive().await;
                continue;
            }
            // The requester's doing, as if it had left: `finish` stays.
            true = ended(&mut over) => {
                let error = convert::peer_due();
                sent = answer.send(FrameKind::Error, &error.frame_payload(), false).await;
                break;
            }
        };
        if generation.events.is_closed() {
            // The engine has let go; the place is taken for what is left to deliver only.
            answer.hurry(worker.bounds.delivery);
        }
        match event {
            Some(Event::Delta(delta)) => sent = answer.send_content(writer.delta(delta)).await,
            Some(Event::Finished { choice, reason, usage }) => {
                // A cancelled answer is not complete, whoever cancelled it.
                let Some((told, billed)) = ending(reason) else { break };
                if billed == Finish::Length {
                    whole = billed;
                }
                sent = answer.send_content(writer.finish(choice, told)).await;
                if writer.is_complete() && sent.is_ok() {
                    sent = answer.send_content(writer.end(&usage)).await;
                    if sent.is_ok() {
                        finish = whole;
                    }
                    break;
                }
            }
            Some(Event::Failed(error)) => {
                finish = after_failure(&error);
                let constraint = parsed.constraint.as_ref().map(|(_, field)| *field);
                // Who was told to ask again would pay again for what takes too long.
                let begun = generation.control.usage().prompt > 0;
                let error = match error {
                    EngineError::Expired if begun => ApiError::out_of_time(),
                    error => convert::engine_error(&error, constraint),
                };
                sent = answer.send(FrameKind::Error, &error.frame_payload(), false).await;
                break;
            }
            // Either the requester is gone, or the engine, which the requester is not to pay for.
            None => {
                if !answer.is_closed() {
                    finish = Finish::Failed;
                }
                sent = Err(Gone);
            }
        }
    }
    // Dropping the receiver stops the engine; the counts stay readable.
    drop(generation.events);
    let outcome = Outcome { finish, tokens: generation.control.usage() };
    settle(worker, answer, facts, outcome, held, started, sent).await
}

/// What a failure of the engine is to the receipt. A constraint that cannot be kept is the requester's, and
/// found out after the prompt was computed: for nothing, it would be a way to compute prompts for nothing.
const fn after_failure(error: &EngineError) -> Finish {
    match error {
        EngineError::Constraint(_) => Finish::Aborted,
        _ => Finish::Failed,
    }
}

/// Signs the receipt of an answer that ended as `outcome` says, counts it, keeps it and sends it.
///
/// # Errors
/// [`Gone`] if nobody reads it; it was counted and kept all the same.
pub(crate) async fn settle(
    worker: &Worker,
    answer: &mut Answer,
    facts: ReceiptFacts,
    outcome: Outcome,
    held: Option<Held>,
    started: UnixMillis,
    sent: Result<(), Gone>,
) -> Result<(), Gone> {
    let id = facts.request_id;
    let commit = answer.take_commit().ok_or(Gone)?;
    let ended = (worker.clock)().max(started);
    let receipt = facts.sign(worker, commit.finish(), outcome, ended).map_err(|_| Gone)?;
    // Before the receipt leaves: whoever has it finds it in the next cumulative one. What cannot be
    // charged is the owner's loss and no reason to withhold the receipt.
    let channel = held.as_ref().and_then(Held::account);
    if let Some(held) = held {
        drop(held.charge(&receipt));
    }
    if let Ok(public) = PublicReceipt::from(&receipt).to_json() {
        worker.receipts.put(id, channel, Bytes::from(public));
    }
    let json = receipt.to_json().map_err(|_| Gone)?;
    sent.and(answer.send(FrameKind::Receipt, json.as_bytes(), true).await)
}

/// True once the client is not served any more; false, and at once, if nobody is left to say so.
pub(crate) async fn ended(over: &mut watch::Receiver<bool>) -> bool {
    // The guard in the result must not live across an await of the caller.
    over.wait_for(|over| *over).await.is_ok()
}
