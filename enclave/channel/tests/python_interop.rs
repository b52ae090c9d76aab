//! The Python implementation (`tests/python/seal1.py`) against this one, live and on the vectors.
//!
//! Runs `$CHRYSALIS_PYTHON`, else `python3`, with the packages of
//! `tests/python/requirements.txt`. Without them the tests are skipped with a line that says so;
//! with `CI` or `CHRYSALIS_REQUIRE_PYTHON` set they fail instead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use chrysalis_channel::{
    ChannelError, FrameKind, GrantRequest, Header, KeyRing, MAX_PAYLOAD_BYTES, SealKeyPair, key_id,
    open_grant, seal_grant, seal_request,
};
use chrysalis_wire::{Digest, KeyId, KeyRole, SealKeyEntry, SecretBytes, SuiteId, UnixTime};
use common::{NOW, World};
use serde_json::{Value, json};

const SUITES: [SuiteId; 2] = [SuiteId::XWing, SuiteId::X25519];

#[test]
fn python_verifies_the_vectors() {
    let Some(python) = python() else { return };
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let output = Command::new(python).arg(script()).arg("check").arg(vectors).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    for name in ["x-wing", "x25519", "x25519-three-recipients", "grant-x-wing", "grant-x25519"] {
        assert!(stdout.lines().any(|line| line == format!("ok {name}")), "{name}:\n{stdout}");
    }
    assert!(stdout.matches("ok refused").count() >= 25, "{stdout}");
}

#[test]
fn opens_what_python_sealed_and_python_opens_the_answer() {
    let Some(mut python) = Python::start() else { return };
    for suite in SUITES {
        for len in [0, 1, 251, 252, 5000, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1, 200_000] {
            let mut world = World::new(suite);
            let body = pattern(len);
            let sealed = python.seal_request(&world.header(), &[&world.entry], &body);
            let opened = world.open(&sealed).unwrap();
            assert!(opened.body.expose() == body, "length {len}");
            assert_eq!(opened.header, world.header());

            let frames = frames(len);
            let mut sealer = opened.sealer;
            let mut answer = sealer.prefix();
            for (kind, payload, last) in &frames {
                answer.extend(sealer.frame(*kind, payload, *last).unwrap());
            }
            let got = python.run(&json!({
                "do": "open_response", "name": "r", "response": hex::encode(&answer),
            }));
            assert_eq!(got["frames"], frames_json(&frames), "length {len}");
        }
    }
}

#[test]
fn python_opens_what_we_sealed_and_we_open_the_answer() {
    let Some(mut python) = Python::start() else { return };
    for suite in SUITES {
        for len in [0, 1, 251, 252, 5000, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1, 200_000] {
            let mut world = World::new(suite);
            let entry = python.make_worker(&world, suite, KeyRole::Worker);
            let body = pattern(len);
            let header = world.header();
            let (sealed, mut opener) =
                seal_request(&header, &[&entry], &body, &mut world.rng).unwrap();
            let got = python.run(&json!({
                "do": "open_request", "name": "w", "now": world.now.0,
                "request": hex::encode(&sealed),
            }));
            assert!(got["body"] == hex::encode(&body), "length {len}");

            let frames = frames(len);
            let answer = python.run(&json!({
                "do": "seal_response", "name": "w", "frames": frames_json(&frames),
            }));
            let answer = hex::decode(answer["response"].as_str().unwrap()).unwrap();
            let got: Vec<_> = answer
                .chunks(777)
                .flat_map(|piece| opener.push(piece).unwrap())
                .map(|f| (f.kind, f.payload.expose().to_vec(), f.last))
                .collect();
            opener.finish().unwrap();
            assert!(got == frames, "length {len}");
        }
    }
}

#[test]
fn candidates_of_both_implementations_share_a_request() {
    let Some(mut python) = Python::start() else { return };
    for suite in SUITES {
        let mut world = World::new(suite);
        let theirs = python.make_worker(&world, suite, KeyRole::Worker);
        let ours = world.entry.clone();
        let sealed = python.seal_request(&world.header(), &[&theirs, &ours], b"prompt");
        let opened = world.open(&sealed).unwrap();
        assert_eq!(opened.sealer.prefix()[0], 1);
        let got = python.run(&json!({
            "do": "open_request", "name": "w", "now": world.now.0, "request": hex::encode(&sealed),
        }));
        assert_eq!(got["body"], hex::encode("prompt"));

        // Our answer opens; presented as the other candidate's it does not.
        let mut sealer = opened.sealer;
        let mut answer = sealer.prefix();
        answer.extend(sealer.frame(FrameKind::Body, b"answer", true).unwrap());
        let mut open = |answer: &[u8]| {
            python.run(&json!({
                "do": "open_response", "name": "r", "response": hex::encode(answer),
            }))
        };
        assert_eq!(open(&answer)["frames"][0]["payload"], hex::encode("answer"));
        answer[0] = 0;
        assert_eq!(open(&answer)["refused"], ChannelError::Refused.code());
        answer[0] = 1;
        answer.pop();
        assert_eq!(open(&answer)["refused"], ChannelError::Truncated.code());
    }
}

