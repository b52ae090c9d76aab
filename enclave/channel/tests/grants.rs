//! Grants: the model key reaches the grant key of one keyset, for one model, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use chrysalis_channel::{ChannelError, GrantRequest, KeyRing, SealKeyPair, open_grant, seal_grant};
use chrysalis_wire::{Digest, KeyRole, SealKeyEntry, SecretBytes, SuiteId, UnixTime};
use common::{NOW, TestRng};

const ROOT: Digest = Digest([1; 32]);
const KEYSET: Digest = Digest([2; 32]);

fn worker(suite: SuiteId, seed: u64) -> (KeyRing, SealKeyEntry) {
    let pair = SealKeyPair::generate_hourly(suite, KeyRole::Grant, NOW, &mut TestRng::new(seed));
    let entry = pair.entry();
    let mut ring = KeyRing::new();
    ring.rotate(pair, NOW).unwrap();
    (ring, entry)
}

fn request(len: usize) -> GrantRequest {
    GrantRequest { model_root: ROOT, key: SecretBytes::new(vec![9; len]) }
}

fn grant(entry: &SealKeyEntry) -> Vec<u8> {
    seal_grant(entry, &KEYSET, &request(32), NOW, &mut TestRng::new(7)).unwrap()
}

#[test]
fn a_grant_arrives_in_both_suites() {
    for suite in [SuiteId::XWing, SuiteId::X25519] {
        let (ring, entry) = worker(suite, 1);
        let older = Digest([8; 32]);
        let opened = open_grant(&ring, &ROOT, &[older, KEYSET], NOW, &grant(&entry)).unwrap();
        assert_eq!(opened.model_root, ROOT);
        assert_eq!(opened.key.expose(), [9; 32]);
    }
}

#[test]
fn refuses_a_grant_for_another_root() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let expected = Digest([5; 32]);
    assert_eq!(
        open_grant(&ring, &expected, &[KEYSET], NOW, &grant(&entry)).unwrap_err(),
        ChannelError::WrongModelRoot { expected, got: ROOT }
    );
}

#[test]
fn refuses_a_grant_relabelled_for_another_root() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let mut bytes = grant(&entry);
    let other = Digest([5; 32]);
    bytes[23..55].copy_from_slice(&other.0);
    assert_eq!(
        open_grant(&ring, &other, &[KEYSET], NOW, &bytes).unwrap_err(),
        ChannelError::Refused
    );
}

#[test]
fn refuses_a_grant_for_another_keyset() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let bytes = grant(&entry);
    let other = Digest([5; 32]);
    let refusal = |keysets: &[Digest]| open_grant(&ring, &ROOT, keysets, NOW, &bytes).unwrap_err();
    assert_eq!(refusal(&[other]), ChannelError::WrongKeyset { got: KEYSET });
    assert_eq!(refusal(&[]), ChannelError::WrongKeyset { got: KEYSET });
}

