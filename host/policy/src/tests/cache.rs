//! Kept verdicts answer the same question only, and only while everything they rest on is valid.

use super::*;
use crate::cache::key;
use crate::{MAX_CACHED_VERDICTS, VerdictCache};

fn judge() -> Judge {
    Judge::by(pins(&pins_of(1, WORKER)))
}

fn ask(cache: &mut VerdictCache, case: &Case, judge: &Judge, now: UnixTime) -> bool {
    let verdict = cache.appraise(judge, &case.document, &case.session, &case.collateral, now);
    verdict.accepted()
}

#[test]
fn gives_the_same_verdict_again_and_keeps_no_refusal() {
    let (case, judge) = (Case::new(), judge());
    let mut cache = VerdictCache::new();
    let first = cache.appraise(&judge, &case.document, &case.session, &case.collateral, NOW);
    assert_eq!(cache.len(), 1);
    let again = cache.appraise(&judge, &case.document, &case.session, &case.collateral, NOW);
    assert_eq!(first, again);
    let refusing = Judge::by(pins(&pins_of(1, b"another")));
    assert!(!ask(&mut cache, &case, &refusing, NOW));
    assert_eq!(cache.len(), 1);
}

#[test]
fn ends_with_the_first_of_key_collateral_and_age() {
    let case = Case::new();
    let until = |pins_text: &str| {
        let judge = Judge::by(pins(pins_text));
        let verdict = judge.appraise(&case.document, &case.session, &case.collateral, NOW);
        verdict.result.unwrap().valid_until().unwrap()
    };
    // The key of the case ends first, an hour from now.
    assert_eq!(until(&pins_of(1, WORKER)), UnixTime(NOW.0 + HOUR));
    let worker =
        judge().appraise(&case.document, &case.session, &case.collateral, NOW).result.unwrap();
    assert!(worker.valid_until().unwrap() <= worker.collateral_expires());

    let mut cache = VerdictCache::new();
    assert!(ask(&mut cache, &case, &judge(), NOW));
    // At its end, and past it, the evidence is judged again: the key is over one second later.
    assert!(ask(&mut cache, &case, &judge(), UnixTime(NOW.0 + HOUR)));
    assert!(!ask(&mut cache, &case, &judge(), UnixTime(NOW.0 + HOUR + 1)));
    // Before it was appraised nothing is known: the key is not valid yet.
    assert!(!ask(&mut cache, &case, &judge(), UnixTime(NOW.0 - 1)));
}

#[test]
fn no_changed_byte_of_any_input_finds_a_kept_verdict() {
    let (case, judge) = (Case::new(), judge());
    let kept = key(&judge, &case.document, &case.session, &case.collateral).unwrap();
    let mut changed = 0;
    let mut differs = |other: Option<Digest>| {
        changed += 1;
        assert_ne!(other.unwrap(), kept);
    };
    // Every byte of the document and of the session, as JSON; most flips are still JSON.
    let document = serde_json::to_vec(&case.document).unwrap();
    for at in 0..document.len() {
        let mut bytes = document.clone();
        bytes[at] ^= 1;
        if let Ok(other) = serde_json::from_slice(&bytes) {
            differs(key(&judge, &other, &case.session, &case.collateral));
        }
    }
    let session = serde_json::to_vec(&case.session).unwrap();
    for at in 0..session.len() {
        let mut bytes = session.clone();
        bytes[at] ^= 1;
        if let Ok(other) = serde_json::from_slice(&bytes) {
            differs(key(&judge, &case.document, &other, &case.collateral));
        }
    }
    let collateral = case.collateral.to_json().into_bytes();
    for at in 0..collateral.len() {
        let mut bytes = collateral.clone();
        bytes[at] ^= 1;
        if let Ok(other) = Collateral::parse(&bytes) {
            differs(key(&judge, &case.document, &case.session, &other));
        }
    }
    let text = pins_of(1, WORKER).into_bytes();
    for at in 0..text.len() {
        let mut bytes = text.clone();
        bytes[at] ^= 1;
        let other = String::from_utf8(bytes).ok();
        if let Some(Ok(other)) = other.map(|t| Pins::parse(&t, AllowSim::Yes)) {
            differs(key(&Judge::by(other), &case.document, &case.session, &case.collateral));
        }
    }
    assert!(changed > 10_000, "only {changed} changes were read: the check checks little");
}

#[test]
fn pins_that_wait_are_part_of_the_question() {
    let case = Case::new();
    let mut memory = crate::PinsMemory::new(secret().public().id());
    memory.adopt(&open(&pins_of(1, WORKER)), UnixTime(0)).unwrap();
    memory.adopt(&open(&pins_of(2, WORKER)), NOW).unwrap();
    let both = Judge::of(&memory, 48 * HOUR, NOW).unwrap();
    let newest = Judge::by(pins(&pins_of(2, WORKER)));
    let of = |judge| key(judge, &case.document, &case.session, &case.collateral).unwrap();
    assert_ne!(of(&both), of(&newest));
}

#[test]
fn keeps_no_more_than_its_limit() {
    let case = Case::new();
    let mut cache = VerdictCache::new();
    for number in 0..=MAX_CACHED_VERDICTS {
        let text = format!("# {number}\n{}", pins_of(1, WORKER));
        assert!(ask(&mut cache, &case, &Judge::by(pins(&text)), NOW));
        assert_eq!(cache.len(), (number + 1).min(MAX_CACHED_VERDICTS));
    }
}
