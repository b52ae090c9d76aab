//! The file that remembers a publisher's pins. It is the user's own, and several programs of hers may
//! use it at once: each reads it, adds what it saw and writes it while no other does. A memory that is
//! lost accepts old pins again, so only a path with nothing at it is a memory of nothing.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use chrysalis_evidence::AllowSim;
use chrysalis_policy::{MAX_MEMORY_BYTES, PinsMemory, SignedPins};
use chrysalis_wire::UnixTime;

use crate::exit::Failure;
use crate::files::{self, Existing};

/// A memory, and whether it has just begun.
pub(crate) struct Remembered {
    pub(crate) memory: PinsMemory,
    pub(crate) first: bool,
}

/// Takes note of `signed`, read from `file`, in the memory at `path`: on the disk when this returns.
pub(crate) fn remember(
    path: &Path,
    signed: &SignedPins,
    file: &Path,
    sim: AllowSim,
    now: UnixTime,
) -> Result<Remembered, Failure> {
    files::make_dir_of(path)?;
    let _lock = lock(path)?;
    let before = read(path, sim)?;
    let first = before.is_none();
    let before = before.unwrap_or_else(|| PinsMemory::new(signed.key()));
    let mut memory = before.clone();
    memory.adopt(signed, now).map_err(|e| Failure::from(e).in_file(file))?;
    if memory != before {
        files::write(path, memory.to_json().as_bytes(), Existing::Replace)?;
    }
    Ok(Remembered { memory, first })
}

/// What is at `path`; `None` only where nothing is, not even a link to nothing.
fn read(path: &Path, sim: AllowSim) -> Result<Option<PinsMemory>, Failure> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("look at", path, &error)),
        Ok(_) => {
            let memory = PinsMemory::parse(&files::read(path, MAX_MEMORY_BYTES)?, sim);
            memory.map(Some).map_err(|e| Failure::from(e).in_file(path))
        }
    }
}

/// Waits until no other process changes the memory at `path`. A file beside it is locked, because the
/// memory itself is replaced.
fn lock(path: &Path) -> Result<File, Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = Path::new(&beside);
    let failed = |error| Failure::file("lock", beside, &error);
    let file = File::options().create(true).append(true).open(beside).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use chrysalis_policy::PinsSecret;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    /// Pins number `number` that accept nobody.
    fn signed(number: u64) -> SignedPins {
        let text = format!(
            "version = 1\nsequence = {number}\ntier = \"production\"\nnetwork = -3\n[platform]\n\
             td_attributes = []\nxfam = []\nmr_seam = []\nmax_collateral_age_days = 14\n\
             min_tcb_evaluation_number = 18\n"
        );
        let secret = PinsSecret::from_seed(&[7; 32]);
        let envelope = SignedPins::sign(&text, &secret, AllowSim::No).unwrap();
        SignedPins::open(envelope.as_bytes(), &secret.public(), AllowSim::No).unwrap()
    }

    fn adopt(path: &Path, number: u64) -> Result<Remembered, Failure> {
        remember(path, &signed(number), Path::new("pins"), AllowSim::No, NOW)
    }

    #[test]
    fn says_when_it_remembers_nothing_and_refuses_what_is_older_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pins/memory.json");
        assert!(adopt(&path, 7).unwrap().first);
        assert!(!adopt(&path, 8).unwrap().first);
        assert_eq!(adopt(&path, 7).err().unwrap().code, "E-PINS-ROLLBACK");
    }

    #[test]
    fn does_not_take_a_link_to_nothing_or_a_directory_for_an_empty_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.json");
        std::os::unix::fs::symlink(dir.path().join("gone"), &path).unwrap();
        assert_eq!(adopt(&path, 7).err().unwrap().code, "E-FILE");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(adopt(&path, 7).err().unwrap().code, "E-FILE");
    }

    #[test]
    fn waits_for_who_holds_the_memory_and_judges_by_what_was_written_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.json");
        adopt(&path, 7).unwrap();
        let held = lock(&path).unwrap();
        std::thread::scope(|scope| {
            let older = scope.spawn(|| adopt(&path, 8).err().map(|failure| failure.code));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!older.is_finished(), "the lock is not waited for");
            let mut memory = read(&path, AllowSim::No).unwrap().unwrap();
            memory.adopt(&signed(9), NOW).unwrap();
            files::write(&path, memory.to_json().as_bytes(), Existing::Replace).unwrap();
            drop(held);
            assert_eq!(older.join().unwrap().as_deref(), Some("E-PINS-ROLLBACK"));
        });
        assert_eq!(read(&path, AllowSim::No).unwrap().unwrap().sequence(), Some(9));
    }
}
