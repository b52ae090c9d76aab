//! The TDX backend. Trusts the guest kernel; the host's quote service is hostile.
//!
//! Quotes: quote generation service over vsock first (2 to 4 ms), configfs-tsm second (about one
//! second, because the stock driver polls once per second). Neither route is trusted: the host
//! carries the quote in both, and both answers are checked for our `report_data`.

mod configfs;
mod device;
mod qgs;
mod registers;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::TeeError;
use crate::files::{Files, HostFiles};
use crate::platform::{Platform, Registers};
use crate::quote::{self, Tee};

pub use crate::kernel::TD_REPORT_BYTES;
pub use configfs::MAX_CONFIGFS_ATTEMPTS;
pub use device::{GuestDevice, ReportDevice};
pub use qgs::{
    MAX_QGS_READS, MAX_SELECTED_ID_BYTES, QgsConnector, QgsStream, VSOCK_HOST_CID, VSOCK_QGS_PORT,
    VsockQgs,
};

/// Where a TDX guest keeps its interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxPaths {
    /// The character device of the TDX driver.
    pub device: PathBuf,
    /// The configfs-tsm report directory (Linux 6.7).
    pub tsm_report: PathBuf,
    /// The sysfs measurement directory (Linux 6.16).
    pub measurements: PathBuf,
}

impl TdxPaths {
    /// The kernel's paths below `root`, which is `/` on a real machine.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self {
            device: root.join("dev/tdx_guest"),
            tsm_report: root.join("sys/kernel/config/tsm/report"),
            measurements: root.join("sys/devices/virtual/misc/tdx_guest/measurements"),
        }
    }
}

/// What the backend talks to, injected.
pub struct TdxParts {
    /// Pseudo-filesystems.
    pub files: Box<dyn Files>,
    /// The TDREPORT ioctl.
    pub device: Box<dyn ReportDevice>,
    /// The quote service on the host.
    pub qgs: Box<dyn QgsConnector>,
    /// Waits before an attempt that met a busy kernel.
    pub pause: fn(Duration),
}

impl TdxParts {
    /// The real kernel and the real host.
    #[must_use]
    pub fn hardware(paths: &TdxPaths) -> Self {
        Self {
            files: Box::new(HostFiles),
            device: Box::new(GuestDevice::new(paths.device.clone())),
            qgs: Box::new(VsockQgs::default()),
            pause: std::thread::sleep,
        }
    }
}

/// A TDX guest.
pub struct TdxPlatform {
    paths: TdxPaths,
    parts: TdxParts,
    entries: configfs::EntryNames,
    extending: Mutex<()>,
}

impl TdxPlatform {
    /// The platform on real interfaces at `paths`. Touches nothing yet.
    #[must_use]
    pub fn new(paths: TdxPaths) -> Self {
        let parts = TdxParts::hardware(&paths);
        Self::with_parts(paths, parts)
    }

    /// The platform on injected interfaces.
    #[must_use]
    pub const fn with_parts(paths: TdxPaths, parts: TdxParts) -> Self {
        Self { paths, parts, entries: configfs::EntryNames::new(), extending: Mutex::new(()) }
    }

    fn quote_over_vsock(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let report = self.parts.device.td_report(report_data)?;
        let quote = qgs::request_quote(self.parts.qgs.as_ref(), &report)?;
        quote::check(&quote, Tee::Tdx, report_data)?;
        Ok(quote)
    }

    fn quote_over_configfs(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let files = self.parts.files.as_ref();
        let dir = &self.paths.tsm_report;
        let quote =
            configfs::request_quote(files, dir, &self.entries, self.parts.pause, report_data)?;
        quote::check(&quote, Tee::Tdx, report_data)?;
        Ok(quote)
    }
}

