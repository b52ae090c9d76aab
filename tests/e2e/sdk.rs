//! The official OpenAI SDKs, unmodified, against `chrysalis serve`; and the sealed channel from
//! a second implementation in another language against the real worker; and what fetches them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use chrysalis_tests::{Killed, Ran, Running, World, bin, root};

/// A gateway in front of `worker`; returns it with its base URL.
fn serve(world: &World, worker: &Running) -> (Killed, String) {
    let mut child = Command::new(bin("chrysalis"))
        .args(["serve", "--worker", &worker.address])
        .args(world.trust())
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

/// An interpreter that `scripts/test` prepared, or `None` (printed) outside of it.
fn prepared(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} is not set; run scripts/test");
        println!("skipped: {variable} is not set; scripts/test sets it");
    }
    path
}

fn all_passed(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains(", 0 failed"), "{}", ran.stdout);
    println!("{}", ran.stdout);
}

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
        .output()
        .unwrap()
        .into();
    all_passed(&ran);
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
    let ran: Ran = Command::new("node").arg(script).env("BASE_URL", base).output().unwrap().into();
    all_passed(&ran);
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    // Its pip is the pinned one, whose internals the script uses.
    let Some(python) = prepared("CHRYSALIS_PYTHON") else { return };
    let script = root().join("tests/python/resume_wheel.py");
    all_passed(&Command::new(python).arg(script).output().unwrap().into());
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
    all_passed(&ran);
}
