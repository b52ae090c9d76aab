//! `chrysalis model` as a user runs it: what it prints, what it refuses, how it exits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{World, flip};

const MIB: usize = 1 << 20;

#[test]
fn packs_and_inspects_with_a_stable_schema() {
    let world = World::with_bundle();
    let shown = world.run("--format json model inspect @m.chrysalis").success();
    let json = shown.json("chrysalis/bundle/v1");
    assert_eq!(json["manifest"]["name"], "Tiny Test 1M");
    assert_eq!(json["manifest"]["architecture"], "llama");
    assert_eq!(json["manifest"]["files"][0]["path"], "model.gguf");
    assert_eq!(json["sealed"], false);
    assert_eq!(json["chunks"], 3);
    let text = world.run("model inspect @m.chrysalis").success().stdout();
    assert!(text.contains(json["model_root"].as_str().unwrap()), "{text}");
    assert!(text.contains("`chrysalis model verify` proves it"), "{text}");
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let world = World::with_bundle();
    world.run("model pack --gguf @m.gguf --out @again.chrysalis").success();
    let read = |name: &str| std::fs::read(world.path(name)).unwrap();
    assert!(read("m.chrysalis") == read("again.chrysalis"));
}

#[test]
fn name_and_licence_are_the_ones_given() {
    let world = World::with_bundle();
    let run = world.run(
        "--format json model pack --gguf @m.gguf --out @n.chrysalis --name Other --licence MIT",
    );
    let json = run.success().json("chrysalis/pack/v1");
    assert_eq!(json["manifest"]["name"], "Other");
    assert_eq!(json["manifest"]["licence"], "MIT");
}

#[test]
fn verifies_an_intact_bundle_and_says_when_no_root_was_given() {
    let world = World::with_bundle();
    let json = world.run("--format json model inspect @m.chrysalis").json("chrysalis/bundle/v1");
    let root = json["model_root"].as_str().unwrap().to_owned();
    let text = world.run("model verify @m.chrysalis").success().stdout();
    assert!(text.contains("SKIP  root"), "{text}");
    let text = world.run(&format!("model verify @m.chrysalis --root {root}")).success().stdout();
    assert!(text.contains("PASS  root") && text.contains(&format!("INTACT  {root}")), "{text}");
}

#[test]
fn a_changed_byte_is_refused_with_its_chunk_named() {
    let world = World::with_bundle();
    // In the second chunk: the content ends the file, which is padded to its end.
    let len = std::fs::metadata(world.path("m.chrysalis")).unwrap().len() as usize;
    flip(&world.path("m.chrysalis"), len - MIB);
    let run = world.run("model verify @m.chrysalis").exits(10).says("E-CHUNK-HASH");
    assert!(run.stderr().contains("chunk 1 of 3"), "{}", run.stderr());
    assert!(run.stdout().contains("FAIL  chunks") && run.stdout().contains("model.gguf"));
    let json = world.run("--format json model verify @m.chrysalis").exits(10);
    let json = json.json("chrysalis/bundle-verification/v1");
    assert_eq!(json["intact"], false);
    assert_eq!(json["faults"][0]["index"], 1);
}

#[test]
fn another_models_root_is_refused_with_both_roots() {
    let world = World::with_bundle();
    let wrong = "11".repeat(32);
    let run = world.run(&format!("model verify @m.chrysalis --root {wrong}"));
    let text = run.exits(10).says("E-MODEL-ROOT").stderr();
    assert!(text.contains(&format!("expected: {wrong}")) && text.contains("found:"), "{text}");
}

#[test]
fn a_truncated_bundle_is_malformed() {
    let world = World::with_bundle();
    let bytes = std::fs::read(world.path("m.chrysalis")).unwrap();
    world.file("short.chrysalis", &bytes[..bytes.len() - 2 * MIB]);
    let run = world.run("model verify @short.chrysalis").exits(30).says("E-BUNDLE-TRUNCATED");
    assert!(run.stderr().contains("chunk"), "{}", run.stderr());
    world.run("model inspect @short.chrysalis").exits(30).says("E-BUNDLE-TRUNCATED");
}

#[test]
fn a_bundle_with_bytes_after_its_end_is_malformed() {
    let world = World::with_bundle();
    let mut bytes = std::fs::read(world.path("m.chrysalis")).unwrap();
    bytes.push(0);
    world.file("long.chrysalis", &bytes);
    world.run("model verify @long.chrysalis").exits(30).says("E-BUNDLE-TRAILING");
}

