//! What a worker refuses before it is ready, and what a verifier refuses about it.

use std::fs;
use std::process::{Command, Stdio};

use chrysalis_tests::{Ran, Running, World, bin, chrysalis};

fn appraise(world: &World, worker: &Running, pins: &str) -> Ran {
    let mut args = vec!["appraise".to_owned(), worker.address.clone()];
    args.extend(world.trust_with(pins));
    chrysalis(args)
}

/// Runs a worker binary directly and returns what it printed; it is expected to end by itself.
fn run_worker(binary: &str, args: &[String], env: &[(&str, &str)]) -> Ran {
    Command::new(bin(binary))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into()
}

fn worker_args(world: &World) -> Vec<String> {
    let path = |name| world.path(name).display().to_string();
    let mut args = Vec::new();
    for (flag, value) in [
        ("--manifest", path("worker.toml")),
        ("--bundle", path("model.chrysalis")),
        ("--collateral", path("collateral.json")),
        ("--listen", "127.0.0.1:0".into()),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    args
}

#[test]
fn the_pinned_worker_is_accepted_with_every_rule_named() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let ran = appraise(world, &worker, "pins.toml").expect_code(0);
    for rule in ["R-DCAP", "R-REPORT-DATA", "R-MODEL-ROOT", "R-TLS-KEY"] {
        assert!(ran.stdout.contains(rule), "{rule} is not in the transcript:\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("FAIL"));
}

#[test]
fn refuses_a_worker_with_another_measurement_naming_the_rule() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let pins = fs::read_to_string(world.path("pins.toml")).unwrap();
    let at = pins.find("mrtd = \"").unwrap() + 8;
    let mut other = pins.clone();
    other.replace_range(at..at + 4, if &pins[at..at + 4] == "0000" { "1111" } else { "0000" });
    fs::write(world.path("pins-other-image.toml"), other).unwrap();
    let ran = appraise(world, &worker, "pins-other-image.toml").expect_code(10);
    assert!(ran.stdout.contains("R-IMAGE"), "{}", ran.stdout);
    assert!(ran.stderr.contains("next"), "a refusal says what to do: {}", ran.stderr);
}

#[test]
fn refuses_a_worker_that_runs_another_manifest() {
    let Some(world) = World::get() else { return };
    let manifest = world.path("other-manifest.toml");
    let text = fs::read_to_string(world.path("worker.toml")).unwrap();
    fs::write(&manifest, text + "# one comment more is another manifest\n").unwrap();
    let (worker, ran) = Running::try_start(world, &manifest, &world.path("model.chrysalis"));
    ran.expect_code(0);
    appraise(world, &worker.unwrap(), "pins.toml").expect_code(10);
}

#[test]
fn production_pins_refuse_a_simulated_worker() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let pins: String = fs::read_to_string(world.path("pins.toml"))
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("sim_root"))
        .map(|line| line.replace("INSECURE-SIM", "production").replace("5458253", "-3") + "\n")
        .collect();
    fs::write(world.path("pins-production.toml"), pins).unwrap();
    let mut args = vec!["appraise".to_owned(), worker.address.clone()];
    args.extend(
        world.trust_with("pins-production.toml").into_iter().filter(|a| a != "--insecure-sim"),
    );
    let ran = chrysalis(args).expect_code(10);
    assert!(ran.stdout.contains("FAIL"), "{}", ran.stdout);
}

#[test]
fn simulation_pins_do_not_load_unless_asked_for_by_name() {
    let Some(world) = World::get() else { return };
    let mut args = vec!["appraise".to_owned(), "127.0.0.1:1".into()];
    args.extend(world.trust().into_iter().filter(|a| a != "--insecure-sim"));
    let ran = chrysalis(args);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("--insecure-sim"), "{}", ran.stderr);
}

#[test]
fn a_worker_refuses_a_bundle_with_one_wrong_byte_naming_the_chunk() {
    let Some(world) = World::get() else { return };
    let bundle = world.path("wrong-byte.chrysalis");
    let mut bytes = fs::read(world.path("model.chrysalis")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (worker, ran) = Running::try_start(world, &world.path("worker.toml"), &bundle);
    assert!(worker.is_none());
    let ran = ran.expect_code(10);
    assert!(ran.stderr.contains("E-CHUNK"), "{}", ran.stderr);
    let verify =
        chrysalis(["model".as_ref(), "verify".as_ref(), bundle.as_os_str()]).expect_code(10);
    let said = verify.stdout + &verify.stderr;
    assert!(said.contains("chunk"), "the wrong chunk is named: {said}");
}

#[test]
fn a_worker_refuses_a_bundle_that_is_cut() {
    let Some(world) = World::get() else { return };
    let bundle = world.path("cut.chrysalis");
    let bytes = fs::read(world.path("model.chrysalis")).unwrap();
    fs::write(&bundle, &bytes[..bytes.len() - 5_000_000]).unwrap();
    let (worker, ran) = Running::try_start(world, &world.path("worker.toml"), &bundle);
    assert!(worker.is_none());
    ran.expect_code(10);
}

#[test]
fn a_worker_refuses_any_environment_variable() {
    let Some(world) = World::get() else { return };
    let ran = run_worker("chrysalis-worker-sim", &worker_args(world), &[("LD_BIND_NOW", "1")])
        .expect_code(10);
    assert!(ran.stdout.contains("E-ENVIRONMENT"), "{}", ran.stdout);
}

#[test]
fn a_worker_refuses_an_unknown_argument() {
    let Some(world) = World::get() else { return };
    let mut args = worker_args(world);
    args.push("--debug".into());
    run_worker("chrysalis-worker-sim", &args, &[]).expect_code(64);
}

#[test]
fn a_simulated_worker_refuses_to_serve_a_real_network() {
    let Some(world) = World::get() else { return };
    let manifest = world.path("mainnet.toml");
    let text = fs::read_to_string(world.path("worker.toml")).unwrap().replace("5458253", "-239");
    fs::write(&manifest, text).unwrap();
    let mut args = worker_args(world);
    args[1] = manifest.display().to_string();
    let ran = run_worker("chrysalis-worker-sim", &args, &[]).expect_code(10);
    assert!(ran.stdout.contains("E-NETWORK"), "{}", ran.stdout);
}

#[test]
fn the_release_worker_refuses_a_machine_without_a_tee() {
    let Some(world) = World::get() else { return };
    if ["/dev/tdx_guest", "/dev/attestation"].iter().any(|p| fs::metadata(p).is_ok()) {
        println!("skipped: this machine has a TEE");
        return;
    }
    let ran = run_worker("chrysalis-worker", &worker_args(world), &[]).expect_code(10);
    assert!(ran.stdout.contains("refused"), "{}", ran.stdout);
}

#[test]
fn the_release_worker_does_not_contain_the_simulators_root() {
    let Some(world) = World::get() else { return };
    let hex = fs::read_to_string(world.path("sim-root.hex")).unwrap();
    let root: Vec<u8> = (0..hex.trim().len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    // The key inside the certificate is what would have to be there; 64 bytes of it are unique.
    let needle = &root[root.len() / 2..root.len() / 2 + 64];
    let found =
        |name: &str| fs::read(bin(name)).unwrap().windows(needle.len()).any(|w| w == needle);
    assert!(found("chrysalis-worker-sim"), "the needle is not even in the simulator");
    assert!(!found("chrysalis-worker"));
    assert!(!found("chrysalis"));
}
