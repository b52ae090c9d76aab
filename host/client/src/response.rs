//! The answer to a sealed request, piece by piece. The carrier of the bytes is hostile; the
//! worker is attested but its receipt is still checked against what was sent and received.
//!
//! Nothing partial is presented as complete: [`ClientEvent::Done`] comes only after the final
//! frame and a receipt that holds, and every other end is an error. Dropping the stream closes
//! the connection, which makes the worker stop within one token.

use std::collections::VecDeque;
use std::sync::Arc;

use chrysalis_channel::{Frame, FrameKind, ResponseOpener};
use chrysalis_receipt::{ReceiptReport, ResponseCommit};
use chrysalis_wire::inner::decode_error;
use chrysalis_wire::{RequestId, SecretBytes};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::connection::Connection;
use crate::error::ClientError;
use crate::io::next_piece;
use crate::limits::{Bounds, DRAIN_TIMEOUT};
use crate::observed::Observed;
use crate::payer::Ticket;
use crate::request::Pending;
use crate::settle::{Settled, settle};
use crate::stored::StoredReceipt;
use crate::transcript::Transcript;
use crate::worker::{AttestedWorker, Shared};

/// One event of an answer.
#[derive(Debug)]
pub enum ClientEvent {
    /// The JSON of one streamed chunk.
    Chunk(SecretBytes),
    /// A piece of the JSON of a whole answer.
    Body(SecretBytes),
    /// The worker refused or failed inside the channel; pieces that came before are void.
    Error {
        /// HTTP status.
        status: u16,
        /// OpenAI error JSON. It may name parts of the request.
        json: SecretBytes,
    },
    /// The answer is complete and its receipt holds.
    Done(Box<Completed>),
}

/// A complete answer's receipt.
#[derive(Debug)]
pub struct Completed {
    /// The receipt with what is needed to verify it again.
    pub stored: StoredReceipt,
    /// Every check of the receipt; none failed.
    pub report: ReceiptReport,
    /// The words, if they were to be kept.
    pub transcript: Option<Transcript>,
}

/// The answer to one request.
pub struct ResponseStream {
    shared: Arc<Shared>,
    wire: Option<Wire>,
    opener: ResponseOpener,
    asked: Settled,
    streamed: bool,
    frames: VecDeque<Frame>,
    commit: Option<ResponseCommit>,
    transcript: Option<Transcript>,
    observed: Observed,
    body: Vec<SecretBytes>,
    body_bytes: usize,
    received: usize,
    chunks: u64,
    phase: Phase,
    /// Status of the error that ended the answer.
    failed: Option<u16>,
    /// The first event, if it was read before the stream was handed out.
    first: Option<ClientEvent>,
    /// Why the answer has to end, until it has: the worker was refused meanwhile.
    over: Option<watch::Receiver<Option<ClientError>>>,
    /// What the request may cost, until its receipt says what it did.
    ticket: Option<Ticket>,
}

/// The connection while it carries this answer.
struct Wire {
    connection: Connection,
    incoming: Incoming,
}

/// What a step of reading an answer ends with.
enum Told {
    /// An event, or that there are no more.
    Event(Option<ClientEvent>),
    /// The worker computes.
    Alive,
}

impl From<ClientEvent> for Told {
    fn from(event: ClientEvent) -> Self {
        Self::Event(Some(event))
    }
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come: anything may.
    Start,
    /// Chunks of a stream.
    Chunks,
    /// Pieces of a whole body.
    Body,
    /// An error; only a receipt may follow.
    Error,
    /// Nothing may follow.
    End,
}

