//! Known-answer vectors: this implementation makes exactly the bytes of `tests/vectors`, opens
//! them, and refuses their damaged forms with the codes written there. The Python implementation
//! verifies the same files (`python_interop.rs`).
//!
//! To make new ones: `CHRYSALIS_WRITE_VECTORS=1 cargo test -p chrysalis-channel --test vectors`,
//! then `python3 tests/python/seal1_interop.py trace enclave/channel/tests/vectors`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::PathBuf;

use chrysalis_channel::rand_core::Rng as _;
use chrysalis_channel::{
    ChannelError, Expectation, FrameKind, GrantRequest, Header, KeyRing, OpenedRequest, PathId,
    ReplayCache, ResponseOpener, SealKeyPair, open_grant, open_request, seal_grant, seal_request,
};
use chrysalis_wire::{
    Digest, KeyRole, NetworkId, RequestId, SealKeyEntry, SecretBytes, SuiteId, UnixMillis, UnixTime,
};
use common::{ListRng, NOW, TestRng};
use serde_json::{Value, json};

const EXCHANGES: [&str; 3] = ["x-wing", "x25519", "x25519-three-recipients"];
const GRANTS: [&str; 2] = ["grant-x-wing", "grant-x25519"];

#[test]
fn this_implementation_makes_the_vectors() {
    let made = [
        ("x-wing", make_exchange("x-wing", SuiteId::XWing, 1, 0)),
        ("x25519", make_exchange("x25519", SuiteId::X25519, 1, 0)),
        ("x25519-three-recipients", make_exchange("x25519", SuiteId::X25519, 3, 2)),
        ("grant-x-wing", make_grant("x-wing", SuiteId::XWing)),
        ("grant-x25519", make_grant("x25519", SuiteId::X25519)),
        ("refusals", refusals()),
    ];
    for (name, vector) in made {
        if std::env::var_os("CHRYSALIS_WRITE_VECTORS").is_some() {
            let text = format!("{}\n", serde_json::to_string_pretty(&vector).unwrap());
            fs::write(path(name), text).unwrap();
        }
        let mut stored = read(name);
        // Written by the other implementation, and checked there.
        if let Some(fields) = stored.as_object_mut() {
            fields.remove("intermediate");
        }
        assert!(stored == vector, "{name}.json is not what this implementation makes");
    }
}

#[test]
fn opens_the_vectors() {
    for name in EXCHANGES {
        let vector = read(name);
        let (opened, mut opener) = (open_vector(&vector).unwrap(), opener_of(&vector));
        assert_eq!(opened.body.expose(), bytes(&vector["body"]), "{name}");
        assert_eq!(answer(opened, &vector), bytes(&vector["response"]), "{name}");
        let frames = opener.push(&bytes(&vector["response"])).unwrap();
        opener.finish().unwrap();
        let frames: Vec<Value> =
            frames.iter().map(|f| frame(f.kind, f.payload.expose(), f.last)).collect();
        assert_eq!(Value::Array(frames), vector["frames"], "{name}");
    }
    for name in GRANTS {
        let vector = read(name);
        let opened = open_grant_vector(&vector, &bytes(&vector["grant"]), 0).unwrap();
        assert_eq!(opened.key.expose(), bytes(&vector["model_key"]), "{name}");
    }
}

#[test]
fn every_stored_exchange_has_its_intermediate_values() {
    for name in EXCHANGES {
        assert!(read(name)["intermediate"]["request_key"].is_string(), "{name}: run `trace`");
    }
}

#[test]
fn refuses_the_damaged_vectors_with_their_codes() {
    let cases = read("refusals");
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 25);
    for case in cases {
        let vector = read(case["vector"].as_str().unwrap());
        let delay = case["delay"].as_i64().unwrap_or(0);
        let message = case["message"].as_str().unwrap();
        let damaged = damage(bytes(&vector[message]), case);
        let refusal = match message {
            "request" => {
                let deliveries = case["deliveries"].as_u64().unwrap_or(1);
                let mut replay = ReplayCache::new(10);
                let held = case["holds"].as_array().map_or_else(
                    || answering(&vector),
                    |held| held.iter().map(|n| n.as_u64().unwrap() as usize).collect(),
                );
                let ring = ring_of(&vector, &held);
                let mut open = || deliver(&vector, &ring, &damaged, delay, &mut replay);
                for _ in 1..deliveries {
                    open().unwrap();
                }
                open().unwrap_err()
            }
            "response" => {
                let mut opener = opener_of(&vector);
                opener.push(&damaged).and_then(|_| opener.finish()).unwrap_err()
            }
            _ => open_grant_vector(&vector, &damaged, delay).unwrap_err(),
        };
        assert_eq!(refusal.code(), case["code"], "{}", case["name"]);
    }
}

