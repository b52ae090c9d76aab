//! The official OpenAI SDKs, unmodified, against `chrysalis serve`; and the sealed channel from
//! a second implementation in another language against the real worker; and what fetches them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrysalis_tests::{Killed, Ran, Running, World, bin, chrysalis, eventually, root, status};

/// A gateway in front of `worker`; returns it with its base URL.
fn serve(world: &World, worker: &Running) -> (Killed, String) {
    serve_with(world, worker, "pins.toml")
}

/// The same under other pins of the world.
pub(crate) fn serve_with(world: &World, worker: &Running, pins: &str) -> (Killed, String) {
    let mut child = Command::new(bin("chrysalis"))
        .args(["serve", "--worker", &worker.address])
        .args(world.trust_with(pins))
        .args(["--listen", "127.0.0.1:0", "--format", "json", "--state"])
        .arg(worker.state.path().join("client"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = serde_json::Deserializer::from_reader(child.stdout.take().unwrap())
        .into_iter::<serde_json::Value>()
        .next()
        .expect("serve says where it listens")
        .expect("serve says it in JSON");
    let base = told["base_url"].as_str().expect("serve says where it listens").to_owned();
    (Killed(child), base)
}

/// Asks the gateway for a long answer with `curl`, as a stream into `out`.
fn curl(
    base: &str,
    request: &std::path::Path,
    headers: &std::path::Path,
    out: &std::path::Path,
) -> Child {
    Command::new("curl")
        .args(["--silent", "--show-error", "--no-buffer", "--dump-header"])
        .arg(headers)
        .arg("--output")
        .arg(out)
        .arg("--data-binary")
        .arg(format!("@{}", request.display()))
        .arg(format!("{base}/chat/completions"))
        .stdin(Stdio::null())
        .spawn()
        .expect("curl is here; scripts/setup tests installs it")
}

fn story(tokens: u32) -> String {
    format!(
        r#"{{"model":"smollm2-135m-instruct","stream":true,"stream_options":{{"include_usage":true}},"max_tokens":{tokens},"temperature":0,"messages":[{{"role":"user","content":"Write a long story."}}]}}"#
    )
}

#[test]
fn what_a_program_sent_and_got_verifies_against_the_receipt_it_was_named() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let (_gateway, base) = serve(world, &worker);
    let dir = tempfile::TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("request"), story(8)).unwrap();
    let mut child = curl(&base, &path("request"), &path("headers"), &path("response"));
    assert!(child.wait().unwrap().success());
    let headers = std::fs::read_to_string(path("headers")).unwrap();
    let id = headers.lines().find_map(|l| l.strip_prefix("x-chrysalis-receipt-id: "));
    let id = id.expect("the receipt is named in a header").trim().to_owned();
    let receipt = worker.state.path().join(format!("client/receipts/{id}.json"));
    let mut verify = vec!["receipt".to_owned(), "verify".into(), receipt.display().to_string()];
    verify.extend(world.trust());
    for name in ["request", "response"] {
        verify.extend([format!("--{name}"), path(name).display().to_string()]);
    }
    let verified = chrysalis(&verify).expect_code(0);
    assert!(!verified.stdout.contains("SKIP"), "{}", verified.stdout);
    let events = std::fs::read_to_string(path("response")).unwrap();
    std::fs::write(path("response"), events.replacen("data: {", "data: { ", 1)).unwrap();
    let refused = chrysalis(&verify).expect_code(10);
    assert!(refused.stdout.contains("FAIL  response"), "{}", refused.stdout);
}

