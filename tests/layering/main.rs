//! The rules of the tree, enforced: which crate may depend on which, what a sans-IO crate may
//! name, and what a release worker must never reach.
//!
//! `enclave/` is what is measured, `host/` is what is not. If one of these tests is in the way,
//! the design is being changed: change the table below in the same commit and say why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod metadata;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use metadata::{Kind, Metadata, features_in, linked_by};

/// Allowed direct dependencies between our crates (normal and build dependencies; tests may
/// reach further). A crate that is not listed may not exist.
const ALLOWED: &[(&str, &[&str])] = &[
    ("chrysalis-wire", &[]),
    ("chrysalis-api", &["wire"]),
    ("chrysalis-channel", &["wire"]),
    ("chrysalis-evidence", &["wire"]),
    // Usable without the rest of the tree, hence its own name.
    ("gramine-ratls", &["wire", "evidence"]),
    ("chrysalis-receipt", &["wire"]),
    ("chrysalis-vault", &["wire", "channel"]),
    // Without Candle, so that it is fuzzed alone.
    ("chrysalis-wordpiece", &[]),
    ("chrysalis-engine", &["wire", "api", "vault", "cuda", "wordpiece"]),
    ("chrysalis-tee", &["wire"]),
    // Apart from tee, so that PID 1 links none of it.
    ("chrysalis-nvml", &["tee"]),
    // Memory and launches; what a model is, is the engine's.
    ("chrysalis-cuda", &[]),
    ("chrysalis-tee-sim", &["wire", "evidence", "tee"]),
    (
        "chrysalis-worker",
        &[
            "wire", "api", "channel", "evidence", "receipt", "vault", "engine", "tee", "nvml",
            "cuda",
        ],
    ),
    ("chrysalis-init", &["wire", "tee"]),
    ("chrysalis-worker-sim", &["wire", "worker", "tee", "tee-sim"]),
    // Composing reads the firmware's metadata as whoever predicts MRTD does, and no other way.
    ("chrysalis-image", &["wire", "measure", "shape"]),
    ("chrysalis-measure", &["wire", "evidence", "shape"]),
    // What a VM may look like is data that prediction and launch both read.
    ("chrysalis-shape", &[]),
    // A release is computed from an image, with the code that everybody measures with.
    ("chrysalis-release", &["wire", "evidence", "receipt", "image", "measure", "shape"]),
    ("chrysalis-rim", &["wire", "evidence"]),
    ("chrysalis-collateral", &["wire", "evidence"]),
    ("chrysalis-policy", &["wire", "evidence"]),
    ("chrysalis-tcb", &["wire", "image"]),
    // Keeps what its worker earned; it verifies claims and signs nothing.
    ("chrysalis-loader", &["wire", "shape", "ledger", "receipt"]),
    // Linked by whoever settles, a proxy in its enclave among them, so no virtual machine in it.
    ("chrysalis-ton", &["wire", "receipt"]),
    // Payer and payee both keep one; it verifies what it is told and holds no key.
    ("chrysalis-ledger", &["wire", "receipt"]),
    ("chrysalis-chain", &["wire", "receipt", "ton"]),
    ("chrysalis-devchain", &["wire", "ton"]),
    ("chrysalis-watch", &["wire", "receipt", "ton", "chain", "ledger"]),
    (
        "chrysalis-client",
        &["wire", "api", "channel", "evidence", "policy", "receipt", "vault", "ledger"],
    ),
    (
        "chrysalis-cli",
        &[
            "wire",
            "api",
            "channel",
            "evidence",
            "ratls",
            "receipt",
            "vault",
            "image",
            "measure",
            "shape",
            "release",
            "rim",
            "loader",
            "client",
            "tcb",
            "collateral",
            "policy",
            "ledger",
            "ton",
            "chain",
            "devchain",
            "watch",
        ],
    ),
    ("chrysalis-tests", &["*"]),
    // Signs with the simulator's FAKE keys; nothing links it.
    ("chrysalis-corpus", &["wire", "evidence", "ratls", "tee", "tee-sim"]),
];

