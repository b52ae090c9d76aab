//! The replay cache: which sealed requests were opened already. It trusts no clock: an entry is
//! forgotten only when the key it was sealed to is destroyed and can open nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use chrysalis_wire::KeyId;

use crate::error::ChannelError;
use crate::ring::KeyRing;

/// Digests of opened requests, bounded. When it is full, requests are refused, never evicted: an
/// evicted entry could be replayed.
#[derive(Debug)]
pub struct ReplayCache {
    capacity: usize,
    len: usize,
    seen: BTreeMap<KeyId, BTreeSet<[u8; 32]>>,
}

impl ReplayCache {
    /// A cache for at most `capacity` requests; [`DEFAULT_REPLAY_CAPACITY`] is a good value.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, len: 0, seen: BTreeMap::new() }
    }

    /// Requests remembered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no request is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Refuses a request seen before, and any request when the cache is full of live entries.
    pub(crate) fn check(
        &mut self,
        ring: &KeyRing,
        key: &KeyId,
        enc_digest: &[u8; 32],
    ) -> Result<(), ChannelError> {
        if self.seen.get(key).is_some_and(|digests| digests.contains(enc_digest)) {
            return Err(ChannelError::Replayed);
        }
        if self.len >= self.capacity {
            // The outer map has as many keys as the ring ever held at once, so this is cheap.
            self.seen.retain(|id, _| ring.contains(id));
            self.len = self.seen.values().map(BTreeSet::len).sum();
        }
        if self.len >= self.capacity {
            return Err(ChannelError::ReplayCacheFull { capacity: self.capacity });
        }
        Ok(())
    }

    /// Remembers a request that was opened. Only opened requests are remembered, so bytes that
    /// were never sealed to this worker cannot fill the cache.
    pub(crate) fn remember(&mut self, key: KeyId, enc_digest: [u8; 32]) {
        if self.seen.entry(key).or_default().insert(enc_digest) {
            self.len = self.len.saturating_add(1);
        }
    }
}

/// Requests remembered at most: 31 per second over the 70 minutes a key lives, about 10 MB.
pub const DEFAULT_REPLAY_CAPACITY: usize = 1 << 17;
