//! The supervisor: one lock, one public address, one worker at a time, started again when it
//! ends. It decides when a worker runs, never what a worker says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::backend::{Backend, Guest};
use crate::backoff::{Backoff, FIRST_RESTART_DELAY, MAX_RESTART_DELAY};
use crate::error::LoaderError;
use crate::launch::Launch;
use crate::orphan;
use crate::paid;
use crate::record::{Clock, Recorder};
use crate::relay::{RelayLimits, relay};
use crate::report::{Reporter, SupervisorEvent};
use crate::session::{End, Prelude, Session};
use crate::state::{Phase, StateDir};

/// Every duration and bound of a supervisor; the defaults are the named constants.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Delay before the first restart.
    pub first_delay: Duration,
    /// Longest delay between restarts.
    pub max_delay: Duration,
    /// A worker that was ready for this long makes the next delay the first again.
    pub stable_after: Duration,
    /// Starts without ever being ready before the supervisor gives up.
    pub boot_attempts: u32,
    /// Longest silence of a booting worker.
    pub boot_stall: Duration,
    /// How long a worker may take to end when asked.
    pub stop_grace: Duration,
    /// Longest a worker is kept from everybody else until it is told what it has to know first.
    pub prelude: Duration,
    /// Bounds of the relay.
    pub relay: RelayLimits,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_delay: FIRST_RESTART_DELAY,
            max_delay: MAX_RESTART_DELAY,
            stable_after: STABLE_AFTER,
            boot_attempts: BOOT_ATTEMPTS,
            boot_stall: BOOT_STALL,
            stop_grace: STOP_GRACE,
            prelude: PRELUDE,
            relay: RelayLimits::default(),
        }
    }
}

/// Supervises one worker until `stop` completes, the worker refuses, or it never gets ready.
/// What `up` waits for goes to `reporter`. In each life of the worker nobody is relayed to it before
/// `prelude` is done, unless that takes longer than [`Timing::prelude`]; then it goes on beside.
///
/// # Errors
/// [`LoaderError::AlreadyRunning`], [`LoaderError::PaidElsewhere`], [`LoaderError::Listen`],
/// [`LoaderError::Spawn`], [`LoaderError::State`] before a worker runs; [`LoaderError::Refused`],
/// [`LoaderError::NotLoopback`], [`LoaderError::Crashed`] after.
pub async fn supervise<B: Backend>(
    launch: &Launch,
    backend: &B,
    timing: &Timing,
    clock: Clock,
    mut reporter: Reporter,
    prelude: &Prelude,
    stop: impl Future<Output = ()>,
) -> Result<(), LoaderError> {
    let state = StateDir::create(&launch.state)?;
    // Given back in the other order, so that who finds the directory free finds the payee free.
    let _locks = match state.lock().and_then(|lock| Ok((paid::hold(launch)?, lock))) {
        Ok(locks) => locks,
        Err(error) => {
            reporter.send(SupervisorEvent::Failed { error: error.clone() });
            return Err(error);
        }
    };
    // The lock was free: a worker the last run left behind has no supervisor any more.
    let left_behind = state.read_run().ok().flatten().and_then(|run| run.worker);
    let mut record = Recorder::open(state, launch, clock, reporter)?;
    if let Some(process) = left_behind
        && orphan::end(process, timing.stop_grace)
    {
        record.note(&format!("ended worker process {} of a dead supervisor", process.pid));
    }
    let result = run(launch, backend, timing, &mut record, prelude, stop).await;
    let error = match &result {
        Ok(()) => LoaderError::StoppedDuringBoot,
        Err(error) => {
            record.note(&format!("{}: {error}", error.code()));
            error.clone()
        }
    };
    record.phase(match &result {
        Ok(()) => Phase::Stopped,
        Err(LoaderError::Refused { .. } | LoaderError::InitRefused { .. }) => Phase::Refused,
        Err(_) => Phase::Failed,
    });
    // Does nothing if `up` had its outcome already.
    record.report(SupervisorEvent::Failed { error });
    result
}

