//! Sealed answers of the fake worker. The "model" counts in words; everything around it is real.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chrysalis_api::{
    ApiError, Endpoint, FinishReason, InferenceRequest, Input, Limits, Piece as Text, Responder,
    TokenUsage, Whole,
};
use chrysalis_channel::{FrameKind, MAX_PAYLOAD_BYTES, OpenedRequest, PathId, ResponseSealer};
use chrysalis_receipt::{
    Att, Blinds, Finish, Io, MeterKey, Model, RequestReceipt, ResponseCommit, Usage, request_commit,
};
use chrysalis_wire::inner::encode_error;
use chrysalis_wire::{Digest, InnerRequest, RequestId, SecretBytes};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::script::Answer;
use super::{Reply, State, refusal, typed};

/// What the body of a response does.
enum Act {
    Send(Vec<u8>),
    Pause(Duration),
    Stall,
    Break,
}

/// Answers an opened request as `script` says.
pub(crate) fn respond(
    state: &Arc<State>,
    opened: OpenedRequest,
    script: Answer,
) -> Response<Reply> {
    match script {
        Answer::Busy => {
            return refusal(StatusCode::TOO_MANY_REQUESTS, "E-BUSY", "all places are taken");
        }
        Answer::WebPage => return typed("text/html", b"<html>hello</html>".to_vec()),
        Answer::HugeRefusal => {
            let text = "x".repeat(chrysalis_client::limits::MAX_PLAIN_ERROR_BYTES);
            return refusal(StatusCode::BAD_REQUEST, "E-HUGE", &text);
        }
        Answer::HugeHead => {
            let mut response = typed("application/octet-stream", Vec::new());
            for n in 0..=chrysalis_client::limits::MAX_HEADERS {
                let name = hyper::header::HeaderName::try_from(format!("x-{n}")).unwrap();
                response.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            return response;
        }
        Answer::Closes => return body(state, vec![Act::Break]),
        Answer::Garbage => return body(state, vec![Act::Send(vec![0x5a; 4096])]),
        _ => {}
    }
    body(state, acts(state, opened, script))
}

/// One frame before it is sealed.
type Piece = (FrameKind, Vec<u8>);

fn acts(state: &State, opened: OpenedRequest, script: Answer) -> Vec<Act> {
    let OpenedRequest { header, body, mut sealer } = opened;
    let inner = InnerRequest::decode(body.expose()).unwrap();
    let prefix = sealer.prefix();
    let outright = match script {
        Answer::BusyInside => Some(ApiError::overloaded()),
        Answer::OutOfTime => Some(ApiError::out_of_time()),
        _ => None,
    };
    if let Some(error) = outright {
        let payload = error.frame_payload();
        return vec![send(&prefix, &sealer.frame(FrameKind::Error, &payload, true).unwrap())];
    }
    let refused = match script {
        Answer::RefusedInside => Some((422, "E-CANARY-REFUSED")),
        Answer::ErrorWithoutStatus => Some((200, "E-CANARY-REFUSED")),
        Answer::EvidenceUnknown => Some((409, "E-EVIDENCE-UNKNOWN")),
        _ if !state.evidence.lock().unwrap().contains(&inner.evidence[0]) => {
            Some((409, "E-EVIDENCE-UNKNOWN"))
        }
        _ => None,
    };
    if let Some((status, code)) = refused {
        let error = ApiError::new(status, chrysalis_api::ErrorKind::InvalidRequest, code, "no");
        let payload = encode_error(status, &error.to_json());
        return vec![send(&prefix, &sealer.frame(FrameKind::Error, &payload, true).unwrap())];
    }
    let endpoint = match header.path {
        PathId::ChatCompletions => Endpoint::Chat,
        PathId::Completions => Endpoint::Completions,
        PathId::Responses => Endpoint::Responses,
        PathId::Embeddings => panic!("the fake worker says words"),
    };
    let limits = Limits::from_manifest(&state.manifest.limits);
    let parsed = InferenceRequest::parse(endpoint, inner.json, &limits).unwrap();
    let said = Said::new(&parsed, header.max_tokens);
    let pieces = pieces(state, endpoint, header.request_id, &parsed, &said, script);
    let pieces = finish(state, &inner, header.request_id, &parsed, &said, pieces, script);
    let acts = seal(&mut sealer, &prefix, pieces, script);
    let size = |act: &Act| if let Act::Send(bytes) = act { bytes.len() } else { 0 };
    state.answer_bytes.store(acts.iter().map(size).sum(), Ordering::SeqCst);
    acts
}

/// What the fake model says: numbers in words, until a limit or a stop string.
struct Said {
    words: Vec<String>,
    reason: FinishReason,
    usage: TokenUsage,
}

impl Said {
    fn new(request: &InferenceRequest, paid: u32) -> Self {
        let prompt_bytes = match &request.input {
            Input::Chat(messages) => messages.iter().map(|m| m.content.len()).sum(),
            Input::Text(prompt) => prompt.len(),
        };
        let limit = request.max_tokens.unwrap_or(paid).min(paid) as usize;
        let (mut words, mut text) = (Vec::new(), String::new());
        let mut reason = FinishReason::Stop;
        for number in 0..WORDS {
            if words.len() == limit {
                reason = FinishReason::Length;
                break;
            }
            let word = format!("{}{number}-wörd", if number == 0 { "" } else { " " });
            text.push_str(&word);
            if request.stop.iter().any(|stop| text.contains(stop.expose())) {
                break;
            }
            words.push(word);
        }
        let completion = words.len() as u32;
        let prompt = prompt_bytes as u32 / 4 + 1;
        Self { words, reason, usage: TokenUsage { prompt, cached: 0, completion, reasoning: 0 } }
    }
}

/// The content frames of the answer.
fn pieces(
    state: &State,
    endpoint: Endpoint,
    id: RequestId,
    request: &InferenceRequest,
    said: &Said,
    script: Answer,
) -> Vec<Piece> {
    let model = &state.manifest.model.name;
    let responder =
        Responder::new(endpoint, id, state.now(), model).with_usage(request.include_usage);
    let take = |secret: SecretBytes| secret.expose().to_vec();
    let streamed = request.stream != (script == Answer::OtherForm);
    if !streamed {
        let text = said.words.concat();
        let whole = take(responder.whole(
            &[Whole { piece: Text::text(&text), reasoning: None, calls: &[], reason: said.reason }],
            &said.usage,
        ));
        if script == Answer::LargeBody {
            let mut whole = whole;
            whole.resize(LARGE_BODY_BYTES, b' ');
            return whole
                .chunks(MAX_PAYLOAD_BYTES)
                .map(|piece| (FrameKind::Body, piece.to_vec()))
                .collect();
        }
        // In small pieces, so that more than one frame carries it.
        return whole.chunks(100).map(|piece| (FrameKind::Body, piece.to_vec())).collect();
    }
    let mut pieces: Vec<Vec<u8>> = responder.open(0).map(take).into_iter().collect();
    pieces.extend(said.words.iter().map(|word| take(responder.delta(0, Text::text(word), None))));
    if script == Answer::NotJson {
        pieces.push(b"canary is not JSON".to_vec());
    }
    if script == Answer::LineBreak {
        pieces.push(b"{\"choices\":[]\n\n}".to_vec());
    }
    if !matches!(script, Answer::FailsMidway | Answer::FailsDearly | Answer::Vanishes) {
        pieces.push(take(responder.finish(0, said.reason)));
        pieces.extend(responder.usage(&said.usage).map(take));
    }
    pieces.into_iter().map(|piece| (FrameKind::Chunk, piece)).collect()
}

/// Adds what follows the content.
fn finish(
    state: &State,
    inner: &InnerRequest<'_>,
    id: RequestId,
    request: &InferenceRequest,
    said: &Said,
    mut pieces: Vec<Piece>,
    script: Answer,
) -> Vec<Piece> {
    let mut commit = ResponseCommit::new(&inner.salt);
    for (_, payload) in &pieces {
        commit.update(payload);
    }
    let receipt = receipt(state, inner, id, request, said, commit.finish(), script);
    match script {
        Answer::NoReceipt => {}
        Answer::EndsWithKeepAlive => pieces.push((FrameKind::KeepAlive, Vec::new())),
        Answer::ReceiptTooEarly => pieces.insert(2, (FrameKind::Receipt, receipt)),
        Answer::ReceiptOnly => pieces = vec![(FrameKind::Receipt, receipt)],
        Answer::FailsMidway | Answer::FailsDearly => {
            let error = ApiError::internal();
            pieces.push((FrameKind::Error, encode_error(500, &error.to_json())));
            pieces.push((FrameKind::Receipt, receipt));
        }
        Answer::AtWork => pieces.insert(0, (FrameKind::KeepAlive, Vec::new())),
        Answer::Slow => {
            pieces.splice(..0, (0..5).map(|_| (FrameKind::KeepAlive, Vec::new())));
            pieces.push((FrameKind::Receipt, receipt));
        }
        _ => {
            pieces.insert(1, (FrameKind::KeepAlive, Vec::new()));
            pieces.push((FrameKind::Receipt, receipt));
        }
    }
    pieces
}

fn receipt(
    state: &State,
    inner: &InnerRequest<'_>,
    request_id: RequestId,
    request: &InferenceRequest,
    said: &Said,
    response_commit: Digest,
    script: Answer,
) -> Vec<u8> {
    let measurement = state.measurement();
    let sampling = Sha256::digest(request.canonical_sampling_bytes().expose());
    let now = state.clock.now();
    let mut receipt = RequestReceipt {
        network: state.manifest.network,
        registry: state.manifest.registry,
        request_id,
        issued_at: now.seconds(),
        amount: 0,
        io: Io { request_commit: request_commit(&inner.salt, inner.json), response_commit },
        usage: Usage {
            prompt: said.usage.prompt,
            cached: 0,
            completion: said.usage.completion,
            reasoning: 0,
            finish: match said.reason {
                _ if matches!(script, Answer::FailsMidway | Answer::FailsDearly) => Finish::Failed,
                _ if script == Answer::Vanishes => Finish::Aborted,
                FinishReason::Stop | FinishReason::ToolCalls => Finish::Stop,
                FinishReason::Length => Finish::Length,
            },
            prices: state.manifest.prices,
            started: now,
            ended: now,
        },
        model: Model {
            manifest_sha256: state.manifest.model.root,
            engine_image_sha256: measurement,
            sampling_hash: Digest(sampling.into()),
        },
        att: Att { evidence_sha256: inner.evidence[0], measurement_sha256: measurement },
    };
    alter(&mut receipt, script);
    receipt.amount = receipt.usage.amount().unwrap();
    let blinds = Blinds::derive(&inner.salt, receipt.request_id);
    let stranger = MeterKey::from_seed(&[9; 32].into());
    let meter = if script == Answer::OtherMeterKey { &stranger } else { &state.meter };
    let signed = meter.sign(&receipt, blinds).unwrap();
    if let Some(paid) = &state.paid {
        paid.count(request_id, &signed);
    }
    let json = signed.to_json().unwrap();
    match script {
        Answer::ReceiptNotJson => b"no receipt".to_vec(),
        Answer::BadSignature => flip_signature(&json),
        _ => json.into_bytes(),
    }
}

/// Lies in one field.
fn alter(receipt: &mut RequestReceipt, script: Answer) {
    let flip = |digest: &mut Digest| digest.0[0] ^= 1;
    match script {
        Answer::OtherRequest => receipt.request_id.0[0] ^= 1,
        Answer::OtherModel => flip(&mut receipt.model.manifest_sha256),
        Answer::OtherMeasurement => {
            flip(&mut receipt.model.engine_image_sha256);
            flip(&mut receipt.att.measurement_sha256);
        }
        Answer::OtherEvidence => flip(&mut receipt.att.evidence_sha256),
        Answer::OtherPrices => receipt.usage.prices.completion += 1,
        Answer::MoreTokens => receipt.usage.completion += 1,
        Answer::FailsDearly => receipt.usage.completion = 1_000_000_000,
        Answer::OtherRequestText => flip(&mut receipt.io.request_commit),
        Answer::OtherAnswerText => flip(&mut receipt.io.response_commit),
        Answer::OtherFinish => receipt.usage.finish = Finish::Aborted,
        Answer::OtherSampling => flip(&mut receipt.model.sampling_hash),
        Answer::OtherTime => {
            receipt.issued_at.0 -= 86_400;
            receipt.usage.started.0 -= 86_400_000;
            receipt.usage.ended.0 -= 86_400_000;
        }
        _ => {}
    }
}

fn flip_signature(json: &str) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    let mut signature = value["signature"].as_str().unwrap().to_owned();
    let other = if signature.starts_with('0') { "1" } else { "0" };
    signature.replace_range(..1, other);
    value["signature"] = signature.into();
    serde_json::to_vec(&value).unwrap()
}

