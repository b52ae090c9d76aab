//! Workers that die, stall or are full: typed errors, nothing partial shown as complete, and the
//! worker keeps serving.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrysalis_tests::{Killed, Running, World, bin, eventually, status};

fn worker_pid(worker: &Running) -> Option<i64> {
    status(worker.state.path())["worker"]["pid"].as_i64()
}

/// Asks for an answer that takes seconds, and returns when its first words are there: from then on the
/// worker is in the middle of it. Greedy, so that it is the same long answer every time; a sampled one
/// may end early.
fn begin_long_answer(world: &World, worker: &Running, pins: &str) -> Child {
    let mut args = vec!["ask".to_owned(), "--worker".into(), worker.address.clone()];
    args.extend(world.trust_with(pins));
    args.extend(["--max-tokens".into(), "1500".into(), "--temperature".into(), "0".into()]);
    args.extend(["--state".into(), worker.state.path().display().to_string()]);
    args.push("Write a very long story.".into());
    let mut child = Command::new(bin("chrysalis"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).expect("the answer begins");
    child
}

#[test]
fn a_worker_killed_mid_stream_gives_an_error_and_is_restarted() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let pid = worker_pid(&worker).expect("status names the worker's process");
    let child = begin_long_answer(world, &worker, "pins.toml");
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "a cut answer is not complete: {stderr}");
    assert!(stderr.contains("error[E-"), "{stderr}");

    let next = eventually(Duration::from_secs(60), "the loader restarts the worker", || {
        worker_pid(&worker).filter(|new| *new != pid)
    });
    assert_ne!(next, pid);
    eventually(Duration::from_secs(60), "the restarted worker answers", || {
        (worker.ask(world, &["--max-tokens", "4"], "Hello").code == 0).then_some(())
    });
}

#[test]
fn one_request_more_than_the_manifest_computes_at_once_waits_for_its_turn() {
    let Some(world) = World::get() else { return };
    let manifest = world.path("one-at-a-time.toml");
    let text = std::fs::read_to_string(world.path("worker.toml")).unwrap();
    let text: String =
        text.lines()
            .map(|line| {
                if line.starts_with("concurrent_requests") {
                    "concurrent_requests = 1"
                } else {
                    line
                }
            })
            .fold(String::new(), |all, line| all + line + "\n");
    std::fs::write(&manifest, text).unwrap();
    world.measure(&manifest, "pins-one.toml");
    let (worker, ran) = Running::try_start(world, &manifest, &world.path("model.chrysalis"));
    ran.expect_code(0);
    let worker = worker.unwrap();
    let ask = |tokens: &str, prompt: &str| {
        let mut args = vec!["ask".to_owned(), "--worker".into(), worker.address.clone()];
        args.extend(world.trust_with("pins-one.toml"));
        args.extend(["--max-tokens".into(), tokens.into(), "--state".into()]);
        args.extend([worker.state.path().display().to_string(), prompt.into()]);
        args
    };
    let long = Killed(begin_long_answer(world, &worker, "pins-one.toml"));
    let mut waits = Command::new(bin("chrysalis"))
        .args(ask("4", "Hello"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(waits.try_wait().unwrap().is_none(), "it was not its turn");
    // The first requester goes away, and the next one is answered, which was never refused.
    drop(long);
    let answered = waits.wait_with_output().unwrap();
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
}

#[test]
fn a_worker_survives_garbage_on_its_port() {
    use std::io::Write;
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let pid = worker_pid(&worker);
    for size in [0, 1, 100, 100_000] {
        let mut stream = std::net::TcpStream::connect(&worker.address).unwrap();
        drop(stream.write_all(&vec![0x16; size]));
    }
    worker.ask(world, &["--max-tokens", "4"], "Hello").expect_code(0);
    assert_eq!(worker_pid(&worker), pid, "the same process still serves");
}
