//! Requests: what a worker opens and everything it refuses, one named test per refusal.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use chrysalis_channel::{
    ChannelError, HEADER_BYTES, Header, KeyRing, MAX_CLOCK_SKEW_MILLIS, MAX_PAYLOAD_BYTES,
    ReplayCache, SealKeyPair, open_request, seal_request, sealed_request_bytes,
};
use chrysalis_wire::limits::{MAX_FRAME_BYTES, MAX_SEALED_REQUEST_BYTES};
use chrysalis_wire::{Digest, KeyRole, NetworkId, SuiteId, UnixMillis, UnixTime};
use common::{NOW, SMALL_FRAME, TestRng, World, X25519_PREFIX};

const SUITES: [SuiteId; 2] = [SuiteId::XWing, SuiteId::X25519];

#[test]
fn opens_bodies_of_every_interesting_length() {
    for suite in SUITES {
        let mut world = World::new(suite);
        let exact = MAX_PAYLOAD_BYTES;
        for len in [0, 1, 251, 252, 4096, exact - 1, exact, exact + 1, 2 * exact, 2 * exact + 7] {
            let body: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let (sealed, _) = world.seal(&body);
            assert_eq!(sealed.len(), sealed_request_bytes(suite, 1, len), "length {len}");
            let opened = world.open(&sealed).unwrap();
            assert!(opened.body.expose() == body, "length {len}");
            assert_eq!(opened.header, world.header());
        }
    }
}

#[test]
fn sealed_length_tells_only_the_bucket() {
    let mut world = World::new(SuiteId::X25519);
    let lengths: Vec<usize> =
        [0, 7, 251].iter().map(|len| world.seal(&vec![1; *len]).0.len()).collect();
    assert_eq!(lengths, [lengths[0]; 3]);
}

#[test]
fn any_of_three_recipients_opens_and_names_itself() {
    for suite in SUITES {
        for answering in 0..3u8 {
            let mut worlds: Vec<World> = (1..4).map(|s| World::with_seed(suite, s)).collect();
            let entries: Vec<_> = worlds.iter().map(|w| w.entry.clone()).collect();
            let header = worlds[0].header();
            let recipients: Vec<_> = entries.iter().collect();
            let (sealed, _) =
                seal_request(&header, &recipients, b"prompt", &mut TestRng::new(9)).unwrap();
            let opened = worlds[usize::from(answering)].open(&sealed).unwrap();
            assert_eq!(opened.body.expose(), b"prompt");
            assert_eq!(opened.sealer.prefix()[0], answering);
        }
    }
}

#[test]
fn a_request_sealed_to_the_previous_key_still_opens() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    let next = SealKeyPair::generate_hourly(SuiteId::X25519, KeyRole::Worker, NOW, &mut world.rng);
    world.ring.rotate(next, NOW).unwrap();
    assert_eq!(world.open(&sealed).unwrap().body.expose(), b"prompt");
}

#[test]
fn refuses_bad_magic() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(b"prompt");
    sealed[0] ^= 1;
    assert!(matches!(world.refusal(&sealed), ChannelError::BadMagic { got: [b'B', ..], .. }));
}

#[test]
fn refuses_header_with_a_future_version() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(b"prompt");
    sealed[4] = 2;
    assert_eq!(
        world.refusal(&sealed),
        ChannelError::UnsupportedVersion { what: "sealed request", expected: 1, got: 2 }
    );
}

#[test]
fn refuses_a_future_version_even_when_nothing_else_can_be_read() {
    let mut world = World::new(SuiteId::X25519);
    assert!(matches!(world.refusal(b"CHSL\x02"), ChannelError::UnsupportedVersion { got: 2, .. }));
}

#[test]
fn refuses_zero_recipients() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(b"prompt");
    sealed[HEADER_BYTES] = 0;
    assert_eq!(world.refusal(&sealed), ChannelError::RecipientCount { got: 0 });
    let sealing = seal_request(&world.header(), &[], b"prompt", &mut world.rng);
    assert_eq!(sealing.unwrap_err(), ChannelError::RecipientCount { got: 0 });
}

