//! What the process gives up before it holds a secret: core dumps, `ptrace` by its own user,
//! privilege gains, an environment, and panic messages with content.
//!
//! In the VM image PID 1 adds seccomp and landlock; this is the part that belongs to the worker. Under
//! Gramine there is neither: the library OS is the kernel, it is inside the enclave, and this process
//! is its only one. It has no `prctl` either, so two of the steps below do not exist there, and nothing
//! of what they close: the host cannot trace or dump an enclave that is not under debug (clients refuse
//! one that is), and there is no `setuid` program to run.

use std::io::Write;

use chrysalis_tee::{Identity, Platform};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::error::WorkerError;

/// How far a process is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is missing must be judged once the platform is known"]
pub enum Hardened {
    /// Every step was taken.
    Fully,
    /// There is no `prctl` here. Linux always has it.
    WithoutPrctl,
}

impl Hardened {
    /// Refuses a platform on which the missing steps would have been needed.
    ///
    /// # Errors
    /// [`WorkerError::Hardening`] without `prctl` anywhere but in an SGX enclave;
    /// [`WorkerError::Platform`] if that cannot be found out.
    pub fn suits(self, platform: &dyn Platform) -> Result<(), WorkerError> {
        match self {
            Self::Fully => Ok(()),
            Self::WithoutPrctl if matches!(platform.identity()?, Identity::Sgx(_)) => Ok(()),
            Self::WithoutPrctl => Err(WorkerError::Hardening("call prctl")),
        }
    }
}

/// Closes what the process does not need.
///
/// # Errors
/// [`WorkerError::Environment`] if any environment variable is set: variables are host input that
/// no measurement covers (`LD_PRELOAD`, thread counts, log switches). [`WorkerError::Hardening`]
/// if the kernel refuses one of the steps.
pub fn harden() -> Result<Hardened, WorkerError> {
    if std::env::vars_os().next().is_some() {
        return Err(WorkerError::Environment);
    }
    quiet_panics();
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|_| WorkerError::Hardening("set the core dump limit to 0"))?;
    let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let privileges = rustix::thread::set_no_new_privs(true);
    judge([(dumpable, "set the process not dumpable"), (privileges, "set no_new_privs")])
}

/// Both steps must have been taken, or neither can exist.
fn judge(steps: [(Result<(), Errno>, &'static str); 2]) -> Result<Hardened, WorkerError> {
    if steps.iter().all(|(taken, _)| *taken == Err(Errno::NOSYS)) {
        return Ok(Hardened::WithoutPrctl);
    }
    match steps.into_iter().find(|(taken, _)| taken.is_err()) {
        Some((_, what)) => Err(WorkerError::Hardening(what)),
        None => Ok(Hardened::Fully),
    }
}

/// Makes a panic print its source location and nothing else: a panic message may quote the value
/// that caused it, and that value may be a prompt.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or((String::new(), 0), |l| (l.file().to_owned(), l.line()));
        drop(writeln!(std::io::stderr(), "panic at {}:{}", place.0, place.1));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tests::{Domain, Enclave};

    #[test]
    fn refuses_a_step_that_was_not_taken() {
        let cases = [
            [Err(Errno::PERM), Ok(())],
            [Ok(()), Err(Errno::PERM)],
            [Ok(()), Err(Errno::NOSYS)],
            [Err(Errno::NOSYS), Ok(())],
            [Err(Errno::NOSYS), Err(Errno::PERM)],
        ];
        for [one, other] in cases {
            let refused = judge([(one, "one"), (other, "other")]).unwrap_err();
            assert_eq!(refused.code(), "E-HARDENING");
        }
        assert_eq!(judge([(Ok(()), "one"), (Ok(()), "other")]).unwrap(), Hardened::Fully);
    }

    #[test]
    fn a_missing_prctl_is_accepted_in_an_enclave_and_nowhere_else() {
        let missing = [(Err(Errno::NOSYS), "one"), (Err(Errno::NOSYS), "other")];
        let hardened = judge(missing).unwrap();
        assert!(hardened.suits(&Enclave).is_ok());
        assert_eq!(hardened.suits(&Domain).unwrap_err().code(), "E-HARDENING");
        assert!(Hardened::Fully.suits(&Domain).is_ok());
    }
}
