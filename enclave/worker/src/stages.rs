//! Boot stages as `/readyz` shows them and as the console prints them: one source for both.

use std::sync::Mutex;

use chrysalis_wire::{BootStage, StageState};
use serde::Serialize;

use crate::console::Console;

/// The state of every boot stage.
pub struct Stages {
    console: Console,
    entries: Mutex<Vec<StageEntry>>,
}

/// One stage as `/readyz` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct StageEntry {
    /// The stage.
    pub stage: BootStage,
    /// Its state; absent before it started.
    pub state: Option<StageState>,
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
pub struct Readiness {
    /// `chrysalis/readyz/v1`.
    pub schema: &'static str,
    /// Whether requests are served.
    pub ready: bool,
    /// Every stage in order.
    pub stages: Vec<StageEntry>,
}

impl Stages {
    /// All stages, none started.
    #[must_use]
    pub fn new(console: Console) -> Self {
        let entries = BootStage::ALL
            .iter()
            .map(|&stage| StageEntry { stage, state: None, done: 0, total: 0 })
            .collect();
        Self { console, entries: Mutex::new(entries) }
    }

    /// The console behind the stages.
    #[must_use]
    pub const fn console(&self) -> &Console {
        &self.console
    }

    /// Records and prints a stage change.
    pub fn set(&self, stage: BootStage, state: StageState) {
        self.update(stage, state, 0, 0);
        self.console.stage(stage, state);
    }

    /// Records and prints the progress of a counted stage.
    pub fn progress(&self, stage: BootStage, done: u64, total: u64) {
        self.update(stage, StageState::Progress, done, total);
        self.console.progress(stage, done, total);
    }

    /// Records and prints that the stage in progress, or else the next one, is refused with
    /// `code`.
    pub fn refused(&self, code: &str) {
        let stages = self.snapshot();
        let running =
            |e: &&StageEntry| matches!(e.state, Some(StageState::Started | StageState::Progress));
        let current = stages
            .iter()
            .rev()
            .find(running)
            .or_else(|| stages.iter().find(|e| e.state.is_none()))
            .map_or(BootStage::Ready, |e| e.stage);
        self.update(current, StageState::Refused, 0, 0);
        self.console.refused(current, code);
    }

    /// What `/readyz` answers now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let stages = self.snapshot();
        let ready =
            stages.iter().any(|e| e.stage == BootStage::Ready && e.state == Some(StageState::Done));
        Readiness { schema: "chrysalis/readyz/v1", ready, stages }
    }

    fn snapshot(&self) -> Vec<StageEntry> {
        self.entries.lock().map(|e| e.clone()).unwrap_or_default()
    }

    fn update(&self, stage: BootStage, state: StageState, done: u64, total: u64) {
        if let Ok(mut entries) = self.entries.lock()
            && let Some(entry) = entries.iter_mut().find(|e| e.stage == stage)
        {
            *entry = StageEntry { stage, state: Some(state), done, total };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stages() -> Stages {
        Stages::new(Console::new(Box::new(std::io::sink())))
    }

    #[test]
    fn is_ready_only_when_the_last_stage_is_done() {
        let s = stages();
        for stage in BootStage::ALL {
            assert!(!s.readiness().ready);
            s.set(stage, StageState::Started);
            assert!(!s.readiness().ready);
            s.set(stage, StageState::Done);
        }
        assert!(s.readiness().ready);
    }

    #[test]
    fn a_refusal_is_recorded_at_the_stage_in_progress() {
        let s = stages();
        s.set(BootStage::Keys, StageState::Done);
        s.set(BootStage::Model, StageState::Started);
        s.progress(BootStage::Model, 1, 2);
        s.refused("E-CHUNK-HASH");
        let entry = s.readiness().stages.into_iter().find(|e| e.stage == BootStage::Model);
        assert_eq!(entry.unwrap().state, Some(StageState::Refused));
    }

    #[test]
    fn a_refusal_between_two_stages_is_recorded_at_the_next_one() {
        let s = stages();
        s.refused("E-USAGE");
        assert_eq!(s.readiness().stages[0].state, Some(StageState::Refused));
        let s = stages();
        for stage in [BootStage::Manifest, BootStage::Keys, BootStage::Listen] {
            s.set(stage, StageState::Done);
        }
        s.refused("E-NOT-A-BUNDLE");
        let refused = s.readiness().stages.into_iter().find(|e| e.state != Some(StageState::Done));
        let refused = refused.unwrap();
        assert_eq!((refused.stage, refused.state), (BootStage::Grant, Some(StageState::Refused)));
    }
}