/// Seals the frames, and damages them where the script says so.
fn seal(
    sealer: &mut ResponseSealer,
    prefix: &[u8],
    pieces: Vec<Piece>,
    script: Answer,
) -> Vec<Act> {
    let last = pieces.len() - 1;
    let mut frames: Vec<Vec<u8>> = pieces
        .iter()
        .enumerate()
        .map(|(n, (kind, payload))| sealer.frame(*kind, payload, n == last).unwrap())
        .collect();
    match script {
        Answer::FlippedBit => *frames[2].last_mut().unwrap() ^= 1,
        Answer::SwappedFrames => frames.swap(2, 3),
        Answer::DroppedFrame => drop(frames.remove(2)),
        Answer::RepeatedFrame => frames.insert(3, frames[2].clone()),
        // In one piece with the final frame.
        Answer::AfterFinal => frames[last].push(0),
        Answer::EndsEarly | Answer::Killed | Answer::Stalls => frames.truncate(4),
        Answer::AtWork => frames.truncate(1),
        _ => {}
    }
    let mut acts: Vec<Act> = Vec::new();
    let pause = if script == Answer::Slow { SLOW_PAUSE } else { Duration::from_millis(2) };
    for (n, frame) in frames.iter().enumerate() {
        acts.push(send(if n == 0 { prefix } else { &[] }, frame));
        // Lets the pieces travel apart.
        acts.push(Act::Pause(pause));
    }
    match script {
        Answer::Killed => acts.push(Act::Break),
        Answer::Stalls | Answer::AtWork => acts.push(Act::Stall),
        _ => {}
    }
    acts
}

