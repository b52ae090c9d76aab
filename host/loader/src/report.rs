//! What a booting supervisor tells the `up` that started it: JSON lines on its standard output,
//! from its start to its first outcome. Both ends are this crate, over a private pipe.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use chrysalis_receipt::{ChannelTerms, ReceiptError};
use chrysalis_wire::{ConsoleEvent, Digest};
use tokio::sync::mpsc;

use crate::error::LoaderError;

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SupervisorEvent {
    /// The supervisor holds the lock and listens.
    Supervising {
        /// Its process id.
        pid: u32,
        /// The public address, with the port the system chose.
        listen: SocketAddr,
    },
    /// A worker process was started.
    WorkerStarted {
        /// Its process id.
        pid: u32,
        /// 1 for the first, counting up.
        attempt: u32,
    },
    /// The worker printed an event.
    Console {
        /// The event.
        event: ConsoleEvent,
    },
    /// The worker ended without having refused; it will be started again.
    WorkerEnded {
        /// How it ended.
        status: String,
        /// Delay before the next start, in milliseconds.
        restart_in_ms: u64,
    },
    /// Outcome: requests are served.
    Ready {
        /// Public address.
        listen: SocketAddr,
        /// Whether the worker says it is simulated.
        insecure_sim: bool,
    },
    /// Outcome: the model is sealed, and its key has to be granted now.
    WaitingForGrant {
        /// Public address, where the grant goes.
        listen: SocketAddr,
        /// Whether the worker says it is simulated.
        insecure_sim: bool,
    },
    /// Outcome: the supervisor has ended.
    Failed {
        /// Why.
        error: LoaderError,
    },
}

impl SupervisorEvent {
    /// Whether nothing follows this event.
    #[must_use]
    pub const fn is_outcome(&self) -> bool {
        matches!(self, Self::Ready { .. } | Self::WaitingForGrant { .. } | Self::Failed { .. })
    }
}

/// A channel that the worker would serve if its owner vouched for the deposit, as the worker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingWanted {
    /// The meter key that a note has to name.
    pub meter_key: Digest,
    /// Terms of the channel, of which its account is a hash.
    pub terms: ChannelTerms,
}

impl FundingWanted {
    /// Reads the terms of a console event.
    ///
    /// # Errors
    /// As [`ChannelTerms::decode`], and [`ReceiptError::Malformed`] for text that is not hexadecimal.
    pub(crate) fn read(meter_key: Digest, terms: &str) -> Result<Self, ReceiptError> {
        let bytes = hex::decode(terms).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
        Ok(Self { meter_key, terms: ChannelTerms::decode(&bytes)? })
    }
}

/// Writes the report from a thread of its own, so that an `up` that is suspended or gone never
/// holds up the supervisor.
#[derive(Debug, Default)]
pub struct Reporter {
    sender: Option<SyncSender<SupervisorEvent>>,
    thread: Option<JoinHandle<()>>,
    wanted: Option<mpsc::Sender<FundingWanted>>,
}

impl Reporter {
    /// Reports to nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self { sender: None, thread: None, wanted: None }
    }

    /// Reports to `out`.
    #[must_use]
    pub fn to(mut out: impl Write + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel::<SupervisorEvent>(REPORT_QUEUE);
        let thread = std::thread::spawn(move || {
            for event in receiver {
                let Ok(mut line) = serde_json::to_vec(&event) else { continue };
                line.push(b'\n');
                // A reader that went away is not an error: the worker outlives `up`.
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
        });
        Self { sender: Some(sender), thread: Some(thread), wanted: None }
    }

    /// The same, telling `wanted` of channels that wait for their owner, as long as the worker runs.
    #[must_use]
    pub fn telling(self, wanted: mpsc::Sender<FundingWanted>) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// Tells of a channel. A listener that is behind misses it; the worker says it again.
    pub(crate) fn want(&self, wanted: FundingWanted) {
        if let Some(sender) = &self.wanted {
            let _ = sender.try_send(wanted);
        }
    }

    /// Reports one event; an outcome ends the report. If the reader is slow, events that are not
    /// outcomes are left out.
    pub fn send(&mut self, event: SupervisorEvent) {
        let Some(sender) = &self.sender else { return };
        if event.is_outcome() {
            let failed = matches!(event, SupervisorEvent::Failed { .. });
            // The queue may be full behind a suspended reader. The outcome then waits in a
            // thread, not in the supervisor.
            if let Err(TrySendError::Full(event)) = sender.try_send(event) {
                let sender = sender.clone();
                std::thread::spawn(move || sender.send(event));
            }
            self.sender = None;
            // After a failure the process ends: wait until the line is out. The pipe of a live
            // reader drains; a dead one fails the write.
            if let (true, Some(thread)) = (failed, self.thread.take()) {
                let _ = thread.join();
            }
        } else {
            let _ = sender.try_send(event);
        }
    }
}

/// Events that may wait for a slow reader.
const REPORT_QUEUE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failure_is_written_before_send_returns() {
        let out = Shared::default();
        let mut reporter = Reporter::to(out.clone());
        reporter.send(SupervisorEvent::WorkerStarted { pid: 5, attempt: 1 });
        let failed = SupervisorEvent::Failed { error: LoaderError::StoppedDuringBoot };
        reporter.send(failed.clone());
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let last: SupervisorEvent = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((text.lines().count(), last), (2, failed));
    }

    #[test]
    fn a_reader_that_went_away_stops_nothing() {
        let mut reporter = Reporter::to(Broken);
        for attempt in 0..1000 {
            reporter.send(SupervisorEvent::WorkerStarted { pid: 5, attempt });
        }
        reporter.send(SupervisorEvent::Failed { error: LoaderError::StoppedDuringBoot });
    }
}
