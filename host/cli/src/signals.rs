//! Ctrl-C, SIGTERM and the end of the terminal, for commands that have something to say or to
//! finish before they go.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Class, Failure};

/// Requests to stop.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// From now on these signals do not end the process.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|e| Failure::new(Class::Internal, "E-RUNTIME", e.to_string()))
        };
        Ok(Self([
            catch(SignalKind::interrupt())?,
            catch(SignalKind::terminate())?,
            catch(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
