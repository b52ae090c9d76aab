//! The keys a worker holds: per suite and role the current one and, for ten minutes after a
//! rotation, the previous one. Destroyed keys are wiped; nothing sealed to them opens again.

use chrysalis_wire::limits::MAX_SEAL_KEYS;
use chrysalis_wire::{KeyId, KeyRole, SealKeyEntry, SuiteId, UnixTime};

use crate::error::ChannelError;
use crate::keys::{KEY_GRACE_SECONDS, KEY_ROTATE_SECONDS, SealKeyPair, check_validity};

/// Current and previous keys of one worker.
#[derive(Debug, Default)]
pub struct KeyRing {
    /// Current keys first, in the order their slots were made; previous keys after them.
    keys: Vec<RingKey>,
}

#[derive(Debug)]
struct RingKey {
    pair: SealKeyPair,
    /// Last second this ring uses the key: its own `not_after`, or less once it was replaced.
    until: UnixTime,
    current: bool,
    since: UnixTime,
}

impl KeyRing {
    /// A ring without keys.
    #[must_use]
    pub const fn new() -> Self {
        Self { keys: Vec::new() }
    }

    /// Makes `new` the current key of its suite and role. The key it replaces becomes the
    /// previous one and is used for [`KEY_GRACE_SECONDS`] more; the previous one before that is
    /// destroyed, and so is every expired key.
    ///
    /// # Errors
    /// [`ChannelError::KeyExpired`] or [`ChannelError::KeyNotYetValid`] for a key that is not
    /// valid at `now`; [`ChannelError::TooManyKeys`] when a new suite and role would need more
    /// keys than a keyset can name. The ring is then unchanged, apart from expired keys.
    pub fn rotate(&mut self, new: SealKeyPair, now: UnixTime) -> Result<(), ChannelError> {
        self.expire(now);
        let entry = new.public_entry();
        check_validity(entry.id, entry.not_before, entry.not_after, now)?;
        let slot = (entry.suite, entry.role);
        let until = entry.not_after;
        let same = |k: &RingKey| (k.pair.public_entry().suite, k.pair.public_entry().role) == slot;
        let others = self.keys.iter().filter(|k| k.current && !same(k)).count();
        // Each slot may come to hold a current and a previous key.
        if others.saturating_add(1).saturating_mul(2) > MAX_SEAL_KEYS {
            return Err(ChannelError::TooManyKeys);
        }
        self.keys.retain(|k| !same(k) || k.current);
        if let Some(old) = self.keys.iter_mut().find(|k| same(k)) {
            old.current = false;
            old.until = old.until.min(UnixTime(now.0.saturating_add(KEY_GRACE_SECONDS)));
        }
        self.keys.push(RingKey { pair: new, until, current: true, since: now });
        self.keys.sort_by_key(|k| !k.current);
        Ok(())
    }

    /// Destroys every key whose last second has passed; returns how many. Call it at least once
    /// a minute, so that forward secrecy does not wait for the next rotation.
    pub fn expire(&mut self, now: UnixTime) -> usize {
        let before = self.keys.len();
        self.keys.retain(|k| now <= k.until);
        before.saturating_sub(self.keys.len())
    }

    /// Public halves of the keys usable at `now`, current ones first, for the keyset. A replaced
    /// key appears with the `not_after` this ring will honour.
    #[must_use]
    pub fn entries(&self, now: UnixTime) -> Vec<SealKeyEntry> {
        self.keys
            .iter()
            .filter(|k| k.check(now).is_ok())
            .map(|k| SealKeyEntry { not_after: k.until, ..k.pair.entry() })
            .collect()
    }

    /// Whether a current key is an hour old, has expired, or there is none: make new keys, call
    /// [`KeyRing::rotate`] for each and attest the new keyset.
    #[must_use]
    pub fn rotation_due(&self, now: UnixTime) -> bool {
        let fresh =
            |k: &RingKey| now <= k.until && now.0.saturating_sub(k.since.0) < KEY_ROTATE_SECONDS;
        let mut current = self.keys.iter().filter(|k| k.current).peekable();
        current.peek().is_none() || !current.all(fresh)
    }

    /// Suite, role and id of every current key.
    pub fn current(&self) -> impl Iterator<Item = (SuiteId, KeyRole, KeyId)> + '_ {
        let current = self.keys.iter().filter(|k| k.current).map(|k| k.pair.public_entry());
        current.map(|entry| (entry.suite, entry.role, entry.id))
    }

    /// Whether the ring still holds the key, expired or not.
    #[must_use]
    pub fn contains(&self, id: &KeyId) -> bool {
        self.keys.iter().any(|k| k.pair.public_entry().id == *id)
    }

    /// The key, if it may be used at `now`. `None` when the ring does not hold it.
    pub(crate) fn usable(
        &self,
        id: &KeyId,
        now: UnixTime,
    ) -> Option<Result<&SealKeyPair, ChannelError>> {
        let key = self.keys.iter().find(|k| k.pair.public_entry().id == *id)?;
        Some(key.check(now).map(|()| &key.pair))
    }
}

