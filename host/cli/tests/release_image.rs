//! `chrysalis release` from an image to pins, as a publisher, an auditor and an operator run it, on
//! a small image made here; where the pinned packages are at hand, on the image of this tree too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "../../../tests/harness/small_image.rs"]
mod small_image;

use std::path::{Path, PathBuf};

use chrysalis_image::{Existing, Image, write};
use chrysalis_wire::ImagePlatform;
use common::{World, flip};
use small_image::Draft;

const FILES: [&str; 4] = ["values.toml", "corim.cbor", "intoto.json", "values.boc"];
const BIOS: &str = "--bios nobody 1 01/01/2026";
const COMMIT: &str = "5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c";

/// A world with `image/` and a manifest `w.toml` for testnet.
fn world(draft: &Draft) -> World {
    let world = World::with_bundle();
    world.run("manifest init --bundle @m.chrysalis --network testnet --out @w.toml").success();
    put(&world, "image", &draft.build());
    world
}

fn put(world: &World, name: &str, image: &Image) {
    write(image, &world.path(name), Existing::Refuse).unwrap();
}

fn build(out: &str, more: &str) -> String {
    format!("release build --image @image --release 0.1.0 {BIOS} --out @{out} {more}")
}

#[test]
fn a_release_of_an_image_is_the_same_twice_and_verifies_against_it() {
    let world = world(&Draft::small());
    let more = format!("--all-shapes --source {COMMIT} --toolchain 1.95.0");
    let run = world.run(&format!("--format json {}", build("r", &more))).success();
    assert!(run.stderr().contains("gpu-1"), "shapes without tables are named: {}", run.stderr());
    let json = run.json("chrysalis/release/v1");
    assert_eq!(json["source"], COMMIT);
    assert_eq!(json["toolchain"], "1.95.0");
    assert_eq!(json["shapes"].as_array().unwrap().len(), 3);
    assert_eq!(json["workloads"].as_array().unwrap().len(), 0);
    assert_eq!(json["status"], "inferred");
    assert!(json["recomputed"].is_null());

    world.run(&build("again", &more)).success();
    for file in FILES {
        let read = |dir: &str| std::fs::read(world.path(&format!("{dir}/{file}"))).unwrap();
        assert_eq!(read("r"), read("again"), "{file}");
    }
    let alone = world.run("release verify @r").success().stdout();
    assert!(alone.contains("Nothing was recomputed"), "{alone}");
    let with = world.run(&format!("release verify @r --image @image {BIOS}")).success().stdout();
    assert!(with.contains("every value is what the image measures"), "{with}");
    assert!(with.contains("RTMR0 in cpu-32 (QEMU 11.1.3)"), "{with}");
}

#[test]
fn registers_are_those_that_measure_image_predicts() {
    let world = world(&Draft::small());
    let workload = format!("--workload tiny={}", world.arg("w.toml"));
    world.run(&build("r", &format!("--shape cpu-2 {workload}"))).success();
    let line = format!("measure image @image --shape cpu-2 --manifest @w.toml {BIOS}");
    let predicted = world.run(&format!("{line} --format json")).success().stdout();
    let predicted: serde_json::Value = serde_json::from_str(&predicted).unwrap();
    let values = world.text("r/values.toml");
    for register in [
        &predicted["mrtd"],
        &predicted["rtmr"][0],
        &predicted["rtmr"][1],
        &predicted["rtmr"][2],
        &predicted["rtmr"][3],
    ] {
        assert!(values.contains(register["value"].as_str().unwrap()), "{register}");
    }
}