/// Crates that are pure functions over bytes: no sockets, no clock, no async runtime.
const SANS_IO: &[&str] = &["wire", "evidence", "ratls", "channel", "receipt", "api", "wordpiece"];

/// Words a sans-IO crate may not use outside its tests.
const FORBIDDEN_WORDS: &[&str] =
    &["tokio", "std::net", "SystemTime", "Instant::now", "std::fs", "std::process", "std::env"];

/// Crates that must never be in the tree of the release worker, and why.
const NEVER_IN_WORKER: &[(&str, &str)] = &[
    ("chrysalis-tee-sim", "the simulator's keys are public"),
    ("clap", "host-only: argv of the worker is four fixed flags"),
    ("reqwest", "the worker opens no outbound connection"),
    ("hf-hub", "the worker downloads nothing"),
    ("tonlib-core", "no TON SDK inside the enclave (design §3.9)"),
    ("tycho-types", "no TON SDK inside the enclave (design §3.9)"),
    ("axum", "host-only: the worker has six routes"),
    ("tracing-subscriber", "the worker has no free-form log"),
    ("env_logger", "the worker has no free-form log"),
    ("quick-xml", "host-only: golden values reach the worker's verifier as pins"),
    ("openssl-sys", "one TLS stack"),
    ("ring", "one crypto provider under TLS"),
];

#[test]
fn crates_depend_only_along_the_allowed_edges() {
    let mut faults = Vec::new();
    for package in Metadata::read().members {
        let Some((_, edges)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            faults.push(format!("{} is not in the table of the tree", package.name));
            continue;
        };
        for (dependency, kind) in &package.dependencies {
            let ours = ["chrysalis-", "gramine-"];
            let Some(target) = ours.iter().find_map(|prefix| dependency.strip_prefix(prefix))
            else {
                continue;
            };
            let allowed = edges.contains(&target) || edges.contains(&"*");
            if *kind != Kind::Development && !allowed {
                faults.push(format!("{} must not depend on {dependency}", package.name));
            }
        }
    }
    assert!(faults.is_empty(), "the tree is broken:\n  {}", faults.join("\n  "));
}

#[test]
fn enclave_crates_never_depend_on_host_crates() {
    let members = Metadata::read().members;
    let host: BTreeSet<_> =
        members.iter().filter(|p| p.top_dir == "host").map(|p| p.name.clone()).collect();
    assert!(!host.is_empty(), "no host crate found: the check would check nothing");
    for package in members.iter().filter(|p| p.top_dir == "enclave") {
        for (dependency, _) in &package.dependencies {
            assert!(!host.contains(dependency), "{} depends on {dependency}", package.name);
        }
    }
}

#[test]
fn sans_io_crates_name_no_socket_no_clock_and_no_file() {
    let root = root();
    let mut checked = 0;
    let mut faults = Vec::new();
    for name in SANS_IO {
        let src = root.join("enclave").join(name).join("src");
        for file in rust_files(&src) {
            // Unit tests that are files of their own may read vectors and watch the clock.
            if file.starts_with(src.join("tests")) {
                continue;
            }
            checked += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, line) in without_tests_and_comments(&text) {
                for word in FORBIDDEN_WORDS {
                    if line.contains(word) {
                        faults.push(format!("{}:{number}: {word}", file.display()));
                    }
                }
            }
        }
    }
    assert!(checked >= SANS_IO.len(), "only {checked} files were read");
    assert!(faults.is_empty(), "sans-IO crates do I/O:\n  {}", faults.join("\n  "));
}

