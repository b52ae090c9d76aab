//! One request in progress: prompt to prefill, then one token per step, through UTF-8 assembly and stop
//! strings, to the receiver. A failure ends this request only.

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::error::EngineError;
use crate::model::Session;
use crate::request::{Control, Event, FinishReason};
use crate::sampler::Sampler;
use crate::scheduler::{PREFILL_CHUNK_TOKENS, Slot};
use crate::stop::StopMatcher;
use crate::tokenizer::Tokenizer;
use crate::utf8::Utf8Stream;

/// What a request needs before it has a place in the schedule.
pub(crate) struct Job {
    pub(crate) prompt: Zeroizing<Vec<u32>>,
    pub(crate) sampler: Sampler,
    pub(crate) stops: StopMatcher,
    pub(crate) max_tokens: u32,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) control: Control,
    /// Freed just before the last event, so that who has seen it can send the next request.
    pub(crate) slot: Option<Slot>,
}

/// A scheduled request.
pub(crate) struct Sequence {
    job: Job,
    session: Session,
    /// Prompt tokens already computed.
    prefilled: usize,
    /// The token to feed next; `None` during prefill.
    next: Option<u32>,
    utf8: Utf8Stream,
}

/// Whether a sequence goes on after a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    GoesOn,
    Ended,
}

impl Sequence {
    pub(crate) fn new(job: Job, session: Session) -> Self {
        Self { job, session, prefilled: 0, next: None, utf8: Utf8Stream::default() }
    }

    pub(crate) const fn is_prefilling(&self) -> bool {
        self.next.is_none()
    }

    /// One prefill chunk or one token. Looks for cancellation first.
    pub(crate) fn turn(&mut self, tokenizer: &Tokenizer) -> Turn {
        let result = if self.is_abandoned() {
            Ok(Some(FinishReason::Cancelled))
        } else {
            self.advance(tokenizer)
        };
        match result {
            Ok(None) => return Turn::GoesOn,
            Ok(Some(reason)) => {
                let usage = self.job.control.usage();
                self.job.end(Event::Finished { reason, usage });
            }
            Err(error) => self.fail(error),
        }
        Turn::Ended
    }

    /// Whether nobody waits for the answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.job.is_abandoned()
    }

    /// Tells the receiver that the answer will not be completed.
    pub(crate) fn fail(&mut self, error: EngineError) {
        self.job.end(Event::Failed(error));
    }

    fn advance(&mut self, tokenizer: &Tokenizer) -> Result<Option<FinishReason>, EngineError> {
        let logits = match self.next {
            Some(token) => self.session.feed(&[token])?,
            None => {
                let end =
                    self.prefilled.saturating_add(PREFILL_CHUNK_TOKENS).min(self.job.prompt.len());
                let chunk = self.job.prompt.get(self.prefilled..end).unwrap_or_default();
                let logits = self.session.feed(chunk)?;
                self.prefilled = end;
                if end < self.job.prompt.len() {
                    return Ok(None);
                }
                self.job.prompt = Zeroizing::new(Vec::new());
                logits
            }
        };
        // Embeddings may be padded with rows that are no tokens.
        let known = logits.get(..tokenizer.len()).unwrap_or(&logits);
        let token = self.job.sampler.draw(known)?;
        let drawn = self.job.control.count_token();
        if tokenizer.ends_turn(token) {
            self.flush();
            return Ok(Some(FinishReason::Stop));
        }
        let text = self.utf8.push(tokenizer.bytes(token));
        if self.release(&text) {
            return Ok(Some(FinishReason::Stop));
        }
        if drawn >= self.job.max_tokens || self.session.room() == 0 {
            let stopped = self.flush();
            return Ok(Some(if stopped { FinishReason::Stop } else { FinishReason::Length }));
        }
        self.next = Some(token);
        Ok(None)
    }

    /// Passes text through the stop strings; whether one was reached.
    fn release(&mut self, text: &str) -> bool {
        let released = self.job.stops.push(text);
        self.send_text(&released.text);
        released.stopped
    }

    /// Sends what was held back; whether that completed a stop string.
    fn flush(&mut self) -> bool {
        let tail = self.utf8.finish();
        if self.release(&tail) {
            return true;
        }
        let held = self.job.stops.finish();
        self.send_text(&held);
        false
    }

    fn send_text(&self, text: &str) {
        if !text.is_empty() {
            self.job.send(Event::Delta(text.as_bytes().to_vec().into()));
        }
    }
}

impl Job {
    /// Whether nobody waits for the answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed() || self.control.is_cancelled()
    }

    /// Ends a request whose turn never came.
    pub(crate) fn cancel(&mut self) {
        let usage = self.control.usage();
        self.end(Event::Finished { reason: FinishReason::Cancelled, usage });
    }

    fn end(&mut self, last: Event) {
        self.slot = None;
        self.send(last);
    }

    /// The channel holds every event of a request, so this fails only when the receiver is gone,
    /// which the next turn sees.
    fn send(&self, event: Event) {
        self.events.try_send(event).ok();
    }

    /// Events one request can send: a piece of text per token, two when the end releases what was
    /// held, and the last word.
    pub(crate) fn event_capacity(max_tokens: u32) -> usize {
        usize::try_from(max_tokens).unwrap_or(usize::MAX).saturating_add(4)
    }
}
