//! Helpers of the vault's tests: small bundles, and a forger that writes hostile bundles with
//! correct hashes, from FORMAT.md alone and without the packer under test.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, clippy::unwrap_used)]

use std::cell::Cell;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;

use chrysalis_vault::limits::CHUNK_BYTES;
use chrysalis_vault::{
    AssetSource, Bundle, ModelKey, PackFile, PackInput, VaultError, WeightBuffer, pack, pack_sealed,
};
use chrysalis_wire::Digest;

/// `len` bytes that repeat nowhere.
pub fn content(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
    out
}

pub fn input<'a>(files: &[(&str, &'a [u8])]) -> PackInput<'a> {
    PackInput {
        name: "Test".to_owned(),
        architecture: "llama".to_owned(),
        quantisation: Some("Q4_1".to_owned()),
        tokenizer: AssetSource::None,
        chat_template: AssetSource::None,
        licence: Some("Apache-2.0".to_owned()),
        files: files.iter().map(|(p, b)| PackFile::new(*p, Cursor::new(*b))).collect(),
    }
}

pub fn packed(files: &[(&str, &[u8])]) -> (Vec<u8>, Digest) {
    let mut out = Vec::new();
    let report = pack(input(files), &mut out, &|_, _| ()).unwrap();
    (out, report.model_root)
}

pub fn key(seed: u8) -> ModelKey {
    ModelKey::from_bytes(&[seed; 32]).unwrap()
}

pub fn sealed(files: &[(&str, &[u8])], key_seed: u8, salt: u8) -> (Vec<u8>, Digest) {
    let mut out = Vec::new();
    let report =
        pack_sealed(input(files), &mut out, &key(key_seed), [salt; 32], &|_, _| ()).unwrap();
    (out, report.model_root)
}

pub fn load(
    bytes: &[u8],
    root: &Digest,
    key: Option<&ModelKey>,
) -> Result<WeightBuffer, VaultError> {
    Bundle::open(Cursor::new(bytes))?.load(root, key, &|_, _| ())
}

/// The refusal, as an error without the buffer that must not exist.
pub fn refusal(bytes: &[u8], root: &Digest, key: Option<&ModelKey>) -> VaultError {
    load(bytes, root, key).map(|_| ()).unwrap_err()
}

/// Where the sections of a bundle lie, computed from its header as FORMAT §2 says.
pub struct Sections {
    pub manifest: Range<usize>,
    pub table: Range<usize>,
    pub content: Range<usize>,
    pub padding: Range<usize>,
    /// Bytes one whole chunk takes.
    pub stride: usize,
}

pub fn sections(bundle: &[u8]) -> Sections {
    let number = |r: Range<usize>| {
        bundle[r].iter().fold(0usize, |n, &b| n.checked_mul(256).unwrap() + usize::from(b))
    };
    let tag = if number(12..16) == 1 { 16 } else { 0 };
    let (manifest_len, total) = (number(20..24), number(24..32));
    let chunks = total.div_ceil(CHUNK_BYTES);
    let table = 160 + manifest_len;
    let content = table + 32 * chunks + tag;
    let padding = content + total + tag * chunks;
    Sections {
        manifest: 160..table,
        table: table..content,
        content: content..padding,
        padding: padding..bundle.len(),
        stride: CHUNK_BYTES + tag,
    }
}

/// A bundle that is not sealed, with correct hashes over whatever it is given.
pub struct Forge {
    pub manifest: Vec<u8>,
    pub content: Vec<u8>,
    /// Content length in the header, when it should lie.
    pub total: Option<u64>,
}

impl Forge {
    pub fn new(files: &[(&str, u64)], content: Vec<u8>) -> Self {
        Self { manifest: manifest(files), content, total: None }
    }

    pub fn build(&self) -> (Vec<u8>, Digest) {
        let leaves: Vec<[u8; 32]> = self
            .content
            .chunks(CHUNK_BYTES)
            .map(|c| blake3::derive_key("chrysalis/vault/1/leaf", c))
            .collect();
        let tree = tree(&leaves);
        let manifest_digest = blake3::derive_key("chrysalis/vault/1/manifest", &self.manifest);
        let total = self.total.unwrap_or(self.content.len() as u64).to_be_bytes();
        let chunk = CHUNK_BYTES as u64;
        let root = [&manifest_digest[..], &tree, &total, &chunk.to_be_bytes()].concat();
        let root = blake3::derive_key("chrysalis/vault/1/root", &root);
        let manifest_len = u32::try_from(self.manifest.len()).unwrap();
        let mut out = [&b"CHRYSBDL"[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0]].concat();
        out.extend(manifest_len.to_be_bytes());
        out.extend(total);
        out.extend(manifest_digest);
        out.extend(tree);
        out.extend([0; 64]);
        out.extend(&self.manifest);
        out.extend(leaves.concat());
        out.extend(&self.content);
        out.resize(out.len().next_multiple_of(4096), 0);
        (out, Digest(root))
    }
}

/// Canonical manifest bytes over any paths, also ones the packer refuses.
pub fn manifest(files: &[(&str, u64)]) -> Vec<u8> {
    let mut out = b"CVM1".to_vec();
    let text = |out: &mut Vec<u8>, t: &str| {
        out.extend(u32::try_from(t.len()).unwrap().to_be_bytes());
        out.extend(t.as_bytes());
    };
    text(&mut out, "Test");
    text(&mut out, "llama");
    // No quantisation, tokenizer, chat template or licence.
    out.extend([0; 4]);
    out.extend(u32::try_from(files.len()).unwrap().to_be_bytes());
    for (path, size) in files {
        text(&mut out, path);
        out.extend(size.to_be_bytes());
    }
    out
}

/// Recursive, where the crate goes level by level: RFC 6962 §2.1 as written.
fn tree(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => [0; 32],
        [one] => *one,
        many => {
            let split = many.len().next_power_of_two() / 2;
            let (left, right) = many.split_at(split);
            blake3::derive_key("chrysalis/vault/1/node", &[tree(left), tree(right)].concat())
        }
    }
}

/// A disk that claims `claimed` bytes and has `bytes`.
pub struct LyingDisk<'a> {
    pub bytes: Cursor<&'a [u8]>,
    pub claimed: u64,
}

impl Read for LyingDisk<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(out)
    }
}

impl Seek for LyingDisk<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::End(0) => Ok(self.claimed),
            other => self.bytes.seek(other),
        }
    }
}

/// A disk that takes a few milliseconds for a chunk and counts what was read.
pub struct MeteredDisk<'a> {
    pub bytes: Cursor<&'a [u8]>,
    pub read: &'a Cell<usize>,
}

impl Read for MeteredDisk<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.len() > CHUNK_BYTES / 2 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let n = self.bytes.read(out)?;
        self.read.set(self.read.get() + n);
        Ok(n)
    }
}

impl Seek for MeteredDisk<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

/// A disk that returns one byte at a time and is interrupted before every other one.
pub struct SlowDisk<'a> {
    pub bytes: Cursor<&'a [u8]>,
    pub reads: u64,
}

impl Read for SlowDisk<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads.is_multiple_of(2) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let one = out.len().min(1);
        self.bytes.read(&mut out[..one])
    }
}

impl Seek for SlowDisk<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}
