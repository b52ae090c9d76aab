//! Finds a QEMU and asks it for its version. The version decides which ACPI tables the guest gets,
//! so a QEMU that does not say it cleanly is not used.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrysalis_shape::QemuVersion;
use serde::{Deserialize, Serialize};

use crate::error::LoaderError;

/// A QEMU that said its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// What is executed: QEMU, or the dynamic loader of an unpacked one.
    pub program: PathBuf,
    /// Arguments before any of ours.
    pub prefix: Vec<String>,
    /// `MAJOR.MINOR.MICRO`.
    version: String,
}

impl Qemu {
    /// Uses `given`: a program, or a directory where the packages of a QEMU were unpacked, which
    /// is then run with its own libraries. Without it, searches `path` (the value of `PATH`).
    ///
    /// # Errors
    /// [`LoaderError::NoQemu`], [`LoaderError::QemuUnusable`].
    pub fn find(given: Option<&Path>, path: Option<&OsStr>) -> Result<Self, LoaderError> {
        let (program, prefix) = match given {
            Some(dir) if dir.is_dir() => unpacked(dir)?,
            Some(program) => (absolute(program)?, Vec::new()),
            None => (search(path)?, Vec::new()),
        };
        let text = ask_version(&program, &prefix)?;
        let version = parse_version(&text).ok_or_else(|| LoaderError::QemuUnusable {
            path: program.display().to_string(),
            reason: "it does not say its version".to_owned(),
        })?;
        Ok(Self { program, prefix, version: version.to_string() })
    }

    /// Its version.
    ///
    /// # Errors
    /// [`LoaderError::QemuUnusable`] if this value was not made by [`Self::find`].
    pub fn version(&self) -> Result<QemuVersion, LoaderError> {
        self.version.parse().map_err(|e: chrysalis_shape::ShapeError| LoaderError::QemuUnusable {
            path: self.program.display().to_string(),
            reason: e.to_string(),
        })
    }

    /// A command that runs it with `arguments`: no environment, its own process group.
    pub(crate) fn command(&self, arguments: &[String]) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(&self.program);
        // QEMU takes options from no variable we want it to; the host's environment stays out.
        command.args(&self.prefix).args(arguments).env_clear().current_dir("/").process_group(0);
        command
    }
}

fn absolute(program: &Path) -> Result<PathBuf, LoaderError> {
    program.canonicalize().map_err(|e| LoaderError::QemuUnusable {
        path: program.display().to_string(),
        reason: e.to_string(),
    })
}

fn search(path: Option<&OsStr>) -> Result<PathBuf, LoaderError> {
    let dirs = path.map(std::env::split_paths).into_iter().flatten();
    dirs.filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or(LoaderError::NoQemu)
}

/// An unpacked QEMU runs through its own loader, because its libraries are not the system's.
fn unpacked(dir: &Path) -> Result<(PathBuf, Vec<String>), LoaderError> {
    let root = absolute(dir)?;
    let refuse = |reason: &str| LoaderError::QemuUnusable {
        path: dir.display().to_string(),
        reason: reason.to_owned(),
    };
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let (loader, binary) =
        (libraries.join("ld-linux-x86-64.so.2"), root.join("usr/bin").join(PROGRAM));
    if !loader.is_file() || !binary.is_file() {
        return Err(refuse("it is a directory without an unpacked QEMU and its libc"));
    }
    let text = |p: &Path| p.to_str().map(str::to_owned).ok_or_else(|| refuse("not UTF-8"));
    let search = format!("{0}:{0}/systemd", text(&libraries)?);
    let mut prefix = vec!["--library-path".to_owned(), search, text(&binary)?];
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        prefix.extend(["-L".to_owned(), text(&root.join(data))?]);
    }
    Ok((loader, prefix))
}

