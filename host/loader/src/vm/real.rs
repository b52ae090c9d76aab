//! Tests with the pinned QEMU and the pinned firmware: captures against reference vectors, against
//! the published menu, and against what a real firmware and a real kernel read in a TCG boot.
//!
//! They need what `scripts/vm-inputs` prepares; without it they are skipped and say so, with
//! `CHRYSALIS_REQUIRE_VM` they fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chrysalis_shape::{Blobs, Menu, Shape, Status};

use super::Qemu;
use super::argv::capture_arguments;
use super::capture::{blobs_of, capture, read_blobs};
use super::qtest::Qtest;

/// The pinned QEMU, firmware and kernel.
struct Pinned {
    qemu: Qemu,
    firmware: PathBuf,
    kernel: PathBuf,
}

impl Pinned {
    fn get() -> Option<&'static Self> {
        static PINNED: OnceLock<Option<Pinned>> = OnceLock::new();
        PINNED.get_or_init(Self::make).as_ref()
    }

    fn make() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let dir = root.join("target/vm");
        if !dir.join("complete").is_file() {
            let required = std::env::var_os("CHRYSALIS_REQUIRE_VM").is_some();
            assert!(!required, "the inputs of the VM tests are missing; run scripts/vm-inputs");
            eprintln!("skipped: there is no pinned QEMU; run scripts/vm-inputs");
            return None;
        }
        let qemu = Qemu::find(Some(&dir.join("qemu")), None).unwrap();
        let image = dir.join("image");
        Some(Self { qemu, firmware: image.join("tdvf.fd"), kernel: image.join("vmlinuz") })
    }
}

fn run(command: &mut Command) -> Vec<u8> {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn shape(name: &str) -> Shape {
    Menu::published().unwrap().shape(name).unwrap().clone()
}

#[test]
fn a_capture_equals_the_reference_vectors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let vectors = std::env::var_os("CHRYSALIS_VECTORS")
        .map_or_else(|| root.join("../shared/vectors"), |dir| root.join(dir));
    let (Some(pinned), true) = (Pinned::get(), vectors.is_dir()) else {
        eprintln!("skipped: no reference vectors");
        return;
    };
    let vector = |name: &str| vectors.join("tdx/acpi-q35-2g-2c").join(name);
    let mut bare = shape("cpu-2");
    bare.machine.model = "q35".to_owned();
    bare.machine.memory_mib = 2048;
    bare.firmware.mmio64_base = None;
    bare.devices.clear();
    let blobs = capture(&pinned.qemu, &bare).unwrap().blobs;
    let tables = run(Command::new("gzip").arg("-dc").arg(vector("tables.bin.gz")));
    assert!(blobs.tables.bytes() == tables, "tables differ");
    assert!(blobs.rsdp.bytes() == fs::read(vector("rsdp.bin")).unwrap(), "rsdp differs");
    let loader = fs::read(vector("table-loader.bin")).unwrap();
    assert!(blobs.table_loader.bytes() == loader, "table-loader differs");
    // The vector was taken without our processor id, which is all that may differ.
    let smbios = fs::read(vector("smbios-tables-qemu.bin")).unwrap();
    let differing: Vec<_> =
        (0..smbios.len()).filter(|i| smbios[*i] != blobs.smbios.bytes()[*i]).collect();
    // Type 4 has handle 0x0400, and its processor id at offset 8.
    let type4 = smbios.windows(4).position(|w| w[0] == 4 && w[2..] == [0, 4]).unwrap();
    assert!(!differing.is_empty() && differing.iter().all(|i| (8..16).contains(&(i - type4))));
}

