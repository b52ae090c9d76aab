//! `chrysalis measure image` and `chrysalis release verify --image` as a user runs them, against
//! hashing the same files once in this process. The image is that of this tree around programs of
//! its size where the pinned packages are at hand, else one made here of the same size.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrysalis_image::{Existing, write};
use chrysalis_tests::small_image::{BIOS, Draft, program};
use chrysalis_tests::{bin, root};
use sha2::{Digest, Sha256, Sha384};
use tempfile::TempDir;

use crate::report::{Better, Comparison};
use crate::request::millis;

/// Both commands and both hashes, in turn.
pub(crate) fn measure(rounds: usize) -> Result<Comparison> {
    crate::progress("measuring an image and verifying its release");
    let folder = TempDir::new()?;
    let at = |name: &str| folder.path().join(name);
    let (image, release, manifest) = (at("image"), at("release"), at("worker.toml"));
    let (origin, names) = make(folder.path(), &image)?;
    std::fs::write(&manifest, worker_manifest())?;
    let (image_at, release, manifest) = (image.display(), release.display(), manifest.display());
    let with = format!("--image {image_at} {names}");
    chrysalis(&format!("release build --release 0.0.0 --all-shapes --out {release} {with}"))?;

    let bytes: u64 =
        FILES.iter().map(|f| Ok(image.join(f).metadata()?.len())).sum::<Result<_>>()?;
    let title = format!("Measuring: {origin}, {:.1} MB, page cache warm", bytes as f64 / 1e6);
    let candidates = [
        "chrysalis measure image, one shape",
        "chrysalis release verify --image, every shape",
        "SHA-256 of the same files, one core",
        "SHA-384 of the same files, one core",
    ];
    let mut out = Comparison::new(title, "ms", Better::Less, candidates)
        .ratio(0, 2)
        .ratio(0, 3)
        .ratio(1, 2)
        .ratio(1, 3)
        .note("bars: 1000 ms to measure, 5000 ms to verify; both from process start to exit");
    let measured = format!("measure image {image_at} --shape cpu-2 --manifest {manifest} {names}");
    let verified = format!("release verify {release} {with}");
    for round in 0..=rounds {
        let figures = [
            chrysalis(&measured)?,
            chrysalis(&verified)?,
            hash::<Sha256>(&image)?,
            hash::<Sha384>(&image)?,
        ];
        // The first round warms caches and clocks.
        if round > 0 {
            out.round(&figures.map(millis));
        }
    }
    Ok(out)
}

/// Makes the image; says what it is, and what its firmware has to be called for a prediction.
fn make(folder: &Path, image: &Path) -> Result<(&'static str, String)> {
    let given = std::env::var_os("CHRYSALIS_INPUTS").map(PathBuf::from);
    let inputs = given.unwrap_or_else(|| root().join("../shared/inputs"));
    if !inputs.is_dir() {
        crate::progress("no pinned packages (CHRYSALIS_INPUTS): an image of the same size instead");
        write(&Draft::large().build(), image, Existing::Refuse)?;
        return Ok(("an image that would not start", format!("--bios {}", BIOS.join(" "))));
    }
    let (init, worker) = (folder.join("init"), folder.join("worker"));
    std::fs::write(&init, program(b"init"))?;
    std::fs::write(&worker, program(&Draft::large().worker))?;
    let recipe = root().join("images/cpu.toml");
    chrysalis(&format!(
        "image build --offline --platform tdx --recipe {} --inputs {} --init {} --worker {} --out {}",
        recipe.display(),
        inputs.display(),
        init.display(),
        worker.display(),
        image.display()
    ))?;
    Ok(("the CPU image around programs of its size", String::new()))
}

/// Runs `chrysalis` with arguments that hold no space.
fn chrysalis(line: &str) -> Result<Duration> {
    let mut command = Command::new(bin("chrysalis"));
    command.args(line.split_whitespace()).stdin(Stdio::null());
    let started = Instant::now();
    let ran = command.output()?;
    let time = started.elapsed();
    ensure!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(time)
}

/// Reads and hashes every file.
fn hash<H: Digest>(image: &Path) -> Result<Duration> {
    let started = Instant::now();
    for file in FILES {
        black_box(H::digest(std::fs::read(image.join(file))?));
    }
    Ok(started.elapsed())
}

/// A manifest of a worker nobody runs.
fn worker_manifest() -> String {
    format!(
        "version = 1\nnetwork = -3\nregistry = \"{0}\"\n\n[model]\nname = \"bench\"\n\
         root = \"{0}\"\nsealed = false\n\n[limits]\nrequest_bytes = 65536\n\
         context_tokens = 2048\ncompletion_tokens = 512\nconcurrent_requests = 4\n\n[prices]\n\
         prompt = 1\ncached = 1\ncompletion = 8\nreasoning = 8\n",
        "0".repeat(64)
    )
}

const FILES: [&str; 5] = ["tdvf.fd", "vmlinuz", "initrd.cpio", "cmdline", "manifest.json"];