async fn run<B: Backend>(
    launch: &Launch,
    backend: &B,
    timing: &Timing,
    record: &mut Recorder,
    prelude: &Prelude,
    stop: impl Future<Output = ()>,
) -> Result<(), LoaderError> {
    let mut stop = Stop { future: Box::pin(stop), done: false };
    let (target, receiver) = watch::channel(None);
    let (listener, listen) = bind(launch.listen).await?;
    record.run.listen = listen.to_string();
    record.save();
    record.report(SupervisorEvent::Supervising { pid: record.run.supervisor, listen });
    let _relay = AbortOnDrop(tokio::spawn(relay(listener, receiver, timing.relay)));
    let mut backoff = Backoff::new(timing.first_delay, timing.max_delay);
    let mut attempt = 0u32;
    loop {
        attempt = attempt.saturating_add(1);
        let mut guest = backend.start(launch)?;
        record.run.worker = guest.process();
        record.run.stage = None;
        record.phase(Phase::Starting);
        let pid = record.run.worker.map_or(0, |p| p.pid);
        record.note(&format!("worker process {pid} started, attempt {attempt}"));
        record.report(SupervisorEvent::WorkerStarted { pid, attempt });
        let mut session =
            Session { backend, record: &mut *record, target: &target, listen, timing, prelude };
        let (status, ready_for) = match session.follow(&mut guest, &mut stop).await {
            End::Stopped => return Ok(()),
            End::Refused { stage, code } => return Err(LoaderError::Refused { stage, code }),
            End::InitRefused { step, code } => {
                return Err(LoaderError::InitRefused { step, code });
            }
            End::Address(error) => return Err(error),
            End::Ended { status, ready_for } => (status, ready_for),
        };
        if ready_for.is_some_and(|lived| lived >= timing.stable_after) {
            backoff.reset();
        }
        if record.run.ready.is_none() && attempt >= timing.boot_attempts {
            return Err(LoaderError::Crashed { attempts: attempt, status });
        }
        let delay = backoff.delay();
        record.run.restarts = record.run.restarts.saturating_add(1);
        record.phase(Phase::BackingOff);
        let restart_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        record.report(SupervisorEvent::WorkerEnded { status, restart_in_ms });
        tokio::select! {
            () = stop.wait() => return Ok(()),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), LoaderError> {
    let refuse = |e: std::io::Error| LoaderError::Listen {
        address: address.to_string(),
        reason: e.to_string(),
    };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    Ok((listener, bound))
}

/// Completes at SIGTERM or SIGINT. A supervisor outlives its terminal, so SIGHUP is ignored.
///
/// # Errors
/// If the system hands out no signal handlers.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => {}
            }
        }
    })
}

/// A request to stop that can be waited for again after it came.
pub(crate) struct Stop<S> {
    future: Pin<Box<S>>,
    done: bool,
}

impl<S: Future<Output = ()>> Stop<S> {
    pub(crate) async fn wait(&mut self) {
        if !self.done {
            self.future.as_mut().await;
            self.done = true;
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Five minutes of service make a worker stable.
pub const STABLE_AFTER: Duration = Duration::from_secs(300);

/// Starts without ever being ready before the supervisor gives up.
pub const BOOT_ATTEMPTS: u32 = 5;

/// Longest silence of a booting worker. Reading a model reports progress; nothing else in the
/// boot takes a minute.
pub const BOOT_STALL: Duration = Duration::from_secs(600);

/// Longest a worker is kept from everybody else while it is told what it is owed. Thousands of claims
/// take seconds.
pub const PRELUDE: Duration = Duration::from_secs(60);

/// How long a worker may take to end when asked: it lets requests in progress go on for a while, says
/// what it earned, and wipes memory.
pub const STOP_GRACE: Duration = Duration::from_secs(30);
