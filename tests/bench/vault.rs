//! Verifying and unsealing a bundle against a plain read of the same file and against what one
//! core of this CPU hashes and decrypts. The bundles are made here, in a directory of their own.

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, Nonce};
use anyhow::{Context as _, Result, anyhow};
use chrysalis_tests::model;
use chrysalis_vault::{Bundle, ModelKey, PackInput, SealWith, format, pack_file};
use chrysalis_wire::Digest;
use tempfile::TempDir;

use crate::report::{Better, Comparison};

/// Throughput of loading, verified and unsealed.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Comparison>> {
    crate::progress("vault against a plain read and this CPU's rates");
    let gguf = model().context("the default model is not here; run scripts/fetch-model")?;
    let bytes = std::fs::metadata(&gguf)?.len();
    let folder = TempDir::new()?;
    let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed"));
    let key = ModelKey::from_bytes(&[7; 32])?;
    let pack = |to: &Path, seal: Option<&SealWith<'_>>| -> Result<Digest> {
        let input = PackInput::from_gguf("model.gguf", "bench", File::open(&gguf)?)?;
        Ok(pack_file(input, to, seal, &|_, _| ())?.model_root)
    };
    let root = pack(&plain, None)?;
    pack(&sealed, Some(&SealWith { key: &key, salt: [9; 32] }))?;

    // Bytes per nanosecond are GB per second.
    let rate = |bytes: u64, time: Duration| bytes as f64 / time.as_nanos() as f64;
    let title = format!("Vault: a bundle of {:.0} MB, page cache warm", bytes as f64 / 1e6);
    let candidates = [
        "verify (load)",
        "unseal and verify (load)",
        "plain read into new memory",
        "plain read into warm memory",
        "BLAKE3, one core",
        "AES-256-GCM decryption, one core",
    ];
    let mut out = Comparison::new(title, "GB/s", Better::More, candidates)
        .ratio(0, 2)
        .ratio(0, 3)
        .ratio(0, 4)
        .ratio(1, 2)
        .ratio(1, 3)
        .ratio(1, 5)
        .ratio(1, 0)
        .note("loading uses every core, into new locked memory; rates are over 1 MiB in cache");
    let mut buffer = vec![0u8; MIB];
    let mut warm = std::fs::read(&plain)?;
    let sizes = [bytes, bytes, warm.len() as u64, warm.len() as u64, PASS_BYTES, PASS_BYTES];
    for round in 0..=rounds.saturating_mul(ROUNDS_FACTOR) {
        let verified = load(&plain, &root, None)?;
        let unsealed = load(&sealed, &root, Some(&key))?;
        let started = Instant::now();
        let new = std::fs::read(&plain)?;
        let reading = started.elapsed();
        drop(black_box(new));
        let started = Instant::now();
        File::open(&plain)?.read_exact(&mut warm)?;
        let rereading = started.elapsed();
        black_box(&warm);
        let (hashed, decrypted) = (hash(&buffer), decrypt(&mut buffer)?);
        let times = [verified, unsealed, reading, rereading, hashed, decrypted];
        // The first round warms caches and clocks.
        if round > 0 {
            let mut figures = [0.0; 6];
            for ((figure, size), time) in figures.iter_mut().zip(sizes).zip(times) {
                *figure = rate(size, time);
            }
            out.round(&figures);
        }
    }
    Ok(vec![out])
}

/// From a closed file to verified weights in memory; wiping them is not included.
fn load(path: &Path, root: &Digest, key: Option<&ModelKey>) -> Result<Duration> {
    let started = Instant::now();
    let weights = Bundle::open(File::open(path)?)?.load(root, key, &|_, _| ())?;
    let time = started.elapsed();
    black_box(&weights);
    Ok(time)
}

/// Hashes as a leaf of the bundle is hashed.
fn hash(buffer: &[u8]) -> Duration {
    let started = Instant::now();
    for _ in 0..PASSES {
        let mut hasher = blake3::Hasher::new_derive_key(format::LEAF_CONTEXT);
        black_box(hasher.update(black_box(buffer)).finalize());
    }
    started.elapsed()
}

/// Decrypts in place what it encrypts in between.
fn decrypt(buffer: &mut [u8]) -> Result<Duration> {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let nonce = Nonce::default();
    let refused = |_| anyhow!("AES-256-GCM refused its own ciphertext");
    let mut time = Duration::ZERO;
    for _ in 0..PASSES {
        let tag = cipher
            .encrypt_inout_detached(&nonce, b"", InOutBuf::from(&mut *buffer))
            .map_err(refused)?;
        let started = Instant::now();
        cipher
            .decrypt_inout_detached(&nonce, b"", InOutBuf::from(&mut *buffer), &tag)
            .map_err(refused)?;
        time += started.elapsed();
    }
    Ok(time)
}

const MIB: usize = 1 << 20;
const PASSES: u32 = 64;
const PASS_BYTES: u64 = PASSES as u64 * MIB as u64;
/// A load takes a fraction of a second, so there is time for more of them.
const ROUNDS_FACTOR: usize = 3;
