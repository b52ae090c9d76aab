//! Runs the worker in a VM. The guest is as untrusted here as a worker process: its console is
//! parsed strictly and its announced address only picks the forwarded port or ends its life.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use chrysalis_wire::ConfigDisk;
use chrysalis_wire::limits::{MAX_COLLATERAL_BYTES, MAX_MANIFEST_BYTES, MAX_PEER_PINS_BYTES};
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::argv::{HostSide, arguments};
use super::launch::{VmLaunch, read_at_most};
use super::qmp;
use crate::backend::{Backend, Guest, ProcessGuest};
use crate::error::LoaderError;
use crate::launch::Launch;
use crate::state::{ProcessId, state_error};

/// Runs the worker in a VM.
#[derive(Debug)]
pub struct VmBackend {
    vm: VmLaunch,
    /// The loopback port of the life that runs; 0 before the first.
    port: AtomicU16,
}

impl VmBackend {
    /// A backend for one VM.
    #[must_use]
    pub const fn new(vm: VmLaunch) -> Self {
        Self { vm, port: AtomicU16::new(0) }
    }
}

impl Backend for VmBackend {
    type Guest = VmGuest;

    fn start(&self, launch: &Launch) -> Result<VmGuest, LoaderError> {
        let vm = &self.vm;
        let spawn_error = |e: std::io::Error| LoaderError::Spawn {
            path: vm.qemu.program.display().to_string(),
            reason: e.to_string(),
        };
        let config_disk = config_disk_path(&launch.state);
        write_config_disk(launch, &config_disk)?;
        let port = free_port().map_err(spawn_error)?;
        self.port.store(port, Ordering::Relaxed);
        let host = HostSide { config_disk: &config_disk, bundle: &launch.bundle, port };
        let (ours, theirs) = StdUnixStream::pair().map_err(spawn_error)?;
        ours.set_nonblocking(true).map_err(spawn_error)?;
        let monitor = UnixStream::from_std(ours).map_err(spawn_error)?;
        let mut command = Command::from(vm.qemu.command(&arguments(vm, &host)?));
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn_error)?;
        Ok(VmGuest { qemu: ProcessGuest::new(child), monitor: Some(monitor) })
    }

    /// The guest may announce its own port on any of its addresses; the relay dials the loopback
    /// port that QEMU forwards there, and nothing else.
    fn dial_address(&self, announced: &str) -> Result<SocketAddr, LoaderError> {
        let port = self.port.load(Ordering::Relaxed);
        announced
            .parse::<SocketAddr>()
            .ok()
            .filter(|a| a.port() == self.vm.guest.port() && port != 0)
            .filter(|a| a.ip() == *self.vm.guest.ip() || a.ip() == Ipv4Addr::UNSPECIFIED)
            .map(|_| (Ipv4Addr::LOCALHOST, port).into())
            .ok_or_else(|| LoaderError::NotLoopback { address: announced.to_owned() })
    }
}

/// A QEMU and its control socket.
#[derive(Debug)]
pub struct VmGuest {
    qemu: ProcessGuest,
    monitor: Option<UnixStream>,
}

impl Guest for VmGuest {
    fn process(&self) -> Option<ProcessId> {
        self.qemu.process()
    }

    fn console(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.qemu.console()
    }

    fn errors(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        self.qemu.errors()
    }

    async fn ended(&mut self) -> String {
        self.qemu.ended().await
    }

    fn ask_to_stop(&mut self) {
        match self.monitor.take() {
            Some(monitor) => drop(tokio::spawn(qmp::stop(monitor, POWERDOWN_GRACE))),
            // Asked before: the signal makes QEMU quit.
            None => self.qemu.ask_to_stop(),
        }
    }

    fn kill(&mut self) {
        self.qemu.kill();
    }
}

/// Where the configuration disk of a state directory lies.
#[must_use]
pub fn config_disk_path(state: &Path) -> PathBuf {
    state.join("config.disk")
}

fn write_config_disk(launch: &Launch, path: &Path) -> Result<(), LoaderError> {
    let read = |what: &str, from: &Path, max| {
        read_at_most(from, max).map_err(|reason| LoaderError::NoFile {
            what: what.to_owned(),
            path: from.display().to_string(),
            reason,
        })
    };
    let manifest = read("manifest", &launch.manifest, MAX_MANIFEST_BYTES)?;
    let collateral = read("collateral", &launch.collateral, MAX_COLLATERAL_BYTES)?;
    let pins = launch.peer_pins.as_deref();
    let pins = pins.map(|from| read("pins of clients", from, MAX_PEER_PINS_BYTES)).transpose()?;
    let disk = ConfigDisk::new(manifest, collateral)
        .and_then(|disk| match pins {
            Some(pins) => disk.with_peer_pins(pins),
            None => Ok(disk),
        })
        .map_err(|e| LoaderError::NoFile {
            what: "configuration disk".to_owned(),
            path: path.display().to_string(),
            reason: e.to_string(),
        })?;
    // A new file each time: a QEMU that still holds the last one keeps its own.
    let _ = std::fs::remove_file(path);
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(&disk.encode()))
        .map_err(|e| state_error("write", path, &e))
}

