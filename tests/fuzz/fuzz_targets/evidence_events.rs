//! Runtime event logs as JSON. What replays stays within its limits, and every log of another meaning
//! gives another register.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_evidence::{MAX_EVENT_NAME_CHARS, MAX_EVENT_PAYLOAD_BYTES, replay_rtmr};
use chrysalis_fuzz::corpus::input;
use chrysalis_wire::RuntimeEvent;
use chrysalis_wire::limits::MAX_RUNTIME_EVENTS;

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    vec![input("event-log/001-boot").value("/events").to_string().into_bytes(), b"[]".to_vec()]
}

fn one(data: &[u8]) -> String {
    let Ok(events) = serde_json::from_slice::<Vec<RuntimeEvent>>(data) else {
        return "not a log".to_owned();
    };
    match replay_rtmr(&events) {
        Ok(register) => {
            assert!(events.len() <= MAX_RUNTIME_EVENTS);
            for event in &events {
                assert!((1..=MAX_EVENT_NAME_CHARS).contains(&event.name.len()));
                assert!(event.payload.len() <= 2 * MAX_EVENT_PAYLOAD_BYTES);
            }
            if let Some((_, shorter)) = events.split_last() {
                assert_ne!(replay_rtmr(shorter), Ok(register), "an event without effect");
            }
            format!("log of {}", events.len())
        }
        Err(error) => error.code().to_owned(),
    }
}