fn send(prefix: &[u8], frame: &[u8]) -> Act {
    Act::Send([prefix, frame].concat())
}

/// A body that does `acts`, and counts when nobody waits for its end.
fn body(state: &Arc<State>, acts: Vec<Act>) -> Response<Reply> {
    let watched = Watched { state: Arc::clone(state), ended: false };
    let start = (acts.into_iter(), watched);
    let stream = futures_util::stream::unfold(start, |(mut acts, mut watched)| async move {
        let watch = &mut watched;
        loop {
            match acts.next() {
                Some(Act::Send(bytes)) => {
                    return Some((Ok(Frame::data(Bytes::from(bytes))), (acts, watched)));
                }
                Some(Act::Pause(time)) => sleep(time).await,
                Some(Act::Stall) => std::future::pending().await,
                Some(Act::Break) => {
                    watch.ended = true;
                    return Some((Err(io::ErrorKind::BrokenPipe.into()), (acts, watched)));
                }
                None => {
                    watch.ended = true;
                    return None;
                }
            }
        }
    });
    let mut response = typed("application/octet-stream", Vec::new());
    *response.body_mut() = StreamBody::new(stream).boxed_unsync();
    response
}

/// Counts a body that was dropped before its end.
struct Watched {
    state: Arc<State>,
    ended: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.ended {
            self.state.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// [`Answer::LargeBody`]: 2,048 vectors of 1,024 numbers, at 12.4 bytes each.
pub(crate) const LARGE_BODY_BYTES: usize = 25 * 1024 * 1024;
/// Between the frames of [`Answer::Slow`].
pub(crate) const SLOW_PAUSE: Duration = Duration::from_millis(100);
/// Words the fake model has to say.
const WORDS: u32 = 40;