impl RingKey {
    fn check(&self, now: UnixTime) -> Result<(), ChannelError> {
        let entry = self.pair.public_entry();
        check_validity(entry.id, entry.not_before, self.until, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;

    fn hourly(role: KeyRole, now: u64) -> SealKeyPair {
        SealKeyPair::generate_hourly(SuiteId::X25519, role, UnixTime(now), &mut OsRandom)
    }

    #[test]
    fn keeps_the_previous_key_for_ten_minutes_and_no_longer() {
        let mut ring = KeyRing::new();
        let first = hourly(KeyRole::Worker, 1000);
        let id = first.entry().id;
        ring.rotate(first, UnixTime(1000)).unwrap();
        ring.rotate(hourly(KeyRole::Worker, 2000), UnixTime(2000)).unwrap();
        assert!(ring.usable(&id, UnixTime(2600)).unwrap().is_ok());
        assert_eq!(
            ring.usable(&id, UnixTime(2601)).unwrap().unwrap_err(),
            ChannelError::KeyExpired { id, not_after: UnixTime(2600), now: UnixTime(2601) }
        );
        assert_eq!(ring.expire(UnixTime(2600)), 0);
        assert_eq!(ring.expire(UnixTime(2601)), 1);
        assert!(!ring.contains(&id));
    }

    #[test]
    fn a_second_rotation_destroys_the_key_before_the_previous_one() {
        let mut ring = KeyRing::new();
        let first = hourly(KeyRole::Worker, 1000);
        let id = first.entry().id;
        ring.rotate(first, UnixTime(1000)).unwrap();
        for now in [1001, 1002] {
            ring.rotate(hourly(KeyRole::Worker, now), UnixTime(now)).unwrap();
        }
        assert!(!ring.contains(&id));
        assert_eq!(ring.entries(UnixTime(1002)).len(), 2);
    }

    #[test]
    fn rotating_one_role_leaves_the_other_alone() {
        let mut ring = KeyRing::new();
        let grant = hourly(KeyRole::Grant, 1000);
        let id = grant.entry().id;
        ring.rotate(grant, UnixTime(1000)).unwrap();
        ring.rotate(hourly(KeyRole::Worker, 1000), UnixTime(1000)).unwrap();
        ring.rotate(hourly(KeyRole::Worker, 1500), UnixTime(1500)).unwrap();
        let entries = ring.entries(UnixTime(1500));
        assert_eq!(entries.len(), 3);
        assert!(entries[..2].iter().any(|e| e.id == id), "current keys come first");
        assert_eq!(entries[2].not_after, UnixTime(2100), "the previous key is cut short");
    }

    #[test]
    fn rotation_is_due_after_an_hour_and_for_an_empty_ring() {
        let mut ring = KeyRing::new();
        assert!(ring.rotation_due(UnixTime(1000)));
        ring.rotate(hourly(KeyRole::Worker, 1000), UnixTime(1000)).unwrap();
        assert!(!ring.rotation_due(UnixTime(4599)));
        assert!(ring.rotation_due(UnixTime(4600)));
    }

    #[test]
    fn rotation_is_due_once_a_current_key_has_expired_before_its_hour() {
        let mut ring = KeyRing::new();
        let (suite, role) = (SuiteId::X25519, KeyRole::Worker);
        let short =
            SealKeyPair::generate(suite, role, UnixTime(1000), UnixTime(1060), &mut OsRandom);
        ring.rotate(short, UnixTime(1000)).unwrap();
        assert!(!ring.rotation_due(UnixTime(1060)));
        assert!(ring.rotation_due(UnixTime(1061)));
    }

    #[test]
    fn an_expired_key_is_not_offered_even_before_it_is_destroyed() {
        let mut ring = KeyRing::new();
        let first = hourly(KeyRole::Worker, 1000);
        let id = first.entry().id;
        ring.rotate(first, UnixTime(1000)).unwrap();
        assert_eq!(ring.entries(UnixTime(5200)).len(), 1);
        assert!(ring.entries(UnixTime(5201)).is_empty());
        assert!(ring.contains(&id));
    }

    #[test]
    fn a_rotation_destroys_the_expired_keys_of_every_slot() {
        let mut ring = KeyRing::new();
        let grant = hourly(KeyRole::Grant, 1000);
        let id = grant.entry().id;
        ring.rotate(grant, UnixTime(1000)).unwrap();
        ring.rotate(hourly(KeyRole::Worker, 5201), UnixTime(5201)).unwrap();
        assert!(!ring.contains(&id));
    }

    #[test]
    fn refuses_a_new_key_that_is_not_valid_now() {
        let mut ring = KeyRing::new();
        let refused = ring.rotate(hourly(KeyRole::Worker, 1000), UnixTime(9_000));
        assert!(matches!(refused, Err(ChannelError::KeyExpired { .. })));
        let refused = ring.rotate(hourly(KeyRole::Worker, 9000), UnixTime(1_000));
        assert!(matches!(refused, Err(ChannelError::KeyNotYetValid { .. })));
        assert!(ring.entries(UnixTime(1000)).is_empty());
    }

    #[test]
    fn refuses_a_slot_more_than_a_keyset_can_name() {
        let mut ring = KeyRing::new();
        let now = UnixTime(1000);
        let mut slots = Vec::new();
        for suite in [SuiteId::X25519, SuiteId::XWing] {
            for role in [KeyRole::Worker, KeyRole::Proxy, KeyRole::Grant] {
                slots.push(SealKeyPair::generate_hourly(suite, role, now, &mut OsRandom));
            }
        }
        let results: Vec<_> = slots.into_iter().map(|k| ring.rotate(k, now)).collect();
        assert!(results[..4].iter().all(Result::is_ok));
        assert_eq!(results[4], Err(ChannelError::TooManyKeys));
        assert_eq!(results[5], Err(ChannelError::TooManyKeys));
    }
}
