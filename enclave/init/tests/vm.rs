//! PID 1 for real: the pinned kernel, an initrd with this PID 1 and a probe in place of the worker,
//! under QEMU without acceleration. Once to the end, then once for every kind of hostile input.
//!
//! Needs `qemu-system-x86_64` (or `CHRYSALIS_QEMU`) and the pinned kernel packages
//! (`CHRYSALIS_INPUTS`, default `../shared/inputs`); without one of them it says what is missing
//! and is skipped. A folder that lacks a package is a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;
mod machine;

use chrysalis_evidence::{boot_events, replay_rtmr};
use chrysalis_wire::config_disk::{CONFIG_DISK_SERIAL, MODEL_DISK_SERIAL, ROOT_DISK_SERIAL};
use chrysalis_wire::image::RootSection;
use chrysalis_wire::{ConfigDisk, ConsoleEvent, Digest, InitStep, StageState};
use common::said;
use machine::{Boot, COMMAND_LINE, Machine, ROOT, ROOT_HASH};
use sha2::{Digest as _, Sha256};

const MODEL_ROOT: Digest = Digest([0x22; 32]);

fn manifest() -> Vec<u8> {
    format!(
        "version = 1\nnetwork = 5458253\nregistry = \"{z}\"\n\n[model]\nname = \"m\"\n\
         root = \"{MODEL_ROOT}\"\nsealed = false\n\n[limits]\nrequest_bytes = 65536\n\
         context_tokens = 2048\ncompletion_tokens = 512\nconcurrent_requests = 4\n\n\
         [prices]\nprompt = 1\ncached = 1\ncompletion = 8\nreasoning = 8\n",
        z = "0".repeat(64)
    )
    .into_bytes()
}

/// A boot that succeeds, to be spoilt in one place.
fn sound() -> Boot {
    let config = ConfigDisk::new(manifest(), b"{}".to_vec()).unwrap().encode();
    Boot {
        command_line: COMMAND_LINE.to_owned(),
        disks: vec![
            (MODEL_DISK_SERIAL.to_owned(), vec![0x5a; 4096]),
            (CONFIG_DISK_SERIAL.to_owned(), config),
        ],
        debug: false,
        root: None,
        spoil_module: false,
        spoil_module_hash: false,
    }
}

/// A boot of an image with a root, its disk among the others.
fn with_root() -> Boot {
    let mut boot = sound();
    let hash = ROOT_HASH.parse().unwrap();
    boot.root = Some(RootSection { hash, bytes: ROOT.len() as u64 });
    boot.disks.insert(0, (ROOT_DISK_SERIAL.to_owned(), ROOT.to_vec()));
    boot
}

/// The code in the last line of PID 1, after which the machine must be off.
#[track_caller]
fn power_off_code(events: &[ConsoleEvent]) -> Option<String> {
    match events.last() {
        Some(ConsoleEvent::PowerOff { code }) => code.clone(),
        other => panic!("the last event is {other:?}"),
    }
}

#[test]
fn boots_measures_and_starts_an_unprivileged_worker() {
    let Some(machine) = Machine::get() else { return };
    let run = machine.boot(&sound());
    println!("{}", run.text);
    let done: Vec<_> = run
        .events
        .iter()
        .filter_map(|event| match event {
            ConsoleEvent::Init { step, state: StageState::Done, total, .. } => {
                Some((*step, *total))
            }
            _ => None,
        })
        .collect();
    let all: Vec<_> = InitStep::ALL.into_iter().filter(|s| *s != InitStep::Root).collect();
    assert_eq!(done.iter().map(|(step, _)| *step).collect::<Vec<_>>(), all);
    let total = |wanted| done.iter().find(|(step, _)| *step == wanted).unwrap().1;
    assert_eq!(total(InitStep::Modules), machine::MODULES.len() as u64);
    assert_eq!(total(InitStep::Measure), 2);
    assert!(run.events.contains(&ConsoleEvent::Image { debug: false, insecure_sim: true }));

    // RTMR3 as PID 1 printed it, as the worker reads it, and as a verifier computes it.
    let events = boot_events(&Digest(Sha256::digest(manifest()).into()), &MODEL_ROOT);
    let expected = hex(&replay_rtmr(&events).unwrap());
    let printed = run.events.iter().find_map(|event| match event {
        ConsoleEvent::Measured { rtmr3 } => Some(rtmr3.to_string()),
        _ => None,
    });
    assert_eq!(printed.as_deref(), Some(expected.as_str()));
    assert_eq!(said(&run.text, "register"), expected);

    assert_eq!(said(&run.text, "user"), "1000");
    assert_eq!(said(&run.text, "environment"), "0");
    assert!(said(&run.text, "args").ends_with("--listen 10.0.2.15:8443"));
    for input in ["--manifest", "--bundle", "--collateral"] {
        assert_eq!(said(&run.text, &format!("read {input}")), "ok");
        assert_ne!(said(&run.text, &format!("write {input}")), "ok");
    }
    assert!(said(&run.text, "root").starts_with("refused"), "there is no root");
    for forbidden in
        ["write register", "create", "bind-other", "read /init", "read /proc/1/environ"]
    {
        assert!(said(&run.text, forbidden).starts_with("refused"), "{forbidden}");
    }
    assert!(run.events.contains(&ConsoleEvent::WorkerEnded { exit: Some(0), signal: None }));
    assert_eq!(power_off_code(&run.events), None);
}

