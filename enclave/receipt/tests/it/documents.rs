//! Receipts as JSON from strangers.

use chrysalis_receipt::{
    MAX_RECEIPT_JSON_BYTES, MeterPublicKey, ReceiptError, SignedReceipt, verify, verify_offline,
};

use crate::{expectation, signed};

fn read(json: &str) -> Result<SignedReceipt, ReceiptError> {
    SignedReceipt::from_json(json.as_bytes())
}

fn replaced(from: &str, to: &str) -> String {
    let json = signed().to_json().unwrap();
    assert!(json.contains(from), "{from} is not in the document");
    json.replacen(from, to, 1)
}

fn malformed(json: &str) -> String {
    match read(json) {
        Err(ReceiptError::Malformed(message)) => message,
        other => panic!("expected Malformed, got {other:?}"),
    }
}

#[test]
fn reads_back_what_it_writes() {
    let json = signed().to_json().unwrap();
    let read = read(&json).unwrap();
    assert_eq!(read, signed());
    assert!(verify(&read, &expectation()).ok);
    assert!(json.contains("\"schema\": \"chrysalis/receipt/v1\""));
}

/// Every letter and digit inside the values is changed, one at a time: the document is refused
/// when read, or when verified with nothing but itself.
#[test]
fn refuses_every_changed_value() {
    let json = signed().to_json().unwrap();
    let mut refused = 0;
    let mut at = 0;
    for line in json.split_inclusive('\n') {
        let value = line.find(": ").map_or(0, |i| i + 2);
        for (i, c) in line.char_indices().skip(value) {
            let other = match c {
                '0'..='8' => char::from(c as u8 + 1),
                '9' => '8',
                'a'..='e' => char::from(c as u8 + 1),
                'f'..='z' => 'a',
                _ => continue,
            };
            let mut changed = json.clone();
            changed.replace_range(at + i..=at + i, &other.to_string());
            let accepted = read(&changed).is_ok_and(|r| verify_offline(&r).ok);
            assert!(!accepted, "accepted {other} for {c} in {line}");
            refused += 1;
        }
        at += line.len();
    }
    assert!(refused > 700, "only {refused} changes were tried");
}

#[test]
fn refuses_an_unknown_field_by_name() {
    let json = replaced("\"usage\": {", "\"usage\": {\"tip\": 5,");
    assert!(malformed(&json).contains("tip"));
}

#[test]
fn refuses_a_repeated_field() {
    let json = replaced("\"prompt\": 100,", "\"prompt\": 100, \"prompt\": 100,");
    assert!(malformed(&json).contains("duplicate"));
}

#[test]
fn refuses_a_missing_field() {
    assert!(malformed(&replaced("\"cached\": 40,", "")).contains("cached"));
}

#[test]
fn refuses_upper_case_hex() {
    let (signature, key) = (signed().signature().to_vec(), signed().meter_key().to_vec());
    for value in [hex::encode(signature), hex::encode(key), signed().hash().to_string()] {
        assert_ne!(value, value.to_uppercase());
        malformed(&replaced(&value, &value.to_uppercase()));
    }
}

#[test]
fn refuses_an_amount_in_another_spelling() {
    for amount in ["\"0270\"", "\"+270\"", "\"270.0\"", "270", "\"\""] {
        malformed(&replaced("\"amount\": \"270\"", &format!("\"amount\": {amount}")));
    }
}

#[test]
fn refuses_a_future_schema_before_its_unknown_fields() {
    let json = replaced("chrysalis/receipt/v1\"", "chrysalis/receipt/v2\", \"new\": 1");
    assert_eq!(read(&json), Err(ReceiptError::Schema { expected: "chrysalis/receipt/v1" }));
}

#[test]
fn refuses_a_tag_of_another_network() {
    assert!(matches!(
        read(&replaced("\"RQR1\"", "\"SIM1\"")),
        Err(ReceiptError::Tag { expected: "RQR1", .. })
    ));
    assert!(matches!(
        read(&replaced("\"network\": -3", "\"network\": 5458253")),
        Err(ReceiptError::Tag { expected: "SIM1", .. })
    ));
}

/// A signature over the real tag says nothing about the simulated one.
#[test]
fn refuses_a_real_signature_moved_to_the_simulated_network() {
    let json = replaced("\"RQR1\"", "\"SIM1\"").replacen("-3", "5458253", 1);
    let report = verify_offline(&read(&json).unwrap());
    assert!(matches!(report.require(), Err(ReceiptError::Check { id: "form", .. })));
}

