//! Picks the backend by what exists under a root directory.
//!
//! Gramine first: inside an enclave `/dev/attestation` is made by the library OS and cannot be
//! placed there by the host, while a `/dev/tdx_guest` might be a mounted host file. Inside a TDX
//! guest the whole root is measured. Choosing wrongly only denies service: evidence of the wrong
//! machine fails appraisal.

use std::path::Path;

use crate::error::{TeeError, quoted};
use crate::files::{Files, HostFiles};
use crate::gramine::GraminePlatform;
use crate::platform::Platform;
use crate::tdx::{TdxPaths, TdxPlatform};

/// The platform found below `root`, which is `/` on a real machine.
///
/// # Errors
/// [`TeeError::NoPlatform`] with every path that was looked for;
/// [`TeeError::AttestationType`] under a Gramine without DCAP attestation.
pub fn detect(root: &Path) -> Result<Box<dyn Platform>, TeeError> {
    let gramine = root.join(GRAMINE_DIR);
    let attestation_type = gramine.join("attestation_type");
    if attestation_type.exists() {
        return check_dcap(&attestation_type)
            .map(|()| Box::new(GraminePlatform::new(gramine)) as Box<dyn Platform>);
    }
    let paths = TdxPaths::under(root);
    if paths.device.exists() {
        return Ok(Box::new(TdxPlatform::new(paths)));
    }
    Err(TeeError::NoPlatform {
        looked_for: [paths.device, attestation_type]
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    })
}

fn check_dcap(path: &Path) -> Result<(), TeeError> {
    let got = HostFiles.read(path, MAX_TYPE_BYTES).map_err(|e| TeeError::Io {
        what: "read",
        path: path.to_owned(),
        kind: e.kind(),
        next_step: "Run under gramine-sgx with sgx.remote_attestation = \"dcap\"",
    })?;
    if got.trim_ascii() == b"dcap" {
        Ok(())
    } else {
        Err(TeeError::AttestationType { got: quoted(&got) })
    }
}

const GRAMINE_DIR: &str = "dev/attestation";
const MAX_TYPE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn name_or_error(files: &[(&str, &str)]) -> Result<&'static str, TeeError> {
        detect(root_with(files).path()).map(|platform| platform.name())
    }

    #[test]
    fn finds_tdx_by_its_device() {
        assert_eq!(name_or_error(&[("dev/tdx_guest", "")]), Ok("tdx"));
    }

    #[test]
    fn finds_gramine_even_when_a_tdx_device_was_mounted_into_the_enclave() {
        let files = [("dev/attestation/attestation_type", "dcap"), ("dev/tdx_guest", "")];
        assert_eq!(name_or_error(&files), Ok("gramine-sgx"));
    }

    #[test]
    fn refuses_gramine_without_dcap_attestation() {
        assert_eq!(
            name_or_error(&[("dev/attestation/attestation_type", "none")]),
            Err(TeeError::AttestationType { got: "none".into() })
        );
    }

    #[test]
    fn names_everything_it_looked_for_on_a_plain_machine() {
        let root = tempfile::tempdir().unwrap();
        let Err(error) = detect(root.path()) else { panic!("found a platform in an empty root") };
        let message = error.to_string();
        assert!(message.contains("dev/tdx_guest"), "{message}");
        assert!(message.contains("dev/attestation/attestation_type"), "{message}");
    }

    #[test]
    fn never_finds_the_simulator() {
        for files in [&[("dev/tdx_guest", "")], &[("dev/attestation/attestation_type", "dcap")]] {
            assert!(!detect(root_with(files).path()).unwrap().insecure_sim());
        }
    }
}
