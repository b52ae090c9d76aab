//! Turns an OpenAI request into a sealed one and the sealed answer back into an OpenAI answer.
//!
//! An answer that is not streamed is held back until its receipt is verified and stored. A
//! streamed one passes as it arrives and ends with `[DONE]` only after that; a stream that breaks
//! ends with an error event and a broken HTTP body, so that no client can take it for complete.
//! When the local requester goes away, the stream is dropped, its connection closed, and the
//! worker stops.

use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrysalis_api::sse;
use chrysalis_channel::PathId;
use chrysalis_wire::limits::RETRY_AFTER_SECONDS;
use chrysalis_wire::{RequestId, SecretBytes};
use futures_util::stream::{self, Stream};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use super::State as Shared;
use super::error::{GatewayError, SHOULD_RETRY, broken, json, status, too_large};
use super::routes::blocking;
use crate::error::ClientError;
use crate::limits::{GATEWAY_BODY_TIMEOUT, GATEWAY_KEEP_ALIVE, MAX_GATEWAY_REQUEST_BYTES};
use crate::response::{ClientEvent, Completed, ResponseStream};

/// `POST /v1/chat/completions`.
pub(super) async fn chat(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    answer(shared, body, PathId::ChatCompletions).await
}

/// `POST /v1/completions`.
pub(super) async fn completion(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    answer(shared, body, PathId::Completions).await
}

/// `POST /v1/responses`.
pub(super) async fn response(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    answer(shared, body, PathId::Responses).await
}

/// `POST /v1/embeddings`.
pub(super) async fn embedding(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    answer(shared, body, PathId::Embeddings).await
}

async fn answer(shared: Arc<Shared>, body: Body, path: PathId) -> Response {
    let stream = match begin(&shared, body, path).await {
        Ok(stream) => stream,
        Err(error) => return error.into_response(),
    };
    let (id, simulated) = (stream.request_id(), stream.insecure_sim());
    let pipe = Pipe { shared, stream };
    let answer = if pipe.stream.is_streamed() { pipe.events().await } else { pipe.whole().await };
    let mut response = answer.unwrap_or_else(GatewayError::into_response);
    mark(response.headers_mut(), id, simulated);
    response
}

async fn begin(shared: &Shared, body: Body, path: PathId) -> Result<ResponseStream, GatewayError> {
    let read = timeout(GATEWAY_BODY_TIMEOUT, read_body(body));
    let json = read.await.map_err(|_| broken())??;
    Ok(shared.worker.request_keeping(path, &json, shared.keep).await?)
}

/// Reads a request into a buffer that is wiped.
async fn read_body(mut body: Body) -> Result<Zeroizing<Vec<u8>>, GatewayError> {
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut size = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| broken())?.into_data() else { continue };
        size = size.saturating_add(piece.len());
        if size > MAX_GATEWAY_REQUEST_BYTES {
            return Err(too_large(MAX_GATEWAY_REQUEST_BYTES));
        }
        pieces.push(piece);
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(size));
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

fn mark(headers: &mut HeaderMap, id: RequestId, simulated: bool) {
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-request-id", id.clone());
        headers.insert("x-chrysalis-receipt-id", id);
    }
    if simulated {
        headers.insert("x-chrysalis-platform", HeaderValue::from_static("INSECURE-SIM"));
    }
}

/// An answer on its way to the local requester. Dropping it stops the worker.
struct Pipe {
    shared: Arc<Shared>,
    stream: ResponseStream,
}

impl Pipe {
    /// Holds the answer back until its receipt is verified and stored.
    async fn whole(mut self) -> Result<Response, GatewayError> {
        let mut pieces = Vec::new();
        loop {
            match self.stream.next().await? {
                // The stream bounds the sum of all pieces.
                Some(ClientEvent::Body(piece)) => pieces.push(piece),
                Some(ClientEvent::Done(completed)) => {
                    self.save(*completed).await?;
                    let whole: Vec<&[u8]> = pieces.iter().map(|p| p.expose()).collect();
                    return Ok(json(StatusCode::OK, whole.concat()));
                }
                Some(ClientEvent::Error { status: code, json: error }) => {
                    let cost = self.after_error().await;
                    return Ok(refused(code, &error, cost));
                }
                Some(ClientEvent::Chunk(_)) | None => return Err(wrong_form().into()),
            }
        }
    }

