//! `down` and `status`: what another process can learn about a supervisor and ask of it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::LoaderError;
use crate::orphan;
use crate::state::{RunState, StateDir};
use crate::supervisor::STOP_GRACE;

/// What a state directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nobody supervises. `last` is how the last run ended, if there was one.
    Down {
        /// The last run.
        last: Option<Box<RunState>>,
    },
    /// A supervisor lives.
    Up(Box<RunState>),
    /// A supervisor lives and has not written anything yet.
    Starting {
        /// Its process id; 0 if not even that is written.
        pid: u32,
    },
    /// The supervisor died without ending its run; its worker may still be there.
    Stale {
        /// What it wrote last.
        last: Box<RunState>,
        /// Whether its worker still runs.
        worker_alive: bool,
    },
}

/// What `down` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// Nothing was running.
    NothingRunning,
    /// The supervisor ended its worker and itself.
    Stopped {
        /// The supervisor.
        pid: u32,
    },
    /// The supervisor had to be killed.
    Killed {
        /// The supervisor.
        pid: u32,
    },
    /// There was no supervisor, but a worker it had left behind; that one was ended.
    EndedOrphan {
        /// The worker.
        pid: u32,
    },
}

/// Reads the state directory.
///
/// # Errors
/// [`LoaderError::State`], [`LoaderError::StateMalformed`].
pub fn status(state: &Path) -> Result<Status, LoaderError> {
    let state = StateDir::at(state);
    let holder = state.holder()?;
    let run = state.read_run()?.map(Box::new);
    Ok(match (holder, run) {
        (Some(pid), Some(run)) if run.supervisor == pid => Status::Up(run),
        (Some(pid), _) => Status::Starting { pid },
        (None, Some(run)) if !run.phase.is_final() => {
            let worker_alive = run.worker.is_some_and(orphan::is_alive);
            Status::Stale { last: run, worker_alive }
        }
        (None, last) => Status::Down { last },
    })
}

/// Stops the supervisor of a state directory, and with it its worker. Stopping what does not run
/// is not an error.
///
/// # Errors
/// [`LoaderError::State`], [`LoaderError::WillNotStop`].
pub fn down(root: &Path) -> Result<Down, LoaderError> {
    let state = StateDir::at(root);
    // The worker has its grace time; the supervisor a little more to notice.
    let patience = STOP_GRACE.saturating_add(SUPERVISOR_MARGIN);
    let stopped = match state.holder()? {
        None => None,
        Some(_) => Some(stop_supervisor(&state, patience)?),
    };
    // A supervisor that was killed, now or before, may have left its worker behind.
    let worker = state.read_run().ok().flatten().and_then(|run| run.worker);
    let orphan = worker.filter(|worker| orphan::end(*worker, STOP_GRACE));
    Ok(match (stopped, orphan) {
        (Some(outcome), _) => outcome,
        (None, Some(worker)) => Down::EndedOrphan { pid: worker.pid },
        (None, None) => Down::NothingRunning,
    })
}

fn stop_supervisor(state: &StateDir, patience: Duration) -> Result<Down, LoaderError> {
    let mut pid = 0;
    for (signal, wait) in [(Signal::TERM, patience), (Signal::KILL, SUPERVISOR_MARGIN)] {
        let deadline = Instant::now() + wait;
        let mut asked = false;
        while Instant::now() < deadline {
            let Some(holder) = state.holder()? else {
                return Ok(match signal {
                    Signal::KILL => Down::Killed { pid },
                    _ => Down::Stopped { pid },
                });
            };
            // A new supervisor writes its id just after it takes the lock. The lock is held, so
            // the id is alive and its own.
            let target = i32::try_from(holder).ok().and_then(Pid::from_raw);
            if let (false, Some(target)) = (asked, target) {
                pid = holder;
                asked = kill_process(target, signal).is_ok();
            }
            std::thread::sleep(POLL);
        }
    }
    Err(LoaderError::WillNotStop { pid })
}

/// Time a supervisor gets beyond its worker's grace time.
const SUPERVISOR_MARGIN: Duration = Duration::from_secs(3);

/// How often the lock is looked at.
const POLL: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::run_state;
    use crate::state::{Phase, ProcessId};

    #[test]
    fn an_empty_directory_is_down_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(status(dir.path()).unwrap(), Status::Down { last: None });
        assert_eq!(down(dir.path()).unwrap(), Down::NothingRunning);
    }

    #[test]
    fn a_run_without_a_lock_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let worker = Some(ProcessId { pid: 1, start_ticks: u64::MAX });
        let run = crate::RunState { phase: Phase::Ready, worker, ..run_state() };
        state.write_run(&run).unwrap();
        let expected = Status::Stale { last: Box::new(run), worker_alive: false };
        assert_eq!(status(dir.path()).unwrap(), expected);
        assert_eq!(down(dir.path()).unwrap(), Down::NothingRunning);
    }

    #[test]
    fn a_finished_run_is_down() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let run = crate::RunState { phase: Phase::Refused, ..run_state() };
        state.write_run(&run).unwrap();
        assert!(matches!(status(dir.path()).unwrap(), Status::Down { last: Some(_) }));
    }

    #[test]
    fn a_held_lock_with_an_old_run_is_starting() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::create(dir.path()).unwrap();
        let run = crate::RunState { supervisor: 1, ..run_state() };
        state.write_run(&run).unwrap();
        let _lock = state.lock().unwrap();
        let pid = std::process::id();
        assert_eq!(status(dir.path()).unwrap(), Status::Starting { pid });
    }
}
