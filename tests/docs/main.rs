//! Every `sh` and `python` block of the README runs, in order, as one script: what the page shows
//! is what works. Blocks that are not to be run say another language.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use chrysalis_tests::{Ran, bin, model, root};

#[test]
fn every_command_of_the_readme_runs() {
    if model().is_none() {
        println!("skipped: the default model is not here; run scripts/fetch-model");
        return;
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = blocks(&readme);
    let count = |language: &str| blocks.iter().filter(|(found, _)| found == language).count();
    assert!(count("sh") >= 5 && count("python") >= 1, "blocks are missing: {blocks:?}");
    let script: Vec<String> = blocks.iter().map(|(language, text)| run(language, text)).collect();
    let script = format!(
        "set -Eeuo pipefail\nrm -rf target/first\n\
         trap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n\
         trap 'chrysalis down --state target/first/state >/dev/null 2>&1; kill %% 2>/dev/null; true' EXIT\n{}",
        with_free_ports(&script.join("\n"))
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
    for said in ["prime number", "smollm2-135m-instruct"] {
        assert!(ran.stdout.contains(said), "the first commands get an answer: {}", ran.stdout);
    }
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_program() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let source = fs::read_to_string(root().join("host/cli/src/exit.rs")).unwrap();
    let rows: Vec<&str> =
        source.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1).collect();
    assert_eq!(rows.len(), 6, "{rows:?}");
    for row in rows {
        assert!(readme.contains(&format!("| {row}")), "the README does not say: {row}");
    }
}

/// What a block becomes in the script.
fn run(language: &str, text: &str) -> String {
    if language == "sh" {
        return text.to_owned();
    }
    if std::env::var_os("CHRYSALIS_SDK_PYTHON").is_none() {
        assert!(std::env::var_os("CI").is_none(), "CHRYSALIS_SDK_PYTHON is not set");
        println!("skipped: a block in Python; scripts/test sets CHRYSALIS_SDK_PYTHON");
        return String::new();
    }
    format!("\"$CHRYSALIS_SDK_PYTHON\" - <<'EOF'\n{text}EOF\n")
}

/// The same with ports that nobody has on this machine.
fn with_free_ports(script: &str) -> String {
    let (a, b) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (worker, gateway) =
        (a.local_addr().unwrap().to_string(), b.local_addr().unwrap().to_string());
    script.replace("127.0.0.1:8443", &worker).replace("127.0.0.1:8000", &gateway)
}

/// Languages and texts of the fenced blocks that run.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut current: Option<(String, String)> = None;
    for line in text.lines() {
        match &mut current {
            Some(_) if line == "```" => blocks.extend(current.take()),
            Some((_, block)) => *block += &format!("{line}\n"),
            None => {
                let language = line.strip_prefix("```").filter(|l| ["sh", "python"].contains(l));
                current = language.map(|language| (language.to_owned(), String::new()));
            }
        }
    }
    assert!(current.is_none(), "a block does not end");
    blocks
}
