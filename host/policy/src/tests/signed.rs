//! The envelope, and the numbers a verifier remembers.

use super::*;
use crate::{
    MAX_ACTIVATION_DELAY_SECONDS, MAX_HELD_PINS, MAX_SIGNED_PINS_BYTES,
    MIN_ACTIVATION_DELAY_SECONDS, PinsKey, PinsMemory, PolicyError,
};

fn envelope() -> String {
    SignedPins::sign(&pins_of(7, WORKER), &secret(), AllowSim::Yes).unwrap()
}

fn refused(envelope: &str) -> PolicyError {
    SignedPins::open(envelope.as_bytes(), &secret().public(), AllowSim::Yes).unwrap_err()
}

#[test]
fn opens_what_was_signed_byte_for_byte() {
    let opened = open(&pins_of(7, WORKER));
    assert_eq!((opened.text(), opened.sequence()), (pins_of(7, WORKER).as_str(), 7));
    assert_eq!(opened.pins(), &pins(&pins_of(7, WORKER)));
    assert_eq!(opened.key(), secret().public().id());
}

#[test]
fn opens_an_envelope_of_another_implementation_and_makes_the_same_one() {
    let key = secret().public();
    let opened = SignedPins::open(MADE_BY_PYTHON.as_bytes(), &key, AllowSim::No).unwrap();
    assert_eq!((opened.sequence(), opened.pins().workers().len()), (1, 0));
    let again = SignedPins::sign(opened.text(), &secret(), AllowSim::No).unwrap();
    assert_eq!(again, MADE_BY_PYTHON);
}

/// Python's `cryptography` and `json`, from the format at the top of `signed.rs`; seed 32 times 7.
const MADE_BY_PYTHON: &str = "\
    {\"payloadType\":\"application/vnd.chrysalis.pins+toml\",\"payload\":\"dmVyc2lvbiA9IDEKc\
    2VxdWVuY2UgPSAxCnRpZXIgPSAicHJvZHVjdGlvbiIKbmV0d29yayA9IC0zCltwbGF0Zm9ybV0KdGRfYXR0cmlid\
    XRlcyA9IFtdCnhmYW0gPSBbXQptcl9zZWFtID0gW10KbWF4X2NvbGxhdGVyYWxfYWdlX2RheXMgPSAxNAptaW5fd\
    GNiX2V2YWx1YXRpb25fbnVtYmVyID0gMTgK\",\"signatures\":[{\"keyid\":\"fe812c12f3ab4ce6ac5db\
    69ac352f906cb1b11ef43fb33e252ef7ff552263889\",\"sig\":\"BZCqyseZLcu5EfZetzmJN5aMQR99lV9i\
    BfQv9hktyLUcLk40B9Pt20CFJ7MtXMWGGRdWyxwVKJetgs5scx97Aw==\"}]}";

#[test]
fn refuses_every_changed_byte_of_an_envelope() {
    let envelope = envelope();
    for at in 0..envelope.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bytes = envelope.clone().into_bytes();
            bytes[at] ^= flip;
            let opened = SignedPins::open(&bytes, &secret().public(), AllowSim::Yes);
            assert!(opened.is_err(), "byte {at} of {envelope}");
        }
    }
}

#[test]
fn refuses_every_truncation_and_one_byte_over_the_limit() {
    let envelope = envelope();
    let key = secret().public();
    for length in 0..envelope.len() {
        assert!(SignedPins::open(&envelope.as_bytes()[..length], &key, AllowSim::Yes).is_err());
    }
    let mut padded = envelope.into_bytes();
    padded.resize(MAX_SIGNED_PINS_BYTES, b' ');
    assert!(SignedPins::open(&padded, &key, AllowSim::Yes).is_ok());
    padded.push(b' ');
    let got = MAX_SIGNED_PINS_BYTES + 1;
    let refused = SignedPins::open(&padded, &key, AllowSim::Yes);
    assert_eq!(refused, Err(PolicyError::TooLarge { got }));
}

