//! The budget of what must be trusted, enforced: a crate more, a hundred lines more or an `unsafe`
//! more is a decision that somebody writes down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::path::Path;
use std::sync::LazyLock;

use chrysalis_image::{directory, verify};
use chrysalis_tcb::{Budget, Cargo, Depth, GuestFiles, Outcome, TcbReport};

static REPORT: LazyLock<TcbReport> = LazyLock::new(|| {
    let cargo = Cargo::new(env!("CARGO").into(), root().to_owned());
    TcbReport::of_tree(&cargo, Depth::Own).unwrap()
});

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn nothing_is_over_its_budget_and_no_budget_is_loose() {
    check(&REPORT);
}

/// The image that the VM tests boot; `scripts/image` counts every image that it writes.
#[test]
fn no_guest_is_over_its_budget() {
    let dir = root().join("target/vm/image");
    if !root().join("target/vm/complete").is_file() {
        let required = std::env::var_os("CHRYSALIS_REQUIRE_VM").is_some();
        assert!(!required, "there is no image to count; run scripts/vm-inputs");
        println!("skipped: there is no image to count; run scripts/vm-inputs");
        return;
    }
    let verified = verify(&directory::read(&dir).unwrap(), None).unwrap();
    let guest = GuestFiles::of(verified.image(), verified.config());
    check(&TcbReport { programs: Vec::new(), guest: Some(guest) });
}

fn check(report: &TcbReport) {
    let text = std::fs::read_to_string(root().join("manifests/tcb-budget.toml")).unwrap();
    let verdicts = Budget::parse(&text).unwrap().judge(report).unwrap();
    assert!(!verdicts.is_empty());
    let faults: Vec<_> = verdicts
        .iter()
        .filter(|verdict| verdict.outcome != Outcome::Within)
        .map(|v| {
            let say = if v.outcome == Outcome::Over { "over" } else { "far below" };
            format!("{} {}: {} is {say} {}", v.program, v.count.name(), v.found, v.at_most)
        })
        .collect();
    assert!(
        faults.is_empty(),
        "manifests/tcb-budget.toml: add a value to the history and say why:\n  {}",
        faults.join("\n  ")
    );
}

#[test]
fn the_report_sees_what_is_certainly_there() {
    let worker = REPORT.programs.iter().find(|p| p.name == "chrysalis-worker").unwrap();
    let own = |name: &str| worker.crates.iter().find(|c| c.name == name).is_some_and(|c| c.own);
    assert!(own("chrysalis-wire") && own("chrysalis-vault") && !own("rustls"));
    assert!(worker.crates.iter().all(|c| c.name != "chrysalis-tee-sim"));
    // The vault wipes and locks memory, and the worker listens in one place.
    let vault = worker.crates.iter().find(|c| c.name == "chrysalis-vault").unwrap();
    assert!(vault.source.as_ref().unwrap().unsafes.blocks > 0);
    assert_eq!(worker.own.listens.len(), 1, "{:?}", worker.own.listens);
}

#[test]
fn crates_that_forbid_unsafe_have_none() {
    for program in &REPORT.programs {
        for one in program.crates.iter().filter(|one| one.own) {
            let source = one.source.as_ref().unwrap();
            let may =
                ["vault", "tee", "nvml", "engine", "init"].map(|name| format!("chrysalis-{name}"));
            let count = source.unsafes.total();
            assert!(count == 0 || may.contains(&one.name), "{}: {count}", one.name);
        }
    }
}
