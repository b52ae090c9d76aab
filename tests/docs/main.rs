//! Every `sh` block of the README runs, in order, as one script: what the page shows is what
//! works. Blocks that are not to be run say another language.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::process::{Command, Stdio};

use chrysalis_tests::{Ran, bin, model, root};

#[test]
fn every_command_of_the_readme_runs() {
    if model().is_none() {
        println!("skipped: the default model is not here; run scripts/fetch-model");
        return;
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = shell_blocks(&readme);
    assert!(blocks.len() >= 5, "only {} blocks were found", blocks.len());
    let script = format!(
        "set -euo pipefail\nrm -rf target/first\n\
         trap 'chrysalis down --state target/first/state >/dev/null 2>&1; kill %% 2>/dev/null; true' EXIT\n{}",
        blocks.join("\n")
    );
    let debug = bin("chrysalis").parent().unwrap().to_path_buf();
    let path = format!("{}:{}", debug.display(), std::env::var("PATH").unwrap());
    let ran: Ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(root())
        .env("PATH", path)
        .env("CHRYSALIS_BIN", &debug)
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into();
    let ran = ran.expect_code(0);
    assert!(
        ran.stdout.contains("prime number"),
        "the first commands get an answer: {}",
        ran.stdout
    );
}

/// The texts of the fenced blocks whose language is `sh`.
fn shell_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        match &mut current {
            Some(_) if line == "```" => blocks.extend(current.take()),
            Some(block) => *block += &format!("{line}\n"),
            None if line == "```sh" => current = Some(String::new()),
            None => {}
        }
    }
    assert!(current.is_none(), "a block does not end");
    blocks
}
