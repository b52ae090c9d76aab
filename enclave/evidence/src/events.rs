//! The runtime event log: what the worker extended into RTMR3 before any secret existed. The log
//! comes from the peer and is believed only as far as its replay gives the RTMR3 of a verified
//! quote.
//!
//! ```text
//! digest = SHA-384("chrysalis/event/v1" || 0x00 || name || 0x00 || payload)
//! RTMR3  = SHA-384(RTMR3 || digest), from 48 zero bytes
//! ```

use chrysalis_wire::attest::{EVENT_DOMAIN, EVENT_MANIFEST, EVENT_MODEL_ROOT};
use chrysalis_wire::limits::MAX_RUNTIME_EVENTS;
use chrysalis_wire::{Digest, RuntimeEvent};
use sha2::{Digest as _, Sha384};
use thiserror::Error;

use crate::hexadecimal;

/// Most characters of an event name.
pub const MAX_EVENT_NAME_CHARS: usize = 64;

/// Most bytes of an event payload: a digest, not the thing itself.
pub const MAX_EVENT_PAYLOAD_BYTES: usize = 256;

/// Why an event log was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EventError {
    /// More events than [`MAX_RUNTIME_EVENTS`].
    #[error("event log lists {got} events; the limit is {MAX_RUNTIME_EVENTS}")]
    TooMany {
        /// Events found.
        got: usize,
    },
    /// The name is empty, too long or not `a-z`, `0-9`, `-`. A zero byte in it would let one event
    /// pass for another.
    #[error(
        "event {index}: the name must be 1 to {MAX_EVENT_NAME_CHARS} characters of a-z, 0-9 and -"
    )]
    Name {
        /// Position in the log.
        index: usize,
    },
    /// The payload is not lower-case hex or is too long.
    #[error(
        "event {index}: the payload must be lower-case hex of at most {MAX_EVENT_PAYLOAD_BYTES} \
         bytes, got {got_chars} characters"
    )]
    Payload {
        /// Position in the log.
        index: usize,
        /// Characters found.
        got_chars: usize,
    },
}

impl EventError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "E-EVENT-COUNT",
            Self::Name { .. } => "E-EVENT-NAME",
            Self::Payload { .. } => "E-EVENT-PAYLOAD",
        }
    }
}

/// The digest that one event extends a register with.
///
/// # Errors
/// [`EventError::Name`] and [`EventError::Payload`], with index 0.
pub fn event_digest(event: &RuntimeEvent) -> Result<[u8; 48], EventError> {
    digest_at(0, event)
}

/// RTMR3 after `events`, from the zero register.
///
/// # Errors
/// [`EventError`] for a log that is too long or has a malformed event.
pub fn replay_rtmr(events: &[RuntimeEvent]) -> Result<[u8; 48], EventError> {
    if events.len() > MAX_RUNTIME_EVENTS {
        return Err(EventError::TooMany { got: events.len() });
    }
    let mut register = [0u8; 48];
    for (index, event) in events.iter().enumerate() {
        let mut hash = Sha384::new();
        hash.update(register);
        hash.update(digest_at(index, event)?);
        register = hash.finalize().into();
    }
    Ok(register)
}

/// The events of a worker boot, in the only order a verifier accepts: the digest of the measured
/// manifest, then the model root it names.
#[must_use]
pub fn boot_events(manifest_digest: &Digest, model_root: &Digest) -> [RuntimeEvent; 2] {
    [
        RuntimeEvent { name: EVENT_MANIFEST.to_owned(), payload: manifest_digest.to_string() },
        RuntimeEvent { name: EVENT_MODEL_ROOT.to_owned(), payload: model_root.to_string() },
    ]
}

fn digest_at(index: usize, event: &RuntimeEvent) -> Result<[u8; 48], EventError> {
    let name = event.name.as_bytes();
    let spelled = name.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if name.is_empty() || name.len() > MAX_EVENT_NAME_CHARS || !spelled {
        return Err(EventError::Name { index });
    }
    let payload = hexadecimal::parse_vec(&event.payload)
        .filter(|p| p.len() <= MAX_EVENT_PAYLOAD_BYTES)
        .ok_or(EventError::Payload { index, got_chars: event.payload.len() })?;
    let mut hash = Sha384::new();
    hash.update(EVENT_DOMAIN);
    hash.update([0]);
    hash.update(name);
    hash.update([0]);
    hash.update(payload);
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, payload: &str) -> RuntimeEvent {
        RuntimeEvent { name: name.to_owned(), payload: payload.to_owned() }
    }

    #[test]
    fn replay_is_the_documented_hash_chain() {
        // Computed apart from this code, with Python's hashlib, from the formula above.
        let log = boot_events(&Digest([0x11; 32]), &Digest([0x22; 32]));
        assert_eq!(
            hex::encode(event_digest(&log[0]).unwrap()),
            "36a120c3d39d342ba5e4a15e56821d6ac06f37f3310bbd25\
             e2bfcaaad7122b12f369b7e7b8fb7fdd3ca263fbf849cd9f"
        );
        assert_eq!(
            hex::encode(replay_rtmr(&log).unwrap()),
            "5ae99aaf67f1dbe861bf508c5106aa8f1afbd594ce0bfb94\
             0118a7b21fe206fdbccf8cec18423ca509a3ed71dfbecdb7"
        );
    }

    #[test]
    fn an_empty_log_is_the_zero_register() {
        assert_eq!(replay_rtmr(&[]).unwrap(), [0; 48]);
    }

    #[test]
    fn order_of_events_changes_the_register() {
        let mut log = boot_events(&Digest([1; 32]), &Digest([2; 32]));
        let forward = replay_rtmr(&log).unwrap();
        log.swap(0, 1);
        assert_ne!(replay_rtmr(&log).unwrap(), forward);
    }

    #[test]
    fn refuses_names_that_could_pass_for_another_event() {
        for name in ["", "a\0b", "Manifest", "model root", "modèle", &"x".repeat(65)] {
            assert_eq!(event_digest(&event(name, "")), Err(EventError::Name { index: 0 }));
        }
        assert!(event_digest(&event(&"x".repeat(64), "")).is_ok());
    }

    #[test]
    fn refuses_payloads_that_are_not_canonical_hex() {
        for payload in ["0", "AB", "zz", "ab "] {
            assert!(matches!(event_digest(&event("a", payload)), Err(EventError::Payload { .. })));
        }
    }

    #[test]
    fn refuses_one_payload_byte_and_one_event_past_the_limits() {
        let at = "00".repeat(MAX_EVENT_PAYLOAD_BYTES);
        assert!(event_digest(&event("a", &at)).is_ok());
        assert!(event_digest(&event("a", &format!("{at}00"))).is_err());
        let mut log = vec![event("a", ""); MAX_RUNTIME_EVENTS];
        assert!(replay_rtmr(&log).is_ok());
        log.push(event("a", ""));
        assert_eq!(replay_rtmr(&log), Err(EventError::TooMany { got: MAX_RUNTIME_EVENTS + 1 }));
    }
}
