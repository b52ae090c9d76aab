//! The root of an image that has one: a disk of the host, copied into the memory of the guest while
//! it is hashed, and mounted only if its dm-verity root hash is the measured one.
//!
//! The copy leaves no time between check and use: what was hashed is what is mounted, and the host
//! cannot reach it. The kernel's own dm-verity would read the disk again at each use, and setting
//! it up takes `unsafe` ioctls and three modules. The price is memory: the size of the root, at
//! most [`chrysalis_wire::image::MAX_ROOT_BYTES`]. The hash tree is computed, not read, so no byte
//! of the host but the data itself is looked at.
//!
//! The copy is a file on a ramfs and not on a tmpfs, because EROFS takes no file of the latter. The
//! root is mounted over that ramfs: nobody can name the copy any more, and it is read-only besides.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chrysalis_wire::Digest;
use chrysalis_wire::guest::ROOT_DIR;
use chrysalis_wire::image::{ROOT_BLOCK_BYTES, RootSection};
use sha2::{Digest as _, Sha256};

use crate::below;
use crate::error::InitError;
use crate::kernel::Kernel;
use crate::mounts::ROOT_COPY;

/// Copies, checks and mounts the root on `disk`; returns how many blocks it has.
///
/// # Errors
/// [`InitError::RootSize`] and [`InitError::RootHash`] for a disk that is not the measured root,
/// [`InitError::Unreadable`], [`InitError::Unwritable`] and [`InitError::Mount`].
pub fn mount(
    root: &Path,
    kernel: &dyn Kernel,
    disk: &str,
    section: &RootSection,
) -> Result<usize, InitError> {
    let target = below(root, ROOT_DIR);
    let unmounted = |e: std::io::Error| InitError::Mount { target: TARGET, kind: e.kind() };
    fs::create_dir(&target)
        .map_err(|e| InitError::Unwritable { what: "directory of the root", kind: e.kind() })?;
    kernel.mount(&ROOT_COPY, &target).map_err(unmounted)?;
    let copy = target.join(COPY);
    let blocks = copy_checked(&root.join("dev").join(disk), &copy, section)?;
    kernel.seal_mount(&target, ROOT_COPY.flags).map_err(unmounted)?;
    kernel.mount_root(&copy, &target).map_err(unmounted)?;
    Ok(blocks)
}

/// Copies `section.bytes` of `disk` to `copy`; each block is hashed as it was written.
fn copy_checked(disk: &Path, copy: &Path, section: &RootSection) -> Result<usize, InitError> {
    let unreadable =
        |e: std::io::Error| InitError::Unreadable { what: "root disk", kind: e.kind() };
    let unwritable =
        |e: std::io::Error| InitError::Unwritable { what: "root copy", kind: e.kind() };
    let mut disk = File::open(disk).map_err(unreadable)?;
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(copy)
        .map_err(unwritable)?;
    let size = |got| InitError::RootSize { expected: section.bytes, got };
    let mut hashes = Vec::new();
    let mut block = [0; BLOCK_BYTES];
    let mut got = 0u64;
    while got < section.bytes {
        disk.read_exact(&mut block).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => size(got),
            _ => unreadable(e),
        })?;
        hashes.extend_from_slice(&Sha256::digest(block));
        copy.write_all(&block).map_err(unwritable)?;
        got = got.saturating_add(ROOT_BLOCK_BYTES);
    }
    // The disk ends where the measured root ends.
    if disk.read(&mut block).map_err(unreadable)? != 0 {
        return Err(size(got.saturating_add(1)));
    }
    let blocks = hashes.len().div_euclid(Digest::LEN);
    let got = root_hash(hashes);
    if got != section.hash {
        return Err(InitError::RootHash { expected: section.hash, got });
    }
    Ok(blocks)
}

/// The root over the hashes of all blocks: 128 to a block, padded with zeros, level upon level
/// until one block is left (Linux `admin-guide/device-mapper/verity.rst`, hash type 1, no salt).
fn root_hash(mut hashes: Vec<u8>) -> Digest {
    while hashes.len() > Digest::LEN {
        hashes.resize(hashes.len().next_multiple_of(BLOCK_BYTES), 0);
        hashes = hashes.chunks(BLOCK_BYTES).flat_map(Sha256::digest).collect();
    }
    let mut root = [0; Digest::LEN];
    for (to, from) in root.iter_mut().zip(hashes) {
        *to = from;
    }
    Digest(root)
}

/// [`ROOT_DIR`] below the root, as refusals name it.
const TARGET: &str = "chrysalis/root";

/// Name of the copy; hidden once the root is mounted over it.
const COPY: &str = "copy";

