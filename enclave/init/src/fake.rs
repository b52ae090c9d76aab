//! For tests: a fake root with everything a VM has, and a kernel that writes down what it is asked.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use chrysalis_wire::config_disk::{CONFIG_DISK_SERIAL, MODEL_DISK_SERIAL, ROOT_DISK_SERIAL};
use chrysalis_wire::{ConfigDisk, Digest};
use rustix::mount::MountFlags;
use sha2::{Digest as _, Sha256};

use crate::kernel::{Ended, Kernel};
use crate::mounts::Mount;
use crate::sandbox::Launch;

/// The model root that [`manifest`] names.
pub(crate) const MODEL_ROOT: Digest = Digest([0x22; 32]);

/// A manifest a worker would accept.
pub(crate) fn manifest() -> Vec<u8> {
    format!(
        "version = 1\nnetwork = 5458253\nregistry = \"{z}\"\n\n[model]\nname = \"m\"\n\
         root = \"{MODEL_ROOT}\"\nsealed = false\n\n[limits]\nrequest_bytes = 65536\n\
         context_tokens = 2048\ncompletion_tokens = 512\nconcurrent_requests = 4\n\n\
         [prices]\nprompt = 1\ncached = 1\ncompletion = 8\nreasoning = 8\n",
        z = "0".repeat(64)
    )
    .into_bytes()
}

/// A configuration disk with that manifest.
pub(crate) fn config_disk() -> Vec<u8> {
    ConfigDisk::new(manifest(), b"{}".to_vec()).unwrap().encode()
}

/// A fake root and a kernel in one.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    log: RefCell<Vec<String>>,
    refusing: Vec<String>,
    sealed: Cell<bool>,
    never_seals: bool,
    pauses: Cell<u32>,
    end: Ended,
}

impl Fake {
    /// A machine that boots to its end.
    pub(crate) fn new() -> Self {
        let fake = Self {
            dir: tempfile::tempdir().unwrap(),
            log: RefCell::default(),
            refusing: Vec::new(),
            sealed: Cell::new(false),
            never_seals: false,
            pauses: Cell::new(0),
            end: Ended::Exit(0),
        };
        let config = format!(
            "version = 1\nplatform = \"insecure-sim\"\ndebug = false\nlisten_port = 8443\n\n\
             [network]\ninterface = \"eth0\"\naddress = \"10.0.2.15\"\nprefix = 24\n\n\
             [[module]]\nfile = \"a.ko\"\nsha256 = \"{}\"\n\n\
             [[sysctl]]\nname = \"kernel.dmesg_restrict\"\nvalue = \"1\"\n",
            Digest(Sha256::digest(b"code").into())
        );
        fake.write("chrysalis/image.toml", &config);
        fake.write("lib/modules/a.ko", "code");
        fake.write("proc/cmdline", "initrd=initrd console=ttyS0 quiet\n");
        for name in ["modules_disabled", "kexec_load_disabled", "sysrq", "dmesg_restrict"] {
            fake.write(&format!("proc/sys/kernel/{name}"), "");
        }
        fake.write("sys/block/vda/serial", CONFIG_DISK_SERIAL);
        fake.write("sys/block/vdb/serial", MODEL_DISK_SERIAL);
        fake.write_bytes("dev/vda", &config_disk());
        fake.write("dev/vdb", "model");
        fs::create_dir(fake.root().join("run")).unwrap();
        fake
    }

    /// A machine with a root of one block on a third disk, and an image that says so.
    pub(crate) fn with_root() -> Self {
        let fake = Self::new();
        let block = [0x5a; 4096];
        fake.write("sys/block/vdc/serial", ROOT_DISK_SERIAL);
        fake.write_bytes("dev/vdc", &block);
        let hash = Digest(Sha256::digest(block).into());
        let root = format!("prefix = 24\n\n[root]\nhash = \"{hash}\"\nbytes = 4096\n");
        let config = fake.read("chrysalis/image.toml").replace("prefix = 24\n", &root);
        fake.write("chrysalis/image.toml", &config.replace("\"a.ko\"", "\"erofs.ko\""));
        fake.write("lib/modules/erofs.ko", "code");
        fake
    }

