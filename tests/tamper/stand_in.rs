//! Small stand-ins for what an image is made of, so that the matrix runs without the pinned
//! packages: a kernel that is a PE file, a TDVF with a variable store, modules, and the Debian
//! packages they come in. Each is only as real as its readers look.

use chrysalis_image::{Lock, Package, PinnedFile, Role};
use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// `length` bytes that repeat nowhere.
pub(crate) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    for block in 0..length.div_ceil(32) as u64 {
        out.extend(Sha256::new().chain_update([seed]).chain_update(block.to_le_bytes()).finalize());
    }
    out.truncate(length);
    out
}

/// A static ELF program: a header, one loadable segment and something to measure.
pub(crate) fn program(seed: u8) -> Vec<u8> {
    let mut elf = vec![0u8; 120];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16] = 3;
    elf[18] = 62;
    elf[32] = 64;
    elf[54] = 56;
    elf[56] = 1;
    elf[64] = 1;
    elf.extend(noise(seed, 3000));
    elf
}

/// A PE32+ kernel of release [`RELEASE`] with two sections and a certificate table.
fn kernel() -> Vec<u8> {
    let mut out = vec![0u8; 0x200];
    out.extend(noise(7, KERNEL_END - 0x200));
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664u16.to_le_bytes());
    put(0x46, &2u16.to_le_bytes());
    put(0x54, &0xa0u16.to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 60, &0x200u32.to_le_bytes());
    put(0x58 + 108, &6u32.to_le_bytes());
    put(0x58 + 144, &(KERNEL_END as u32).to_le_bytes());
    put(0x58 + 148, &64u32.to_le_bytes());
    for (at, size, start) in [(0xf8, 0x600u32, 0x200u32), (0x120, 0x800, 0x800)] {
        put(at + 16, &size.to_le_bytes());
        put(at + 20, &start.to_le_bytes());
    }
    // The Linux boot protocol: magic, and where the release is written.
    put(0x202, b"HdrS");
    put(0x20e, &0x300u16.to_le_bytes());
    put(0x500, format!("{RELEASE} (somebody@somewhere)\0").as_bytes());
    out.extend([0xce; 64]);
    out
}

/// A volume with an authenticated variable store that holds nothing.
fn variable_store() -> Vec<u8> {
    let mut out = vec![0u8; 16];
    out.extend(hex::decode("8d2bf1ff96768b4ca9852747075b4f50").unwrap());
    out.extend((STORE_BYTES as u64).to_le_bytes());
    out.extend(b"_FVH\xff\xfe\x04\x00\x48\x00\x00\x00\x00\x00\x00\x02");
    out.resize(0x48, 0);
    out.extend(hex::decode("782cf3aa7b949a43a1802e144ec37792").unwrap());
    out.extend(0x2000u32.to_le_bytes());
    out.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    out.resize(STORE_BYTES, 0xff);
    out
}

/// A TDVF: another store in front, code behind it, the metadata near the end.
fn firmware() -> Vec<u8> {
    let (store, code) = (STORE_BYTES as u32, CODE_BYTES as u32);
    let sections: [(u32, u32, u64, u64, u32, u32); 4] = [
        (store, code, 0xffff_e000, CODE_BYTES as u64, 0, 1),
        (0, store, 0xffff_a000, STORE_BYTES as u64, 1, 0),
        (0, 0, 0x80_9000, 0x2000, 2, 0),
        (0, 0, 0x80_0000, 0x6000, 3, 0),
    ];
    let mut descriptor = b"TDVF".to_vec();
    for word in [16 + 32 * sections.len() as u32, 1, sections.len() as u32] {
        descriptor.extend(word.to_le_bytes());
    }
    for (offset, raw, address, size, kind, attributes) in sections {
        descriptor.extend(offset.to_le_bytes().into_iter().chain(raw.to_le_bytes()));
        descriptor.extend(address.to_le_bytes().into_iter().chain(size.to_le_bytes()));
        descriptor.extend(kind.to_le_bytes().into_iter().chain(attributes.to_le_bytes()));
    }
    let mut table = (DESCRIPTOR_FROM_END as u32).to_le_bytes().to_vec();
    table.extend(22u16.to_le_bytes());
    table.extend(hex::decode("35657ae44a989847865e4685a7bf8ec2").unwrap());
    table.extend(40u16.to_le_bytes());
    table.extend(hex::decode("de82b596b21ff745baeaa366c55a082d").unwrap());

    let mut out = noise(9, STORE_BYTES + CODE_BYTES);
    let end = out.len();
    let at = end - DESCRIPTOR_FROM_END;
    out[at..at + descriptor.len()].copy_from_slice(&descriptor);
    out[end - 0x20 - table.len()..end - 0x20].copy_from_slice(&table);
    out
}

