//! What pins of a publisher add has to wait, what they take away does not.

use super::*;
use crate::{PinsMemory, PolicyError};

const DELAY: u64 = 48 * HOUR;

fn after(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

/// A memory in which each file came into force at its time.
fn memory(files: &[(String, UnixTime)]) -> PinsMemory {
    let mut memory = PinsMemory::new(secret().public().id());
    for (text, at) in files {
        memory.adopt(&open(text), *at).unwrap();
    }
    memory
}

/// The refusal of an honest worker by these files, an instant before and at the end of the delay
/// that the last of them began. Its evidence is fresh at both, so files are dated back instead.
fn before_and_after(first: &str, second: &str) -> (&'static str, &'static str) {
    let case = Case::new();
    let judged = |since: u64| {
        let since = UnixTime(NOW.0 - since);
        let files = [(first.to_owned(), UnixTime(0)), (second.to_owned(), since)];
        case.judged(&Judge::of(&memory(&files), DELAY, NOW).unwrap(), NOW)
    };
    (judged(DELAY - 1), judged(DELAY))
}

#[test]
fn the_first_pins_of_a_publisher_are_in_force_at_once() {
    let judge = Judge::of(&memory(&[(pins_of(1, WORKER), NOW)]), DELAY, NOW).unwrap();
    assert_eq!(Case::new().judged(&judge, NOW), "");
    let empty = Judge::of(&memory(&[]), DELAY, NOW);
    assert_eq!(empty.unwrap_err(), PolicyError::Empty);
}

#[test]
fn an_added_worker_waits_for_the_whole_delay() {
    let got = before_and_after(&pins_of(1, b"another"), &pins_of(2, WORKER));
    assert_eq!(got, ("E-PINS-WAITING", ""));
}

#[test]
fn a_loosened_number_and_a_loosened_flag_wait_like_a_worker() {
    let good = pins_of(2, WORKER);
    let first = good.replace("sequence = 2", "sequence = 1");
    let minimum = format!("min_tcb_evaluation_number = {}", sim::TCB_EVALUATION_NUMBER);
    let stricter = format!("min_tcb_evaluation_number = {}", sim::TCB_EVALUATION_NUMBER + 1);
    for first in [
        first.replace(&minimum, &stricter),
        first.replace("allow_smt = true", "allow_smt = false"),
        first.replace("[platform]", "[platform]\nadmission = \"vetted\"\nvetted = []"),
    ] {
        assert_eq!(before_and_after(&first, &good), ("E-PINS-WAITING", ""));
    }
}

#[test]
fn a_removed_worker_and_a_denied_platform_are_refused_at_once() {
    let good = pins_of(1, WORKER);
    let removed = pins_of(2, b"another");
    assert_eq!(before_and_after(&good, &removed), ("E-MRTD", "E-MRTD"));
    let id = hex::encode(PLATFORM_INSTANCE_ID);
    let denied = format!("{}[[deny]]\nplatform = \"{id}\"\nreason = \"x\"\n", pins_of(2, WORKER));
    let refused = ("E-PLATFORM-DENIED", "E-PLATFORM-DENIED");
    assert_eq!(before_and_after(&good, &denied), refused);
}

#[test]
fn a_denial_that_is_taken_back_waits_too() {
    let id = hex::encode(PLATFORM_INSTANCE_ID);
    let denied = format!("{}[[deny]]\nplatform = \"{id}\"\nreason = \"x\"\n", pins_of(1, WORKER));
    assert_eq!(before_and_after(&denied, &pins_of(2, WORKER)), ("E-PINS-WAITING", ""));
}

#[test]
fn a_file_between_two_that_accept_still_counts() {
    let back = |hours: u64| UnixTime(NOW.0 - hours * HOUR);
    let files = [
        (pins_of(1, WORKER), UnixTime(0)),
        (pins_of(2, b"another"), back(40)),
        (pins_of(3, WORKER), back(20)),
    ];
    let judge = Judge::of(&memory(&files), DELAY, NOW).unwrap();
    assert_eq!(Case::new().judged(&judge, NOW), "E-PINS-WAITING");
    assert_eq!(judge.in_force().count(), 3);
}

#[test]
fn a_clock_that_was_set_back_makes_the_wait_longer() {
    let mut memory = memory(&[(pins_of(1, b"another"), UnixTime(0))]);
    memory.adopt(&open(&pins_of(2, b"x")), after(100)).unwrap();
    memory.adopt(&open(&pins_of(3, WORKER)), NOW).unwrap();
    assert_eq!(memory.settled_at(DELAY, NOW), Some(after(100 + DELAY)));
    assert_eq!(memory.settled_at(DELAY, after(100 + DELAY)), None);
    assert_eq!(memory.in_force(DELAY, after(99 + DELAY)).unwrap().len(), 3);
    assert_eq!(memory.in_force(DELAY, after(100 + DELAY)).unwrap().len(), 1);
}

#[test]
fn a_pin_counts_from_its_date_on() {
    let case = Case::new();
    for (date, expected) in [
        ("2026-03-01T00:00:00Z", ""),
        ("2026-03-01T00:00:01Z", "E-PIN-INACTIVE"),
        ("2027-01-01T00:00:00Z", "E-PIN-INACTIVE"),
    ] {
        let to = format!("activates_at = \"{date}\"\nname = \"sim\"");
        let text = pins_of(1, WORKER).replace("name = \"sim\"", &to);
        assert_eq!(case.judged(&Judge::by(pins(&text)), NOW), expected, "{date}");
    }
}
