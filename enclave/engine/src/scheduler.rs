//! The engine thread. It owns the model and the pages, and does what the core (`schedule/`) decides:
//! one step after the other, each of many requests together. Between two steps it takes new requests
//! and lets go of those that nobody waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use zeroize::Zeroizing;

use crate::decoder::{Row, Segment, Store};
use crate::engine::Lost;
use crate::error::EngineError;
use crate::model::Model;
use crate::schedule::{Core, Kin, Limits, Refused, Step, Ticket, Work};
use crate::sequence::{Drawn, Job, Sequence};
use crate::tokenizer::Tokenizer;

/// What the engine thread starts with.
pub(crate) struct Scheduler {
    pub(crate) model: Model,
    /// Of the model, with room for the pages of `limits`.
    pub(crate) store: Store,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) limits: Limits,
    pub(crate) clock: fn() -> Instant,
    pub(crate) lost: Lost,
}

impl Scheduler {
    /// Works until every sender of jobs is gone, then fails what is left.
    pub(crate) fn run(self) {
        let Self { model, store, tokenizer, jobs, limits, clock, lost: gone } = self;
        let core = Core::new(limits);
        let sequences = BTreeMap::new();
        let started = clock();
        let lost = None;
        let mut serving =
            Serving { model, tokenizer, limits, clock, started, core, store, sequences, lost };
        let mut idle = true;
        loop {
            // Everything that was freed is wiped before the thread sleeps.
            if idle {
                match jobs.recv() {
                    Ok(job) => serving.accept(job),
                    Err(_) => return,
                }
            }
            loop {
                match jobs.try_recv() {
                    Ok(job) => serving.accept(job),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return serving.stop(),
                }
            }
            serving.drop_abandoned();
            idle = serving.step();
            if let Some(error) = serving.lost.take() {
                serving.lose(jobs, &error);
                return gone.tell(&error);
            }
        }
    }
}

/// Requests in progress, waiting and running.
struct Serving {
    model: Model,
    tokenizer: Arc<Tokenizer>,
    limits: Limits,
    clock: fn() -> Instant,
    started: Instant,
    core: Core,
    store: Store,
    sequences: BTreeMap<Ticket, Sequence>,
    /// Why nothing will be computed any more.
    lost: Option<EngineError>,
}

/// What draws the next tokens of a sequence.
struct Draw<'a> {
    ticket: Ticket,
    sequence: &'a mut Sequence,
    /// After its last token, then after each of its drafts.
    rows: &'a [Row],
    drafts: &'a [u32],
    drawn: Vec<Result<Drawn, EngineError>>,
}

impl Serving {
    fn accept(&mut self, job: Job) {
        let kin = if job.others.is_empty() { Kin::Alone } else { Kin::First };
        self.submit(job, kin);
    }

    /// The other choices of a request whose first is about to draw: the pages of the prompt are there.
    fn begin_others(&mut self, first: Ticket) {
        let others = self.sequences.get_mut(&first).map(Sequence::take_others);
        for mut job in others.unwrap_or_default() {
            job.prompt = Zeroizing::new(self.core.tokens(first).to_vec());
            self.submit(job, Kin::Of(first));
        }
    }

    fn submit(&mut self, job: Job, kin: Kin) {
        let (submission, mut sequence) = Sequence::new(job, kin, self.started);
        match self.core.submit(submission) {
            Ok(ticket) => drop(self.sequences.insert(ticket, sequence)),
            Err(Refused::Busy) => {
                let limit = self.limits.running.saturating_add(self.limits.waiting);
                sequence.fail(EngineError::Busy { limit });
            }
            Err(Refused::Size) => {
                sequence.fail(EngineError::Compute { stage: "more than the cache holds" });
            }
        }
    }

    /// Who no longer waits gives its place and its pages back now, not when its turn would have come.
    fn drop_abandoned(&mut self) {
        let core = &mut self.core;
        self.sequences.retain(|ticket, sequence| {
            let abandoned = sequence.is_abandoned();
            if abandoned {
                core.end(*ticket);
                sequence.cancel();
            }
            !abandoned
        });
    }

    fn stop(mut self) {
        self.fail(&EngineError::Stopped);
    }

    /// Fails every request there is.
    fn fail(&mut self, error: &EngineError) {
        self.sequences.values_mut().for_each(|sequence| sequence.fail(error.clone()));
    }

    /// Fails every request there is, those that were not taken yet among them, and lets go of what they had,
    /// which wipes it. Who asks from now on is refused at once.
    fn lose(mut self, jobs: Receiver<Job>, error: &EngineError) {
        self.fail(error);
        jobs.try_iter().for_each(|job| job.fail(error.clone()));
    }

