//! The main job inside a real virtual machine: firmware, kernel, PID 1 and worker of an image, under
//! emulation. So it is INSECURE-SIM, with a tiny model that says one sentence.
//!
//! `scripts/vm-inputs` prepares what these tests need in `target/vm`. Without it they are skipped
//! and say so; with `CHRYSALIS_REQUIRE_VM` they fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chrysalis_tests::{Ran, address_of, bin, chrysalis, root, status};
use tempfile::TempDir;

/// Longest a command about a VM may take. A boot takes ten to twenty seconds on an idle machine.
const LIMIT_SECONDS: &str = "400";

/// What `scripts/vm-inputs` prepared, and the files of one worker.
struct World {
    inputs: PathBuf,
    dir: TempDir,
}

impl World {
    fn new() -> Option<Self> {
        let inputs = root().join("target/vm");
        if !inputs.join("complete").is_file() {
            let required = std::env::var_os("CHRYSALIS_REQUIRE_VM").is_some();
            assert!(!required, "the inputs of the VM tests are missing; run scripts/vm-inputs");
            println!("skipped: there is no VM to boot; run scripts/vm-inputs");
            return None;
        }
        let world = Self { inputs, dir: TempDir::new().unwrap() };
        world.sim("root", "root.hex");
        world.sim("collateral", "collateral.json");
        let gguf = world.inputs.join("tiny.gguf");
        world.run(&["model", "pack", "--name", "tiny", "--gguf", &text(&gguf), "--out", "@bundle"]);
        world.run(&[
            "manifest",
            "init",
            "--bundle",
            "@bundle",
            "--network",
            "sim",
            "--out",
            "@w.toml",
        ]);
        let worker = text(&world.inputs.join("worker"));
        world.run(&[
            "measure",
            "worker",
            "--worker",
            &worker,
            "--manifest",
            "@w.toml",
            "--sim-root",
            "@root.hex",
            "--pins-out",
            "@pins.toml",
        ]);
        Some(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sim(&self, what: &str, file: &str) {
        let mut command = Command::new(bin("chrysalis-worker-sim"));
        let ran: Ran =
            command.args(["sim", what, "--out"]).arg(self.path(file)).output().unwrap().into();
        ran.expect_code(0);
    }

    /// Runs `chrysalis`, which must succeed; `@x` is the path of `x` in this world.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Ran {
        self.try_run(args).expect_code(0)
    }

    /// The same, with a time limit and without an opinion.
    fn try_run(&self, args: &[&str]) -> Ran {
        let args =
            args.iter().map(|a| a.strip_prefix('@').map_or_else(|| (*a).into(), |n| self.path(n)));
        let mut command = Command::new("timeout");
        command.arg(LIMIT_SECONDS).arg(bin("chrysalis")).args(args).stdin(Stdio::null());
        command.output().unwrap().into()
    }

    /// Boots the VM.
    fn up(&self) -> Ran {
        let (image, qemu) = (text(&self.inputs.join("image")), text(&self.inputs.join("qemu")));
        self.try_run(&[
            "up",
            "--image",
            &image,
            "--shape",
            "cpu-2",
            "--accel",
            "tcg",
            "--qemu",
            &qemu,
            "--manifest",
            "@w.toml",
            "--bundle",
            "@bundle",
            "--collateral",
            "@collateral.json",
            "--listen",
            "127.0.0.1:0",
            "--state",
            "@state",
        ])
    }

    /// The VM refused to boot: `up` says so with one of these codes, and nothing is left running.
    #[track_caller]
    fn refuses(&self, codes: &[&str]) {
        let ran = self.up().expect_code(10);
        let named = codes.iter().any(|code| ran.stderr.contains(code));
        assert!(named, "none of {codes:?} in {}", ran.stderr);
        assert_eq!(status(&self.path("state"))["phase"], "refused");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        chrysalis(["down".as_ref(), "--state".as_ref(), self.path("state").as_os_str()]);
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_sealed_prompt_is_answered_inside_a_virtual_machine() {
    let Some(world) = World::new() else { return };
    let up = world.up().expect_code(0);
    for words in ["is intact", "INSECURE-SIM", "accelerator tcg: TCG was asked for"] {
        assert!(up.stderr.contains(words) || up.stdout.contains(words), "{words}: {}", up.stderr);
    }
    let state = world.path("state");
    let ran = world.run(&[
        "ask",
        "--worker",
        &address_of(&state),
        "--pins",
        "@pins.toml",
        "--collateral",
        "@collateral.json",
        "--insecure-sim",
        "--max-tokens",
        "8",
        "--temperature",
        "0",
        "--state",
        "@client",
        "Where are you?",
    ]);
    assert!(ran.stdout.contains("hello from inside"), "{}", ran.stdout);
    assert!(ran.stderr.contains("R-MODEL-ROOT"), "the transcript names the rules: {}", ran.stderr);

    // Whatever firmware and kernel print is counted, not kept: the log holds events only.
    let log = fs::read_to_string(state.join("console.log")).unwrap();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["event"].is_string() || line["event"].is_object(), "{line}");
    }
    for step in ["command-line", "disks", "measure"] {
        assert!(log.contains(&format!("\"step\":\"{step}\"")), "{step} is not in {log}");
    }

    let qemu = status(&state)["worker"]["pid"].as_u64().unwrap();
    world.run(&["down", "--state", "@state"]);
    assert_eq!(status(&state)["phase"], "stopped");
    assert!(!Path::new(&format!("/proc/{qemu}")).exists(), "QEMU outlived its supervisor");
}

#[test]
fn a_vm_refuses_a_bundle_with_one_wrong_byte() {
    let Some(world) = World::new() else { return };
    let mut bytes = fs::read(world.path("bundle")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(world.path("bundle"), bytes).unwrap();
    world.refuses(&["E-CHUNK"]);
}

#[test]
fn a_vm_refuses_a_manifest_that_names_another_model() {
    let Some(world) = World::new() else { return };
    let manifest = fs::read_to_string(world.path("w.toml")).unwrap();
    let at = manifest.find("root = \"").unwrap() + 8;
    let mut other = manifest.clone();
    other.replace_range(at..at + 4, if &manifest[at..at + 4] == "0000" { "1111" } else { "0000" });
    fs::write(world.path("w.toml"), other).unwrap();
    world.refuses(&["E-ROOT", "E-MODEL"]);
}
