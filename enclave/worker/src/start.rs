//! What both worker binaries do in `main`: harden, boot, serve, stop on a signal.

use std::io::stdout;
use std::process::ExitCode;
use std::sync::Arc;

use chrysalis_tee::{Devices, Platform};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::Args;
use crate::boot::{Setting, SimRoots, run};
use crate::console::Console;
use crate::error::WorkerError;
use crate::hardening::harden;
use crate::stages::Stages;
use crate::worker::Clock;

/// The platform a binary runs on.
pub struct PlatformChoice {
    /// The hardware edge.
    pub platform: Arc<dyn Platform>,
    /// The devices of the machine.
    pub devices: Arc<dyn Devices>,
    /// DER of the simulator's roots; `None` in the release worker.
    pub sim_roots: Option<SimRoots>,
}

/// Runs a worker to its end. Exit codes: 0 stopped on request, 10 refused, 64 wrong usage.
pub fn start(
    args: impl IntoIterator<Item = std::ffi::OsString>,
    clock: Clock,
    choose: impl FnOnce(&Args) -> Result<PlatformChoice, WorkerError>,
) -> ExitCode {
    let stages = Arc::new(Stages::new(Console::new(Box::new(stdout()))));
    let begun = harden().and_then(|hardened| Ok((hardened, Args::parse(args)?)));
    let begun = begun.and_then(|(hardened, args)| {
        let PlatformChoice { platform, devices, sim_roots } = choose(&args)?;
        hardened.suits(platform.as_ref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .enable_all()
            .build()
            .map_err(|_| WorkerError::Stopped("runtime"))?;
        let stages = Arc::clone(&stages);
        Ok((args, Setting { platform, clock, devices, sim_roots, stages }, runtime))
    });
    let outcome = match begun {
        Ok((args, setting, runtime)) => {
            let outcome = runtime.block_on(async {
                let (stop, stopped) = watch::channel(false);
                tokio::spawn(on_signal(stop));
                run(args, setting, stopped).await
            });
            // A model that is still loading or a quote the host still owes is not waited for.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => {
            stages.refused(&error.code());
            Err(error)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(WorkerError::Usage(_)) => ExitCode::from(64),
        Err(_) => ExitCode::from(10),
    }
}

async fn on_signal(stop: watch::Sender<bool>) {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    stop.send_replace(true);
}

/// Threads for network and sealing; the engine has its own.
const NETWORK_THREADS: usize = 2;
