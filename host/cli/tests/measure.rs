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
    let packed = vectors.join("attest/tdx/ccel-ccel_data.dat.gz");
    std::fs::copy(&packed, world.path("ccel.gz")).unwrap();
    let log = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
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
    // As archives have it.
    world.run("measure diff @ccel.bin @ccel.gz").success();
    let packed = world.run("measure explain @quote.bin --ccel @ccel.gz").success().stdout();
    assert_eq!(packed, explained);
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

/// A release of a prediction, with `change` made to the text of its `values.toml`.
fn release_of(prediction: &Value, change: impl Fn(String) -> String) -> String {
    let value = |register: &Value| register["value"].as_str().unwrap().to_owned();
    let rtmr = |n: usize| value(&prediction["rtmr"][n]);
    let fact = |name: &str| prediction["facts"][name].as_str().unwrap();
    change(format!(
        "version = 1\nrelease = \"1.0.0\"\nplatform = \"tdx\"\ndebug = false\n\
         firmware_profile = \"202605\"\n\n[tdx]\nmrtd = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\n\
         status = \"inferred\"\n\n[[shape]]\nname = \"cpu-2\"\nqemu = \"11.1.3\"\nrtmr0 = \"{}\"\n\
         status = \"inferred\"\n\n[[workload]]\nname = \"m\"\nmanifest_sha256 = \"{}\"\n\
         model_root = \"{}\"\nrtmr3 = \"{}\"\n",
        value(&prediction["mrtd"]),
        rtmr(1),
        rtmr(2),
        rtmr(0),
        fact("manifest_sha256"),
        fact("model_root"),
        rtmr(3),
    ))
}

#[test]
fn a_release_is_compared_by_folder_and_by_name() {
    let Some(world) = with_image() else { return };
    let predicted = world.run(&format!("{IMAGE} --format json")).success().stdout();
    let prediction: Value = serde_json::from_str(&predicted).unwrap();
    std::fs::create_dir_all(world.path("manifests/releases")).unwrap();
    world.file("values.toml", release_of(&prediction, |text| text));
    world.run("release build --values @values.toml --out @manifests/releases/1.0.0").success();

    let image = "@image --shape cpu-2 --manifest @w.toml";
    let folder = format!("measure diff @manifests/releases/1.0.0 {image}");
    assert!(world.run(&folder).success().stdout().contains("reference values of a release"));
    world.run(&format!("measure diff 1.0.0 {image} --releases @manifests/releases")).success();
    let mut by_name = world.command();
    std::fs::create_dir_all(world.path("deep/down")).unwrap();
    by_name.current_dir(world.path("deep/down")).args(["measure", "explain", "1.0.0"]);
    let explained = by_name.output().unwrap();
    assert!(explained.status.success(), "{}", String::from_utf8_lossy(&explained.stderr));

    let no_shape = "measure diff 1.0.0 @image --shape cpu-8 --manifest @w.toml --releases \
                    @manifests/releases";
    let refused = world.run(no_shape).exits(10).stderr();
    assert!(refused.contains("cpu-2 (QEMU 11.1.3)"), "{refused}");
    let absent = "measure diff 2.0.0 @image --releases @manifests/releases";
    let refused = world.run(absent).exits(64).stderr();
    assert!(refused.contains("no release") && refused.contains("1.0.0"), "{refused}");
    world.run("measure explain ../manifests").exits(64);

    // Two shapes: which one is meant has to be said, and is.
    let second = |text: String| {
        let at = text.find("[[workload]]").unwrap();
        let shape = "[[shape]]\nname = \"cpu-8\"\nqemu = \"11.1.3\"\nrtmr0 = \"";
        let zeros = "00".repeat(48);
        format!("{}{shape}{zeros}\"\nstatus = \"inferred\"\n\n{}", &text[..at], &text[at..])
    };
    world.file("values.toml", release_of(&prediction, second));
    world.run("release build --values @values.toml --out @two").success();
    world.file("p.json", &predicted);
    let open = "measure diff @two @p.json --html @open.html --format json";
    let open: Value = serde_json::from_str(&world.run(open).success().stdout()).unwrap();
    assert_eq!(open["not_compared"][0], "RTMR0");
    assert!(open["expected"]["label"].as_str().unwrap().contains("choose with --shape"));
    assert!(world.text("open.html").contains("choose with --shape"));
    let wrong = world.run("measure diff @two @p.json --shape cpu-8").exits(10).stdout();
    assert!(wrong.contains("RTMR0 differs"), "{wrong}");

    // Files that do not agree are no release.
    let dialect = world.path("two/intoto.json");
    common::flip(&dialect, 900);
    let refused = world.run("measure diff @two @p.json").exits(10).stderr();
    assert!(refused.contains("E-RELEASE-"), "{refused}");
}

#[test]
fn a_worker_manifest_alone_and_two_workloads_of_one_image_are_compared() {
    let world = World::with_manifest();
    world.file(
        "dear.toml",
        world.text("w.toml")
            + "# dearer
",
    );
    world.run("measure diff @w.toml @w.toml").success();
    let other = "measure diff @w.toml @dear.toml --html @d.html";
    let other = world.run(other).exits(10).stdout();
    assert!(other.contains("C-MANIFEST") && other.contains("RTMR3"), "{other}");
    assert!(world.text("d.html").contains("worker manifest (RTMR3 alone)"));
    let explained = world.run("measure explain @w.toml --format json").success().stdout();
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["kind"], "worker-manifest");
    assert_eq!(explained["registers"][0]["events"].as_array().unwrap().len(), 2);
    world.file("a.txt", "dear diary");
    let refused = world.run("measure explain @a.txt").exits(30).stderr();
    assert!(refused.contains("worker manifest") && refused.contains("none of them"), "{refused}");
    let usage = "measure diff @w.toml @dear.toml --found-manifest @w.toml";
    world.run(usage).exits(64).says("E-USAGE");

    let Some(image) = with_image() else { return };
    image.file(
        "dear.toml",
        image.text("w.toml")
            + "# dearer
",
    );
    let both = "measure diff @image @image --shape cpu-2 --manifest @w.toml";
    image.run(both).success();
    let differ = format!("{both} --found-manifest @dear.toml --format json");
    let differ: Value = serde_json::from_str(&image.run(&differ).exits(10).stdout()).unwrap();
    assert_eq!(differ["differences"].as_array().unwrap().len(), 1);
    assert_eq!(differ["differences"][0]["cause"], "C-MANIFEST");
    // The bundle must be the one the manifest names.
    image.run(&format!("{both} --bundle @m.chrysalis")).success();
    let root = image.text("w.toml");
    let root = root.lines().find(|l| l.starts_with("root")).unwrap();
    let other = format!("root = \"{}\"", "77".repeat(32));
    image.file("other.toml", image.text("w.toml").replace(root, &other));
    let wrong = format!("{both} --bundle @m.chrysalis --found-manifest @other.toml");
    let wrong = format!("{wrong} --found-bundle @m.chrysalis");
    image.run(&wrong).exits(10).says("E-MODEL-ROOT");
}
