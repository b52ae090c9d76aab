//! Manifests, measurements, pins and the commands that judge by them, as a user runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::World;

const JUDGE: &str = "--pins @pins.toml --collateral @collateral.json";

#[test]
fn a_manifest_names_the_bundle_and_parses() {
    let world = World::with_bundle();
    let run = world
        .run("--format json manifest init --bundle @m.chrysalis --network testnet --out @w.toml");
    let json = run.success().json("chrysalis/manifest-written/v1");
    assert_eq!(json["manifest"]["model"]["name"], "tiny-test-1m");
    assert_eq!(json["manifest"]["network"], -3);
    let text = world.text("w.toml");
    assert!(text.starts_with("# The measured manifest"), "{text}");
    assert!(text.contains(json["manifest"]["model"]["root"].as_str().unwrap()), "{text}");
}

#[test]
fn a_manifest_is_not_written_over_unless_forced() {
    let world = World::with_manifest();
    let before = world.text("w.toml");
    let line = "manifest init --bundle @m.chrysalis --network mainnet --out @w.toml";
    world.run(line).exits(10).says("E-EXISTS");
    assert_eq!(world.text("w.toml"), before);
    world.run(&format!("{line} --force")).success();
    assert_ne!(world.text("w.toml"), before);
}

#[test]
fn a_manifest_the_worker_would_refuse_is_not_written() {
    let world = World::with_bundle();
    let run = world.run(
        "manifest init --bundle @m.chrysalis --network sim --out @w.toml --concurrent-requests 0",
    );
    run.exits(30).says("E-WORKER-MANIFEST");
    assert!(!world.path("w.toml").exists());
}

#[test]
fn a_network_without_a_meaning_is_wrong_usage() {
    let world = World::with_bundle();
    let run = world.run("manifest init --bundle @m.chrysalis --network moon --out @w.toml");
    assert!(run.stderr().contains("error[E-USAGE]"), "{}", run.stderr());
    run.exits(64);
}

#[test]
fn measures_the_same_bytes_to_the_same_registers() {
    let world = World::with_manifest();
    world.file("worker", "some program");
    let line = "--format json measure worker --worker @worker --manifest @w.toml";
    let first = world.run(line).success().json("chrysalis/prediction/v1");
    assert_eq!(first, world.run(line).json("chrysalis/prediction/v1"));
    assert_eq!(first["platform"], "INSECURE-SIM");
    world.file("worker", "some program.");
    let second = world.run(line).json("chrysalis/prediction/v1");
    assert_ne!(first["mrtd"], second["mrtd"]);
    assert_eq!(first["rtmr"], second["rtmr"]);
}

#[test]
fn says_in_capitals_that_a_prediction_is_simulated() {
    let world = World::with_manifest();
    world.file("worker", "some program");
    let text = world.run("measure worker --worker @worker --manifest @w.toml").success().stdout();
    assert!(text.starts_with("INSECURE-SIM"), "{text}");
}

#[test]
fn refuses_to_measure_a_simulated_worker_for_mainnet() {
    let world = World::with_bundle();
    world.file("worker", "some program");
    world.run("manifest init --bundle @m.chrysalis --network mainnet --out @w.toml").success();
    let run = world.run("measure worker --worker @worker --manifest @w.toml");
    run.exits(20).says("E-MEASURE-NETWORK");
}

#[test]
fn refuses_to_pin_without_a_root_and_a_root_without_pins() {
    let world = World::with_manifest();
    world.file("worker", "some program");
    let line = "measure worker --worker @worker --manifest @w.toml";
    world.run(&format!("{line} --pins-out @p.toml")).exits(64);
    world.run(&format!("{line} --sim-root @worker")).exits(64);
}

#[test]
fn refuses_a_root_that_is_no_certificate() {
    let world = World::with_manifest();
    world.file("worker", "some program");
    let run = world.run(
        "measure worker --worker @worker --manifest @w.toml --sim-root @worker --pins-out @p.toml",
    );
    run.exits(30).says("E-MEASURE-SIM-ROOT");
    assert!(!world.path("p.toml").exists());
}

#[test]
fn simulated_pins_are_refused_without_the_flag() {
    let world = World::with_pins();
    let run = world.run(&format!("appraise 127.0.0.1:9 {JUDGE}"));
    let text = run.exits(10).says("E-PINS-SIM-REFUSED").stderr();
    assert!(text.contains("--insecure-sim"), "{text}");
}

