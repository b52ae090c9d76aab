//! What is promised about the corpus: it is what its generator makes, it is small, every rule is in
//! it, and so is every code that the policy's text names.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrysalis_corpus::{Case, Expected, corpus, render};
use chrysalis_evidence::RuleId;

/// Codes without a case, and why.
const CODES_WITHOUT_A_CASE: &[(&str, &str)] = &[
    ("E-PINS-TIER", "pins that are asked for by their tier, which no stage does"),
    ("E-RATLS-INTERMEDIATES", "a chain that came by TLS; a case has one certificate"),
    ("E-RATLS-NO-CERTIFICATE", "no certificate came by TLS; a case has one"),
    ("E-RATLS-FORMAT", "a verifier that was told to accept one format; cases are for all"),
    ("E-RATLS-COLLATERAL", "collateral that is not there yet; a case has it"),
    ("E-RATLS-CERTIFICATE-ONLY", "pins of a tier that the stage never loads"),
    ("E-RATLS-PROVIDER", "the program's own TLS configuration, no input"),
    ("E-RATLS-GENERATE", "the making of a certificate, not the reading"),
];

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

/// Those of the rules, which `POLICY.md` names, and those of what is read before any rule is asked.
#[test]
fn every_code_has_a_case() {
    let policy = include_str!("../../../enclave/evidence/POLICY.md");
    let errors = [
        include_str!("../../../enclave/evidence/src/pins/error.rs"),
        include_str!("../../../enclave/evidence/src/collateral.rs"),
        include_str!("../../../enclave/ratls/src/error.rs"),
    ];
    let named = policy.split('`').chain(errors.iter().flat_map(|source| source.split('"')));
    let codes: BTreeSet<&str> = named.filter(|word| word.starts_with("E-")).collect();
    assert!(codes.len() > 130, "only {} codes were found", codes.len());
    let refusals = refusals();
    let cases: BTreeSet<&str> = refusals.iter().map(|(_, code, _)| *code).collect();
    for (code, _) in CODES_WITHOUT_A_CASE {
        assert!(codes.contains(code), "{code} is excused, and there is no such code");
    }
    for code in codes {
        let excused = CODES_WITHOUT_A_CASE.iter().any(|(name, _)| *name == code);
        assert!(cases.contains(code) != excused, "{code} has no case, or an excuse it needs not");
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