fn make_exchange(suite_name: &str, suite: SuiteId, count: usize, answering: usize) -> Value {
    let mut rng = TestRng::new(0x5ea1);
    let recipients: Vec<Value> =
        (0..count).map(|_| recipient(suite, KeyRole::Worker, &mut rng)).collect();
    let header = json!({
        "role": 1, "network": NetworkId::INSECURE_SIM.0, "request_id": draw(16, &mut rng),
        "time": NOW.millis().0, "path": 1, "model_root": draw(32, &mut rng),
        "policy_digest": draw(32, &mut rng), "max_tokens": 256,
    });
    let encapsulation = if suite == SuiteId::XWing { 64 } else { 32 };
    let mut vector = json!({
        "schema": "chrysalis/seal/1 vector", "kind": "exchange", "suite": suite_name,
        "recipients": recipients, "answering": answering, "now": NOW.millis().0 + 1500,
        "header": header,
        "body": hex::encode(r#"{"messages":[{"role":"user","content":"Grüße"}]}"#),
        "sender_random": draw(32 + count * encapsulation, &mut rng),
        "recipient_random": draw(64, &mut rng),
        "frames": [
            frame(FrameKind::Chunk, br#"{"choices":[]}"#, false),
            frame(FrameKind::KeepAlive, b"", false),
            frame(FrameKind::Body, &[7; 300], false),
            frame(FrameKind::Receipt, b"receipt", true),
        ],
    });
    let (request, _) = seal_vector(&vector);
    vector["request"] = hex::encode(request).into();
    let opened = open_vector(&vector).unwrap();
    vector["response"] = hex::encode(answer(opened, &vector)).into();
    vector
}

fn make_grant(suite_name: &str, suite: SuiteId) -> Value {
    let mut rng = TestRng::new(0x64a7);
    let encapsulation = if suite == SuiteId::XWing { 64 } else { 32 };
    let mut vector = json!({
        "schema": "chrysalis/seal/1 vector", "kind": "grant", "suite": suite_name,
        "recipients": [recipient(suite, KeyRole::Grant, &mut rng)], "answering": 0,
        "now": NOW.millis().0, "keyset_digest": draw(32, &mut rng),
        "model_root": draw(32, &mut rng), "model_key": draw(32, &mut rng),
        "sender_random": draw(encapsulation, &mut rng),
    });
    let request = GrantRequest {
        model_root: Digest(array(&vector["model_root"])),
        key: SecretBytes::new(bytes(&vector["model_key"])),
    };
    let keyset = Digest(array(&vector["keyset_digest"]));
    let entry = entries(&vector).remove(0);
    let mut random = ListRng(bytes(&vector["sender_random"]));
    let grant = seal_grant(&entry, &keyset, &request, NOW, &mut random).unwrap();
    vector["grant"] = hex::encode(grant).into();
    vector
}

/// Damaged forms: which vector and message, `ranges` to keep in this order, bytes to `xor`, bytes
/// to `append`, milliseconds of `delay`, number of `deliveries`, the recipients whose keys the
/// reader `holds` if it is not the answering one alone, and the code that must result.
fn refusals() -> Value {
    let at = 202; // first frame of an x25519 request with one recipient
    let one = 33 + 276; // the response is 33 bytes of prefix, then frames of 276, 276, 532, 276
    let case = |name: &str, vector: &str, message: &str, code: &str, how: Value| {
        let mut case = json!({"name": name, "vector": vector, "message": message, "code": code});
        let fields = how.as_object().unwrap().clone();
        case.as_object_mut().unwrap().extend(fields);
        case
    };
    let request = |name: &str, code: &str, how: Value| case(name, "x25519", "request", code, how);
    let response = |name: &str, code: &str, how: Value| case(name, "x25519", "response", code, how);
    let grant = |name: &str, code: &str, how: Value| case(name, "grant-x25519", "grant", code, how);
    json!({"schema": "chrysalis/seal/1 refusals", "cases": [
        request("bad magic", "E-SEAL-MAGIC", json!({"xor": [[0, 1]]})),
        request("future version", "E-SEAL-VERSION", json!({"xor": [[4, 3]]})),
        request("unknown suite", "E-SEAL-MALFORMED", json!({"xor": [[5, 255]]})),
        request("role of a grant key", "E-SEAL-ROLE", json!({"xor": [[7, 2]]})),
        request("role of a proxy key", "E-SEAL-ROLE", json!({"xor": [[7, 3]]})),
        request("unknown path", "E-SEAL-MALFORMED", json!({"xor": [[36, 2]]})),
        request("another network", "E-SEAL-NETWORK", json!({"xor": [[8, 1]]})),
        request("another model root", "E-SEAL-MODEL-ROOT", json!({"xor": [[37, 1]]})),
        request("another policy", "E-SEAL-POLICY", json!({"xor": [[69, 1]]})),
        request("too old", "E-SEAL-TIME", json!({"delay": 298_501})),
        request("too new", "E-SEAL-TIME", json!({"delay": -301_501})),
        request("time moved a little", "E-SEAL-REFUSED", json!({"xor": [[35, 1]]})),
        request("another request id", "E-SEAL-REFUSED", json!({"xor": [[12, 1]]})),
        request("more tokens", "E-SEAL-REFUSED", json!({"xor": [[101, 1]]})),
        request("no recipients", "E-SEAL-RECIPIENT-COUNT", json!({"xor": [[105, 1]]})),
        request("four recipients", "E-SEAL-RECIPIENT-COUNT", json!({"xor": [[105, 5]]})),
        request("wrong recipient", "E-SEAL-NO-RECIPIENT", json!({"xor": [[106, 1]]})),
        request("altered enc", "E-SEAL-REFUSED", json!({"xor": [[122, 1]]})),
        request("altered wrapped key", "E-SEAL-REFUSED", json!({"xor": [[160, 1]]})),
        request("altered frame", "E-SEAL-REFUSED", json!({"xor": [[at + 100, 1]]})),
        request("altered tag", "E-SEAL-REFUSED", json!({"xor": [[at + 275, 128]]})),
        request("no frame", "E-SEAL-TRUNCATED", json!({"ranges": [[0, at]]})),
        request("half a frame", "E-SEAL-TRUNCATED", json!({"ranges": [[0, at + 99]]})),
        request("cut in the header", "E-SEAL-MALFORMED", json!({"ranges": [[0, 100]]})),
        request("cut in a recipient", "E-SEAL-MALFORMED", json!({"ranges": [[0, 180]]})),
        request("final mark removed", "E-SEAL-TRUNCATED", json!({"xor": [[at, 128]]})),
        request("frame of no bucket", "E-SEAL-FRAME-SIZE", json!({"xor": [[at + 3, 1]]})),
        request("frame too large", "E-SEAL-FRAME-LIMIT", json!({"xor": [[at + 1, 2]]})),
        request("trailing byte", "E-SEAL-AFTER-FINAL", json!({"append": "00"})),
        request("delivered twice", "E-SEAL-REPLAY", json!({"deliveries": 2})),
        case("another candidate's part altered", "x25519-three-recipients", "request",
            "E-SEAL-REFUSED", json!({"xor": [[130, 1]]})),
        case("a candidate repeated", "x25519-three-recipients", "request",
            "E-SEAL-DUPLICATE-RECIPIENT",
            json!({"ranges": [[0, 202], [106, 202], [298, 670]]})),
        case("two keys of one recipient", "x25519-three-recipients", "request",
            "E-SEAL-DUPLICATE-RECIPIENT", json!({"holds": [0, 2]})),
        request("cut header with the role of a grant key", "E-SEAL-MALFORMED",
            json!({"ranges": [[0, 100]], "xor": [[7, 2]]})),
        response("unknown recipient", "E-SEAL-CANDIDATE", json!({"xor": [[0, 1]]})),
        response("altered nonce", "E-SEAL-REFUSED", json!({"xor": [[1, 1]]})),
        response("altered frame", "E-SEAL-REFUSED", json!({"xor": [[one + 50, 4]]})),
        response("prefix only", "E-SEAL-TRUNCATED", json!({"ranges": [[0, 33]]})),
        response("last frame missing", "E-SEAL-TRUNCATED", json!({"ranges": [[0, one + 808]]})),
        response("cut in the last frame", "E-SEAL-TRUNCATED", json!({"ranges": [[0, one + 1000]]})),
        response("frames swapped", "E-SEAL-REFUSED",
            json!({"ranges": [[0, 33], [one, one + 276], [33, one], [one + 276, one + 1084]]})),
        response("frame doubled", "E-SEAL-REFUSED",
            json!({"ranges": [[0, one], [33, one + 1084]]})),
        response("frame dropped", "E-SEAL-REFUSED",
            json!({"ranges": [[0, 33], [one, one + 1084]]})),
        response("final mark added", "E-SEAL-REFUSED", json!({"xor": [[33, 128]]})),
        response("final mark removed", "E-SEAL-REFUSED", json!({"xor": [[one + 808, 128]]})),
        response("frame after the final one", "E-SEAL-AFTER-FINAL",
            json!({"ranges": [[0, one + 1084], [33, one]]})),
        case("another candidate's answer", "x25519-three-recipients", "response",
            "E-SEAL-REFUSED", json!({"xor": [[0, 3]]})),
        case("another recipient named", "x-wing", "response", "E-SEAL-CANDIDATE",
            json!({"xor": [[0, 2]]})),
        grant("future version", "E-SEAL-VERSION", json!({"xor": [[4, 3]]})),
        grant("another root", "E-SEAL-MODEL-ROOT", json!({"xor": [[23, 1]]})),
        grant("another keyset", "E-GRANT-KEYSET", json!({"xor": [[55, 1]]})),
        grant("another key", "E-SEAL-NO-RECIPIENT", json!({"xor": [[7, 1]]})),
        grant("expired key", "E-SEAL-KEY-EXPIRED", json!({"delay": 4_201_000})),
        grant("key of the future", "E-SEAL-KEY-NOT-YET", json!({"delay": -301_000})),
        grant("altered enc", "E-SEAL-REFUSED", json!({"xor": [[87, 1]]})),
        grant("altered key", "E-SEAL-REFUSED", json!({"xor": [[120, 1]]})),
        grant("cut", "E-SEAL-MALFORMED", json!({"ranges": [[0, 166]]})),
        grant("trailing byte", "E-SEAL-MALFORMED", json!({"append": "00"})),
    ]})
}

fn recipient(suite: SuiteId, role: KeyRole, rng: &mut TestRng) -> Value {
    let ikm = draw(32, rng);
    let mut list = ListRng(hex::decode(&ikm).unwrap());
    let entry = SealKeyPair::generate_hourly(suite, role, NOW, &mut list).entry();
    json!({
        "ikm": ikm, "id": entry.id.to_string(), "role": role as u8,
        "not_before": entry.not_before.0, "not_after": entry.not_after.0,
        "public": hex::encode(entry.public),
    })
}

fn frame(kind: FrameKind, payload: &[u8], last: bool) -> Value {
    json!({"kind": kind as u8, "payload": hex::encode(payload), "last": last})
}

fn suite_of(vector: &Value) -> SuiteId {
    if vector["suite"] == "x-wing" { SuiteId::XWing } else { SuiteId::X25519 }
}

/// Makes the recipients `held` again from their key material, as one ring.
fn ring_of(vector: &Value, held: &[usize]) -> KeyRing {
    let mut ring = KeyRing::new();
    for index in held {
        let fields = &vector["recipients"][*index];
        let role = KeyRole::try_from(fields["role"].as_u64().unwrap() as u8).unwrap();
        let mut list = ListRng(bytes(&fields["ikm"]));
        let pair = SealKeyPair::generate_hourly(suite_of(vector), role, NOW, &mut list);
        assert_eq!(pair.entry(), entries(vector)[*index]);
        ring.rotate(pair, NOW).unwrap();
    }
    ring
}

/// The recipient that answers the vector.
fn answering(vector: &Value) -> Vec<usize> {
    vec![vector["answering"].as_u64().unwrap() as usize]
}

fn entries(vector: &Value) -> Vec<SealKeyEntry> {
    let recipients = vector["recipients"].as_array().unwrap();
    let entry = |fields: &Value| SealKeyEntry {
        id: fields["id"].as_str().unwrap().parse().unwrap(),
        suite: suite_of(vector),
        role: KeyRole::try_from(fields["role"].as_u64().unwrap() as u8).unwrap(),
        not_before: UnixTime(fields["not_before"].as_u64().unwrap()),
        not_after: UnixTime(fields["not_after"].as_u64().unwrap()),
        public: bytes(&fields["public"]),
    };
    recipients.iter().map(entry).collect()
}

fn header_of(vector: &Value) -> Header {
    let fields = &vector["header"];
    Header {
        suite: suite_of(vector),
        role: KeyRole::Worker,
        network: NetworkId(fields["network"].as_i64().unwrap() as i32),
        request_id: RequestId(array(&fields["request_id"])),
        time: UnixMillis(fields["time"].as_u64().unwrap()),
        path: PathId::try_from(fields["path"].as_u64().unwrap() as u8).unwrap(),
        model_root: Digest(array(&fields["model_root"])),
        policy_digest: Digest(array(&fields["policy_digest"])),
        max_tokens: fields["max_tokens"].as_u64().unwrap() as u32,
    }
}

fn seal_vector(vector: &Value) -> (Vec<u8>, ResponseOpener) {
    let entries = entries(vector);
    let recipients: Vec<_> = entries.iter().collect();
    let mut random = ListRng(bytes(&vector["sender_random"]));
    let body = bytes(&vector["body"]);
    seal_request(&header_of(vector), &recipients, &body, &mut random).unwrap()
}

/// Seals the vector again for its opener; the bytes must be those of the vector.
fn opener_of(vector: &Value) -> ResponseOpener {
    let (request, opener) = seal_vector(vector);
    assert!(request == bytes(&vector["request"]));
    opener
}

fn open_vector(vector: &Value) -> Result<OpenedRequest, ChannelError> {
    let ring = ring_of(vector, &answering(vector));
    deliver(vector, &ring, &bytes(&vector["request"]), 0, &mut ReplayCache::new(1))
}

fn deliver(
    vector: &Value,
    ring: &KeyRing,
    request: &[u8],
    delay: i64,
    replay: &mut ReplayCache,
) -> Result<OpenedRequest, ChannelError> {
    let header = header_of(vector);
    let expect = Expectation {
        network: header.network,
        model_root: header.model_root,
        policy_digest: header.policy_digest,
    };
    let mut random = ListRng(bytes(&vector["recipient_random"]));
    open_request(ring, replay, &expect, now_of(vector, delay), request, &mut random)
}

fn open_grant_vector(
    vector: &Value,
    grant: &[u8],
    delay: i64,
) -> Result<GrantRequest, ChannelError> {
    let root = Digest(array(&vector["model_root"]));
    let keyset = Digest(array(&vector["keyset_digest"]));
    let now = now_of(vector, delay).seconds();
    open_grant(&ring_of(vector, &[0]), &root, &[keyset], now, grant)
}

fn now_of(vector: &Value, delay: i64) -> UnixMillis {
    UnixMillis(vector["now"].as_u64().unwrap().checked_add_signed(delay).unwrap())
}

fn answer(opened: OpenedRequest, vector: &Value) -> Vec<u8> {
    let mut sealer = opened.sealer;
    let mut out = sealer.prefix();
    for f in vector["frames"].as_array().unwrap() {
        let kind = FrameKind::try_from(f["kind"].as_u64().unwrap() as u8).unwrap();
        let last = f["last"].as_bool().unwrap();
        out.extend(sealer.frame(kind, &bytes(&f["payload"]), last).unwrap());
    }
    out
}

fn damage(data: Vec<u8>, case: &Value) -> Vec<u8> {
    let number = |v: &Value| v.as_u64().unwrap() as usize;
    let mut out = match case["ranges"].as_array() {
        None => data,
        Some(ranges) => {
            ranges.iter().flat_map(|r| data[number(&r[0])..number(&r[1])].to_vec()).collect()
        }
    };
    for edit in case["xor"].as_array().unwrap_or(&Vec::new()) {
        out[number(&edit[0])] ^= number(&edit[1]) as u8;
    }
    out.extend(hex::decode(case["append"].as_str().unwrap_or("")).unwrap());
    out
}

fn draw(len: usize, rng: &mut TestRng) -> String {
    let mut out = vec![0; len];
    rng.fill_bytes(&mut out);
    hex::encode(out)
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{name}.json"))
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(path(name)).expect("the vector file is checked in");
    serde_json::from_str(&text).unwrap()
}