#[test]
fn another_image_is_refused_and_the_register_and_file_are_named() {
    let world = world(&Draft::small());
    world.run(&build("r", "--shape cpu-2")).success();
    put(&world, "other", &Draft { kernel: 1, ..Draft::small() }.build());
    let run = world.run(&format!("release verify @r --image @other {BIOS}")).exits(10);
    let text = run.says("E-RELEASE-DIFFERS").stderr();
    for said in ["RTMR1", "vmlinuz", "expected", "found", "chrysalis measure diff"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn measure_diff_names_the_cause_of_what_verification_refused() {
    let world = world(&Draft::small());
    world.run(&build("r", "--all-shapes")).success();
    let diff = |image: &str| {
        world.run(&format!("measure diff @r @{image} --shape cpu-2 --manifest @w.toml {BIOS}"))
    };
    // The release is of the image alone; the manifest is the operator's.
    let same = diff("image").success().stdout();
    assert!(same.contains("RTMR3 is that of the manifest given"), "{same}");
    put(&world, "other", &Draft { worker: b"another".to_vec(), ..Draft::small() }.build());
    let other = diff("other").exits(10).stdout();
    assert!(other.contains("RTMR2 differs") && !other.contains("RTMR3 differs"), "{other}");
}

#[test]
fn one_changed_byte_of_the_image_is_refused_with_its_part_and_register() {
    let world = world(&Draft::small());
    world.run(&build("r", "--shape cpu-2")).success();
    for (file, at, register) in
        [("tdvf.fd", 0x5000, "MRTD"), ("tdvf.fd", 0x3000, "RTMR0"), ("vmlinuz", 0x1000, "RTMR1")]
    {
        let path = world.path(&format!("image/{file}"));
        flip(&path, at);
        let run = world.run(&format!("release verify @r --image @image {BIOS}")).exits(10);
        let text = run.says("E-IMAGE-PART").stderr();
        assert!(text.contains(register), "{file}: {text}");
        world.run(&build("never", "--shape cpu-2")).exits(10).says("E-IMAGE-PART");
        assert!(!world.path("never").exists());
        flip(&path, at);
    }
    world.run(&format!("release verify @r --image @image {BIOS}")).success();
}

#[test]
fn an_image_for_simulation_needs_to_be_asked_for_each_time_and_says_so() {
    let world = world(&Draft { platform: ImagePlatform::InsecureSim, ..Draft::small() });
    world.run(&build("r", "--shape cpu-2")).exits(10).says("E-RELEASE-SIM");
    assert!(!world.path("r").exists());
    let built = world.run(&build("r", "--shape cpu-2 --insecure-sim")).success().stdout();
    assert!(built.contains("INSECURE-SIM"), "{built}");
    world.run("release verify @r").exits(10).says("E-RELEASE-SIM");
    let line = format!("release verify @r --insecure-sim --image @image {BIOS}");
    assert!(world.run(&line).success().stdout().contains("INSECURE-SIM"));
    let again = "release build --values @r/values.toml --out @again";
    world.run(again).exits(10).says("E-RELEASE-SIM");
    world.run(&format!("{again} --insecure-sim")).success();
}

#[test]
fn a_debug_image_says_so_in_every_output_and_gets_no_pins() {
    let world = world(&Draft { debug: true, ..Draft::small() });
    let built = world.run(&build("r", "--shape cpu-2")).success().stdout();
    let verified = world.run("release verify @r").success().stdout();
    assert!(built.contains("DEBUG") && verified.contains("DEBUG"));
    let json = world.run("--format json release verify @r").success().json("chrysalis/release/v1");
    assert_eq!(json["debug"], true);
    world.file("platform.toml", platform());
    let pins = "release pins @r --network testnet --platform @platform.toml --out @pins.toml";
    world.run(&format!("{pins} --workload {}", world.arg("w.toml"))).exits(64);
    assert!(!world.path("pins.toml").exists());
}

/// The documented example, from `[platform]` on.
fn platform() -> &'static str {
    let example = include_str!("../../../manifests/pins.example.toml");
    &example[example.find("[platform]").unwrap()..]
}

#[test]
fn an_operator_pins_her_own_manifest_in_a_release_without_any() {
    let world = world(&Draft::small());
    world.run(&build("r", "--all-shapes")).success();
    world.file("platform.toml", platform());
    let pins = "release pins @r --platform @platform.toml --out @pins.toml";
    world.run(&format!("{pins} --network testnet")).exits(64).says("E-RELEASE-PINS");
    let own = format!("--workload mine={} --bundle @m.chrysalis", world.arg("w.toml"));
    world.run(&format!("{pins} --network mainnet {own}")).exits(10).says("E-RELEASE-NETWORK");
    world.run(&format!("{pins} --network testnet {own}")).success();
    let text = world.text("pins.toml");
    let pins = chrysalis_evidence::Pins::parse(&text, chrysalis_evidence::AllowSim::No).unwrap();
    assert_eq!(pins.workers().len(), 3);
    let values = world.text("r/values.toml");
    for worker in pins.workers() {
        for register in [worker.mrtd, worker.rtmr0, worker.rtmr1, worker.rtmr2] {
            assert!(values.contains(&hex::encode(register)));
        }
    }
}

#[test]
fn a_bundle_that_no_manifest_names_or_that_is_damaged_is_refused() {
    let world = world(&Draft::small());
    let workload = format!("--workload tiny={}", world.arg("w.toml"));
    let line = build("r", &format!("--shape cpu-2 {workload} --bundle @m.chrysalis"));
    flip(&world.path("m.chrysalis"), 1 << 20);
    world.run(&line).exits(10).says("E-CHUNK-HASH");
    world.file("other.gguf", [common::gguf().as_slice(), b"more"].concat());
    std::fs::remove_file(world.path("m.chrysalis")).unwrap();
    world.run("model pack --gguf @other.gguf --out @m.chrysalis").success();
    world.run(&line).exits(10).says("E-MODEL-ROOT");
    assert!(!world.path("r").exists());
}

#[test]
fn what_was_not_given_is_said_to_be_unchecked() {
    let world = world(&Draft::small());
    let workload = format!("--workload tiny={}", world.arg("w.toml"));
    world.run(&build("r", &format!("--shape cpu-2 {workload}"))).success();
    let verify = format!("release verify @r --image @image {BIOS}");
    let text = world.run(&verify).success().stdout();
    assert!(text.contains("NOT recomputed") && text.contains("workload tiny"), "{text}");
    let text = world.run(&format!("{verify} {workload}")).success().stdout();
    assert!(text.contains("RTMR3 with the workload tiny"), "{text}");
    world.file(
        "w.toml",
        world.text("w.toml").replace("concurrent_requests = ", "concurrent_requests = 1"),
    );
    let run = world.run(&format!("{verify} {workload}")).exits(10);
    assert!(run.says("E-RELEASE-DIFFERS").stderr().contains("worker manifest"));
}

#[test]
fn wrong_usage_is_said_before_anything_is_written() {
    let world = world(&Draft::small());
    for (more, code) in [
        ("", 64),
        ("--shape cpu-3", 64),
        ("--shape gpu-1", 20),
        ("--shape cpu-2 --qemu 9.9.9", 20),
        ("--shape cpu-2 --source main", 30),
        ("--shape cpu-2 --all-shapes", 64),
        ("--shape cpu-2 --libpal @w.toml", 64),
        ("--shape cpu-2 --workload @image/cmdline", 30),
    ] {
        world.run(&build("r", more)).exits(code);
    }
    world.run("release build --image @image --release 0.1.0 --shape cpu-2 --out @r").exits(64);
    world.run("release build --image @image --shape cpu-2 --out @r").exits(64);
    world.run("release build --out @r").exits(64);
    assert!(!world.path("r").exists());
    world.run(&build("r", "--shape cpu-2")).success();
    for unused in [format!("--workload {}", world.arg("w.toml")), BIOS.to_owned()] {
        for line in ["release verify @r", "release build --values @r/values.toml --out @again"] {
            let run = world.run(&format!("{line} {unused}")).exits(64);
            assert!(run.says("E-USAGE").stderr().contains("--image"), "{line}");
        }
    }
    assert!(!world.path("again").exists());
}

#[test]
fn a_release_is_found_by_its_name_below_the_releases_of_the_tree() {
    let world = world(&Draft::small());
    world.run(&build("manifests/releases/0.1.0", "--shape cpu-2")).success();
    let text = world.run("release verify 0.1.0").success().stdout();
    assert!(text.contains("manifests/releases/0.1.0/values.toml"), "{text}");
    world.run("release verify 0.2.0").exits(64).says("E-FILE");
}

fn shared_inputs() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/inputs");
    let dir = std::env::var_os("CHRYSALIS_INPUTS").map_or(beside, PathBuf::from);
    if !dir.is_dir() {
        eprintln!("skipped: there is no directory of pinned packages (CHRYSALIS_INPUTS)");
    }
    dir.is_dir().then_some(dir)
}

#[test]
fn the_image_of_this_tree_is_released_and_verified_without_naming_its_firmware() {
    let Some(inputs) = shared_inputs() else { return };
    let world = World::new();
    world.file("init", small_image::program(b"init"));
    world.file("worker", small_image::program(b"worker"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/cpu.toml");
    let (recipe, inputs) = (recipe.display(), inputs.display());
    let line = format!(
        "image build --recipe {recipe} --init @init --worker @worker --platform tdx --offline \
         --inputs {inputs} --out @image"
    );
    world.run(&line).success();
    world.run("release build --image @image --release 0.1.0 --all-shapes --out @r").success();
    world.run("release verify @r --image @image").success();
    flip(&world.path("image/initrd.cpio"), 100);
    let run = world.run("release verify @r --image @image").exits(10);
    assert!(run.says("E-IMAGE-PART").stderr().contains("RTMR2"));
}
