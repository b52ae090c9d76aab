//! One request in progress: from logits to a token, through UTF-8 assembly and stop strings, to the
//! receiver. A failure ends this request only.

use std::time::Instant;

use tokio::sync::mpsc;
use zeroize::{Zeroize as _, Zeroizing};

use crate::constrain::Matcher;
use crate::decoder::Row;
use crate::error::EngineError;
use crate::logprobs::{Log, LoggedToken, Scores, score};
use crate::request::{Control, Delta, Event, FinishReason, Scheduling};
use crate::sampler::Sampler;
use crate::schedule::{Kin, Submission};
use crate::scheduler::{Slot, millis};
use crate::stop::{StopMatcher, concat};
use crate::tokenizer::Tokenizer;
use crate::utf8::Utf8Stream;

/// What a request needs before it has a place in the schedule.
pub(crate) struct Job {
    /// Empty for all but the first choice of a request.
    pub(crate) prompt: Zeroizing<Vec<u32>>,
    /// Which choice of its request it is.
    pub(crate) choice: u32,
    /// The other choices, with the first. They begin once their prompt is computed, and share it.
    pub(crate) others: Vec<Self>,
    pub(crate) scheduling: Scheduling,
    pub(crate) sampler: Sampler,
    /// What the answer has to be.
    pub(crate) matcher: Option<Matcher>,
    pub(crate) stops: StopMatcher,
    /// Control tokens that are told as text: those of calls of tools.
    pub(crate) spelled: Vec<(u32, &'static str)>,
    /// Whether tokens are scored, and how many others in the place of each.
    pub(crate) logprobs: Option<u8>,
    pub(crate) max_tokens: u32,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) control: Control,
    /// Freed just before the last event, so that who has seen it can send the next request.
    pub(crate) slot: Option<Slot>,
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// A request that waits or runs. Its tokens are with the core of the scheduler.
pub(crate) struct Sequence {
    job: Job,
    utf8: Utf8Stream,
    log: Log,
    /// What this step has said so far. How many tokens it is made of is nobody's business: see
    /// `schedule/draft.rs`.
    said: Zeroizing<String>,
    said_tokens: Vec<LoggedToken>,
    /// Tokens drawn.
    drawn: u32,
}

/// A token that was drawn, with its scores if they are wanted. Wiped: it is part of the answer.
pub(crate) struct Drawn {
    token: u32,
    scores: Option<Scores>,
    /// Whether nothing but the end of the turn could follow. By when it is taken, more may be drawn.
    over: bool,
}

impl Sequence {
    /// What the core is asked for, and the rest.
    pub(crate) fn new(mut job: Job, kin: Kin, started: Instant) -> (Submission, Self) {
        // Those that follow begin where the first of them has.
        let begin_by = job.scheduling.begin_by.filter(|_| !matches!(kin, Kin::Of(_)));
        let submission = Submission {
            kin,
            tenant: job.scheduling.tenant,
            priority: job.scheduling.priority,
            begin_by: begin_by.map(|at| millis(at, started)),
            deadline: job.scheduling.deadline.map(|at| millis(at, started)),
            prompt: std::mem::take(&mut job.prompt),
            max_new: usize::try_from(job.max_tokens).unwrap_or(usize::MAX),
        };
        let sequence = Self {
            job,
            utf8: Utf8Stream::default(),
            log: Log::default(),
            said: Zeroizing::default(),
            said_tokens: Vec::new(),
            drawn: 0,
        };
        (submission, sequence)
    }

    /// Whether nobody waits for the answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.job.events.is_closed() || self.job.control.is_cancelled()
    }

