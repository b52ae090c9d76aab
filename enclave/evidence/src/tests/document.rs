//! The form of attestation documents: what is as long as it may be is read, and one more is not.

use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::limits::{
    MAX_KEYSET_BYTES, MAX_MANIFEST_BYTES, MAX_QUOTE_BYTES, MAX_RUNTIME_EVENTS,
};
use chrysalis_wire::{AttestationDocument, DeviceDocument, RuntimeEvent};

use crate::document::Document;
use crate::nvidia::{MAX_DEVICE_CHAIN_BYTES, MAX_DEVICE_REPORT_BYTES, MAX_DEVICES};

fn zeros(bytes: usize) -> String {
    "00".repeat(bytes)
}

/// Everything as long as it may be; the first number of `over` says what has one more.
fn document(over: Option<usize>) -> AttestationDocument {
    let length = |field: usize, limit: usize| limit + usize::from(over == Some(field));
    let event = RuntimeEvent { name: "n".into(), payload: "00".into() };
    let device = DeviceDocument {
        report: zeros(length(3, MAX_DEVICE_REPORT_BYTES)),
        chain: zeros(length(4, MAX_DEVICE_CHAIN_BYTES)),
    };
    AttestationDocument {
        schema: ATTESTATION_SCHEMA.into(),
        platform: "tdx".into(),
        quote: zeros(length(0, MAX_QUOTE_BYTES)),
        keyset: zeros(length(1, MAX_KEYSET_BYTES)),
        manifest: zeros(length(2, MAX_MANIFEST_BYTES)),
        events: vec![event; length(5, MAX_RUNTIME_EVENTS)],
        devices: vec![device; length(6, MAX_DEVICES)],
        batch: None,
    }
}

#[test]
fn reads_a_document_at_all_limits_and_none_past_one() {
    let whole = document(None);
    let read = Document::parse(&whole).unwrap();
    assert_eq!((read.events.len(), read.devices.len()), (MAX_RUNTIME_EVENTS, MAX_DEVICES));
    assert_eq!(read.quote.len(), MAX_QUOTE_BYTES);
    for (field, what) in
        ["quote", "keyset", "manifest", "device report", "device chain", "events", "devices"]
            .into_iter()
            .enumerate()
    {
        let Err((expected, found)) = Document::parse(&document(Some(field))).map(|_| ()) else {
            panic!("{what} was read one past its limit");
        };
        assert!(expected.contains(what), "{what}: {expected}; {found}");
    }
}

#[test]
fn half_a_byte_is_no_byte() {
    let mut half = document(None);
    half.quote.push('0');
    let (expected, found) = Document::parse(&half).map(|_| ()).unwrap_err();
    assert!(expected.starts_with("quote: lower-case hex of at most"), "{expected}");
    assert_eq!(found, format!("quote: {} characters that are not", 2 * MAX_QUOTE_BYTES + 1));
}