    /// One step; whether nothing is left.
    fn step(&mut self) -> bool {
        let mut step = self.core.plan(millis((self.clock)(), self.started));
        let room = self.store.provide(step.pages);
        if room < step.pages {
            self.core.shrink(room, &mut step);
        }
        step.wipe.iter().for_each(|page| self.store.wipe(*page));
        for (ticket, cached) in &step.started {
            self.sequences.get(ticket).inspect(|sequence| sequence.started(*cached));
        }
        for ticket in &step.expired {
            self.end(*ticket, |sequence| sequence.fail(EngineError::Expired));
        }
        for ticket in &step.outgrown {
            let stage = "memory for keys and values";
            self.end(*ticket, |sequence| sequence.fail(EngineError::Compute { stage }));
        }
        match self.compute(&step) {
            Ok(rows) => {
                self.core.computed(&step);
                for work in &step.work {
                    self.sequences.get(&work.ticket).inspect(|s| s.computed(work.tokens.end));
                }
                self.draw(&step, &rows);
            }
            Err(error @ EngineError::Lost { .. }) => self.lost = Some(error),
            Err(error) => {
                for work in &step.work {
                    self.end(work.ticket, |sequence| sequence.fail(error.clone()));
                }
            }
        }
        self.core.is_empty() && step.work.is_empty()
    }

    /// What is drawn from: work by work, each in the order of its tokens.
    fn compute(&mut self, step: &Step) -> Result<Vec<Row>, EngineError> {
        let (core, sequences) = (&self.core, &self.sequences);
        let segment = |work: &Work| Segment {
            tokens: core.tokens_of(work),
            before: work.tokens.start,
            pages: core.pages(work.ticket),
            wanted: work.draws,
            likeliest: sequences.get(&work.ticket).is_some_and(Sequence::takes_likeliest),
        };
        let batch: Vec<Segment<'_>> = step.work.iter().map(segment).collect();
        self.model.decoder().step(&mut self.store, &batch, self.tokenizer.len())
    }

    /// Draws the next tokens, all threads together, then passes them on in the order of arrival. Rows and what
    /// is drawn stay where they are until they are wiped: what is moved leaves a copy behind.
    fn draw(&mut self, step: &Step, mut rows: &[Row]) {
        let mut works: BTreeMap<Ticket, (&Work, &[Row])> = BTreeMap::new();
        for work in step.work.iter().filter(|work| work.draws > 0) {
            let (own, others) = rows.split_at_checked(work.draws).unwrap_or((rows, &[]));
            works.insert(work.ticket, (work, own));
            rows = others;
        }
        let (core, tokenizer) = (&self.core, &self.tokenizer);
        let draw = |(ticket, sequence): (&Ticket, _)| {
            let (work, rows) = works.remove(ticket)?;
            let (drafts, drawn) = (core.drafts_of(work), Vec::with_capacity(work.draws));
            Some(Draw { ticket: *ticket, sequence, rows, drafts, drawn })
        };
        let mut draws: Vec<Draw<'_>> = self.sequences.iter_mut().filter_map(draw).collect();
        self.model.decoder().share(&mut draws, |draw| {
            draw.sequence.draw(draw.rows.iter(), draw.drafts, tokenizer, &mut draw.drawn);
        });
        let mut ended = Vec::new();
        let drawn: Vec<_> = draws.into_iter().map(|draw| (draw.ticket, draw.drawn)).collect();
        for (ticket, drawn) in drawn {
            self.begin_others(ticket);
            let work = self.sequences.get_mut(&ticket).map_or(0, Sequence::take_work);
            self.core.charge_work(ticket, work);
            for drawn in &drawn {
                let Some(sequence) = self.sequences.get_mut(&ticket) else { break };
                let Some(token) = sequence.take(drawn, &self.tokenizer) else {
                    ended.push(ticket);
                    break;
                };
                self.core.append(ticket, token);
            }
            if let Some(sequence) = self.sequences.get_mut(&ticket) {
                sequence.tell();
            }
        }
        ended.into_iter().for_each(|ticket| self.end(ticket, |_| ()));
    }

    fn end(&mut self, ticket: Ticket, last: impl FnOnce(&mut Sequence)) {
        self.core.end(ticket);
        if let Some(mut sequence) = self.sequences.remove(&ticket) {
            last(&mut sequence);
        }
    }
}

/// The time of the core: milliseconds since the engine started.
pub(crate) fn millis(at: Instant, started: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX)
}

/// One of the places requests may hold, waiting or active. Freed on drop.
pub(crate) struct Slot {
    taken: Arc<AtomicUsize>,
}

impl Slot {
    /// Refuses at once where all `limit` places are taken; takes none.
    pub(crate) fn find(taken: &AtomicUsize, limit: usize) -> Result<(), EngineError> {
        if taken.load(Ordering::Acquire) < limit {
            return Ok(());
        }
        Err(EngineError::Busy { limit })
    }

    /// Takes a place unless `limit` are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Result<Self, EngineError> {
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                n.checked_add(1).filter(|n| *n <= limit)
            })
            .map(|_| Self { taken: Arc::clone(taken) })
            .map_err(|_| EngineError::Busy { limit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tokens of a step of few requests: prompts are computed in parts of at most this many. It bounds how
/// long a prompt delays the answers of others, and the buffers; results do not depend on it.
pub const PREFILL_CHUNK_TOKENS: usize = 64;

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