#[test]
fn a_worker_that_is_not_there_is_unreachable_and_not_refused() {
    let world = World::with_pins();
    // Bound and dropped: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = world.run(&format!("appraise {address} {JUDGE} --insecure-sim"));
    run.exits(1).says("E-UNREACHABLE");
    let run = world.run(&format!("ask --worker {address} {JUDGE} --insecure-sim hello"));
    run.exits(1).says("E-UNREACHABLE");
    let run = world.run(&format!("appraise worker.invalid:1 {JUDGE} --insecure-sim"));
    run.exits(1).says("E-NO-SUCH-HOST");
}

#[test]
fn a_relay_without_a_worker_is_a_reason_to_try_again_and_not_a_refusal() {
    let world = World::with_pins();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let relay = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let run = world.run(&format!("appraise {address} {JUDGE} --insecure-sim"));
    let text = run.exits(1).says("E-TLS-CLOSED").stderr();
    assert!(text.contains("chrysalis status"), "{text}");
    relay.join().unwrap();
}

#[test]
fn a_server_that_is_no_worker_is_refused() {
    let world = World::with_pins();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    world.run(&format!("appraise {address} {JUDGE} --insecure-sim")).exits(10).says("E-TLS");
    server.join().unwrap();
}

#[test]
fn malformed_pins_and_collateral_are_malformed() {
    let world = World::with_pins();
    let pins = world.text("pins.toml").replace("[platform]", "[platform]\ndebug = true");
    world.file("bad.toml", pins);
    let run = world
        .run("appraise 127.0.0.1:9 --pins @bad.toml --collateral @collateral.json --insecure-sim");
    let text = run.exits(30).says("E-PINS-FORM").stderr();
    assert!(text.contains(&world.arg("bad.toml")), "which file? {text}");
    world.file("bad.json", "{");
    let run =
        world.run("appraise 127.0.0.1:9 --pins @pins.toml --collateral @bad.json --insecure-sim");
    run.exits(30).says("E-COLLATERAL-FORM");
}

#[test]
fn collateral_of_another_schema_is_unsupported() {
    let world = World::with_pins();
    world.file("new.json", common::collateral().replace("collateral/v1", "collateral/v2"));
    let run =
        world.run("appraise 127.0.0.1:9 --pins @pins.toml --collateral @new.json --insecure-sim");
    run.exits(20).says("E-COLLATERAL-SCHEMA");
}

#[test]
fn a_gateway_others_can_reach_is_refused_unless_asked_for() {
    let world = World::with_pins();
    let run =
        world.run(&format!("serve --worker 127.0.0.1:9 {JUDGE} --insecure-sim --listen 0.0.0.0:0"));
    run.exits(10).says("E-NOT-LOOPBACK");
}

#[test]
fn an_empty_prompt_is_wrong_usage_and_nothing_is_sent() {
    let world = World::with_pins();
    let output = world
        .command()
        .args(["ask", "--worker", "127.0.0.1:9", "--insecure-sim", "-"])
        .args(["--pins", &world.arg("pins.toml"), "--collateral", &world.arg("collateral.json")])
        .write_stdin("  \n")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("E-PROMPT"));
}

#[test]
fn a_grant_of_a_bundle_that_is_not_sealed_is_refused() {
    let world = World::with_pins();
    world.run("model keygen --out @k").success();
    let line = format!("model grant --worker 127.0.0.1:9 {JUDGE} --insecure-sim --key @k");
    world.run(&format!("{line} --bundle @m.chrysalis")).exits(10).says("E-KEY-UNEXPECTED");
    world.run(&format!("{line} --root 1234")).exits(64).says("E-HEX");
    world.run(&line).exits(64);
}

#[test]
fn a_receipt_file_that_is_none_is_malformed() {
    let world = World::with_pins();
    world.file("r.json", "{\"schema\":\"chrysalis/stored-receipt/v9\"}");
    world.run("receipt show @r.json").exits(30).says("E-STORED-RECEIPT");
    world.run(&format!("receipt verify @r.json {JUDGE} --insecure-sim")).exits(30);
    world.run("receipt show @nowhere").exits(64).says("E-FILE");
    world.file("p.json", "{\"schema\":\"chrysalis/proven-child/v1\"}");
    world.run("receipt show @p.json").exits(30).says("E-STORED-RECEIPT");
    world.run(&format!("receipt verify @p.json {JUDGE} --insecure-sim")).exits(30);
    world.run("receipt prove @r.json --child model --out @out").exits(30).says("E-STORED-RECEIPT");
    world.run("receipt prove @r.json --child words --out @out").exits(64);
    assert!(!world.path("out").exists());
}

