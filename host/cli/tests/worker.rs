//! `chrysalis up | status | logs | down` with the real supervisor process and a scripted worker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Run, World};

/// A worker that boots, says it listens on `address`, and waits.
fn booting(address: &str) -> String {
    format!(
        r#"echo 'a line that is no event'
echo '{{"event":"stage","stage":"manifest","state":"done"}}'
echo '{{"event":"listening","address":"{address}","insecure_sim":true}}'
echo '{{"event":"stage","stage":"model","state":"progress","done":1,"total":2}}'
echo '{{"event":"stage","stage":"model","state":"done"}}'
echo '{{"event":"stage","stage":"ready","state":"done"}}'
trap 'echo "{{\"event\":\"stopping\"}}"; exit 0' TERM
while :; do /bin/sleep 0.05; done"#
    )
}

/// Starts `script` as the worker, through the supervisor.
fn up(world: &World, script: &str, flags: &str) -> Run {
    let worker = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../loader/tests/fixtures/fake-worker.sh")
        .display()
        .to_string();
    world.file("script", script);
    world.file("bundle", "");
    world.run(&format!(
        "{flags} up --worker {worker} --manifest @script --bundle @bundle --collateral @bundle \
         --listen 127.0.0.1:0 --state @state"
    ))
}

#[test]
fn a_worker_comes_up_is_watched_and_goes_down() {
    let world = World::new();
    let run = up(&world, &booting("127.0.0.1:4"), "").success();
    assert!(run.stdout().starts_with("INSECURE-SIM"), "{}", run.stdout());
    assert!(run.stderr().contains("manifest  done"), "{}", run.stderr());
    // What it suggests is for this worker and not for the default directory's.
    let down = format!("`chrysalis down --state {}`", world.arg("state"));
    assert!(run.stdout().contains(&down), "{}", run.stdout());
    assert!(!run.stderr().contains("no event"), "{}", run.stderr());

    let json = world.run("--format json status --state @state").success();
    let json = json.json("chrysalis/status/v1");
    assert_eq!((&json["supervisor"], &json["run"]["phase"]), (&"up".into(), &"ready".into()));

    let second = up(&world, &booting("127.0.0.1:4"), "");
    let text = second.exits(10).says("E-ALREADY-RUNNING").stderr();
    assert!(text.contains(json["run"]["listen"].as_str().unwrap()), "{text}");

    let logs = world.run("logs --state @state").success().stdout();
    assert!(logs.contains("ready     done"), "{logs}");
    let first = world.run("--format json logs --state @state").success().stdout();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["schema"], &first["stage"]),
        (&"chrysalis/console/v1".into(), &"manifest".into())
    );

    let down = world.run("--format json down --state @state").success();
    assert_eq!(down.json("chrysalis/down/v1")["outcome"], "stopped");
    let text = world.run("status --state @state").success().stdout();
    assert!(text.contains("Nothing is running") && text.contains("stopped"), "{text}");
    let again = world.run("--format json down --state @state").success();
    assert_eq!(again.json("chrysalis/down/v1")["outcome"], "nothing-running");
}

#[test]
fn a_refusal_at_boot_exits_10_with_the_workers_code() {
    let world = World::new();
    let script = r#"echo '{"event":"stage","stage":"model","state":"refused","code":"E-CHUNK-HASH"}'; exit 10"#;
    up(&world, script, "").exits(10).says("E-CHUNK-HASH");
    let text = world.run("status --state @state").success().stdout();
    assert!(text.contains("refused with        E-CHUNK-HASH"), "{text}");
    assert!(text.contains("chrysalis model verify"), "a code alone helps nobody: {text}");
}

#[test]
fn a_refusal_says_what_it_means_and_what_to_do() {
    let world = World::new();
    let script = r#"echo '{"event":"stage","stage":"manifest","state":"refused","code":"E-TEE-NONE"}'; exit 10"#;
    let text = up(&world, script, "").exits(10).says("E-TEE-NONE").stderr();
    assert!(text.contains("boot stage manifest: this machine has no TEE"), "{text}");
    assert!(text.contains("chrysalis-worker-sim"), "{text}");
}

