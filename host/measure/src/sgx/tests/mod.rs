//! Tests on vectors that Gramine's signer, Fortanix and Intel made, and on inputs that must be
//! refused. The vectors are other people's data and stay outside the tree: `$CHRYSALIS_VECTORS`,
//! or `shared/vectors` beside the workspace. Where the folder is absent these tests say
//! `skipped`; where it is present a missing file fails them.

mod elf;
mod key;
mod layout;
mod manifest;
mod pin;
mod properties;
mod sigstruct;
mod stream;
mod template;
mod vectors;

use std::path::PathBuf;

use chrysalis_wire::Digest;

use super::{EnclaveAttributes, SigningDate, SigstructBody};

/// Bytes of a vector; `None` (and a line on stderr) where the vectors folder is absent.
fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    let file = root.join("sgx").join(name);
    Some(std::fs::read(&file).unwrap_or_else(|e| panic!("vector sgx/{name} is missing: {e}")))
}

/// A file of `tests/fixtures`. The keys there are FAKE: everybody has them.
fn fixture(name: &str) -> Vec<u8> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
    std::fs::read(format!("{dir}{name}")).unwrap()
}

/// What the signing tests sign.
fn body() -> SigstructBody {
    SigstructBody {
        date: "2026-11-25".parse::<SigningDate>().unwrap(),
        mrenclave: Digest([0x5a; 32]),
        attributes: EnclaveAttributes {
            flags: 4,
            flags_mask: u64::MAX,
            xfrm: 7,
            xfrm_mask: 0xffff_ffff_fff9_ff1f,
            misc_select: 0,
            misc_mask: u32::MAX,
        },
        isv_prod_id: 7,
        isv_svn: 3,
    }
}

/// A manifest that measures, and that tests change.
const MANIFEST: &str = r#"
libos.entrypoint = "/worker"
loader.entrypoint.uri = "file:/libsysdb.so"
loader.entrypoint.sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
[sgx]
enclave_size = "16M"
max_threads = 4
edmm_enable = false
debug = false
isvprodid = 7
isvsvn = 3
remote_attestation = "dcap"
[[sgx.trusted_files]]
uri = "file:/worker"
sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
"#;

/// One PT_LOAD of a loader made for a test.
#[derive(Clone, Copy)]
struct Load {
    flags: u32,
    offset: u64,
    address: u64,
    file: u64,
    memory: u64,
}

const CODE: Load = Load { flags: 5, offset: 0, address: 0, file: 0x2bc, memory: 0x2bc };
const DATA: Load = Load { flags: 6, offset: 0xf00, address: 0x1f00, file: 0x104, memory: 0x204 };

/// A shared object of 8 KiB with these segments, its bytes counted up; entry point 0x260.
fn shared_object(loads: &[Load]) -> Vec<u8> {
    let mut file: Vec<u8> = (0..0x2000u32).map(|n| (n % 251) as u8).collect();
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put(16, &[3, 0, 62, 0, 1, 0, 0, 0]);
    put(24, &0x260u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0]);
    put(56, &(loads.len() as u16).to_le_bytes());
    for (index, load) in loads.iter().enumerate() {
        let at = 64 + 56 * index;
        put(at, &1u32.to_le_bytes());
        put(at + 4, &load.flags.to_le_bytes());
        for (field, value) in
            [(8, load.offset), (16, load.address), (32, load.file), (40, load.memory)]
        {
            put(at + field, &value.to_le_bytes());
        }
    }
    file
}