#[test]
fn of_several_receipts_each_is_tried_and_named() {
    let world = World::with_pins();
    world.file("r.json", "{}");
    let run = world.run(&format!("receipt verify @r.json @nowhere {JUDGE} --insecure-sim"));
    let text = run.exits(30).says("E-STORED-RECEIPT").stderr();
    assert!(text.contains(&world.arg("r.json")), "{text}");
    let line = format!("receipt verify @r.json @r.json {JUDGE} --insecure-sim");
    world.run(&format!("{line} --request @r.json --response @r.json")).exits(64).says("E-USAGE");
    world.run(&format!("{line} --request @r.json")).exits(64);
}

#[test]
fn receipts_are_listed_by_path() {
    let world = World::new();
    let text = world.run("receipt list --state @client").success().stdout();
    assert!(text.contains("no receipt") && text.contains(&world.arg("client")), "{text}");
    assert!(!world.path("client").exists(), "looking made a directory");
    let id = "00112233445566778899aabbccddeeff";
    let path = format!("client/receipts/{id}.json");
    world.file(&path, "{}");
    world.file(&format!("client/receipts/{id}.transcript"), "{}");
    let json = world.run("--format json receipt list --state @client").success();
    let json = json.json("chrysalis/receipts/v1");
    assert_eq!(json["receipts"], serde_json::json!([world.arg(&path)]));
}

#[test]
fn every_error_is_json_where_json_is_asked_for() {
    let world = World::with_pins();
    world.file("r.json", "{}");
    for (line, code, exit) in [
        ("--format json nonsense", "E-USAGE", 64),
        ("status --format=json --bogus", "E-USAGE", 64),
        ("--format json model inspect @nowhere", "E-FILE", 64),
        ("--format json receipt show @r.json", "E-STORED-RECEIPT", 30),
        (
            "--format json manifest init --bundle @m.chrysalis --network sim --out @w.toml",
            "E-EXISTS",
            10,
        ),
        (
            "--format json up --worker @nowhere --manifest @r.json --bundle @r.json --collateral @r.json",
            "E-NO-FILE",
            64,
        ),
    ] {
        let run = world.run(line).exits(exit);
        assert_eq!(run.stdout(), "", "{line}");
        let error: serde_json::Value = serde_json::from_str(run.stderr().trim()).unwrap();
        assert_eq!(error["schema"], "chrysalis/error/v1", "{line}");
        assert_eq!(
            (error["code"].as_str(), error["exit"].as_i64()),
            (Some(code), Some(exit.into()))
        );
        assert!(!error["next_step"].as_str().unwrap().is_empty(), "{line}");
    }
}

#[test]
fn an_address_to_listen_on_may_be_localhost_and_a_wrong_one_is_explained() {
    let world = World::with_pins();
    let line = format!("serve --worker 127.0.0.1:9 {JUDGE} --insecure-sim --listen");
    world.run(&format!("{line} localhost:0")).exits(1).says("E-UNREACHABLE");
    let run = world.run(&format!("{line} here")).exits(64);
    assert!(run.stderr().contains("127.0.0.1:8443"), "{}", run.stderr());
}

#[test]
fn shells_and_man_know_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.run(&format!("completions {shell}")).success().stdout();
        assert!(script.contains("appraise") && script.contains("chrysalis"), "{shell}");
        assert!(!script.contains('\u{1b}'), "{shell}");
    }
    world.file("c.bash", world.run("completions bash").stdout());
    let parsed = std::process::Command::new("bash").args(["-n", &world.arg("c.bash")]).status();
    assert!(parsed.unwrap().success());
    let pages = world.run("--format json man --out @man").success().json("chrysalis/man/v1");
    assert!(pages["pages"].as_array().unwrap().len() > 15, "{pages}");
    let page = world.text("man/chrysalis-receipt-verify.1");
    assert!(
        page.contains(".TH chrysalis\\-receipt\\-verify")
            || page.contains(".TH chrysalis-receipt-verify"),
        "{page}"
    );
    assert!(!world.path("man/chrysalis-__supervise.1").exists());
}

#[test]
fn wrong_usage_exits_64_and_help_exits_0() {
    let world = World::new();
    for line in ["", "nonsense", "model", "ask --worker", "--format xml status"] {
        world.run(line).exits(64);
    }
    let help = world.run("--help").success().stdout();
    assert!(help.contains("appraise") && !help.contains("__supervise"), "{help}");
    world.run("--version").success();
}

#[test]
fn without_a_home_the_state_directory_must_be_named() {
    let world = World::new();
    let output = world.command().env_remove("HOME").arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("E-NO-STATE"));
}
