//! Quotes through the kernel's configfs-tsm report interface (Linux 6.7,
//! `Documentation/ABI/testing/configfs-tsm-report`). The kernel is trusted, other processes of the
//! guest and the host's answer are not.
//!
//! One directory per quote. `generation` counts the writes to it: after our single write it must
//! have moved by exactly one, otherwise the quote may be over somebody else's input.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrysalis_wire::limits::MAX_QUOTE_BYTES;

use crate::error::{TeeError, quoted};
use crate::files::Files;

/// Asks the kernel for a quote over `report_data`, unchecked.
pub(super) fn request_quote(
    files: &dyn Files,
    dir: &Path,
    names: &EntryNames,
    pause: fn(Duration),
    report_data: &[u8; 64],
) -> Result<Vec<u8>, TeeError> {
    let mut attempts = 1;
    loop {
        let entry = Entry::create(files, dir.join(names.next()))?;
        let refusal = match entry.quote(report_data)? {
            Outcome::Quote(quote) => return Ok(quote),
            Outcome::Busy => TeeError::Busy { attempts },
            Outcome::Moved { expected, got } => {
                TeeError::GenerationMoved { expected, got, attempts }
            }
        };
        drop(entry);
        if attempts >= MAX_CONFIGFS_ATTEMPTS {
            return Err(refusal);
        }
        attempts = attempts.saturating_add(1);
        pause(RETRY_PAUSE);
    }
}

/// Names of report entries: unique among running processes by pid, in this one by count.
#[derive(Debug)]
pub(super) struct EntryNames(AtomicU64);

impl EntryNames {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn next(&self) -> String {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        format!("chrysalis-{}-{count}", std::process::id())
    }
}

/// A report entry, removed when dropped, whatever happened in between.
struct Entry<'a> {
    files: &'a dyn Files,
    path: PathBuf,
}

enum Outcome {
    Quote(Vec<u8>),
    Busy,
    Moved { expected: u64, got: u64 },
}

impl<'a> Entry<'a> {
    fn create(files: &'a dyn Files, path: PathBuf) -> Result<Self, TeeError> {
        let created = files.create_dir(&path).or_else(|e| {
            if e.kind() != ErrorKind::AlreadyExists {
                return Err(e);
            }
            // Left behind by a killed worker that had our pid: pids repeat in a small guest.
            files.remove_dir(&path)?;
            files.create_dir(&path)
        });
        match created {
            Ok(()) => Ok(Self { files, path }),
            Err(e) => Err(failed("create a report entry", path, e.kind())),
        }
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Outcome, TeeError> {
        let provider = self.read("provider", MAX_ATTRIBUTE_BYTES)?;
        if provider.trim_ascii_end() != PROVIDER {
            return Err(TeeError::WrongProvider { got: quoted(&provider) });
        }
        let expected = self.generation()?.saturating_add(1);
        let inblob = self.path.join("inblob");
        self.files
            .write(&inblob, report_data)
            .map_err(|e| failed("write report data", inblob, e.kind()))?;
        let outblob = self.path.join("outblob");
        let quote = match self.files.read(&outblob, MAX_QUOTE_BYTES) {
            Ok(quote) => quote,
            Err(e) if matches!(e.kind(), ErrorKind::ResourceBusy | ErrorKind::WouldBlock) => {
                return Ok(Outcome::Busy);
            }
            Err(e) => return Err(failed("read the quote", outblob, e.kind())),
        };
        let got = self.generation()?;
        if got == expected {
            Ok(Outcome::Quote(quote))
        } else {
            Ok(Outcome::Moved { expected, got })
        }
    }

    fn generation(&self) -> Result<u64, TeeError> {
        let bytes = self.read("generation", MAX_ATTRIBUTE_BYTES)?;
        std::str::from_utf8(bytes.trim_ascii())
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| TeeError::NotANumber { path: self.path.join("generation") })
    }

    fn read(&self, attribute: &'static str, limit: usize) -> Result<Vec<u8>, TeeError> {
        let path = self.path.join(attribute);
        self.files.read(&path, limit).map_err(|e| failed("read a report attribute", path, e.kind()))
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // Nothing to do about a failure here; the next entry of this name removes what is left.
        drop(self.files.remove_dir(&self.path));
    }
}

fn failed(what: &'static str, path: PathBuf, kind: ErrorKind) -> TeeError {
    TeeError::Io {
        what,
        path,
        kind,
        next_step: "Mount configfs, run as root in a TDX guest with Linux 6.7 or newer",
    }
}

