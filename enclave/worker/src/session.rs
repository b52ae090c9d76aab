//! The keys of one boot. They are generated here, live in this process only and die with it; the
//! public halves are attested together as one keyset.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrysalis_channel::{ChannelError, KeyRing, OsRandom, SealKeyPair};
use chrysalis_evidence::keyset_digest;
use chrysalis_receipt::MeterKey;
use chrysalis_wire::{Digest, KeyId, KeyRole, Keyset, NetworkId, SuiteId, UnixTime};

use crate::error::WorkerError;
use crate::limits::{MAX_ATTESTED_KEYSETS, MAX_EVIDENCE_DIGESTS};
use crate::tls::TlsIdentity;

/// Every key of one boot, and what was attested about them.
pub struct Session {
    /// TLS key and configuration.
    pub tls: TlsIdentity,
    /// Signs receipts.
    pub meter: MeterKey,
    network: NetworkId,
    ring: Mutex<KeyRing>,
    attested: Mutex<Attested>,
}

/// Digests of what this boot attested; the oldest are forgotten first, which costs a client that
/// still relies on them one more attestation.
#[derive(Default)]
struct Attested {
    keysets: VecDeque<Digest>,
    evidence: VecDeque<Digest>,
}

impl Session {
    /// Generates every key.
    ///
    /// # Errors
    /// [`WorkerError::Keys`] if the operating system gives no randomness.
    pub fn generate(network: NetworkId, now: UnixTime) -> Result<Self, WorkerError> {
        let session = Self {
            tls: TlsIdentity::generate()?,
            meter: MeterKey::generate(getrandom::fill)
                .map_err(|_| WorkerError::Keys("a meter key"))?,
            network,
            ring: Mutex::new(KeyRing::new()),
            attested: Mutex::default(),
        };
        session.maintain(now, |_| false).map_err(|_| WorkerError::Keys("seal keys"))?;
        Ok(session)
    }

    /// Destroys expired keys, makes new ones once the current ones are an hour old, and a new one of a kind
    /// that `is_crowded` says the current one has hardly any room left for. Called every few seconds
    /// and before each attestation.
    ///
    /// # Errors
    /// [`ChannelError`] of the key ring; the keys it holds stay usable.
    pub fn maintain(
        &self,
        now: UnixTime,
        is_crowded: impl Fn(&KeyId) -> bool,
    ) -> Result<(), ChannelError> {
        let mut ring = self.ring();
        ring.expire(now);
        let due = ring.rotation_due(now);
        let crowded = ring.current().filter(|(.., id)| is_crowded(id));
        let crowded: Vec<_> = crowded.map(|(suite, role, _)| (suite, role)).collect();
        for (suite, role) in SLOTS {
            if due || crowded.contains(&(suite, role)) {
                ring.rotate(SealKeyPair::generate_hourly(suite, role, now, &mut OsRandom), now)?;
            }
        }
        Ok(())
    }

    /// The keys that open requests and grants.
    pub fn ring(&self) -> MutexGuard<'_, KeyRing> {
        // The ring has no half-made state a panic could leave behind.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keyset as of `now`, remembered as attested.
    pub fn keyset(&self, now: UnixTime) -> Keyset {
        let keyset = Keyset {
            network: self.network,
            meter_key: self.meter.public(),
            tls_spki: self.tls.spki,
            seal_keys: self.ring().entries(now),
        };
        let digest = keyset_digest(&keyset.encode());
        remember(&mut self.attested().keysets, digest, MAX_ATTESTED_KEYSETS);
        keyset
    }

    /// Digests of the keysets attested lately.
    pub fn attested_keysets(&self) -> Vec<Digest> {
        self.attested().keysets.iter().copied().collect()
    }

    /// Remembers evidence this boot produced, by the digest of its quote.
    pub fn remember_evidence(&self, digest: Digest) {
        remember(&mut self.attested().evidence, digest, MAX_EVIDENCE_DIGESTS);
    }

    /// Whether this boot produced the evidence: a receipt names only evidence the worker made.
    pub fn produced_evidence(&self, digest: &Digest) -> bool {
        self.attested().evidence.contains(digest)
    }

    fn attested(&self) -> MutexGuard<'_, Attested> {
        self.attested.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(digests: &mut VecDeque<Digest>, digest: Digest, limit: usize) {
    if digests.back() != Some(&digest) {
        digests.push_back(digest);
    }
    while digests.len() > limit {
        digests.pop_front();
    }
}

/// The keys every ring holds. Grants take X-Wing only: who grants a model key runs our client.
const SLOTS: [(SuiteId, KeyRole); 3] = [
    (SuiteId::XWing, KeyRole::Worker),
    (SuiteId::X25519, KeyRole::Worker),
    (SuiteId::XWing, KeyRole::Grant),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::generate(NetworkId::INSECURE_SIM, UnixTime(1_000_000)).unwrap()
    }

    #[test]
    fn the_keyset_holds_every_slot_and_is_remembered() {
        let s = session();
        let k = s.keyset(UnixTime(1_000_001));
        for (suite, role) in SLOTS {
            assert!(k.seal_keys.iter().any(|e| (e.suite, e.role) == (suite, role)));
        }
        assert_eq!(s.attested_keysets(), [keyset_digest(&k.encode())]);
    }

    #[test]
    fn keys_rotate_after_an_hour_and_the_old_ones_die_ten_minutes_later() {
        let s = session();
        let before = s.keyset(UnixTime(1_000_001)).seal_keys;
        s.maintain(UnixTime(1_003_601), |_| false).unwrap();
        let during = s.keyset(UnixTime(1_003_602)).seal_keys;
        assert_eq!(during.len(), 2 * SLOTS.len());
        s.maintain(UnixTime(1_004_300), |_| false).unwrap();
        let after = s.keyset(UnixTime(1_004_300)).seal_keys;
        assert_eq!(after.len(), SLOTS.len());
        assert!(after.iter().all(|new| before.iter().all(|old| old.id != new.id)));
        let held = |id| s.ring().contains(id);
        assert!(before.iter().all(|old| !held(&old.id)), "hidden, but not destroyed");
    }

    #[test]
    fn vouches_only_for_evidence_it_produced_and_forgets_the_oldest() {
        let s = session();
        let digest = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            Digest(bytes)
        };
        assert!(!s.produced_evidence(&digest(0)));
        for n in 0..=MAX_EVIDENCE_DIGESTS {
            s.remember_evidence(digest(n));
        }
        assert!(!s.produced_evidence(&digest(0)));
        assert!(s.produced_evidence(&digest(1)));
        assert!(s.produced_evidence(&digest(MAX_EVIDENCE_DIGESTS)));
    }
}