/// A port nobody listens on now. Somebody may take it before QEMU does; then QEMU ends at once and
/// the next life tries another.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// How long a guest may take to power off before QEMU is told to quit. Its worker lets requests in
/// progress go on for 5 s and then says what it earned; a guest that is emulated takes its time. Less
/// than the grace time after which QEMU is killed.
const POWERDOWN_GRACE: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::STOP_GRACE;
    use crate::vm::qemu::tests::{fake, pretend};
    use crate::vm::{Accelerator, QgsAddress, VmImage, VmPlatform};
    use chrysalis_shape::Menu;

    fn backend(program: &Path) -> VmBackend {
        VmBackend::new(VmLaunch {
            qemu: pretend(program, "11.1.3"),
            accelerator: Accelerator::Tcg,
            accelerator_reason: String::new(),
            platform: VmPlatform::InsecureSim,
            image: VmImage {
                firmware: "/i/tdvf.fd".into(),
                kernel: "/i/vmlinuz".into(),
                initrd: "/i/initrd.cpio".into(),
                cmdline: "console=ttyS0 quiet".to_owned(),
                root: None,
            },
            shape: Menu::published().unwrap().shape("cpu-2").unwrap().clone(),
            guest: "10.0.2.15:8443".parse().unwrap(),
            gpus: vec![],
            qgs: QgsAddress::default(),
        })
    }

    fn launch(dir: &Path) -> Launch {
        for name in ["manifest", "bundle", "collateral"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        Launch {
            worker: "/bin/false".into(),
            manifest: dir.join("manifest"),
            bundle: dir.join("bundle"),
            collateral: dir.join("collateral"),
            peer_pins: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            state: dir.to_owned(),
            vm: None,
            gramine: None,
            paid: None,
        }
    }

    #[tokio::test]
    async fn starts_qemu_with_the_configuration_disk_written() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("printf '%s\\n' \"$@\" > {}/args", dir.path().display());
        let backend = backend(&fake(dir.path(), &script));
        let pins = dir.path().join("pins");
        std::fs::write(&pins, "pins").unwrap();
        let launch = Launch { peer_pins: Some(pins), ..launch(dir.path()) };
        let mut guest = backend.start(&launch).unwrap();
        assert_eq!(guest.ended().await, "exit code 0");
        let disk = std::fs::read(config_disk_path(dir.path())).unwrap();
        let disk = ConfigDisk::parse(&disk).unwrap();
        assert_eq!((disk.manifest(), disk.collateral()), (&b"manifest"[..], &b"collateral"[..]));
        assert_eq!(disk.peer_pins(), Some(&b"pins"[..]));
        let args = std::fs::read_to_string(dir.path().join("args")).unwrap();
        let port = backend.port.load(Ordering::Relaxed);
        assert!(args.contains(&format!("tcp:127.0.0.1:{port}-10.0.2.15:8443")), "{args}");
    }

    #[tokio::test]
    async fn dials_the_forwarded_port_and_nothing_a_guest_names() {
        let dir = tempfile::tempdir().unwrap();
        let backend = backend(&fake(dir.path(), "exec sleep 60"));
        assert!(backend.dial_address("10.0.2.15:8443").is_err(), "nothing runs yet");
        let _guest = backend.start(&launch(dir.path())).unwrap();
        let port = backend.port.load(Ordering::Relaxed);
        for good in ["10.0.2.15:8443", "0.0.0.0:8443"] {
            assert_eq!(backend.dial_address(good), Ok((Ipv4Addr::LOCALHOST, port).into()));
        }
        for bad in ["10.0.2.15:22", "10.0.2.2:8443", "127.0.0.1:8443", "[::]:8443", "x"] {
            let refused = LoaderError::NotLoopback { address: bad.to_owned() };
            assert_eq!(backend.dial_address(bad), Err(refused));
        }
    }

    #[tokio::test]
    async fn refuses_a_manifest_or_collateral_one_byte_over_its_limit() {
        for (name, max) in [("manifest", MAX_MANIFEST_BYTES), ("collateral", MAX_COLLATERAL_BYTES)]
        {
            let dir = tempfile::tempdir().unwrap();
            let backend = backend(&fake(dir.path(), "exit 0"));
            let launch = launch(dir.path());
            std::fs::write(dir.path().join(name), vec![b'x'; max + 1]).unwrap();
            let refused = backend.start(&launch);
            assert!(
                matches!(&refused, Err(LoaderError::NoFile { what, .. }) if what == name),
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn a_guest_that_is_asked_to_stop_gets_the_power_button() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("read a; read b; echo \"$b\" > {}/said", dir.path().display());
        let backend = backend(&fake(dir.path(), &script));
        let mut guest = backend.start(&launch(dir.path())).unwrap();
        guest.ask_to_stop();
        assert_eq!(guest.ended().await, "exit code 0");
        let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
        assert!(said.contains("system_powerdown"), "{said}");
    }

    #[test]
    fn the_guest_is_told_to_quit_before_it_is_killed() {
        assert!(POWERDOWN_GRACE < STOP_GRACE);
    }
}