/// Attempts before a busy kernel or a contended entry is an error.
pub const MAX_CONFIGFS_ATTEMPTS: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// A page: the largest text attribute configfs can show.
const MAX_ATTRIBUTE_BYTES: usize = 4096;
/// `KBUILD_MODNAME` of the TDX guest driver.
const PROVIDER: &[u8] = b"tdx_guest";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeKernel, td_quote};

    const OURS: [u8; 64] = [0x22; 64];

    fn ask(kernel: &FakeKernel) -> Result<Vec<u8>, TeeError> {
        request_quote(kernel, &kernel.tsm_report(), &EntryNames::new(), |_| {}, &OURS)
    }

    /// Whatever the answer, no entry may stay behind.
    fn ask_and_expect_cleanup(kernel: &FakeKernel) -> Result<Vec<u8>, TeeError> {
        let answer = ask(kernel);
        assert_eq!(std::fs::read_dir(kernel.tsm_report()).unwrap().count(), 0, "entry left");
        answer
    }

    #[test]
    fn quotes_over_our_report_data_and_removes_the_entry() {
        let kernel = FakeKernel::new();
        assert_eq!(ask_and_expect_cleanup(&kernel), Ok(td_quote(&OURS)));
    }

    #[test]
    fn refuses_a_provider_that_is_not_the_tdx_guest() {
        let kernel = FakeKernel::new().with_provider("sev_guest");
        assert_eq!(
            ask_and_expect_cleanup(&kernel),
            Err(TeeError::WrongProvider { got: "sev_guest".into() })
        );
        assert_eq!(kernel.entries_made(), 1, "another provider is not worth a second attempt");
    }

    #[test]
    fn retries_when_somebody_else_wrote_to_our_entry_once() {
        let kernel = FakeKernel::new().moving_generation(1);
        assert_eq!(ask_and_expect_cleanup(&kernel), Ok(td_quote(&OURS)));
        assert_eq!(kernel.entries_made(), 2);
    }

    #[test]
    fn refuses_when_the_generation_is_moved_by_somebody_else_every_time() {
        let kernel = FakeKernel::new().moving_generation(u32::MAX);
        assert_eq!(
            ask_and_expect_cleanup(&kernel),
            Err(TeeError::GenerationMoved { expected: 1, got: 2, attempts: MAX_CONFIGFS_ATTEMPTS })
        );
        assert_eq!(kernel.entries_made(), MAX_CONFIGFS_ATTEMPTS);
    }

    #[test]
    fn refuses_a_quote_when_our_write_did_not_move_the_generation() {
        let kernel = FakeKernel::new().losing_writes();
        assert!(matches!(
            ask_and_expect_cleanup(&kernel),
            Err(TeeError::GenerationMoved { expected: 1, got: 0, .. })
        ));
    }

    #[test]
    fn waits_for_a_busy_kernel() {
        let kernel = FakeKernel::new().busy(MAX_CONFIGFS_ATTEMPTS - 1);
        assert_eq!(ask_and_expect_cleanup(&kernel), Ok(td_quote(&OURS)));
    }

    #[test]
    fn gives_up_on_a_kernel_that_stays_busy() {
        let kernel = FakeKernel::new().busy(u32::MAX);
        assert_eq!(
            ask_and_expect_cleanup(&kernel),
            Err(TeeError::Busy { attempts: MAX_CONFIGFS_ATTEMPTS })
        );
    }

    #[test]
    fn cleans_an_entry_left_behind_by_a_killed_worker() {
        let kernel = FakeKernel::new();
        let leftover = kernel.tsm_report().join(EntryNames::new().next());
        std::fs::create_dir(&leftover).unwrap();
        std::fs::write(leftover.join("generation"), "7\n").unwrap();
        assert_eq!(ask_and_expect_cleanup(&kernel), Ok(td_quote(&OURS)));
    }

    #[test]
    fn names_the_directory_when_configfs_is_not_mounted() {
        let kernel = FakeKernel::new();
        std::fs::remove_dir_all(kernel.tsm_report()).unwrap();
        assert!(matches!(
            ask(&kernel),
            Err(TeeError::Io { what: "create a report entry", kind: ErrorKind::NotFound, .. })
        ));
    }

    #[test]
    fn refuses_a_quote_one_byte_over_the_limit() {
        let kernel = FakeKernel::new().answering(vec![0; MAX_QUOTE_BYTES + 1]);
        assert!(matches!(
            ask_and_expect_cleanup(&kernel),
            Err(TeeError::Io { what: "read the quote", kind: ErrorKind::FileTooLarge, .. })
        ));
    }

    #[test]
    fn refuses_a_generation_that_is_not_a_number() {
        let kernel = FakeKernel::new().with_generation("many\n");
        assert!(matches!(ask_and_expect_cleanup(&kernel), Err(TeeError::NotANumber { .. })));
    }
}