#[test]
fn refuses_four_recipients() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(b"prompt");
    sealed[HEADER_BYTES] = 4;
    assert_eq!(world.refusal(&sealed), ChannelError::RecipientCount { got: 4 });
    let entries: Vec<_> =
        (1..5).map(|s| World::with_seed(SuiteId::X25519, s).entry.clone()).collect();
    let four: Vec<_> = entries.iter().collect();
    let sealing = seal_request(&world.header(), &four, b"prompt", &mut world.rng);
    assert_eq!(sealing.unwrap_err(), ChannelError::RecipientCount { got: 4 });
    assert!(seal_request(&world.header(), &four[..3], b"prompt", &mut world.rng).is_ok());
}

#[test]
fn refuses_the_same_recipient_twice() {
    let mut world = World::new(SuiteId::X25519);
    let twice = [&world.entry.clone(), &world.entry.clone()];
    let id = world.entry.id;
    let sealing = seal_request(&world.header(), &twice, b"prompt", &mut world.rng);
    assert_eq!(sealing.unwrap_err(), ChannelError::DuplicateRecipient { id });

    let (mut sealed, _) = world.seal(b"prompt");
    let recipient = sealed[HEADER_BYTES + 1..X25519_PREFIX].to_vec();
    sealed[HEADER_BYTES] = 2;
    sealed.splice(X25519_PREFIX..X25519_PREFIX, recipient);
    assert_eq!(world.refusal(&sealed), ChannelError::DuplicateRecipient { id });
}

#[test]
fn refuses_recipients_of_two_suites() {
    let mut world = World::new(SuiteId::XWing);
    let weak = World::with_seed(SuiteId::X25519, 2).entry;
    let mixed = [&world.entry.clone(), &weak];
    let sealing = seal_request(&world.header(), &mixed, b"prompt", &mut world.rng);
    assert_eq!(
        sealing.unwrap_err(),
        ChannelError::WrongSuite { expected: SuiteId::XWing, got: SuiteId::X25519 }
    );
}

#[test]
fn refuses_a_header_whose_suite_is_not_that_of_the_key() {
    let mut world = World::new(SuiteId::XWing);
    let header = Header { suite: SuiteId::X25519, ..world.header() };
    let other = World::with_seed(SuiteId::X25519, 2);
    let (mut sealed, _) =
        seal_request(&header, &[&other.entry], b"prompt", &mut world.rng).unwrap();
    sealed[HEADER_BYTES + 1..HEADER_BYTES + 17].copy_from_slice(&world.entry.id.0);
    assert_eq!(
        world.refusal(&sealed),
        ChannelError::WrongSuite { expected: SuiteId::X25519, got: SuiteId::XWing }
    );
}

#[test]
fn refuses_to_seal_a_request_to_a_grant_key() {
    let mut world = World::new(SuiteId::X25519);
    let zero = UnixTime(0);
    let end = UnixTime(u64::MAX);
    let grant =
        SealKeyPair::generate(SuiteId::X25519, KeyRole::Grant, zero, end, &mut world.rng).entry();
    let sealing = seal_request(&world.header(), &[&grant], b"prompt", &mut world.rng);
    assert_eq!(
        sealing.unwrap_err(),
        ChannelError::WrongRole { expected: KeyRole::Worker, got: KeyRole::Grant }
    );
    let header = Header { role: KeyRole::Grant, ..world.header() };
    let sealing = seal_request(&header, &[&grant], b"prompt", &mut world.rng);
    assert!(matches!(sealing.unwrap_err(), ChannelError::WrongRole { .. }));
}

