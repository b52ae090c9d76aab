//! One life of one worker, from its start to its end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use chrysalis_wire::{BootStage, ConsoleEvent, InitStep, StageState};

use crate::backend::{Backend, Guest};
use crate::console::Console;
use crate::error::LoaderError;
use crate::log::escape;
use crate::record::Recorder;
use crate::report::SupervisorEvent;
use crate::state::Phase;
use crate::supervisor::{Stop, Timing};

/// Why a life ended.
pub(crate) enum End {
    /// On request.
    Stopped,
    /// The worker refused to boot.
    Refused { stage: BootStage, code: String },
    /// PID 1 of the VM refused to boot.
    InitRefused { step: InitStep, code: String },
    /// The worker announced an address it may not have.
    Address(LoaderError),
    /// It ended, or said nothing for too long while booting.
    Ended { status: String, ready_for: Option<Duration> },
}

/// What a worker is told before anybody else reaches it, by its address. It ends when that is done.
pub type Prelude = dyn Fn(SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// A worker that is not told everything yet.
struct Telling {
    address: SocketAddr,
    prelude: Pin<Box<dyn Future<Output = ()> + Send>>,
    until: Instant,
    /// It took too long: the relay is open, and it is told on meanwhile. What comes late counts too.
    late: bool,
    /// Told once the relay is open: whoever hears it connects.
    held: Vec<SupervisorEvent>,
}

/// Everything one life needs from the supervisor.
pub(crate) struct Session<'a, B: Backend> {
    pub(crate) backend: &'a B,
    pub(crate) record: &'a mut Recorder,
    pub(crate) target: &'a watch::Sender<Option<SocketAddr>>,
    pub(crate) listen: SocketAddr,
    pub(crate) timing: &'a Timing,
    pub(crate) prelude: &'a Prelude,
}

/// The worker is on its way out: why, and until when it may take its time.
struct Ending {
    why: End,
    kill_at: Instant,
}

