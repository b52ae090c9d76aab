//! Measurement registers through sysfs (Linux 6.16,
//! `Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest`). The kernel is trusted.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha384};

use crate::error::TeeError;
use crate::files::Files;
use crate::platform::Registers;

/// Reads MRTD and the four runtime registers.
pub(super) fn read(files: &dyn Files, dir: &Path) -> Result<Registers, TeeError> {
    Ok(Registers {
        mrtd: register(files, dir, "mrtd:sha384")?,
        rtmr: [
            register(files, dir, "rtmr0:sha384")?,
            register(files, dir, "rtmr1:sha384")?,
            register(files, dir, "rtmr2:sha384")?,
            register(files, dir, RTMR3)?,
        ],
    })
}

/// Extends RTMR3 and reads back that it happened: a digest that was lost here would leave the
/// worker attesting something it did not measure.
pub(super) fn extend(files: &dyn Files, dir: &Path, digest: &[u8; 48]) -> Result<(), TeeError> {
    let before = register(files, dir, RTMR3)?;
    let path = dir.join(RTMR3);
    files.write(&path, digest).map_err(|e| failed("extend", path.clone(), e.kind()))?;
    let expected: [u8; 48] =
        Sha384::new().chain_update(before).chain_update(digest).finalize().into();
    if register(files, dir, RTMR3)? == expected {
        Ok(())
    } else {
        Err(TeeError::ExtendNotApplied { path })
    }
}

fn register(files: &dyn Files, dir: &Path, name: &str) -> Result<[u8; 48], TeeError> {
    let path = dir.join(name);
    let bytes = match files.read(&path, MAX_REGISTER_BYTES) {
        Ok(bytes) => bytes,
        Err(e) => return Err(failed("read", path, e.kind())),
    };
    bytes.as_slice().try_into().map_err(|_| TeeError::WrongLength {
        path,
        expected: REGISTER_BYTES,
        got: bytes.len(),
    })
}

const fn failed(what: &'static str, path: PathBuf, kind: ErrorKind) -> TeeError {
    TeeError::Io {
        what,
        path,
        kind,
        next_step: "Measurement registers need Linux 6.16 or newer in the TDX guest",
    }
}

const RTMR3: &str = "rtmr3:sha384";
const REGISTER_BYTES: usize = 48;
/// Room to report the length of a register that is not SHA-384.
const MAX_REGISTER_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeKernel, RTMR_SEED};

    #[test]
    fn reads_every_register() {
        let kernel = FakeKernel::new();
        let registers = read(&kernel, &kernel.measurements()).unwrap();
        assert_eq!(registers.mrtd, [0xD0; 48]);
        assert_eq!(registers.rtmr, core::array::from_fn(|i| [RTMR_SEED + i as u8; 48]));
    }

    #[test]
    fn refuses_a_register_of_another_length() {
        for len in [0, 47, 49] {
            let kernel = FakeKernel::new();
            std::fs::write(kernel.measurements().join("rtmr1:sha384"), vec![0; len]).unwrap();
            assert_eq!(
                read(&kernel, &kernel.measurements()),
                Err(TeeError::WrongLength {
                    path: kernel.measurements().join("rtmr1:sha384"),
                    expected: 48,
                    got: len
                })
            );
        }
    }

    #[test]
    fn refuses_to_extend_a_register_that_is_not_there() {
        let kernel = FakeKernel::new();
        std::fs::remove_file(kernel.measurements().join(RTMR3)).unwrap();
        let got = extend(&kernel, &kernel.measurements(), &[1; 48]);
        assert!(matches!(got, Err(TeeError::Io { kind: ErrorKind::NotFound, .. })));
        assert!(!kernel.measurements().join(RTMR3).exists(), "the extension created a file");
    }

    #[test]
    fn refuses_an_extension_the_kernel_did_not_apply() {
        let kernel = FakeKernel::new().losing_writes();
        assert!(matches!(
            extend(&kernel, &kernel.measurements(), &[1; 48]),
            Err(TeeError::ExtendNotApplied { .. })
        ));
    }

    #[test]
    fn refuses_a_register_that_was_overwritten_instead_of_extended() {
        // A plain file does what a broken driver would: it stores the digest itself.
        let kernel = FakeKernel::new();
        assert!(matches!(
            extend(&crate::HostFiles, &kernel.measurements(), &[1; 48]),
            Err(TeeError::ExtendNotApplied { .. })
        ));
    }
}
