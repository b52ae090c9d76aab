//! Runtime event logs against the register they must replay to.

use chrysalis_evidence::{RuleId, boot_events, replay_rtmr};
use chrysalis_wire::Digest;
use serde_json::{Value, json};

use crate::case::{Stage, bytes};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("event-log", "policy 16");
    let rule = RuleId::EventLog;
    let events = boot_events(&Digest([0x11; 32]), &Digest([0x22; 32]));
    let rtmr3 = hex::encode(replay_rtmr(&events).unwrap());
    let boot = stage.genuine(
        "boot",
        "manifest and model, and the register they give",
        &json!({ "rtmr3": rtmr3, "events": events }),
    );
    stage.accepts(boot, "no-events", "no event gives the zero register", |case| {
        case["events"] = json!([]);
        case["rtmr3"] = "00".repeat(48).into();
    });
    stage.accepts(boot, "as-many-as-allowed", "the largest number of events", |case| {
        fill(case, MAX_EVENTS, &event("a", ""));
    });
    stage.accepts(
        boot,
        "longest-name-and-payload",
        "a name and a payload of the largest size",
        |case| {
            fill(case, 1, &event(&"x".repeat(64), &"ab".repeat(256)));
        },
    );
    let register = ("E-RTMR3", rule);
    stage.refuses(boot, register, "another-register", "one bit of the register differs", |case| {
        bytes(case, "/rtmr3", |rtmr| rtmr[47] ^= 1);
    });
    stage.refuses(boot, register, "zero-register", "nothing was extended", |case| {
        case["rtmr3"] = "00".repeat(48).into();
    });
    stage.refuses(boot, register, "another-order", "the events in another order", |case| {
        case["events"].as_array_mut().unwrap().swap(0, 1);
    });
    stage.refuses(boot, register, "event-missing", "an event is left out", |case| {
        drop(case["events"].as_array_mut().unwrap().pop());
    });
    stage.refuses(boot, register, "event-added", "an event that was not extended", |case| {
        case["events"].as_array_mut().unwrap().push(event("policy", "00"));
    });
    stage.refuses(boot, register, "event-doubled", "an event twice", |case| {
        let again = case["events"][1].clone();
        case["events"].as_array_mut().unwrap().push(again);
    });
    stage.refuses(boot, register, "payload-changed", "one bit of a payload differs", |case| {
        bytes(case, "/events/0/payload", |payload| payload[0] ^= 1);
    });
    stage.refuses(boot, register, "name-changed", "an event by another name", |case| {
        case["events"][0]["name"] = "manifes".into();
    });
    stage.refuses(boot, register, "bytes-moved", "a byte moved from payload to name", |case| {
        case["events"][0]["name"] = "manifest11".into();
        bytes(case, "/events/0/payload", |payload| *payload = payload.split_off(1));
    });
    let name = ("E-EVENT-NAME", rule);
    for (label, title, value) in [
        ("name-empty", "an event without a name", String::new()),
        ("name-with-zero", "a name with a zero byte, which ends names", "manifest\0a".to_owned()),
        ("name-upper-case", "a name in upper case", "Manifest".to_owned()),
        ("name-with-space", "a name with a space", "model root".to_owned()),
        ("name-not-ascii", "a name that is not ASCII", "manifést".to_owned()),
        ("name-too-long", "a name one character over the limit", "x".repeat(65)),
    ] {
        stage.refuses(boot, name, label, title, |case| case["events"][0]["name"] = value.into());
    }
    let payload = ("E-EVENT-PAYLOAD", rule);
    for (label, title, value) in [
        ("payload-odd", "a payload of half a byte", "0".to_owned()),
        ("payload-upper-case", "a payload in upper case", "AB".to_owned()),
        ("payload-not-hex", "a payload that is not hex", "zz".to_owned()),
        ("payload-too-long", "a payload one byte over the limit", "00".repeat(257)),
    ] {
        stage.refuses(boot, payload, label, title, |case| {
            case["events"][0]["payload"] = value.into();
        });
    }
    stage.refuses(boot, ("E-EVENT-COUNT", rule), "too-many", "one event over the limit", |case| {
        fill(case, MAX_EVENTS, &event("a", ""));
        case["events"].as_array_mut().unwrap().push(event("a", ""));
    });
    stage
}

/// A log of one event, many times over, with its register.
fn fill(case: &mut Value, count: usize, event: &Value) {
    case["events"] = json!(vec![event; count]);
    let events: Vec<_> = serde_json::from_value(case["events"].clone()).unwrap();
    case["rtmr3"] = hex::encode(replay_rtmr(&events).unwrap()).into();
}

fn event(name: &str, payload: &str) -> Value {
    json!({ "name": name, "payload": payload })
}

const MAX_EVENTS: usize = chrysalis_wire::limits::MAX_RUNTIME_EVENTS;
