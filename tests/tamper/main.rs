//! The tamper matrix: for each class of component that a release, a host or a worker could change,
//! one bit is flipped and the code that would meet it in production must refuse it and name the
//! component; or the register it is measured into must not be the one the reference values have.
//!
//! `matrix` is the table, `world` the honest release, `gates` the code that meets it, `irrelevant`
//! the bits that nothing depends on, each with a proof. `CHRYSALIS_TAMPER_SEED` chooses other
//! random bits; a failure prints the seed it was found with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

mod gates;
mod irrelevant;
mod log;
mod matrix;
mod pid1;
mod stand_in;
mod world;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrysalis_measure::tdx::{EventLog, TdxError};

use gates::Met;
use matrix::{ROWS, Row};
use world::{Object, World};

#[test]
fn every_changed_bit_of_a_made_up_release_is_refused_and_its_component_named() {
    run(&World::synthetic());
}

#[test]
fn every_changed_bit_of_a_release_of_pinned_packages_is_refused_and_its_component_named() {
    if let Some(world) = World::pinned() {
        run(&world);
    }
}

#[test]
fn the_table_has_every_class_of_component() {
    let classes: BTreeSet<&str> = ROWS.iter().map(|row| row.class).collect();
    for class in [
        "firmware",
        "variable store",
        "kernel",
        "initrd: PID 1",
        "initrd: worker",
        "module",
        "image.toml",
        "command line",
        "manifest.json",
        "worker manifest",
        "model chunk",
        "model header",
        "model leaf table",
        "verity tree",
        "shape",
        "ACPI",
        "policy",
        "config disk",
        "event log",
        "release: source",
        "release: CoRIM",
        "release: in-toto",
        "release: TON cell",
    ] {
        assert!(classes.contains(class), "no row is about {class}");
    }
    for row in ROWS {
        assert!(!row.named.is_empty(), "{}: no name is expected", row.class);
        let unique: BTreeSet<_> = row.named.iter().collect();
        assert_eq!(unique.len(), row.named.len(), "{}: a name twice", row.class);
    }
}

#[test]
fn the_event_whose_digest_was_changed_is_the_one_named() {
    let mut world = World::synthetic();
    let log = EventLog::parse(world.bytes(Object::EventLog)).unwrap();
    let mut from = 0;
    for event in log.events() {
        let bytes = world.bytes(Object::EventLog);
        let found = bytes[from..].windows(48).position(|w| w == event.digest.0).unwrap();
        let at = from + found;
        from = at + 48;
        world.flip(Object::EventLog, at + 17, 3);
        let log = EventLog::parse(world.bytes(Object::EventLog)).unwrap();
        let expected = event.component.unwrap().title();
        let refused = world.reference.check_log(&log);
        assert!(
            matches!(&refused, Err(TdxError::EventDigest { component, .. }) if *component == expected),
            "{expected}: {refused:?}"
        );
        world.flip(Object::EventLog, at + 17, 3);
    }
}

/// Meets every row with fixed and random flips, the rows shared out between the cores.
fn run(honest: &World) {
    let seed = std::env::var("CHRYSALIS_TAMPER_SEED").map_or(SEED, |text| text.parse().unwrap());
    let (next, total) = (AtomicUsize::new(0), Totals::default());
    let faults = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut world = honest.clone();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = ROWS.get(index) else { break };
                    let seed = seed.wrapping_add(index as u64);
                    let found = meet_row(honest, &mut world, row, seed, &total);
                    faults.lock().unwrap().extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "with seed {seed}:\n{}", faults.join("\n"));
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    let (refused, moved) = (count(&total.refused), count(&total.moved));
    let (irrelevant, random) = (count(&total.irrelevant), count(&total.random));
    println!(
        "{} rows, {random} random flips (seed {seed}) and the fixed ones: {refused} refused, \
         {moved} moved a register, {irrelevant} proven irrelevant",
        ROWS.len()
    );
    assert!(random >= MIN_RANDOM_FLIPS, "only {random} random flips");
}

/// How many flips ended how.
#[derive(Default)]
struct Totals {
    random: AtomicUsize,
    refused: AtomicUsize,
    moved: AtomicUsize,
    unnoticed: AtomicUsize,
    irrelevant: AtomicUsize,
}

/// Flips bits of one row; returns what was not refused as the row says.
fn meet_row(
    honest: &World,
    world: &mut World,
    row: &Row,
    seed: u64,
    total: &Totals,
) -> Vec<String> {
    let before = row.gate.meet(honest, row.object);
    assert_eq!(before, Met::Accepted, "{}: {:?} refuses the honest world", row.class, row.gate);
    let ranges = row.lies.ranges(honest, row.object);
    let length: usize = ranges.iter().map(Range::len).sum();
    let place = |n: usize| ranges.iter().cloned().flatten().nth(n).unwrap();
    let mut numbers = Numbers(seed);
    let ends = [(0, 0), (length / 2, 4), (length - 1, 7)];
    let random: Vec<_> = (0..RANDOM_FLIPS_PER_ROW)
        .map(|_| (numbers.below(length), numbers.below(8) as u8))
        .collect();
    total.random.fetch_add(random.len(), Ordering::Relaxed);
    let mut faults = Vec::new();
    let mut noticed = 0;
    for (n, bit) in ends.into_iter().chain(random) {
        let at = place(n);
        world.flip(row.object, at, bit);
        let met = row.gate.meet(world, row.object);
        let mut fault = |what: String| {
            let Row { class, object, gate, .. } = row;
            faults.push(format!("{class}: bit {bit} of byte {at} of {object:?}, {gate:?}: {what}"));
        };
        let counter = match (met.named(), &row.irrelevant) {
            (Some(named), _) => {
                noticed += 1;
                if !row.named.contains(&named) {
                    fault(format!("named as {named:?}"));
                }
                if named.0.starts_with("E-") { &total.refused } else { &total.moved }
            }
            (None, Some(irrelevant)) => {
                if !(irrelevant.proof)(honest, world) {
                    fault(format!("not noticed, and it is not {}", irrelevant.why));
                }
                &total.irrelevant
            }
            (None, None) => {
                fault("not noticed".to_owned());
                &total.unnoticed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        world.flip(row.object, at, bit);
    }
    if noticed == 0 {
        faults.push(format!("{}: {:?} noticed no flip at all", row.class, row.gate));
    }
    faults
}

/// Repeatable random numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

const SEED: u64 = 20_261_125;
const RANDOM_FLIPS_PER_ROW: usize = 24;
const MIN_RANDOM_FLIPS: usize = 1000;
/// Each thread holds a copy of the image.
const MAX_THREADS: usize = 4;
