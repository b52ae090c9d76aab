//! The engine thread. It owns the model and computes for every request in turn: one token for each
//! request that is generating, then one chunk of the oldest prompt. So a long prompt delays the others
//! by one chunk per token, not by its length, and several long prompts do not add up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use crate::error::EngineError;
use crate::model::Model;
use crate::sequence::{Job, Sequence, Turn};
use crate::tokenizer::Tokenizer;

/// State of the engine thread.
pub(crate) struct Scheduler {
    pub(crate) model: Model,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) max_concurrent: usize,
}

impl Scheduler {
    /// Works until every sender of jobs is gone, then fails what is left.
    pub(crate) fn run(self) {
        let mut active: Vec<Sequence> = Vec::new();
        // Bounded by the slots: see `Slot`.
        let mut waiting: VecDeque<Job> = VecDeque::new();
        loop {
            if active.is_empty() && waiting.is_empty() {
                match self.jobs.recv() {
                    Ok(job) => waiting.push_back(job),
                    Err(_) => return,
                }
            }
            loop {
                match self.jobs.try_recv() {
                    Ok(job) => waiting.push_back(job),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        let waiting = waiting.into_iter().map(|job| self.start(job));
                        return active
                            .into_iter()
                            .chain(waiting)
                            .for_each(|mut s| s.fail(EngineError::Stopped));
                    }
                }
            }
            // Who no longer waits gives the place back now, not when its turn would have come.
            waiting.retain_mut(|job| {
                let abandoned = job.is_abandoned();
                if abandoned {
                    job.cancel();
                }
                !abandoned
            });
            while active.len() < self.max_concurrent {
                let Some(job) = waiting.pop_front() else { break };
                active.push(self.start(job));
            }
            self.round(&mut active);
        }
    }

    fn start(&self, job: Job) -> Sequence {
        Sequence::new(job, self.model.session())
    }

    fn round(&self, active: &mut Vec<Sequence>) {
        let mut prefilled = false;
        active.retain_mut(|sequence| {
            let waits = sequence.is_prefilling() && !sequence.is_abandoned();
            if waits && core::mem::replace(&mut prefilled, true) {
                return true;
            }
            sequence.turn(&self.tokenizer) == Turn::GoesOn
        });
    }
}

/// One of the places requests may hold, waiting or active. Freed on drop.
pub(crate) struct Slot {
    taken: Arc<AtomicUsize>,
}

impl Slot {
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

/// Prompt tokens computed at a time. The same for every request at any load, so that the same request
/// gives the same logits whoever else is served.
pub const PREFILL_CHUNK_TOKENS: usize = 64;
