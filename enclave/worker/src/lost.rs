//! The end of a worker whose engine is gone for good. It trusts nobody here: who has a request may stay as
//! long as it likes, so what is waited for has a limit.

use std::io::Write as _;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use chrysalis_engine::{EngineError, Lost};

use crate::boot::report_claims;
use crate::worker::Worker;

/// Ends the process when nothing computes any more, as a panic does: a worker that stayed would refuse every
/// request, sooner than any other worker answers one. Whoever started it may start it again. Before that,
/// everybody has [`last_words`], and the owner the claims for them. The engine calls it and is the worker's, so
/// the worker is not kept.
pub fn ending(worker: Weak<Worker>) -> Lost {
    Lost::new(move |error: &EngineError| {
        drop(writeln!(std::io::stderr(), "{}: {error}", error.code()));
        if let Some(worker) = worker.upgrade() {
            last_words(&worker);
            // A host that does not read its console may lose its claims, and does not keep this process.
            let (told, heard) = mpsc::channel::<()>();
            thread::spawn(move || {
                report_claims(&worker);
                drop(told);
            });
            heard.recv_timeout(TELLING).ok();
        }
        std::process::abort();
    })
}

/// Takes no more requests, and waits until those that are here have ended and their requesters have heard it:
/// an error, and the receipt of what they got, charged. Not for longer than an answer may take to be delivered;
/// whether all have.
pub fn last_words(worker: &Worker) -> bool {
    worker.requests.close();
    worker.lost.send_replace(true);
    let begun = Instant::now();
    // Each request has a permit, which holds on to what it is of; the server listens until no connection is left.
    while Arc::strong_count(&worker.requests) > 1 || worker.lost.receiver_count() > 0 {
        if begun.elapsed() >= worker.bounds.delivery {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// Between two looks at who is still there.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest the last claims may take to be written.
const TELLING: Duration = Duration::from_secs(2);
