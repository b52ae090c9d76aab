//! What to launch: files, addresses, the state directory. The operator's input; checked before
//! anything is started.

use std::ffi::OsStr;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::LoaderError;
use crate::vm::VmLaunch;

/// One worker to launch. All paths are absolute after [`Launch::resolve`], because neither the
/// supervisor nor the worker runs in the operator's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The program: the worker, or what runs the VM it is in.
    pub worker: PathBuf,
    /// The measured worker manifest.
    pub manifest: PathBuf,
    /// The model bundle.
    pub bundle: PathBuf,
    /// Collateral the worker appraises itself with before it says ready.
    pub collateral: PathBuf,
    /// The pins that the manifest names for the worker's clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_pins: Option<PathBuf>,
    /// Public address the loader relays from.
    pub listen: SocketAddr,
    /// State directory.
    pub state: PathBuf,
    /// The VM to run it in; a process without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Box<VmLaunch>>,
    /// The Gramine application to run: its manifest fixes everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gramine: Option<PathBuf>,
    /// Where supervisors of this user tell each other which payees' workers they run. Without it nobody
    /// looks whether this one is paid elsewhere too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<PathBuf>,
}

impl Launch {
    /// Checks that every named file is there and makes all paths absolute.
    ///
    /// # Errors
    /// [`LoaderError::NoFile`], [`LoaderError::NotExecutable`], [`LoaderError::State`].
    pub fn resolve(self) -> Result<Self, LoaderError> {
        let worker = existing("worker", &self.worker)?;
        let mode = std::fs::metadata(&worker).map_or(0, |m| m.permissions().mode());
        if mode & 0o111 == 0 {
            return Err(LoaderError::NotExecutable { path: self.worker.display().to_string() });
        }
        let state = std::path::absolute(&self.state).map_err(|e| LoaderError::State {
            action: "find".to_owned(),
            path: self.state.display().to_string(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            worker,
            manifest: existing("manifest", &self.manifest)?,
            bundle: existing("bundle", &self.bundle)?,
            collateral: existing("collateral", &self.collateral)?,
            peer_pins: self.peer_pins.map(|pins| existing("pins of clients", &pins)).transpose()?,
            listen: self.listen,
            state,
            vm: self.vm,
            gramine: self.gramine,
            paid: self.paid,
        })
    }

    /// The worker's arguments. The port is the worker's choice; it announces it on its console.
    #[must_use]
    pub fn worker_arguments(&self) -> Vec<std::ffi::OsString> {
        if let Some(application) = &self.gramine {
            return vec![application.clone().into()];
        }
        let mut arguments = vec![
            "--manifest".into(),
            self.manifest.clone().into(),
            "--bundle".into(),
            self.bundle.clone().into(),
            "--collateral".into(),
            self.collateral.clone().into(),
            "--listen".into(),
            "127.0.0.1:0".into(),
        ];
        if let Some(pins) = &self.peer_pins {
            arguments.extend(["--peer-pins".into(), pins.clone().into()]);
        }
        arguments
    }

    /// Reads the launch that `up` hands to the supervisor on its standard input.
    ///
    /// # Errors
    /// [`LoaderError::Launch`] if it does not parse or is larger than [`MAX_LAUNCH_BYTES`].
    pub fn read(input: impl Read) -> Result<Self, LoaderError> {
        let malformed = |reason: String| LoaderError::Launch { reason };
        let mut bytes = Vec::new();
        let limit = MAX_LAUNCH_BYTES as u64;
        input
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| malformed(e.to_string()))?;
        if bytes.len() > MAX_LAUNCH_BYTES {
            return Err(malformed(format!("it is over the limit of {MAX_LAUNCH_BYTES} bytes")));
        }
        serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))
    }
}

