//! PID 1 in a fake root: the user space of an image, unpacked, on a kernel that agrees to
//! everything. What is refused here, PID 1 refused by itself.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use chrysalis_image::cpio::{Archive, Node};
use chrysalis_init::boot::{System, boot};
use chrysalis_init::console::Console;
use chrysalis_init::kernel::{Ended, Kernel};
use chrysalis_init::mounts::Mount;
use chrysalis_init::sandbox::Launch;
use chrysalis_init::{InitError, sysctls};
use chrysalis_wire::config_disk::{CONFIG_DISK_SERIAL, MODEL_DISK_SERIAL};
use chrysalis_wire::guest::{COLLATERAL_PATH, SIM_REGISTER_PATH};
use rustix::mount::MountFlags;

/// What a boot left behind for the worker.
pub(crate) struct Booted {
    pub(crate) rtmr3: Vec<u8>,
    pub(crate) collateral: Vec<u8>,
}

/// Boots `archive` with a command line, as the kernel would show it, and a configuration disk.
pub(crate) fn run(archive: &Archive, line: &str, config: &[u8]) -> Result<Booted, InitError> {
    // Hundreds of boots: in memory where there is a place for that.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.unwrap();
    let root = dir.path();
    for (path, entry) in archive.entries() {
        match &entry.node {
            Node::Directory => fs::create_dir(root.join(path)).unwrap(),
            Node::File(bytes) => fs::write(root.join(path), bytes).unwrap(),
            Node::CharDevice { .. } => {}
        }
    }
    let write = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("proc/cmdline", format!("{line}\n").as_bytes());
    // A kernel has the settings an image lists; an image that cannot be read lists none.
    let config_toml = archive.file("chrysalis/image.toml").unwrap_or_default();
    let listed = chrysalis_wire::ImageConfig::parse(config_toml).map(|c| c.sysctls);
    for entry in listed.unwrap_or_default() {
        write(&format!("proc/sys/{}", entry.name.replace('.', "/")), b"");
    }
    for (name, _) in sysctls::CLOSING {
        write(&format!("proc/sys/{}", name.replace('.', "/")), b"");
    }
    write("sys/block/vda/serial", CONFIG_DISK_SERIAL.as_bytes());
    write("sys/block/vdb/serial", MODEL_DISK_SERIAL.as_bytes());
    write("dev/vda", config);
    write("dev/vdb", b"");

    let console = Console::new(Box::new(io::sink()));
    boot(&System { root, kernel: &Agreeable::default(), console: &console })?;
    let read = |path: &str| fs::read(root.join(path.trim_start_matches('/'))).unwrap();
    Ok(Booted { rtmr3: read(SIM_REGISTER_PATH), collateral: read(COLLATERAL_PATH) })
}

/// A kernel that never refuses, and closes what it is told to close.
#[derive(Default)]
struct Agreeable {
    sealed: Cell<bool>,
}

impl Kernel for Agreeable {
    fn mount(&self, _mount: &Mount, _target: &Path) -> io::Result<()> {
        Ok(())
    }

    fn mount_root(&self, _file: &Path, _target: &Path) -> io::Result<()> {
        Ok(())
    }

    fn seal_mount(&self, _target: &Path, _flags: MountFlags) -> io::Result<()> {
        self.sealed.set(true);
        Ok(())
    }

    fn open_for_writing(&self, _path: &Path) -> io::Result<()> {
        if self.sealed.get() { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn load_module(&self, _file: &File, _compressed: bool) -> io::Result<()> {
        Ok(())
    }

    fn interface(&self, _name: &str) -> io::Result<u32> {
        Ok(1)
    }

    fn route_request(&self, _request: &[u8]) -> io::Result<Vec<u8>> {
        // NLMSG_ERROR with error 0: an acknowledgement.
        let mut reply = vec![0; 20];
        reply[4] = 2;
        Ok(reply)
    }

    fn give(&self, _path: &Path, _gid: u32, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    fn pause(&self, _time: Duration) {}

    fn spawn(&self, _launch: &Launch) -> io::Result<i32> {
        Ok(2)
    }

    fn wait_for(&self, _pid: i32) -> io::Result<Ended> {
        Ok(Ended::Exit(0))
    }

    fn power_off(&self) -> io::Result<()> {
        Ok(())
    }
}