#[test]
fn refuses_a_grant_relabelled_for_another_keyset() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let mut bytes = grant(&entry);
    let other = Digest([5; 32]);
    bytes[55..87].copy_from_slice(&other.0);
    assert_eq!(open_grant(&ring, &ROOT, &[other], NOW, &bytes).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_a_grant_to_another_worker() {
    let (_, entry) = worker(SuiteId::X25519, 1);
    let (other, _) = worker(SuiteId::X25519, 2);
    assert_eq!(
        open_grant(&other, &ROOT, &[KEYSET], NOW, &grant(&entry)).unwrap_err(),
        ChannelError::NoRecipient
    );
}

#[test]
fn refuses_to_grant_to_a_worker_key() {
    let pair =
        SealKeyPair::generate_hourly(SuiteId::XWing, KeyRole::Worker, NOW, &mut TestRng::new(1));
    let sealing = seal_grant(&pair.entry(), &KEYSET, &request(32), NOW, &mut TestRng::new(7));
    assert_eq!(
        sealing.unwrap_err(),
        ChannelError::WrongRole { expected: KeyRole::Grant, got: KeyRole::Worker }
    );
}

#[test]
fn refuses_a_grant_sealed_to_a_worker_key_of_the_ring() {
    let mut rng = TestRng::new(1);
    let pair = SealKeyPair::generate_hourly(SuiteId::X25519, KeyRole::Worker, NOW, &mut rng);
    let mut entry = pair.entry();
    let mut ring = KeyRing::new();
    ring.rotate(pair, NOW).unwrap();
    entry.role = KeyRole::Grant;
    assert_eq!(
        open_grant(&ring, &ROOT, &[KEYSET], NOW, &grant(&entry)).unwrap_err(),
        ChannelError::WrongRole { expected: KeyRole::Grant, got: KeyRole::Worker }
    );
}

#[test]
fn refuses_a_grant_with_the_suite_of_another_key() {
    let (ring, entry) = worker(SuiteId::XWing, 1);
    let (_, weak) = worker(SuiteId::X25519, 2);
    let mut bytes = grant(&weak);
    bytes[7..23].copy_from_slice(&entry.id.0);
    assert_eq!(
        open_grant(&ring, &ROOT, &[KEYSET], NOW, &bytes).unwrap_err(),
        ChannelError::WrongSuite { expected: SuiteId::X25519, got: SuiteId::XWing }
    );
}

#[test]
fn refuses_an_expired_grant_key_on_both_sides() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let bytes = grant(&entry);
    let (id, not_after) = (entry.id, entry.not_after);
    let now = UnixTime(not_after.0 + 1);
    let expired = ChannelError::KeyExpired { id, not_after, now };
    assert_eq!(open_grant(&ring, &ROOT, &[KEYSET], now, &bytes).unwrap_err(), expired);
    let sealing = seal_grant(&entry, &KEYSET, &request(32), now, &mut TestRng::new(7));
    assert_eq!(sealing.unwrap_err(), expired);
}

#[test]
fn refuses_to_seal_to_an_entry_whose_id_is_not_its_hash() {
    let (_, mut entry) = worker(SuiteId::X25519, 1);
    entry.id.0[3] ^= 1;
    let sealing = seal_grant(&entry, &KEYSET, &request(32), NOW, &mut TestRng::new(7));
    assert!(matches!(sealing.unwrap_err(), ChannelError::KeyIdMismatch { .. }));
}

#[test]
fn refuses_a_model_key_that_is_not_32_bytes() {
    let (_, entry) = worker(SuiteId::X25519, 1);
    for got in [0, 31, 33] {
        let sealing = seal_grant(&entry, &KEYSET, &request(got), NOW, &mut TestRng::new(7));
        assert_eq!(sealing.unwrap_err(), ChannelError::GrantKeyLength { got });
    }
}

#[test]
fn refuses_a_grant_of_a_future_version() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let mut bytes = grant(&entry);
    bytes[4] = 2;
    assert_eq!(
        open_grant(&ring, &ROOT, &[KEYSET], NOW, &bytes).unwrap_err(),
        ChannelError::UnsupportedVersion { what: "grant", expected: 1, got: 2 }
    );
}

#[test]
fn refuses_every_truncation_and_trailing_bytes() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let mut bytes = grant(&entry);
    for cut in 0..bytes.len() {
        let refusal = open_grant(&ring, &ROOT, &[KEYSET], NOW, &bytes[..cut]).unwrap_err();
        assert!(matches!(refusal, ChannelError::Malformed(_)), "cut at {cut}");
    }
    bytes.push(0);
    let refusal = open_grant(&ring, &ROOT, &[KEYSET], NOW, &bytes).unwrap_err();
    assert!(matches!(refusal, ChannelError::Malformed(_)));
}

#[test]
fn refuses_a_sealed_request_where_a_grant_belongs() {
    let (ring, entry) = worker(SuiteId::X25519, 1);
    let mut bytes = grant(&entry);
    bytes[..4].copy_from_slice(b"CHSL");
    assert_eq!(
        open_grant(&ring, &ROOT, &[KEYSET], NOW, &bytes).unwrap_err(),
        ChannelError::BadMagic { what: "grant", got: *b"CHSL" }
    );
}
