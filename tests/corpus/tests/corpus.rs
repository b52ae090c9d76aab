//! What is promised about the corpus: it is what its generator makes, it is small, every rule is in
//! it, and so is every code that the policy's text names.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrysalis_corpus::{Case, Expected, corpus, render};
use chrysalis_evidence::RuleId;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

fn refusals() -> Vec<(Case, &'static str, Option<RuleId>)> {
    let all = corpus().into_iter().flat_map(|stage| stage.cases().to_vec());
    all.filter_map(|case| match case.expected {
        Expected::Refused { code, rule, .. } => Some((case, code, rule)),
        Expected::Accepted => None,
    })
    .collect()
}

#[test]
fn the_files_are_what_the_generator_makes() {
    let mut made = BTreeMap::new();
    for stage in corpus() {
        for file in render(&stage) {
            assert!(made.insert(file.path.clone(), file.text).is_none(), "{} twice", file.path);
        }
        // Files of a case that is no longer made would be run all the same.
        for case in std::fs::read_dir(vectors().join(stage.name())).unwrap() {
            for file in std::fs::read_dir(case.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.strip_prefix(vectors()).unwrap().to_str().unwrap().to_owned();
                assert!(made.contains_key(&name), "{name} is made by nobody");
            }
        }
    }
    for (path, text) in made {
        let there = std::fs::read_to_string(vectors().join(&path)).unwrap_or_default();
        assert!(there == text, "{path} differs: run the generator (tests/vectors/README.md)");
    }
}

#[test]
fn there_are_more_than_150_refusals_in_less_than_two_mebibytes() {
    let refusals = refusals().len();
    assert!(refusals >= 150, "{refusals} refusals");
    let bytes: usize = corpus().iter().flat_map(render).map(|file| file.text.len()).sum();
    assert!(bytes < 2 << 20, "{bytes} bytes");
}

#[test]
fn every_rule_has_a_case_that_it_refuses() {
    let rules: BTreeSet<RuleId> = refusals().iter().filter_map(|(_, _, rule)| *rule).collect();
    for rule in RuleId::ALL.iter().chain(RuleId::DEVICE).chain(RuleId::SGX) {
        assert!(rules.contains(rule), "{rule} has no case");
    }
}

#[test]
fn every_code_of_the_policy_has_a_case() {
    let policy = include_str!("../../../enclave/evidence/POLICY.md");
    let codes: BTreeSet<&str> = policy.split('`').filter(|word| word.starts_with("E-")).collect();
    assert!(codes.len() > 80, "only {} codes were found", codes.len());
    let refusals = refusals();
    let cases: BTreeSet<&str> = refusals.iter().map(|(_, code, _)| *code).collect();
    for code in codes {
        assert!(cases.contains(code), "{code} has no case");
    }
}

#[test]
fn no_two_cases_are_the_same() {
    for stage in corpus() {
        let mut inputs = BTreeMap::new();
        for case in stage.cases() {
            if let Some(other) = inputs.insert(case.input.to_string(), &case.name) {
                panic!("{} and {other} of {} are the same", case.name, stage.name());
            }
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(case.name.chars().all(plain), "{}", case.name);
        }
    }
}
