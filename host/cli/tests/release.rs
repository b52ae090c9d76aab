//! `chrysalis release` as a publisher, an auditor and a proxy operator run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::World;

/// Values of a release that nobody made: RTMR3 is what manifest 61.. and model 62.. replay to.
fn values() -> String {
    let digest = |n: &str| n.repeat(32);
    let register = |n: &str| n.repeat(48);
    let events = chrysalis_evidence::boot_events(
        &chrysalis_wire::Digest([0x61; 32]),
        &chrysalis_wire::Digest([0x62; 32]),
    );
    let rtmr3 = hex::encode(chrysalis_evidence::replay_rtmr(&events).unwrap());
    format!(
        "version = 1\nrelease = \"0.1.0\"\nplatform = \"tdx\"\ndebug = false\n\
         firmware_profile = \"202605\"\n\n[tdx]\nmrtd = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\n\
         status = \"cross-checked\"\n\n[[part]]\nname = \"vmlinuz\"\nbytes = 5\nsha256 = \"{}\"\n\n\
         [[shape]]\nname = \"cpu-2\"\nqemu = \"11.1.3\"\nrtmr0 = \"{}\"\nstatus = \"inferred\"\n\n\
         [[workload]]\nname = \"m\"\nmanifest_sha256 = \"{}\"\nmodel_root = \"{}\"\n\
         rtmr3 = \"{rtmr3}\"\n",
        register("11"),
        register("12"),
        register("13"),
        digest("31"),
        register("41"),
        digest("61"),
        digest("62"),
    )
}

fn built() -> World {
    let world = World::new();
    world.file("values.toml", values());
    world.run("release build --values @values.toml --out @r").success();
    world
}

#[test]
fn a_release_is_written_and_verifies() {
    let world = built();
    let json = world.run("--format json release verify @r").success().json("chrysalis/release/v1");
    assert_eq!(json["release"], "0.1.0");
    assert_eq!(json["shapes"][0], "cpu-2 (QEMU 11.1.3)");
    for file in ["values.toml", "corim.cbor", "intoto.json", "values.boc"] {
        assert!(world.path(&format!("r/{file}")).exists(), "{file}");
    }
}

#[test]
fn building_again_from_what_was_written_changes_no_byte() {
    let world = built();
    world.run("release build --values @r/values.toml --out @again").success();
    for file in ["values.toml", "corim.cbor", "intoto.json", "values.boc"] {
        let read = |dir: &str| std::fs::read(world.path(&format!("{dir}/{file}"))).unwrap();
        assert_eq!(read("r"), read("again"), "{file}");
    }
}

#[test]
fn an_edited_statement_is_refused_and_the_fact_is_named() {
    let world = built();
    let edited = world.text("r/intoto.json").replace(&"41".repeat(48), &"42".repeat(48));
    world.file("r/intoto.json", edited);
    let run = world.run("release verify @r");
    assert!(run.stderr().contains("shape/cpu-2/11.1.3/rtmr0"), "{}", run.stderr());
    run.exits(10).says("E-RELEASE-DISAGREES");
}

#[test]
fn values_with_a_wrong_rtmr3_are_refused() {
    let world = World::new();
    world.file("values.toml", values().replace(&"62".repeat(32), &"63".repeat(32)));
    let run = world.run("release build --values @values.toml --out @r");
    run.exits(10).says("E-RELEASE-RTMR3");
    assert!(!world.path("r").exists());
}

#[test]
fn a_missing_file_is_named() {
    let world = built();
    std::fs::remove_file(world.path("r/values.boc")).unwrap();
    let run = world.run("release verify @r");
    assert!(run.stderr().contains("values.boc"), "{}", run.stderr());
    run.exits(64).says("E-FILE");
}

#[test]
fn pins_come_out_of_a_release_and_load() {
    let world = built();
    let example = include_str!("../../../manifests/pins.example.toml");
    world.file("platform.toml", &example[example.find("[platform]").unwrap()..]);
    world
        .run("release pins @r --network testnet --platform @platform.toml --out @pins.toml")
        .success();
    let pins = world.text("pins.toml");
    let pins = chrysalis_evidence::Pins::parse(&pins, chrysalis_evidence::AllowSim::No).unwrap();
    assert_eq!(pins.workers().len(), 1);
    assert_eq!(pins.workers()[0].rtmr0, [0x41; 48]);
}