    /// The kernel refuses the call that logs this line.
    pub(crate) fn refusing(mut self, line: &str) -> Self {
        self.refusing.push(line.to_owned());
        self
    }

    /// Sealing succeeds and changes nothing.
    pub(crate) fn never_sealing(mut self) -> Self {
        self.never_seals = true;
        self
    }

    /// The worker ends like this.
    pub(crate) fn ending(mut self, end: Ended) -> Self {
        self.end = end;
        self
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        self.write_bytes(path, text.as_bytes());
    }

    pub(crate) fn write_bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    pub(crate) fn make_handover(&self) {
        crate::handover::make_directory(self.root()).unwrap();
    }

    /// What the kernel was asked, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    pub(crate) fn pauses(&self) -> u32 {
        self.pauses.get()
    }

    fn asked(&self, line: String) -> io::Result<()> {
        let refused = self.refusing.contains(&line);
        self.log.borrow_mut().push(line);
        // EEXIST stands for any refusal.
        if refused { Err(io::Error::from_raw_os_error(17)) } else { Ok(()) }
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.root()).unwrap().display().to_string()
    }
}

impl Kernel for Fake {
    fn mount(&self, mount: &Mount, _target: &Path) -> io::Result<()> {
        self.asked(format!("mount {}", mount.fs))
    }

    fn mount_root(&self, file: &Path, target: &Path) -> io::Result<()> {
        assert_eq!(file.parent(), Some(target), "mounted over its own copy");
        self.asked(format!("mount erofs {}", self.relative(file)))
    }

    fn seal_mount(&self, target: &Path, _flags: MountFlags) -> io::Result<()> {
        self.asked(format!("seal {}", self.relative(target)))?;
        self.sealed.set(!self.never_seals);
        Ok(())
    }

    fn open_for_writing(&self, _path: &Path) -> io::Result<()> {
        if self.sealed.get() { Err(ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn load_module(&self, mut file: &File, compressed: bool) -> io::Result<()> {
        io::Seek::rewind(&mut file)?;
        let mut text = String::new();
        // Large modules of zeros are not worth a line of their own.
        file.take(16).read_to_string(&mut text)?;
        let packed = if compressed { " packed" } else { "" };
        self.asked(format!("module {}{packed}", text.trim_matches('\0')))
    }

    fn interface(&self, name: &str) -> io::Result<u32> {
        match name {
            "lo" => Ok(1),
            "eth0" => Ok(2),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn route_request(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        // Both bodies have the interface in bytes 20 to 24.
        let line = format!("route {} of {}", request[4], request[20]);
        let errno = self.asked(line).map_or(-17i32, |()| 0);
        let mut reply = vec![0; 20];
        reply[4] = 2;
        reply[16..].copy_from_slice(&errno.to_ne_bytes());
        Ok(reply)
    }

    fn give(&self, path: &Path, gid: u32, mode: u32) -> io::Result<()> {
        self.asked(format!("give {} {gid} {mode:o}", self.relative(path)))
    }

    fn pause(&self, _time: Duration) {
        self.pauses.set(self.pauses.get() + 1);
    }

    fn spawn(&self, launch: &Launch) -> io::Result<i32> {
        self.asked(format!("spawn {}", launch.to_args().join(" "))).map(|()| 42)
    }

    fn wait_for(&self, pid: i32) -> io::Result<Ended> {
        assert_eq!(pid, 42);
        Ok(self.end)
    }

    fn power_off(&self) -> io::Result<()> {
        self.asked("power off".into())
    }
}

/// A console that can be read.
#[derive(Clone, Default)]
pub(crate) struct Screen(Rc<RefCell<Vec<u8>>>);

impl Screen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.text().lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
