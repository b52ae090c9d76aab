//! The sealed channel alone, both ends in this process: a request sealed and opened, one frame of
//! the answer sealed and opened.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrysalis_channel::{
    DEFAULT_REPLAY_CAPACITY, Expectation, FrameKind, Header, KeyRing, OsRandom, PathId,
    ReplayCache, SealKeyPair, open_request, seal_request,
};
use chrysalis_wire::{Digest, KeyRole, NetworkId, RequestId, SealKeyEntry, SuiteId, UnixMillis};

use crate::report::{Better, Comparison};
use crate::request::{millis, now};

/// Both suites, in turn.
pub(crate) fn measure(rounds: usize) -> Result<Comparison> {
    crate::progress("the sealed channel alone");
    let mut ends = [End::new(SuiteId::XWing)?, End::new(SuiteId::X25519)?];
    let candidates = ["X-Wing: seal and open", "X25519: seal and open"];
    let mut out = Comparison::new("Request: the seal alone", "ms", Better::Less, candidates)
        .ratio(0, 1)
        .note("both ends: a request of 1 KiB and one frame of its answer, without TLS");
    for round in 0..=rounds {
        let mut times = [Duration::ZERO; 2];
        for turn in 0..EXCHANGES {
            for (end, time) in ends.iter_mut().zip(&mut times) {
                *time += end.exchange(turn)?;
            }
        }
        if round > 0 {
            out.round(&times.map(|t| millis(t) / f64::from(EXCHANGES)));
        }
    }
    Ok(out)
}

/// The worker's end: its key, and what it has seen.
struct End {
    entry: SealKeyEntry,
    ring: KeyRing,
    replay: ReplayCache,
    expect: Expectation,
    now: UnixMillis,
}

impl End {
    fn new(suite: SuiteId) -> Result<Self> {
        let now = now();
        let seconds = now.seconds();
        let pair = SealKeyPair::generate_hourly(suite, KeyRole::Worker, seconds, &mut OsRandom);
        let (entry, mut ring) = (pair.entry(), KeyRing::new());
        ring.rotate(pair, seconds)?;
        let expect = Expectation {
            network: NetworkId::INSECURE_SIM,
            model_root: Digest([1; 32]),
            policy_digest: Digest([2; 32]),
        };
        Ok(Self { entry, ring, replay: ReplayCache::new(DEFAULT_REPLAY_CAPACITY), expect, now })
    }

    fn exchange(&mut self, turn: u32) -> Result<Duration> {
        let body = [b'x'; 1024];
        let header = Header {
            suite: self.entry.suite,
            role: self.entry.role,
            network: self.expect.network,
            request_id: RequestId(u128::from(turn).to_be_bytes()),
            time: self.now,
            path: PathId::ChatCompletions,
            model_root: self.expect.model_root,
            policy_digest: self.expect.policy_digest,
            max_tokens: 1,
        };
        let started = Instant::now();
        let (sealed, mut opener) = seal_request(&header, &[&self.entry], &body, &mut OsRandom)?;
        let (ring, replay) = (&self.ring, &mut self.replay);
        let opened = open_request(ring, replay, &self.expect, self.now, &sealed, &mut OsRandom)?;
        let mut sealer = opened.sealer;
        let mut answer = sealer.prefix();
        answer.extend(sealer.frame(FrameKind::Chunk, b"{}", true)?);
        let frames = opener.push(&answer)?;
        let time = started.elapsed();
        opener.finish()?;
        ensure!(opened.body.expose() == body && frames.len() == 1, "the channel garbles");
        Ok(time)
    }
}

/// Exchanges per round: one takes well under a millisecond.
const EXCHANGES: u32 = 50;