#[test]
fn refuses_a_worker_request_that_names_a_grant_key_of_the_ring() {
    let mut world = World::new(SuiteId::X25519);
    let pair = SealKeyPair::generate_hourly(SuiteId::X25519, KeyRole::Grant, NOW, &mut world.rng);
    let id = pair.entry().id;
    world.ring.rotate(pair, NOW).unwrap();
    let (mut sealed, _) = world.seal(b"prompt");
    sealed[HEADER_BYTES + 1..HEADER_BYTES + 17].copy_from_slice(&id.0);
    assert_eq!(
        world.refusal(&sealed),
        ChannelError::WrongRole { expected: KeyRole::Worker, got: KeyRole::Grant }
    );
}

#[test]
fn refuses_to_seal_to_an_entry_whose_id_is_not_its_hash() {
    let mut world = World::new(SuiteId::X25519);
    let mut entry = world.entry.clone();
    entry.id.0[0] ^= 1;
    let sealing = seal_request(&world.header(), &[&entry], b"prompt", &mut world.rng);
    assert!(matches!(sealing.unwrap_err(), ChannelError::KeyIdMismatch { .. }));
}

#[test]
fn refuses_to_seal_to_a_public_key_of_low_order() {
    let mut world = World::new(SuiteId::X25519);
    let mut entry = world.entry.clone();
    entry.public = vec![0; 32];
    entry.id = chrysalis_channel::key_id(SuiteId::X25519, &entry.public);
    let sealing = seal_request(&world.header(), &[&entry], b"prompt", &mut world.rng);
    assert_eq!(sealing.unwrap_err(), ChannelError::KeyMalformed { id: entry.id });
}

#[test]
fn refuses_a_request_for_another_worker() {
    let mut world = World::new(SuiteId::XWing);
    let (sealed, _) = World::with_seed(SuiteId::XWing, 2).seal(b"prompt");
    assert_eq!(world.refusal(&sealed), ChannelError::NoRecipient);
}

#[test]
fn refuses_a_request_whose_key_id_was_swapped_to_another_key() {
    for suite in SUITES {
        let mut world = World::new(suite);
        let (mut sealed, _) = World::with_seed(suite, 2).seal(b"prompt");
        sealed[HEADER_BYTES + 1..HEADER_BYTES + 17].copy_from_slice(&world.entry.id.0);
        assert_eq!(world.refusal(&sealed), ChannelError::Refused);
    }
}

#[test]
fn refuses_an_expired_key() {
    let mut world = World::new(SuiteId::X25519);
    let not_after = world.entry.not_after;
    world.now = not_after.millis();
    let (in_time, _) = world.seal(b"prompt");
    let (late, _) = world.seal(b"prompt");
    assert!(world.open(&in_time).is_ok());
    world.now = UnixMillis((not_after.0 + 1) * 1000);
    let now = UnixTime(not_after.0 + 1);
    let id = world.entry.id;
    assert_eq!(world.refusal(&late), ChannelError::KeyExpired { id, not_after, now });
    let sealing = seal_request(&world.header(), &[&world.entry], b"prompt", &mut world.rng);
    assert_eq!(sealing.unwrap_err(), ChannelError::KeyExpired { id, not_after, now });
}

#[test]
fn refuses_a_key_that_is_not_valid_yet() {
    let mut world = World::new(SuiteId::X25519);
    let not_before = world.entry.not_before;
    let (sealed, _) = world.seal(b"prompt");
    world.now = UnixMillis(not_before.0 * 1000 - 1);
    let (id, now) = (world.entry.id, UnixTime(not_before.0 - 1));
    // The sender's clock is right, so the request is also stale here; make that pass first.
    let header = Header { time: world.now, ..world.header() };
    let mut early = world.entry.clone();
    early.not_before = UnixTime(0);
    let (unstale, _) = seal_request(&header, &[&early], b"prompt", &mut world.rng).unwrap();
    assert_eq!(world.refusal(&unstale), ChannelError::KeyNotYetValid { id, not_before, now });
    assert!(matches!(world.refusal(&sealed), ChannelError::StaleTime { .. }));
    let sealing = seal_request(&header, &[&world.entry], b"prompt", &mut world.rng);
    assert_eq!(sealing.unwrap_err(), ChannelError::KeyNotYetValid { id, not_before, now });
}

