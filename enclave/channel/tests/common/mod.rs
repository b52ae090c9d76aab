//! A worker with its keys, a client's header and a repeatable generator, for the channel tests.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use core::convert::Infallible;

use chrysalis_channel::rand_core::{TryCryptoRng, TryRng};
use chrysalis_channel::{
    ChannelError, Expectation, Header, KeyRing, OpenedRequest, PathId, ReplayCache, ResponseOpener,
    SealKeyPair, open_request, seal_request,
};
use chrysalis_wire::{
    Digest, KeyRole, NetworkId, RequestId, SealKeyEntry, SuiteId, UnixMillis, UnixTime,
};
use sha2::Digest as _;

/// SHA-256 in counter mode: repeatable, for tests only.
pub struct TestRng {
    seed: u64,
    counter: u64,
}

impl TestRng {
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }
}

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(32) {
            let block = sha2::Sha256::new()
                .chain_update(b"test rng")
                .chain_update(self.seed.to_be_bytes())
                .chain_update(self.counter.to_be_bytes())
                .finalize();
            self.counter += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

/// Gives out exactly the bytes it was made of, and panics when asked for more.
pub struct ListRng(pub Vec<u8>);

impl TryRng for ListRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("the channel draws bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("the channel draws bytes")
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(dst.len());
        dst.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for ListRng {}

/// One worker and what a client knows of it.
pub struct World {
    pub rng: TestRng,
    pub ring: KeyRing,
    pub replay: ReplayCache,
    pub expect: Expectation,
    pub now: UnixMillis,
    /// The worker's current key.
    pub entry: SealKeyEntry,
}

impl World {
    /// A worker with one key of `suite`.
    pub fn new(suite: SuiteId) -> Self {
        Self::with_seed(suite, 1)
    }

    /// Another worker of the same model, with other keys.
    pub fn with_seed(suite: SuiteId, seed: u64) -> Self {
        let mut rng = TestRng::new(seed);
        let pair = SealKeyPair::generate_hourly(suite, KeyRole::Worker, NOW, &mut rng);
        let entry = pair.entry();
        let mut ring = KeyRing::new();
        ring.rotate(pair, NOW).unwrap();
        let expect = Expectation {
            network: NetworkId::INSECURE_SIM,
            model_root: Digest([0x11; 32]),
            policy_digest: Digest([0x22; 32]),
        };
        Self { rng, ring, replay: ReplayCache::new(1000), expect, now: NOW.millis(), entry }
    }

    /// The header a client makes for this worker.
    pub fn header(&self) -> Header {
        Header {
            suite: self.entry.suite,
            role: KeyRole::Worker,
            network: self.expect.network,
            request_id: RequestId([0x33; 16]),
            time: self.now,
            path: PathId::ChatCompletions,
            model_root: self.expect.model_root,
            policy_digest: self.expect.policy_digest,
            max_tokens: 256,
        }
    }

    /// Seals `body` to this worker.
    pub fn seal(&mut self, body: &[u8]) -> (Vec<u8>, ResponseOpener) {
        let header = self.header();
        self.seal_with(&header, body)
    }

    /// Seals `body` under a header of the test's choice.
    pub fn seal_with(&mut self, header: &Header, body: &[u8]) -> (Vec<u8>, ResponseOpener) {
        seal_request(header, &[&self.entry], body, &mut self.rng).unwrap()
    }

    /// Opens a request as this worker.
    pub fn open(&mut self, bytes: &[u8]) -> Result<OpenedRequest, ChannelError> {
        open_request(&self.ring, &mut self.replay, &self.expect, self.now, bytes, &mut self.rng)
    }

    /// Why this worker refuses `bytes`.
    pub fn refusal(&mut self, bytes: &[u8]) -> ChannelError {
        self.open(bytes).expect_err("the worker opened what it must refuse")
    }
}

/// When the worker's key was made.
pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// Header, count, and one X25519 recipient: where the first frame of such a request begins.
pub const X25519_PREFIX: usize = 105 + 1 + 16 + 32 + 48;

/// The smallest frame on the wire: length word, 256 bytes, tag.
pub const SMALL_FRAME: usize = 4 + 256 + 16;
