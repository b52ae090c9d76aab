//! One client and one worker of the channel with fixed keys and fixed randomness: every run seals
//! the same bytes, so that what opens can be compared with what was sealed.

use std::convert::Infallible;
use std::sync::OnceLock;

use chrysalis_channel::rand_core::{TryCryptoRng, TryRng};
use chrysalis_channel::{
    ChannelError, Expectation, FrameKind, GrantRequest, Header, KeyRing, OpenedRequest, PathId,
    ReplayCache, ResponseOpener, SealKeyPair, open_request, seal_grant, seal_request,
};
use chrysalis_wire::{
    Digest, KeyRole, NetworkId, RequestId, SealKeyEntry, SecretBytes, SuiteId, UnixTime,
};

/// Every byte is the same.
pub struct Same(pub u8);

impl TryRng for Same {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_ne_bytes([self.0; 4]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_ne_bytes([self.0; 8]))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Same {}

/// The worker and what a client knows of it.
pub struct Pair {
    /// The worker's keys.
    pub ring: KeyRing,
    worker: SealKeyEntry,
    grant: SealKeyEntry,
}

/// The pair all targets use.
pub fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let mut ring = KeyRing::new();
        let mut key = |role| {
            let mut random = Same(role as u8);
            let pair = SealKeyPair::generate_hourly(SuiteId::X25519, role, NOW, &mut random);
            let entry = pair.entry();
            ring.rotate(pair, NOW).expect("there is room");
            entry
        };
        let (worker, grant) = (key(KeyRole::Worker), key(KeyRole::Grant));
        Pair { ring, worker, grant }
    })
}

impl Pair {
    /// Seals `body` and returns the opener of its answer.
    pub fn seal(&self, body: &[u8]) -> (Vec<u8>, ResponseOpener) {
        let header = Header {
            suite: self.worker.suite,
            role: KeyRole::Worker,
            network: NetworkId::INSECURE_SIM,
            request_id: RequestId([3; 16]),
            time: NOW.millis(),
            path: PathId::ChatCompletions,
            model_root: ROOT,
            policy_digest: DIGEST,
            max_tokens: 1,
        };
        seal_request(&header, &[&self.worker], body, &mut Same(7)).expect("an honest request")
    }

    /// Opens a request as the worker, which has seen no other.
    pub fn open(&self, bytes: &[u8]) -> Result<OpenedRequest, ChannelError> {
        let expect = Expectation {
            network: NetworkId::INSECURE_SIM,
            model_root: ROOT,
            policy_digest: DIGEST,
        };
        let mut replay = ReplayCache::new(1);
        open_request(&self.ring, &mut replay, &expect, NOW.millis(), bytes, &mut Same(7))
    }

    /// The worker's answer to `seal(b"")`: two frames.
    pub fn answer(&self) -> Vec<u8> {
        let mut sealer = self.open(&self.seal(b"").0).expect("an honest request").sealer;
        let mut out = sealer.prefix();
        for (kind, last) in [(FrameKind::Chunk, false), (FrameKind::Receipt, true)] {
            out.extend(sealer.frame(kind, b"payload", last).expect("a small frame"));
        }
        out
    }

    /// A grant to the worker's grant key.
    pub fn grant(&self) -> Vec<u8> {
        let key = SecretBytes::new(vec![9; 32]);
        let request = GrantRequest { model_root: ROOT, key };
        seal_grant(&self.grant, &DIGEST, &request, NOW, &mut Same(7)).expect("an honest grant")
    }
}

/// When everything happens.
pub const NOW: UnixTime = UnixTime(1_800_000_000);
/// The model.
pub const ROOT: Digest = Digest([1; 32]);
/// The policy, and the keyset of grants.
pub const DIGEST: Digest = Digest([2; 32]);
