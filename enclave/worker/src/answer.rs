//! One answer on its way out: frames in order, the commitment over what they carried, and the
//! receipt that ends them.

use std::time::Duration;

use bytes::Bytes;
use chrysalis_api as api;
use chrysalis_channel::{FrameKind, Header, MAX_PAYLOAD_BYTES, ResponseSealer};
use chrysalis_engine::{FinishReason, TokenUsage};
use chrysalis_receipt::{
    Att, Blinds, Finish, Io, Model, ReceiptError, RequestReceipt, ResponseCommit, SignedReceipt,
    Usage, request_commit,
};
use chrysalis_wire::{Digest, RequestId, SecretBytes, UnixMillis};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::LONG_DELIVERY_RATE;
use crate::worker::Worker;

/// The requester went away, or the answer can no longer be sealed; nothing more can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// One answer on its way out.
pub struct Answer {
    /// Gone once a frame was not taken in time: one frame is missing now, so no other may follow.
    frames: Option<mpsc::Sender<Bytes>>,
    patience: Duration,
    /// When the rest has to be taken, once there is no more to come.
    due: Option<Instant>,
    /// When the last frame was handed over, or the answer begun.
    last: Instant,
    sealer: ResponseSealer,
    prefix: Option<Vec<u8>>,
    commit: Option<ResponseCommit>,
}

impl Answer {
    /// An answer that has sent nothing, to a reader that may leave each frame for `patience`.
    #[must_use]
    pub fn new(frames: mpsc::Sender<Bytes>, sealer: ResponseSealer, patience: Duration) -> Self {
        let prefix = Some(sealer.prefix());
        let last = Instant::now();
        Self { frames: Some(frames), patience, due: None, last, sealer, prefix, commit: None }
    }

    /// Which of the request's recipients this worker is.
    #[must_use]
    pub fn recipient(&self) -> usize {
        self.prefix.as_ref().and_then(|p| p.first()).map_or(0, |index| usize::from(*index))
    }

    /// Starts committing to the content frames that follow.
    pub fn commit_with(&mut self, commit: ResponseCommit) {
        self.commit = Some(commit);
    }

    /// Resolves when the requester has gone.
    pub async fn closed(&self) {
        if let Some(frames) = &self.frames {
            frames.closed().await;
        }
    }

    /// Resolves when nothing was sent for `interval`: whoever waits for the answer may take it for dead.
    pub async fn silent(&self, interval: Duration) {
        sleep_until(self.last.checked_add(interval).unwrap_or(self.last)).await;
    }

    /// Says that the answer is still in the making.
    ///
    /// # Errors
    /// As [`Answer::send`].
    pub async fn keep_alive(&mut self) -> Result<(), Gone> {
        self.send(FrameKind::KeepAlive, &[], false).await
    }

    /// Says that the answer is complete but for being sent: its reader has `limit` from now, and longer the
    /// more it takes. Said again, it changes nothing.
    pub fn hurry(&mut self, limit: Duration) {
        let now = Instant::now();
        self.due.get_or_insert_with(|| now.checked_add(limit).unwrap_or(now));
    }

    /// Whether the requester has gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.frames.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Seals and sends one frame; waits a bounded time while the requester reads slowly.
    ///
    /// # Errors
    /// [`Gone`] if nobody reads any more.
    pub async fn send(&mut self, kind: FrameKind, payload: &[u8], last: bool) -> Result<(), Gone> {
        let frame = self.sealer.frame(kind, payload, last).map_err(|_| Gone)?;
        let mut bytes = self.prefix.take().unwrap_or_default();
        bytes.extend_from_slice(&frame);
        let frames = self.frames.as_ref().ok_or(Gone)?;
        let (left, size) =
            (self.due.map(|due| due.saturating_duration_since(Instant::now())), bytes.len());
        let patience = left.map_or(self.patience, |left| left.min(self.patience));
        if !matches!(timeout(patience, frames.send(bytes.into())).await, Ok(Ok(()))) {
            self.frames = None;
            return Err(Gone);
        }
        self.last = Instant::now();
        if let Some(due) = &mut self.due {
            let earned = size.saturating_mul(1000).checked_div(LONG_DELIVERY_RATE).unwrap_or(0);
            let earned = Duration::from_millis(earned.try_into().unwrap_or(0));
            *due = due.checked_add(earned).unwrap_or(*due);
        }
        // Committed only after it was handed over: the receipt never covers bytes that were
        // certainly not sent.
        if matches!(kind, FrameKind::Chunk | FrameKind::Body)
            && let Some(commit) = &mut self.commit
        {
            commit.update(payload);
        }
        Ok(())
    }

