//! QEMU's arguments, as a pure function of a launch. What the guest can measure comes from the
//! shape and the image alone; no pflash, no boot index and no fw_cfg file of the host's is ever
//! added, because each would be another event in RTMR0.

use std::path::Path;

use chrysalis_shape::{DeviceKind, Shape};
use serde_json::json;

use super::launch::{QgsAddress, VmLaunch, VmPlatform};
use super::probe::Accelerator;
use crate::error::LoaderError;

/// Where the guest's disks and its port are on this host.
#[derive(Clone, Copy, Debug)]
pub struct HostSide<'a> {
    /// The configuration disk.
    pub config_disk: &'a Path,
    /// The bundle.
    pub bundle: &'a Path,
    /// Loopback port forwarded to the worker.
    pub port: u16,
}

/// Every argument of the QEMU that runs `vm`. Its control socket is file descriptor 0, its
/// console is standard output.
///
/// # Errors
/// [`LoaderError::Unsupported`] if the shape, the platform and the accelerator do not go together;
/// [`LoaderError::NoFile`] for a path that is not UTF-8.
pub fn arguments(vm: &VmLaunch, host: &HostSide<'_>) -> Result<Vec<String>, LoaderError> {
    let shape = &vm.shape;
    check(vm)?;
    let mut out = machine(shape, vm.accelerator, vm.platform);
    if vm.platform == VmPlatform::Tdx {
        let qgs = match &vm.qgs {
            QgsAddress::Unix(path) => json!({"type": "unix", "path": utf8("quote socket", path)?}),
            QgsAddress::Vsock { cid, port } => {
                json!({"type": "vsock", "cid": cid.to_string(), "port": port.to_string()})
            }
        };
        // The measured host fields (mrconfigid, mrowner, mrownerconfig) stay zero.
        let guest = json!({"qom-type": "tdx-guest", "id": "tdx0", "quote-generation-socket": qgs});
        push(&mut out, ["-object", &guest.to_string()]);
    }
    push(&mut out, ["-bios", utf8("tdvf.fd", &vm.image.firmware)?]);
    push(&mut out, ["-kernel", utf8("vmlinuz", &vm.image.kernel)?]);
    push(&mut out, ["-initrd", utf8("initrd.cpio", &vm.image.initrd)?]);
    push(&mut out, ["-append", &vm.image.cmdline]);
    // Only written to: a `stdio` console would read, and eat, the commands on descriptor 0.
    push(&mut out, ["-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console"]);
    push(&mut out, ["-chardev", "socket,id=qmp,fd=0", "-mon", "chardev=qmp,mode=control"]);
    // A crash or a reset ends the process; the supervisor decides whether there is another life.
    push(&mut out, ["-no-reboot", "-sandbox", SANDBOX]);
    if shape.gpus() > 0 {
        let iommu = json!({"qom-type": "iommufd", "id": "iommufd0"});
        push(&mut out, ["-object", &iommu.to_string()]);
    }
    let mut gpus = vm.gpus.iter();
    for (index, device) in shape.devices.iter().enumerate() {
        match device.kind {
            DeviceKind::ConfigDisk => {
                let file = utf8("configuration disk", host.config_disk)?;
                disk(&mut out, "config", device.slot, &file_node("config", file));
            }
            DeviceKind::ModelDisk => {
                let file = utf8("bundle", host.bundle)?;
                disk(&mut out, "model", device.slot, &file_node("model", file));
            }
            DeviceKind::RootDisk => {
                // `check` saw that there is one.
                let file = vm.image.root.as_deref().unwrap_or_else(|| Path::new(""));
                disk(&mut out, "root", device.slot, &file_node("root", utf8("root", file)?));
            }
            DeviceKind::Network => {
                let forward = format!("tcp:127.0.0.1:{}-{}", host.port, vm.guest);
                network(&mut out, device.slot, Some(forward));
            }
            DeviceKind::Vsock => {
                let vsock = match vm.platform {
                    VmPlatform::Tdx => json!({
                        "driver": "vhost-vsock-pci", "guest-cid": VSOCK_CID,
                        "addr": address(device.slot),
                    }),
                    // There is no quote service to reach, and most hosts lack the device.
                    VmPlatform::InsecureSim => vsock_stand_in(device.slot),
                };
                push(&mut out, ["-device", &vsock.to_string()]);
            }
            DeviceKind::Gpu => {
                let port = format!("gpu-port{index}");
                let root = json!({
                    "driver": "pcie-root-port", "id": port, "chassis": index,
                    "addr": address(device.slot),
                });
                let gpu = gpus.next().map(ToString::to_string).unwrap_or_default();
                let card =
                    json!({"driver": "vfio-pci", "host": gpu, "bus": port, "iommufd": "iommufd0"});
                push(&mut out, ["-device", &root.to_string(), "-device", &card.to_string()]);
            }
        }
    }
    Ok(out)
}

