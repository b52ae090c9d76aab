//! `chrysalis policy import-rim` by the real binary, on NVIDIA's own manifests. They stay outside
//! the tree; without the vectors folder these tests say `skipped`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::World;

/// 2025-01-15, when the signers were valid.
const JANUARY_2025: u64 = 1_736_899_200;

fn vector(name: &str) -> Option<String> {
    let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    Some(root.join("attest/nvidia").join(name).to_str().unwrap().to_owned())
}

#[test]
fn an_imported_manifest_is_an_entry_for_pins() {
    let Some(file) = vector("1010_0200_882_96005E0001_PROD.swidtag") else { return };
    let line = format!("policy import-rim {file} --board 1010_0200_882 --at {JANUARY_2025}");
    let run = World::new().run(&line).success();
    let toml = run.stdout();
    assert!(toml.contains("\n[[device.vbios]]\nkind = \"GH100\"\nversion = \"96.00.5E.00.01\"\n"));
    assert!(toml.contains("\nboard = \"1010_0200_882\"\n"), "{toml}");
    assert!(run.stderr().contains("may have expired since"));
    let json = World::new().run(&format!("--format json {line}")).success();
    let json = json.json("chrysalis/rim/v1");
    assert_eq!(json["toml"], toml);
    assert_eq!(json["records"].as_object().unwrap().len(), 12);
}

#[test]
fn refuses_expired_changed_and_foreign_files_with_their_codes() {
    let Some(file) = vector("1010_0200_882_96005E0001_PROD.swidtag") else { return };
    let world = World::new();
    // The signer expired in June 2025, and the system's clock is later than that.
    world.run(&format!("policy import-rim {file}")).exits(10).says("E-RIM-EXPIRED");
    let changed = std::fs::read_to_string(&file).unwrap().replacen("c3f65ef7", "c3f65ef8", 1);
    let changed = world.file("changed.xml", changed);
    let line = format!("policy import-rim {changed} --at {JANUARY_2025}");
    world.run(&line).exits(10).says("E-RIM-DIGEST");
    let bad = vector("incorrect_signature_driver_rim.xml").unwrap();
    let line = format!("policy import-rim {bad} --at {JANUARY_2025}");
    world.run(&line).exits(10).says("E-RIM-SIGNATURE");
    let other = world.file("other.xml", "<a xmlns=\"u\"></a>");
    world.run(&format!("policy import-rim {other}")).exits(30).says("E-RIM-FORM");
    world.run(&format!("policy import-rim {file} --board a\"b")).exits(64).says("E-BOARD");
}