#[test]
fn grants_pass_both_ways() {
    let Some(mut python) = Python::start() else { return };
    let (root, keyset) = (Digest([0x11; 32]), Digest([0x66; 32]));
    for suite in SUITES {
        let mut world = World::new(suite);
        let theirs = python.make_worker(&world, suite, KeyRole::Grant);
        let request = GrantRequest { model_root: root, key: SecretBytes::new(pattern(32)) };
        let grant = seal_grant(&theirs, &keyset, &request, NOW, &mut world.rng).unwrap();
        let got = python.run(&json!({
            "do": "open_grant", "name": "w", "now": NOW.0, "grant": hex::encode(grant),
            "keyset_digest": keyset.to_string(),
        }));
        assert_eq!(got["model_key"], hex::encode(pattern(32)));

        let pair = SealKeyPair::generate_hourly(suite, KeyRole::Grant, NOW, &mut world.rng);
        let ours = pair.entry();
        let mut ring = KeyRing::new();
        ring.rotate(pair, NOW).unwrap();
        let got = python.run(&json!({
            "do": "seal_grant", "suite": suite_name(suite), "recipient": entry_json(&ours),
            "keyset_digest": keyset.to_string(), "model_root": root.to_string(),
            "model_key": hex::encode(pattern(32)), "now": NOW.0,
        }));
        let grant = hex::decode(got["grant"].as_str().unwrap()).unwrap();
        let opened = open_grant(&ring, &root, &[keyset], NOW, &grant).unwrap();
        assert_eq!(opened.key.expose(), pattern(32));
    }
}

/// A Python process that answers one JSON line per command.
struct Python {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    fn start() -> Option<Self> {
        let mut child = Command::new(python()?)
            .arg(script())
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, stdin, stdout })
    }

    fn run(&mut self, command: &Value) -> Value {
        writeln!(self.stdin, "{command}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("python answered; its error is on stderr")
    }

    fn seal_request(&mut self, header: &Header, to: &[&SealKeyEntry], body: &[u8]) -> Vec<u8> {
        let entries: Vec<_> = to.iter().map(|entry| entry_json(entry)).collect();
        let got = self.run(&json!({
            "do": "seal_request", "name": "r", "suite": suite_name(header.suite),
            "recipients": entries, "body": hex::encode(body),
            "header": {
                "role": header.role as u8, "network": header.network.0,
                "request_id": header.request_id.to_string(), "time": header.time.0,
                "path": header.path as u8, "model_root": header.model_root.to_string(),
                "policy_digest": header.policy_digest.to_string(),
                "max_tokens": header.max_tokens,
            },
        }));
        hex::decode(got["request"].as_str().unwrap()).unwrap()
    }

    /// Makes a worker in Python that serves what `world` serves; returns its key.
    fn make_worker(&mut self, world: &World, suite: SuiteId, role: KeyRole) -> SealKeyEntry {
        let not_after = UnixTime(NOW.0 + 100);
        let got = self.run(&json!({
            "do": "make_worker", "name": "w", "suite": suite_name(suite), "role": role as u8,
            "not_after": not_after.0, "network": world.expect.network.0,
            "model_root": world.expect.model_root.to_string(),
            "policy_digest": world.expect.policy_digest.to_string(),
        }));
        let public = hex::decode(got["public"].as_str().unwrap()).unwrap();
        let id: KeyId = got["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(id, key_id(suite, &public));
        SealKeyEntry { id, suite, role, not_before: UnixTime(0), not_after, public }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreter, if it has the packages. Fails where they are required.
fn python() -> Option<String> {
    let python = std::env::var("CHRYSALIS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python)
        .args(["-c", "from cryptography.hazmat.primitives.asymmetric import mlkem"])
        .stderr(Stdio::null())
        .status();
    if probe.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let required = ["CI", "CHRYSALIS_REQUIRE_PYTHON"].iter().any(|v| std::env::var_os(v).is_some());
    let hint = "install tests/python/requirements.txt and set CHRYSALIS_PYTHON to that python3";
    assert!(!required, "{python} lacks the packages of the Python implementation: {hint}");
    eprintln!("SKIPPED: Python interop; {hint}");
    None
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/seal1_interop.py")
}

/// Every kind of frame, in sizes around `len`, the last one final.
fn frames(len: usize) -> Vec<(FrameKind, Vec<u8>, bool)> {
    let len = len.min(MAX_PAYLOAD_BYTES);
    vec![
        (FrameKind::Chunk, pattern(len), false),
        (FrameKind::KeepAlive, Vec::new(), false),
        (FrameKind::Body, pattern(len / 2), false),
        (FrameKind::Error, pattern(3), false),
        (FrameKind::Receipt, pattern(len / 3), true),
    ]
}

fn frames_json(frames: &[(FrameKind, Vec<u8>, bool)]) -> Value {
    let one = |(kind, payload, last): &(FrameKind, Vec<u8>, bool)| json!({"kind": *kind as u8, "payload": hex::encode(payload), "last": last});
    frames.iter().map(one).collect()
}

fn entry_json(entry: &SealKeyEntry) -> Value {
    json!({
        "id": entry.id.to_string(), "role": entry.role as u8,
        "not_before": entry.not_before.0, "not_after": entry.not_after.0,
        "public": hex::encode(&entry.public),
    })
}

fn suite_name(suite: SuiteId) -> &'static str {
    match suite {
        SuiteId::XWing => "x-wing",
        SuiteId::X25519 => "x25519",
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 256) as u8).collect()
}