/// The arguments of a stopped QEMU that has the shape's tables: the same machine and devices,
/// with empty disks behind them. File descriptor 0 is the test socket.
///
/// # Errors
/// [`LoaderError::Unsupported`] for a shape with a device that needs this host's hardware.
pub fn capture_arguments(shape: &Shape) -> Result<Vec<String>, LoaderError> {
    let mut out = machine(shape, Accelerator::Tcg, VmPlatform::InsecureSim);
    let memory = json!({
        "qom-type": "memory-backend-ram", "id": "ram0", "size": shape.memory_bytes(),
        // A stopped guest touches none of it, so a small host can capture a large shape.
        "reserve": false,
    });
    push(&mut out, ["-object", &memory.to_string(), "-machine", "memory-backend=ram0"]);
    push(&mut out, ["-S", "-serial", "null", "-sandbox", SANDBOX]);
    push(&mut out, ["-chardev", "socket,id=qtest,fd=0", "-qtest", "chardev:qtest"]);
    push(&mut out, ["-qtest-log", "none"]);
    for device in &shape.devices {
        match device.kind {
            DeviceKind::ConfigDisk => disk(&mut out, "config", device.slot, &null_node("config")),
            DeviceKind::ModelDisk => disk(&mut out, "model", device.slot, &null_node("model")),
            DeviceKind::RootDisk => disk(&mut out, "root", device.slot, &null_node("root")),
            DeviceKind::Network => network(&mut out, device.slot, None),
            DeviceKind::Vsock => {
                push(&mut out, ["-device", &vsock_stand_in(device.slot).to_string()]);
            }
            DeviceKind::Gpu => {
                return Err(LoaderError::Unsupported {
                    what: format!("capturing shape {}", shape.name),
                    reason: format!("it has a {}, which only its own host has", device.kind.name()),
                });
            }
        }
    }
    Ok(out)
}

/// `arguments` as one line for a shell.
#[must_use]
pub fn shell_line(program: &str, arguments: &[String]) -> String {
    let quote = |word: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=,:+@%".contains(&b);
        if !word.is_empty() && word.bytes().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    words.map(quote).collect::<Vec<_>>().join(" ")
}