impl ResponseStream {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        incoming: Incoming,
        pending: Pending,
        transcript: Option<Transcript>,
        ticket: Option<Ticket>,
        over: watch::Receiver<Option<ClientError>>,
    ) -> Self {
        let Pending { appraised, request_id, salt, request_commit, sampling_hash, .. } = pending;
        let Pending { streamed, sent, opener, .. } = pending;
        Self {
            shared,
            wire: Some(Wire { connection, incoming }),
            opener,
            commit: Some(ResponseCommit::new(&salt)),
            transcript,
            streamed,
            asked: Settled { appraised, request_id, salt, request_commit, sampling_hash, sent },
            frames: VecDeque::new(),
            observed: Observed::default(),
            body: Vec::new(),
            body_bytes: 0,
            received: 0,
            chunks: 0,
            phase: Phase::Start,
            failed: None,
            first: None,
            ticket,
            over: Some(over),
        }
    }

    /// Id of the request, and of the receipt that will come.
    #[must_use]
    pub const fn request_id(&self) -> RequestId {
        self.asked.request_id
    }

    /// Whether the request asked for a stream: its answer comes in chunks, else as one body.
    #[must_use]
    pub const fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Whether the worker's platform is simulated.
    #[must_use]
    pub fn insecure_sim(&self) -> bool {
        self.asked.appraised.verified.insecure_sim()
    }

    /// The next event; `None` after the end. After an error there are no more events, and
    /// everything before it is void.
    ///
    /// # Errors
    /// [`ClientError::Truncated`] for an answer that ends early, [`ClientError::Channel`] for
    /// bytes that do not open, [`ClientError::FrameOrder`], [`ClientError::ReceiptMissing`],
    /// [`ClientError::ReceiptRefused`], [`ClientError::TimedOut`], [`ClientError::TooLarge`]. A worker
    /// that is refused meanwhile ends its answer with the refusal: [`ClientError::Appraisal`],
    /// [`ClientError::Reattestation`], [`ClientError::Exchange`].
    pub async fn next(&mut self) -> Result<Option<ClientEvent>, ClientError> {
        if let Some(first) = self.take_first() {
            return Ok(Some(first));
        }
        loop {
            if let Told::Event(event) = self.step().await? {
                return Ok(event);
            }
        }
    }

    /// The first event, if it came before the worker said that it is at work. Of an answer that is not
    /// streamed it always did.
    pub(crate) const fn take_first(&mut self) -> Option<ClientEvent> {
        self.first.take()
    }

    /// Up to the next event or sign of life.
    async fn step(&mut self) -> Result<Told, ClientError> {
        let outcome = self.advance().await;
        if outcome.is_err() {
            self.phase = Phase::End;
            self.frames.clear();
            // Closes the socket: whatever the peer still sends is not wanted.
            self.wire = None;
            self.over = None;
        }
        self.pay(&outcome).await?;
        outcome
    }

    /// Settles the ticket by what the answer ended with. An answer whose cost cannot be written down
    /// is no complete one.
    async fn pay(&mut self, outcome: &Result<Told, ClientError>) -> Result<(), ClientError> {
        match outcome {
            Ok(Told::Event(Some(ClientEvent::Done(completed)))) => match self.ticket.take() {
                Some(ticket) => {
                    let amount = completed.stored.receipt().receipt().amount;
                    ticket.receipted(amount).await
                }
                None => Ok(()),
            },
            // An error that ends the answer has no receipt, because nothing was produced.
            Ok(Told::Event(Some(ClientEvent::Error { .. }))) if self.phase == Phase::End => {
                match self.ticket.take() {
                    Some(ticket) => ticket.refused().await,
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Waits for the first event and keeps it. Of a stream a sign of life is enough: by then the worker
    /// knows the evidence it was shown, and whoever waits for the answer can be told that it lives.
    ///
    /// # Errors
    /// As [`ResponseStream::next`].
    pub(crate) async fn prefetch(&mut self) -> Result<(), ClientError> {
        loop {
            match self.step().await? {
                Told::Event(first) => {
                    self.first = first;
                    return Ok(());
                }
                Told::Alive if self.streamed => return Ok(()),
                Told::Alive => {}
            }
        }
    }

    /// Whether the answer is that the worker does not know the evidence it was shown.
    pub(crate) fn wants_new_evidence(&self) -> bool {
        let Some(ClientEvent::Error { status: CONFLICT, json }) = &self.first else { return false };
        serde_json::from_slice::<OpenAiError>(json.expose())
            .is_ok_and(|e| e.error.code.as_deref() == Some(EVIDENCE_UNKNOWN))
    }

    async fn advance(&mut self) -> Result<Told, ClientError> {
        loop {
            // Frames that came before a refusal are not told after it, the end of the answer least.
            if let Some(refused) = self.over.as_ref().and_then(|over| over.borrow().clone()) {
                return Err(refused);
            }
            if let Some(frame) = self.frames.pop_front() {
                return self.accept(frame);
            } else if self.phase == Phase::End {
                return Ok(Told::Event(None));
            } else {
                self.receive().await?;
            }
        }
    }

    /// Reads bytes until they complete at least one frame.
    async fn receive(&mut self) -> Result<(), ClientError> {
        let truncated = ClientError::Truncated { chunks: self.chunks };
        let Bounds { idle, response_bytes: limit, .. } = *self.shared.worker().bounds();
        let wire = self.wire.as_mut().ok_or_else(|| truncated.clone())?;
        let piece = tokio::select! {
            biased;
            refused = refused(&mut self.over) => return Err(refused),
            piece = next_piece(&mut wire.incoming, idle) => piece,
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) | Err(ClientError::Disconnected) => return Err(truncated),
            Err(other) => return Err(other),
        };
        self.received = self.received.saturating_add(piece.len());
        if self.received > limit {
            return Err(ClientError::TooLarge { what: "answer", limit });
        }
        self.frames.extend(self.opener.push(&piece).map_err(ClientError::Channel)?);
        Ok(())
    }

    /// Checks one frame against what may come and turns it into an event.
    fn accept(&mut self, frame: Frame) -> Result<Told, ClientError> {
        let Frame { kind, payload, last } = frame;
        match kind {
            FrameKind::KeepAlive if last => Err(ClientError::ReceiptMissing),
            FrameKind::KeepAlive => Ok(Told::Alive),
            FrameKind::Chunk => {
                self.enter(Phase::Chunks, last)?;
                self.observed.note(payload.expose())?;
                self.commit_to(&payload)?;
                Ok(ClientEvent::Chunk(payload).into())
            }
            FrameKind::Body => {
                self.enter(Phase::Body, last)?;
                self.keep(&payload)?;
                self.commit_to(&payload)?;
                Ok(ClientEvent::Body(payload).into())
            }
            FrameKind::Error => self.error(&payload, last).map(Told::from),
            FrameKind::Receipt if last => self.receipt(&payload).map(Told::from),
            FrameKind::Receipt => Err(ClientError::FrameOrder("the receipt is not the last frame")),
        }
    }

    /// Moves to `phase`, which pieces of an answer share.
    fn enter(&mut self, phase: Phase, last: bool) -> Result<(), ClientError> {
        if last {
            return Err(ClientError::ReceiptMissing);
        }
        let asked = if self.streamed { Phase::Chunks } else { Phase::Body };
        if phase != asked {
            return Err(ClientError::FrameOrder("not the form of answer that was asked for"));
        }
        if self.phase != Phase::Start && self.phase != phase {
            return Err(ClientError::FrameOrder("an answer goes on after its error"));
        }
        self.phase = phase;
        self.chunks = self.chunks.saturating_add(1);
        Ok(())
    }

    fn commit_to(&mut self, payload: &SecretBytes) -> Result<(), ClientError> {
        if let Some(commit) = &mut self.commit {
            commit.update(payload.expose());
        }
        self.transcript.as_mut().map_or(Ok(()), |transcript| transcript.push(payload.expose()))
    }

    /// Collects a whole body, to read its usage once it is complete.
    fn keep(&mut self, payload: &SecretBytes) -> Result<(), ClientError> {
        self.body_bytes = self.body_bytes.saturating_add(payload.len());
        let limit = self.shared.worker().bounds().body_bytes;
        if self.body_bytes > limit {
            return Err(ClientError::TooLarge { what: "answer body", limit });
        }
        self.body.push(SecretBytes::new(payload.expose().to_vec()));
        Ok(())
    }

    /// The whole body, in one buffer of its final size.
    fn whole_body(&mut self) -> Zeroizing<Vec<u8>> {
        let mut whole = Zeroizing::new(Vec::with_capacity(self.body_bytes));
        for piece in self.body.drain(..) {
            whole.extend_from_slice(piece.expose());
        }
        whole
    }

    fn error(&mut self, payload: &SecretBytes, last: bool) -> Result<ClientEvent, ClientError> {
        if self.phase == Phase::Error {
            return Err(ClientError::FrameOrder("a second error follows the first"));
        }
        let (status, json) = decode_error(payload.expose())
            .ok()
            .filter(|(status, _)| (400..600).contains(status))
            .ok_or(ClientError::FrameOrder("the error has no HTTP error status"))?;
        let json = SecretBytes::new(json.to_vec());
        self.failed = Some(status);
        if last {
            self.end();
        } else {
            self.phase = Phase::Error;
        }
        Ok(ClientEvent::Error { status, json })
    }

    fn receipt(&mut self, payload: &SecretBytes) -> Result<ClientEvent, ClientError> {
        let failed = self.failed;
        if self.phase == Phase::Start {
            return Err(ClientError::FrameOrder("a receipt for no answer"));
        }
        if self.phase == Phase::Body {
            let body = self.whole_body();
            self.observed.note(&body)?;
        }
        // An engine that vanished leaves chunks, and a receipt for them that says "aborted".
        if failed.is_none() && self.observed.finish.is_none() {
            return Err(ClientError::FrameOrder("the answer ends without saying why"));
        }
        let commit = self.commit.take().ok_or(ClientError::FrameOrder("a second receipt"))?;
        let now = self.shared.worker().clock().now();
        let mut completed =
            settle(&self.asked, payload.expose(), commit.finish(), &self.observed, failed, now)?;
        completed.transcript = self.transcript.take();
        self.end();
        Ok(ClientEvent::Done(Box::new(completed)))
    }

    /// The final frame was read. The connection serves the next request if HTTP agrees that this
    /// response is over.
    fn end(&mut self) {
        self.phase = Phase::End;
        self.over = None;
        let Some(Wire { connection, mut incoming }) = self.wire.take() else { return };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Ok(None) = next_piece(&mut incoming, DRAIN_TIMEOUT).await {
                shared.put_idle(connection);
                // What it learns it keeps; a worker that does not answer is asked again next time.
                drop(AttestedWorker::of(shared).collect_claim().await);
            }
        });
    }
}

/// Resolves once the worker was refused after the request was sent.
async fn refused(over: &mut Option<watch::Receiver<Option<ClientError>>>) -> ClientError {
    if let Some(over) = over
        && let Ok(told) = over.wait_for(Option::is_some).await
        && let Some(error) = told.clone()
    {
        return error;
    }
    core::future::pending().await
}

#[derive(Deserialize)]
struct OpenAiError {
    error: OpenAiErrorParts,
}

#[derive(Deserialize)]
struct OpenAiErrorParts {
    code: Option<String>,
}

/// Status of [`EVIDENCE_UNKNOWN`].
const CONFLICT: u16 = 409;
/// Code of a worker that did not produce the evidence a request names, or has forgotten it.
const EVIDENCE_UNKNOWN: &str = "E-EVIDENCE-UNKNOWN";