#[test]
fn an_interrupted_gateway_finishes_its_answers_and_a_second_interrupt_ends_it_at_once() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let dir = tempfile::TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let interrupt = |gateway: &Killed| {
        let pid = gateway.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    };
    let begun = |out: &str| {
        let bytes = || std::fs::metadata(path(out)).map_or(0, |m| m.len());
        eventually(Duration::from_secs(60), "the answer begins", || (bytes() > 0).then_some(()));
    };
    // Once: the answer in progress is complete, and then the gateway ends.
    let (mut gateway, base) = serve(world, &worker);
    std::fs::write(path("short"), story(24)).unwrap();
    let mut child = curl(&base, &path("short"), &path("headers"), &path("whole"));
    begun("whole");
    interrupt(&gateway);
    assert!(child.wait().unwrap().success());
    assert!(std::fs::read_to_string(path("whole")).unwrap().ends_with("data: [DONE]\n\n"));
    assert!(gateway.0.wait().unwrap().success());
    // Twice: it ends while the answer is far from complete, and nobody can take it for complete.
    let (mut gateway, base) = serve(world, &worker);
    std::fs::write(path("long"), story(1000)).unwrap();
    let mut child = curl(&base, &path("long"), &path("headers"), &path("cut"));
    begun("cut");
    interrupt(&gateway);
    std::thread::sleep(Duration::from_millis(600));
    interrupt(&gateway);
    eventually(Duration::from_secs(5), "the gateway ends", || gateway.0.try_wait().unwrap());
    assert!(!child.wait().unwrap().success(), "a cut body is an error for curl");
    assert!(!std::fs::read_to_string(path("cut")).unwrap().contains("[DONE]"));
}

/// An interpreter that `scripts/test` prepared, or `None` (printed) outside of it.
pub(crate) fn prepared(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} is not set; run scripts/test");
        println!("skipped: {variable} is not set; scripts/test sets it");
    }
    path
}

/// The process that serves `worker`, for a scenario to kill.
fn process(worker: &Running) -> String {
    status(worker.state.path())["worker"]["pid"].to_string()
}

/// Every scenario of a script passed, and there were so many at least: one that is not run any more is no
/// scenario that passed.
pub(crate) fn all_passed(ran: &Ran, least: usize) {
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let passed = ran.stdout.lines().last().and_then(|line| line.strip_suffix(" passed, 0 failed"));
    let passed: usize = passed.and_then(|n| n.parse().ok()).expect("the script counts");
    assert!(passed >= least, "{passed} of {least} scenarios were run\n{}", ran.stdout);
    println!("{}", ran.stdout);
}

/// Scenarios through the official SDKs, the worker that is killed among them. A new one raises its number.
const PYTHON_SCENARIOS: usize = 64;
const JAVASCRIPT_SCENARIOS: usize = 47;

#[test]
fn the_official_python_sdk_works_unmodified() {
    let (Some(world), Some(python)) = (World::get(), prepared("CHRYSALIS_SDK_PYTHON")) else {
        return;
    };
    let worker = Running::start(world);
    let (_gateway, base) = serve(world, &worker);
    let ran: Ran = Command::new(python)
        .arg(root().join("tests/sdk/openai_python.py"))
        .env("BASE_URL", base)
        .env("WORKER_PID", process(&worker))
        .output()
        .unwrap()
        .into();
    all_passed(&ran, PYTHON_SCENARIOS);
}

#[test]
fn the_official_javascript_sdk_works_unmodified() {
    let (Some(world), Some(modules)) = (World::get(), prepared("CHRYSALIS_SDK_NODE")) else {
        return;
    };
    let worker = Running::start(world);
    let (_gateway, base) = serve(world, &worker);
    let script = modules.join("openai_js.mjs");
    std::fs::copy(root().join("tests/sdk/openai_js.mjs"), &script).unwrap();
    let ran: Ran = Command::new("node")
        .arg(script)
        .env("BASE_URL", base)
        .env("WORKER_PID", process(&worker))
        .output()
        .unwrap()
        .into();
    all_passed(&ran, JAVASCRIPT_SCENARIOS);
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    // Its pip is the pinned one, whose internals the script uses.
    let Some(python) = prepared("CHRYSALIS_PYTHON") else { return };
    let script = root().join("tests/python/resume_wheel.py");
    all_passed(&Command::new(python).arg(script).output().unwrap().into(), 6);
}

#[test]
fn a_second_implementation_seals_a_request_the_worker_opens_and_opens_its_answer() {
    let (Some(world), Some(python)) = (World::get(), prepared("CHRYSALIS_PYTHON")) else {
        return;
    };
    let worker = Running::start(world);
    let ran: Ran = Command::new(python)
        .arg(root().join("tests/python/ask_worker.py"))
        .arg(&worker.address)
        .output()
        .unwrap()
        .into();
    all_passed(&ran, 4);
}
