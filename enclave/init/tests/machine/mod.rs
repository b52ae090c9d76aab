//! A small virtual machine for the tests: the pinned kernel, an initrd written here, disks as
//! files, QEMU under TCG with a time limit.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrysalis_wire::guest::{
    IMAGE_CONFIG_PATH, MODULES_DIR, MOUNT_POINTS, PID_1_PATH, WORKER_PATH,
};
use chrysalis_wire::image::{ModuleEntry, NetworkSection, RootSection, SysctlEntry};
use chrysalis_wire::{ConsoleEvent, Digest, ImageConfig, ImagePlatform};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::common::build_probe;

/// What a test image is booted with.
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=0 panic=-1 oops=panic \
     lockdown=confidentiality module.sig_enforce=1 init_on_alloc=1 init_on_free=1 vsyscall=none \
     random.trust_bootloader=off";

/// Modules of a simulated image, in order: directory below `kernel/`, and name.
pub(crate) const MODULES: [(&str, &str); 4] = [
    ("net/core", "failover"),
    ("drivers/net", "net_failover"),
    ("drivers/net", "virtio_net"),
    ("drivers/block", "virtio_blk"),
];

/// A root with a file, a directory and a link, as the image writer writes it; a test of
/// `chrysalis-image` holds it to that.
pub(crate) const ROOT: &[u8] = include_bytes!("root.erofs");

/// Its dm-verity root hash, held by the same test.
pub(crate) const ROOT_HASH: &str =
    "7f303031a76fae19d72df52a33d917f10fffc15b8c99ff451a402de72828ddce";

/// One boot, with everything a host could choose.
pub(crate) struct Boot {
    /// The kernel command line.
    pub(crate) command_line: String,
    /// Serial number and bytes of each disk.
    pub(crate) disks: Vec<(String, Vec<u8>)>,
    /// Whether the image is a debug image.
    pub(crate) debug: bool,
    /// What the image says of its root.
    pub(crate) root: Option<RootSection>,
    /// Flip a byte of the last module and list its hash as it then is: the kernel must refuse.
    pub(crate) spoil_module: bool,
    /// Flip a byte of the last module only: PID 1 must refuse.
    pub(crate) spoil_module_hash: bool,
}

/// What a boot printed.
pub(crate) struct Run {
    /// Everything on the serial line.
    pub(crate) text: String,
    /// The lines that are events.
    pub(crate) events: Vec<ConsoleEvent>,
}

/// QEMU and the parts every image has.
pub(crate) struct Machine {
    dir: TempDir,
    qemu: PathBuf,
    kernel: PathBuf,
    modules: Vec<(String, Vec<u8>)>,
    /// The module of an image with a root.
    erofs: (String, Vec<u8>),
    programs: Vec<(String, Vec<u8>)>,
    /// One VM at a time: an emulated one keeps a core busy.
    booting: Mutex<()>,
}