#[test]
fn refuses_pins_of_another_key_even_under_the_pinned_keys_name() {
    let other = PinsSecret::from_seed(&[8; 32]);
    let foreign = SignedPins::sign(&pins_of(7, WORKER), &other, AllowSim::Yes).unwrap();
    assert!(matches!(refused(&foreign), PolicyError::OtherKey { .. }));
    let (own, theirs) = (secret().public().id().to_string(), other.public().id().to_string());
    assert_eq!(refused(&foreign.replace(&theirs, &own)), PolicyError::Signature);
}

#[test]
fn refuses_another_type_two_signatures_and_unknown_fields() {
    let envelope = envelope();
    let one = &envelope[envelope.find("{\"keyid\"").unwrap()..envelope.len() - 2];
    for (from, to) in [
        ("pins+toml", "other+toml"),
        (one, &format!("{one},{one}")),
        (one, ""),
        ("{\"payloadType\"", "{\"note\":1,\"payloadType\""),
    ] {
        let changed = envelope.replacen(from, to, 1);
        assert_eq!(refused(&changed).code(), "E-SIGNED-FORM", "{changed}");
    }
}

#[test]
fn signs_nothing_that_verifiers_would_refuse() {
    let unnumbered = pins_of(7, WORKER).replace("sequence = 7\n", "");
    let sign = |text: &str, sim| SignedPins::sign(text, &secret(), sim);
    assert_eq!(sign(&unnumbered, AllowSim::Yes), Err(PolicyError::Unnumbered));
    assert_eq!(sign(&pins_of(0, WORKER), AllowSim::Yes).unwrap_err().code(), "E-PINS-SEQUENCE");
    assert_eq!(sign(&pins_of(7, WORKER), AllowSim::No).unwrap_err().code(), "E-PINS-SIM-REFUSED");
}

#[test]
fn reads_keys_back_and_refuses_weak_and_misspelt_ones() {
    let text = secret().public().to_text();
    assert_eq!(PinsKey::parse(&text).unwrap(), secret().public());
    assert_eq!(PinsSecret::parse(&secret().to_text()).unwrap().public(), secret().public());
    // The neutral element: signatures of anything hold under it.
    let weak = format!("01{}", "0".repeat(62));
    for bad in [&text[2..], &text.to_uppercase(), "", &weak] {
        assert_eq!(PinsKey::parse(bad), Err(PolicyError::Key), "{bad}");
    }
}

#[test]
fn a_memory_refuses_lower_numbers_other_files_under_one_number_and_other_keys() {
    let mut memory = PinsMemory::new(secret().public().id());
    memory.adopt(&open(&pins_of(7, WORKER)), NOW).unwrap();
    memory.adopt(&open(&pins_of(7, WORKER)), NOW).unwrap();
    let refused = memory.adopt(&open(&pins_of(6, WORKER)), NOW);
    assert_eq!(refused, Err(PolicyError::Rollback { have: 7, got: 6 }));
    let refused = memory.adopt(&open(&pins_of(7, b"another")), NOW);
    assert_eq!(refused, Err(PolicyError::Fork { sequence: 7 }));
    assert_eq!(memory.sequence(), Some(7));
    let mut other = PinsMemory::new(Digest([1; 32]));
    let refused = other.adopt(&open(&pins_of(7, WORKER)), NOW);
    assert!(matches!(refused, Err(PolicyError::MemoryOfAnotherKey { .. })));
}

#[test]
fn a_memory_reads_back_and_is_never_taken_for_an_empty_one() {
    let mut memory = PinsMemory::new(secret().public().id());
    memory.adopt(&open(&pins_of(7, WORKER)), NOW).unwrap();
    memory.adopt(&open(&pins_of(9, WORKER)), UnixTime(NOW.0 + 5)).unwrap();
    let json = memory.to_json();
    assert_eq!(PinsMemory::parse(json.as_bytes(), AllowSim::Yes).unwrap(), memory);
    assert!(PinsMemory::parse(json.as_bytes(), AllowSim::No).is_err());
    for (from, to) in [
        ("pins-memory/v1", "pins-memory/v2"),
        ("sequence = 9", "sequence = 7"),
        ("sequence = 7", "sequence = 10"),
        (&format!("\"since\":{}", NOW.0), &format!("\"since\":{}", NOW.0 + 9)),
        ("{\"schema\"", "{\"x\":1,\"schema\""),
    ] {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json);
        assert!(PinsMemory::parse(changed.as_bytes(), AllowSim::Yes).is_err(), "{from}");
    }
    for length in 0..json.len() {
        assert!(PinsMemory::parse(&json.as_bytes()[..length], AllowSim::Yes).is_err());
    }
}