#[test]
fn refuses_a_previous_key_after_its_ten_minutes() {
    let mut world = World::new(SuiteId::X25519);
    let next = SealKeyPair::generate_hourly(SuiteId::X25519, KeyRole::Worker, NOW, &mut world.rng);
    world.ring.rotate(next, NOW).unwrap();
    world.now = UnixTime(NOW.0 + 601).millis();
    let (sealed, _) = world.seal(b"prompt");
    assert!(matches!(world.refusal(&sealed), ChannelError::KeyExpired { .. }));
    world.ring.expire(UnixTime(NOW.0 + 601));
    assert_eq!(world.refusal(&sealed), ChannelError::NoRecipient);
}

#[test]
fn refuses_a_request_that_is_too_old() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    let (late, _) = world.seal(b"prompt");
    let time = world.now;
    world.now = UnixMillis(time.0 + MAX_CLOCK_SKEW_MILLIS);
    assert!(world.open(&sealed).is_ok());
    world.now = UnixMillis(time.0 + MAX_CLOCK_SKEW_MILLIS + 1);
    assert_eq!(world.refusal(&late), ChannelError::StaleTime { time, now: world.now });
}

#[test]
fn refuses_a_request_from_the_future() {
    let mut world = World::new(SuiteId::X25519);
    let now = world.now;
    let time = UnixMillis(now.0 + MAX_CLOCK_SKEW_MILLIS);
    let (sealed, _) = world.seal_with(&Header { time, ..world.header() }, b"prompt");
    assert!(world.open(&sealed).is_ok());
    let time = UnixMillis(time.0 + 1);
    let (sealed, _) = world.seal_with(&Header { time, ..world.header() }, b"prompt");
    assert_eq!(world.refusal(&sealed), ChannelError::StaleTime { time, now });
}

#[test]
fn refuses_a_request_for_another_network() {
    let mut world = World::new(SuiteId::X25519);
    let header = Header { network: NetworkId::MAINNET, ..world.header() };
    let (sealed, _) = world.seal_with(&header, b"prompt");
    assert_eq!(
        world.refusal(&sealed),
        ChannelError::WrongNetwork { expected: NetworkId::INSECURE_SIM, got: NetworkId::MAINNET }
    );
}

#[test]
fn refuses_a_request_for_another_model_root() {
    let mut world = World::new(SuiteId::X25519);
    let got = Digest([0x44; 32]);
    let (sealed, _) = world.seal_with(&Header { model_root: got, ..world.header() }, b"prompt");
    let expected = world.expect.model_root;
    assert_eq!(world.refusal(&sealed), ChannelError::WrongModelRoot { expected, got });
}

#[test]
fn refuses_a_request_sealed_under_another_policy() {
    let mut world = World::new(SuiteId::X25519);
    let got = Digest([0x44; 32]);
    let (sealed, _) = world.seal_with(&Header { policy_digest: got, ..world.header() }, b"prompt");
    let expected = world.expect.policy_digest;
    assert_eq!(world.refusal(&sealed), ChannelError::WrongPolicy { expected, got });
}

#[test]
fn refuses_a_replayed_request() {
    for suite in SUITES {
        let mut world = World::new(suite);
        let (sealed, _) = world.seal(b"prompt");
        world.open(&sealed).unwrap();
        assert_eq!(world.refusal(&sealed), ChannelError::Replayed);
        assert_eq!(world.replay.len(), 1);
    }
}

#[test]
fn refuses_a_replayed_request_after_the_clock_went_on_and_back() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    world.open(&sealed).unwrap();
    let start = world.now;
    world.now = UnixMillis(start.0 + 3_000_000);
    let (other, _) = world.seal(b"another");
    world.open(&other).unwrap();
    world.now = start;
    assert_eq!(world.refusal(&sealed), ChannelError::Replayed);
}

