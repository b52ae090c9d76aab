//! A worker with GPUs, simulated: FAKE devices whose evidence is in every attestation, from the manifest
//! that names them to the verdict of `chrysalis appraise`. Nothing here is hardware.

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use chrysalis_tests::{Killed, Ran, Running, World, bin, chrysalis, up_args};

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

fn worker(world: &World, manifest: &Path, gpus: &str) -> Command {
    worker_of(&bin("chrysalis-worker-sim"), world, manifest, gpus)
}

fn worker_of(program: &Path, world: &World, manifest: &Path, gpus: &str) -> Command {
    let mut command = Command::new(program);
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

/// The simulated worker built with the feature `cuda`, as `scripts/test` does. What it has for kernels is
/// none: no driver is here to look at them.
fn built_for_gpus() -> Option<PathBuf> {
    let program = std::env::var_os("CHRYSALIS_CUDA_WORKER_SIM").map(PathBuf::from);
    if program.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CHRYSALIS_CUDA_WORKER_SIM is not set");
        println!("skipped: CHRYSALIS_CUDA_WORKER_SIM is not set; scripts/test sets it");
    }
    // Where there is a driver, other tests are worth more than this one.
    program.filter(|_| {
        let driver =
            ["/proc/driver/nvidia", "/dev/nvidiactl"].iter().any(|p| Path::new(p).exists());
        if driver {
            println!("skipped: this machine has an NVIDIA driver");
        }
        !driver
    })
}

/// A program that `up` can start: the worker beside two FAKE GPUs, without the shell's environment.
fn with_two_gpus(world: &World, program: &Path) -> PathBuf {
    let script = world.path("two-gpus.sh");
    let text = format!("#!/bin/sh\nexec env -i '{}' --gpus 2 \"$@\"\n", program.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn a_worker_that_computes_on_gpus_refuses_a_machine_without_a_driver_before_it_makes_a_key() {
    let (Some(program), Some(world)) = (built_for_gpus(), World::get()) else { return };
    let ran: Ran = worker_of(&program, world, manifest(world), "2").output().unwrap().into();
    let console = ran.expect_code(10).stdout;
    let refused = r#""stage":"manifest","state":"refused""#;
    assert!(console.contains(refused) && console.contains(r#""code":"E-CUDA-NONE""#), "{console}");
    assert!(!console.contains(r#""keys""#) && !console.contains("listening"), "{console}");
}

#[test]
fn up_says_that_the_driver_is_missing_and_what_to_do_and_so_does_status() {
    let (Some(program), Some(world)) = (built_for_gpus(), World::get()) else { return };
    let state = tempfile::tempdir().unwrap();
    let mut args = up_args(world, manifest(world), &world.path("model.chrysalis"), state.path());
    args[2] = with_two_gpus(world, &program);
    let said = chrysalis(&args).expect_code(10).stderr;
    let shown = chrysalis(["status".as_ref(), "--state".as_ref(), state.path().as_os_str()]);
    for (text, code) in [(said, "error[E-CUDA-NONE]"), (shown.expect_code(0).stdout, "E-CUDA-NONE")]
    {
        for words in [code, "no NVIDIA driver (libcuda.so.1)", "driver 580", "without --gpus"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}

#[test]
fn the_same_build_serves_a_manifest_without_gpus_by_the_processor() {
    let (Some(program), Some(world)) = (built_for_gpus(), World::get()) else { return };
    let (manifest, bundle) = (world.path("worker.toml"), world.path("model.chrysalis"));
    let state = tempfile::tempdir().unwrap();
    let mut args = up_args(world, &manifest, &bundle, state.path());
    args[2] = program;
    chrysalis(&args).expect_code(0);
    let address = chrysalis_tests::address_of(state.path());
    let running = Running { state, address };
    // It is another program than the pinned one: only its own measurement differs.
    let verdict = appraise(world, &running.address, "pins.toml").expect_code(10).stdout;
    assert!(verdict.contains("FAIL  R-IMAGE"), "{verdict}");
}
