//! `chrysalis shape` and the part of `chrysalis up` about VMs, as a user meets them: exit codes,
//! codes and next steps. What the commands do is tested where it is done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::World;

fn chrysalis(args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("chrysalis")
        .unwrap()
        // No QEMU and no Gramine of this machine may answer for the test.
        .env("PATH", "/nonexistent")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn refused(args: &[&str], code: i32, word: &str) {
    let (got, stdout, stderr) = chrysalis(args);
    assert_eq!(got, code, "{args:?}: {stderr}");
    assert!(stderr.contains(word), "{args:?}: {stderr}");
    assert!(stdout.is_empty(), "a refusal is no result: {stdout}");
}

/// A directory with files of these names.
fn files(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(dir.path().join(name), b"x").unwrap();
    }
    dir
}

/// `up` with files that exist, and these arguments.
fn up(dir: &Path, extra: &[&str]) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut args = vec!["up".to_owned()];
    for (flag, name) in
        [("--manifest", "m"), ("--bundle", "b"), ("--collateral", "c"), ("--state", "state")]
    {
        args.extend([flag.to_owned(), file(name)]);
    }
    args.extend(extra.iter().map(|text| text.replace("{dir}", &dir.display().to_string())));
    args
}

#[track_caller]
fn up_refused(extra: &[&str], code: i32, word: &str) {
    let dir = files(&["m", "b", "c", "w.manifest.sgx", "w.sig"]);
    let args = up(dir.path(), extra);
    refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), code, word);
    assert!(!dir.path().join("state").exists(), "nothing was started");
}

#[test]
fn lists_and_shows_the_menu() {
    let (code, stdout, _) = chrysalis(&["shape", "list", "--format", "json"]);
    assert_eq!(code, 0);
    let body: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let shapes = body["shapes"].as_array().unwrap();
    let captured = shapes.iter().filter(|s| s["captured"] == true).count();
    assert_eq!((shapes.len(), captured), (5, 3));
    let (code, stdout, _) = chrysalis(&["shape", "show", "gpu-1"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("not captured, not run on hardware"), "{stdout}");
}

#[test]
fn shows_blobs_with_the_size_firmware_reads() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().display().to_string();
    let (code, stdout, _) = chrysalis(&["shape", "show", "cpu-2", "--blobs", &out]);
    assert_eq!(code, 0);
    assert!(stdout.contains("etc/acpi/tables"), "{stdout}");
    let tables = fs::read(dir.path().join("qemu-11.1.3-etc_acpi_tables.bin")).unwrap();
    assert_eq!(tables.len(), 131_072);
}

#[test]
fn names_the_menu_to_whoever_misses_it() {
    refused(&["shape", "show", "cpu-3"], 64, "cpu-2, cpu-8, cpu-32, gpu-1, gpu-8");
    refused(&["shape", "capture", "--shape", "cpu-3"], 64, "E-SHAPE-UNKNOWN");
}

#[test]
fn says_that_there_is_no_qemu_to_capture_from() {
    refused(&["shape", "capture", "--shape", "cpu-2"], 20, "E-NO-QEMU");
    refused(&["shape", "capture", "--shape", "cpu-2", "--qemu", "/nonexistent"], 64, "E-QEMU");
}

#[test]
fn a_qemu_that_builds_nothing_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let qemu = dir.path().join("qemu");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 10.1.0' && exit\n\
                  echo 'no such machine' >&2; exit 1\n";
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let qemu = qemu.display().to_string();
    refused(&["shape", "capture", "--shape", "cpu-2", "--qemu", &qemu], 1, "no such machine");
}

#[test]
fn up_wants_exactly_one_way_to_run_the_worker() {
    up_refused(&[], 64, "E-USAGE");
    up_refused(&["--worker", "/bin/true", "--image", "{dir}", "--shape", "cpu-2"], 64, "E-USAGE");
    up_refused(&["--worker", "/bin/true", "--gramine", "{dir}/w.manifest.sgx"], 64, "E-USAGE");
    up_refused(&["--image", "{dir}"], 64, "--shape");
    up_refused(&["--worker", "/bin/true", "--print-only"], 64, "E-USAGE");
}

#[test]
fn up_refuses_a_directory_that_is_no_image_before_anything_runs() {
    up_refused(&["--image", "{dir}", "--shape", "cpu-2"], 10, "missing");
    up_refused(&["--image", "{dir}", "--shape", "cpu-3"], 64, "E-SHAPE-UNKNOWN");
    up_refused(&["--image", "{dir}", "--shape", "cpu-2", "--image-id", "xyz"], 64, "E-HEX");
}