    /// Sends content, cut into frames where it is larger than one.
    ///
    /// # Errors
    /// [`Gone`] if nobody reads any more.
    pub async fn send_content(
        &mut self,
        pieces: Vec<(FrameKind, SecretBytes)>,
    ) -> Result<(), Gone> {
        for (kind, content) in pieces {
            for payload in content.expose().chunks(MAX_PAYLOAD_BYTES) {
                self.send(kind, payload, false).await?;
            }
        }
        Ok(())
    }

    /// Commitment over the content sent.
    pub fn take_commit(&mut self) -> Option<ResponseCommit> {
        self.commit.take()
    }
}

/// What a receipt will say about its request, known before the first token.
pub struct ReceiptFacts {
    /// The request's id, chosen by the client.
    pub request_id: RequestId,
    request_commit: Digest,
    blinds: Blinds,
    sampling_hash: Digest,
    evidence: Digest,
    started: UnixMillis,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens spent, of the prompt those that were computed: no more are paid, whoever ended the answer. Else a
    /// host could earn prompts by cutting connections early.
    pub tokens: TokenUsage,
}

impl ReceiptFacts {
    /// Collects the facts of one request.
    #[must_use]
    pub fn new(
        header: &Header,
        salt: &[u8; 32],
        request: &[u8],
        sampling_hash: Digest,
        evidence: Digest,
        started: UnixMillis,
    ) -> Self {
        Self {
            request_id: header.request_id,
            request_commit: request_commit(salt, request),
            blinds: Blinds::derive(salt, header.request_id),
            sampling_hash,
            evidence,
            started,
        }
    }

    /// Signs the receipt.
    ///
    /// # Errors
    /// [`ReceiptError`] if the clock ran backwards during the request, or a field is out of range.
    pub fn sign(
        self,
        worker: &Worker,
        response_commit: Digest,
        outcome: Outcome,
        ended: UnixMillis,
    ) -> Result<SignedReceipt, ReceiptError> {
        let usage = Usage {
            prompt: outcome.tokens.prompt,
            cached: outcome.tokens.cached,
            completion: outcome.tokens.completion,
            reasoning: 0,
            finish: outcome.finish,
            prices: worker.manifest.prices,
            started: self.started,
            ended,
        };
        let receipt = RequestReceipt {
            network: worker.manifest.network,
            registry: worker.manifest.registry,
            request_id: self.request_id,
            issued_at: ended.seconds(),
            amount: usage.amount()?,
            io: Io { request_commit: self.request_commit, response_commit },
            usage,
            model: Model {
                manifest_sha256: worker.manifest.model.root,
                engine_image_sha256: worker.measurement_digest,
                sampling_hash: self.sampling_hash,
            },
            att: Att {
                evidence_sha256: self.evidence,
                measurement_sha256: worker.measurement_digest,
            },
        };
        worker.session.meter.sign(&receipt, self.blinds)
    }
}

/// What requester and receipt are told about the end of a complete answer; `None` if it is not
/// complete.
#[must_use]
pub const fn ending(reason: FinishReason) -> Option<(api::FinishReason, Finish)> {
    match reason {
        FinishReason::Stop => Some((api::FinishReason::Stop, Finish::Stop)),
        FinishReason::Length => Some((api::FinishReason::Length, Finish::Length)),
        FinishReason::Cancelled => None,
    }
}
