//! Whole VM images from nothing: firmware, kernel and programs that no machine would start, but
//! that the image writer accepts and the measurement can be predicted of. For tests of what is done
//! with images, where no pinned package is at hand, and for benchmarks at the size of a real one.

#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use chrysalis_image::compose::Inputs;
use chrysalis_image::{Image, Lock, Package, PinnedFile, Programs, Recipe, Role, compose};
use chrysalis_wire::{Digest, ImagePlatform};
use sha2::{Digest as _, Sha256};

/// What an image is made of; [`Draft::small`] is one that works.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Fills the code of the firmware.
    pub code: u8,
    /// Size of the code of the firmware, in bytes; whole pages.
    pub code_bytes: usize,
    /// Fills the kernel.
    pub kernel: u8,
    /// Size of the kernel, in bytes.
    pub kernel_bytes: usize,
    /// Content of the worker, behind its ELF header.
    pub worker: Vec<u8>,
    /// Words of the kernel command line besides the console.
    pub cmdline: &'static str,
    /// What the image says it is for.
    pub platform: ImagePlatform,
    /// Whether it says that it is a debug image.
    pub debug: bool,
}

impl Draft {
    /// Some 40 KiB.
    pub fn small() -> Self {
        Self {
            code: 0x5a,
            code_bytes: 0x4000,
            kernel: 0x22,
            kernel_bytes: 0x2000,
            worker: b"worker".to_vec(),
            cmdline: "\"quiet\"",
            platform: ImagePlatform::Tdx,
            debug: false,
        }
    }

    /// The size of the CPU image of this tree.
    pub fn large() -> Self {
        let code_bytes = (4 << 20) - STORE_BYTES;
        Self { code_bytes, kernel_bytes: 11 << 20, worker: vec![7; 16 << 20], ..Self::small() }
    }

    /// The image.
    pub fn build(&self) -> Image {
        let path = |name: &str| format!("usr/lib/modules/{RELEASE}/{name}");
        let packages = [
            package("firmware", Role::Firmware, "usr/share/ovmf/OVMF.fd", &self.firmware()),
            package("variables", Role::VariableStore, "usr/share/OVMF/VARS.fd", &store()),
            package("linux", Role::Kernel, &path("vmlinuz"), &self.vmlinuz()),
            package("modules", Role::Module, &path("kernel/virtio_net.ko.xz"), b"a module"),
        ];
        let lock = Lock::new(packages.iter().map(|(p, _)| p.clone()).collect()).unwrap();
        let inputs = Inputs::collect(&lock, |wanted| {
            Ok(packages.iter().find(|(p, _)| p == wanted).unwrap().1.clone())
        });
        let programs = Programs { init: program(b"init"), worker: program(&self.worker) };
        let recipe = RECIPE.replace("@cmdline", self.cmdline);
        let recipe = Recipe::parse(recipe.as_bytes()).unwrap();
        compose(&recipe, &lock, &inputs.unwrap(), &programs, self.platform, self.debug).unwrap()
    }

    /// A TDVF file: a blank variable store, then code with the metadata at its end.
    fn firmware(&self) -> Vec<u8> {
        let (store_bytes, code_bytes) = (STORE_BYTES as u32, self.code_bytes as u32);
        let base = 0x1_0000_0000 - self.code_bytes as u64;
        // Offset and size in the file, address, size in memory, type, attributes.
        let sections: [(u32, u32, u64, u64, u32, u32); 4] = [
            (store_bytes, code_bytes, base, code_bytes.into(), 0, 1),
            (0, store_bytes, base - u64::from(store_bytes), store_bytes.into(), 1, 0),
            (0, 0, 0x81_0000, 0x1_0000, 3, 0),
            (0, 0, 0x80_9000, 0x2000, 2, 0),
        ];
        let mut descriptor = b"TDVF".to_vec();
        let count = sections.len() as u32;
        for word in [16 + 32 * count, 1, count] {
            descriptor.extend(word.to_le_bytes());
        }
        for (offset, raw, address, size, kind, attributes) in sections {
            descriptor.extend(offset.to_le_bytes().into_iter().chain(raw.to_le_bytes()));
            descriptor.extend(address.to_le_bytes().into_iter().chain(size.to_le_bytes()));
            descriptor.extend(kind.to_le_bytes().into_iter().chain(attributes.to_le_bytes()));
        }
        // The GUID table is read backwards: an entry that points to the descriptor, the footer.
        let mut table = (METADATA_FROM_END as u32).to_le_bytes().to_vec();
        table.extend(22u16.to_le_bytes().into_iter().chain(METADATA_GUID));
        let length = (table.len() + 18) as u16;
        table.extend(length.to_le_bytes().into_iter().chain(FOOTER_GUID));
        let mut out = store();
        out.resize(STORE_BYTES + self.code_bytes, self.code);
        let end = out.len();
        put(&mut out, end - METADATA_FROM_END, &descriptor);
        put(&mut out, end - 0x20 - table.len(), &table);
        out
    }

