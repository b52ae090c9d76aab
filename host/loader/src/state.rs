//! The state directory: who supervises, what was started, how far it got. Nothing in it is
//! secret, nothing in it is believed beyond this user's own processes.
//!
//! * `loader.pid` – locked (`flock`) for as long as its supervisor lives; holds its process id.
//!   The lock, never the number, says whether somebody is running.
//! * `run.json` – [`RunState`], replaced atomically.
//! * `console.log`, `loader.log` – see [`crate::log`].

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use chrysalis_wire::{BootStage, UnixTime};

use crate::earnings::EARNINGS_FILE;
use crate::error::LoaderError;

/// What the supervisor last wrote about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// The worker's process, while there is one.
    pub worker: Option<ProcessId>,
    /// Public address.
    pub listen: String,
    /// Loopback address of the worker, once it listens.
    pub worker_address: Option<String>,
    /// Where the supervisor stands.
    pub phase: Phase,
    /// Last boot stage the worker announced.
    pub stage: Option<BootStage>,
    /// Whether the worker says it is simulated.
    pub insecure_sim: Option<bool>,
    /// When the supervisor started.
    pub started: UnixTime,
    /// When the worker was last ready.
    pub ready: Option<UnixTime>,
    /// How often the worker was started again.
    pub restarts: u32,
    /// Console lines that were not events.
    pub dropped_lines: u64,
    /// The worker's refusal code, in [`Phase::Refused`].
    pub refusal: Option<String>,
    /// How the last worker process ended.
    pub last_exit: Option<String>,
    /// Requests answered, as the worker counts them.
    pub served: u64,
    /// Requests refused, as the worker counts them.
    pub refused: u64,
    /// The worker program.
    pub program: PathBuf,
    /// The manifest.
    pub manifest: PathBuf,
    /// The bundle.
    pub bundle: PathBuf,
}

/// Where a supervisor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The worker boots.
    Starting,
    /// A sealed model waits for `chrysalis model grant`.
    WaitingForGrant,
    /// Requests are served.
    Ready,
    /// The worker ended; it is started again after a delay.
    BackingOff,
    /// The worker was asked to stop.
    Stopping,
    /// Ended on request.
    Stopped,
    /// The worker refused to boot.
    Refused,
    /// Given up.
    Failed,
}

impl Phase {
    /// Whether a run in this phase is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Refused | Self::Failed)
    }
}

/// A process, safe against the reuse of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since the machine booted (`/proc/PID/stat` field 22).
    pub start_ticks: u64,
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

/// Held by the one supervisor of a state directory, or of a payee's worker; released by the system when
/// it dies.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child between its fork and its exec.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl StateDir {
    /// Opens the directory, creating it for this user alone (0700).
    ///
    /// # Errors
    /// [`LoaderError::State`].
    pub fn create(root: &Path) -> Result<Self, LoaderError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|e| state_error("create", root, &e))?;
        Ok(Self { root: root.to_owned() })
    }

    /// Names the directory without touching it.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The worker's console events, one JSON object a line.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.root.join("console.log")
    }

    /// The supervisor's own log.
    #[must_use]
    pub fn loader_log(&self) -> PathBuf {
        self.root.join("loader.log")
    }

    /// The ledger of what the worker earned.
    #[must_use]
    pub fn earnings(&self) -> PathBuf {
        self.root.join(EARNINGS_FILE)
    }

    /// The state of the last run.
    #[must_use]
    pub fn run_file(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// The lock file.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("loader.pid")
    }

    /// Takes the lock and writes this process's id into it.
    ///
    /// # Errors
    /// [`LoaderError::AlreadyRunning`] naming the holder; [`LoaderError::State`].
    pub fn lock(&self) -> Result<StateLock, LoaderError> {
        let own = std::process::id().to_string();
        lock_file(&self.pid_file(), &own)?.ok_or_else(|| self.already_running())
    }

    /// The supervisor that holds the lock now: `None` if nobody does, `Some(0)` if it has not
    /// written its id yet.
    ///
    /// # Errors
    /// [`LoaderError::State`].
    pub fn holder(&self) -> Result<Option<u32>, LoaderError> {
        let path = self.pid_file();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(state_error("open", &path, &e)),
        };
        // A shared lock is refused exactly while a supervisor holds the exclusive one.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let _ = flock(&file, FlockOperation::Unlock);
                Ok(None)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.take(MAX_PID_FILE_BYTES).read_to_string(&mut text);
                Ok(Some(text.trim().parse().unwrap_or(0)))
            }
            Err(e) => Err(state_error("lock", &path, &e.into())),
        }
    }

    /// Reads the state of the last run, if there is one.
    ///
    /// # Errors
    /// [`LoaderError::State`], [`LoaderError::StateMalformed`].
    pub fn read_run(&self) -> Result<Option<RunState>, LoaderError> {
        let path = self.run_file();
        let malformed = |reason: String| LoaderError::StateMalformed {
            path: path.display().to_string(),
            reason,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(state_error("open", &path, &e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_RUN_FILE_BYTES.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| state_error("read", &path, &e))?;
        if bytes.len() as u64 > MAX_RUN_FILE_BYTES {
            return Err(malformed(format!("it is over the limit of {MAX_RUN_FILE_BYTES} bytes")));
        }
        let run: RunState = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        if run.schema != RUN_SCHEMA {
            return Err(malformed(format!("schema {}, expected {RUN_SCHEMA}", run.schema)));
        }
        Ok(Some(run))
    }

    /// Replaces `run.json`: written beside it, flushed, renamed, so no reader sees half of it.
    ///
    /// # Errors
    /// [`LoaderError::State`].
    pub fn write_run(&self, run: &RunState) -> Result<(), LoaderError> {
        let temporary = self.root.join("run.json.new");
        let path = self.run_file();
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            serde_json::to_writer_pretty(&mut file, run)?;
            file.write_all(b"\n")?;
            file.sync_data()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|e| state_error("write", &path, &e))
    }

    fn already_running(&self) -> LoaderError {
        let pid = self.holder().ok().flatten().unwrap_or(0);
        let run = self.read_run().ok().flatten().filter(|run| run.supervisor == pid);
        let listen = run.map_or_else(|| "unknown".to_owned(), |run| run.listen);
        LoaderError::AlreadyRunning { pid, listen }
    }
}

