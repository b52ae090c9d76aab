//! `chrysalis __supervise`: the process behind `up`. It runs on the attacker's side of the
//! boundary like everything in the loader.

use std::process::ExitCode;

use chrysalis_loader::{
    Launch, ProcessBackend, Reporter, StateDir, SupervisorEvent, Timing, stop_signal, supervise,
    up::detach,
};

use chrysalis_loader::vm::VmBackend;
use tokio::sync::mpsc;

use crate::commands::funding::{Funding, WANTED_QUEUE, vouch};
use crate::commands::handover;
use crate::context::Context;
use crate::exit::{Class, Failure};

pub(crate) fn run(funding: &Funding, context: &Context) -> Result<ExitCode, Failure> {
    let mut reporter = Reporter::to(std::io::stdout());
    let mut launch = match Launch::read(std::io::stdin()) {
        Ok(launch) => launch,
        Err(error) => {
            reporter.send(SupervisorEvent::Failed { error: error.clone() });
            return Err(error.into());
        }
    };
    let voucher = funding.voucher(&launch.manifest, context)?;
    // Only fails for a process that leads a group, which one started by `up` does not.
    let _ = detach();
    let clock = context.clock;
    context.block_on(async move {
        let stop =
            stop_signal().map_err(|e| Failure::new(Class::Internal, "E-RUNTIME", e.to_string()))?;
        let timing = Timing::default();
        let _handing_over = handover::watch(StateDir::at(&launch.state));
        let _vouching = voucher.map(|voucher| {
            let (wanted, asked) = mpsc::channel(WANTED_QUEUE);
            reporter = std::mem::take(&mut reporter).telling(wanted);
            vouch(voucher, asked, StateDir::at(&launch.state))
        });
        // The VM's half moves into its backend; the rest of the launch is the supervisor's.
        match launch.vm.take() {
            Some(vm) => {
                supervise(&launch, &VmBackend::new(*vm), &timing, clock, reporter, stop).await?;
            }
            None => supervise(&launch, &ProcessBackend, &timing, clock, reporter, stop).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}
