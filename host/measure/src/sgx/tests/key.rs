//! Keys that may not sign, and the signature of one that may.

use chrysalis_wire::{Digest, SecretBytes};

use super::super::sigstruct::sha256;
use super::super::{KeyError, MAX_KEY_BYTES, SgxError, SigningKey};
use super::{body, fixture};

fn key(pem: impl Into<Vec<u8>>) -> Result<SigningKey, SgxError> {
    SigningKey::from_pem(&SecretBytes::new(pem.into()))
}

fn text() -> String {
    String::from_utf8(fixture("fake-enclave-key.pem")).unwrap()
}

#[track_caller]
fn refuses(pem: impl Into<Vec<u8>>, expected: KeyError) {
    assert_eq!(key(pem).unwrap_err(), SgxError::Key(expected));
}

#[test]
fn signs_the_bytes_that_were_computed_apart_from_this_code() {
    // Python integers, from the numbers `openssl rsa -text` shows: the padded digest to the power
    // of the private exponent, Q1 = s*s // n, Q2 = s * (s*s - Q1*n) // n.
    let signed = key(text()).unwrap().sign(&body()).unwrap();
    assert_eq!(Digest(sha256(signed.as_bytes())).to_string(), SIGSTRUCT_SHA256);
    assert_eq!(signed.mrsigner().to_string(), MRSIGNER);
    assert_eq!(signed.body(), body());
}

#[test]
fn both_spellings_of_a_key_are_the_same_key() {
    let traditional = key(fixture("fake-enclave-key-pkcs1.pem")).unwrap();
    assert_eq!(traditional.mrsigner().to_string(), MRSIGNER);
    let (a, b) = (traditional.sign(&body()).unwrap(), key(text()).unwrap().sign(&body()).unwrap());
    assert_eq!(a.as_bytes(), b.as_bytes());
}

#[test]
fn a_key_does_not_print() {
    assert_eq!(
        format!("{:?}", key(text()).unwrap()),
        format!("<redacted enclave signing key of {MRSIGNER}>")
    );
}

#[test]
fn refuses_keys_that_sgx_does_not_take() {
    refuses(fixture("fake-key-2048.pem"), KeyError::Bits { got: 2048 });
    refuses(fixture("fake-key-65537.pem"), KeyError::Exponent);
    refuses(fixture("fake-key-ec.pem"), KeyError::Rejected);
}

#[test]
fn refuses_pem_of_another_kind() {
    refuses(fixture("fake-key-encrypted.pem"), KeyError::Kind);
    refuses(text().replace("PRIVATE", "PUBLIC"), KeyError::Kind);
}

#[test]
fn refuses_what_is_not_one_pem_block() {
    let pem = text();
    for bad in [
        String::new(),
        "key".to_owned(),
        pem.replace("-----END PRIVATE", "-----END RSA PRIVATE"),
        pem.trim_end().trim_end_matches('-').to_owned(),
        pem.replace("\nMII", "\n*II"),
        format!("{pem}{pem}"),
        format!("a comment\n{pem}"),
    ] {
        refuses(bad, KeyError::Pem);
    }
}

#[test]
fn refuses_a_key_whose_parts_do_not_belong_together() {
    // A digit in the middle of the private exponent or of a prime.
    let pem = text();
    for at in [1200, 1500, 1900, 2300] {
        let mut bytes = pem.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        refuses(bytes, KeyError::Rejected);
    }
}

#[test]
fn refuses_a_key_file_one_byte_over_the_limit() {
    let padded = |len: usize| format!("{}{}", text(), "\n".repeat(len - text().len()));
    assert!(key(padded(MAX_KEY_BYTES)).is_ok());
    assert_eq!(key(padded(MAX_KEY_BYTES + 1)).unwrap_err().code(), "E-SGX-SIZE");
}

const SIGSTRUCT_SHA256: &str = "238b2f1d9d8b9b6c57aaa4ef4dda629e19385091262ec971ef6e2db363cee9d8";
const MRSIGNER: &str = "df1c7eedae89d07223d16f302aff2c22ed7b14d7b56ba1b8a03ad90bf09fce28";
