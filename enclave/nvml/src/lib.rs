//! GPUs below NVIDIA's driver. There has been no GPU in confidential mode to run this on: an H200 in another
//! mode was found and refused, no report was taken. Tests drive it against a stand-in library compiled from the
//! declarations of NVIDIA's header.
//!
//! A GPU hands out reports in other modes too, and they do not say so. Whether its memory is protected
//! is for this measured guest to find out: confidential computing is on, for production, and the
//! developers' tools, which read that memory, are off. Anything else is refused here, and there is no
//! report to show.
//!
//! Switches have a library of their own that this build does not speak; a manifest that names some does
//! not boot on real hardware.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout
    )
)]

mod library;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use chrysalis_tee::{DeviceChain, DeviceCount, DeviceReport, Devices, TeeError};

use self::library::{Library, SystemState};

/// The GPUs that NVIDIA's management library sees.
pub struct Nvml {
    path: PathBuf,
    /// Opened once it is needed, and used by one caller at a time.
    library: Mutex<Option<Library>>,
}

impl Nvml {
    /// The library of the system's driver. Nothing is opened before it is needed.
    #[must_use]
    pub fn of_system() -> Self {
        Self::at(LIBRARY.into())
    }

    /// The library at `path`.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path, library: Mutex::new(None) }
    }

    /// Calls `with` the library, if the machine is in the mode in which reports mean something.
    fn protected<T>(
        &self,
        with: impl FnOnce(&Library) -> Result<T, TeeError>,
    ) -> Result<T, TeeError> {
        // The library is put in its place whole; a panic elsewhere cannot leave half of one.
        let mut slot = self.library.lock().unwrap_or_else(PoisonError::into_inner);
        let library = match slot.take() {
            Some(open) => open,
            None => Library::open(&self.path)?,
        };
        let library = slot.insert(library);
        let SystemState { environment, feature, dev_tools } = library.state()?;
        if (environment, feature, dev_tools) != (PRODUCTION, FEATURE_ON, DEV_TOOLS_OFF) {
            return Err(TeeError::GpuNotProtected { environment, feature, dev_tools });
        }
        with(library)
    }
}

impl Devices for Nvml {
    fn count(&self) -> Result<DeviceCount, TeeError> {
        let gpus = self.protected(Library::count)?;
        Ok(DeviceCount { gpus, switches: 0 })
    }

    fn reports(&self, nonce: &[u8; 32]) -> Result<Vec<DeviceReport>, TeeError> {
        self.protected(|library| {
            let count = library.count()?;
            (0..count).map(|index| report(library, index, nonce)).collect()
        })
    }
}

fn report(library: &Library, index: u32, nonce: &[u8; 32]) -> Result<DeviceReport, TeeError> {
    let handle = library.handle(index)?;
    let report = library.report(handle, nonce)?;
    let certificates = library.certificates(handle)?;
    Ok(DeviceReport {
        report: filled("attestation report", &report.report, report.size)?.to_vec(),
        chain: DeviceChain::Pem(
            filled("certificate chain", &certificates.attestation, certificates.attestation_size)?
                .to_vec(),
        ),
    })
}

/// The part of a buffer that the library says it wrote.
fn filled<'a>(what: &'static str, buffer: &'a [u8], size: u32) -> Result<&'a [u8], TeeError> {
    let got = usize::try_from(size).unwrap_or(usize::MAX);
    buffer.get(..got).ok_or(TeeError::NvmlSize { what, limit: buffer.len(), got })
}

