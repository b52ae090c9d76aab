//! Requests from the inside: frames that no honest sender makes, sealed with the right body key,
//! as a malicious sender or a second candidate could.

use core::convert::Infallible;

use chrysalis_wire::{KeyRole, RequestId};
use hpke::rand_core::{TryCryptoRng, TryRng};

use super::*;
use crate::PathId;

/// Every byte is 7, the body key included.
struct Sevens;

impl TryRng for Sevens {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0x0707_0707)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0x0707_0707_0707_0707)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        dst.fill(7);
        Ok(())
    }
}

impl TryCryptoRng for Sevens {}

/// Opens a request whose frames `make` sealed with the body key of the request.
fn open_with_frames(make: impl Fn(&mut FrameCipher, &mut Vec<u8>)) -> Result<(), ChannelError> {
    let now = UnixTime(1_000_000);
    let (suite, role) = (SuiteId::X25519, KeyRole::Worker);
    let pair = SealKeyPair::generate_hourly(suite, role, now, &mut Sevens);
    let expect = Expectation {
        network: NetworkId::INSECURE_SIM,
        model_root: Digest([1; 32]),
        policy_digest: Digest([2; 32]),
    };
    let header = Header {
        suite,
        role,
        network: expect.network,
        request_id: RequestId([3; 16]),
        time: now.millis(),
        path: PathId::ChatCompletions,
        model_root: expect.model_root,
        policy_digest: expect.policy_digest,
        max_tokens: 1,
    };
    let (mut bytes, _) = seal_request(&header, &[&pair.entry()], b"", &mut Sevens).unwrap();
    bytes.truncate(HEADER_BYTES + 1 + recipient_bytes(suite));
    let header_hash = sha256(&bytes[..HEADER_BYTES]);
    let mut frames =
        FrameCipher::derive(&sha256(&bytes), &[7; 32], REQUEST_LABELS, b"", header_hash).unwrap();
    make(&mut frames, &mut bytes);
    let mut ring = KeyRing::new();
    ring.rotate(pair, now).unwrap();
    let mut replay = ReplayCache::new(1);
    open_request(&ring, &mut replay, &expect, now.millis(), &bytes, &mut Sevens).map(|_| ())
}

#[test]
fn opens_any_cutting_of_a_body() {
    let opened = open_with_frames(|frames, out| {
        frames.seal(FrameKind::Body, b"", false, out).unwrap();
        frames.seal(FrameKind::Body, b"one", false, out).unwrap();
        frames.seal(FrameKind::Body, b"", true, out).unwrap();
    });
    assert_eq!(opened, Ok(()));
}

#[test]
fn refuses_a_request_frame_that_is_not_a_body() {
    for kind in [FrameKind::Chunk, FrameKind::Error, FrameKind::Receipt, FrameKind::KeepAlive] {
        let opened = open_with_frames(|frames, out| {
            frames.seal(FrameKind::Body, b"one", false, out).unwrap();
            frames.seal(kind, b"two", true, out).unwrap();
        });
        assert_eq!(opened, Err(ChannelError::Refused), "{kind:?}");
    }
}

#[test]
fn refuses_a_request_with_one_bad_frame_among_good_ones() {
    for bad in 0..3 {
        let opened = open_with_frames(|frames, out| {
            for n in 0..3 {
                frames.seal(FrameKind::Body, b"piece", n == 2, out).unwrap();
                if n == bad {
                    *out.last_mut().unwrap() ^= 1;
                }
            }
        });
        assert_eq!(opened, Err(ChannelError::Refused), "frame {bad}");
    }
}