impl Machine {
    /// The machine, or `None` with a printed reason.
    pub(crate) fn get() -> Option<&'static Self> {
        static MACHINE: OnceLock<Option<Machine>> = OnceLock::new();
        MACHINE.get_or_init(Self::make).as_ref()
    }

    fn make() -> Option<Self> {
        let required = std::env::var_os("CHRYSALIS_REQUIRE_VM").is_some();
        let qemu = std::env::var_os("CHRYSALIS_QEMU")
            .map_or_else(|| PathBuf::from("qemu-system-x86_64"), PathBuf::from);
        if Command::new(&qemu).arg("--version").output().is_err() {
            assert!(!required, "CHRYSALIS_QEMU names no QEMU");
            println!("skipped: no qemu-system-x86_64; install it or set CHRYSALIS_QEMU");
            return None;
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let inputs = std::env::var_os("CHRYSALIS_INPUTS")
            .map_or_else(|| workspace.join("../shared/inputs"), PathBuf::from);
        if !inputs.is_dir() {
            assert!(!required, "CHRYSALIS_INPUTS names no directory of pinned packages");
            println!("skipped: no pinned kernel packages; set CHRYSALIS_INPUTS");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for package in ["linux-binary-", "linux-modules-"] {
            unpack(&inputs, package, dir.path());
        }
        let release = fs::read_dir(dir.path().join("usr/lib/modules"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .next()
            .expect("the packages hold one kernel");
        let module = |(at, name): (&str, &str)| {
            let file = format!("{name}.ko.xz");
            (file.clone(), fs::read(release.join("kernel").join(at).join(&file)).unwrap())
        };
        let modules = MODULES.map(module).to_vec();
        let erofs = module(("fs/erofs", "erofs"));
        let probe = fs::read(build_probe(dir.path())).unwrap();
        let mut programs = init_and_its_libraries();
        programs.push((WORKER_PATH.to_owned(), probe));
        Some(Self {
            kernel: release.join("vmlinuz"),
            dir,
            qemu,
            modules,
            erofs,
            programs,
            booting: Mutex::default(),
        })
    }

    /// Boots and waits for the power to go off.
    ///
    /// # Panics
    /// If the machine is still on after [`TIME_LIMIT`].
    #[track_caller]
    pub(crate) fn boot(&self, boot: &Boot) -> Run {
        let _one_at_a_time = self.booting.lock().unwrap_or_else(PoisonError::into_inner);
        let initrd = self.dir.path().join("initrd.cpio");
        fs::write(&initrd, self.initrd(boot)).unwrap();
        let mut qemu = Command::new(&self.qemu);
        qemu.args(["-accel", "tcg", "-cpu", "max", "-machine", "q35", "-m", "1G", "-nodefaults"])
            .args(["-display", "none", "-serial", "stdio", "-no-reboot"])
            .args(["-netdev", "user,id=n,restrict=on", "-device", "virtio-net-pci,netdev=n"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&initrd)
            .args(["-append", &boot.command_line]);
        for (index, (serial, bytes)) in boot.disks.iter().enumerate() {
            let path = self.dir.path().join(format!("disk{index}"));
            fs::write(&path, bytes).unwrap();
            let path = path.display();
            qemu.args(["-drive", &format!("if=none,id=d{index},format=raw,file={path}")])
                .args(["-device", &format!("virtio-blk-pci,drive=d{index},serial={serial}")]);
        }
        let text = run_with_limit(&mut qemu);
        let events =
            text.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect();
        Run { text, events }
    }

    fn initrd(&self, boot: &Boot) -> Vec<u8> {
        let mut modules = self.modules.clone();
        modules.extend(boot.root.is_some().then(|| self.erofs.clone()));
        let spoil = |modules: &mut Vec<(String, Vec<u8>)>| {
            let bytes = &mut modules.last_mut().unwrap().1;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        };
        if boot.spoil_module {
            spoil(&mut modules);
        }
        let config = toml::to_string(&image_config(&modules, boot)).unwrap();
        if boot.spoil_module_hash {
            spoil(&mut modules);
        }
        let mut cpio = Cpio::default();
        for mount_point in MOUNT_POINTS {
            cpio.directory(mount_point);
        }
        cpio.node("/dev/console", 0o020_600, 5, 1);
        cpio.file(IMAGE_CONFIG_PATH, 0o444, config.as_bytes());
        for (file, bytes) in &modules {
            cpio.file(&format!("{MODULES_DIR}/{file}"), 0o444, bytes);
        }
        for (path, bytes) in &self.programs {
            cpio.file(path, 0o555, bytes);
        }
        cpio.finish()
    }
}

fn image_config(modules: &[(String, Vec<u8>)], boot: &Boot) -> ImageConfig {
    let entry = |(file, bytes): &(String, Vec<u8>)| ModuleEntry {
        file: file.clone(),
        sha256: Digest(Sha256::digest(bytes).into()),
    };
    let sysctl = |(name, value): (&str, &str)| SysctlEntry {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    ImageConfig {
        version: chrysalis_wire::image::IMAGE_CONFIG_VERSION,
        platform: ImagePlatform::InsecureSim,
        debug: boot.debug,
        listen_port: 8443,
        network: NetworkSection {
            interface: "eth0".to_owned(),
            address: [10, 0, 2, 15].into(),
            prefix: 24,
        },
        root: boot.root.clone(),
        modules: modules.iter().map(entry).collect(),
        sysctls: [("kernel.kptr_restrict", "2"), ("kernel.dmesg_restrict", "1")]
            .map(sysctl)
            .to_vec(),
    }
}

/// PID 1 as `CHRYSALIS_INIT` names it (static, as an image has it), else as cargo built it for this
/// test, with the libraries it then needs.
fn init_and_its_libraries() -> Vec<(String, Vec<u8>)> {
    if let Some(path) = std::env::var_os("CHRYSALIS_INIT") {
        return vec![(PID_1_PATH.to_owned(), fs::read(path).unwrap())];
    }
    let init = env!("CARGO_BIN_EXE_chrysalis-init");
    let listed = Command::new("ldd").arg(init).output().expect("ldd runs");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries: BTreeSet<&str> =
        listed.split_whitespace().filter(|word| word.starts_with('/')).collect();
    let mut programs = vec![(PID_1_PATH.to_owned(), fs::read(init).unwrap())];
    programs.extend(libraries.iter().map(|path| ((*path).to_owned(), fs::read(path).unwrap())));
    programs
}

fn unpack(inputs: &Path, package: &str, to: &Path) {
    let found = fs::read_dir(inputs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(package))
        .unwrap_or_else(|| panic!("{package}*.deb is missing from {}", inputs.display()));
    let status = Command::new("dpkg-deb").arg("-x").arg(found).arg(to).status().unwrap();
    assert!(status.success(), "dpkg-deb could not unpack {package}");
}

/// Runs QEMU to its end and returns its standard output.
#[track_caller]
fn run_with_limit(qemu: &mut Command) -> String {
    let mut child =
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(out.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > TIME_LIMIT {
            drop(child.kill());
            drop(child.wait());
            panic!("still on after {TIME_LIMIT:?}:\n{}", reader.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().unwrap()
}

/// An emulated boot takes four seconds on an idle machine.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Writes a newc archive: just enough for an initrd.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Cpio {
    fn directory(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        if path.is_empty() || !self.directories.insert(path.to_owned()) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path.trim_start_matches('/'), 0o100_000 | mode, (0, 0), content);
    }

    fn node(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path.trim_start_matches('/'), mode, (major, minor), &[]);
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let mut header = String::from("070701");
        let size = u32::try_from(content.len()).unwrap();
        let name_size = u32::try_from(name.len() + 1).unwrap();
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0] {
            write!(header, "{field:08x}").unwrap();
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}