fn check(vm: &VmLaunch) -> Result<(), LoaderError> {
    let shape = &vm.shape;
    let refuse = |reason: String| LoaderError::Unsupported {
        what: format!("launching shape {}", shape.name),
        reason,
    };
    for kind in [DeviceKind::ConfigDisk, DeviceKind::ModelDisk, DeviceKind::Network] {
        if shape.slot(kind).is_none() {
            return Err(refuse(format!("it has no {}", kind.name())));
        }
    }
    // Another disk is another device in the tables that RTMR0 measures: a shape declares it.
    match (&vm.image.root, shape.slot(DeviceKind::RootDisk)) {
        (Some(_), None) => {
            return Err(refuse("the image has a root, the shape no disk for it".into()));
        }
        (None, Some(_)) => return Err(refuse("it has a root-disk, the image has no root".into())),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if vm.gpus.len() != shape.gpus() {
        let (want, got) = (shape.gpus(), vm.gpus.len());
        return Err(refuse(format!("it takes {want} --gpu addresses, {got} were given")));
    }
    if vm.platform == VmPlatform::Tdx && vm.accelerator != Accelerator::Kvm {
        return Err(refuse("a trust domain needs KVM".to_owned()));
    }
    let version = vm.qemu.version()?;
    let first = chrysalis_shape::QemuVersion::FIRST_WITH_TDX;
    if vm.platform == VmPlatform::Tdx && version < first {
        return Err(refuse(format!("a trust domain needs QEMU {first}, this one is {version}")));
    }
    Ok(())
}

/// Accelerator, CPU, machine, memory, SMBIOS: everything but devices and files.
fn machine(shape: &Shape, accelerator: Accelerator, platform: VmPlatform) -> Vec<String> {
    let machine = &shape.machine;
    let switch = |on: bool| if on { "on" } else { "off" };
    let mut model = format!(
        "{},smm={},pic={},hpet={},vmport={}",
        machine.model,
        switch(machine.smm),
        switch(machine.pic),
        switch(machine.hpet),
        switch(machine.vmport),
    );
    if accelerator == Accelerator::Kvm {
        model.push_str(",kernel-irqchip=split");
    }
    if platform == VmPlatform::Tdx {
        model.push_str(",confidential-guest-support=tdx0");
    }
    let cpu = match accelerator {
        // TDX passes the host's address width through; the firmware caps it.
        Accelerator::Kvm => "host".to_owned(),
        Accelerator::Tcg => format!("max,phys-bits={}", machine.min_phys_bits),
    };
    let vcpus = machine.vcpus;
    let mut out = Vec::new();
    push(&mut out, ["-nodefaults", "-no-user-config", "-display", "none"]);
    push(&mut out, ["-accel", accelerator.name(), "-cpu", &cpu, "-machine", &model]);
    push(&mut out, ["-m", &format!("size={}M", machine.memory_mib)]);
    let smp = format!("cpus={vcpus},sockets=1,cores={vcpus},threads=1,maxcpus={vcpus}");
    push(&mut out, ["-smp", &smp]);
    let smbios = format!("type=4,processor-id={}", machine.smbios_processor_id);
    push(&mut out, ["-smbios", &smbios]);
    out
}

fn disk(out: &mut Vec<String>, node: &str, slot: u8, backend: &serde_json::Value) {
    let device = json!({
        "driver": "virtio-blk-pci", "drive": node, "serial": format!("chrysalis-{node}"),
        "addr": address(slot),
    });
    push(out, ["-blockdev", &backend.to_string(), "-device", &device.to_string()]);
}

fn file_node(node: &str, file: &str) -> serde_json::Value {
    json!({
        "driver": "raw", "node-name": node, "read-only": true,
        "file": {"driver": "file", "filename": file},
    })
}

fn null_node(node: &str) -> serde_json::Value {
    json!({"driver": "null-co", "node-name": node, "size": 1 << 20, "read-only": true,
        "read-zeroes": true})
}

fn network(out: &mut Vec<String>, slot: u8, forward: Option<String>) {
    let forwards: Vec<_> = forward.iter().map(|text| json!({"str": text})).collect();
    // `restrict`: the guest reaches nobody, it is only reached.
    let user = json!({"type": "user", "id": "net0", "restrict": true, "hostfwd": forwards});
    let card = json!({
        "driver": "virtio-net-pci", "netdev": "net0", "mac": MAC, "romfile": "",
        "addr": address(slot),
    });
    push(out, ["-netdev", &user.to_string(), "-device", &card.to_string()]);
}

/// A device with the BARs of a vhost-vsock in its slot: the tables know slots and BARs, not what a
/// device is for. No image loads a driver for it.
fn vsock_stand_in(slot: u8) -> serde_json::Value {
    json!({"driver": "virtio-rng-pci-non-transitional", "addr": address(slot)})
}

/// QEMU reads slots in hexadecimal.
fn address(slot: u8) -> String {
    format!("{slot:x}.0")
}

fn utf8<'a>(what: &str, path: &'a Path) -> Result<&'a str, LoaderError> {
    path.to_str().ok_or_else(|| LoaderError::NoFile {
        what: what.to_owned(),
        path: path.display().to_string(),
        reason: "its path is not UTF-8".to_owned(),
    })
}

fn push<const N: usize>(out: &mut Vec<String>, words: [&str; N]) {
    out.extend(words.map(str::to_owned));
}

/// Seccomp filter of QEMU itself: it starts nothing and gains nothing. For the host's own sake.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Address of the guest's card; one guest per user network, so every guest has the same.
const MAC: &str = "52:54:00:12:34:56";