/// Opened under the first key, such a request would open again under the second one as soon as
/// the first is destroyed, and the carrier decides when to deliver it.
#[test]
fn refuses_a_request_that_names_two_keys_of_this_worker() {
    for suite in SUITES {
        let mut world = World::new(suite);
        let next = SealKeyPair::generate_hourly(suite, KeyRole::Worker, NOW, &mut world.rng);
        world.ring.rotate(next, NOW).unwrap();
        let entries = world.ring.entries(NOW);
        let stranger = World::with_seed(suite, 2).entry;
        let header = world.header();
        for order in [[0, 1], [1, 0]] {
            let both = [&entries[order[0]], &stranger, &entries[order[1]]];
            let (sealed, _) = seal_request(&header, &both, b"prompt", &mut world.rng).unwrap();
            let id = entries[order[1]].id;
            assert_eq!(world.refusal(&sealed), ChannelError::DuplicateRecipient { id });
        }
        assert!(world.replay.is_empty());
    }
}

#[test]
fn refuses_new_requests_when_the_replay_cache_is_full() {
    let mut world = World::new(SuiteId::X25519);
    world.replay = ReplayCache::new(2);
    let (first, _) = world.seal(b"first");
    world.open(&first).unwrap();
    let (second, _) = world.seal(b"second");
    world.open(&second).unwrap();
    let (third, _) = world.seal(b"third");
    assert_eq!(world.refusal(&third), ChannelError::ReplayCacheFull { capacity: 2 });
    assert_eq!(world.refusal(&first), ChannelError::Replayed, "nothing was evicted");
}

#[test]
fn a_full_replay_cache_refuses_the_key_it_is_full_of_and_no_other() {
    let mut world = World::new(SuiteId::X25519);
    world.replay = ReplayCache::new(2);
    let old = world.entry.clone();
    let (first, _) = world.seal(b"first");
    assert!(!world.replay.is_crowded(&old.id));
    world.open(&first).unwrap();
    assert!(world.replay.is_crowded(&old.id), "half of its room is taken");
    let (second, _) = world.seal(b"second");
    world.open(&second).unwrap();
    let pair = SealKeyPair::generate_hourly(SuiteId::X25519, KeyRole::Worker, NOW, &mut world.rng);
    let new = pair.entry();
    world.ring.rotate(pair, NOW).unwrap();
    // The old key lives for ten minutes more, and opens nothing that it has no room for.
    let (third, _) = world.seal(b"third");
    assert_eq!(world.refusal(&third), ChannelError::ReplayCacheFull { capacity: 2 });
    world.entry = new.clone();
    for body in [b"fourth", b"fifth!"] {
        assert!(!world.replay.is_crowded(&new.id) || body == b"fifth!");
        let (sealed, _) = world.seal(body);
        world.open(&sealed).unwrap();
    }
    let (sixth, _) = world.seal(b"sixth");
    assert_eq!(world.refusal(&sixth), ChannelError::ReplayCacheFull { capacity: 2 });
    assert_eq!(world.refusal(&first), ChannelError::Replayed);
    assert_eq!(world.replay.len(), 4);
}

#[test]
fn what_was_sealed_to_a_destroyed_key_is_forgotten() {
    let mut world = World::new(SuiteId::X25519);
    world.replay = ReplayCache::new(1);
    let (first, _) = world.seal(b"first");
    world.open(&first).unwrap();
    let pair = SealKeyPair::generate_hourly(SuiteId::X25519, KeyRole::Worker, NOW, &mut world.rng);
    world.entry = pair.entry();
    world.ring.rotate(pair, NOW).unwrap();
    world.ring.expire(UnixTime(NOW.0 + 601));
    let (second, _) = world.seal(b"second");
    world.open(&second).unwrap();
    assert_eq!(world.replay.len(), 1);
    assert_eq!(world.refusal(&first), ChannelError::NoRecipient);
}