    /// Passes the answer on as server-sent events. What fails before the first of them, or before the
    /// worker says that it is at work on it, still has an HTTP status of its own.
    async fn events(mut self) -> Result<Response, GatewayError> {
        let first = match self.stream.take_first() {
            Some(ClientEvent::Error { status: code, json: error }) => {
                let cost = self.after_error().await;
                return Ok(refused(code, &error, cost));
            }
            Some(first) => Step::Ready(Box::new(self), first),
            None => Step::Read(Box::new(self)),
        };
        let events = stream::unfold(first, |step| async move {
            match step {
                Step::Ready(pipe, event) => Some(pipe.write(Ok(Some(event))).await),
                Step::Read(mut pipe) => {
                    let event = pipe.stream.next().await;
                    Some(pipe.write(event).await)
                }
                Step::Break => {
                    // The error event is on its way; the body now ends in a way HTTP calls broken.
                    sleep(FLUSH_TIME).await;
                    Some((Err(io::ErrorKind::UnexpectedEof.into()), Step::End))
                }
                Step::End => None,
            }
        });
        let mut response = Response::new(Body::from_stream(kept_alive(events, GATEWAY_KEEP_ALIVE)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }

    /// Writes one event and says what follows it.
    async fn write(
        mut self: Box<Self>,
        event: Result<Option<ClientEvent>, ClientError>,
    ) -> (io::Result<Bytes>, Step) {
        let error = match event {
            Ok(Some(ClientEvent::Chunk(chunk))) => match sse::event(chunk.expose()) {
                Ok(bytes) => {
                    return (Ok(Bytes::copy_from_slice(bytes.expose())), Step::Read(self));
                }
                Err(_) => wrong_form().into(),
            },
            Ok(Some(ClientEvent::Done(completed))) => match self.save(*completed).await {
                Ok(()) => return (Ok(Bytes::from_static(sse::DONE)), Step::End),
                Err(error) => error.into(),
            },
            Ok(Some(ClientEvent::Error { json, .. })) => {
                self.after_error().await;
                if let Ok(bytes) = sse::event(json.expose()) {
                    return (Ok(Bytes::copy_from_slice(bytes.expose())), Step::Break);
                }
                wrong_form().into()
            }
            Ok(Some(ClientEvent::Body(_)) | None) => wrong_form().into(),
            Err(error) => GatewayError::from(error),
        };
        (Ok(sse::error_event(error.api()).into()), Step::Break)
    }

    /// Stores the receipt.
    async fn save(&self, completed: Completed) -> Result<(), ClientError> {
        let store = self.shared.receipts.clone();
        blocking(move || store.save_completed(&completed)).await.map(drop)
    }

    /// A failed answer may still have a receipt for what was produced; it is kept if it comes. Returns what it
    /// cost, nanogram.
    async fn after_error(&mut self) -> u128 {
        let Ok(Some(ClientEvent::Done(completed))) = self.stream.next().await else { return 0 };
        let cost = completed.stored.receipt().receipt().amount;
        // The requester learns that the answer failed, which matters more than this.
        drop(self.save(*completed).await);
        cost
    }
}

/// The same events, and a comment whenever there was none for `interval`: SDKs and what lies between give
/// up on what is silent.
fn kept_alive<E>(
    events: impl Stream<Item = Result<Bytes, E>>,
    interval: Duration,
) -> impl Stream<Item = Result<Bytes, E>> {
    let (mut events, mut quiet) = (Box::pin(events), Box::pin(sleep(interval)));
    stream::poll_fn(move |context| {
        let event = match events.as_mut().poll_next(context) {
            Poll::Ready(event) => event,
            Poll::Pending => {
                ready!(quiet.as_mut().poll(context));
                Some(Ok(Bytes::from_static(sse::KEEP_ALIVE)))
            }
        };
        let now = Instant::now();
        quiet.as_mut().reset(now.checked_add(interval).unwrap_or(now));
        Poll::Ready(event)
    })
}

/// What an event stream does next. It owns the pipe while there is more to read, so dropping the
/// stream drops the connection to the worker.
enum Step {
    /// Write the event that was read before the headers went out.
    Ready(Box<Pipe>, ClientEvent),
    /// Read and write the next event.
    Read(Box<Pipe>),
    /// Break the body off.
    Break,
    /// End the body.
    End,
}

/// The answer to a request that the worker refused inside the channel, where there are no headers: one
/// that found no place there asks to wait as long as one that found none outside. What has cost something, or
/// took as long as anything may, no SDK repeats by itself: it would be paid again, two times by default.
fn refused(code: u16, error: &SecretBytes, cost: u128) -> Response {
    let mut response = json(status(code), error.expose().to_vec());
    let status = response.status();
    if cost > 0 || status == StatusCode::GATEWAY_TIMEOUT {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    } else if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    response
}

/// The worker answers a stream with a whole body, or the reverse, or with nothing.
const fn wrong_form() -> ClientError {
    ClientError::FrameOrder("the answer does not have the form that was asked for")
}

/// Time for an error event to leave before its connection is broken off.
const FLUSH_TIME: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_is_silent_says_that_it_lives_and_loses_no_event() {
        let event = |n: u64| async move {
            sleep(Duration::from_millis(n * 60)).await;
            Ok::<_, Infallible>(Bytes::from(format!("data: {n}\n\n")))
        };
        let events = stream::iter([0, 5, 0]).then(event);
        let all: Vec<_> = kept_alive(events, Duration::from_millis(50)).collect().await;
        let (comments, events): (Vec<Bytes>, Vec<Bytes>) =
            all.into_iter().map(Result::unwrap).partition(|event| event == sse::KEEP_ALIVE);
        assert_eq!(events, ["data: 0\n\n", "data: 5\n\n", "data: 0\n\n"]);
        assert!((1..=6).contains(&comments.len()), "{}", comments.len());
    }
}
