//! `chrysalis up | down | status | logs`: the loader, for the owner of the machine. Nothing shown
//! here says whether a worker is genuine; that is `chrysalis appraise`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrysalis_client::Utc;
use chrysalis_loader::console::stage_name;
use chrysalis_loader::gramine::{Gramine, Machine};
use chrysalis_loader::log::{LogLine, loader_log_tail};
use chrysalis_loader::{
    Down, Launch, LogReader, Phase, RunState, StateDir, Status, SupervisorCommand, SupervisorEvent,
    down as stop, status as look, up as start,
};
use chrysalis_wire::{BootStage, ConsoleEvent, StageState, UnixTime};
use clap::Args;
use serde::Serialize;

use crate::args::{listen, paid_dir, state_dir};
use crate::boot::explain;
use crate::commands::funding::Funding;
use crate::commands::vm::{self, VmArgs};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::progress::Progress;
use crate::report::Text;
use crate::signals::Signals;
use crate::waiting::Waiting;

/// `up`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["worker", "gramine", "image"]))]
pub(crate) struct Up {
    /// Run this worker program as a process.
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,
    /// Run the worker of this final Gramine manifest (NAME.manifest.sgx) in an SGX enclave.
    #[arg(long, value_name = "FILE")]
    gramine: Option<PathBuf>,
    #[command(flatten)]
    vm: VmArgs,
    /// Its measured manifest.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The model bundle.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Collateral the worker appraises itself with before it says ready.
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,
    /// The pins of clients, if the manifest serves only some.
    #[arg(long, value_name = "FILE", conflicts_with = "gramine")]
    peer_pins: Option<PathBuf>,
    /// Public address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443", value_parser = listen)]
    listen: SocketAddr,
    #[command(flatten)]
    funding: Funding,
    #[command(flatten)]
    state: State,
}

/// Where the loader keeps its state.
#[derive(Debug, Args)]
pub(crate) struct State {
    /// State directory; one worker each.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on as lines arrive, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Show the supervisor's own log instead.
    #[arg(long, conflicts_with = "follow")]
    loader: bool,
    #[command(flatten)]
    state: State,
}

