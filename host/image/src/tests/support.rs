//! Small stand-ins for packages, programs, kernels and firmware.

use std::path::PathBuf;

use chrysalis_wire::{Digest, ImagePlatform};

use crate::bytes::sha256;
use crate::compose::Inputs;
use crate::{Image, Lock, Package, PinnedFile, Programs, Recipe, Role, compose};

/// How a made-up package is compressed.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    Plain,
    Xz,
    Zstd,
}

/// What a made-up package holds at a path.
pub(crate) enum Node<'a> {
    File(&'a [u8]),
    Link(&'a str),
    HardLink(&'a str),
}

/// A Debian package.
pub(crate) fn deb(entries: &[(&str, Node<'_>)], packing: Packing) -> Vec<u8> {
    let tar = tar(entries);
    let (name, data) = match packing {
        Packing::Plain => ("data.tar", tar),
        Packing::Xz => ("data.tar.xz", xz(&tar)),
        Packing::Zstd => ("data.tar.zst", zstd(&tar)),
    };
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b""), (name, &data)])
}

pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        out.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).bytes(),
        );
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

pub(crate) fn tar(entries: &[(&str, Node<'_>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, node) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let (kind, content): (_, &[u8]) = match node {
            Node::File(content) => (tar::EntryType::Regular, content),
            Node::Link(_) => (tar::EntryType::Symlink, b""),
            Node::HardLink(_) => (tar::EntryType::Link, b""),
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        if let Node::Link(to) | Node::HardLink(to) = node {
            header.set_link_name(to).unwrap();
        }
        // `append_data` would refuse hostile names; they are put in as they are.
        let name = format!("./{path}");
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(0);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    std::io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap()
}

/// A frame of raw blocks, RFC 8878 3.1.1: a size of 4 bytes, one segment, no checksum.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    let count = bytes.chunks(100_000).count();
    for (index, block) in bytes.chunks(100_000).enumerate() {
        let last = u32::from(index + 1 == count);
        let header = last | (u32::try_from(block.len()).unwrap() << 3);
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}

/// A static ELF program: a header, one loadable segment, and `content`.
pub(crate) fn program(content: &[u8]) -> Vec<u8> {
    let mut elf = vec![0u8; 120];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16..18].copy_from_slice(&3u16.to_le_bytes());
    elf[18..20].copy_from_slice(&62u16.to_le_bytes());
    elf[32..40].copy_from_slice(&64u64.to_le_bytes());
    elf[54..56].copy_from_slice(&56u16.to_le_bytes());
    elf[56..58].copy_from_slice(&1u16.to_le_bytes());
    elf[64..68].copy_from_slice(&1u32.to_le_bytes());
    elf.extend_from_slice(content);
    elf
}

/// The header of a kernel of release [`RELEASE`].
pub(crate) fn kernel() -> Vec<u8> {
    let mut image = vec![0u8; 4096];
    image[..2].copy_from_slice(b"MZ");
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x300u16.to_le_bytes());
    let version = format!("{RELEASE} (somebody@somewhere)\0");
    image[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
    image
}

/// A blank variable store of [`STORE_BYTES`].
pub(crate) fn store() -> Vec<u8> {
    let mut store = vec![0xffu8; STORE_BYTES];
    store[..16].fill(0);
    store[16..32].copy_from_slice(&[
        0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f,
        0x50,
    ]);
    store[40..44].copy_from_slice(b"_FVH");
    store[48..50].copy_from_slice(&0x48u16.to_le_bytes());
    store[0x48..0x58].copy_from_slice(&[
        0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77,
        0x92,
    ]);
    store[0x58..0x5c].copy_from_slice(&0x1fb8u32.to_le_bytes());
    store
}

/// A TDVF firmware of 64 KiB with an enrolled variable store.
pub(crate) fn tdvf() -> Vec<u8> {
    let size = 0x10000usize;
    let mut firmware = vec![0x5au8; size];
    let code = u32::try_from(size - STORE_BYTES).unwrap();
    let variables = u32::try_from(STORE_BYTES).unwrap();
    let sections: [(u32, u32, u64, u64, u32, u32); 4] = [
        (variables, code, 0xffff_4000, code.into(), 0, 1),
        (0, variables, 0xffff_0000, variables.into(), 1, 0),
        (0, 0, 0x80_9000, 0x2000, 2, 0),
        (0, 0, 0x80_0000, 0x6000, 3, 0),
    ];
    let mut descriptor = b"TDVF".to_vec();
    for number in [16 + 32 * 4u32, 1, 4] {
        descriptor.extend(number.to_le_bytes());
    }
    for (offset, raw, address, size, kind, attributes) in sections {
        descriptor.extend(offset.to_le_bytes());
        descriptor.extend(raw.to_le_bytes());
        descriptor.extend(address.to_le_bytes());
        descriptor.extend(size.to_le_bytes());
        descriptor.extend(kind.to_le_bytes());
        descriptor.extend(attributes.to_le_bytes());
    }
    let at = size - DESCRIPTOR_FROM_END;
    firmware[at..at + descriptor.len()].copy_from_slice(&descriptor);
    // The GUID table, written backwards: footer, an entry of somebody else, ours.
    let mut end = size - 32;
    let mut put = |data: &[u8], length: u16, guid: [u8; 16]| {
        firmware[end - 16..end].copy_from_slice(&guid);
        firmware[end - 18..end - 16].copy_from_slice(&length.to_le_bytes());
        firmware[end - 18 - data.len()..end - 18].copy_from_slice(data);
        end -= 18 + data.len();
    };
    put(
        &[],
        18 + 22 + 22,
        [
            0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a,
            0x08, 0x2d,
        ],
    );
    put(&[1, 2, 3, 4], 22, [7; 16]);
    put(
        &u32::try_from(DESCRIPTOR_FROM_END).unwrap().to_le_bytes(),
        22,
        [
            0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf,
            0x8e, 0xc2,
        ],
    );
    firmware
}

/// A package and its bytes.
pub(crate) fn package(name: &str, files: &[(Role, &str, &[u8])]) -> (Package, Vec<u8>) {
    let entries: Vec<_> = files.iter().map(|(_, path, bytes)| (*path, Node::File(bytes))).collect();
    let deb = deb(&entries, Packing::Xz);
    let pinned = files.iter().map(|(role, path, bytes)| PinnedFile {
        role: *role,
        path: (*path).to_owned(),
        size: bytes.len() as u64,
        sha256: sha256(bytes),
    });
    let package = Package {
        name: name.to_owned(),
        version: "1:2.3-4".to_owned(),
        architecture: "all".to_owned(),
        suite: "trixie".to_owned(),
        filename: format!("pool/main/x/{name}_2.3-4_all.deb"),
        size: deb.len() as u64,
        sha256: sha256(&deb),
        files: pinned.collect(),
    };
    (package, deb)
}

/// The packages of a whole made-up image.
pub(crate) fn packages() -> Vec<(Package, Vec<u8>)> {
    let module = |name: &str| format!("usr/lib/modules/{RELEASE}/kernel/{name}.ko.xz");
    let (net, tdx) = (module("drivers/net/virtio_net"), module("virt/tdx-guest"));
    vec![
        package("firmware", &[(Role::Firmware, "usr/share/ovmf/OVMF.fd", &tdvf())]),
        package("variables", &[(Role::VariableStore, "usr/share/OVMF/VARS.fd", &store())]),
        package(
            "linux-binary",
            &[(Role::Kernel, &format!("usr/lib/modules/{RELEASE}/vmlinuz"), &kernel())],
        ),
        package(
            "linux-modules",
            &[(Role::Module, &net, b"net module"), (Role::Module, &tdx, b"tdx module")],
        ),
    ]
}

pub(crate) fn lock() -> Lock {
    lock_of(&packages())
}

pub(crate) fn lock_of(packages: &[(Package, Vec<u8>)]) -> Lock {
    Lock::new(packages.iter().map(|(package, _)| package.clone()).collect()).unwrap()
}

pub(crate) fn inputs(lock: &Lock) -> Inputs {
    inputs_of(&packages(), lock)
}

pub(crate) fn inputs_of(packages: &[(Package, Vec<u8>)], lock: &Lock) -> Inputs {
    Inputs::collect(lock, |wanted| {
        Ok(packages.iter().find(|(p, _)| p == wanted).unwrap().1.clone())
    })
    .unwrap()
}

pub(crate) const RECIPE: &str = r#"
version = 1
flavour = "test"
firmware_profile = "202605"
qemu_min = "10.1.0"
cmdline = ["console=ttyS0", "quiet", "panic=-1"]
cmdline_debug = ["ignore_loglevel"]
listen_port = 8443

[network]
interface = "eth0"
address = "10.0.2.15"
prefix = 24

[[module]]
name = "virtio_net"
[[module]]
name = "tdx-guest"
platform = "tdx"

[[sysctl]]
name = "kernel.kptr_restrict"
value = "2"
"#;

pub(crate) fn recipe() -> Recipe {
    Recipe::parse(RECIPE.as_bytes()).unwrap()
}

pub(crate) fn programs() -> Programs {
    Programs { init: program(b"init"), worker: program(b"worker, a little longer") }
}

pub(crate) fn image(platform: ImagePlatform, debug: bool) -> Image {
    let lock = lock();
    compose(&recipe(), &lock, &inputs(&lock), &programs(), platform, debug).unwrap()
}

/// The directory of pinned packages, or `None` where there is none. A variable that names
/// something else is a mistake, not a reason to skip.
pub(crate) fn pinned_inputs() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("CHRYSALIS_INPUTS").map(PathBuf::from) {
        assert!(given.is_dir(), "CHRYSALIS_INPUTS names no directory: {}", given.display());
        return Some(given);
    }
    let dir = tree().join("../shared/inputs");
    dir.is_dir().then_some(dir)
}

/// The root of the source tree.
pub(crate) fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A small generator for repeatable random cases (SplitMix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

pub(crate) fn no_digest() -> Digest {
    Digest([0x11; 32])
}

pub(crate) const RELEASE: &str = "7.3.4+test-amd64";
pub(crate) const STORE_BYTES: usize = 0x4000;
pub(crate) const DESCRIPTOR_FROM_END: usize = 0x1000;
