//! Images as a user builds, verifies and compares them. Building needs the pinned packages; where
//! no directory has them, that part says that it is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::World;

/// A static program that does nothing: an ELF header and one loadable segment.
fn program(content: &[u8]) -> Vec<u8> {
    let mut elf = vec![0u8; 120];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (offset, value) in [(16, 3u16), (18, 62), (54, 56), (56, 1)] {
        elf[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }
    (elf[32], elf[64]) = (64, 1);
    elf.extend_from_slice(content);
    elf
}

fn world() -> World {
    let world = World::new();
    world.file("init", program(b"init"));
    world.file("worker", program(b"worker"));
    world
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn build(out: &str, extra: &str) -> String {
    let recipe = tree().join("images/cpu.toml");
    format!(
        "image build --recipe {} --init @init --worker @worker --platform insecure-sim \
         --offline --out @{out} {extra}",
        recipe.display()
    )
}

/// `--inputs` for the pinned packages.
fn inputs() -> Option<String> {
    let given = std::env::var_os("CHRYSALIS_INPUTS").map(PathBuf::from);
    let dir = given.unwrap_or_else(|| tree().join("../shared/inputs"));
    if !dir.is_dir() {
        eprintln!("skipped: there is no directory of pinned packages (CHRYSALIS_INPUTS)");
        return None;
    }
    Some(format!("--inputs {}", dir.display()))
}

#[test]
fn a_package_that_is_nowhere_is_named_with_what_to_do() {
    let world = world();
    let run = world.run(&build("image", "--inputs @empty"));
    let text = run.exits(10).says("E-IMAGE-INPUT").stderr();
    assert!(text.contains("ovmf-inteltdx") && text.contains("CHRYSALIS_INPUTS"), "{text}");
    assert!(!world.path("image").exists());
}

#[test]
fn an_image_is_built_verified_compared_and_refused_when_changed() {
    let Some(inputs) = inputs() else { return };
    let world = world();
    let run = world.run(&format!("--format json {}", build("one", &inputs)));
    let id = run.success().json("chrysalis/image-built/v1")["id"].as_str().unwrap().to_owned();
    world.run(&build("one", &inputs)).exits(10).says("E-EXISTS");
    world.run(&build("two", &inputs)).success();
    assert_eq!(world.run("image compare @one @two").success().stdout(), "IDENTICAL\n");
    let text = world.run(&format!("image verify @two --id {id}")).success().stdout();
    assert!(text.contains("INSECURE-SIM") && text.contains("INTACT"), "{text}");
    let other = "0".repeat(64);
    world.run(&format!("image verify @two --id {other}")).exits(10).says("E-IMAGE-PART");
    world.run("image verify @two --id xyz").exits(64);

    let path = world.path("two").join("initrd.cpio");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|w| w == b"worker").unwrap();
    let content = bytes[at..].windows(4).position(|w| w == b"\x7fELF").unwrap() + at;
    bytes[content + 100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let text = world.run("image verify @two").exits(10).says("E-IMAGE-PART").stderr();
    assert!(text.contains("initrd: chrysalis/worker"), "{text}");
    let run = world.run("--format json image compare @one @two").exits(10);
    let json = run.json("chrysalis/image-compared/v1");
    assert_eq!(json["differences"][0]["member"], "chrysalis/worker");
    assert_eq!(json["differences"][0]["offset"], 100);
}

#[test]
fn programs_that_would_not_run_are_refused_before_anything_is_written() {
    let Some(inputs) = inputs() else { return };
    let world = world();
    world.file("worker", b"#!/bin/sh\n");
    world.run(&build("image", &inputs)).exits(30).says("E-IMAGE-BINARY");
    assert!(!world.path("image").exists());
}

#[test]
fn a_hash_tree_is_written_once_and_finds_a_changed_block() {
    let world = World::new();
    world.file("fs", vec![7u8; 40 * 4096]);
    let run = world.run("--format json image verity @fs --tree @tree");
    let json = run.success().json("chrysalis/image-verity/v1");
    let check = format!("image verity @fs --tree @tree --root {}", json["root"].as_str().unwrap());
    world.run(&check).success();
    world.run("image verity @fs --tree @tree").exits(10).says("E-EXISTS");
    let mut changed = vec![7u8; 40 * 4096];
    changed[33 * 4096] = 8;
    world.file("fs", changed);
    let text = world.run(&check).exits(10).says("E-IMAGE-VERITY").stderr();
    assert!(text.contains("data block 33"), "{text}");
}

#[test]
fn packages_copied_once_are_enough_without_a_network() {
    let Some(inputs) = inputs() else { return };
    let world = world();
    let recipe = tree().join("images/cpu.toml");
    let lock = format!("image lock --offline --recipe {}", recipe.display());
    world.run(&format!("{lock} {inputs} --copy-to @kept")).success();
    assert_eq!(std::fs::read_dir(world.path("kept")).unwrap().count(), 4);
    world.run(&build("image", "--inputs @kept")).success();
    world.run(&format!("{lock} --inputs @nothing")).exits(10).says("E-IMAGE-INPUT");
}
