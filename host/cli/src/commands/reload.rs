//! Keeps the policy of a running gateway as its files are. Both files are the user's word and may be
//! replaced at any time; one that cannot be read or is refused leaves the last good policy in use, and
//! is named on standard error and by `/healthz` until a better one comes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrysalis_client::Worker;

use crate::context::Context;
use crate::verifier::Policy;

/// Follows the files of `policy`, without an end.
pub(crate) async fn follow(policy: &Policy, worker: &Worker, context: &Context) {
    let mut seen = Seen::of(policy);
    let mut loaded = Instant::now();
    loop {
        tokio::time::sleep(POLL).await;
        let now = Seen::of(policy);
        // What a publisher added is accepted from some moment on, without any change of a file.
        let waited = policy.pins_key.is_some() && loaded.elapsed() >= REVIEW;
        if now == seen && !waited {
            continue;
        }
        let changed = now != seen;
        (seen, loaded) = (now, Instant::now());
        match tokio::task::block_in_place(|| policy.load(context)) {
            Ok((judge, collateral)) => {
                worker.set_policy(Arc::new(judge), Arc::new(collateral));
                if changed {
                    context.report.note("pins and collateral were read again and are in use");
                }
            }
            Err(failure) => {
                worker.refuse_policy(&failure.code, &failure.message);
                context.report.note(&format!(
                    "warning: the new pins or collateral are NOT in use, the last good ones are: \
                     {} {}",
                    failure.code, failure.message
                ));
            }
        }
    }
}

/// What tells one version of both files from another. A file is replaced, or written in place: either
/// shows here.
#[derive(PartialEq, Eq)]
struct Seen([Option<[i64; 5]>; 2]);

impl Seen {
    fn of(policy: &Policy) -> Self {
        let look = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            let inode = found.ino().cast_signed();
            let (device, size) = (found.dev().cast_signed(), found.size().cast_signed());
            Some([device, inode, size, found.mtime(), found.mtime_nsec()])
        };
        Self([look(&policy.pins), look(&policy.collateral)])
    }
}

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(1);
/// How often pins of a publisher are judged anew.
const REVIEW: Duration = Duration::from_secs(60);