pub(crate) fn up(arguments: Up, context: &Context) -> Result<ExitCode, Failure> {
    let vm = arguments.vm.launch(context)?;
    let path = std::env::var_os("PATH");
    let find = |manifest: &PathBuf| Gramine::find(manifest, &Machine::here(path.as_deref()));
    let gramine = arguments.gramine.as_ref().map(find).transpose()?;
    let program = match (&vm, &gramine) {
        (Some(vm), _) => Some(vm.qemu.program.clone()),
        (None, Some(gramine)) => Some(gramine.program.clone()),
        (None, None) => arguments.worker,
    };
    let Some(worker) = program else {
        let message = "nothing was named that could run a worker";
        return Err(Failure::new(Class::Usage, "E-USAGE", message));
    };
    let launch = Launch {
        worker,
        manifest: arguments.manifest,
        bundle: arguments.bundle,
        collateral: arguments.collateral,
        peer_pins: arguments.peer_pins,
        listen: arguments.listen,
        state: state_dir(arguments.state.state.as_ref())?,
        vm: vm.map(Box::new),
        gramine: gramine.map(|gramine| gramine.application),
        paid: paid_dir(),
    }
    .resolve()?;
    if let (true, Some(vm)) = (arguments.vm.print_only, &launch.vm) {
        return vm::print(&launch, vm, context);
    }
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(Class::Internal, "E-SELF", e.to_string()))?;
    let mut supervise = vec!["__supervise".to_owned()];
    supervise.extend(arguments.funding.forward(&launch.manifest, context)?);
    let command = SupervisorCommand { program, arguments: supervise };
    let mut stages = Stages { context, model: None, supervised: Arc::default() };
    stop_when_interrupted(&launch, Arc::clone(&stages.supervised), context)?;
    let up = start(&launch, &command, |event| stages.show(event))?;
    drop(stages);
    let with = hint(&arguments.state);
    let shown = Started::new(&up);
    context.report.result("chrysalis/up/v1", &shown, |out| {
        if shown.insecure_sim {
            out.warning("INSECURE-SIM  the worker is simulated; its host can read everything")?;
        }
        out.field("listening on", shown.listen)?;
        if shown.waiting_for_grant {
            out.line("The model is sealed. Next: `chrysalis model grant` with its key.")?;
        }
        let ready = if shown.waiting_for_grant { "" } else { "Ready. " };
        out.line(format_args!(
            "{ready}`chrysalis status{with}` and `chrysalis logs -f{with}` watch it; `chrysalis \
             down{with}` stops it."
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn down(arguments: &State, context: &Context) -> Result<ExitCode, Failure> {
    let directory = state_dir(arguments.state.as_ref())?;
    let waiting = Waiting::for_(context.report, "the worker's end");
    let down = stop(&directory)?;
    drop(waiting);
    let (what, text) = match down {
        Down::NothingRunning => {
            ("nothing-running", format!("Nothing was running in {}.", directory.display()))
        }
        Down::Stopped { pid } => ("stopped", format!("Stopped (supervisor process {pid}).")),
        Down::Killed { pid } => ("killed", format!("Supervisor process {pid} had to be killed.")),
        Down::EndedOrphan { pid } => {
            ("ended-orphan", format!("Ended worker process {pid}, whose supervisor had died."))
        }
    };
    let body = serde_json::json!({ "outcome": what });
    context.report.result("chrysalis/down/v1", &body, |out| out.line(text))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn status(arguments: &State, context: &Context) -> Result<ExitCode, Failure> {
    let directory = state_dir(arguments.state.as_ref())?;
    let status = look(&directory)?;
    let body = StatusBody::new(&status);
    context.report.result("chrysalis/status/v1", &body, |out| match &status {
        Status::Down { last: None } => {
            out.line(format_args!("Nothing is running in {}.", directory.display()))
        }
        Status::Down { last: Some(last) } => {
            out.line(format_args!("Nothing is running in {}. The last run:", directory.display()))?;
            run(out, last, context.now())
        }
        Status::Starting { pid } => out.line(format_args!("Supervisor process {pid} starts.")),
        Status::Stale { last, worker_alive } => {
            out.warning("The supervisor died. `chrysalis down` cleans up; `up` starts again.")?;
            out.field("worker left behind", if *worker_alive { "yes" } else { "no" })?;
            run(out, last, context.now())
        }
        Status::Up(state) => run(out, state, context.now()),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn logs(arguments: &Logs, context: &Context) -> Result<ExitCode, Failure> {
    let state = StateDir::at(&state_dir(arguments.state.state.as_ref())?);
    if arguments.loader {
        let text = loader_log_tail(&state.loader_log())?;
        let body = serde_json::json!({ "text": text });
        context.report.result("chrysalis/loader-log/v1", &body, |out| out.line(text.trim_end()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !state.console_log().exists() {
        let log = state.console_log();
        context.report.note(&format!("there is no log yet: {}", log.display()));
    }
    let mut reader = LogReader::new(state.console_log());
    loop {
        for line in reader.lines()? {
            show_line(&line, context)?;
        }
        if !arguments.follow {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(FOLLOW_INTERVAL);
    }
}

fn show_line(line: &LogLine, context: &Context) -> Result<(), Failure> {
    if context.report.is_json() {
        let (schema, at, event) = ("chrysalis/console/v1", line.at, &line.event);
        return context.report.json_line(&LogBody { schema, at, event });
    }
    let Some(text) = event_text(&line.event) else { return Ok(()) };
    context.report.out(format!("{}  {text}\n", Utc(line.at)).as_bytes())
}

/// The flag that names the same state directory, for the commands we suggest.
fn hint(state: &State) -> String {
    state.state.as_ref().map_or_else(String::new, |path| {
        let path = path.display().to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@".contains(c);
        if path.chars().all(plain) {
            format!(" --state {path}")
        } else {
            format!(" --state '{}'", path.replace('\'', r"'\''"))
        }
    })
}

/// A boot that is interrupted is stopped: the supervisor lives in a session of its own and would
/// go on. `up` then ends with what the supervisor reports.
fn stop_when_interrupted(
    launch: &Launch,
    supervised: Arc<AtomicBool>,
    context: &Context,
) -> Result<(), Failure> {
    let (report, state) = (context.report, launch.state.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Class::Internal, "E-RUNTIME", e.to_string()))?;
    let entered = runtime.enter();
    let mut signals = Signals::catch()?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                signals.next().await;
                report.note("interrupted: stopping the worker");
                // Another supervisor's worker may run in this directory until our own has it.
                while !supervised.load(Ordering::SeqCst) {
                    tokio::time::sleep(INTERRUPT_POLL).await;
                }
                // What comes of it is in the supervisor's report.
                let _ = stop(&state);
            }
        });
    });
    Ok(())
}

/// Shows the boot as it happens.
struct Stages<'a> {
    context: &'a Context,
    model: Option<Progress>,
    /// Set once there is a supervisor of our own to stop.
    supervised: Arc<AtomicBool>,
}

impl Stages<'_> {
    fn show(&mut self, event: &SupervisorEvent) {
        let report = &self.context.report;
        self.supervised.store(!event.is_outcome(), Ordering::SeqCst);
        if let SupervisorEvent::Console { event } = event {
            if let ConsoleEvent::Stage { stage: BootStage::Model, state, done, total, .. } = event {
                if *state == StageState::Progress {
                    let progress = self.model.get_or_insert_with(|| report.progress("model"));
                    return progress.update(*done, *total);
                }
                self.model = None;
            }
            if let (false, Some(text)) = (report.is_json(), event_text(event)) {
                return report.note(&text);
            }
        }
        if report.is_json() {
            return report.event(event);
        }
        match event {
            SupervisorEvent::Supervising { pid, listen } => {
                report.note(&format!("supervisor process {pid} relays {listen}"));
            }
            SupervisorEvent::WorkerStarted { pid, attempt } => {
                report.note(&format!("worker process {pid} started, attempt {attempt}"));
            }
            SupervisorEvent::WorkerEnded { status, restart_in_ms } => {
                report.note(&format!("worker ended with {status}; again in {restart_in_ms} ms"));
            }
            // Outcomes are the result or the error of the command.
            _ => {}
        }
    }
}

/// One event in words; `None` for what a log would only be long with.
fn event_text(event: &ConsoleEvent) -> Option<String> {
    Some(match event {
        ConsoleEvent::Stage { stage, state, code, .. } => {
            let name = stage_name(*stage);
            match state {
                StageState::Progress => return None,
                StageState::Started => format!("{name:<9} started"),
                StageState::Done => format!("{name:<9} done"),
                StageState::Skipped => format!("{name:<9} not needed"),
                StageState::Refused => {
                    format!("{name:<9} REFUSED {}", code.as_deref().unwrap_or_default())
                }
            }
        }
        ConsoleEvent::Init { step, state, code, .. } => {
            let name = step.name();
            match state {
                StageState::Started | StageState::Progress => return None,
                StageState::Done => format!("{name:<12} done"),
                StageState::Skipped => format!("{name:<12} not needed"),
                StageState::Refused => {
                    format!("{name:<12} REFUSED {}", code.as_deref().unwrap_or_default())
                }
            }
        }
        ConsoleEvent::Image { debug, insecure_sim } => {
            let debug = if *debug { ", DEBUG IMAGE" } else { "" };
            let sim = if *insecure_sim { ", INSECURE-SIM" } else { "" };
            format!("image booted{debug}{sim}")
        }
        ConsoleEvent::Measured { rtmr3 } => format!("measured      rtmr3 {rtmr3}"),
        ConsoleEvent::WorkerEnded { exit, signal } => match (exit, signal) {
            (_, Some(signal)) => format!("worker ended by signal {signal}"),
            (exit, None) => format!("worker ended with {}", exit.unwrap_or_default()),
        },
        ConsoleEvent::PowerOff { code } => {
            format!("power off {}", code.as_deref().unwrap_or("after an orderly stop"))
        }
        ConsoleEvent::Listening { address, insecure_sim } => {
            let sim = if *insecure_sim { ", INSECURE-SIM" } else { "" };
            format!("worker listens on {address}{sim}")
        }
        ConsoleEvent::ContextMemory { contexts: Some(contexts), concurrent } => format!(
            "memory holds {contexts} whole contexts for {concurrent} requests at once; some may wait midway"
        ),
        ConsoleEvent::ContextMemory { contexts: None, concurrent } => format!(
            "the system does not say how much memory there is; contexts of {concurrent} requests may not fit"
        ),
        ConsoleEvent::Served { requests, refused } => {
            format!("{requests} requests answered, {refused} refused (rounded down to 8)")
        }
        ConsoleEvent::PeersRefused { code, rule, count } => {
            let by = rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
            format!("{count} clients refused with {code}{by}")
        }
        // Kept in the ledger, or answered, and in no log.
        ConsoleEvent::Earned { .. } | ConsoleEvent::FundingWanted { .. } => return None,
        ConsoleEvent::Stopping {} => "worker stops".to_owned(),
    })
}

fn run(out: &mut Text, run: &RunState, now: UnixTime) -> std::fmt::Result {
    if run.insecure_sim == Some(true) {
        out.warning("INSECURE-SIM  the worker says it is simulated")?;
    }
    out.field("phase", phase_name(run.phase))?;
    if let (Some(stage), false) = (run.stage, run.phase == Phase::Ready) {
        out.field("boot stage", stage_name(stage))?;
    }
    if let Some(code) = &run.refusal {
        out.field("refused with", code)?;
        if let Some((cause, next)) = explain(code) {
            out.field("which means", cause)?;
            out.field("next", next)?;
        }
    }
    out.field("listening on", &run.listen)?;
    out.field("started", ago(run.started, now))?;
    if let Some(ready) = run.ready {
        out.field("ready", ago(ready, now))?;
    }
    out.field("restarts", run.restarts)?;
    if let Some(exit) = &run.last_exit {
        out.field("last exit", exit)?;
    }
    out.field("answered", format_args!("{} (rounded down to 8)", run.served))?;
    out.field("refused", format_args!("{} (rounded down to 8)", run.refused))?;
    out.field("dropped lines", run.dropped_lines)
}

const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::WaitingForGrant => "waiting for the model key: `chrysalis model grant`",
        Phase::Ready => "ready",
        Phase::BackingOff => "restarting after a crash",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Refused => "refused to boot",
        Phase::Failed => "given up",
    }
}

fn ago(then: UnixTime, now: UnixTime) -> String {
    let seconds = now.0.saturating_sub(then.0);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}

#[derive(Serialize)]
struct Started {
    listen: SocketAddr,
    insecure_sim: bool,
    waiting_for_grant: bool,
}

impl Started {
    const fn new(up: &chrysalis_loader::Up) -> Self {
        match *up {
            chrysalis_loader::Up::Ready { listen, insecure_sim } => {
                Self { listen, insecure_sim, waiting_for_grant: false }
            }
            chrysalis_loader::Up::WaitingForGrant { listen, insecure_sim } => {
                Self { listen, insecure_sim, waiting_for_grant: true }
            }
        }
    }
}

#[derive(Serialize)]
struct StatusBody<'a> {
    /// `down`, `starting`, `up` or `stale`.
    supervisor: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a RunState>,
}

impl<'a> StatusBody<'a> {
    fn new(status: &'a Status) -> Self {
        let (supervisor, run) = match status {
            Status::Down { last } => ("down", last.as_deref()),
            Status::Starting { .. } => ("starting", None),
            Status::Up(run) => ("up", Some(run.as_ref())),
            Status::Stale { last, .. } => ("stale", Some(last.as_ref())),
        };
        Self { supervisor, run }
    }
}

#[derive(Serialize)]
struct LogBody<'a> {
    schema: &'static str,
    at: UnixTime,
    #[serde(flatten)]
    event: &'a ConsoleEvent,
}

/// How often an interrupted `up` looks whether its supervisor runs.
const INTERRUPT_POLL: Duration = Duration::from_millis(20);

/// How often `logs -f` looks for new lines.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
