//! Runs the worker in an SGX enclave under Gramine. The final manifest fixes the program, its
//! arguments and its environment, and is measured; so all the host adds is which manifest.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::ErrorKind;
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

/// How Gramine runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In an enclave.
    Enclave,
    /// Without one: it protects nothing.
    Direct,
}

impl Mode {
    /// What it needs of a machine, in the order in which it is missed.
    #[must_use]
    pub const fn parts(self) -> &'static [Part] {
        match self {
            Self::Enclave => &[SGX_PROGRAM, SGX_DEVICE, PROVISION_DEVICE, AESM_SOCKET],
            Self::Direct => &[DIRECT_PROGRAM],
        }
    }
}

/// Something Gramine needs of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the program, or path.
    pub name: &'static str,
    /// Where it comes from.
    pub fix: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Found on the `PATH`.
    Program,
    /// Opened for reading and writing, as Gramine will.
    Device,
    /// There; whoever connects speaks its protocol.
    Socket,
}

/// A machine that may have them; looking runs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The value of `PATH`.
    pub path: Option<&'a OsStr>,
    /// Above its devices and sockets: `/`, and elsewhere in tests.
    pub root: &'a Path,
}

impl<'a> Machine<'a> {
    /// This one.
    #[must_use]
    pub fn here(path: Option<&'a OsStr>) -> Self {
        Self { path, root: Path::new("/") }
    }

    /// Where a part is.
    ///
    /// # Errors
    /// Why Gramine could not use it, in a few words after its name.
    pub fn look(&self, part: &Part) -> Result<PathBuf, String> {
        let path = self.root.join(part.name.trim_start_matches('/'));
        match part.kind {
            Kind::Program => {
                let dirs = self.path.map(std::env::split_paths).into_iter().flatten();
                let mut programs = dirs.filter(|dir| dir.is_absolute()).map(|d| d.join(part.name));
                programs
                    .find(|program| program.is_file())
                    .ok_or_else(|| "is not on the PATH".to_owned())
            }
            Kind::Device => match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(_) => Ok(path),
                Err(e) if e.kind() == ErrorKind::NotFound => Err("is missing".to_owned()),
                Err(e) => Err(format!("cannot be opened: {e}")),
            },
            Kind::Socket if path.exists() => Ok(path),
            Kind::Socket => Err("is missing".to_owned()),
        }
    }
}

impl Gramine {
    /// Finds what starts an enclave on `machine` for the final manifest `NAME.manifest.sgx`, beside
    /// which `NAME.sig` lies.
    ///
    /// # Errors
    /// [`LoaderError::Unsupported`] without Gramine or SGX; [`LoaderError::NoFile`].
    pub fn find(manifest: &Path, machine: &Machine<'_>) -> Result<Self, LoaderError> {
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
        let needed = |part: &Part| {
            machine.look(part).map_err(|reason| LoaderError::Unsupported {
                what: "running an SGX enclave".to_owned(),
                reason: format!("{} {reason}; it comes with {}", part.name, part.fix),
            })
        };
        // An enclave starts without the two others; what it cannot do then is prove that it is one.
        let program = needed(&SGX_PROGRAM)?;
        needed(&SGX_DEVICE)?;
        Ok(Self { program, application })
    }
}

const SGX_PROGRAM: Part = Part { name: "gramine-sgx", fix: PACKAGE, kind: Kind::Program };
const DIRECT_PROGRAM: Part = Part { name: "gramine-direct", fix: PACKAGE, kind: Kind::Program };
const SGX_DEVICE: Part = Part {
    name: "/dev/sgx_enclave",
    fix: "Linux 5.11 or newer (6.0 for EDMM), SGX enabled in the firmware",
    kind: Kind::Device,
};
const PROVISION_DEVICE: Part = Part {
    name: "/dev/sgx_provision",
    fix: "the same; the account that runs Gramine joins the group sgx_prv",
    kind: Kind::Device,
};
const AESM_SOCKET: Part = Part {
    name: "/var/run/aesmd/aesm.socket",
    fix: "Intel's aesmd with the DCAP quote provider, for evidence",
    kind: Kind::Socket,
};
const PACKAGE: &str = "Gramine 1.9 from its own package repository; Debian has none";

/// How Gramine's tools name a final manifest.
const MANIFEST_SUFFIX: &str = ".manifest.sgx";

#[cfg(test)]
mod tests {
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("dev")).unwrap();
            for name in ["w.manifest.sgx", "w.sig", "gramine-sgx", "dev/sgx_enclave"] {
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
            let machine = Machine { path: Some(dir.as_os_str()), root: dir };
            Gramine::find(&dir.join(manifest), &machine)
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
        for (missing, named) in [("gramine-sgx", "on the PATH"), ("dev/sgx_enclave", "is missing")]
        {
            let refused = Host::new().without(missing).find("w.manifest.sgx");
            assert!(
                matches!(&refused, Err(LoaderError::Unsupported { reason, .. }) if reason.contains(named)),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn looks_for_every_part_and_runs_none() {
        let host = Host::new();
        let dir = host.0.path();
        let machine = Machine { path: Some(dir.as_os_str()), root: dir };
        let there =
            |mode: Mode| mode.parts().iter().map(|p| machine.look(p).is_ok()).collect::<Vec<_>>();
        assert_eq!(there(Mode::Enclave), [true, true, false, false]);
        assert_eq!(there(Mode::Direct), [false]);
        std::fs::create_dir_all(dir.join("var/run/aesmd")).unwrap();
        std::fs::write(dir.join("var/run/aesmd/aesm.socket"), b"").unwrap();
        std::fs::write(dir.join("dev/sgx_provision"), b"").unwrap();
        assert_eq!(there(Mode::Enclave), [true; 4]);
        // What is there and cannot be used is not here.
        std::fs::remove_file(dir.join("dev/sgx_enclave")).unwrap();
        std::fs::create_dir(dir.join("dev/sgx_enclave")).unwrap();
        let refused = host.find("w.manifest.sgx");
        assert!(
            matches!(&refused, Err(LoaderError::Unsupported { reason, .. }) if reason.contains("cannot be opened")),
            "{refused:?}"
        );
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