    /// A PE32+ file with one section, and the setup header of a kernel of [`RELEASE`].
    fn vmlinuz(&self) -> Vec<u8> {
        let (optional, sections) = (0x58, 0xf8);
        let mut out = vec![0u8; HEADERS];
        out.resize(self.kernel_bytes, self.kernel);
        for (at, bytes) in [(0, b"MZ".as_slice()), (0x40, b"PE\0\0"), (0x202, b"HdrS")] {
            put(&mut out, at, bytes);
        }
        for (at, word) in [(0x44, 0x8664u16), (0x46, 1), (0x54, 0xa0), (optional, 0x20b)] {
            put(&mut out, at, &word.to_le_bytes());
        }
        let body = (self.kernel_bytes - HEADERS) as u32;
        for (at, word) in [
            (0x3c, 0x40),
            (optional + 60, HEADERS as u32),
            (optional + 108, 6),
            (sections + 16, body),
            (sections + 20, HEADERS as u32),
        ] {
            put(&mut out, at, &word.to_le_bytes());
        }
        // Where the release stands, less 0x200.
        put(&mut out, 0x20e, &0x300u16.to_le_bytes());
        put(&mut out, 0x500, format!("{RELEASE} (nobody)\0").as_bytes());
        out
    }
}

/// A firmware volume with a variable store that holds nothing.
fn store() -> Vec<u8> {
    let mut out = vec![0u8; 16];
    out.extend(VARIABLES_GUID);
    out.extend((STORE_BYTES as u64).to_le_bytes());
    out.extend(b"_FVH");
    out.extend([0xff, 0xfe, 4, 0, 0x48, 0, 0, 0, 0, 0, 0, 2]);
    out.resize(0x48, 0);
    out.extend(STORE_GUID);
    out.extend(0x2000u32.to_le_bytes());
    out.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    out.resize(STORE_BYTES, 0xff);
    out
}

/// A static program: an ELF header, one loadable segment, and `content`.
pub fn program(content: &[u8]) -> Vec<u8> {
    let mut elf = vec![0u8; 120];
    put(&mut elf, 0, b"\x7fELF\x02\x01\x01");
    for (at, word) in [(16, 3u16), (18, 62), (32, 64), (54, 56), (56, 1), (64, 1)] {
        put(&mut elf, at, &word.to_le_bytes());
    }
    elf.extend_from_slice(content);
    elf
}

/// A Debian package with one file, uncompressed, and what a lock says of it.
fn package(name: &str, role: Role, path: &str, file: &[u8]) -> (Package, Vec<u8>) {
    let deb =
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar", &tar(path, file))]);
    let pinned =
        PinnedFile { role, path: path.to_owned(), size: file.len() as u64, sha256: digest(file) };
    let package = Package {
        name: name.to_owned(),
        version: "1".to_owned(),
        architecture: "all".to_owned(),
        suite: "trixie".to_owned(),
        filename: format!("pool/main/x/{name}_1_all.deb"),
        size: deb.len() as u64,
        sha256: digest(&deb),
        files: vec![pinned],
    };
    (package, deb)
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644).bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

/// One regular file, POSIX.1-1988 `ustar`.
fn tar(path: &str, file: &[u8]) -> Vec<u8> {
    let mut out = vec![0u8; 512];
    put(&mut out, 0, format!("./{path}").as_bytes());
    put(&mut out, 100, b"0000644\0");
    put(&mut out, 124, format!("{:011o}\0", file.len()).as_bytes());
    put(&mut out, 148, b"        0");
    put(&mut out, 257, b"ustar\x0000");
    let sum: u32 = out.iter().map(|b| u32::from(*b)).sum();
    put(&mut out, 148, format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(file);
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What the firmware calls itself; no table knows it.
pub const BIOS: [&str; 3] = ["nobody", "1", "01/01/2026"];

const RELEASE: &str = "7.3.4+test-amd64";
const STORE_BYTES: usize = 0x4000;
const METADATA_FROM_END: usize = 0x400;
const HEADERS: usize = 0x200;

const FOOTER_GUID: [u8; 16] = [
    0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
];
const METADATA_GUID: [u8; 16] = [
    0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
];
const VARIABLES_GUID: [u8; 16] = [
    0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50,
];
const STORE_GUID: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];

const RECIPE: &str = r#"
version = 1
flavour = "test"
firmware_profile = "202605"
qemu_min = "10.1.0"
cmdline = ["console=ttyS0", "panic=-1", @cmdline]
cmdline_debug = ["ignore_loglevel"]
listen_port = 8443

[network]
interface = "eth0"
address = "10.0.2.15"
prefix = 24

[[module]]
name = "virtio_net"

[[sysctl]]
name = "kernel.kptr_restrict"
value = "2"
"#;