impl Platform for TdxPlatform {
    fn name(&self) -> &'static str {
        "tdx"
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        self.quote_over_vsock(report_data).or_else(|vsock| {
            self.quote_over_configfs(report_data).map_err(|configfs| TeeError::NoQuote {
                vsock: Box::new(vsock),
                configfs: Box::new(configfs),
            })
        })
    }

    fn measurements(&self) -> Result<Registers, TeeError> {
        registers::read(self.parts.files.as_ref(), &self.paths.measurements)
    }

    fn extend_runtime(&self, digest: &[u8; 48]) -> Result<(), TeeError> {
        // A panic elsewhere cannot leave the unit value half-written.
        let _one_at_a_time =
            self.extending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        registers::extend(self.parts.files.as_ref(), &self.paths.measurements, digest)
    }

    fn sealing_key(&self, _purpose: &str) -> Result<Zeroizing<[u8; 32]>, TeeError> {
        Err(TeeError::Unsupported {
            platform: self.name(),
            operation: "derive a sealing key",
            why: "a TDX guest has none; keys must come from a grant sealed to the attested keyset",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeDevice, FakeKernel, FakeQgs, RTMR_SEED, extended, td_quote};

    const OURS: [u8; 64] = [0x11; 64];

    fn platform(kernel: &FakeKernel, qgs: FakeQgs) -> TdxPlatform {
        TdxPlatform::with_parts(
            TdxPaths::under(kernel.root()),
            TdxParts {
                files: Box::new(kernel.clone()),
                device: Box::new(FakeDevice),
                qgs: Box::new(qgs),
                pause: |_| {},
            },
        )
    }

    #[test]
    fn prefers_vsock_and_leaves_configfs_alone() {
        let kernel = FakeKernel::new();
        let quote = platform(&kernel, FakeQgs::honest()).quote(&OURS).unwrap();
        assert_eq!(quote, td_quote(&OURS));
        assert_eq!(kernel.entries_made(), 0);
    }

    #[test]
    fn falls_back_to_configfs_when_nobody_listens_on_vsock() {
        let kernel = FakeKernel::new();
        let quote = platform(&kernel, FakeQgs::absent()).quote(&OURS).unwrap();
        assert_eq!(quote, td_quote(&OURS));
        assert_eq!(kernel.entries_made(), 1);
    }

    #[test]
    fn falls_back_to_configfs_when_the_service_sends_a_replayed_quote() {
        let kernel = FakeKernel::new();
        let quote = platform(&kernel, FakeQgs::answering(td_quote(&[0; 64]))).quote(&OURS).unwrap();
        assert_eq!(quote, td_quote(&OURS));
    }

    #[test]
    fn names_both_routes_when_neither_works() {
        let kernel = FakeKernel::new().with_provider("sev_guest");
        let platform = platform(&kernel, FakeQgs::answering(td_quote(&[0; 64])));
        let Err(TeeError::NoQuote { vsock, configfs }) = platform.quote(&OURS) else {
            panic!("a quote came from nowhere");
        };
        assert_eq!(*vsock, TeeError::QuoteOtherReportData);
        assert_eq!(*configfs, TeeError::WrongProvider { got: "sev_guest".into() });
    }

    #[test]
    fn refuses_a_quote_for_other_report_data_on_both_routes() {
        let kernel = FakeKernel::new().answering(td_quote(&[9; 64]));
        let platform = platform(&kernel, FakeQgs::answering(td_quote(&[9; 64])));
        assert_eq!(
            platform.quote(&OURS),
            Err(TeeError::NoQuote {
                vsock: Box::new(TeeError::QuoteOtherReportData),
                configfs: Box::new(TeeError::QuoteOtherReportData),
            })
        );
    }

    #[test]
    fn extends_rtmr3_and_reads_the_new_value_back() {
        let kernel = FakeKernel::new();
        let platform = platform(&kernel, FakeQgs::absent());
        platform.extend_runtime(&[3; 48]).unwrap();
        platform.extend_runtime(&[4; 48]).unwrap();
        let measured = platform.measurements().unwrap();
        let expected = extended(&extended(&[RTMR_SEED + 3; 48], &[3; 48]), &[4; 48]);
        assert_eq!(measured.rtmr[3], expected);
        assert_eq!(measured.rtmr[0], [RTMR_SEED; 48]);
    }

    #[test]
    fn refuses_a_sealing_key_because_tdx_has_none() {
        let kernel = FakeKernel::new();
        let error = platform(&kernel, FakeQgs::absent()).sealing_key("x").unwrap_err();
        assert_eq!(error.code(), "E-TEE-UNSUPPORTED");
    }
}
