//! Differences between pins files, in both directions.

use super::*;
use crate::{Direction, compare_pins};

/// How the second file differs from the first, and how the first does from the second.
fn both_ways(old: &str, new: &str) -> [Vec<(Direction, String)>; 2] {
    [(old, new), (new, old)].map(|(a, b)| {
        let changes = compare_pins(&pins(a), &pins(b));
        changes.into_iter().map(|change| (change.direction, change.what)).collect()
    })
}

#[test]
fn files_that_differ_in_number_alone_do_not_differ() {
    assert_eq!(both_ways(&pins_of(1, WORKER), &pins_of(2, WORKER)), [vec![], vec![]]);
}

#[test]
fn every_field_is_wider_one_way_and_narrower_the_other() {
    let new = pins_of(1, WORKER);
    let minimum = format!("min_tcb_evaluation_number = {}", sim::TCB_EVALUATION_NUMBER);
    let id = "ab".repeat(16);
    for (from, to, word) in [
        ("allow_smt = true", "allow_smt = false".to_owned(), "allow_smt: 0 -> 1"),
        (&minimum, "min_tcb_evaluation_number = 99".to_owned(), "99 -> "),
        ("max_collateral_age_days = 30", "max_collateral_age_days = 3".to_owned(), "3 -> 30"),
        ("xfam = [", "xfam = [] # [".to_owned(), "xfam "),
        (
            "[platform]",
            format!("[platform]\nadmission = \"vetted\"\nvetted = [\"{id}\"]"),
            "any genuine platform",
        ),
        (
            "[platform]",
            "[[deny]]\nfmspc = \"90c06f000000\"\nreason = \"x\"\n[platform]".to_owned(),
            "no longer denied: platform family 90c06f000000",
        ),
    ] {
        let old = new.replacen(from, &to, 1);
        assert_ne!(old, new);
        let [there, back] = both_ways(&old, &new);
        let [(Direction::Wider, what)] = there.as_slice() else { panic!("{there:?}") };
        assert!(what.contains(word), "{what}");
        assert!(matches!(back.as_slice(), [(Direction::Narrower, _)]), "{back:?}");
    }
}

#[test]
fn another_worker_is_one_added_and_one_removed() {
    let [there, _] = both_ways(&pins_of(1, WORKER), &pins_of(1, b"another"));
    let directions: Vec<_> = there.iter().map(|(direction, _)| *direction).collect();
    assert_eq!(directions, [Direction::Wider, Direction::Narrower]);
}