const BLOCK_BYTES: usize = ROOT_BLOCK_BYTES as usize;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    /// The data of the host's tests: so many blocks that no two are alike.
    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK_BYTES).map(|i| (i / 7) as u8 ^ (i / BLOCK_BYTES) as u8).collect()
    }

    fn section(data: &[u8]) -> RootSection {
        let hashes = data.chunks(BLOCK_BYTES).flat_map(Sha256::digest).collect();
        RootSection { hash: root_hash(hashes), bytes: data.len() as u64 }
    }

    fn mount_disk(disk: &[u8], section: &RootSection) -> (Result<usize, InitError>, Vec<String>) {
        let fake = Fake::new();
        fake.write_bytes("dev/vdc", disk);
        let result = mount(fake.root(), &fake, "vdc", section);
        if result.is_ok() {
            assert_eq!(fs::read(fake.root().join("chrysalis/root/copy")).unwrap(), disk);
        }
        (result, fake.log())
    }

    #[test]
    fn the_root_hash_is_the_one_of_veritysetup() {
        // `veritysetup format --salt=-` over `data`.
        for (blocks, expected) in VERITYSETUP {
            assert_eq!(section(&data(blocks)).hash.to_string(), expected, "{blocks} blocks");
        }
    }

    #[test]
    fn mounts_a_checked_copy_over_itself() {
        let data = data(130);
        let (result, log) = mount_disk(&data, &section(&data));
        assert_eq!(result, Ok(130));
        assert_eq!(log, ["mount ramfs", "seal chrysalis/root", "mount erofs chrysalis/root/copy"]);
    }

    #[test]
    fn refuses_any_flipped_byte_before_the_kernel_parses_one() {
        let good = data(130);
        let section = section(&good);
        for at in (0..good.len()).step_by(BLOCK_BYTES * 5 + 4093) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let (result, log) = mount_disk(&bad, &section);
            assert!(matches!(result, Err(InitError::RootHash { .. })), "byte {at}: {result:?}");
            assert_eq!(log, ["mount ramfs"]);
        }
    }

    #[test]
    fn refuses_a_disk_shorter_or_longer_than_the_measured_root() {
        let good = data(3);
        let section = section(&good);
        let expected = section.bytes;
        for (disk, got) in [
            (good[..0].to_vec(), 0),
            (good[..BLOCK_BYTES].to_vec(), 4096),
            (good[..good.len() - 1].to_vec(), 8192),
            ([good.clone(), vec![0]].concat(), expected + 1),
            ([good.clone(), vec![0; BLOCK_BYTES]].concat(), expected + 1),
        ] {
            let (result, log) = mount_disk(&disk, &section);
            assert_eq!(result, Err(InitError::RootSize { expected, got }));
            assert_eq!(log, ["mount ramfs"]);
        }
    }

    #[test]
    fn refuses_another_measured_hash() {
        let data = data(2);
        let section = RootSection { hash: Digest([1; 32]), ..section(&data) };
        let (result, _) = mount_disk(&data, &section);
        assert!(matches!(result, Err(InitError::RootHash { expected: Digest([1, ..]), .. })));
    }

    #[test]
    fn refuses_to_go_on_when_the_kernel_does_not_mount_it() {
        let data = data(1);
        for refused in ["mount ramfs", "seal chrysalis/root", "mount erofs chrysalis/root/copy"] {
            let fake = Fake::new().refusing(refused);
            fake.write_bytes("dev/vdc", &data);
            let result = mount(fake.root(), &fake, "vdc", &section(&data));
            assert!(matches!(result, Err(InitError::Mount { target: "chrysalis/root", .. })));
        }
    }

    #[test]
    fn refuses_a_disk_that_cannot_be_opened() {
        let fake = Fake::new();
        let result = mount(fake.root(), &fake, "vdc", &section(&data(1)));
        assert!(matches!(result, Err(InitError::Unreadable { what: "root disk", .. })));
    }

    const VERITYSETUP: [(usize, &str); 5] = [
        (1, "b545442954616d59a9c18444ea40524b564a41a105b6ee7a643a9c0f93dcd198"),
        (2, "06ee2cd325303df9f7f83f66b8c34062852f4e9bad38861230b0b269a401904d"),
        (128, "2c0109c2b1f37cfae83eddd362350cb4f03aa40edf7b8de9a09db89623dc3d5a"),
        (129, "a57a6ea67fefaef497eeac623b6335122aa24c3f8ff4a22a0628b1cd00c0cf9f"),
        (16385, "278cd9806e76dadb2fe6913ed4a944898c1d6771872deeb14603b5c839857946"),
    ];
}