#[test]
fn the_release_worker_cannot_reach_what_it_must_not_link() {
    let linked = linked_by("chrysalis-worker");
    for present in ["chrysalis-wire", "rustls", "aws-lc-rs"] {
        assert!(linked.contains(present), "{present} is missing: the check checks nothing");
    }
    for (name, reason) in NEVER_IN_WORKER {
        assert!(!linked.contains(*name), "chrysalis-worker links {name}: {reason}");
    }
    // The same question does find the simulator where it belongs.
    assert!(linked_by("chrysalis-worker-sim").contains("chrysalis-tee-sim"));
}

#[test]
fn pid_1_links_no_runtime_no_server_and_no_simulator() {
    let linked = linked_by("chrysalis-init");
    for present in ["chrysalis-wire", "landlock", "seccompiler"] {
        assert!(linked.contains(present), "{present} is missing: the check checks nothing");
    }
    for absent in
        ["chrysalis-tee-sim", "chrysalis-worker", "candle-core", "tokio", "rustls", "aws-lc-sys"]
    {
        assert!(!linked.contains(absent), "chrysalis-init links {absent}");
    }
}

/// What it compiles helps tests and fuzz targets, panics where they fail and is not counted as trusted.
#[test]
fn no_program_has_the_feature_testing_of_a_crate_of_ours() {
    for program in ["chrysalis-worker", "chrysalis-worker-sim", "chrysalis-init", "chrysalis-cli"] {
        let all = features_in(program);
        assert!(all.iter().any(|(_, some)| !some.is_empty()), "no features: this checks nothing");
        for (package, features) in all {
            let ours = ["chrysalis-", "gramine-"].iter().any(|prefix| package.starts_with(prefix));
            let has = features.iter().any(|feature| feature == "testing");
            assert!(!(ours && has), "{program} links {package} with its feature `testing`");
        }
    }
}

#[test]
fn anyhow_is_used_only_by_the_cli_and_tests() {
    for package in Metadata::read().members {
        let direct = package.dependencies.contains(&("anyhow".to_owned(), Kind::Normal));
        let may = ["chrysalis-cli", "chrysalis-tests"].contains(&package.name.as_str());
        assert!(!direct || may, "{} uses anyhow; libraries have typed errors", package.name);
    }
}

#[test]
fn unsafe_code_stands_only_where_the_design_allows_it_and_says_why_it_is_there() {
    let root = root();
    let mut files = 0;
    for dir in ["enclave", "host", "tests"] {
        for file in rust_files(&root.join(dir)) {
            let text = std::fs::read_to_string(&file).unwrap();
            let named = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            // The calls into the driver of a GPU have no other interface than C.
            let may = [
                "enclave/vault/",
                "enclave/tee/",
                "enclave/nvml/",
                "enclave/engine/",
                "enclave/cuda/",
            ]
            .iter()
            .any(|p| named.starts_with(p));
            let uses = text.contains(concat!("allow(", "unsafe_code)"));
            assert!(!uses || may, "{named} allows unsafe code");
            // That each use says why it is sound is clippy's to check.
            let why = text.contains(concat!("// ", "JUSTIFICATION: "))
                || text.contains(concat!("//! ", "JUSTIFICATION: "));
            assert!(!uses || why, "{named} does not say why safe code will not do");
            files += usize::from(uses);
        }
    }
    assert!(files > 5, "only {files} files with unsafe code were found");
}

#[test]
fn every_source_file_says_what_it_is_for_and_none_is_over_900_lines() {
    let root = root();
    let mut files = 0;
    for dir in ["enclave", "host", "tests"] {
        for file in rust_files(&root.join(dir)) {
            files += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!"), "{} does not open with //!", file.display());
            let lines = text.lines().count();
            assert!(lines <= 900, "{} has {lines} lines", file.display());
        }
    }
    assert!(files > 40, "only {files} files were found");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut queue = vec![dir.to_path_buf()];
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
                queue.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    out
}

/// Lines before the test module (tests stand at the bottom of a file), without comments.
fn without_tests_and_comments(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "mod tests {")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}