impl<B: Backend> Session<'_, B> {
    /// Follows `guest` to its end.
    pub(crate) async fn follow<S: Future<Output = ()>>(
        &mut self,
        guest: &mut B::Guest,
        stop: &mut Stop<S>,
    ) -> End {
        let mut console_pipe = guest.console();
        let mut error_pipe = guest.errors();
        let mut console = Console::new();
        let mut errors = Tail::default();
        let (mut line_buffer, mut error_buffer) = ([0u8; 4096], [0u8; 1024]);
        let mut ready_at: Option<Instant> = None;
        let mut heard_at = Instant::now();
        let mut ending: Option<Ending> = None;
        let mut telling: Option<Telling> = None;
        let mut tried_at = Instant::now();
        let status = loop {
            let booting = ready_at.is_none() && self.record.run.phase != Phase::WaitingForGrant;
            let stalled_at = heard_at + self.timing.boot_stall;
            tokio::select! {
                biased;
                // The console comes first: a refusal must be read before the exit it explains.
                bytes = read(&mut console_pipe, &mut line_buffer) => {
                    heard_at = Instant::now();
                    let mut events = Vec::new();
                    console.push(bytes, |event| events.push(event));
                    for event in events {
                        if let Some(why) = self.event(&event, &mut ready_at, &mut telling) {
                            let kill_at = Instant::now() + self.timing.stop_grace;
                            ending.get_or_insert(Ending { why, kill_at });
                        }
                    }
                }
                bytes = read(&mut error_pipe, &mut error_buffer) => errors.push(bytes),
                done = told(&mut telling) => self.told(&mut telling, done),
                status = guest.ended() => break status,
                () = stop.wait(), if ending.is_none() => {
                    self.record.phase(Phase::Stopping);
                    guest.ask_to_stop();
                    let kill_at = Instant::now() + self.timing.stop_grace;
                    ending = Some(Ending { why: End::Stopped, kill_at });
                }
                () = sleep_until(stalled_at), if booting && ending.is_none() => {
                    guest.kill();
                    let status = "no sign of life during boot".to_owned();
                    let why = End::Ended { status, ready_for: None };
                    ending = Some(Ending { why, kill_at: Instant::now() });
                }
                () = sleep_until(tried_at + CATCH_UP), if self.record.is_behind() => {
                    self.record.catch_up();
                    tried_at = Instant::now();
                }
                () = kill_at(&ending) => {
                    self.record.note("the worker took too long to end and was killed");
                    guest.kill();
                    // Once is enough: what cannot be killed can only be waited for.
                    if let Some(ending) = &mut ending {
                        ending.kill_at += KILL_AGAIN;
                    }
                }
            }
        };
        // Nobody may wait for a worker that is gone.
        self.target.send_replace(None);
        while let Ok(bytes) = timeout(DRAIN, read(&mut console_pipe, &mut line_buffer)).await {
            let mut events = Vec::new();
            console.push(bytes, |event| events.push(event));
            for event in events {
                if let Some(why @ (End::Refused { .. } | End::InitRefused { .. })) =
                    self.event(&event, &mut ready_at, &mut telling)
                {
                    ending.get_or_insert_with(|| Ending { why, kill_at: Instant::now() });
                }
            }
        }
        while let Ok(bytes) = timeout(DRAIN, read(&mut error_pipe, &mut error_buffer)).await {
            errors.push(bytes);
        }
        console.end();
        self.finish(&console, &errors, &status);
        let ready_for = ready_at.map(|at| at.elapsed());
        ending.map_or(End::Ended { status, ready_for }, |ending| ending.why)
    }

    /// Takes one event; says why the life must end, if it must.
    fn event(
        &mut self,
        event: &ConsoleEvent,
        ready_at: &mut Option<Instant>,
        telling: &mut Option<Telling>,
    ) -> Option<End> {
        self.record.event(event);
        let insecure_sim = self.record.run.insecure_sim.unwrap_or(false);
        let listen = self.listen;
        match event {
            ConsoleEvent::Init { step, state: StageState::Refused, code, .. } => {
                let code = code.clone().unwrap_or_else(|| UNNAMED_REFUSAL.to_owned());
                return Some(End::InitRefused { step: *step, code });
            }
            ConsoleEvent::Stage { stage, state: StageState::Refused, code, .. } => {
                let code = code.clone().unwrap_or_else(|| UNNAMED_REFUSAL.to_owned());
                return Some(End::Refused { stage: *stage, code });
            }
            ConsoleEvent::Stage { stage: BootStage::Ready, state: StageState::Done, .. } => {
                ready_at.get_or_insert_with(Instant::now);
                self.report(SupervisorEvent::Ready { listen, insecure_sim }, telling);
            }
            ConsoleEvent::Stage { stage: BootStage::Grant, state: StageState::Started, .. } => {
                self.report(SupervisorEvent::WaitingForGrant { listen, insecure_sim }, telling);
            }
            ConsoleEvent::Listening { address, .. } => match self.backend.dial_address(address) {
                Ok(address) => {
                    self.record.run.worker_address = Some(address.to_string());
                    self.record.save();
                    *telling = Some(Telling {
                        address,
                        prelude: (self.prelude)(address),
                        until: Instant::now() + self.timing.prelude,
                        late: false,
                        held: Vec::new(),
                    });
                }
                Err(e) => return Some(End::Address(e)),
            },
            _ => {}
        }
        None
    }

    /// Opens the relay, and says what was not to be said before, once all is told or it took too long.
    fn told(&mut self, telling: &mut Option<Telling>, done: bool) {
        let Some(now) = telling else { return };
        match (done, now.late) {
            (true, true) => self.record.note("the worker has been told what it is owed, late"),
            (true, false) => {}
            (false, _) => self.record.note(
                "the worker took too long to be told what it is owed; it is served, and told on meanwhile",
            ),
        }
        self.target.send_replace(Some(now.address));
        for event in now.held.drain(..) {
            self.record.report(event);
        }
        now.late = true;
        if done {
            *telling = None;
        }
    }

    fn report(&mut self, event: SupervisorEvent, telling: &mut Option<Telling>) {
        match telling {
            Some(closed) if !closed.late => closed.held.push(event),
            _ => self.record.report(event),
        }
    }

    fn finish(&mut self, console: &Console, errors: &Tail, status: &str) {
        self.record.catch_up();
        let run = &mut self.record.run;
        run.worker = None;
        run.worker_address = None;
        run.last_exit = Some(status.to_owned());
        run.dropped_lines = run.dropped_lines.saturating_add(console.dropped());
        self.record.save();
        self.record.note(&format!(
            "worker ended with {status}; {} console lines dropped",
            console.dropped()
        ));
        if !errors.0.is_empty() {
            self.record.note(&format!("last words of the worker:\n{}", escape(&errors.0)));
        }
    }
}

/// The last bytes of the worker's standard error: where it panicked, and nothing more.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(ERROR_TAIL_BYTES);
        self.0.drain(..surplus);
    }
}

type Pipe = Option<Box<dyn AsyncRead + Send + Unpin>>;

/// Reads the next bytes; pends for ever once the pipe is closed, which is not the worker's end.
async fn read<'b>(pipe: &mut Pipe, buffer: &'b mut [u8]) -> &'b [u8] {
    if let Some(open) = pipe {
        match open.read(buffer).await {
            Ok(got) if got > 0 => return buffer.get(..got).unwrap_or_default(),
            Ok(_) | Err(_) => *pipe = None,
        }
    }
    std::future::pending().await
}

/// Resolves once the worker was told everything, or once with false when that takes too long.
async fn told(telling: &mut Option<Telling>) -> bool {
    match telling {
        Some(Telling { late: true, prelude, .. }) => {
            prelude.as_mut().await;
            true
        }
        Some(closed) => timeout_at(closed.until, closed.prelude.as_mut()).await.is_ok(),
        None => std::future::pending().await,
    }
}

async fn kill_at(ending: &Option<Ending>) {
    match ending {
        Some(ending) => sleep_until(ending.kill_at).await,
        None => std::future::pending().await,
    }
}

/// Code of a refusal the worker did not name.
const UNNAMED_REFUSAL: &str = "E-WORKER-REFUSED";

/// How much of the worker's standard error is kept, in bytes.
const ERROR_TAIL_BYTES: usize = 4 * 1024;

/// Wait for bytes still in the pipes of a worker that ended.
const DRAIN: Duration = Duration::from_millis(50);

/// Between two tries to record claims that the ledger did not take.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A kill that did not take is repeated after this long.
const KILL_AGAIN: Duration = Duration::from_secs(1);
