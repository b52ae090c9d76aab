//! The conformance corpus against our own verifier, through the interface that others provide too:
//! one process a case, JSON in, JSON and an exit code out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../tests/vectors/reader.rs"]
mod reader;

use std::path::Path;

use assert_cmd::Command;
use reader::{Case, cases};
use serde_json::Value;

fn all() -> Vec<Case> {
    let stages = ["quote", "collateral", "document", "pins", "event-log", "gpu", "ratls", "attest"];
    cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors"), &stages)
}

#[test]
fn every_case_of_the_corpus_is_answered_as_expected() {
    let (cases, mut faults) = (all(), Vec::new());
    for Case { name, input, expected } in &cases {
        let output = Command::cargo_bin("chrysalis")
            .unwrap()
            .args(["--format", "json", "vectors", "run", "-"])
            .write_stdin(input.to_string())
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let same = ["accepted", "code", "rule", "exit"].iter().all(|k| answer[k] == expected[k]);
        if !same || output.status.code().map(Value::from).as_ref() != Some(&expected["exit"]) {
            let found = format!("{} {} {}", answer["code"], answer["rule"], answer["message"]);
            faults.push(format!("{name}: expected {expected}, found {found}"));
        }
    }
    assert!(cases.len() > 400, "only {} cases were found", cases.len());
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn a_case_from_a_file_is_answered_for_people_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (name, code, answer) in [
        ("attest/001-server", 0, "ACCEPTED\n"),
        ("attest/004-replayed", 10, "REFUSED  E-REPORT-DATA by R-REPORT-DATA\n"),
    ] {
        let case = all().into_iter().find(|case| case.name == name).unwrap();
        std::fs::write(file.path(), case.input.to_string()).unwrap();
        let mut command = Command::cargo_bin("chrysalis").unwrap();
        let run = command.args(["vectors", "run"]).arg(file.path()).assert().code(code);
        let text = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
        assert!(text.starts_with(answer), "{text}");
    }
}
