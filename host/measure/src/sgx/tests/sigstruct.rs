//! Signature structures that must be refused, and days that are none.

use chrysalis_wire::SecretBytes;

use super::super::{
    SIGSTRUCT_BYTES, SgxError, SigningDate, SigningKey, SigstructError, UnverifiedSigstruct,
};
use super::{body, fixture};

pub(super) fn signed() -> [u8; SIGSTRUCT_BYTES] {
    let key = SigningKey::from_pem(&SecretBytes::new(fixture("fake-enclave-key.pem"))).unwrap();
    *key.sign(&body()).unwrap().as_bytes()
}

fn judge(bytes: &[u8]) -> Result<(), SgxError> {
    UnverifiedSigstruct::parse(bytes)?.verify().map(|_| ())
}

#[track_caller]
fn refuses(bytes: &[u8], expected: SigstructError) {
    assert_eq!(judge(bytes), Err(SgxError::Sigstruct(expected)));
}

fn changed(at: usize, value: u8) -> [u8; SIGSTRUCT_BYTES] {
    let mut bytes = signed();
    assert_ne!(bytes[at], value, "nothing changes");
    bytes[at] = value;
    bytes
}

#[test]
fn refuses_another_length() {
    let bytes = signed();
    for got in [0, 1, 1807] {
        refuses(&bytes[..got], SigstructError::Length { got });
    }
    refuses(&[&bytes[..], &[0]].concat(), SigstructError::Length { got: 1809 });
}

#[test]
fn refuses_other_constants() {
    refuses(&changed(0, 7), SigstructError::Constant("HEADER"));
    refuses(&changed(0x18, 2), SigstructError::Constant("HEADER2"));
    refuses(&changed(0x10, 1), SigstructError::Constant("VENDOR"));
    refuses(&changed(0x200, 1), SigstructError::Constant("EXPONENT"));
    refuses(&changed(0x202, 1), SigstructError::Constant("EXPONENT"));
}

#[test]
fn refuses_reserved_bytes_that_are_not_zero() {
    for (at, last) in [(0x2c, 0x7f), (0x38c, 0x38f), (0x3e0, 0x3ef), (0x404, 0x40f)] {
        refuses(&changed(at, 1), SigstructError::Reserved { at });
        refuses(&changed(last, 0x80), SigstructError::Reserved { at });
    }
}

#[test]
fn refuses_a_modulus_that_is_even_or_short() {
    let even = signed()[0x80] ^ 1;
    refuses(&changed(0x80, even), SigstructError::Modulus);
    let short = signed()[0x1ff] & 0x7f;
    refuses(&changed(0x1ff, short), SigstructError::Modulus);
}

#[test]
fn refuses_a_signature_not_below_the_modulus() {
    let mut bytes = signed();
    let modulus = bytes[0x80..0x200].to_vec();
    bytes[0x204..0x384].copy_from_slice(&modulus);
    refuses(&bytes, SigstructError::Range);
    bytes[0x204..0x384].fill(0xff);
    refuses(&bytes, SigstructError::Range);
}

#[test]
fn refuses_quotients_that_are_not_those_of_the_signature() {
    refuses(&changed(0x410, signed()[0x410] ^ 1), SigstructError::Quotient("Q1"));
    refuses(&changed(0x590, signed()[0x590] ^ 1), SigstructError::Quotient("Q2"));
    refuses(&changed(0x70f, signed()[0x70f] ^ 1), SigstructError::Quotient("Q2"));
}

#[test]
fn refuses_another_enclave_under_the_same_signature() {
    refuses(&changed(0x3c0, 0), SigstructError::Signature);
    // DEBUG, a lower security version, another day, Intel's name.
    refuses(&changed(0x3a0, 6), SigstructError::Signature);
    refuses(&changed(0x402, 2), SigstructError::Signature);
    refuses(&changed(0x14, 0x24), SigstructError::Signature);
    let mut intel = signed();
    intel[0x10..0x14].copy_from_slice(&0x8086u32.to_le_bytes());
    refuses(&intel, SigstructError::Signature);
}

#[test]
fn refuses_a_signature_of_zero() {
    // s = 0 gives q1 = q2 = 0 and a block of zeros; the form alone would pass.
    let mut bytes = signed();
    bytes[0x204..0x384].fill(0);
    bytes[0x410..0x710].fill(0);
    refuses(&bytes, SigstructError::Signature);
}

#[test]
fn refuses_a_signature_of_another_key() {
    let Some(other) = super::vector("test_enclave.sig") else { return };
    let mut bytes = signed();
    bytes[0x80..0x384].copy_from_slice(&other[0x80..0x384]);
    bytes[0x410..].copy_from_slice(&other[0x410..]);
    refuses(&bytes, SigstructError::Signature);
}

#[test]
fn a_signature_refusal_and_a_malformed_structure_have_codes_of_their_own() {
    assert_eq!(judge(&changed(0x3c0, 0)).unwrap_err().code(), "E-SGX-SIGNATURE");
    assert!(judge(&changed(0x3c0, 0)).unwrap_err().is_refusal());
    assert_eq!(judge(&changed(0, 7)).unwrap_err().code(), "E-SGX-SIGSTRUCT");
    assert!(!judge(&changed(0, 7)).unwrap_err().is_refusal());
}

#[test]
fn refuses_a_date_that_is_none() {
    for (at, value) in [(0x14, 0x32), (0x14, 0x1a), (0x14, 0), (0x15, 0x13), (0x16, 0xff)] {
        let refused = judge(&changed(at, value)).unwrap_err();
        assert!(matches!(refused, SgxError::Sigstruct(SigstructError::Date { .. })), "{refused}");
    }
}

#[test]
fn reads_days_and_no_other_text() {
    for good in ["2026-11-25", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"] {
        assert_eq!(good.parse::<SigningDate>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "2026",
        "2026-11",
        "2026-11-31",
        "2026-02-29",
        "1900-02-29",
        "2026-00-01",
        "2026-13-01",
        "2026-1-01",
        "26-11-25",
        "0000-01-01",
        "2026-11-25-1",
        "+026-11-25",
        " 2026-11-25",
        "2026/11/25",
    ] {
        assert!(bad.parse::<SigningDate>().is_err(), "accepted {bad:?}");
    }
}