#[test]
fn a_request_that_failed_to_open_takes_no_place_in_the_replay_cache() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    let mut damaged = sealed.clone();
    damaged[X25519_PREFIX + 10] ^= 1;
    assert_eq!(world.refusal(&damaged), ChannelError::Refused);
    assert!(world.replay.is_empty());
    assert!(world.open(&sealed).is_ok());
}

#[test]
fn refuses_a_request_larger_than_the_limit() {
    let mut world = World::new(SuiteId::X25519);
    let got = MAX_SEALED_REQUEST_BYTES + 1;
    assert_eq!(world.refusal(&vec![0; got]), ChannelError::RequestTooLarge { got });
    // At the limit the size is no reason; what is wrong then is the content.
    let at_limit = world.refusal(&vec![0; MAX_SEALED_REQUEST_BYTES]);
    assert!(matches!(at_limit, ChannelError::BadMagic { .. }));
}

#[test]
fn refuses_to_seal_a_body_larger_than_the_limit() {
    let mut world = World::new(SuiteId::X25519);
    let mut len = MAX_SEALED_REQUEST_BYTES;
    while sealed_request_bytes(SuiteId::X25519, 1, len) > MAX_SEALED_REQUEST_BYTES {
        len -= 1;
    }
    let (sealed, _) = world.seal(&vec![7; len]);
    assert!(sealed.len() <= MAX_SEALED_REQUEST_BYTES);
    assert_eq!(world.open(&sealed).unwrap().body.len(), len);
    let body = vec![7; len + 1];
    let sealing = seal_request(&world.header(), &[&world.entry], &body, &mut world.rng);
    assert!(matches!(sealing.unwrap_err(), ChannelError::RequestTooLarge { .. }));
}

#[test]
fn refuses_a_frame_larger_than_the_limit() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(b"prompt");
    let got = MAX_FRAME_BYTES + 16 + 1;
    let word = (got as u32 | 1 << 31).to_be_bytes();
    sealed[X25519_PREFIX..X25519_PREFIX + 4].copy_from_slice(&word);
    assert_eq!(world.refusal(&sealed), ChannelError::FrameTooLarge { got });
}

#[test]
fn refuses_a_frame_that_fits_no_bucket() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(b"prompt");
    sealed[X25519_PREFIX + 3] ^= 1;
    assert_eq!(world.refusal(&sealed), ChannelError::FrameSize { got: 273 });
}

#[test]
fn refuses_every_truncation() {
    for suite in SUITES {
        let mut world = World::new(suite);
        let (sealed, _) = world.seal(&vec![5; MAX_PAYLOAD_BYTES + 1]);
        let prefix = sealed.len() - SMALL_FRAME - (4 + MAX_FRAME_BYTES + 16);
        let cuts = (0..prefix + 64).chain((prefix..sealed.len()).step_by(997));
        for cut in cuts {
            let refusal = world.refusal(&sealed[..cut]);
            if cut < prefix {
                assert!(matches!(refusal, ChannelError::Malformed(_)), "cut at {cut}: {refusal}");
            } else {
                assert_eq!(refusal, ChannelError::Truncated, "cut at {cut}");
            }
        }
    }
}

#[test]
fn refuses_a_request_without_its_final_frame() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(&vec![5; MAX_PAYLOAD_BYTES + 1]);
    let cut = sealed.len() - SMALL_FRAME;
    assert_eq!(world.refusal(&sealed[..cut]), ChannelError::Truncated);
    // Marking the frame before as final does not help: the mark is authenticated.
    let mut marked = sealed[..cut].to_vec();
    marked[X25519_PREFIX] |= 0x80;
    assert_eq!(world.refusal(&marked), ChannelError::Refused);
}