/// The default state directory: `$XDG_STATE_HOME/chrysalis`, else `$HOME/.local/state/chrysalis`.
/// As the XDG Base Directory Specification asks, a relative `XDG_STATE_HOME` is ignored.
#[must_use]
pub fn default_state_dir(xdg_state_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    fn absolute(path: Option<&OsStr>) -> Option<&Path> {
        path.map(Path::new).filter(|path| path.is_absolute())
    }
    absolute(xdg_state_home)
        .map(Path::to_path_buf)
        .or_else(|| absolute(home).map(|h| h.join(".local/state")))
        .map(|base| base.join("chrysalis"))
}

pub(crate) fn existing(what: &str, path: &Path) -> Result<PathBuf, LoaderError> {
    let refuse = |reason: String| LoaderError::NoFile {
        what: what.to_owned(),
        path: path.display().to_string(),
        reason,
    };
    let found = path.canonicalize().map_err(|e| refuse(e.to_string()))?;
    if !found.is_file() {
        return Err(refuse("it is not a file".to_owned()));
    }
    Ok(found)
}

/// Largest launch accepted by the supervisor, in bytes: seven paths of the longest kind, and short ones.
pub const MAX_LAUNCH_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(dir: &Path) -> Launch {
        for name in ["worker", "manifest", "bundle", "collateral"] {
            std::fs::write(dir.join(name), b"x").unwrap();
        }
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.join("worker"), mode).unwrap();
        Launch {
            worker: dir.join("worker"),
            manifest: dir.join("manifest"),
            bundle: dir.join("bundle"),
            collateral: dir.join("collateral"),
            peer_pins: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            state: dir.join("state"),
            vm: None,
            gramine: None,
            paid: None,
        }
    }

    #[test]
    fn survives_the_way_to_the_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let launch = launch(dir.path()).resolve().unwrap();
        let text = serde_json::to_vec(&launch).unwrap();
        assert_eq!(Launch::read(text.as_slice()).unwrap(), launch);
    }

    #[test]
    fn a_gramine_worker_is_given_its_manifest_and_no_argument_of_the_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch { gramine: Some("/e/worker".into()), ..launch(dir.path()) };
        assert_eq!(launch.worker_arguments(), ["/e/worker"]);
    }

    #[test]
    fn refuses_a_bundle_that_is_not_there_and_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch { bundle: dir.path().join("nowhere"), ..launch(dir.path()) };
        assert!(matches!(
            launch.resolve(),
            Err(LoaderError::NoFile { what, path, .. })
                if what == "bundle" && path.ends_with("nowhere")
        ));
    }

    #[test]
    fn refuses_a_directory_as_a_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch { manifest: dir.path().to_owned(), ..launch(dir.path()) };
        assert!(
            matches!(launch.resolve(), Err(LoaderError::NoFile { what, .. }) if what == "manifest")
        );
    }

    #[test]
    fn refuses_a_worker_without_execute_permission() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch { worker: dir.path().join("bundle"), ..launch(dir.path()) };
        assert!(matches!(launch.resolve(), Err(LoaderError::NotExecutable { .. })));
    }

    #[test]
    fn refuses_a_launch_one_byte_over_the_limit() {
        let bytes = vec![b' '; MAX_LAUNCH_BYTES + 1];
        assert!(matches!(
            Launch::read(bytes.as_slice()),
            Err(LoaderError::Launch { reason }) if reason.contains("limit")
        ));
    }

    #[test]
    fn refuses_a_launch_with_an_unknown_field() {
        let dir = tempfile::tempdir().unwrap();
        let mut value = serde_json::to_value(launch(dir.path())).unwrap();
        value["debug"] = true.into();
        let text = value.to_string();
        assert!(matches!(Launch::read(text.as_bytes()), Err(LoaderError::Launch { .. })));
    }

    #[test]
    fn finds_the_state_directory_as_xdg_says() {
        let dir = |xdg: Option<&str>, home: Option<&str>| {
            default_state_dir(xdg.map(OsStr::new), home.map(OsStr::new))
        };
        assert_eq!(dir(Some("/s"), Some("/h")), Some("/s/chrysalis".into()));
        assert_eq!(dir(Some("rel"), Some("/h")), Some("/h/.local/state/chrysalis".into()));
        assert_eq!(dir(None, None), None);
    }
}