#[test]
fn a_memory_is_bounded_and_keeps_the_oldest_file_that_still_counts() {
    let mut memory = PinsMemory::new(secret().public().id());
    for number in 1..=20 {
        memory.adopt(&open(&pins_of(number, WORKER)), UnixTime(NOW.0 + number)).unwrap();
    }
    let now = UnixTime(NOW.0 + 21);
    let held = memory.in_force(MIN_ACTIVATION_DELAY_SECONDS, now).unwrap();
    let numbers: Vec<_> = held.iter().map(|pins| pins.sequence().unwrap()).collect();
    assert_eq!(numbers.len(), MAX_HELD_PINS);
    assert_eq!((numbers[0], numbers[MAX_HELD_PINS - 1]), (1, 20));
    assert_eq!(memory.sequence(), Some(20));
    for got in [MIN_ACTIVATION_DELAY_SECONDS - 1, MAX_ACTIVATION_DELAY_SECONDS + 1] {
        assert_eq!(memory.in_force(got, now), Err(PolicyError::Delay { got }));
    }
    assert!(memory.in_force(MAX_ACTIVATION_DELAY_SECONDS, now).is_ok());
}

/// Numbers of the files that must accept.
fn in_force(memory: &PinsMemory, delay: u64, now: UnixTime) -> Vec<u64> {
    memory.in_force(delay, now).unwrap().iter().map(|pins| pins.sequence().unwrap()).collect()
}

#[test]
fn a_short_delay_or_a_clock_that_is_ahead_once_makes_nothing_forgotten() {
    let mut memory = PinsMemory::new(secret().public().id());
    memory.adopt(&open(&pins_of(1, WORKER)), NOW).unwrap();
    memory.adopt(&open(&pins_of(2, WORKER)), UnixTime(NOW.0 + HOUR)).unwrap();
    let now = UnixTime(NOW.0 + 3 * HOUR);
    assert_eq!(in_force(&memory, HOUR, now), [2]);
    for ahead in [now, UnixTime(now.0 + 10 * MAX_ACTIVATION_DELAY_SECONDS)] {
        memory.adopt(&open(&pins_of(2, WORKER)), ahead).unwrap();
        assert_eq!(in_force(&memory, HOUR, ahead), [2]);
        assert_eq!(in_force(&memory, 48 * HOUR, now), [1, 2]);
    }
}

#[test]
fn a_memory_forgets_what_no_delay_can_ask_for() {
    let mut memory = PinsMemory::new(secret().public().id());
    memory.adopt(&open(&pins_of(1, WORKER)), NOW).unwrap();
    memory.adopt(&open(&pins_of(2, WORKER)), UnixTime(NOW.0 + 1)).unwrap();
    let year = MAX_ACTIVATION_DELAY_SECONDS;
    // Number 1 was in force until just after the year began, then until just as it began.
    let mut kept = memory.clone();
    kept.adopt(&open(&pins_of(3, WORKER)), UnixTime(NOW.0 + year)).unwrap();
    assert_eq!(in_force(&kept, year, UnixTime(NOW.0 + year)), [1, 2, 3]);
    memory.adopt(&open(&pins_of(3, WORKER)), UnixTime(NOW.0 + 1 + year)).unwrap();
    assert!(!memory.to_json().contains("sequence = 1"));
    assert_eq!(in_force(&memory, year, UnixTime(NOW.0 + 1 + year)), [2, 3]);
}
