//! How a worker is run. A process now; a confidential VM implements the same two traits. The
//! guest is untrusted here: it is given no environment, no input and no inherited files.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};

use crate::error::LoaderError;
use crate::launch::Launch;
use crate::orphan;
use crate::state::ProcessId;

/// Starts workers.
pub trait Backend {
    /// A worker that was started.
    type Guest: Guest;

    /// Starts one.
    ///
    /// # Errors
    /// [`LoaderError::Spawn`].
    fn start(&self, launch: &Launch) -> Result<Self::Guest, LoaderError>;

    /// The address the relay dials when the worker announced `announced`.
    ///
    /// # Errors
    /// [`LoaderError::NotLoopback`] if the announced address is not one the relay may dial: a
    /// worker must not make the host connect to somebody else.
    fn dial_address(&self, announced: &str) -> Result<SocketAddr, LoaderError>;
}

/// A worker that was started. Dropping it kills it.
pub trait Guest {
    /// Its identity on this host.
    fn process(&self) -> Option<ProcessId>;

    /// Its console, once.
    fn console(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>>;

    /// Its error output, once.
    fn errors(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>>;

    /// Waits for its end and says how it ended. May be called again.
    fn ended(&mut self) -> impl Future<Output = String> + Send;

    /// Asks it to stop.
    fn ask_to_stop(&mut self);

    /// Kills it and everything it started.
    fn kill(&mut self);
}

/// Runs the worker as a process of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessBackend;

impl Backend for ProcessBackend {
    type Guest = ProcessGuest;

    fn start(&self, launch: &Launch) -> Result<ProcessGuest, LoaderError> {
        let child = Command::new(&launch.worker)
            .args(launch.worker_arguments())
            // The worker refuses any variable: an environment is an unmeasured input.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e: io::Error| LoaderError::Spawn {
                path: launch.worker.display().to_string(),
                reason: e.to_string(),
            })?;
        Ok(ProcessGuest::new(child))
    }

    fn dial_address(&self, announced: &str) -> Result<SocketAddr, LoaderError> {
        announced
            .parse::<SocketAddr>()
            .ok()
            .filter(|address| address.ip().is_loopback() && address.port() != 0)
            .ok_or_else(|| LoaderError::NotLoopback { address: announced.to_owned() })
    }
}

/// A worker process in its own process group.
#[derive(Debug)]
pub struct ProcessGuest {
    child: Child,
    process: Option<ProcessId>,
}

impl ProcessGuest {
    /// A child that leads its own process group.
    pub(crate) fn new(child: Child) -> Self {
        let process = child.id().and_then(orphan::identify);
        Self { child, process }
    }

    fn signal(&self, signal: Signal) {
        // `id` is `None` once the child was waited for; until then its number cannot be reused.
        let group = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Guest for ProcessGuest {
    fn process(&self) -> Option<ProcessId> {
        self.process
    }

    fn console(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.child.stdout.take().map(|out| Box::new(out) as Box<_>)
    }

    fn errors(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.child.stderr.take().map(|out| Box::new(out) as Box<_>)
    }

    async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => describe(status),
            Err(e) => format!("an unknown status ({e})"),
        }
    }

    fn ask_to_stop(&mut self) {
        self.signal(Signal::TERM);
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Drop for ProcessGuest {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_to_dial_anything_but_loopback() {
        let dial = |a: &str| ProcessBackend.dial_address(a);
        assert!(dial("127.0.0.1:4000").is_ok());
        assert!(dial("[::1]:4000").is_ok());
        for bad in ["10.0.0.1:80", "169.254.169.254:80", "0.0.0.0:80", "127.0.0.1:0", "x"] {
            assert_eq!(dial(bad), Err(LoaderError::NotLoopback { address: bad.to_owned() }));
        }
    }
}
