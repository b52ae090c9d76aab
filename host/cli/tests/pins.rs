//! Signed pins by the real binary: made, opened, remembered and refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::World;

/// A world with simulated pins number `n` for each of `numbers`, signed, and the publisher's key.
fn signed(numbers: &[u64]) -> (World, String) {
    let world = World::with_pins();
    let made = world.run("--format json policy keygen --out @key").success();
    let public = made.json("chrysalis/pins-key/v1")["public"].as_str().unwrap().to_owned();
    let pins = world.text("pins.toml");
    for number in numbers {
        let text =
            pins.replacen("version = 1\n", &format!("version = 1\nsequence = {number}\n"), 1);
        world.file(&format!("{number}.toml"), text);
        let line = format!("policy sign @{number}.toml --key @key --out @{number}.json");
        world.run(&format!("{line} --insecure-sim")).success();
    }
    (world, public)
}

#[test]
fn a_signed_file_opens_under_its_key_and_gives_back_its_bytes() {
    let (world, key) = signed(&[3]);
    let line = format!("policy verify @3.json --key {key} --insecure-sim");
    let run = world.run(&format!("--format json {line} --out @again.toml")).success();
    let json = run.json("chrysalis/pins-signed/v1");
    assert_eq!((&json["sequence"], &json["tier"]), (&3.into(), &"INSECURE-SIM".into()));
    assert_eq!(world.text("again.toml"), world.text("3.toml"));
    assert!(world.run(&line).success().stdout().contains("INSECURE-SIM"));
    world.run(&format!("policy verify @3.json --key {key}")).exits(10).says("E-PINS-SIM-REFUSED");
    world.run(&format!("{line} --minimum 3")).success();
    world.run(&format!("{line} --minimum 4")).exits(10).says("E-PINS-ROLLBACK");
}

#[test]
fn denials_are_shown_in_the_words_of_the_file() {
    let world = World::with_pins();
    world.run("policy keygen --out @key").success();
    let deny = "[[deny]]\nfmspc = \"90c06f000000\"\nreason = \"keys were published\"\n";
    let pins = world.text("pins.toml").replacen("version = 1\n", "version = 1\nsequence = 1\n", 1);
    world.file("denying.toml", format!("{pins}\n{deny}"));
    let line = "policy sign @denying.toml --key @key --out @x.json --insecure-sim";
    let text = world.run(line).success().stdout();
    assert!(text.contains("platform family 90c06f000000: keys were published"), "{text}");
}

#[test]
fn a_diff_says_which_way_each_change_goes() {
    let (world, _) = signed(&[1]);
    let loose = world.text("1.toml");
    world.file("strict.toml", loose.replace("allow_smt = true", "allow_smt = false"));
    let run = world.run("--format json policy diff @strict.toml @1.toml --insecure-sim").success();
    let json = run.json("chrysalis/pins-diff/v1");
    assert_eq!(
        (&json["equal"], &json["changes"][0]["direction"]),
        (&false.into(), &"wider".into())
    );
    let same = world.run("policy diff @1.toml @1.toml --insecure-sim").success().stdout();
    assert!(same.contains("accept the same"), "{same}");
}

#[test]
fn a_changed_file_and_another_key_are_refused() {
    let (world, key) = signed(&[3]);
    let (_, other) = signed(&[]);
    let verify = |file: &str, key: &str| {
        world.run(&format!("policy verify @{file} --key {key} --insecure-sim"))
    };
    verify("3.json", &other).exits(10).says("E-SIGNED-OTHER-KEY");
    let changed = world.text("3.json").replacen("\"sig\":\"", "\"sig\":\"AAAA", 1);
    let cut = changed.replacen("==\"}]", "\"}]", 1);
    world.file("changed.json", cut);
    verify("changed.json", &key).exits(30).says("E-SIGNED-FORM");
    verify("3.toml", &key).exits(30).says("E-SIGNED-FORM");
    verify("3.json", "abc").exits(64).says("E-SIGNED-KEY");
}

#[test]
fn an_unnumbered_file_is_not_signed_and_a_key_is_not_written_over() {
    let (world, _) = signed(&[]);
    let run = world.run("policy sign @pins.toml --key @key --out @x.json --insecure-sim");
    run.exits(10).says("E-PINS-UNNUMBERED");
    assert!(!world.path("x.json").exists());
    let before = world.text("key");
    world.run("policy keygen --out @key").exits(10).says("E-EXISTS");
    assert_eq!(world.text("key"), before);
}

#[test]
fn a_verifier_remembers_the_highest_number_and_refuses_lower_ones() {
    let (world, key) = signed(&[3, 4]);
    let appraise = |number: u64, more: &str| {
        world.run(&format!(
            "appraise 127.0.0.1:1 --pins @{number}.json --pins-key {key} \
             --collateral @collateral.json --insecure-sim {more}"
        ))
    };
    // Nobody listens there; the pins were read and remembered before.
    let memory = "--pins-memory @memory.json";
    appraise(3, memory).exits(1).says("E-UNREACHABLE");
    let first = world.text("memory.json");
    let run = appraise(4, memory).exits(1);
    assert!(run.stderr().contains("what pins number 4 add is accepted from"), "{}", run.stderr());
    assert_ne!(world.text("memory.json"), first);
    appraise(3, memory).exits(10).says("E-PINS-ROLLBACK");
    // Without a name the memory lies in the state directory of the user.
    appraise(4, "").exits(1);
    appraise(3, "").exits(10).says("E-PINS-ROLLBACK");
    world.file("memory.json", "{}");
    appraise(4, memory).exits(30).says("E-PINS-MEMORY");
    // Unsigned pins are their user's own word and have no memory; signed ones are not pins.
    let line = "appraise 127.0.0.1:1 --collateral @collateral.json --insecure-sim --pins";
    world.run(&format!("{line} @3.toml")).exits(1);
    world.run(&format!("{line} @3.json")).exits(30).says("E-PINS-FORM");
}