#[test]
fn powers_off_with_a_code_on_every_hostile_input() {
    let Some(machine) = Machine::get() else { return };
    let cases: Vec<(&str, InitStep, Boot)> = vec![
        ("E-CMDLINE-WORD", InitStep::CommandLine, {
            Boot { command_line: format!("{COMMAND_LINE} nokaslr"), ..sound() }
        }),
        ("E-CMDLINE-WORD", InitStep::CommandLine, {
            Boot { command_line: format!("{COMMAND_LINE} ignore_loglevel"), ..sound() }
        }),
        ("E-INIT-MODULE-HASH", InitStep::Modules, Boot { spoil_module_hash: true, ..sound() }),
        ("E-INIT-MODULE-REFUSED", InitStep::Modules, Boot { spoil_module: true, ..sound() }),
        ("E-CONFIG-MAGIC", InitStep::Disks, {
            let mut boot = sound();
            boot.disks[1].1[0] ^= 1;
            boot
        }),
        ("E-CONFIG-TRAILER", InitStep::Disks, {
            let mut boot = sound();
            *boot.disks[1].1.last_mut().unwrap() = 1;
            boot
        }),
        ("E-INIT-DISK-UNKNOWN", InitStep::Disks, {
            let mut boot = sound();
            boot.disks.push(("something-else".into(), vec![0; 512]));
            boot
        }),
        ("E-INIT-DISK-MISSING", InitStep::Disks, {
            let mut boot = sound();
            boot.disks.remove(0);
            boot
        }),
        ("E-MANIFEST", InitStep::Measure, {
            let mut boot = sound();
            boot.disks[1].1 = ConfigDisk::new(b"x".to_vec(), b"{}".to_vec()).unwrap().encode();
            boot
        }),
    ];
    for (code, step, boot) in cases {
        let run = machine.boot(&boot);
        let refused = ConsoleEvent::Init {
            step,
            state: StageState::Refused,
            total: 0,
            code: Some(code.to_owned()),
        };
        assert!(run.events.contains(&refused), "{code}:\n{}", run.text);
        assert_eq!(power_off_code(&run.events).as_deref(), Some(code));
        assert!(!run.text.contains("probe:"), "{code}: the worker was started");
        println!("{code}: refused at {}, powered off", step.name());
    }
}

#[test]
fn a_worker_reads_the_root_that_was_measured() {
    let Some(machine) = Machine::get() else { return };
    let run = machine.boot(&with_root());
    println!("{}", run.text);
    let done = ConsoleEvent::Init {
        step: InitStep::Root,
        state: StageState::Done,
        total: (ROOT.len() / 4096) as u64,
        code: None,
    };
    assert!(run.events.contains(&done), "{}", run.text);
    assert_eq!(said(&run.text, "root"), "a file of the root");
    assert_eq!(said(&run.text, "root link"), "a file of the root");
    for forbidden in ["write root", "create root", "read root copy"] {
        assert!(said(&run.text, forbidden).starts_with("refused"), "{forbidden}");
    }
    assert_eq!(power_off_code(&run.events), None);
}

#[test]
fn powers_off_when_the_root_is_not_the_measured_one() {
    let Some(machine) = Machine::get() else { return };
    let spoilt = |spoil: fn(&mut Boot)| {
        let mut boot = with_root();
        spoil(&mut boot);
        boot
    };
    let cases = [
        // The last byte of the last file, which no reader of the file would see.
        ("E-INIT-ROOT-HASH", InitStep::Root, spoilt(|b| *b.disks[0].1.last_mut().unwrap() ^= 1)),
        ("E-INIT-ROOT-SIZE", InitStep::Root, spoilt(|b| b.disks[0].1.truncate(ROOT.len() - 4096))),
        ("E-INIT-DISK-MISSING", InitStep::Disks, spoilt(|b| drop(b.disks.remove(0)))),
        ("E-INIT-DISK-UNKNOWN", InitStep::Disks, spoilt(|b| b.root = None)),
    ];
    for (code, step, boot) in cases {
        let run = machine.boot(&boot);
        let (state, total) = (StageState::Refused, 0);
        let refused = ConsoleEvent::Init { step, state, total, code: Some(code.to_owned()) };
        assert!(run.events.contains(&refused), "{code}:\n{}", run.text);
        assert_eq!(power_off_code(&run.events).as_deref(), Some(code));
        assert!(!run.text.contains("probe:"), "{code}: the worker was started");
    }
}

#[test]
fn a_debug_image_says_so_and_may_be_booted_with_debug_words() {
    let Some(machine) = Machine::get() else { return };
    let command_line = COMMAND_LINE.replace("loglevel=0", "loglevel=7");
    let run = machine.boot(&Boot { command_line, debug: true, ..sound() });
    assert!(run.events.contains(&ConsoleEvent::Image { debug: true, insecure_sim: true }));
    assert_eq!(power_off_code(&run.events), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