/// Takes the lock of a file and writes `holder` into it; `None` while somebody else has it.
pub(crate) fn lock_file(path: &Path, holder: &str) -> Result<Option<StateLock>, LoaderError> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| state_error("open", path, &e))?;
    let mut attempts = LOCK_ATTEMPTS;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            // Somebody may only be looking (`holder`), which takes a moment.
            Err(rustix::io::Errno::WOULDBLOCK) if attempts > 0 => {
                attempts -= 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(state_error("lock", path, &e.into())),
        }
    }
    // Written only by the holder, so a reader that finds the lock taken may believe it.
    file.set_len(0)
        .and_then(|()| writeln!(file, "{holder}"))
        .map_err(|e| state_error("write", path, &e))?;
    Ok(Some(StateLock { file }))
}

pub(crate) fn state_error(action: &str, path: &Path, error: &std::io::Error) -> LoaderError {
    LoaderError::State {
        action: action.to_owned(),
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Schema name of [`RunState`].
pub const RUN_SCHEMA: &str = "chrysalis/run/v1";

/// Largest `run.json` read, in bytes.
pub const MAX_RUN_FILE_BYTES: u64 = 64 * 1024;

/// How often taking the lock is tried again, and after which pause.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Longest content of `loader.pid` read, in bytes.
const MAX_PID_FILE_BYTES: u64 = 32;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn run_state() -> RunState {
        RunState {
            schema: RUN_SCHEMA.to_owned(),
            supervisor: std::process::id(),
            worker: None,
            listen: "127.0.0.1:9".to_owned(),
            worker_address: None,
            phase: Phase::Starting,
            stage: None,
            insecure_sim: None,
            started: UnixTime(1),
            ready: None,
            restarts: 0,
            dropped_lines: 0,
            refusal: None,
            last_exit: None,
            served: 0,
            refused: 0,
            program: "/w".into(),
            manifest: "/m".into(),
            bundle: "/b".into(),
        }
    }

    fn dir() -> (tempfile::TempDir, StateDir) {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDir::create(&temporary.path().join("deep/state")).unwrap();
        (temporary, state)
    }

    #[test]
    fn reads_back_the_run_it_wrote() {
        let (_t, state) = dir();
        assert_eq!(state.read_run().unwrap(), None);
        state.write_run(&run_state()).unwrap();
        assert_eq!(state.read_run().unwrap(), Some(run_state()));
    }

    #[test]
    fn refuses_a_second_lock_and_names_the_holder() {
        let (_t, state) = dir();
        let lock = state.lock().unwrap();
        state.write_run(&run_state()).unwrap();
        let pid = std::process::id();
        let expected = LoaderError::AlreadyRunning { pid, listen: "127.0.0.1:9".to_owned() };
        assert_eq!(state.lock().err(), Some(expected));
        assert_eq!(state.holder().unwrap(), Some(pid));
        drop(lock);
        assert_eq!(state.holder().unwrap(), None);
        state.lock().unwrap();
    }

    #[test]
    fn a_pid_file_without_its_lock_means_nobody_is_running() {
        let (_t, state) = dir();
        std::fs::write(state.pid_file(), "1\n").unwrap();
        assert_eq!(state.holder().unwrap(), None);
    }

    #[test]
    fn refuses_a_half_written_run_file() {
        let (_t, state) = dir();
        std::fs::write(state.run_file(), b"{\"schema\":").unwrap();
        assert!(matches!(state.read_run(), Err(LoaderError::StateMalformed { .. })));
    }

    #[test]
    fn refuses_a_run_file_of_another_version() {
        let (_t, state) = dir();
        let run = RunState { schema: "chrysalis/run/v2".to_owned(), ..run_state() };
        state.write_run(&run).unwrap();
        assert!(matches!(
            state.read_run(),
            Err(LoaderError::StateMalformed { reason, .. }) if reason.contains("run/v2")
        ));
    }

    #[test]
    fn refuses_a_run_file_one_byte_over_the_limit() {
        let (_t, state) = dir();
        let mut bytes = serde_json::to_vec(&run_state()).unwrap();
        bytes.resize(MAX_RUN_FILE_BYTES as usize, b' ');
        std::fs::write(state.run_file(), &bytes).unwrap();
        assert!(state.read_run().unwrap().is_some());
        bytes.push(b' ');
        std::fs::write(state.run_file(), &bytes).unwrap();
        assert!(matches!(
            state.read_run(),
            Err(LoaderError::StateMalformed { reason, .. }) if reason.contains("limit")
        ));
    }
}
