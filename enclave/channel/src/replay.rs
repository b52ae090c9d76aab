//! The replay cache: which sealed requests were opened already. It trusts no clock: an entry is
//! forgotten only when the key it was sealed to is destroyed and can open nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use chrysalis_wire::KeyId;

use crate::error::ChannelError;
use crate::ring::KeyRing;

/// Digests of opened requests, bounded for each key. When there is no room, requests are refused, never
/// evicted: an evicted entry could be replayed. Anybody can fill the room of a key that is public;
/// whoever holds the keys makes a new one once one [is crowded](Self::is_crowded).
#[derive(Debug)]
pub struct ReplayCache {
    capacity: usize,
    seen: BTreeMap<KeyId, BTreeSet<[u8; 32]>>,
}

impl ReplayCache {
    /// A cache for at most `capacity` requests of each key; [`DEFAULT_REPLAY_CAPACITY`] is a good value.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, seen: BTreeMap::new() }
    }

    /// Requests remembered, of all keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.values().map(BTreeSet::len).sum()
    }

    /// Whether no request is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether half of the room for requests to `key` is taken: time for a new key, while this one still
    /// opens what is on its way.
    #[must_use]
    pub fn is_crowded(&self, key: &KeyId) -> bool {
        self.seen.get(key).is_some_and(|digests| digests.len() >= self.capacity.div_ceil(2))
    }

    /// Refuses a request seen before, and any request to a key whose room is full.
    pub(crate) fn check(
        &mut self,
        ring: &KeyRing,
        key: &KeyId,
        enc_digest: &[u8; 32],
    ) -> Result<(), ChannelError> {
        let Some(digests) = self.seen.get(key) else {
            // What was sealed to keys that are destroyed opens no more. So there are never more keys here
            // than the ring holds.
            self.seen.retain(|id, _| ring.contains(id));
            return if self.capacity > 0 { Ok(()) } else { Err(self.full()) };
        };
        if digests.contains(enc_digest) {
            return Err(ChannelError::Replayed);
        }
        if digests.len() >= self.capacity {
            return Err(self.full());
        }
        Ok(())
    }

    const fn full(&self) -> ChannelError {
        ChannelError::ReplayCacheFull { capacity: self.capacity }
    }

    /// Remembers a request that was opened. Only opened requests are remembered, so bytes that
    /// were never sealed to this worker cannot fill the cache.
    pub(crate) fn remember(&mut self, key: KeyId, enc_digest: [u8; 32]) {
        self.seen.entry(key).or_default().insert(enc_digest);
    }
}

/// Requests remembered at most of one key, about 13 MB: 62 per second over the 70 minutes it lives. A
/// ring holds four keys that open requests at most, two suites before and after a rotation.
pub const DEFAULT_REPLAY_CAPACITY: usize = 1 << 18;
