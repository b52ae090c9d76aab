//! Runs the worker in an SGX enclave under Gramine. The final manifest fixes the program, its
//! arguments and its environment, and is measured; so all the host adds is which manifest.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use crate::error::LoaderError;
use crate::launch::existing;

/// A Gramine that can run an enclave here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gramine {
    /// `gramine-sgx`.
    pub program: PathBuf,
    /// The only argument: the manifest without its ending.
    pub application: PathBuf,
}

/// Where the host has SGX.
#[derive(Clone, Debug)]
pub struct SgxDevices {
    /// The driver's device.
    pub enclave: PathBuf,
}

impl Default for SgxDevices {
    fn default() -> Self {
        Self { enclave: "/dev/sgx_enclave".into() }
    }
}

impl Gramine {
    /// Finds `gramine-sgx` on `path` (the value of `PATH`) for the final manifest
    /// `NAME.manifest.sgx`, beside which `NAME.sig` lies.
    ///
    /// # Errors
    /// [`LoaderError::Unsupported`] without Gramine or SGX; [`LoaderError::NoFile`].
    pub fn find(
        manifest: &Path,
        path: Option<&OsStr>,
        devices: &SgxDevices,
    ) -> Result<Self, LoaderError> {
        let manifest = existing("Gramine manifest", manifest)?;
        let text = manifest.to_str().and_then(|text| text.strip_suffix(MANIFEST_SUFFIX));
        let Some(application) = text.map(PathBuf::from) else {
            return Err(LoaderError::NoFile {
                what: "Gramine manifest".to_owned(),
                path: manifest.display().to_string(),
                reason: format!("a final manifest is named NAME{MANIFEST_SUFFIX}"),
            });
        };
        existing("enclave signature", &application.with_added_extension("sig"))?;
        let unsupported = |reason: String| LoaderError::Unsupported {
            what: "running an SGX enclave".to_owned(),
            reason,
        };
        let dirs = path.map(std::env::split_paths).into_iter().flatten();
        let program = dirs
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(PROGRAM))
            .find(|program| program.is_file())
            .ok_or_else(|| unsupported(format!("there is no {PROGRAM} on the PATH")))?;
        let device = &devices.enclave;
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(device)
            .map_err(|e| unsupported(format!("{} cannot be opened: {e}", device.display())))?;
        Ok(Self { program, application })
    }
}

const PROGRAM: &str = "gramine-sgx";

/// How Gramine's tools name a final manifest.
const MANIFEST_SUFFIX: &str = ".manifest.sgx";

#[cfg(test)]
mod tests {
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["w.manifest.sgx", "w.sig", "gramine-sgx", "sgx_enclave"] {
                std::fs::write(dir.path().join(name), b"").unwrap();
            }
            Self(dir)
        }

        fn without(self, name: &str) -> Self {
            std::fs::remove_file(self.0.path().join(name)).unwrap();
            self
        }

        fn find(&self, manifest: &str) -> Result<Gramine, LoaderError> {
            let dir = self.0.path();
            let devices = SgxDevices { enclave: dir.join("sgx_enclave") };
            Gramine::find(&dir.join(manifest), Some(dir.as_os_str()), &devices)
        }
    }

    #[test]
    fn names_the_manifest_and_nothing_else() {
        let found = Host::new().find("w.manifest.sgx").unwrap();
        assert!(found.program.ends_with("gramine-sgx"));
        assert!(found.application.ends_with("w"));
    }

    #[test]
    fn says_what_is_missing_on_a_host_without_gramine_or_sgx() {
        for (missing, named) in [("gramine-sgx", "gramine-sgx"), ("sgx_enclave", "sgx_enclave")] {
            let refused = Host::new().without(missing).find("w.manifest.sgx");
            assert!(
                matches!(&refused, Err(LoaderError::Unsupported { reason, .. }) if reason.contains(named)),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn refuses_a_manifest_that_is_not_final_or_not_signed() {
        let refused = Host::new().find("gramine-sgx");
        assert!(
            matches!(refused, Err(LoaderError::NoFile { reason, .. }) if reason.contains("NAME"))
        );
        let refused = Host::new().without("w.sig").find("w.manifest.sgx");
        assert!(
            matches!(refused, Err(LoaderError::NoFile { what, .. }) if what == "enclave signature")
        );
    }
}