/// As the dynamic linker finds it; the major version is the interface's.
const LIBRARY: &str = "libnvidia-ml.so.1";
const PRODUCTION: u32 = 2;
const FEATURE_ON: u32 = 1;
const DEV_TOOLS_OFF: u32 = 0;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// The stand-in, compiled for two GPUs and with `define` changed; none without a C compiler.
    fn stand_in(dir: &Path, define: &str) -> Option<Nvml> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand-in.c");
        let library = dir.join("libnvidia-ml.so.1");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        if !define.is_empty() {
            cc.arg(format!("-D{define}"));
        }
        match cc.status() {
            Ok(status) => assert!(status.success(), "the stand-in does not compile"),
            Err(_) => {
                println!("skipped: there is no C compiler");
                return None;
            }
        }
        Some(Nvml::at(library))
    }

    fn refused(define: &str) -> Option<TeeError> {
        let dir = tempfile::tempdir().unwrap();
        let nvml = stand_in(dir.path(), define)?;
        Some(nvml.reports(&[7; 32]).unwrap_err())
    }

    #[test]
    fn says_honestly_that_there_is_no_driver() {
        let nowhere = Nvml::at("/nonexistent/libnvidia-ml.so.1".into());
        assert_eq!(nowhere.count().unwrap_err().code(), "E-NVML-NONE");
        // This machine has one or it does not; neither is a crash.
        drop(Nvml::of_system().count());
    }

    /// On a machine with a GPU (`CHRYSALIS_GPU`, see `scripts/gpu`): what its library says, whatever the mode.
    #[test]
    fn a_real_gpu_shows_reports_in_confidential_mode_and_is_refused_in_any_other() {
        if std::env::var_os("CHRYSALIS_GPU").is_none() {
            println!("skipped: it needs a GPU, see scripts/gpu");
            return;
        }
        let nvml = Nvml::of_system();
        match nvml.reports(&[7; 32]) {
            Ok(reports) => {
                assert!(!reports.is_empty() && reports.iter().all(|r| !r.report.is_empty()));
                println!(
                    "{} reports, the first of {} bytes",
                    reports.len(),
                    reports[0].report.len()
                );
            }
            Err(error) => {
                println!("refused: {error}");
                assert!(matches!(error, TeeError::GpuNotProtected { .. }), "{error:?}");
            }
        }
    }

    #[test]
    fn asks_every_gpu_with_the_nonce_and_takes_what_was_written_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let Some(nvml) = stand_in(dir.path(), "") else { return };
        assert_eq!(nvml.count(), Ok(DeviceCount { gpus: 2, switches: 0 }));
        let nonce: [u8; 32] = core::array::from_fn(|n| u8::try_from(n).unwrap());
        let reports = nvml.reports(&nonce).unwrap();
        assert_eq!(reports.len(), 2);
        for (index, report) in reports.iter().enumerate() {
            // The stand-in answers with the nonce it was given, read from its own struct in C.
            let expected = [&nonce[..], &[u8::try_from(index).unwrap()]].concat();
            assert_eq!(report.report, expected);
            let pem = format!("chain of {index}");
            assert_eq!(report.chain, DeviceChain::Pem(pem.into_bytes()));
        }
    }

    #[test]
    fn refuses_gpus_whose_memory_is_not_protected() {
        for (define, state) in [
            ("FEATURE=0", (2, 0, 0)),
            ("DEV_TOOLS=1", (2, 1, 1)),
            ("ENVIRONMENT=1", (1, 1, 0)),
            ("ENVIRONMENT=0", (0, 1, 0)),
        ] {
            let Some(refused) = refused(define) else { return };
            let (environment, feature, dev_tools) = state;
            assert_eq!(refused, TeeError::GpuNotProtected { environment, feature, dev_tools });
        }
    }

    #[test]
    fn refuses_lengths_beyond_the_buffer_and_passes_errors_on() {
        let Some(long) = refused("REPORT_SIZE=0x2001") else { return };
        let what = "attestation report";
        assert_eq!(long, TeeError::NvmlSize { what, limit: 0x2000, got: 0x2001 });
        let long = refused("CHAIN_SIZE=0x1401").unwrap();
        assert_eq!(long.code(), "E-NVML-SIZE");
        let call = "nvmlDeviceGetConfComputeGpuAttestationReport";
        assert_eq!(refused("REPORT_CODE=3"), Some(TeeError::Nvml { call, code: 3 }));
        let call = "nvmlInit_v2";
        assert_eq!(refused("INIT_CODE=9"), Some(TeeError::Nvml { call, code: 9 }));
        let symbol = "nvmlSystemGetConfComputeState";
        assert_eq!(refused("WITHOUT_STATE"), Some(TeeError::DriverTooOld { symbol }));
    }
}
