//! `seal/1`: what a client seals only the attested worker opens, and what the worker answers only
//! that client opens. Everything between the two, host and proxy included, is the attacker.
//!
//! The crate is sans-IO: bytes, time and randomness are arguments. A client calls
//! [`seal_request`] with keys of an *appraised* keyset and feeds the answer to the
//! [`ResponseOpener`] it gets; a worker keeps a [`KeyRing`] and a [`ReplayCache`] and calls
//! [`open_request`], then answers through the [`ResponseSealer`] it gets. Model keys travel by
//! [`seal_grant`] and [`open_grant`].
//!
//! ```
//! use chrysalis_channel::*;
//! use chrysalis_wire::{Digest, KeyRole, NetworkId, RequestId, SuiteId, UnixTime};
//!
//! let (now, mut rng) = (UnixTime(1_800_000_000), OsRandom);
//! let expect = Expectation {
//!     network: NetworkId::INSECURE_SIM,
//!     model_root: Digest([1; 32]),
//!     policy_digest: Digest([2; 32]),
//! };
//! // Worker: one key pair, attested in the keyset.
//! let pair = SealKeyPair::generate_hourly(SuiteId::XWing, KeyRole::Worker, now, &mut rng);
//! let entry = pair.entry();
//! let mut ring = KeyRing::new();
//! ring.rotate(pair, now)?;
//! let mut replay = ReplayCache::new(DEFAULT_REPLAY_CAPACITY);
//! // Client: seals after it appraised the keyset.
//! let header = Header {
//!     suite: entry.suite,
//!     role: entry.role,
//!     network: expect.network,
//!     request_id: RequestId([3; 16]),
//!     time: now.millis(),
//!     path: PathId::ChatCompletions,
//!     model_root: expect.model_root,
//!     policy_digest: expect.policy_digest,
//!     max_tokens: 64,
//! };
//! let (sealed, mut opener) = seal_request(&header, &[&entry], b"{}", &mut rng)?;
//! // Worker: opens and answers.
//! let request = open_request(&ring, &mut replay, &expect, now.millis(), &sealed, &mut rng)?;
//! let mut sealer = request.sealer;
//! let mut answer = sealer.prefix();
//! answer.extend(sealer.frame(FrameKind::Body, b"{\"ok\":true}", true)?);
//! // Client: only a finished stream is an answer.
//! let frames = opener.push(&answer)?;
//! opener.finish()?;
//! assert_eq!(frames[0].payload.expose(), b"{\"ok\":true}");
//! # Ok::<(), ChannelError>(())
//! ```
//!
//! The specification follows; it is precise enough for a second implementation, and there is one
//! in Python in `tests/python/seal1.py`.
//!
#![doc = include_str!("../SPEC.md")]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod error;
mod frame;
mod grant;
mod header;
mod kem;
mod keys;
mod random;
mod replay;
mod request;
mod response;
mod ring;
#[cfg(test)]
mod wycheproof_tests;

pub use hpke::rand_core;

pub use error::ChannelError;
pub use frame::{BUCKETS, Frame, FrameKind, MAX_FRAMES, MAX_PAYLOAD_BYTES};
pub use grant::{GRANT_KEY_BYTES, GrantRequest, open_grant, seal_grant};
pub use header::{HEADER_BYTES, Header, PathId, SEAL_VERSION};
pub use keys::{KEY_GRACE_SECONDS, KEY_ROTATE_SECONDS, SealKeyPair, check_entry, key_id};
pub use random::OsRandom;
pub use replay::{DEFAULT_REPLAY_CAPACITY, ReplayCache};
pub use request::{
    Expectation, MAX_CLOCK_SKEW_MILLIS, MAX_RECIPIENTS, OpenedRequest, open_request, seal_request,
    sealed_request_bytes,
};
pub use response::{RESPONSE_PREFIX_BYTES, ResponseOpener, ResponseSealer};
pub use ring::KeyRing;
