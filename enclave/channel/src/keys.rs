//! Seal keys: the pair a worker holds and the checks a sender makes on the public half. Secret
//! keys exist only inside [`SealKeyPair`] and cannot be read, copied or written from it.

use core::fmt;

use chrysalis_wire::{KeyId, KeyRole, SealKeyEntry, SuiteId, UnixTime};
use hpke::rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};

use crate::error::ChannelError;
use crate::kem::{self, KemSecret};
use crate::request::MAX_CLOCK_SKEW_MILLIS;

/// A seal key with its secret half. The secret is wiped when the pair is dropped.
pub struct SealKeyPair {
    pub(crate) secret: KemSecret,
    entry: SealKeyEntry,
}

impl SealKeyPair {
    /// Makes a key pair from 32 bytes of `rng` (SPEC §6), valid from `not_before` through
    /// `not_after`.
    #[must_use]
    pub fn generate(
        suite: SuiteId,
        role: KeyRole,
        not_before: UnixTime,
        not_after: UnixTime,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let (secret, public) = KemSecret::generate(suite, rng);
        let id = key_id(suite, &public);
        Self { secret, entry: SealKeyEntry { id, suite, role, not_before, not_after, public } }
    }

    /// Makes a key pair with the validity of the hourly rotation (SPEC §6): usable at once, also
    /// by a sender whose clock is behind, and until its time as previous key is over.
    #[must_use]
    pub fn generate_hourly(
        suite: SuiteId,
        role: KeyRole,
        now: UnixTime,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let not_before = UnixTime(now.0.saturating_sub(MAX_CLOCK_SKEW_MILLIS / 1000));
        let not_after =
            UnixTime(now.0.saturating_add(KEY_ROTATE_SECONDS).saturating_add(KEY_GRACE_SECONDS));
        Self::generate(suite, role, not_before, not_after, rng)
    }

    /// The public half, as it goes into the keyset.
    #[must_use]
    pub fn entry(&self) -> SealKeyEntry {
        self.entry.clone()
    }

    pub(crate) const fn public_entry(&self) -> &SealKeyEntry {
        &self.entry
    }
}

impl fmt::Debug for SealKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKeyPair({}, {:?}, {:?})", self.entry.id, self.entry.suite, self.entry.role)
    }
}

/// The id of a public key: the first 16 bytes of `SHA-256(suite u16 || public)` (SPEC §6).
#[must_use]
pub fn key_id(suite: SuiteId, public: &[u8]) -> KeyId {
    let hash = Sha256::new().chain_update((suite as u16).to_be_bytes()).chain_update(public);
    let mut id = [0u8; KeyId::LEN];
    for (to, from) in id.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    KeyId(id)
}

/// Checks that an entry's id is the hash of its key and that the key is one of its suite. The
/// keyset must have been appraised before; this says nothing about whose key it is.
///
/// # Errors
/// [`ChannelError::KeyIdMismatch`] or [`ChannelError::KeyMalformed`].
pub fn check_entry(entry: &SealKeyEntry) -> Result<(), ChannelError> {
    let computed = key_id(entry.suite, &entry.public);
    if computed != entry.id {
        return Err(ChannelError::KeyIdMismatch { stated: entry.id, computed });
    }
    if !kem::parses(entry.suite, &entry.public) {
        return Err(ChannelError::KeyMalformed { id: entry.id });
    }
    Ok(())
}

/// Checks that `now` lies in `not_before ..= not_after`.
pub(crate) fn check_validity(
    id: KeyId,
    not_before: UnixTime,
    not_after: UnixTime,
    now: UnixTime,
) -> Result<(), ChannelError> {
    if now < not_before {
        return Err(ChannelError::KeyNotYetValid { id, not_before, now });
    }
    if now > not_after {
        return Err(ChannelError::KeyExpired { id, not_after, now });
    }
    Ok(())
}

/// Age at which a current key is replaced.
pub const KEY_ROTATE_SECONDS: u64 = 3600;

/// How long a replaced key still opens requests that were on their way.
pub const KEY_GRACE_SECONDS: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;

    #[test]
    fn accepts_its_own_entries() {
        for suite in [SuiteId::XWing, SuiteId::X25519] {
            let pair = SealKeyPair::generate_hourly(
                suite,
                KeyRole::Worker,
                UnixTime(10_000),
                &mut OsRandom,
            );
            assert_eq!(check_entry(&pair.entry()), Ok(()));
            assert_eq!(pair.entry().not_before, UnixTime(9_700));
            assert_eq!(pair.entry().not_after, UnixTime(14_200));
        }
    }

    #[test]
    fn refuses_an_id_that_is_not_the_hash_of_its_key() {
        let zero = UnixTime(0);
        let pair =
            SealKeyPair::generate(SuiteId::X25519, KeyRole::Worker, zero, zero, &mut OsRandom);
        let mut entry = pair.entry();
        entry.public[0] ^= 1;
        assert!(matches!(check_entry(&entry), Err(ChannelError::KeyIdMismatch { .. })));
        let mut entry = pair.entry();
        entry.suite = SuiteId::XWing;
        assert!(matches!(check_entry(&entry), Err(ChannelError::KeyIdMismatch { .. })));
    }

    #[test]
    fn refuses_a_public_key_of_the_wrong_length_or_outside_the_ring() {
        for (suite, len) in [(SuiteId::X25519, 31), (SuiteId::X25519, 33), (SuiteId::XWing, 1215)] {
            check_malformed(suite, vec![0; len]);
        }
        // ML-KEM coefficients must be below 3329; all-ones are not (FIPS 203 §7.2).
        check_malformed(SuiteId::XWing, vec![0xff; 1216]);
    }

    fn check_malformed(suite: SuiteId, public: Vec<u8>) {
        let id = key_id(suite, &public);
        let (not_before, not_after) = (UnixTime(0), UnixTime(1));
        let entry =
            SealKeyEntry { id, suite, role: KeyRole::Worker, not_before, not_after, public };
        assert_eq!(check_entry(&entry), Err(ChannelError::KeyMalformed { id }));
    }

    #[test]
    fn debug_shows_no_secret() {
        let zero = UnixTime(0);
        let pair =
            SealKeyPair::generate(SuiteId::X25519, KeyRole::Grant, zero, zero, &mut OsRandom);
        let text = format!("{pair:?}");
        assert_eq!(text, format!("SealKeyPair({}, X25519, Grant)", pair.entry().id));
    }
}