#[test]
fn refuses_a_weak_meter_key_when_reading() {
    let weak = format!("01{}", "00".repeat(31));
    let json = replaced(&hex::encode(signed().meter_key()), &weak);
    assert_eq!(read(&json), Err(ReceiptError::WeakKey));
}

/// The signature with `S + L` verifies under loose rules; here it does not.
#[test]
fn refuses_a_malleated_signature() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let signature = *signed().signature();
    let mut other = signature;
    let mut carry = 0u16;
    for (byte, order) in other[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = (carry & 0xff) as u8;
        carry >>= 8;
    }
    let json = replaced(&hex::encode(signature), &hex::encode(other));
    let report = verify_offline(&read(&json).unwrap());
    assert!(matches!(report.require(), Err(ReceiptError::Check { id: "signature", .. })));
}

/// `R` is the neutral point and `S` = `SHA-512(R, key, hash)` times the secret scalar: loose rules
/// verify it, although `R` commits to nothing. Made with the functions of `tests/golden.py`.
#[test]
fn refuses_a_signature_with_a_small_order_point() {
    const LOOSE: &str = "0100000000000000000000000000000000000000000000000000000000000000\
                         13299fc9d16fc9328ef9e6d78f70d8f24c89355bab67444fe3bc3f445653a206";
    let key = ed25519_dalek::VerifyingKey::from_bytes(&signed().meter_key()).unwrap();
    let loose = ed25519_dalek::Signature::from_slice(&hex::decode(LOOSE).unwrap()).unwrap();
    ed25519_dalek::Verifier::verify(&key, &signed().hash().0, &loose).unwrap();
    let json = replaced(&hex::encode(signed().signature()), LOOSE);
    let report = verify_offline(&read(&json).unwrap());
    assert!(matches!(report.require(), Err(ReceiptError::Check { id: "signature", .. })));
}

/// Naming another key and signing with it gives a good signature, but not by the attested meter.
#[test]
fn refuses_a_receipt_signed_again_by_another_key() {
    let other = chrysalis_receipt::MeterKey::from_seed(&zeroize::Zeroizing::new([0x33; 32]));
    let forged = other.sign(&crate::receipt(), crate::blinds()).unwrap();
    assert!(MeterPublicKey::parse(&forged.meter_key()).is_ok());
    assert!(verify_offline(&forged).ok);
    assert!(matches!(
        verify(&forged, &expectation()).require(),
        Err(ReceiptError::Check { id: "meter-key", .. })
    ));
}

#[test]
fn refuses_one_byte_over_the_size_limit() {
    let mut json = signed().to_json().unwrap();
    json.push_str(&" ".repeat(MAX_RECEIPT_JSON_BYTES - json.len()));
    assert!(read(&json).is_ok());
    json.push(' ');
    assert_eq!(read(&json), Err(ReceiptError::TooLarge { got: MAX_RECEIPT_JSON_BYTES + 1 }));
}

#[test]
fn refuses_json_that_ends_early_everywhere() {
    let json = signed().to_json().unwrap();
    for len in 0..json.len() {
        assert!(SignedReceipt::from_json(&json.as_bytes()[..len]).is_err(), "accepted {len}");
    }
}

/// The parser would read a list of values in the place of an object with fields.
#[test]
fn refuses_a_list_where_an_object_belongs() {
    let json = signed().to_json().unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    for part in ["head", "io", "usage", "model", "att"] {
        let mut value = value.clone();
        let fields = value[part].as_object().unwrap().values().cloned().collect();
        value[part] = serde_json::Value::Array(fields);
        assert!(malformed(&value.to_string()).contains("list"), "{part}");
    }
    let mut prices = value.clone();
    let fields = value["usage"]["prices"].as_object().unwrap().values().cloned().collect();
    prices["usage"]["prices"] = serde_json::Value::Array(fields);
    assert!(malformed(&prices.to_string()).contains("list"));
    let fields = value.as_object().unwrap().values().cloned().collect();
    malformed(&serde_json::Value::Array(fields).to_string());
}

#[test]
fn a_refusal_cannot_drive_the_terminal() {
    // A character that turns the direction of the text is not a control character.
    let json = replaced("\"usage\": {", "\"usage\": {\"\u{202e}x\": 5,");
    assert!(malformed(&json).is_ascii());
    let json = replaced("\"usage\": {", "\"usage\": {\"\\u001b[2Jx\": 5,");
    assert!(!malformed(&json).contains('\u{1b}'));
    let json = replaced("\"usage\": {", &format!("\"usage\": {{\"{}\": 5,", "x".repeat(9000)));
    assert!(malformed(&json).len() <= 200);
}
