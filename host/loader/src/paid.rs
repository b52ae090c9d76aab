//! One worker of a payee at a time. What two that bear the same number count on a channel apart is paid
//! once, so the second one is refused. The lock is of this user on this machine: of workers elsewhere
//! nobody here knows, and there the number in each manifest tells them apart.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use chrysalis_wire::WorkerManifest;
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;

use crate::error::LoaderError;
use crate::launch::Launch;
use crate::state::{StateLock, lock_file, state_error};

/// Holds the place of the worker of `launch` among its payee's, if it is paid and there is a directory
/// to look in.
///
/// # Errors
/// [`LoaderError::PaidElsewhere`] while another supervisor holds it; [`LoaderError::State`].
pub(crate) fn hold(launch: &Launch) -> Result<Option<StateLock>, LoaderError> {
    let (Some(directory), Some(name)) = (&launch.paid, place(&launch.manifest)) else {
        return Ok(None);
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|e| state_error("create", directory, &e))?;
    let path = directory.join(name);
    if let Some(lock) = lock_file(&path, &launch.state.display().to_string())? {
        return Ok(Some(lock));
    }
    let mut holder = String::new();
    // Only for the message: it may be written this moment.
    let _ = File::open(&path).map(|file| file.take(MAX_PATH_BYTES).read_to_string(&mut holder));
    Err(LoaderError::PaidElsewhere { state: holder.trim().to_owned() })
}

/// What tells paid workers apart, as a file's name; `None` for one that is not paid. A manifest that
/// cannot be read is refused by the worker, with its own words.
fn place(manifest: &Path) -> Option<String> {
    let limit = u64::try_from(MAX_MANIFEST_BYTES).ok()?.saturating_add(1);
    let mut bytes = Vec::new();
    File::open(manifest).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    let manifest = WorkerManifest::parse(&bytes).ok()?;
    let payment = manifest.payment?;
    Some(format!("{}-{}-{}", manifest.network.0, payment.payee, payment.worker))
}

/// Longest path that is shown: the longest that Linux has.
const MAX_PATH_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A launch from a state directory of its own, of a worker with this `[payment]`.
    fn launch(root: &Path, state: &str, payment: &str) -> Launch {
        let z = "0".repeat(64);
        let manifest = root.join(format!("{state}.toml"));
        let text = format!(
            "version = 1\nnetwork = 5458253\nregistry = \"{z}\"\n\n[model]\nname = \"m\"\n\
             root = \"{z}\"\nsealed = false\n\n[limits]\nrequest_bytes = 65536\n\
             context_tokens = 2048\ncompletion_tokens = 512\nconcurrent_requests = 4\n\n\
             [prices]\nprompt = 1\ncached = 1\ncompletion = 8\nreasoning = 8\n{payment}"
        );
        std::fs::write(&manifest, text).unwrap();
        Launch {
            worker: PathBuf::new(),
            manifest,
            bundle: PathBuf::new(),
            collateral: PathBuf::new(),
            peer_pins: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            state: root.join(state),
            vm: None,
            gramine: None,
            paid: Some(root.join("paid")),
        }
    }

    fn payment(payee: char, worker: u32) -> String {
        let (payee, code) = (payee.to_string().repeat(64), "5".repeat(64));
        format!("[payment]\npayee = \"{payee}\"\nchannel_code = \"{code}\"\nworker = {worker}\n")
    }

    #[test]
    fn refuses_a_second_worker_of_one_payee_and_number_and_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = launch(dir.path(), "a", &payment('7', 0));
        let second = launch(dir.path(), "b", &payment('7', 0));
        let held = hold(&first).unwrap().unwrap();
        let state = dir.path().join("a").display().to_string();
        assert_eq!(hold(&second).unwrap_err(), LoaderError::PaidElsewhere { state });
        drop(held);
        assert!(hold(&second).unwrap().is_some());
    }

    #[test]
    fn workers_of_other_numbers_or_payees_and_unpaid_ones_run_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let _held = hold(&launch(dir.path(), "a", &payment('7', 0))).unwrap().unwrap();
        for other in [payment('7', 1), payment('8', 0)] {
            assert!(hold(&launch(dir.path(), "b", &other)).unwrap().is_some());
        }
        assert!(hold(&launch(dir.path(), "b", "")).unwrap().is_none());
    }
}