#[test]
fn refuses_request_frames_out_of_order() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(&vec![5; 2 * MAX_PAYLOAD_BYTES + 1]);
    let frame = 4 + MAX_FRAME_BYTES + 16;
    let (first, second) = sealed[X25519_PREFIX..].split_at_mut(frame);
    first.swap_with_slice(&mut second[..frame]);
    assert_eq!(world.refusal(&sealed), ChannelError::Refused);
}

#[test]
fn refuses_a_duplicated_request_frame() {
    let mut world = World::new(SuiteId::X25519);
    let (mut sealed, _) = world.seal(&vec![5; MAX_PAYLOAD_BYTES + 1]);
    let frame = sealed[X25519_PREFIX..X25519_PREFIX + 4 + MAX_FRAME_BYTES + 16].to_vec();
    sealed.splice(X25519_PREFIX..X25519_PREFIX, frame);
    assert_eq!(world.refusal(&sealed), ChannelError::Refused);
}

#[test]
fn refuses_a_frame_after_the_final_frame() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    let again = [&sealed[..], &sealed[X25519_PREFIX..]].concat();
    assert_eq!(world.refusal(&again), ChannelError::AfterFinal);
}

#[test]
fn refuses_trailing_bytes() {
    let mut world = World::new(SuiteId::XWing);
    let (mut sealed, _) = world.seal(b"prompt");
    sealed.push(0);
    assert_eq!(world.refusal(&sealed), ChannelError::AfterFinal);
}

#[test]
fn refuses_a_request_from_which_a_candidate_was_removed() {
    let mut worlds: Vec<World> = (1..3).map(|s| World::with_seed(SuiteId::X25519, s)).collect();
    let entries: Vec<_> = worlds.iter().map(|w| w.entry.clone()).collect();
    let header = worlds[0].header();
    let both: Vec<_> = entries.iter().collect();
    let (sealed, _) = seal_request(&header, &both, b"prompt", &mut TestRng::new(9)).unwrap();
    let mut stripped = sealed.clone();
    stripped[HEADER_BYTES] = 1;
    stripped.drain(X25519_PREFIX..X25519_PREFIX + 96);
    assert_eq!(worlds[0].refusal(&stripped), ChannelError::Refused);
    assert!(worlds[0].open(&sealed).is_ok());
}

#[test]
fn refuses_a_request_in_which_another_candidates_part_was_altered() {
    let mut worlds: Vec<World> = (1..3).map(|s| World::with_seed(SuiteId::X25519, s)).collect();
    let entries: Vec<_> = worlds.iter().map(|w| w.entry.clone()).collect();
    let header = worlds[0].header();
    let both: Vec<_> = entries.iter().collect();
    let (mut sealed, _) = seal_request(&header, &both, b"prompt", &mut TestRng::new(9)).unwrap();
    sealed[X25519_PREFIX + 50] ^= 1;
    assert_eq!(worlds[0].refusal(&sealed), ChannelError::Refused);
    assert_eq!(worlds[1].refusal(&sealed), ChannelError::Refused);
}

#[test]
fn an_empty_ring_opens_nothing() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, _) = world.seal(b"prompt");
    let refusal = open_request(
        &KeyRing::new(),
        &mut world.replay,
        &world.expect,
        world.now,
        &sealed,
        &mut world.rng,
    );
    assert_eq!(refusal.unwrap_err(), ChannelError::NoRecipient);
}

#[test]
fn state_of_both_sides_may_move_between_threads() {
    fn movable<T: Send + Sync + 'static>() {}
    movable::<KeyRing>();
    movable::<ReplayCache>();
    movable::<chrysalis_channel::ResponseSealer>();
    movable::<chrysalis_channel::ResponseOpener>();
}

#[test]
fn debug_of_an_opened_request_shows_no_body() {
    let mut world = World::new(SuiteId::X25519);
    let (sealed, opener) = world.seal(b"canary");
    let text = format!("{:?} {opener:?}", world.open(&sealed).unwrap());
    assert!(!text.contains("canary") && text.contains("<redacted 6 bytes>"), "{text}");
}
