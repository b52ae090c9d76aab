//! Keeps the policy of a running gateway as its files are. Both files are the user's word and may be
//! replaced at any time; one that cannot be read or is refused leaves its last good version in use, and
//! is named on standard error and by `/healthz` until a better one comes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrysalis_client::Worker;
use chrysalis_evidence::Collateral;
use chrysalis_policy::Judge;

use crate::context::Context;
use crate::exit::Failure;
use crate::verifier::Policy;

/// Follows the files of `policy`, without an end, from `seen` on: as they were before the worker's
/// policy was read, so that no change is missed however long it took to get here.
pub(crate) async fn follow(mut seen: Seen, policy: &Policy, worker: &Worker, context: &Context) {
    let mut loaded = Instant::now();
    loop {
        let now = Seen::of(policy);
        // What a publisher added is accepted from some moment on, without any change of a file.
        let waited = policy.pins_key.is_some() && loaded.elapsed() >= REVIEW;
        if now != seen || waited {
            let changed = now != seen;
            (seen, loaded) = (now, Instant::now());
            let read = tokio::task::block_in_place(|| (policy.judge(context), policy.collateral()));
            take(read, changed, worker, context);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Uses what could be read. A bad file keeps only its own last good version in use: a denial does not
/// wait for collateral that somebody else spoils, nor the other way round.
fn take(
    (judge, collateral): (Result<Judge, Failure>, Result<Collateral, Failure>),
    changed: bool,
    worker: &Worker,
    context: &Context,
) {
    let before = worker.policy();
    let mut refused = Vec::new();
    let judge = judge.map_or_else(
        |failure| {
            refused.push(("pins", failure));
            Arc::clone(&before.judge)
        },
        Arc::new,
    );
    let collateral = collateral.map_or_else(
        |failure| {
            refused.push(("collateral", failure));
            Arc::clone(&before.collateral)
        },
        Arc::new,
    );
    if refused.len() < FILES {
        worker.set_policy(judge, collateral);
    }
    if refused.is_empty() && changed {
        context.report.note("pins and collateral were read again and are in use");
    }
    // The pins last: of two refusals, theirs is the one that is named to who asks.
    for (what, failure) in refused.iter().rev() {
        worker.refuse_policy(&failure.code, &failure.message);
        let (code, message) = (&failure.code, &failure.message);
        context.report.note(&format!(
            "warning: the new {what} file is NOT in use, the last good one is: {code} {message}"
        ));
    }
}

/// What tells one version of both files from another. A file is replaced, or written in place: either
/// shows here.
#[derive(PartialEq, Eq)]
pub(crate) struct Seen([Option<[i64; 5]>; FILES]);

impl Seen {
    /// Both files as they are now.
    pub(crate) fn of(policy: &Policy) -> Self {
        let look = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            let inode = found.ino().cast_signed();
            let (device, size) = (found.dev().cast_signed(), found.size().cast_signed());
            Some([device, inode, size, found.mtime(), found.mtime_nsec()])
        };
        Self([look(&policy.pins), look(&policy.collateral)])
    }
}

/// Pins and collateral.
const FILES: usize = 2;
/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(1);
/// How often pins of a publisher are judged anew.
const REVIEW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrysalis_wire::UnixMillis;
    use tempfile::TempDir;

    use super::*;
    use crate::report::{Format, Report};

    /// A worker's policy in files of its own, and the worker as a program that began to serve has it.
    struct Served {
        dir: TempDir,
        policy: Policy,
        context: Context,
        seen: Seen,
        worker: Worker,
    }

    impl Served {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (pins, collateral) = (dir.path().join("pins.toml"), dir.path().join("c.json"));
            std::fs::write(&pins, PINS).unwrap();
            std::fs::write(&collateral, bundle("one")).unwrap();
            let policy = Policy {
                pins,
                collateral,
                insecure_sim: false,
                pins_key: None,
                pins_memory: None,
                activation_delay: 48,
            };
            let context = Context {
                report: Report::new(Format::Json),
                clock: || UnixMillis(1_800_000_000_000),
                random: |_| false,
            };
            let seen = Seen::of(&policy);
            let worker = policy.worker("127.0.0.1:1", &context).unwrap();
            Self { dir, policy, context, seen, worker }
        }

        /// What the worker is judged by after the files were followed for a moment.
        fn followed(self) -> (Arc<chrysalis_client::Policy>, Arc<chrysalis_client::Policy>) {
            let before = self.worker.policy();
            let Self { policy, context, seen, worker, dir } = self;
            context
                .block_on(async {
                    let following = follow(seen, &policy, &worker, &context);
                    drop(tokio::time::timeout(POLL / 4, following).await);
                    Ok(())
                })
                .unwrap();
            drop(dir);
            (before, worker.policy())
        }
    }

    fn bundle(chain: &str) -> String {
        let parts = [
            "pck_crl_issuer_chain",
            "tcb_info_issuer_chain",
            "tcb_info",
            "qe_identity_issuer_chain",
            "qe_identity",
        ];
        let signed = ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"];
        let mut json = serde_json::Map::new();
        json.extend(parts.map(|part| (part.to_owned(), chain.into())));
        json.extend(signed.map(|part| (part.to_owned(), "00".into())));
        let json = serde_json::Value::Object(json).to_string();
        Collateral::from_dcap_json(json.as_bytes()).unwrap().to_json()
    }

    const PINS: &str = "version = 1\ntier = \"production\"\nnetwork = -3\n[platform]\n\
                        td_attributes = []\nxfam = []\nmr_seam = []\nmax_collateral_age_days = 14\n\
                        min_tcb_evaluation_number = 18\n";
    const DENIAL: &str = "[[deny]]\nreason = \"a test\"\nfmspc = \"90c06f000000\"\n";

    #[test]
    fn uses_what_was_denied_while_the_program_started() {
        let served = Served::start();
        // As long as the worker's evidence takes, which its host decides.
        std::fs::write(&served.policy.pins, format!("{PINS}{DENIAL}")).unwrap();
        let (before, after) = served.followed();
        assert!(before.judge.pins().denied().is_empty());
        assert_eq!(after.judge.pins().denied().len(), 1);
        assert_eq!(after.refused, None);
    }

    #[test]
    fn uses_a_denial_beside_collateral_that_cannot_be_read() {
        let served = Served::start();
        std::fs::write(&served.policy.pins, format!("{PINS}{DENIAL}")).unwrap();
        std::fs::write(&served.policy.collateral, "{}").unwrap();
        let (before, after) = served.followed();
        assert_eq!(after.judge.pins().denied().len(), 1);
        assert_eq!(after.collateral.digest(), before.collateral.digest());
        assert!(after.refused.as_ref().unwrap().code.starts_with("E-COLLATERAL"));
    }

    #[test]
    fn uses_new_collateral_beside_pins_that_cannot_be_read_and_names_the_pins_of_two() {
        for (collateral, changes) in [(bundle("two"), true), ("{}".to_owned(), false)] {
            let served = Served::start();
            std::fs::write(&served.policy.pins, "no pins").unwrap();
            std::fs::write(&served.policy.collateral, collateral).unwrap();
            let (before, after) = served.followed();
            assert_eq!(after.judge.pins().digest(), before.judge.pins().digest());
            assert_eq!(after.collateral.digest() != before.collateral.digest(), changes);
            assert_eq!(after.refused.as_ref().unwrap().code, "E-PINS-FORM");
        }
    }
}
