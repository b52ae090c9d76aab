//! Measures what FORMAT.md §9 decides by: hash and cipher rates by chunk size, and what verifying
//! and unsealing cost against a plain read of the same file. Trusts nothing and decides nothing.
//!
//! `cargo run -p chrysalis-vault --example chunk_bench`; with `CHRYSALIS_MODEL_GGUF` the second
//! half uses that file instead of made-up bytes. Rounds alternate between the candidates and the
//! best of them counts; one-core rates are per second of CPU time, the others per second.

#![allow(clippy::print_stdout, clippy::arithmetic_side_effects, clippy::cast_precision_loss)]

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, Nonce};
use chrysalis_vault::{
    AssetSource, Bundle, ModelKey, PackFile, PackInput, SealWith, format, pack_file,
};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Work<'a> = dyn Fn(&mut [u8]) + Sync + 'a;

fn main() -> Outcome {
    let mut data = vec![0u8; 256 * MIB];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    println!("threads: {}; rates in GB/s, best of {ROUNDS}", rayon::current_num_threads());
    primitives(&mut data);
    let given = std::env::var_os("CHRYSALIS_MODEL_GGUF");
    let folder = tempfile::tempdir()?;
    let model = given.map_or_else(|| folder.path().join("weights.gguf"), Into::into);
    if !model.exists() {
        std::fs::write(&model, &data)?;
    }
    drop(data);
    bundles(&model, folder.path())
}

/// Hash and cipher rates by chunk size, on one core and on all.
fn primitives(data: &mut [u8]) {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let blake3 = |c: &mut [u8]| {
        let mut hasher = blake3::Hasher::new_derive_key(format::LEAF_CONTEXT);
        black_box(hasher.update(c).finalize());
    };
    let sha256 = |c: &mut [u8]| {
        black_box(Sha256::digest(c));
    };
    // Encryption in place costs what decryption does and cannot be refused.
    let gcm = |c: &mut [u8]| {
        let tag = cipher.encrypt_inout_detached(&Nonce::default(), b"", InOutBuf::from(c));
        black_box(tag.is_ok());
    };
    let both = |c: &mut [u8]| {
        gcm(c);
        blake3(c);
    };
    let candidates: [(&str, &Work<'_>); 4] =
        [("BLAKE3", &blake3), ("SHA-256", &sha256), ("AES-256-GCM", &gcm), ("GCM+BLAKE3", &both)];
    println!("\n{:>9} {:>24} {:>24}", "chunk", "one core", "all cores");
    for size in [16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB] {
        let mut best = [[f64::MAX; 2]; 4];
        for _ in 0..ROUNDS {
            for ((_, work), best) in candidates.iter().zip(&mut best) {
                let one = cpu_time(|| data.chunks_mut(size).for_each(work));
                let all = time(|| data.par_chunks_mut(size).for_each(work));
                *best = [best[0].min(one), best[1].min(all)];
            }
        }
        for ((name, _), [one, all]) in candidates.iter().zip(best) {
            let rate = |s: f64| data.len() as f64 / s / 1e9;
            println!("{:>5} KiB {name:>12} {:>11.2} {:>24.2}", size / KIB, rate(one), rate(all));
        }
    }
}

/// Loading a bundle against reading the same file, page cache warm.
fn bundles(model: &Path, folder: &Path) -> Outcome {
    let key = ModelKey::from_bytes(&[7; 32])?;
    let input = || -> Outcome<PackInput<'_>> {
        Ok(PackInput {
            name: "bench".to_owned(),
            architecture: "none".to_owned(),
            quantisation: None,
            tokenizer: AssetSource::None,
            chat_template: AssetSource::None,
            licence: None,
            files: vec![PackFile::open("model.gguf", model)?],
        })
    };
    let (plain, sealed) = (folder.join("plain"), folder.join("sealed"));
    let seal = SealWith { key: &key, salt: [9; 32] };
    let mut packs = [0.0; 2];
    let started = Instant::now();
    let root = pack_file(input()?, &plain, None, &|_, _| ())?.model_root;
    packs[0] = started.elapsed().as_secs_f64();
    let started = Instant::now();
    pack_file(input()?, &sealed, Some(&seal), &|_, _| ())?;
    packs[1] = started.elapsed().as_secs_f64();

    let bytes = std::fs::metadata(model)?.len();
    println!("\n{:.1} MB content, page cache warm: GB/s (ms)", bytes as f64 / 1e6);
    let mut best = [f64::MAX; 6];
    for _ in 0..ROUNDS {
        let mut measure = |i: usize, work: &mut dyn FnMut() -> Outcome| -> Outcome {
            let started = Instant::now();
            work()?;
            if let Some(b) = best.get_mut(i) {
                *b = b.min(started.elapsed().as_secs_f64());
            }
            Ok(())
        };
        measure(0, &mut || {
            let mut buffer = vec![0u8; usize::try_from(bytes)?];
            File::open(model)?.read_exact(&mut buffer)?;
            black_box(&buffer);
            Ok(())
        })?;
        let load = |path: &Path, key| -> Outcome<_> {
            Ok(Bundle::open(File::open(path)?)?.load(&root, key, &|_, _| ())?)
        };
        let mut kept = None;
        measure(1, &mut || {
            kept = Some(load(&plain, None)?);
            Ok(())
        })?;
        measure(2, &mut || {
            drop(kept.take());
            Ok(())
        })?;
        measure(3, &mut || {
            kept = Some(load(&sealed, Some(&key))?);
            Ok(())
        })?;
        drop(kept.take());
        let verify = |path: &Path, key| -> Outcome {
            let report = Bundle::open(File::open(path)?)?.verify(Some(&root), key, &|_, _| ())?;
            Ok(report.into_result()?)
        };
        measure(4, &mut || verify(&plain, None))?;
        measure(5, &mut || verify(&sealed, Some(&key)))?;
    }
    let names = ["plain read", "load", "wipe and free", "load sealed", "verify", "verify sealed"];
    for (name, seconds) in names.iter().zip(best).chain(["pack", "pack sealed"].iter().zip(packs)) {
        let rate = bytes as f64 / seconds / 1e9;
        println!("{name:>14} {rate:>7.2} ({:.0})", seconds * 1e3);
    }
    Ok(())
}

fn time(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// Time this thread was on a core, so that other work on the machine does not count.
fn cpu_time(work: impl FnOnce()) -> f64 {
    let on_core = || -> Option<f64> {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        stat.split(' ').next()?.parse().ok()
    };
    let (before, wall) = (on_core(), time(work));
    before.zip(on_core()).map_or(wall, |(before, after)| (after - before) / 1e9)
}

const ROUNDS: usize = 5;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