    /// The other choices of its request, once.
    pub(crate) fn take_others(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.job.others)
    }

    /// Notes that its turn has come, and how many tokens of the prompt were there already. For the other choices all were: theirs
    /// is the prompt of the first.
    pub(crate) fn started(&self, cached: usize) {
        if self.job.choice == 0 {
            self.job.control.begin(u32::try_from(cached).unwrap_or(u32::MAX));
        }
    }

    /// Notes that its first `tokens` are computed. Those of the other choices are the first one's before that.
    pub(crate) fn computed(&self, tokens: usize) {
        self.job.control.compute(u32::try_from(tokens).unwrap_or(u32::MAX));
    }

    /// Whether the likeliest token is all that is asked of a row.
    pub(crate) fn takes_likeliest(&self) -> bool {
        self.job.matcher.is_none()
            && self.job.logprobs.is_none()
            && self.job.sampler.takes_likeliest()
    }

    /// The next token from each row, as long as the one drawn before is the draft that the row
    /// comes behind. What is drawn is what would be drawn without drafts, whatever draws it: this sees the
    /// same logits after the same tokens. Once the answer has ended, what follows is never taken.
    pub(crate) fn draw<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a Row>,
        drafts: &[u32],
        tokenizer: &Tokenizer,
        drawn: &mut Vec<Result<Drawn, EngineError>>,
    ) {
        let drafts = drafts.iter().copied().map(Some).chain([None]);
        for (row, draft) in rows.zip(drafts) {
            let one = self.draw_one(row, tokenizer);
            let token = one.as_ref().ok().map(|drawn| drawn.token);
            drawn.push(one);
            if token.is_none() || token != draft {
                break;
            }
        }
    }

    fn draw_one(&mut self, row: &Row, tokenizer: &Tokenizer) -> Result<Drawn, EngineError> {
        let logits = match row {
            Row::Logits(logits) => logits,
            Row::Likeliest(token) => {
                let token = token.ok_or(EngineError::Compute { stage: "finite logits" })?;
                return Ok(Drawn { token, scores: None, over: false });
            }
        };
        // Embeddings may be padded with rows that are no tokens.
        let logits = logits.get(..tokenizer.len()).unwrap_or(logits);
        let allowed = self.job.matcher.as_mut().map(Matcher::allowed).transpose()?;
        let token = self.job.sampler.draw(logits, allowed.as_deref())?;
        if let Some(matcher) = self.job.matcher.as_mut().filter(|_| !tokenizer.ends_turn(token)) {
            matcher.advance(text_of(token, &self.job.spelled, tokenizer))?;
        }
        let scores = self.job.logprobs.map(|top| score(logits, token, top.into()));
        let over = self.job.matcher.as_ref().is_some_and(Matcher::is_over);
        Ok(Drawn { token, scores, over })
    }

    /// What drawing took beside its tokens since the last call, in tokens that it could have computed.
    pub(crate) fn take_work(&mut self) -> usize {
        self.job.matcher.as_mut().map_or(0, Matcher::take_work)
    }

    /// Counts the token that was drawn and takes its text, to be told with [`Sequence::tell`] or the end of
    /// the answer; the token, if the answer goes on with it.
    pub(crate) fn take(
        &mut self,
        drawn: &Result<Drawn, EngineError>,
        tokenizer: &Tokenizer,
    ) -> Option<u32> {
        let reason = match drawn {
            // Its requester left while it was computed.
            _ if self.is_abandoned() => FinishReason::Cancelled,
            Err(error) => {
                self.fail(error.clone());
                return None;
            }
            Ok(drawn) => match self.advance(drawn, tokenizer) {
                None => return Some(drawn.token),
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
        self.tell();
        self.job.end(Event::Failed(error));
    }

    fn finish(&mut self, reason: FinishReason) {
        self.tell();
        let (choice, usage) = (self.job.choice, self.job.control.usage());
        self.job.end(Event::Finished { choice, reason, usage });
    }

    fn advance(&mut self, drawn: &Drawn, tokenizer: &Tokenizer) -> Option<FinishReason> {
        self.job.control.count_token();
        self.drawn = self.drawn.saturating_add(1);
        if tokenizer.ends_turn(drawn.token) {
            self.flush();
            return Some(FinishReason::Stop);
        }
        if let Some(scores) = &drawn.scores {
            self.log.push(scores, tokenizer);
        }
        let text = self.utf8.push(text_of(drawn.token, &self.job.spelled, tokenizer));
        if self.release(&text) {
            return Some(FinishReason::Stop);
        }
        // The end of the turn is not worth a step.
        if drawn.over {
            self.flush();
            return Some(FinishReason::Stop);
        }
        if self.drawn >= self.job.max_tokens {
            let stopped = self.flush();
            return Some(if stopped { FinishReason::Stop } else { FinishReason::Length });
        }
        None
    }

    /// Sends what the step has said, in one piece.
    pub(crate) fn tell(&mut self) {
        let tokens = std::mem::take(&mut self.said_tokens);
        if self.said.is_empty() && tokens.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.said).as_bytes().to_vec().into();
        self.job.send(Event::Delta(Delta { choice: self.job.choice, text, tokens }));
    }

    /// Passes text through the stop strings; whether one was reached.
    fn release(&mut self, text: &str) -> bool {
        self.log.text(text);
        let released = self.job.stops.push(text);
        self.say(&released.text);
        released.stopped
    }

    /// Takes what was held back; whether that completed a stop string.
    fn flush(&mut self) -> bool {
        let tail = self.utf8.finish();
        if self.release(&tail) {
            return true;
        }
        let held = self.job.stops.finish();
        self.say(&held);
        // What is left begins behind the text: tokens that have none.
        self.said_tokens.extend(self.log.finish());
        false
    }

    fn say(&mut self, text: &str) {
        if !text.is_empty() {
            self.said = concat(&self.said, text);
            self.said_tokens.extend(self.log.release(text));
        }
    }
}

/// What a token says in this answer.
fn text_of<'a>(token: u32, spelled: &[(u32, &'static str)], tokenizer: &'a Tokenizer) -> &'a [u8] {
    let spelled = spelled.iter().find(|(id, _)| *id == token);
    spelled.map_or_else(|| tokenizer.bytes(token), |(_, text)| text.as_bytes())
}

impl Job {
    /// Tells the receiver that there will be no answer.
    pub(crate) fn fail(mut self, error: EngineError) {
        self.end(Event::Failed(error));
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

    /// Events one choice can send, and a few more: a piece of text for each step, of a token or more, and
    /// the last word.
    pub(crate) fn event_capacity(max_tokens: u32) -> usize {
        usize::try_from(max_tokens).unwrap_or(usize::MAX).saturating_add(5)
    }
}
