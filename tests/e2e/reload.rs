//! `chrysalis serve` follows its pins: a bad file keeps the last good one and is named, a denial holds
//! at once, also for an answer in progress and beside collateral that is broken, and what is accepted
//! again is served again, all without a restart.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use chrysalis_tests::{Killed, Running, World, bin, eventually};
use serde_json::Value;
use tempfile::TempDir;

/// A gateway with pins of its own.
struct Serving {
    address: String,
    dir: TempDir,
    _process: Killed,
}

impl Serving {
    fn start(world: &World, worker: &Running) -> Self {
        let dir = TempDir::new().unwrap();
        for file in ["pins.toml", "collateral.json"] {
            fs::copy(world.path(file), dir.path().join(file)).unwrap();
        }
        let mut child = Command::new(bin("chrysalis"))
            .args(["--format", "json", "serve", "--worker", &worker.address])
            .arg("--pins")
            .arg(dir.path().join("pins.toml"))
            .arg("--collateral")
            .arg(dir.path().join("collateral.json"))
            .args(["--insecure-sim", "--listen", "127.0.0.1:0", "--state"])
            .arg(dir.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let process = Killed(child);
        let body: Value = loop {
            let read = stdout.read_line(&mut said).unwrap();
            assert!(read > 0, "no result: {said}");
            if let Ok(body) = serde_json::from_str(&said) {
                break body;
            }
        };
        let url = body["base_url"].as_str().unwrap();
        let address = url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
        Self { address, dir, _process: process }
    }

    /// Replaces the pins as an editor does: beside, then in place.
    fn pins(&self, text: &str) {
        let beside = self.dir.path().join("pins.new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.dir.path().join("pins.toml")).unwrap();
    }

    /// Sends a request, whose answer ends with its connection.
    fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
             application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        stream
    }

    fn http(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = self.send(head, body);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.get(9..12).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn health(&self) -> Value {
        let (status, body) = self.http("GET /healthz", "");
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    /// What the health route says about the policy.
    fn policy(&self) -> Value {
        self.health()["policy"].take()
    }

    fn ask(&self) -> (u16, String) {
        let body = r#"{"model":"smollm2-135m-instruct","max_tokens":4,"messages":[{"role":"user","content":"Hi"}]}"#;
        self.http("POST /v1/chat/completions", body)
    }

    fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(Duration::from_secs(20), what, || Some(self.policy()).filter(|p| holds(p)))
    }
}

#[test]
fn a_gateway_follows_its_pins_while_it_serves() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let serving = Serving::start(world, &worker);
    let good = fs::read_to_string(world.path("pins.toml")).unwrap();
    let first = serving.policy();
    assert!(first["refused"].is_null(), "{first}");
    assert_eq!(serving.ask().0, 200);

    serving.pins("this is no pins file");
    let bad = serving.wait("the bad file is named", |p| !p["refused"].is_null());
    assert_eq!(bad["pins_sha256"], first["pins_sha256"], "the last good pins are in use");
    assert_eq!(serving.ask().0, 200);
    let said = fs::read_to_string(serving.dir.path().join("stderr")).unwrap();
    assert!(said.contains("NOT in use"), "{said}");

    assert_eq!(serving.health()["accepted"], true);
    serving.pins(&denying(&good));
    serving.wait("the denial is in use", |p| p["pins_sha256"] != first["pins_sha256"]);
    let (status, body) = serving.ask();
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("DENIED"), "{body}");
    assert_eq!(serving.health()["accepted"], false);

    serving.pins(&good);
    serving.wait("the good pins are back", |p| p["pins_sha256"] == first["pins_sha256"]);
    assert_eq!(serving.ask().0, 200);
}

#[test]
fn a_denial_ends_an_answer_in_progress_even_beside_collateral_that_is_broken() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let serving = Serving::start(world, &worker);
    let first = serving.policy();
    let good = fs::read_to_string(world.path("pins.toml")).unwrap();
    // Long enough, whatever is drawn: the tokens that end a turn never are.
    let body = r#"{"model":"smollm2-135m-instruct","max_tokens":1500,"stream":true,"messages":[{"role":"user","content":"Count to one thousand, in words, and leave out no number."}],"temperature":1.5,"seed":7,"logit_bias":{"0":-100,"2":-100}}"#;
    let stream = serving.send("POST /v1/chat/completions", body);
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("data: {")), "the answer does not begin");
    // In place, as `>` of a shell does.
    fs::write(serving.dir.path().join("collateral.json"), "{}").unwrap();
    fs::write(serving.dir.path().join("pins.toml"), denying(&good)).unwrap();
    let rest: Vec<String> = lines.filter(|line| line.starts_with("data: ")).collect();
    let last = rest.last().expect("the answer ends with the reason");
    assert!(last.contains("DENIED"), "{last}");
    assert!(!rest.iter().any(|line| line == "data: [DONE]"));
    let policy = serving.policy();
    assert_ne!(policy["pins_sha256"], first["pins_sha256"]);
    assert_eq!(policy["collateral_sha256"], first["collateral_sha256"]);
    assert!(policy["refused"]["code"].as_str().unwrap().starts_with("E-COLLATERAL"), "{policy}");
}

/// The same pins, with the worker's image denied.
fn denying(pins: &str) -> String {
    let mrtd = pins.lines().find(|line| line.starts_with("mrtd = ")).unwrap();
    format!("{pins}\n[[deny]]\nreason = \"withdrawn\"\n{mrtd}\n")
}