#[test]
fn the_menu_holds_what_the_pinned_qemu_builds_byte_for_byte() {
    let Some(pinned) = Pinned::get() else { return };
    let menu = Menu::published().unwrap();
    let mut checked = 0;
    for shape in menu.shapes().filter(|s| s.status == Status::Captured) {
        let fresh = capture(&pinned.qemu, shape).unwrap();
        assert_eq!(menu.capture(&shape.name, fresh.qemu).unwrap(), &fresh);
        let file = format!("../../manifests/shapes/{}/qemu-{}.toml", shape.name, fresh.qemu);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        assert!(
            fs::read_to_string(file).unwrap() == fresh.to_toml(),
            "{} in one spelling",
            shape.name
        );
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn what_a_host_changes_about_the_machine_moves_a_blob() {
    let Some(pinned) = Pinned::get() else { return };
    let good = capture(&pinned.qemu, &shape("cpu-2")).unwrap().blobs;
    let changed = |change: &dyn Fn(&mut Shape)| {
        let mut shape = shape("cpu-2");
        change(&mut shape);
        capture(&pinned.qemu, &shape).unwrap().blobs
    };
    type Case = (&'static str, fn(&mut Shape), fn(&Blobs) -> &chrysalis_shape::Blob);
    let cases: [Case; 7] = [
        ("vCPUs", |s| s.machine.vcpus = 3, |b| &b.tables),
        ("hpet", |s| s.machine.hpet = true, |b| &b.tables),
        ("pic", |s| s.machine.pic = true, |b| &b.tables),
        ("slot", |s| s.devices[2].slot = 9, |b| &b.tables),
        ("window", |s| s.firmware.mmio64_base = Some("0x340000000000".into()), |b| &b.tables),
        ("memory", |s| s.machine.memory_mib = 8192, |b| &b.smbios),
        ("processor id", |s| s.machine.smbios_processor_id = 2, |b| &b.smbios),
    ];
    for (what, change, blob) in cases {
        assert_ne!(blob(&changed(&change)), blob(&good), "{what}");
    }
}

/// Why a stand-in may take the slot of a device this host does not have.
#[test]
fn what_a_device_is_for_moves_no_blob() {
    let Some(pinned) = Pinned::get() else { return };
    let shape = shape("cpu-2");
    let good = capture(&pinned.qemu, &shape).unwrap().blobs;
    for other in ["virtio-balloon-pci", "virtio-scsi-pci-non-transitional", "nvme"] {
        let mut arguments = capture_arguments(&shape).unwrap();
        let at = arguments.iter().position(|a| a.contains("virtio-rng-pci")).unwrap();
        arguments[at] = format!(r#"{{"driver":"{other}","addr":"4.0"}}"#);
        if other == "nvme" {
            arguments[at] = arguments[at].replace('}', r#","serial":"x"}"#);
        }
        assert_eq!(blobs_of(&pinned.qemu, &shape, &arguments).unwrap(), good, "{other}");
    }
}

#[test]
fn refuses_a_machine_this_qemu_does_not_build_in_its_own_words() {
    let Some(pinned) = Pinned::get() else { return };
    let mut shape = shape("cpu-2");
    shape.machine.model = "pc-q35-99.9".to_owned();
    let refused = capture(&pinned.qemu, &shape).unwrap_err().to_string();
    assert!(refused.contains("unsupported machine type"), "{refused}");
}

/// Boots firmware and kernel; what they read is then in the test socket and in guest memory.
#[test]
fn firmware_and_kernel_read_the_captured_tables_and_the_measured_command_line() {
    let Some(pinned) = Pinned::get() else { return };
    let shape = shape("cpu-2");
    let menu = Menu::published().unwrap();
    let published = menu.capture("cpu-2", pinned.qemu.version().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (console, initrd) = (dir.path().join("console"), dir.path().join("initrd"));
    fs::write(&initrd, empty_cpio()).unwrap();
    let mut arguments = capture_arguments(&shape).unwrap();
    arguments.retain(|a| a != "-S");
    let serial = arguments.iter().position(|a| a == "null").unwrap();
    arguments[serial] = format!("file:{}", console.display());
    let text = |p: &Path| p.display().to_string();
    for (flag, value) in [
        ("-bios", text(&pinned.firmware)),
        ("-kernel", text(&pinned.kernel)),
        ("-initrd", text(&initrd)),
        ("-append", CMDLINE.to_owned()),
    ] {
        arguments.extend([flag.to_owned(), value]);
    }
    let mut qtest = Qtest::start(&pinned.qemu, &arguments).unwrap();
    let log = wait_for(&console, "Kernel command line: ");
    // edk2-stable202508 and later put this in front, and measure it into RTMR2 so.
    let seen = log.lines().find_map(|l| l.split_once("Kernel command line: ")).unwrap().1;
    assert_eq!(seen.trim_end(), format!("initrd=initrd {CMDLINE}"));
    // QEMU builds the tables once, when the firmware reads them: this is what it read.
    let read = read_blobs(&mut qtest).unwrap();
    for (found, expected) in read.all().iter().zip(published.blobs.all()) {
        assert_eq!(found, &expected, "{}", expected.kind());
    }
    // And this is the code the kernel runs: the DSDT in guest memory, where it says it found it.
    let line = log.lines().find(|l| l.contains("ACPI: DSDT 0x")).unwrap();
    let at = line.split_once("DSDT 0x").unwrap().1.split(' ').next().unwrap();
    let at = u64::from_str_radix(at, 16).unwrap();
    let tables = published.blobs.tables.bytes();
    let start = tables.windows(4).position(|w| w == b"DSDT").unwrap();
    let len = u32::from_le_bytes(tables[start + 4..start + 8].try_into().unwrap()) as usize;
    let mut found = qtest.read(at, len).unwrap();
    found[9] = 0; // the checksum, which QEMU leaves to the firmware
    assert!(found == tables[start..start + len], "the kernel runs another DSDT");
}

/// Waits for a whole line with `mark` on the console.
fn wait_for(console: &Path, mark: &str) -> String {
    let deadline = Instant::now() + BOOT_TIME;
    loop {
        let text = fs::read(console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.split_once(mark).is_some_and(|(_, rest)| rest.contains('\n')) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {mark:?} on the console:\n{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A newc archive of nothing but its trailer.
fn empty_cpio() -> Vec<u8> {
    let name = "TRAILER!!!\0";
    let mut out = b"070701".to_vec();
    for field in [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len(), 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.resize(512, 0);
    out
}

const CMDLINE: &str = "console=ttyS0 panic=0";

/// The boot takes about five seconds on an idle machine.
const BOOT_TIME: Duration = Duration::from_secs(180);
