//! Documents whose quote answers several challenges: the place in the tree is the peer's word, and
//! only the leaf at its beginning is the verifier's own.

use chrysalis_evidence::RuleId;
use serde_json::{Value, json};

use super::document::input;
use crate::case::Stage;
use crate::world::{Worker, pins};

pub(super) fn batches(stage: &mut Stage, alone: usize) {
    let third = shared([2, 4]);
    let base = stage.genuine(
        "genuine-batch",
        "the third of seven challenges that one quote answers",
        &input(&third, &pins()),
    );
    for (name, title, beside) in [
        ("batch-of-two", "the second of two challenges", [1, 0]),
        ("batch-first", "the first of seven challenges", [0, 6]),
        ("batch-last", "the last of seven, without a neighbour", [6, 0]),
    ] {
        stage.accepts(base, name, title, |case| case["document"] = shared(beside).document());
    }
    forms(stage, base);
    paths(stage, base, alone);
}

fn forms(stage: &mut Stage, base: usize) {
    let form = ("E-DOCUMENT", RuleId::Document);
    let place = |index: u32, size: u32, hashes: usize| {
        let path = vec!["00".repeat(32); hashes];
        move |case: &mut Value| {
            case["document"]["batch"] = json!({ "index": index, "size": size, "path": path });
        }
    };
    stage.refuses(base, form, "batch-of-none", "a batch of no challenges", place(0, 0, 0));
    stage.refuses(base, form, "batch-of-one", "a leaf that is alone, spelled out", place(0, 1, 0));
    stage.refuses(
        base,
        form,
        "batch-too-large",
        "a batch of one challenge over the limit",
        place(0, MAX_LEAVES + 1, 17),
    );
    stage.refuses(
        base,
        form,
        "batch-index-behind-the-last",
        "a place behind the last leaf",
        |case| case["document"]["batch"]["index"] = 7.into(),
    );
    stage.refuses(
        base,
        form,
        "batch-size-of-another-path",
        "a size that gives another path",
        |case| case["document"]["batch"]["size"] = 3.into(),
    );
    stage.refuses(base, form, "batch-path-too-short", "a path of a hash too few", |case| {
        drop(path(case).pop());
    });
    stage.refuses(base, form, "batch-path-too-long", "a path of a hash too many", |case| {
        path(case).push("00".repeat(32).into());
    });
}

fn paths(stage: &mut Stage, base: usize, alone: usize) {
    let bound = ("E-REPORT-DATA", RuleId::ReportData);
    stage.refuses(base, bound, "batch-largest", "of the largest size, and another tree", |case| {
        let path = vec!["00".repeat(32); 16];
        case["document"]["batch"] = json!({ "index": 0, "size": MAX_LEAVES, "path": path });
    });
    stage.refuses(base, bound, "batch-path-swapped", "two hashes of the path swapped", |case| {
        path(case).swap(0, 1);
    });
    stage.refuses(base, bound, "batch-path-changed", "a bit of a hash in the path", |case| {
        let last = path(case).last_mut().unwrap();
        let old = last.as_str().unwrap();
        let digit = if old.ends_with('0') { "1" } else { "0" };
        *last = format!("{}{digit}", &old[..63]).into();
    });
    stage.refuses(base, bound, "batch-another-place", "the neighbour's place", |case| {
        case["document"]["batch"]["index"] = 3.into();
    });
    // The root does not say how many leaves it has; the path does, as far as it matters.
    stage.accepts(base, "batch-another-size", "a size that gives the same path", |case| {
        case["document"]["batch"]["size"] = 8.into();
    });
    stage.refuses(base, bound, "batch-not-said", "nothing said of the other challenges", |case| {
        drop(case["document"].as_object_mut().unwrap().shift_remove("batch"));
    });
    stage.refuses(base, bound, "batch-of-others", "a batch without this challenge", |case| {
        let nonce = [0xEE; 32];
        let session = chrysalis_evidence::Session { nonce, ..crate::world::session() };
        case["document"] = Worker { session, ..shared([2, 4]) }.document();
    });
    stage.refuses(alone, bound, "batch-made-up", "a path for a quote of one challenge", |case| {
        let path = ["00".repeat(32)];
        case["document"]["batch"] = json!({ "index": 0, "size": 2, "path": path });
    });
}

/// An honest worker whose quote answers so many challenges in front of this one and behind it.
fn shared(beside: [u8; 2]) -> Worker {
    Worker { beside, ..Worker::honest() }
}

fn path(case: &mut Value) -> &mut Vec<Value> {
    case["document"]["batch"]["path"].as_array_mut().unwrap()
}

const MAX_LEAVES: u32 = chrysalis_wire::limits::MAX_BATCH_LEAVES;
