//! Answers: what a client takes as complete and everything it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use chrysalis_channel::{
    BUCKETS, ChannelError, Frame, FrameKind, MAX_PAYLOAD_BYTES, RESPONSE_PREFIX_BYTES,
    ResponseOpener, ResponseSealer, seal_request,
};
use chrysalis_wire::SuiteId;
use chrysalis_wire::limits::MAX_FRAME_BYTES;
use common::{SMALL_FRAME, TestRng, World};
use proptest::prelude::*;

/// A client and a worker after one request.
fn exchange(suite: SuiteId) -> (ResponseSealer, ResponseOpener) {
    let mut world = World::new(suite);
    let (sealed, opener) = world.seal(b"prompt");
    (world.open(&sealed).unwrap().sealer, opener)
}

/// Prefix and three small frames, the last one final.
fn answer(sealer: &mut ResponseSealer) -> Vec<Vec<u8>> {
    vec![
        sealer.prefix(),
        sealer.frame(FrameKind::Chunk, b"one", false).unwrap(),
        sealer.frame(FrameKind::Chunk, b"two", false).unwrap(),
        sealer.frame(FrameKind::Receipt, b"three", true).unwrap(),
    ]
}

fn content(frames: &[Frame]) -> Vec<(FrameKind, Vec<u8>, bool)> {
    frames.iter().map(|f| (f.kind, f.payload.expose().to_vec(), f.last)).collect()
}

#[test]
fn a_whole_answer_arrives_in_both_suites() {
    for suite in [SuiteId::XWing, SuiteId::X25519] {
        let (mut sealer, mut opener) = exchange(suite);
        let frames = opener.push(&answer(&mut sealer).concat()).unwrap();
        opener.finish().unwrap();
        let expected = [
            (FrameKind::Chunk, b"one".to_vec(), false),
            (FrameKind::Chunk, b"two".to_vec(), false),
            (FrameKind::Receipt, b"three".to_vec(), true),
        ];
        assert_eq!(content(&frames), expected);
    }
}

#[test]
fn every_kind_and_every_bucket_arrives() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    opener.push(&sealer.prefix()).unwrap();
    let kinds = [
        FrameKind::Chunk,
        FrameKind::Body,
        FrameKind::Error,
        FrameKind::Receipt,
        FrameKind::KeepAlive,
    ];
    for (n, bucket) in BUCKETS.into_iter().enumerate() {
        let payload = vec![n as u8; bucket - 5];
        let kind = kinds[n % kinds.len()];
        let wire = sealer.frame(kind, &payload, false).unwrap();
        assert_eq!(wire.len(), bucket + 20);
        assert_eq!(content(&opener.push(&wire).unwrap()), [(kind, payload, false)]);
    }
}

#[test]
fn refuses_an_answer_truncated_anywhere() {
    let (mut sealer, _) = exchange(SuiteId::X25519);
    let whole = answer(&mut sealer).concat();
    for cut in 0..whole.len() {
        let (_, mut opener) = exchange(SuiteId::X25519);
        opener.push(&whole[..cut]).unwrap();
        assert_eq!(opener.finish(), Err(ChannelError::Truncated), "cut at {cut}");
    }
}

#[test]
fn refuses_an_answer_without_its_final_frame() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let parts = answer(&mut sealer);
    assert_eq!(opener.push(&parts[..3].concat()).unwrap().len(), 2);
    assert_eq!(opener.finish(), Err(ChannelError::Truncated));
}

