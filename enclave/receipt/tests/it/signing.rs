//! What the meter refuses to sign, and what signing guarantees.

use chrysalis_receipt::{CellError, ReceiptError};
use chrysalis_wire::{NetworkId, UnixMillis, UnixTime};

use crate::{blinds, meter, receipt, signed};

#[test]
fn signing_twice_gives_the_same_bytes() {
    assert_eq!(signed(), signed());
    assert_eq!(signed().to_json().unwrap(), signed().to_json().unwrap());
}

#[test]
fn refuses_to_sign_one_nanogram_too_much() {
    let mut r = receipt();
    r.amount += 1;
    assert_eq!(
        meter().sign(&r, blinds()),
        Err(ReceiptError::Amount { expected: r.amount - 1, got: r.amount })
    );
}

#[test]
fn refuses_to_sign_more_cached_than_prompt_tokens() {
    let mut r = receipt();
    r.usage.cached = 101;
    assert!(matches!(meter().sign(&r, blinds()), Err(ReceiptError::CachedOverPrompt { .. })));
}

#[test]
fn refuses_to_sign_an_end_before_the_start() {
    let mut r = receipt();
    r.usage.ended = UnixMillis(r.usage.started.0 - 1);
    assert!(matches!(meter().sign(&r, blinds()), Err(ReceiptError::EndsBeforeStart { .. })));
}

#[test]
fn refuses_to_sign_a_time_that_does_not_fit_32_bits() {
    let mut r = receipt();
    r.issued_at = UnixTime(1 << 32);
    assert_eq!(
        meter().sign(&r, blinds()),
        Err(ReceiptError::Cell(CellError::ValueTooWide { needed: 33, width: 32 }))
    );
}

#[test]
fn a_simulated_receipt_has_its_own_tag() {
    let mut r = receipt();
    assert_eq!(meter().sign(&r, blinds()).unwrap().tag(), "RQR1");
    r.network = NetworkId::INSECURE_SIM;
    let signed = meter().sign(&r, blinds()).unwrap();
    assert_eq!(signed.tag(), "SIM1");
    // The tag is the first field of the root: magic and header take 11 bytes, descriptors 2.
    assert!(signed.boc().windows(4).any(|w| w == b"SIM1"));
    assert!(!signed.boc().windows(4).any(|w| w == b"RQR1"));
}
