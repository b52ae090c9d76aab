//! TDREPORT from the guest's own driver. Local and trusted: the report never crosses the host.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::error::TeeError;
use crate::kernel::{self, TD_REPORT_BYTES};

/// Something that makes a TDREPORT.
pub trait ReportDevice: Send + Sync {
    /// A TDREPORT over `report_data`.
    ///
    /// # Errors
    /// When the device is missing or refuses.
    fn td_report(&self, report_data: &[u8; 64]) -> Result<Box<[u8; TD_REPORT_BYTES]>, TeeError>;
}

/// The TDX driver's character device.
#[derive(Clone, Debug)]
pub struct GuestDevice {
    path: PathBuf,
}

impl GuestDevice {
    /// The device at `path`, opened for each report.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl ReportDevice for GuestDevice {
    fn td_report(&self, report_data: &[u8; 64]) -> Result<Box<[u8; TD_REPORT_BYTES]>, TeeError> {
        let failed = |kind| TeeError::Io {
            what: "TDREPORT",
            path: self.path.clone(),
            kind,
            next_step: "Check that this is a TDX guest with CONFIG_TDX_GUEST_DRIVER",
        };
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(|e| failed(e.kind()))?;
        kernel::td_report(device.as_fd(), report_data)
            .map_err(|errno| failed(std::io::Error::from(errno).kind()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn kind_of(path: PathBuf) -> ErrorKind {
        match GuestDevice::new(path).td_report(&[0; 64]) {
            Err(TeeError::Io { what: "TDREPORT", kind, .. }) => kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_a_missing_device() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kind_of(dir.path().join("dev/tdx_guest")), ErrorKind::NotFound);
    }

    #[test]
    fn refuses_a_regular_file_in_place_of_the_device() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tdx_guest");
        std::fs::write(&path, [0; 2048]).unwrap();
        // ENOTTY has no `ErrorKind` of its own; what matters is that it is refused.
        kind_of(path);
    }
}
