//! A state directory, a scripted worker and a supervisor in this process.

#![allow(dead_code, unreachable_pub)]

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::Duration;

use std::os::unix::process::CommandExt;

use chrysalis_loader::relay::RelayLimits;
use chrysalis_loader::state::ProcessId;
use chrysalis_loader::{
    Launch, LoaderError, ProcessBackend, Reporter, RunState, StateDir, SupervisorEvent, Timing,
    supervise,
};
use chrysalis_wire::{BootStage, ConsoleEvent, StageState, UnixMillis};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A script that boots to ready. `{address}` is the address of [`Rig::worker_listener`].
pub const READY: &str = r#"echo '{"event":"stage","stage":"manifest","state":"done"}'
echo '{"event":"stage","stage":"keys","state":"done"}'
echo '{"event":"listening","address":"{address}","insecure_sim":true}'
echo '{"event":"stage","stage":"listen","state":"done"}'
echo '{"event":"stage","stage":"model","state":"progress","done":1,"total":2}'
echo '{"event":"stage","stage":"ready","state":"done"}'"#;

/// Short times, so that tests wait little.
pub fn quick() -> Timing {
    Timing {
        first_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(100),
        boot_attempts: 3,
        stop_grace: Duration::from_millis(300),
        relay: RelayLimits { connections: 4, ..RelayLimits::default() },
        ..Timing::default()
    }
}

/// One test's world.
pub struct Rig {
    dir: tempfile::TempDir,
    launch: Launch,
    /// Where the scripted worker says it listens.
    pub worker_listener: std::net::TcpListener,
}

impl Rig {
    pub fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let worker_listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = worker_listener.local_addr().unwrap().to_string();
        let script = script
            .replace("{address}", &address)
            .replace("{dir}", &dir.path().display().to_string());
        std::fs::write(dir.path().join("script"), script).unwrap();
        std::fs::write(dir.path().join("bundle"), b"").unwrap();
        let launch = Launch {
            worker: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fake-worker.sh"),
            manifest: dir.path().join("script"),
            bundle: dir.path().join("bundle"),
            collateral: dir.path().join("bundle"),
            peer_pins: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            state: dir.path().join("state"),
            vm: None,
            gramine: None,
            paid: None,
        };
        Self { dir, launch: launch.resolve().unwrap(), worker_listener }
    }

    pub fn listening_on(mut self, listen: SocketAddr) -> Self {
        self.launch.listen = listen;
        self
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.launch.state.clone()
    }

    pub fn last_run(&self) -> RunState {
        StateDir::at(&self.launch.state).read_run().unwrap().unwrap()
    }

    pub fn start(&self, timing: Timing) -> Run {
        self.start_after(timing, |_| Box::pin(std::future::ready(())))
    }

    /// Starts, and tells each life of the worker something before it is relayed to.
    pub fn start_after(
        &self,
        timing: Timing,
        prelude: impl Fn(SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
    ) -> Run {
        let (events, receiver) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let launch = self.launch.clone();
        let reporter = Reporter::to(Lines { events, partial: Vec::new() });
        let clock = || UnixMillis(1_800_000_000_000);
        let task = tokio::spawn(async move {
            let stop = async move {
                let _ = stopped.await;
            };
            supervise(&launch, &ProcessBackend, &timing, clock, reporter, &prelude, stop).await
        });
        Run { task, stop, events: receiver }
    }
}

/// A running supervisor.
pub struct Run {
    task: JoinHandle<Result<(), LoaderError>>,
    stop: oneshot::Sender<()>,
    events: mpsc::UnboundedReceiver<SupervisorEvent>,
}

impl Run {
    /// Every event up to the first that matches.
    pub async fn until(
        &mut self,
        wanted: impl Fn(&SupervisorEvent) -> bool,
    ) -> Vec<SupervisorEvent> {
        let mut seen = Vec::new();
        loop {
            let event = within(self.events.recv()).await;
            let Some(event) = event else { panic!("the report ended after {seen:?}") };
            let found = wanted(&event);
            seen.push(event);
            if found {
                return seen;
            }
        }
    }

    pub async fn stop(self) -> Result<(), LoaderError> {
        self.stop.send(()).unwrap();
        within(self.task).await.unwrap()
    }

    pub async fn ended(self) -> Result<(), LoaderError> {
        let Self { task, stop, .. } = self;
        let result = within(task).await.unwrap();
        drop(stop);
        result
    }
}

/// Parses the report back into events.
struct Lines {
    events: mpsc::UnboundedSender<SupervisorEvent>,
    partial: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for &byte in bytes {
            if byte == b'\n' {
                let _ = self.events.send(serde_json::from_slice(&self.partial).unwrap());
                self.partial.clear();
            } else {
                self.partial.push(byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The public address.
pub async fn supervised(run: &mut Run) -> SocketAddr {
    let listening = |event: &SupervisorEvent| matches!(event, SupervisorEvent::Supervising { .. });
    match run.until(listening).await.pop() {
        Some(SupervisorEvent::Supervising { listen, .. }) => listen,
        other => panic!("{other:?}"),
    }
}

/// The stage an event says is done.
pub fn stage_done(event: &SupervisorEvent) -> Option<BootStage> {
    match event {
        SupervisorEvent::Console {
            event: ConsoleEvent::Stage { stage, state: StageState::Done, .. },
        } => Some(*stage),
        _ => None,
    }
}

/// How far a progress event is.
pub fn progress_done(event: &SupervisorEvent) -> Option<u64> {
    match event {
        SupervisorEvent::Console {
            event: ConsoleEvent::Stage { state: StageState::Progress, done, .. },
        } => Some(*done),
        _ => None,
    }
}

/// Fails the test if `future` takes implausibly long.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("took over 30 s")
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}");
}

/// A process in its own group, as a worker is.
pub fn orphan() -> Child {
    Command::new("/bin/sleep").arg("600").process_group(0).spawn().unwrap()
}

/// The identity of a live process, read as the loader reads it.
pub fn process_id(pid: u32) -> ProcessId {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let start_ticks = rest.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    ProcessId { pid, start_ticks }
}