/// The packages of a whole made-up image, with the lock that pins them.
pub(crate) fn packages() -> (Lock, Vec<Vec<u8>>) {
    let module = |name: &str| format!("usr/lib/modules/{RELEASE}/kernel/{name}.ko.xz");
    let vmlinuz = format!("usr/lib/modules/{RELEASE}/vmlinuz");
    let packages = [
        package("firmware", &[(Role::Firmware, "usr/share/ovmf/OVMF.fd", firmware())]),
        package("store", &[(Role::VariableStore, "usr/share/OVMF/VARS.fd", variable_store())]),
        package("linux-binary", &[(Role::Kernel, &vmlinuz, kernel())]),
        package(
            "linux-modules",
            &[
                (Role::Module, &module("drivers/net/virtio_net"), noise(11, 900)),
                (Role::Module, &module("drivers/block/virtio_blk"), noise(12, 700)),
            ],
        ),
    ];
    let (pinned, debs): (Vec<_>, Vec<_>) = packages.into_iter().unzip();
    (Lock::new(pinned).unwrap(), debs)
}

fn package(name: &str, files: &[(Role, &str, Vec<u8>)]) -> (Package, Vec<u8>) {
    let mut tar = tar::Builder::new(Vec::new());
    for (_, path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        // As Debian writes names; the builder's own call would drop the dot.
        let path = format!("./{path}");
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut deb = b"!<arch>\n".to_vec();
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.xz", b""), ("data.tar", &tar)];
    for (member, content) in members {
        let size = content.len();
        deb.extend(format!("{member:<16}0           0     0     100644  {size:<10}`\n").bytes());
        deb.extend(content);
        deb.resize(deb.len().next_multiple_of(2), b'\n');
    }
    let pinned = files.iter().map(|(role, path, bytes)| PinnedFile {
        role: *role,
        path: (*path).to_owned(),
        size: bytes.len() as u64,
        sha256: sha256(bytes),
    });
    let package = Package {
        name: name.to_owned(),
        version: "1".to_owned(),
        architecture: "all".to_owned(),
        suite: "none".to_owned(),
        filename: format!("pool/{name}_1_all.deb"),
        size: deb.len() as u64,
        sha256: sha256(&deb),
        files: pinned.collect(),
    };
    (package, deb)
}

/// What the recipe of this tree asks for, of modules only those two.
pub(crate) const RECIPE: &str = r#"
version = 1
flavour = "stand-in"
firmware_profile = "202605"
qemu_min = "10.1.0"
cmdline = ["console=ttyS0", "quiet", "panic=-1", "lockdown=confidentiality"]
cmdline_debug = ["ignore_loglevel"]
listen_port = 8443
[network]
interface = "eth0"
address = "10.0.2.15"
prefix = 24
[[module]]
name = "virtio_net"
[[module]]
name = "virtio_blk"
[[sysctl]]
name = "kernel.kptr_restrict"
value = "2"
"#;

const RELEASE: &str = "7.3.4+stand-in";
const KERNEL_END: usize = 0x1000;
const STORE_BYTES: usize = 0x4000;
const CODE_BYTES: usize = 0x2000;
const DESCRIPTOR_FROM_END: usize = 0x400;