#[test]
fn a_future_bundle_version_is_unsupported() {
    let world = World::with_bundle();
    flip(&world.path("m.chrysalis"), 8);
    let run = world.run("model inspect @m.chrysalis");
    let code = run.stderr();
    assert!(code.contains("E-BUNDLE-VERSION"), "{code}");
    run.exits(20);
}

#[test]
fn a_file_that_is_no_bundle_is_malformed() {
    let world = World::with_bundle();
    world.run("model inspect @m.gguf").exits(30).says("E-BUNDLE-MAGIC");
    world.file("empty", "");
    world.run("model inspect @empty").exits(30);
}

#[test]
fn a_file_that_is_no_gguf_is_malformed_and_leaves_no_bundle() {
    let world = World::new();
    world.file("m.gguf", "not a model");
    world.run("model pack --gguf @m.gguf --out @m.chrysalis").exits(30).says("E-GGUF-MAGIC");
    assert!(!world.path("m.chrysalis").exists());
}

#[test]
fn a_file_that_is_not_there_is_wrong_usage() {
    let world = World::new();
    world.run("model inspect @nowhere").exits(64).says("E-FILE");
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_never_written_over() {
    let world = World::new();
    let run = world.run("--format json model keygen --out @k").success();
    run.json("chrysalis/key/v1");
    let digits = world.text("k");
    assert!(!run.stdout().contains(digits.trim()), "the key was printed");
    let mode = std::fs::metadata(world.path("k")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.run("model keygen --out @k").exits(10).says("E-EXISTS");
    assert_eq!(world.text("k"), digits);
    world.run("model keygen --out @k2").success();
    assert_ne!(world.text("k2"), digits);
}

#[test]
fn a_sealed_bundle_has_the_plain_root_and_needs_its_key() {
    let world = World::with_bundle();
    world.run("model keygen --out @k").success();
    world.run("model keygen --out @other").success();
    world.run("model pack --gguf @m.gguf --out @s.chrysalis --seal-key @k").success();
    let root = |bundle: &str| {
        let json = world.run(&format!("--format json model inspect {bundle}"));
        json.json("chrysalis/bundle/v1")["model_root"].clone()
    };
    assert_eq!(root("@s.chrysalis"), root("@m.chrysalis"));
    world.run("model verify @s.chrysalis --key @k").success();
    world.run("model verify @s.chrysalis").exits(10).says("E-KEY-MISSING");
    world.run("model verify @s.chrysalis --key @other").exits(10).says("E-KEY-WRONG");
    world.run("model verify @m.chrysalis --key @k").exits(10).says("E-KEY-UNEXPECTED");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let world = World::with_bundle();
    world.run("model keygen --out @k").success();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(world.path("k"), open).unwrap();
    let run = world.run("model pack --gguf @m.gguf --out @s.chrysalis --seal-key @k");
    run.exits(10).says("E-KEY-MODE");
    assert!(!world.path("s.chrysalis").exists());
}

#[test]
fn a_key_that_is_no_key_is_malformed() {
    let world = World::with_bundle();
    world.file("k", "chrysalis-model-key-1:12");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(world.path("k"), mode).unwrap();
    world.run("model verify @m.chrysalis --key @k").exits(30).says("E-KEY-MALFORMED");
}

#[test]
fn progress_is_json_on_standard_error_and_never_on_standard_output() {
    let world = World::with_bundle();
    let run = world.run("--format json model verify @m.chrysalis").success();
    let last = run.stderr().lines().last().map(str::to_owned).unwrap();
    let event: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&event["event"], &event["stage"]), (&"progress".into(), &"verify".into()));
    assert_eq!(event["done"], event["total"]);
    run.json("chrysalis/bundle-verification/v1");
}

#[test]
fn errors_are_json_when_asked_for() {
    let world = World::new();
    let run = world.run("--format json model inspect @nowhere").exits(64);
    let error: serde_json::Value = serde_json::from_str(&run.stderr()).unwrap();
    assert_eq!(error["schema"], "chrysalis/error/v1");
    assert_eq!((&error["code"], &error["exit"]), (&"E-FILE".into(), &64.into()));
    assert!(error["next_step"].is_string() && error.get("expected").is_none());
    assert_eq!(run.stdout(), "");
}