/// Context id of the guest; one VM with a vsock per host.
const VSOCK_CID: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::VmImage;
    use crate::vm::qemu::tests::pretend;
    use chrysalis_shape::{Device, Menu};

    fn vm(shape: &str, platform: VmPlatform) -> VmLaunch {
        let accelerator = match platform {
            VmPlatform::Tdx => Accelerator::Kvm,
            VmPlatform::InsecureSim => Accelerator::Tcg,
        };
        VmLaunch {
            qemu: pretend(Path::new("/q"), "11.1.3"),
            accelerator,
            accelerator_reason: String::new(),
            platform,
            image: VmImage {
                firmware: "/i/tdvf.fd".into(),
                kernel: "/i/vmlinuz".into(),
                initrd: "/i/initrd.cpio".into(),
                cmdline: "console=ttyS0 quiet".to_owned(),
                root: None,
            },
            shape: Menu::published().unwrap().shape(shape).unwrap().clone(),
            guest: "10.0.2.15:8443".parse().unwrap(),
            gpus: vec![],
            qgs: QgsAddress::default(),
        }
    }

    fn host() -> HostSide<'static> {
        HostSide { config_disk: Path::new("/s/config"), bundle: Path::new("/b,1"), port: 4000 }
    }

    fn line(vm: &VmLaunch) -> String {
        shell_line("qemu", &arguments(vm, &host()).unwrap())
    }

    fn reason(vm: &VmLaunch) -> String {
        match arguments(vm, &host()) {
            Err(LoaderError::Unsupported { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_trust_domain_is_launched_as_it_was_measured() {
        let line = line(&vm("cpu-2", VmPlatform::Tdx));
        let expected = [
            "-accel kvm -cpu host -machine pc-q35-10.1,smm=off,pic=off,hpet=off,vmport=off,\
             kernel-irqchip=split,confidential-guest-support=tdx0 -m size=4096M \
             -smp cpus=2,sockets=1,cores=2,threads=1,maxcpus=2 -smbios type=4,processor-id=1",
            r#"-object '{"qom-type":"tdx-guest","id":"tdx0","quote-generation-socket":{"type":"unix","path":"/var/run/tdx-qgs/qgs.socket"}}'"#,
            "-bios /i/tdvf.fd -kernel /i/vmlinuz -initrd /i/initrd.cpio -append 'console=ttyS0 quiet'",
            r#"-device '{"driver":"virtio-blk-pci","drive":"config","serial":"chrysalis-config","addr":"1.0"}'"#,
            r#"-device '{"driver":"virtio-blk-pci","drive":"model","serial":"chrysalis-model","addr":"2.0"}'"#,
            r#"-device '{"driver":"vhost-vsock-pci","guest-cid":3,"addr":"4.0"}'"#,
            r#""restrict":true,"hostfwd":[{"str":"tcp:127.0.0.1:4000-10.0.2.15:8443"}]"#,
        ];
        for part in expected {
            assert!(line.contains(part), "{part}\nis not in\n{line}");
        }
    }

    #[test]
    fn nothing_that_would_be_another_measured_event_is_ever_added() {
        let mut gpu = vm("gpu-8", VmPlatform::Tdx);
        gpu.gpus = vec!["0000:17:00.0".parse().unwrap(); 8];
        for vm in [gpu, vm("cpu-2", VmPlatform::Tdx), vm("cpu-32", VmPlatform::InsecureSim)] {
            let line = line(&vm);
            for bad in ["pflash", "bootindex", "fw_cfg", "shim", "cdrom", "mrconfigid", "-boot"] {
                assert!(!line.contains(bad), "{bad} in {line}");
            }
        }
    }

    #[test]
    fn a_simulated_vm_has_the_machine_of_the_shape_and_nothing_of_tdx() {
        let line = line(&vm("cpu-8", VmPlatform::InsecureSim));
        assert!(line.contains("-accel tcg -cpu max,phys-bits=46 -machine pc-q35-10.1,smm=off"));
        for bad in ["tdx", "kvm", "kernel-irqchip", "quote", "vhost"] {
            assert!(!line.contains(bad), "{bad} in {line}");
        }
    }

    #[test]
    fn nothing_but_the_monitor_reads_the_control_socket() {
        let line = line(&vm("cpu-2", VmPlatform::InsecureSim));
        assert!(!line.contains("stdio"), "{line}");
        assert_eq!(line.matches("fd=0").count(), 1);
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_its_option() {
        let line = line(&vm("cpu-2", VmPlatform::InsecureSim));
        assert!(line.contains(r#""file":{"driver":"file","filename":"/b,1"}"#), "{line}");
    }

    #[test]
    fn each_gpu_gets_its_port_in_the_slot_of_the_shape() {
        let mut vm = vm("gpu-8", VmPlatform::Tdx);
        vm.gpus = (0..8).map(|n| format!("0000:{n:02x}:00.0").parse().unwrap()).collect();
        let line = line(&vm);
        assert_eq!(line.matches("vfio-pci").count(), 8);
        assert!(line.contains(r#""chassis":11,"addr":"c.0""#), "slots are hexadecimal: {line}");
        assert!(line.contains(r#""host":"0000:07:00.0","bus":"gpu-port11""#));
    }

    #[test]
    fn refuses_a_wrong_number_of_gpus() {
        let mut vm = vm("gpu-1", VmPlatform::Tdx);
        assert!(reason(&vm).contains("takes 1"));
        vm.gpus = vec!["0000:17:00.0".parse().unwrap(); 2];
        assert!(reason(&vm).contains("2 were given"));
    }

    #[test]
    fn refuses_a_trust_domain_without_kvm_or_with_an_old_qemu() {
        let mut tcg = vm("cpu-2", VmPlatform::Tdx);
        tcg.accelerator = Accelerator::Tcg;
        assert!(reason(&tcg).contains("KVM"));
        let mut old = vm("cpu-2", VmPlatform::Tdx);
        old.qemu = pretend(Path::new("/q"), "10.0.2");
        assert!(reason(&old).contains("10.1.0"));
    }

    #[test]
    fn refuses_a_shape_without_the_devices_a_worker_needs() {
        for kind in [DeviceKind::ConfigDisk, DeviceKind::ModelDisk, DeviceKind::Network] {
            let mut vm = vm("cpu-2", VmPlatform::InsecureSim);
            vm.shape.devices.retain(|d| d.kind != kind);
            assert!(reason(&vm).contains(kind.name()));
        }
    }

    #[test]
    fn an_image_with_a_root_goes_with_a_shape_that_has_its_disk_and_no_other() {
        let root = DeviceKind::RootDisk;
        let mut vm = vm("cpu-2", VmPlatform::InsecureSim);
        vm.image.root = Some("/i/rootfs.erofs".into());
        assert!(reason(&vm).contains("the shape no disk for it"));
        vm.shape.devices.push(Device { slot: 5, kind: root });
        let line = line(&vm);
        let file = r#"{"driver":"file","filename":"/i/rootfs.erofs"}"#;
        let node = format!(r#""node-name":"root","read-only":true,"file":{file}"#);
        assert!(line.contains(&node), "{line}");
        let device = r#""drive":"root","serial":"chrysalis-root","addr":"5.0""#;
        assert!(line.contains(device), "{line}");
        vm.image.root = None;
        assert!(reason(&vm).contains("the image has no root"));
        for published in Menu::published().unwrap().shapes() {
            assert_eq!(published.slot(root), None, "{}", published.name);
        }
        let captured = shell_line("qemu", &capture_arguments(&vm.shape).unwrap());
        assert!(captured.contains(device), "{captured}");
    }

    #[test]
    fn refuses_a_path_that_is_not_utf8() {
        use std::os::unix::ffi::OsStrExt;
        let bundle = Path::new(std::ffi::OsStr::from_bytes(b"/b\xff"));
        let host = HostSide { bundle, ..host() };
        let refused = arguments(&vm("cpu-2", VmPlatform::InsecureSim), &host);
        assert!(matches!(refused, Err(LoaderError::NoFile { what, .. }) if what == "bundle"));
    }

    #[test]
    fn refuses_to_capture_a_shape_with_a_card_of_the_hosts() {
        let menu = Menu::published().unwrap();
        let refused = capture_arguments(menu.shape("gpu-1").unwrap());
        assert!(matches!(refused, Err(LoaderError::Unsupported { .. })));
    }

    #[test]
    fn quotes_for_a_shell() {
        let words = ["a b".to_owned(), "it's".to_owned(), String::new(), "-x=1".to_owned()];
        assert_eq!(shell_line("q", &words), r"q 'a b' 'it'\''s' '' -x=1");
    }
}
