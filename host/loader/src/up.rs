//! `up`: starts a detached supervisor and follows its report to the first outcome.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::backend::describe;
use crate::error::LoaderError;
use crate::launch::Launch;
use crate::report::SupervisorEvent;
use crate::state::{StateDir, state_error};

/// How to start a supervisor: a program that reads a [`Launch`] from its standard input, calls
/// [`detach`] and then [`crate::supervise`] with its standard output as the report.
#[derive(Clone, Debug)]
pub struct SupervisorCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// How a boot went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Up {
    /// Requests are served.
    Ready {
        /// Public address.
        listen: SocketAddr,
        /// Whether the worker says it is simulated.
        insecure_sim: bool,
    },
    /// The model is sealed, its key has to be granted.
    WaitingForGrant {
        /// Public address, where the grant goes.
        listen: SocketAddr,
        /// Whether the worker says it is simulated.
        insecure_sim: bool,
    },
}

/// Starts a supervisor for `launch` and waits for its first outcome, handing every event on the
/// way to `progress`. The supervisor lives on when this process ends.
///
/// # Errors
/// What the supervisor failed with; [`LoaderError::AlreadyRunning`], [`LoaderError::Spawn`],
/// [`LoaderError::State`], [`LoaderError::SupervisorLost`].
pub fn up(
    launch: &Launch,
    supervisor: &SupervisorCommand,
    mut progress: impl FnMut(&SupervisorEvent),
) -> Result<Up, LoaderError> {
    let state = StateDir::create(&launch.state)?;
    // Only a courtesy, for an early answer: the supervisor's own lock decides.
    if state.holder()?.is_some() {
        drop(state.lock()?);
    }
    let mut child = spawn(&state, supervisor)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it cannot be written the supervisor is gone, which its missing report will show.
        let _ = serde_json::to_vec(launch).map(|bytes| stdin.write_all(&bytes));
    }
    let Some(report) = child.stdout.take() else {
        return Err(lost(&mut child));
    };
    for line in BufReader::new(report).lines() {
        let Ok(line) = line else { break };
        let Ok(event) = serde_json::from_str::<SupervisorEvent>(&line) else { continue };
        progress(&event);
        match event {
            SupervisorEvent::Ready { listen, insecure_sim } => {
                return Ok(Up::Ready { listen, insecure_sim });
            }
            SupervisorEvent::WaitingForGrant { listen, insecure_sim } => {
                return Ok(Up::WaitingForGrant { listen, insecure_sim });
            }
            SupervisorEvent::Failed { error } => {
                let _ = child.wait();
                return Err(error);
            }
            SupervisorEvent::Supervising { .. }
            | SupervisorEvent::WorkerStarted { .. }
            | SupervisorEvent::Console { .. }
            | SupervisorEvent::WorkerEnded { .. } => {}
        }
    }
    Err(lost(&mut child))
}

/// Leaves the session of the terminal that started `up`. Called first thing by a supervisor.
///
/// # Errors
/// If this process leads a process group already.
pub fn detach() -> std::io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

fn spawn(state: &StateDir, supervisor: &SupervisorCommand) -> Result<Child, LoaderError> {
    let path = state.loader_log();
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| state_error("open", &path, &e))?;
    Command::new(&supervisor.program)
        .args(&supervisor.arguments)
        // Keeps no directory busy that the operator may want to unmount.
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|e| LoaderError::Spawn {
            path: supervisor.program.display().to_string(),
            reason: e.to_string(),
        })
}

fn lost(child: &mut Child) -> LoaderError {
    // It closed its report, so it is about to end; how it ends is worth a moment.
    let deadline = Instant::now() + LAST_MOMENT;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(LAST_MOMENT / 50);
    }
    let _ = child.kill();
    let status = child.wait().map_or_else(|e| e.to_string(), describe);
    LoaderError::SupervisorLost { status }
}

/// How long a supervisor that closed its report may take to end.
const LAST_MOMENT: Duration = Duration::from_secs(1);
