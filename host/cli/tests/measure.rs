//! `chrysalis measure image`, `diff` and `explain` on the pinned Debian files and on a real quote
//! with its event log. These stay outside the tree (`$CHRYSALIS_INPUTS`, `$CHRYSALIS_VECTORS`, or
//! `shared/` beside the workspace); where a folder is absent its tests say `skipped`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::World;
use serde_json::Value;

fn shared(variable: &str, folder: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(folder);
    let root = std::env::var_os(variable).map_or(beside, PathBuf::from);
    if root.is_dir() {
        return Some(root.canonicalize().unwrap());
    }
    eprintln!("skipped: no {folder} folder; set {variable}");
    None
}

/// A world with `image/` (Debian's TDX firmware with the blank store, Debian's kernel, a small
/// initrd) and a worker manifest `w.toml`.
fn with_image() -> Option<World> {
    let inputs = shared("CHRYSALIS_INPUTS", "inputs")?;
    let world = World::with_manifest();
    let unpacked = |package: &str, file: &str| {
        let named = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with(package);
        let deb = std::fs::read_dir(&inputs).unwrap().flatten().find(named);
        let deb = deb.unwrap_or_else(|| panic!("package {package} is missing")).path();
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir.path()).status().unwrap();
        assert!(done.success());
        std::fs::read(dir.path().join(file)).unwrap()
    };
    let mut firmware = unpacked("ovmf-inteltdx_2026.08", "usr/share/ovmf/OVMF.inteltdx.ms.fd");
    let blank = unpacked("ovmf_2025.02", "usr/share/OVMF/OVMF_VARS_4M.fd");
    firmware[..blank.len()].copy_from_slice(&blank);
    let kernel = unpacked(
        "linux-binary-7.3.4+deb13-cloud-amd64",
        "usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz",
    );
    std::fs::create_dir(world.path("image")).unwrap();
    world.file("image/tdvf.fd", firmware);
    world.file("image/vmlinuz", kernel);
    world.file("image/initrd.cpio", b"070701 stands for an initrd");
    world.file("image/cmdline", b"console=ttyS0 quiet");
    Some(world)
}

const IMAGE: &str = "measure image @image --shape cpu-2 --manifest @w.toml";

#[test]
fn predicts_an_image_in_a_published_shape_and_names_what_changed() {
    let Some(world) = with_image() else { return };
    let predicted = world.run(&format!("{IMAGE} --format json")).success().stdout();
    let prediction: Value = serde_json::from_str(&predicted).unwrap();
    assert_eq!(prediction["schema"], "chrysalis/tdx-prediction/v1");
    assert!(prediction["mrtd"]["value"].as_str().unwrap().starts_with("a7a1f751abc454f9"));
    assert_eq!(prediction["facts"]["qemu"], "11.1.3");
    world.file("p.json", &predicted);

    let same = world.run("measure diff @p.json @image --shape cpu-2 --manifest @w.toml").success();
    assert!(same.stdout().contains("everything that could be compared is equal"));

    let other = "measure diff @p.json @image --shape cpu-8 --manifest @w.toml --html @d.html";
    let other = world.run(other).exits(10).stdout();
    assert!(other.contains("C-MEMORY") && other.contains("4096 MiB became"), "{other}");
    let page = world.text("d.html");
    assert!(page.contains("C-MEMORY") && !page.contains("<script"));

    world.file("image/cmdline", b"console=ttyS0 quiet init=/bin/sh");
    let line = "measure diff @p.json @image --shape cpu-2 --manifest @w.toml --format json";
    let line: Value = serde_json::from_str(&world.run(line).exits(10).stdout()).unwrap();
    assert_eq!(line["differences"][0]["cause"], "C-CMDLINE");
    assert_eq!(line["differences"].as_array().unwrap().len(), 1);

    let explained = world.run("measure explain @p.json").success().stdout();
    for words in ["kernel (Authenticode)", "cross-checked", "confirmed by hardware", "inferred"] {
        assert!(explained.contains(words), "{words} is not in the explanation");
    }
}

