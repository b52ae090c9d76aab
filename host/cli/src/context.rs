//! What every command is given: where its answer goes, and the two things it may not get itself.

use chrysalis_wire::{UnixMillis, UnixTime};

use crate::exit::{Class, Failure};
use crate::report::Report;

/// What every command is given.
pub(crate) struct Context {
    /// Where results, progress and errors go.
    pub(crate) report: Report,
    /// Reads the time.
    pub(crate) clock: fn() -> UnixMillis,
    /// Fills a buffer with random bytes; `false` if the system has none.
    pub(crate) random: fn(&mut [u8]) -> bool,
}

impl Context {
    /// The time in seconds.
    pub(crate) fn now(&self) -> UnixTime {
        (self.clock)().seconds()
    }

    /// Fresh random bytes.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], Failure> {
        let mut bytes = [0u8; N];
        if (self.random)(&mut bytes) {
            return Ok(bytes);
        }
        let message = "the system has no random numbers";
        Err(Failure::new(Class::Internal, "E-RANDOM", message).next("check /dev/urandom"))
    }

    /// Runs the asynchronous part of a command to its end.
    pub(crate) fn block_on<T>(
        &self,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .enable_all()
            .build()
            .map_err(|e| Failure::new(Class::Internal, "E-RUNTIME", e.to_string()))?;
        runtime.block_on(future)
    }
}

/// A client waits for a network; two threads keep a stream moving while a receipt is verified.
const NETWORK_THREADS: usize = 2;