#[test]
fn refuses_a_frame_out_of_order() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut parts = answer(&mut sealer);
    parts.swap(1, 2);
    assert_eq!(opener.push(&parts.concat()).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_a_duplicated_frame() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut parts = answer(&mut sealer);
    parts.insert(2, parts[1].clone());
    assert_eq!(opener.push(&parts.concat()).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_a_dropped_frame() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut parts = answer(&mut sealer);
    parts.remove(1);
    assert_eq!(opener.push(&parts.concat()).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_a_frame_after_the_final_frame() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut parts = answer(&mut sealer);
    parts.push(parts[3].clone());
    assert_eq!(opener.push(&parts.concat()).unwrap_err(), ChannelError::AfterFinal);
    assert_eq!(opener.finish(), Err(ChannelError::AfterFinal));
}

#[test]
fn refuses_one_byte_after_the_final_frame_in_a_later_piece() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    opener.push(&answer(&mut sealer).concat()).unwrap();
    assert_eq!(opener.push(b"\0").unwrap_err(), ChannelError::AfterFinal);
    assert_eq!(opener.finish(), Err(ChannelError::AfterFinal));
}

#[test]
fn refuses_a_final_mark_set_by_the_carrier() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut parts = answer(&mut sealer);
    parts[1][0] |= 0x80;
    assert_eq!(opener.push(&parts[..2].concat()).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_a_final_mark_removed_by_the_carrier() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut parts = answer(&mut sealer);
    parts[3][0] &= 0x7f;
    assert_eq!(opener.push(&parts.concat()).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_a_frame_larger_than_the_limit() {
    let (sealer, mut opener) = exchange(SuiteId::X25519);
    opener.push(&sealer.prefix()).unwrap();
    let got = MAX_FRAME_BYTES + 17;
    let refusal = opener.push(&(got as u32).to_be_bytes()).unwrap_err();
    assert_eq!(refusal, ChannelError::FrameTooLarge { got });
}

#[test]
fn refuses_a_frame_of_no_bucket_size() {
    let (sealer, mut opener) = exchange(SuiteId::X25519);
    opener.push(&sealer.prefix()).unwrap();
    let refusal = opener.push(&100u32.to_be_bytes()).unwrap_err();
    assert_eq!(refusal, ChannelError::FrameSize { got: 100 });
}

#[test]
fn refuses_a_recipient_the_request_did_not_have() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut whole = answer(&mut sealer).concat();
    whole[0] = 1;
    assert_eq!(
        opener.push(&whole).unwrap_err(),
        ChannelError::UnknownCandidate { index: 1, count: 1 }
    );
}

#[test]
fn refuses_an_answer_presented_as_another_candidates() {
    let mut worlds: Vec<World> = (1..3).map(|s| World::with_seed(SuiteId::X25519, s)).collect();
    let entries: Vec<_> = worlds.iter().map(|w| w.entry.clone()).collect();
    let both: Vec<_> = entries.iter().collect();
    let header = worlds[0].header();
    let sealing = seal_request(&header, &both, b"prompt", &mut TestRng::new(9));
    let (sealed, mut opener) = sealing.unwrap();
    let mut whole = answer(&mut worlds[1].open(&sealed).unwrap().sealer).concat();
    assert_eq!(whole[0], 1);
    whole[0] = 0;
    assert_eq!(opener.push(&whole).unwrap_err(), ChannelError::Refused);
    assert_eq!(opener.finish(), Err(ChannelError::Refused));
}

#[test]
fn refuses_an_answer_to_another_request() {
    let mut world = World::new(SuiteId::XWing);
    let (first, _) = world.seal(b"first");
    let (_, mut second) = world.seal(b"second");
    let whole = answer(&mut world.open(&first).unwrap().sealer).concat();
    assert_eq!(second.push(&whole).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_an_answer_when_the_request_body_was_replaced_on_the_way() {
    // A second candidate knows the body key and could send its own body under the client's
    // header; the answer to it must not open as the answer to the client's request. Two requests
    // made with the same randomness stand in for it: same keys, same wrapping, other body.
    let mut world = World::new(SuiteId::X25519);
    let header = world.header();
    let seal =
        |body: &[u8]| seal_request(&header, &[&world.entry], body, &mut TestRng::new(9)).unwrap();
    let (_, mut opener) = seal(b"what the client asked");
    let (forged, _) = seal(b"what the forger asked");
    let whole = answer(&mut world.open(&forged).unwrap().sealer).concat();
    assert_eq!(opener.push(&whole).unwrap_err(), ChannelError::Refused);
}

#[test]
fn refuses_an_answer_made_from_request_frames() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, mut opener) = world.seal(b"prompt");
    let prefix = world.open(&sealed).unwrap().sealer.prefix();
    let reflected = [&prefix[..], &sealed[sealed.len() - SMALL_FRAME..]].concat();
    assert_eq!(opener.push(&reflected).unwrap_err(), ChannelError::Refused);
}

#[test]
fn stays_refused_after_a_refusal() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut parts = answer(&mut sealer);
    let good = parts[1].clone();
    parts[1][20] ^= 1;
    assert_eq!(opener.push(&parts[..2].concat()).unwrap_err(), ChannelError::Refused);
    assert_eq!(opener.push(&good).unwrap_err(), ChannelError::Refused);
    assert_eq!(opener.finish(), Err(ChannelError::Refused));
}

#[test]
fn refuses_to_seal_a_payload_one_past_the_limit() {
    let (mut sealer, _) = exchange(SuiteId::X25519);
    let got = MAX_PAYLOAD_BYTES + 1;
    assert_eq!(
        sealer.frame(FrameKind::Body, &vec![0; got], false),
        Err(ChannelError::PayloadTooLarge { got })
    );
    assert!(sealer.frame(FrameKind::Body, &vec![0; got - 1], false).is_ok());
}

#[test]
fn refuses_to_seal_after_the_final_frame() {
    let (mut sealer, _) = exchange(SuiteId::X25519);
    answer(&mut sealer);
    assert_eq!(sealer.frame(FrameKind::Chunk, b"more", false), Err(ChannelError::AfterFinal));
}

#[test]
fn a_refused_payload_does_not_use_up_a_position() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let mut whole = sealer.prefix();
    assert!(sealer.frame(FrameKind::Body, &vec![0; MAX_PAYLOAD_BYTES + 1], true).is_err());
    whole.extend(sealer.frame(FrameKind::Body, b"short", true).unwrap());
    assert_eq!(opener.push(&whole).unwrap().len(), 1);
    opener.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn frames_do_not_depend_on_where_the_stream_is_cut(
        lengths in prop::collection::vec(0usize..3000, 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let (mut sealer, mut opener) = exchange(SuiteId::X25519);
        let mut wire = sealer.prefix();
        let mut expected = Vec::new();
        for (n, length) in lengths.iter().enumerate() {
            let payload = vec![n as u8; *length];
            let last = n + 1 == lengths.len();
            wire.extend(sealer.frame(FrameKind::Chunk, &payload, last).unwrap());
            expected.push((FrameKind::Chunk, payload, last));
        }
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(wire.len() + 1)).collect();
        at.extend([0, wire.len()]);
        at.sort_unstable();
        let mut got = Vec::new();
        for pair in at.windows(2) {
            got.extend(opener.push(&wire[pair[0]..pair[1]]).unwrap());
        }
        opener.finish().unwrap();
        prop_assert_eq!(content(&got), expected);
    }
}

#[test]
fn frames_arrive_as_soon_as_their_last_byte_does() {
    let (mut sealer, mut opener) = exchange(SuiteId::X25519);
    let whole = answer(&mut sealer).concat();
    for (position, byte) in whole.iter().enumerate() {
        let complete = (position + 1).checked_sub(RESPONSE_PREFIX_BYTES + SMALL_FRAME);
        let expected = usize::from(complete.is_some_and(|n| n % SMALL_FRAME == 0));
        let frames = opener.push(core::slice::from_ref(byte)).unwrap();
        assert_eq!(frames.len(), expected, "byte {position}");
    }
    opener.finish().unwrap();
}
