//! Tampering with every byte of a request, an answer and a grant, and feeding in noise: nothing
//! altered opens, nothing panics, and what needed a key to notice is refused in one voice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use chrysalis_channel::{ChannelError, FrameKind, Header, open_grant, seal_request};
use chrysalis_wire::{Digest, SuiteId};
use common::{NOW, SMALL_FRAME, TestRng, World, X25519_PREFIX};
use proptest::prelude::*;

#[test]
fn refuses_every_single_bit_flip_of_an_x25519_request() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    assert_eq!(sealed.len(), X25519_PREFIX + SMALL_FRAME);
    for position in 0..sealed.len() {
        for bit in 0..8 {
            let mut damaged = sealed.clone();
            damaged[position] ^= 1 << bit;
            check_request_refusal(position, X25519_PREFIX, &world.refusal(&damaged));
        }
    }
    assert!(world.open(&sealed).is_ok(), "the request itself is still good");
}

#[test]
fn refuses_a_bit_flip_in_every_byte_of_an_x_wing_request() {
    let mut world = World::new(SuiteId::XWing);
    let (sealed, _) = world.seal(b"prompt");
    let prefix = sealed.len() - SMALL_FRAME;
    for position in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[position] ^= 1 << (position % 8);
        check_request_refusal(position, prefix, &world.refusal(&damaged));
    }
    assert!(world.open(&sealed).is_ok(), "the request itself is still good");
}

/// Offsets: count at 105, key id 106..122, then encapsulated key and wrapped key.
fn check_request_refusal(position: usize, prefix: usize, refusal: &ChannelError) {
    let uniform = (122..prefix).contains(&position) || position >= prefix + 4;
    if uniform {
        assert_eq!(*refusal, ChannelError::Refused, "byte {position}");
    }
}

#[test]
fn header_fields_no_check_looks_at_are_still_authenticated() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    // Request id, low byte of the time, path, max tokens.
    for (offset, mask) in [(12, 1), (35, 1), (36, 3), (104, 1)] {
        let mut damaged = sealed.clone();
        damaged[offset] ^= mask;
        assert!(Header::peek(&damaged).is_ok());
        assert_eq!(world.refusal(&damaged), ChannelError::Refused, "byte {offset}");
    }
}

#[test]
fn refuses_every_single_bit_flip_of_an_answer() {
    let mut world = World::new(SuiteId::X25519);
    let header = world.header();
    let mut rng = TestRng::new(50);
    let (sealed, _) = seal_request(&header, &[&world.entry], b"prompt", &mut rng).unwrap();
    let mut sealer = world.open(&sealed).unwrap().sealer;
    let mut answer = sealer.prefix();
    answer.extend(sealer.frame(FrameKind::Chunk, b"one", false).unwrap());
    answer.extend(sealer.frame(FrameKind::Receipt, b"two", true).unwrap());
    for position in 0..answer.len() {
        for bit in 0..8 {
            let mut damaged = answer.clone();
            damaged[position] ^= 1 << bit;
            // The same seed makes the same request, so every round has a fresh opener for it.
            let mut rng = TestRng::new(50);
            let sealing = seal_request(&header, &[&world.entry], b"prompt", &mut rng);
            let (again, mut opener) = sealing.unwrap();
            assert!(again == sealed);
            let complete = opener.push(&damaged).is_ok() && opener.finish().is_ok();
            assert!(!complete, "byte {position} bit {bit}");
        }
    }
}

#[test]
fn refuses_a_bit_flip_in_every_byte_of_a_grant() {
    for suite in [SuiteId::X25519, SuiteId::XWing] {
        let (ring, root, keyset, grant) = common_grant(suite);
        for position in 0..grant.len() {
            let mut damaged = grant.clone();
            damaged[position] ^= 1 << (position % 8);
            let refusal = open_grant(&ring, &root, &[keyset], NOW, &damaged).unwrap_err();
            if position >= 87 {
                assert_eq!(refusal, ChannelError::Refused, "byte {position}");
            }
        }
        assert!(open_grant(&ring, &root, &[keyset], NOW, &grant).is_ok());
    }
}

fn common_grant(suite: SuiteId) -> (chrysalis_channel::KeyRing, Digest, Digest, Vec<u8>) {
    use chrysalis_channel::{GrantRequest, KeyRing, SealKeyPair, seal_grant};
    use chrysalis_wire::{KeyRole, SecretBytes};
    let mut rng = TestRng::new(3);
    let pair = SealKeyPair::generate_hourly(suite, KeyRole::Grant, NOW, &mut rng);
    let entry = pair.entry();
    let mut ring = KeyRing::new();
    ring.rotate(pair, NOW).unwrap();
    let (model_root, keyset) = (Digest([1; 32]), Digest([2; 32]));
    let request = GrantRequest { model_root, key: SecretBytes::new(vec![9; 32]) };
    let grant = seal_grant(&entry, &keyset, &request, NOW, &mut rng).unwrap();
    (ring, model_root, keyset, grant)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn noise_never_opens_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut world = World::new(SuiteId::X25519);
        prop_assert!(world.open(&noise).is_err());
        let (_, mut opener) = world.seal(b"prompt");
        let complete = opener.push(&noise).is_ok() && opener.finish().is_ok();
        prop_assert!(!complete);
    }

    #[test]
    fn noise_behind_a_good_start_never_opens(
        keep in 0usize..X25519_PREFIX + SMALL_FRAME,
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut world = World::new(SuiteId::X25519);
        let (sealed, _) = world.seal(b"prompt");
        let bytes = [&sealed[..keep], &noise].concat();
        prop_assume!(bytes != sealed);
        prop_assert!(world.open(&bytes).is_err());
    }
}
