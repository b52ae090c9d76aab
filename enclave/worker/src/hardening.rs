//! What the process gives up before it holds a secret: core dumps, `ptrace` by its own user,
//! privilege gains, an environment, and panic messages with content.
//!
//! In the VM image PID 1 adds seccomp and landlock; this is the part that belongs to the worker.

use std::io::Write;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::error::WorkerError;

/// Closes what the process does not need.
///
/// # Errors
/// [`WorkerError::Environment`] if any environment variable is set: variables are host input that
/// no measurement covers (`LD_PRELOAD`, thread counts, log switches). [`WorkerError::Hardening`]
/// if the kernel refuses one of the steps.
pub fn harden() -> Result<(), WorkerError> {
    if std::env::vars_os().next().is_some() {
        return Err(WorkerError::Environment);
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|_| WorkerError::Hardening("set the process not dumpable"))?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|_| WorkerError::Hardening("set the core dump limit to 0"))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|_| WorkerError::Hardening("set no_new_privs"))?;
    quiet_panics();
    Ok(())
}

/// Makes a panic print its source location and nothing else: a panic message may quote the value
/// that caused it, and that value may be a prompt.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or((String::new(), 0), |l| (l.file().to_owned(), l.line()));
        drop(writeln!(std::io::stderr(), "panic at {}:{}", place.0, place.1));
    }));
}
