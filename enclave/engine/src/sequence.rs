//! One request in progress: from logits to a token, through UTF-8 assembly and stop strings, to the
//! receiver. A failure ends this request only.

use std::time::Instant;

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::error::EngineError;
use crate::request::{Control, Event, FinishReason, Scheduling};
use crate::sampler::Sampler;
use crate::schedule::Submission;
use crate::scheduler::{Slot, millis};
use crate::stop::StopMatcher;
use crate::tokenizer::Tokenizer;
use crate::utf8::Utf8Stream;

/// What a request needs before it has a place in the schedule.
pub(crate) struct Job {
    pub(crate) prompt: Zeroizing<Vec<u32>>,
    pub(crate) scheduling: Scheduling,
    pub(crate) sampler: Sampler,
    pub(crate) stops: StopMatcher,
    pub(crate) max_tokens: u32,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) control: Control,
    /// Freed just before the last event, so that who has seen it can send the next request.
    pub(crate) slot: Option<Slot>,
}

/// A request that waits or runs. Its tokens are with the core of the scheduler.
pub(crate) struct Sequence {
    job: Job,
    utf8: Utf8Stream,
}

impl Sequence {
    /// What the core is asked for, and the rest.
    pub(crate) fn new(mut job: Job, started: Instant) -> (Submission, Self) {
        let submission = Submission {
            tenant: job.scheduling.tenant,
            priority: job.scheduling.priority,
            deadline: job.scheduling.deadline.map(|at| millis(at, started)),
            prompt: std::mem::take(&mut job.prompt),
            max_new: usize::try_from(job.max_tokens).unwrap_or(usize::MAX),
        };
        (submission, Self { job, utf8: Utf8Stream::default() })
    }

    /// Whether nobody waits for the answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.job.events.is_closed() || self.job.control.is_cancelled()
    }

    /// Notes how many tokens of the prompt were there already.
    pub(crate) fn started(&self, cached: usize) {
        self.job.control.set_cached(u32::try_from(cached).unwrap_or(u32::MAX));
    }

    /// The next token.
    pub(crate) fn draw(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        self.job.sampler.draw(logits)
    }

    /// Counts the token that was drawn and sends its text; the token, if the answer goes on with it.
    pub(crate) fn take(
        &mut self,
        drawn: Result<u32, EngineError>,
        tokenizer: &Tokenizer,
    ) -> Option<u32> {
        let reason = match drawn {
            // Its requester left while it was computed.
            _ if self.is_abandoned() => FinishReason::Cancelled,
            Err(error) => {
                self.fail(error);
                return None;
            }
            Ok(token) => match self.advance(token, tokenizer) {
                None => return Some(token),
                Some(reason) => reason,
            },
        };
        self.finish(reason);
        None
    }

    /// Ends a request that nobody waits for.
    pub(crate) fn cancel(&mut self) {
        self.finish(FinishReason::Cancelled);
    }

    /// Tells the receiver that the answer will not be completed.
    pub(crate) fn fail(&mut self, error: EngineError) {
        self.job.end(Event::Failed(error));
    }

    fn finish(&mut self, reason: FinishReason) {
        let usage = self.job.control.usage();
        self.job.end(Event::Finished { reason, usage });
    }

    fn advance(&mut self, token: u32, tokenizer: &Tokenizer) -> Option<FinishReason> {
        let drawn = self.job.control.count_token();
        if tokenizer.ends_turn(token) {
            self.flush();
            return Some(FinishReason::Stop);
        }
        let text = self.utf8.push(tokenizer.bytes(token));
        if self.release(&text) {
            return Some(FinishReason::Stop);
        }
        if drawn >= self.job.max_tokens {
            let stopped = self.flush();
            return Some(if stopped { FinishReason::Stop } else { FinishReason::Length });
        }
        None
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