#[test]
fn an_interrupted_boot_is_stopped_and_nothing_goes_on_behind_it() {
    let world = World::new();
    world.file("script", "exec /bin/sleep 60");
    world.file("bundle", "");
    let worker =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../loader/tests/fixtures/fake-worker.sh");
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_chrysalis"))
        .args(["up", "--worker", worker.to_str().unwrap(), "--manifest", &world.arg("script")])
        .args(["--bundle", &world.arg("bundle"), "--collateral", &world.arg("bundle")])
        .args(["--listen", "127.0.0.1:0", "--state", &world.arg("state")])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = || world.run("--format json status --state @state").json("chrysalis/status/v1");
    let running = || status()["run"]["worker"]["pid"].is_number();
    assert!((0..400).any(|_| running()), "the worker never started");
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("/bin/kill").args(["-INT", &pid]).status().unwrap().success()
    );
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("interrupted") && text.contains("error[E-STOPPED]"), "{text}");
    assert_eq!(status()["supervisor"], "down");
}

#[test]
fn what_is_not_there_is_said_with_its_place() {
    let world = World::new();
    let place = world.arg("state");
    for line in ["status --state @state", "down --state @state"] {
        let text = world.run(line).success().stdout();
        assert!(text.contains(&format!("in {place}.")), "{text}");
    }
    let run = world.run("logs --state @state").success();
    assert!(run.stderr().contains("no log yet") && run.stderr().contains(&place));
    assert_eq!(run.stdout(), "");
}

#[test]
fn log_lines_have_a_time_that_people_read() {
    let world = World::new();
    up(&world, &booting("127.0.0.1:4"), "").success();
    let logs = world.run("logs --state @state").success().stdout();
    let first = logs.lines().next().unwrap();
    assert!(first.starts_with("20") && first.get(19..22) == Some("Z  "), "{first}");
    world.run("down --state @state").success();
}

#[test]
fn a_sealed_worker_waits_for_its_grant_and_up_says_so() {
    let world = World::new();
    let script =
        r#"echo '{"event":"stage","stage":"grant","state":"started"}'; exec /bin/sleep 60"#;
    let run = up(&world, script, "--format json").success();
    assert_eq!(run.json("chrysalis/up/v1")["waiting_for_grant"], true);
    world.run("down --state @state").success();
}

#[test]
fn a_killed_supervisor_is_seen_and_its_worker_cleaned_up() {
    let world = World::new();
    up(&world, &booting("127.0.0.1:4"), "").success();
    let run = world.run("--format json status --state @state").json("chrysalis/status/v1");
    let supervisor = run["run"]["supervisor"].to_string();
    let worker = run["run"]["worker"]["pid"].to_string();
    std::process::Command::new("/bin/kill").args(["-9", &supervisor]).status().unwrap();
    let stale = || {
        let run = world.run("--format json status --state @state");
        run.json("chrysalis/status/v1")["supervisor"] == "stale"
    };
    assert!((0..200).any(|_| stale()), "never stale");
    let text = world.run("status --state @state").success().stdout();
    assert!(text.contains("The supervisor died"), "{text}");
    let down = world.run("--format json down --state @state").success();
    assert_eq!(down.json("chrysalis/down/v1")["outcome"], "ended-orphan");
    // Gone, or dead and not yet collected by whoever inherits orphans here.
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
}

#[test]
fn a_worker_that_is_not_there_or_not_a_program_is_wrong_usage() {
    let world = World::new();
    world.file("f", "x");
    let files = "--manifest @f --bundle @f --collateral @f --state @state";
    world.run(&format!("up --worker @nowhere {files}")).exits(64).says("E-NO-FILE");
    world.run(&format!("up --worker @f {files}")).exits(64).says("E-NOT-EXECUTABLE");
}

#[test]
fn an_address_in_use_is_said_before_anything_runs() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    world.file("f", "x");
    let run = world.run(&format!(
        "up --worker /bin/true --manifest @f --bundle @f --collateral @f --state @state --listen {listen}"
    ));
    run.exits(1).says("E-LISTEN");
}

#[test]
fn a_supervisor_started_by_hand_refuses() {
    let world = World::new();
    let output = world.command().arg("__supervise").write_stdin("{}").output().unwrap();
    assert_eq!(output.status.code(), Some(30));
    assert!(String::from_utf8_lossy(&output.stderr).contains("E-LAUNCH"));
}
