//! What must be trusted, counted over this source tree by the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Command, Output};

use common::World;
use serde_json::Value;

/// Runs `chrysalis tcb` with this test's environment: cargo needs its registry and its compiler.
fn tcb(arguments: &[&str]) -> Output {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    Command::new(env!("CARGO_BIN_EXE_chrysalis"))
        .args(["--format", "json", "tcb", "--source", root])
        .args(arguments)
        .env("CARGO", env!("CARGO"))
        .output()
        .unwrap()
}

fn budget(own_lines: usize) -> String {
    let counts = ["linked-crates", "build-time-crates", "own-lines", "own-unsafe", "listens"];
    let mut text = "version = 1\n".to_owned();
    for program in ["chrysalis-worker", "chrysalis-init"] {
        for count in counts {
            let at_most = if count == "own-lines" { own_lines } else { 1_000_000 };
            text += &format!(
                "[[budget]]\nprogram = \"{program}\"\ncount = \"{count}\"\n\
                 history = [{{ at_most = {at_most}, reason = \"made for a test\" }}]\n"
            );
        }
    }
    text
}

#[test]
fn counts_the_worker_and_names_its_one_port() {
    let output = tcb(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "chrysalis/tcb/v1");
    let worker = &report["programs"][0];
    assert_eq!(worker["name"], "chrysalis-worker");
    assert!(worker["linked_crates"].as_u64().unwrap() > 100);
    assert_eq!(worker["own"]["listens"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_over_its_budget_is_refused_with_both_numbers() {
    let world = World::new();
    let wide = world.file("wide.toml", budget(1_000_000));
    assert_eq!(tcb(&["--budget", &wide]).status.code(), Some(0));
    let tight = world.file("tight.toml", budget(100));
    let output = tcb(&["--budget", &tight]);
    assert_eq!(output.status.code(), Some(10));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("E-TCB-OVER") && error.contains("at most 100"), "{error}");
    let malformed = world.file("malformed.toml", "version = 1\n");
    assert_eq!(tcb(&["--budget", &malformed]).status.code(), Some(30));
}

#[test]
fn a_directory_that_is_no_source_tree_is_an_error_of_this_machine() {
    let world = World::new();
    world.run("tcb --source @nowhere").exits(1).says("E-TCB-CARGO");
}
