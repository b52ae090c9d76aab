//! An embedding model from its folder to a verified receipt: packed, measured, served, asked by the CLI
//! and by the official SDKs.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use chrysalis_tests::{Ran, Running, World, chrysalis, embedding_model, root};

use crate::sdk::{all_passed, prepared, serve_with};

const PINS: &str = "embedding-pins.toml";

/// Bundle and manifest of the embedding model in the world of the others, made once.
fn world() -> Option<&'static World> {
    static MADE: OnceLock<Option<&'static World>> = OnceLock::new();
    *MADE.get_or_init(|| {
        let (world, folder) = (World::get()?, embedding_model()?);
        let bundle = world.path("embedding.chrysalis");
        let arguments: [PathBuf; 8] = [
            "model".into(),
            "pack".into(),
            "--folder".into(),
            folder,
            "--name".into(),
            "all-minilm-l6-v2".into(),
            "--out".into(),
            bundle.clone(),
        ];
        chrysalis(arguments).expect_code(0);
        world.pin(&bundle, "embedding.toml", PINS);
        Some(world)
    })
}

fn start(world: &World) -> Running {
    let (manifest, bundle) = (world.path("embedding.toml"), world.path("embedding.chrysalis"));
    let (running, ran) = Running::try_start(world, &manifest, &bundle);
    ran.expect_code(0);
    running.expect("a worker that is ready has an address")
}

fn embed(world: &World, worker: &Running, format: &str, texts: &[&str]) -> Ran {
    let mut arguments = vec!["embed".to_owned(), "--worker".into(), worker.address.clone()];
    arguments.extend(world.trust_with(PINS));
    arguments.extend(["--format".into(), format.into(), "--state".into()]);
    arguments.push(worker.state.path().display().to_string());
    arguments.extend(texts.iter().map(|text| (*text).to_owned()));
    chrysalis(arguments)
}

#[test]
fn texts_become_vectors_with_a_receipt_that_verifies_offline() {
    let Some(world) = world() else { return };
    let worker = start(world);
    let ran = embed(world, &worker, "text", &["A man is eating.", "Shares fell."]).expect_code(0);
    let lines: Vec<Vec<f32>> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() == 2 && lines.iter().all(|vector| vector.len() == 384));
    assert!(ran.stderr.contains("PASS  amount"), "{}", ran.stderr);
    let told = embed(world, &worker, "json", &["Shares fell."]).expect_code(0).json();
    let again: Vec<f32> = serde_json::from_value(told["embeddings"][0].clone()).unwrap();
    assert_eq!(again, lines[1], "a vector does not depend on its company");
    let mut verify = vec!["receipt".to_owned(), "verify".into()];
    verify.push(told["receipt"].as_str().unwrap().to_owned());
    verify.extend(world.trust_with(PINS));
    let verified = chrysalis(verify).expect_code(0);
    // shares fell . with one token before and one behind
    assert!(verified.stdout.contains("5 prompt tokens"), "{}", verified.stdout);
}

#[test]
fn a_chat_with_an_embedding_model_is_refused_before_anything_is_sealed() {
    let Some(world) = world() else { return };
    let worker = start(world);
    let mut arguments = vec!["ask".to_owned(), "--worker".into(), worker.address.clone()];
    arguments.extend(world.trust_with(PINS));
    arguments.extend(["--state".into(), worker.state.path().display().to_string(), "hi".into()]);
    let refused = chrysalis(arguments);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("/v1/embeddings"), "{}", refused.stderr);
    let chat = Running::start(world);
    let mut arguments = vec!["embed".to_owned(), "--worker".into(), chat.address.clone()];
    arguments.extend(world.trust());
    arguments.extend(["--state".into(), chat.state.path().display().to_string(), "hi".into()]);
    let refused = chrysalis(arguments);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("/v1/chat/completions"), "{}", refused.stderr);
}

#[test]
fn the_official_sdks_get_their_vectors() {
    let (Some(world), Some(python), Some(modules)) =
        (world(), prepared("CHRYSALIS_SDK_PYTHON"), prepared("CHRYSALIS_SDK_NODE"))
    else {
        return;
    };
    let worker = start(world);
    let (_gateway, base) = serve_with(world, &worker, PINS);
    let script = root().join("tests/sdk/embeddings_python.py");
    let ran = Command::new(python).arg(script).env("BASE_URL", &base).output().unwrap();
    all_passed(&ran.into(), 10);
    let script = modules.join("embeddings_js.mjs");
    std::fs::copy(root().join("tests/sdk/embeddings_js.mjs"), &script).unwrap();
    let ran = Command::new("node").arg(script).env("BASE_URL", &base).output().unwrap();
    all_passed(&ran.into(), 3);
}
