//! A worker with GPUs, simulated: FAKE devices whose evidence is in every attestation, from the manifest
//! that names them to the verdict of `chrysalis appraise`. Nothing here is hardware.

use std::fs;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use chrysalis_tests::{Killed, Ran, World, bin, chrysalis};

use crate::enclave::ready_address;

fn sim(args: &[&str], out: &PathBuf) {
    let ran: Ran = Command::new(bin("chrysalis-worker-sim"))
        .args(args)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
        .into();
    ran.expect_code(0);
}

/// A manifest that names two GPUs, with pins for it; made once for all tests.
fn manifest(world: &World) -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make_manifest(world))
}

fn make_manifest(world: &World) -> PathBuf {
    let manifest = world.path("gpus.toml");
    let init: Ran = Command::new(bin("chrysalis"))
        .args(["manifest", "init", "--force", "--network", "sim", "--gpus", "2", "--bundle"])
        .arg(world.path("model.chrysalis"))
        .arg("--out")
        .arg(&manifest)
        .output()
        .unwrap()
        .into();
    init.expect_code(0);
    world.measure(&manifest, "pins-cpu-only.toml");
    let section = world.path("device-pins.toml");
    sim(&["sim", "device-pins", "--gpus", "2"], &section);
    let pins = fs::read_to_string(world.path("pins-cpu-only.toml")).unwrap()
        + &fs::read_to_string(section).unwrap();
    fs::write(world.path("pins-gpus.toml"), pins).unwrap();
    manifest
}

fn worker(world: &World, manifest: &PathBuf, gpus: &str) -> Command {
    let mut command = Command::new(bin("chrysalis-worker-sim"));
    command
        .args(["--gpus", gpus, "--manifest"])
        .arg(manifest)
        .arg("--bundle")
        .arg(world.path("model.chrysalis"))
        .arg("--collateral")
        .arg(world.path("collateral.json"))
        .args(["--listen", "127.0.0.1:0"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn appraise(world: &World, address: &str, pins: &str) -> Ran {
    let mut args = vec!["appraise".to_owned(), address.to_owned()];
    args.extend(world.trust_with(pins));
    chrysalis(args)
}

#[test]
fn a_worker_shows_the_gpus_of_its_manifest_and_every_rule_about_them_passes() {
    let Some(world) = World::get() else { return };
    let manifest = manifest(world);
    let mut child = worker(world, manifest, "2").spawn().unwrap();
    let console = BufReader::new(child.stdout.take().unwrap());
    let _process = Killed(child);
    let address = ready_address(console);

    let verdict = appraise(world, &address, "pins-gpus.toml").expect_code(0).stdout;
    for rule in ["FORM", "NONCE", "CHAIN", "SIGNATURE", "FWID", "DISTINCT", "MODE", "RECORDS"] {
        assert!(verdict.contains(&format!("PASS  R-GPU-{rule}")), "{rule}: {verdict}");
    }
    assert!(verdict.contains("FAKE INSECURE-SIM device root"), "{verdict}");
    let refused = appraise(world, &address, "pins-cpu-only.toml").expect_code(10);
    assert!(refused.stderr.contains("E-GPU-UNASKED"), "{}", refused.stderr);
}

#[test]
fn a_worker_with_a_gpu_less_than_its_manifest_names_does_not_boot() {
    let Some(world) = World::get() else { return };
    let manifest = manifest(world);
    for gpus in ["0", "1", "3"] {
        let ran: Ran = worker(world, manifest, gpus).output().unwrap().into();
        let ran = ran.expect_code(10);
        assert!(ran.stdout.contains("E-DEVICES"), "{}", ran.stdout);
    }
}
