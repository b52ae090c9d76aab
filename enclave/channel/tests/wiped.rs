//! Nothing of a prompt, an answer or a key is left in memory that was given back. Every block of
//! the heap is looked at before it is freed; what a function left on its stack is not seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
// The one allocator of the workspace's tests; unsafe code stays in the vault.
#[path = "../../vault/tests/support/heap.rs"]
mod heap;

use chrysalis_channel::rand_core::Rng as _;
use chrysalis_channel::{
    ChannelError, FrameKind, GrantRequest, KeyRing, MAX_PAYLOAD_BYTES, SealKeyPair, open_grant,
    seal_grant, seal_request,
};
use chrysalis_wire::{Digest, KeyRole, SecretBytes, SuiteId};
use common::{NOW, TestRng, World};
use heap::{Watch, Watched};

#[global_allocator]
static HEAP: Watched = Watched;

const SECRET: [u8; 16] = *b"a secret prompt!";
const SUITES: [SuiteId; 2] = [SuiteId::XWing, SuiteId::X25519];

/// A body of three frames that repeats the secret at every alignment.
fn body() -> Vec<u8> {
    SECRET.repeat(2 * MAX_PAYLOAD_BYTES / 16 + 2)
}

#[test]
fn sealing_and_opening_a_request_leave_no_prompt() {
    let watch = Watch::alone();
    for suite in SUITES {
        let (mut world, body) = (World::new(suite), body());
        let left = watch.left_behind(SECRET, || {
            let (sealed, _) = world.seal(&body);
            assert!(world.open(&sealed).unwrap().body.expose() == body);
        });
        assert_eq!(left, 0, "{suite:?}");
    }
}

#[test]
fn refusing_the_last_frame_leaves_no_prompt_of_the_frames_before_it() {
    let watch = Watch::alone();
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(&body());
    *sealed.last_mut().unwrap() ^= 1;
    let left = watch.left_behind(SECRET, || {
        assert_eq!(world.refusal(&sealed), ChannelError::Refused);
    });
    assert_eq!(left, 0);
}

#[test]
fn sealing_and_opening_an_answer_leave_none_of_it() {
    let watch = Watch::alone();
    let mut world = World::new(SuiteId::X25519);
    let (sealed, mut opener) = world.seal(b"prompt");
    let mut sealer = world.open(&sealed).unwrap().sealer;
    let payload = &body()[..MAX_PAYLOAD_BYTES];
    let left = watch.left_behind(SECRET, || {
        let mut answer = sealer.prefix();
        answer.extend(sealer.frame(FrameKind::Chunk, payload, false).unwrap());
        answer.extend(sealer.frame(FrameKind::Chunk, &SECRET, false).unwrap());
        let mut damaged = sealer.frame(FrameKind::Chunk, &SECRET, true).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        for piece in answer.chunks(1000) {
            drop(opener.push(piece).unwrap());
        }
        opener.push(&damaged).unwrap_err();
        drop(opener);
    });
    assert_eq!(left, 0);
}

#[test]
fn no_key_of_a_body_is_left() {
    let watch = Watch::alone();
    for suite in SUITES {
        let mut world = World::new(suite);
        // What the sender draws first is the key of the body.
        let mut key = [0; 16];
        TestRng::new(9).fill_bytes(&mut key);
        let left = watch.left_behind(key, || {
            let (header, mut rng) = (world.header(), TestRng::new(9));
            let (sealed, _) = seal_request(&header, &[&world.entry], b"x", &mut rng).unwrap();
            drop(world.open(&sealed).unwrap());
        });
        assert_eq!(left, 0, "{suite:?}");
    }
}

#[test]
fn no_granted_key_is_left() {
    let watch = Watch::alone();
    for suite in SUITES {
        let mut rng = TestRng::new(1);
        let pair = SealKeyPair::generate_hourly(suite, KeyRole::Grant, NOW, &mut rng);
        let (entry, mut ring) = (pair.entry(), KeyRing::new());
        ring.rotate(pair, NOW).unwrap();
        let (model_root, keyset) = (Digest([1; 32]), Digest([2; 32]));
        let left = watch.left_behind(SECRET, || {
            let key = SecretBytes::new(SECRET.repeat(2));
            let request = GrantRequest { model_root, key };
            let grant = seal_grant(&entry, &keyset, &request, NOW, &mut rng).unwrap();
            let opened = open_grant(&ring, &model_root, &[keyset], NOW, &grant).unwrap();
            assert_eq!(opened.key.expose(), request.key.expose());
        });
        assert_eq!(left, 0, "{suite:?}");
    }
}
