//! A worker in a simulated SGX enclave: the same program, client and rules as everywhere, under pins
//! of enclaves. Nothing here is hardware or Gramine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use chrysalis_tests::{Killed, READY_TIMEOUT, Ran, Running, World, bin, chrysalis};
use serde_json::Value;
use tempfile::TempDir;

/// Pins and collateral for an enclave with the world's manifest, and the enclave itself.
struct Enclave {
    dir: TempDir,
    address: String,
    /// The measurement digest that the files alone predict.
    predicted: String,
    _process: Killed,
}

impl Enclave {
    fn start(world: &World) -> Self {
        let dir = TempDir::new().unwrap();
        let collateral = dir.path().join("collateral.json");
        let written: Ran = Command::new(bin("chrysalis-worker-sim"))
            .args(["sim", "sgx-collateral", "--out"])
            .arg(&collateral)
            .output()
            .unwrap()
            .into();
        written.expect_code(0);
        let predicted = chrysalis([
            "--format".as_ref(),
            "json".as_ref(),
            "measure".as_ref(),
            "worker".as_ref(),
            "--enclave".as_ref(),
            "--worker".as_ref(),
            bin("chrysalis-worker-sim").as_os_str(),
            "--manifest".as_ref(),
            world.path("worker.toml").as_os_str(),
            "--sim-root".as_ref(),
            world.path("sim-root.hex").as_os_str(),
            "--pins-out".as_ref(),
            dir.path().join("pins.toml").as_os_str(),
        ])
        .expect_code(0)
        .json();
        let mut child = Command::new(bin("chrysalis-worker-sim"))
            .arg("sgx")
            .arg("--manifest")
            .arg(world.path("worker.toml"))
            .arg("--bundle")
            .arg(world.path("model.chrysalis"))
            .arg("--collateral")
            .arg(&collateral)
            .args(["--listen", "127.0.0.1:0"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let console = BufReader::new(child.stdout.take().unwrap());
        let process = Killed(child);
        let address = ready_address(console);
        let predicted = predicted["measurement"].as_str().unwrap().to_owned();
        Self { dir, address, predicted, _process: process }
    }

    /// `--pins … --collateral … --insecure-sim`.
    fn trust(&self) -> Vec<String> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        vec![
            "--pins".into(),
            file("pins.toml"),
            "--collateral".into(),
            file("collateral.json"),
            "--insecure-sim".into(),
        ]
    }
}

/// Reads the console until the worker is ready; its address was said before.
pub(crate) fn ready_address(console: impl BufRead + Send + 'static) -> String {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in console.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let (end, mut address) = (Instant::now() + READY_TIMEOUT, None);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).expect("the worker gets ready in time");
        let event: Value = serde_json::from_str(&line).expect("the console speaks JSON");
        match event["event"].as_str() {
            Some("listening") => address = event["address"].as_str().map(str::to_owned),
            Some("stage") if event["stage"] == "ready" && event["state"] == "done" => break,
            _ => assert_ne!(event["state"], "refused", "{line}"),
        }
    }
    address.expect("a ready worker listens")
}

fn ask(address: &str, trust: Vec<String>, state: &TempDir) -> Ran {
    let mut args = vec!["ask".to_owned(), "--worker".into(), address.to_owned()];
    args.extend(trust);
    args.extend(["--max-tokens".into(), "16".into(), "--temperature".into(), "0".into()]);
    args.extend(["--state".into(), state.path().display().to_string()]);
    args.push("What is a prime number?".into());
    chrysalis(args)
}

#[test]
fn an_enclave_answers_under_its_own_pins_and_its_receipt_names_the_predicted_measurement() {
    let Some(world) = World::get() else { return };
    let enclave = Enclave::start(world);

    let mut appraise = vec!["appraise".to_owned(), enclave.address.clone()];
    appraise.extend(enclave.trust());
    let transcript = chrysalis(appraise).expect_code(0).stdout;
    for rule in ["R-SGX-DEBUG", "R-SGX-ATTRIBUTES", "R-SGX-ENCLAVE", "R-SGX-EVENTS"] {
        assert!(transcript.contains(&format!("PASS  {rule}")), "{rule}: {transcript}");
    }
    for rule in ["R-TD-ATTRIBUTES", "R-IMAGE", "R-EVENT-LOG"] {
        assert!(transcript.contains(&format!("SKIP  {rule}")), "{rule}: {transcript}");
    }
    assert!(transcript.contains("INSECURE-SIM"));

    let state = TempDir::new().unwrap();
    let answer = ask(&enclave.address, enclave.trust(), &state).expect_code(0);
    assert!(!answer.stdout.trim().is_empty(), "the model answers");
    assert!(answer.stderr.contains("R-SGX-ENCLAVE"), "{}", answer.stderr);

    let receipts = fs::read_dir(state.path().join("receipts")).unwrap();
    let receipt = receipts.map(|e| e.unwrap().path()).next().expect("the receipt is kept");
    let stored = fs::read_to_string(&receipt).unwrap();
    let named = format!("\"measurement_sha256\": \"{}\"", enclave.predicted);
    assert!(stored.contains(&named) || stored.contains(&named.replace(": ", ":")), "{stored}");
    let mut verify = vec!["receipt".to_owned(), "verify".into(), receipt.display().to_string()];
    verify.extend(enclave.trust());
    let verified = chrysalis(verify).expect_code(0);
    assert!(verified.stdout.contains("PASS  measurement"), "{}", verified.stdout);
}

#[test]
fn an_enclave_is_refused_under_pins_of_a_trust_domain_and_the_other_way_round() {
    let Some(world) = World::get() else { return };
    let enclave = Enclave::start(world);
    let state = TempDir::new().unwrap();
    let refused = ask(&enclave.address, world.trust(), &state).expect_code(10);
    assert!(refused.stderr.contains("E-QUOTE-TEE"), "{}", refused.stderr);
    assert!(refused.stdout.trim().is_empty(), "nothing is asked of a refused worker");

    let domain = Running::start(world);
    let mut trust = enclave.trust();
    // Its own collateral, so that the pins are what refuses.
    trust[3] = world.path("collateral.json").display().to_string();
    let refused = ask(&domain.address, trust, &state).expect_code(10);
    assert!(refused.stderr.contains("E-TD-ATTRIBUTES"), "{}", refused.stderr);
}

#[test]
fn an_enclave_with_another_worker_manifest_is_refused_because_its_quote_says_so() {
    let Some(world) = World::get() else { return };
    let enclave = Enclave::start(world);
    let pins = enclave.dir.path().join("pins.toml");
    let text = fs::read_to_string(&pins).unwrap();
    let line = text.lines().find(|line| line.starts_with("manifest_sha256")).unwrap();
    let other = format!("manifest_sha256 = \"{}\"", "ab".repeat(32));
    fs::write(&pins, text.replace(line, &other)).unwrap();
    let state = TempDir::new().unwrap();
    let refused = ask(&enclave.address, enclave.trust(), &state).expect_code(10);
    assert!(refused.stderr.contains("E-MANIFEST-PIN"), "{}", refused.stderr);
}
