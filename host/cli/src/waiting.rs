//! Says that something is still being waited for: the first time after two seconds, then every
//! ten, on standard error. For waits that have no measure; the others have a
//! [`crate::progress::Progress`].

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::report::Report;

/// A wait that is going on; it is over when this is dropped.
pub(crate) struct Waiting {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Waits for `what`, as in `still waiting for {what}`.
    pub(crate) fn for_(report: Report, what: &'static str) -> Self {
        Self::with(FIRST, AGAIN, move |seconds| report.waiting(what, seconds))
    }

    fn with(first: Duration, again: Duration, say: impl Fn(u64) + Send + 'static) -> Self {
        let (over, ended) = channel();
        let started = Instant::now();
        let thread = std::thread::spawn(move || {
            let mut wait = first;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                say(started.elapsed().as_secs());
                wait = again;
            }
        });
        Self { over: Some(over), thread: Some(thread) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.over.take());
        // So that nothing is said after the wait is over.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const FIRST: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn speaks_while_it_waits_and_never_after() {
        let said = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&said);
        let (first, again) = (Duration::from_millis(20), Duration::from_millis(20));
        let waiting = Waiting::with(first, again, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        while said.load(Ordering::SeqCst) < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(waiting);
        let total = said.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(said.load(Ordering::SeqCst), total);
    }

    #[test]
    fn a_short_wait_is_not_worth_a_word() {
        let said = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&said);
        drop(Waiting::with(FIRST, AGAIN, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        assert_eq!(said.load(Ordering::SeqCst), 0);
    }
}
