//! Sealed weights: the worker waits for a key that only its attested key can open.

use std::path::{Path, PathBuf};

use chrysalis_tests::{READY_TIMEOUT, Ran, Running, World, chrysalis, eventually, status};

/// A sealed bundle with its own manifest and pins.
struct Sealed {
    bundle: PathBuf,
    key: PathBuf,
    manifest: PathBuf,
    pins: String,
}

fn seal(world: &World, name: &str) -> Sealed {
    let key = world.path(&format!("{name}.key"));
    chrysalis(["model", "keygen", "--out", key.to_str().unwrap()]).expect_code(0);
    let bundle = world.path(&format!("{name}.chrysalis"));
    let gguf = chrysalis_tests::model().unwrap();
    chrysalis([
        "model".as_ref(),
        "pack".as_ref(),
        "--gguf".as_ref(),
        gguf.as_os_str(),
        "--name".as_ref(),
        "smollm2-135m-instruct".as_ref(),
        "--seal-key".as_ref(),
        key.as_os_str(),
        "--out".as_ref(),
        bundle.as_os_str(),
    ])
    .expect_code(0);
    let (manifest, pins) = (format!("{name}.toml"), format!("{name}-pins.toml"));
    world.pin(&bundle, &manifest, &pins);
    Sealed { bundle, key, manifest: world.path(&manifest), pins }
}

/// A worker that waits for the key of `sealed`; `up` returns once it does.
fn start_waiting(world: &World, sealed: &Sealed) -> Running {
    let (worker, ran) = Running::try_start(world, &sealed.manifest, &sealed.bundle);
    let ran = ran.expect_code(0);
    assert!(ran.stdout.contains("model grant"), "up names the next step: {}", ran.stdout);
    let worker = worker.unwrap();
    assert_eq!(status(worker.state.path())["phase"], "waiting-for-grant");
    worker
}

fn phase(worker: &Running) -> String {
    status(worker.state.path())["phase"].as_str().unwrap_or_default().to_owned()
}

fn grant(world: &World, address: &str, sealed: &Sealed, key: &Path, pins: &str) -> Ran {
    let mut args = vec!["model".to_owned(), "grant".into(), "--worker".into(), address.into()];
    args.extend(world.trust_with(pins));
    args.extend(["--bundle".into(), sealed.bundle.display().to_string()]);
    args.extend(["--key".into(), key.display().to_string()]);
    chrysalis(args)
}

#[test]
fn a_sealed_model_is_served_after_a_grant_to_the_pinned_worker_and_to_no_other() {
    let Some(world) = World::get() else { return };
    let sealed = seal(world, "granted");
    let worker = start_waiting(world, &sealed);
    let address = worker.address.clone();

    // Pins of another manifest: the owner's client refuses to hand out the key.
    grant(world, &address, &sealed, &sealed.key, "pins.toml").expect_code(10);

    grant(world, &address, &sealed, &sealed.key, &sealed.pins).expect_code(0);
    eventually(READY_TIMEOUT, "the worker becomes ready after the grant", || {
        (phase(&worker) == "ready").then_some(())
    });

    let mut args = vec!["ask".to_owned(), "--worker".into(), address.clone()];
    args.extend(world.trust_with(&sealed.pins));
    args.extend(["--max-tokens".into(), "8".into(), "--state".into()]);
    args.extend([worker.state.path().display().to_string(), "Hello".into()]);
    chrysalis(args).expect_code(0);

    // One grant per boot: the second is refused by type.
    let again = grant(world, &address, &sealed, &sealed.key, &sealed.pins);
    assert_ne!(again.code, 0);
    assert!(again.stderr.contains("E-NO-GRANT-EXPECTED"), "{}", again.stderr);
}

#[test]
fn a_grant_of_the_wrong_key_is_refused_and_the_worker_waits_for_the_right_one() {
    let Some(world) = World::get() else { return };
    let sealed = seal(world, "wrong-key");
    let other = world.path("other.key");
    chrysalis(["model", "keygen", "--out", other.to_str().unwrap()]).expect_code(0);
    let worker = start_waiting(world, &sealed);
    let pid = status(worker.state.path())["worker"]["pid"].as_i64();
    for _ in 0..2 {
        let refused = grant(world, &worker.address, &sealed, &other, &sealed.pins).expect_code(10);
        assert!(refused.stderr.contains("E-KEY-WRONG"), "{}", refused.stderr);
        assert!(refused.stderr.contains("goes on waiting"), "{}", refused.stderr);
        assert_eq!(phase(&worker), "waiting-for-grant");
    }
    grant(world, &worker.address, &sealed, &sealed.key, &sealed.pins).expect_code(0);
    eventually(READY_TIMEOUT, "the worker becomes ready", || {
        (phase(&worker) == "ready").then_some(())
    });
    assert_eq!(status(worker.state.path())["worker"]["pid"].as_i64(), pid, "the same process");
}

#[test]
fn sealing_does_not_change_the_model_root_and_the_file_does_not_contain_the_weights() {
    let Some(world) = World::get() else { return };
    let sealed = seal(world, "root");
    let root = |bundle: &Path| {
        chrysalis([
            "model".as_ref(),
            "inspect".as_ref(),
            "--format".as_ref(),
            "json".as_ref(),
            bundle.as_os_str(),
        ])
        .expect_code(0)
        .json()["model_root"]
            .as_str()
            .expect("inspect names the root")
            .to_owned()
    };
    assert_eq!(root(&sealed.bundle), root(&world.path("model.chrysalis")));
    let bytes = std::fs::read(&sealed.bundle).unwrap();
    assert!(!bytes.windows(9).any(|w| w == b"blk.0.att"), "a tensor name is readable");
}