#[test]
fn up_refuses_addresses_that_are_none() {
    let image = ["--image", "{dir}", "--shape", "gpu-1"];
    up_refused(&[&image[..], &["--gpu", "17:00.0,x=y"]].concat(), 64, "PCI address");
    up_refused(&[&image[..], &["--qgs", "/run/qgs"]].concat(), 64, "unix:PATH");
}

#[test]
fn a_host_without_gramine_is_told_so() {
    up_refused(&["--gramine", "{dir}/w.manifest.sgx"], 20, "gramine-sgx");
    up_refused(&["--gramine", "{dir}/nowhere"], 64, "E-NO-FILE");
}

/// A static program that does nothing: an ELF header and one loadable segment.
fn program() -> Vec<u8> {
    let mut elf = vec![0u8; 120];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (offset, value) in [(16, 3u16), (18, 62), (54, 56), (56, 1)] {
        elf[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }
    (elf[32], elf[64]) = (64, 1);
    elf
}

/// A world with an image `image` of `platform` and what `up` needs; `None` without the pinned
/// packages.
fn with_image(platform: &str) -> Option<World> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let given = std::env::var_os("CHRYSALIS_INPUTS").map(PathBuf::from);
    let inputs = given.unwrap_or_else(|| tree.join("../shared/inputs"));
    if !inputs.is_dir() {
        eprintln!("skipped: there is no directory of pinned packages (CHRYSALIS_INPUTS)");
        return None;
    }
    let world = World::new();
    for name in ["init", "worker"] {
        world.file(name, program());
    }
    for name in ["m", "b", "c"] {
        world.file(name, "x");
    }
    let script = "#!/bin/sh\necho 'QEMU emulator version 11.1.3 (test)'\n";
    world.file("qemu", script);
    fs::set_permissions(world.path("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
    let (recipe, inputs) = (tree.join("images/cpu.toml"), inputs.display().to_string());
    let line = format!(
        "image build --recipe {} --init @init --worker @worker --platform {platform} --offline \
         --inputs {inputs} --out @image",
        recipe.display()
    );
    world.run(&line).success();
    Some(world)
}

const UP: &str = "up --image @image --qemu @qemu --manifest @m --bundle @b --collateral @c \
                  --state @state";

#[test]
fn prints_the_command_of_a_trust_domain_on_a_host_that_has_none() {
    let Some(world) = with_image("tdx") else { return };
    let run = world.run(&format!("{UP} --shape cpu-2 --print-only")).success();
    let (line, notes) = (run.stdout(), run.stderr());
    for part in
        ["tdx-guest", "-accel kvm", "-cpu host", "chrysalis-model", "-append 'console=ttyS0"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(notes.contains("is intact") && !notes.contains("INSECURE-SIM"), "{notes}");
    // Launching it is another matter: this machine hosts no trust domains, or its QEMU is a script.
    world.run(&format!("{UP} --shape cpu-2")).exits(20).says("E-UNSUPPORTED");
    let gpu = format!("{UP} --shape gpu-1 --print-only");
    world.run(&gpu).exits(20).says("E-UNSUPPORTED");
    let run = world.run(&format!("{gpu} --gpu 0000:17:00.0")).success();
    assert!(run.stdout().contains("vfio-pci"));
    assert!(run.stderr().contains("nobody can predict RTMR0"), "{}", run.stderr());
}

#[test]
fn a_simulated_image_is_named_so_and_a_changed_one_is_not_launched() {
    let Some(world) = with_image("insecure-sim") else { return };
    let up = format!("{UP} --shape cpu-2 --accel tcg --print-only");
    let run = world.run(&format!("--format json {up}")).success();
    let body = run.json("chrysalis/up-command/v1");
    assert_eq!(body["insecure_sim"], true);
    assert!(run.stderr().contains("INSECURE-SIM"), "{}", run.stderr());
    let zeros = "0".repeat(64);
    world.run(&format!("{up} --image-id {zeros}")).exits(10).says("E-IMAGE-PART");
    world.file("qemu", "#!/bin/sh\necho 'QEMU emulator version 10.0.2'\n");
    world.run(&up).exits(20).says("E-UNSUPPORTED");
    for name in ["tdvf.fd", "vmlinuz", "initrd.cpio", "cmdline", "manifest.json"] {
        let path = world.path("image").join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, bad).unwrap();
        let run = world.run(&up);
        let code = run.stderr().contains("error[E-IMAGE");
        assert!(code && run.stdout().is_empty(), "{name}: {}", run.stderr());
        fs::write(&path, good).unwrap();
    }
    assert!(!world.path("state").exists());
}
