//! PID 1 of the VM image, and its second stage. All of it is in the library; here is only which of
//! the two this process is, and what happens when it panics.

use std::ffi::OsString;
use std::io::stdout;
use std::path::Path;
use std::process::ExitCode;

use chrysalis_init::boot::{System, run};
use chrysalis_init::console::Console;
use chrysalis_init::kernel::{Kernel as _, Linux};
use chrysalis_init::sandbox::{Launch, Plan, enter};
use chrysalis_wire::{ConsoleEvent, InitStep};

fn main() -> ExitCode {
    if std::process::id() == 1 { first_stage() } else { second_stage() }
}

/// Arguments and environment of PID 1 come from the kernel command line; neither is looked at.
fn first_stage() -> ExitCode {
    power_off_on_panic();
    let console = Console::new(Box::new(stdout()));
    let system = System { root: Path::new("/"), kernel: &Linux, console: &console };
    match run(&system) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn second_stage() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let refused = match Launch::parse(&args) {
        Ok(launch) => enter(&Plan::of(&launch)),
        Err(error) => error,
    };
    Console::new(Box::new(stdout())).refused(InitStep::Worker, &refused);
    ExitCode::FAILURE
}

/// A panic message may quote what caused it: a code is printed instead.
fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|_| {
        let console = Console::new(Box::new(stdout()));
        console.event(&ConsoleEvent::PowerOff { code: Some("E-INIT-PANIC".into()) });
        // If this fails the panic goes on, and without PID 1 the kernel ends the machine.
        drop(Linux.power_off());
    }));
}
