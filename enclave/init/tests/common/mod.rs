//! What both tests of PID 1 with real processes share: the probe that stands in for a worker.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `tests/probe` into `dir`, statically as a worker is, and returns its path.
pub(crate) fn build_probe(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/probe.rs");
    let probe = dir.join("worker");
    let compiled = Command::new("rustc")
        .args(["--edition=2024", "-O", "-Ctarget-feature=+crt-static", "-Cpanic=abort"])
        .arg("-o")
        .arg(&probe)
        .arg(source)
        .output()
        .expect("rustc runs");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    probe
}

/// What the probe said about `what`.
pub(crate) fn said<'a>(output: &'a str, what: &str) -> &'a str {
    let start = format!("probe: {what}: ");
    output
        .lines()
        .find_map(|line| line.trim_end().strip_prefix(start.as_str()))
        .unwrap_or_else(|| panic!("the probe said nothing about {what}:\n{output}"))
}
