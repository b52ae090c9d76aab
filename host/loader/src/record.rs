//! Writes down what the supervisor sees: `run.json`, the two logs and the report to `up`.

use std::time::{Duration, Instant};

use chrysalis_wire::{BootStage, ConsoleEvent, StageState, UnixMillis};

use crate::earnings::Earnings;
use crate::error::LoaderError;
use crate::launch::Launch;
use crate::log::LogWriter;
use crate::report::{FundingWanted, Reporter, SupervisorEvent};
use crate::state::{Phase, RUN_SCHEMA, RunState, StateDir};

/// Reads the time of day.
pub type Clock = fn() -> UnixMillis;

/// The supervisor's memory, kept on disk.
pub(crate) struct Recorder {
    pub(crate) run: RunState,
    state: StateDir,
    console: LogWriter,
    log: LogWriter,
    earnings: Earnings,
    reporter: Reporter,
    clock: Clock,
    last_progress: Option<Instant>,
    /// The last progress written down was complete; another one says nothing new.
    complete: bool,
}

impl Recorder {
    pub(crate) fn open(
        state: StateDir,
        launch: &Launch,
        clock: Clock,
        reporter: Reporter,
    ) -> Result<Self, LoaderError> {
        let run = RunState {
            schema: RUN_SCHEMA.to_owned(),
            supervisor: std::process::id(),
            worker: None,
            listen: launch.listen.to_string(),
            worker_address: None,
            phase: Phase::Starting,
            stage: None,
            insecure_sim: None,
            started: clock().seconds(),
            ready: None,
            restarts: 0,
            dropped_lines: 0,
            refusal: None,
            last_exit: None,
            served: 0,
            refused: 0,
            program: launch.worker.clone(),
            manifest: launch.manifest.clone(),
            bundle: launch.bundle.clone(),
        };
        let console = LogWriter::open(state.console_log())?;
        let log = LogWriter::open(state.loader_log())?;
        let earnings = Earnings::at(state.earnings());
        let (last_progress, complete) = (None, false);
        Ok(Self { run, state, console, log, earnings, reporter, clock, last_progress, complete })
    }

    /// Writes `run.json`. A full disk must not stop a worker that serves: the error is noted.
    pub(crate) fn save(&mut self) {
        if let Err(e) = self.state.write_run(&self.run) {
            self.note(&e.to_string());
        }
    }

    /// Whether the worker earned what is not in the ledger yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.earnings.is_behind()
    }

    /// Records what could not be recorded before.
    pub(crate) fn catch_up(&mut self) {
        if self.is_behind() {
            match self.earnings.retry((self.clock)().seconds()) {
                Ok(()) => self.note("the claims that were not recorded are now"),
                Err(error) => {
                    self.note(&format!("a claim is still not recorded: {}: {error}", error.code()));
                }
            }
        }
    }

    /// A line in `loader.log`.
    pub(crate) fn note(&mut self, text: &str) {
        let line = format!("{} {text}", (self.clock)().seconds().0);
        self.log.line(&line);
    }

    pub(crate) fn report(&mut self, event: SupervisorEvent) {
        self.reporter.send(event);
    }

    pub(crate) fn phase(&mut self, phase: Phase) {
        self.run.phase = phase;
        self.save();
    }

    /// Takes one console event into logs, report and `run.json`. Progress is thinned: it is for
    /// eyes, and a worker must not be able to keep the host's disk busy with it.
    pub(crate) fn event(&mut self, event: &ConsoleEvent) {
        if let ConsoleEvent::Stage { state: StageState::Progress, done, total, .. } = event {
            let early = self.last_progress.is_some_and(|at| at.elapsed() < PROGRESS_INTERVAL);
            let complete = done == total;
            if early && (self.complete || !complete) {
                return;
            }
            self.last_progress = Some(Instant::now());
            self.complete = complete;
        }
        let now = (self.clock)().seconds();
        if let ConsoleEvent::Earned { claim } = event {
            // Sums belong in the ledger, where they replace each other, and not in a log as well.
            if let Err(error) = self.earnings.record(claim, now) {
                self.note(&format!("a claim was not recorded: {}: {error}", error.code()));
            }
            return;
        }
        if let ConsoleEvent::FundingWanted { meter_key, terms } = event {
            // Answered and not logged: whoever reaches the worker can make it say this.
            match FundingWanted::read(*meter_key, terms) {
                Ok(wanted) => self.reporter.want(wanted),
                Err(error) => self.note(&format!("terms are not read: {}: {error}", error.code())),
            }
            return;
        }
        self.console.event(now, event);
        self.report(SupervisorEvent::Console { event: event.clone() });
        let run = &mut self.run;
        match event {
            ConsoleEvent::Stage { stage, state, code, .. } => {
                run.stage = Some(*stage);
                match (stage, state) {
                    (_, StageState::Refused) => run.refusal.clone_from(code),
                    (BootStage::Grant, StageState::Started) => run.phase = Phase::WaitingForGrant,
                    (BootStage::Grant, StageState::Done) => run.phase = Phase::Starting,
                    (BootStage::Ready, StageState::Done) => {
                        run.phase = Phase::Ready;
                        run.ready = Some(now);
                    }
                    _ => {}
                }
            }
            ConsoleEvent::Listening { insecure_sim, .. } => run.insecure_sim = Some(*insecure_sim),
            ConsoleEvent::Served { requests, refused } => {
                run.served = *requests;
                run.refused = *refused;
            }
            ConsoleEvent::Init { code: Some(code), .. }
            | ConsoleEvent::PowerOff { code: Some(code) } => run.refusal = Some(code.clone()),
            ConsoleEvent::Image { insecure_sim, .. } => run.insecure_sim = Some(*insecure_sim),
            ConsoleEvent::Init { .. }
            | ConsoleEvent::Measured { .. }
            | ConsoleEvent::Earned { .. }
            | ConsoleEvent::FundingWanted { .. }
            | ConsoleEvent::WorkerEnded { .. }
            | ConsoleEvent::ContextMemory { .. }
            | ConsoleEvent::PeersRefused { .. }
            | ConsoleEvent::PowerOff { .. }
            | ConsoleEvent::Stopping {} => {}
        }
        self.save();
    }
}

/// Shortest time between two progress events that are written down.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