fn ask_version(program: &Path, prefix: &[String]) -> Result<String, LoaderError> {
    let refuse =
        |reason: String| LoaderError::QemuUnusable { path: program.display().to_string(), reason };
    let mut child = Command::new(program)
        .args(prefix)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| refuse(e.to_string()))?;
    let ended = within(&mut child, VERSION_TIME);
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
        return Err(refuse(format!("it did not say its version in {} s", VERSION_TIME.as_secs())));
    }
    let mut bytes = Vec::new();
    if let Some(out) = child.stdout.take() {
        let _ = out.take(MAX_VERSION_BYTES).read_to_end(&mut bytes);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the child ends in time.
pub(super) fn within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(_)) | Err(_) => return true,
            Ok(None) if Instant::now() >= deadline => return false,
            Ok(None) => std::thread::sleep(POLL),
        }
    }
}

/// `QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)`.
fn parse_version(text: &str) -> Option<QemuVersion> {
    let rest = text.lines().next()?.strip_prefix("QEMU emulator version ")?;
    rest.split([' ', '(']).next()?.parse().ok()
}

const PROGRAM: &str = "qemu-system-x86_64";

/// Longest wait for a version; it is printed before anything is opened.
const VERSION_TIME: Duration = Duration::from_secs(10);

const MAX_VERSION_BYTES: u64 = 4096;

const POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that does what `script` says.
    pub(crate) fn fake(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join(PROGRAM);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A QEMU that was never asked.
    pub(crate) fn pretend(program: &Path, version: &str) -> Qemu {
        Qemu { program: program.to_owned(), prefix: vec![], version: version.to_owned() }
    }

    #[test]
    fn finds_the_first_on_the_path_and_reads_its_version() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), "echo 'QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)'");
        let path = std::env::join_paths(["/nonexistent", dir.path().to_str().unwrap()]).unwrap();
        let qemu = Qemu::find(None, Some(&path)).unwrap();
        assert_eq!(qemu.version().unwrap().to_string(), "11.1.3");
    }

    #[test]
    fn says_that_there_is_none() {
        assert_eq!(Qemu::find(None, None), Err(LoaderError::NoQemu));
        assert_eq!(
            Qemu::find(None, Some(OsStr::new("bin:/nonexistent"))),
            Err(LoaderError::NoQemu)
        );
    }

    #[test]
    fn refuses_a_program_that_is_no_qemu() {
        let dir = tempfile::tempdir().unwrap();
        for said in [
            "",
            "hello",
            "QEMU emulator version",
            "QEMU emulator version 11.1",
            "x QEMU emulator version 1.1.1",
        ] {
            let program = fake(dir.path(), &format!("echo '{said}'"));
            let refused = Qemu::find(Some(&program), None);
            assert!(matches!(refused, Err(LoaderError::QemuUnusable { .. })), "{said}");
        }
        let refused = Qemu::find(Some(Path::new("/nonexistent")), None);
        assert!(matches!(refused, Err(LoaderError::QemuUnusable { .. })));
    }

    #[test]
    fn refuses_a_directory_without_an_unpacked_qemu() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Qemu::find(Some(dir.path()), None);
        assert!(matches!(
            refused,
            Err(LoaderError::QemuUnusable { reason, .. }) if reason.contains("directory")
        ));
    }

    #[test]
    fn an_unpacked_qemu_runs_with_its_own_loader_and_libraries() {
        let dir = tempfile::tempdir().unwrap();
        let libraries = dir.path().join("usr/lib/x86_64-linux-gnu");
        std::fs::create_dir_all(&libraries).unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fake(&dir.path().join("usr/bin"), "exit 1");
        let script = "[ \"$1\" = --library-path ] && echo \"QEMU emulator version 9.9.9\"";
        std::fs::rename(fake(&libraries, script), libraries.join("ld-linux-x86-64.so.2")).unwrap();
        let qemu = Qemu::find(Some(dir.path()), None).unwrap();
        assert!(qemu.program.ends_with("ld-linux-x86-64.so.2"));
        assert!(qemu.prefix[2].ends_with("usr/bin/qemu-system-x86_64"));
        assert_eq!(qemu.prefix.iter().filter(|a| *a == "-L").count(), 3);
    }
}