#[test]
fn refuses_what_it_cannot_measure_and_says_what_to_do() {
    let Some(world) = with_image() else { return };
    let refuse = |line: &str, code: i32, words: &str| {
        let stderr = world.run(line).exits(code).stderr();
        assert!(stderr.contains(words), "{line}: {stderr}");
    };
    refuse("measure image @image --manifest @w.toml", 64, "--shape NAME is missing");
    refuse("measure image @image --shape cpu-2", 64, "--manifest FILE is missing");
    refuse("measure image @image --shape no-such --manifest @w.toml", 64, "no-such");
    refuse(&format!("{IMAGE} --qemu 10.0.2"), 20, "10.0.2");
    refuse(&format!("{IMAGE} --profile 202411"), 30, "E-TDVF-PROFILE");
    refuse(&format!("{IMAGE} --firmware @image/vmlinuz"), 30, "E-TDX-MALFORMED");
    refuse(&format!("{IMAGE} --kernel @image/tdvf.fd"), 30, "no PE file");
    world.file("image/cmdline", b"quiet\n");
    refuse(IMAGE, 30, "without a trailing newline");
    // A simulated network in pins that name Intel's root.
    world.file("image/cmdline", b"quiet");
    world.file("platform.toml", "[platform]\n");
    let pins = format!("{IMAGE} --pins-out @pins.toml --platform @platform.toml");
    let refused = world.run(&pins).stderr();
    assert!(refused.contains("error["), "{refused}");
    assert!(!world.path("pins.toml").exists());
}

#[test]
fn writes_pins_that_name_the_predicted_registers() {
    let Some(world) = with_image() else { return };
    world.file("w.toml", world.text("w.toml").replace("5458253", "-3"));
    let example = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/pins.example.toml"),
    )
    .unwrap();
    world.file("platform.toml", &example[example.find("[platform]").unwrap()..]);
    let line = format!("{IMAGE} --pins-out @pins.toml --platform @platform.toml --name v1");
    world.run(&line).success();
    let pins = world.text("pins.toml");
    assert!(pins.contains("mrtd = \"a7a1f751abc454f9") && pins.contains("network = -3"));
    // A platform table may not bring a worker of its own.
    world.file("platform.toml", &example[example.find("[[worker]]").unwrap()..]);
    assert!(world.run(&line).stderr().contains("error["));
}

#[test]
fn a_real_quote_is_explained_with_its_log_and_refused_with_another() {
    let Some(vectors) = shared("CHRYSALIS_VECTORS", "vectors") else { return };
    let world = World::new();
    let log = Command::new("gzip")
        .arg("-dc")
        .arg(vectors.join("attest/tdx/ccel-ccel_data.dat.gz"))
        .output()
        .unwrap();
    world.file("ccel.bin", log.stdout);
    let quote = vectors.join("attest/tdx/ccel-cos-113-tdx-quote.dat");
    std::fs::copy(quote, world.path("quote.bin")).unwrap();
    std::fs::copy(vectors.join("quote.dat"), world.path("other.bin")).unwrap();

    let explained = world.run("measure explain @quote.bin --ccel @ccel.bin").success().stdout();
    assert!(explained.contains("quote with its event log") && explained.contains("unknown event"));
    let refused = world.run("measure explain @other.bin --ccel @ccel.bin").exits(10).stderr();
    assert!(refused.contains("E-CCEL-REPLAY"), "{refused}");
    let usage = world.run("measure explain @ccel.bin --ccel @ccel.bin").exits(64).stderr();
    assert!(usage.contains("--ccel belongs to a quote"), "{usage}");
    let differ = world.run("measure diff @quote.bin @other.bin").exits(10).stdout();
    assert!(differ.contains("C-FIRMWARE"), "{differ}");
    world.run("measure diff @quote.bin @ccel.bin").success();
}

#[test]
fn refuses_an_input_that_is_nothing_it_knows() {
    let world = World::new();
    for (name, content) in [("a", "{}"), ("b", "not a log"), ("c", ""), ("d", "{\"quote\":\"00\"}")]
    {
        world.file(name, content);
        world.run(&format!("measure explain @{name}")).exits(30);
    }
    world.run("measure diff @absent @absent").exits(64);
}
