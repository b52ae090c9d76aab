//! The attested keyset: every public key of one worker boot, under one digest.
//!
//! `keyset_digest = SHA-256(encoding)` is bound into `report_data`, so a client that verified one
//! quote holds every key it needs: the seal keys for requests, the grant key for model keys, the
//! meter key that signs receipts and the digest of the TLS key.
//!
//! ```text
//! keyset   "CKS1" | network i32 | meter_key[32] | tls_spki_sha256[32] | n u8 | n x entry
//! entry    key_id[16] | suite u16 | role u8 | not_before u64 | not_after u64 | public bytes(u32)
//! ```

use crate::codec::{Decoder, Encoder, WireError};
use crate::ids::{Digest, KeyId, NetworkId, UnixTime};
use crate::limits::{MAX_KEYSET_BYTES, MAX_SEAL_KEYS, MAX_SEAL_PUBLIC_KEY_BYTES};

/// Every public key of one worker boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyset {
    /// Network the worker serves.
    pub network: NetworkId,
    /// Ed25519 public key that signs receipts.
    pub meter_key: [u8; 32],
    /// SHA-256 of the DER SubjectPublicKeyInfo of the worker's TLS certificate.
    pub tls_spki: Digest,
    /// Keys a sender may seal to.
    pub seal_keys: Vec<SealKeyEntry>,
}

/// One public key a sender may seal to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealKeyEntry {
    /// First 16 bytes of `SHA-256(suite u16 || public)`; checked by the channel crate.
    pub id: KeyId,
    /// HPKE suite of the key.
    pub suite: SuiteId,
    /// What may be sealed to it.
    pub role: KeyRole,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// Serialised KEM public key.
    pub public: Vec<u8>,
}

/// HPKE ciphersuites of seal/1, by their KEM id (IANA registry and `draft-ietf-hpke-pq`); KDF
/// HKDF-SHA256 and AEAD AES-256-GCM are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum SuiteId {
    /// X-Wing: X25519 and ML-KEM-768.
    XWing = 0x647A,
    /// DHKEM(X25519, HKDF-SHA256), the fallback.
    X25519 = 0x0020,
}

impl TryFrom<u16> for SuiteId {
    type Error = WireError;

    fn try_from(value: u16) -> Result<Self, WireError> {
        match value {
            0x647A => Ok(Self::XWing),
            0x0020 => Ok(Self::X25519),
            other => Err(WireError::UnknownValue { what: "HPKE suite", got: other.into() }),
        }
    }
}

/// What may be sealed to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyRole {
    /// Inference requests, opened by the worker.
    Worker = 1,
    /// Inference requests, opened by a proxy in compatible mode.
    Proxy = 2,
    /// Model-key grants.
    Grant = 3,
}

impl TryFrom<u8> for KeyRole {
    type Error = WireError;

    fn try_from(value: u8) -> Result<Self, WireError> {
        match value {
            1 => Ok(Self::Worker),
            2 => Ok(Self::Proxy),
            3 => Ok(Self::Grant),
            other => Err(WireError::UnknownValue { what: "key role", got: other.into() }),
        }
    }
}

impl Keyset {
    /// The canonical bytes whose SHA-256 is the keyset digest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.u32(KEYSET_MAGIC).i32(self.network.0).raw(&self.meter_key).raw(&self.tls_spki.0);
        e.u8(u8::try_from(self.seal_keys.len()).unwrap_or(u8::MAX));
        for key in &self.seal_keys {
            e.raw(&key.id.0).u16(key.suite as u16).u8(key.role as u8);
            e.u64(key.not_before.0).u64(key.not_after.0).bytes(&key.public);
        }
        e.finish()
    }

    /// Reads a keyset from untrusted bytes.
    pub fn decode(input: &[u8]) -> Result<Self, WireError> {
        if input.len() > MAX_KEYSET_BYTES {
            return Err(WireError::TooLarge {
                what: "keyset",
                limit: MAX_KEYSET_BYTES,
                got: input.len(),
            });
        }
        let mut d = Decoder::new(input);
        let magic = d.u32("keyset magic")?;
        if magic != KEYSET_MAGIC {
            return Err(WireError::UnsupportedVersion {
                what: "keyset",
                expected: KEYSET_MAGIC.into(),
                got: magic.into(),
            });
        }
        let network = NetworkId(d.i32("keyset network")?);
        let meter_key = d.array("meter key")?;
        let tls_spki = Digest(d.array("TLS key digest")?);
        let count = usize::from(d.u8("seal key count")?);
        if count > MAX_SEAL_KEYS {
            return Err(WireError::TooLarge {
                what: "seal key count",
                limit: MAX_SEAL_KEYS,
                got: count,
            });
        }
        let mut seal_keys = Vec::with_capacity(count);
        for _ in 0..count {
            seal_keys.push(SealKeyEntry {
                id: KeyId(d.array("key id")?),
                suite: d.u16("HPKE suite")?.try_into()?,
                role: d.u8("key role")?.try_into()?,
                not_before: UnixTime(d.u64("key not_before")?),
                not_after: UnixTime(d.u64("key not_after")?),
                public: d.bytes("seal public key", MAX_SEAL_PUBLIC_KEY_BYTES)?.to_vec(),
            });
        }
        d.finish("keyset")?;
        Ok(Self { network, meter_key, tls_spki, seal_keys })
    }

    /// The newest key of `role` valid at `now`, X-Wing before X25519.
    #[must_use]
    pub fn seal_key(&self, role: KeyRole, now: UnixTime) -> Option<&SealKeyEntry> {
        self.seal_keys
            .iter()
            .filter(|k| k.role == role && k.not_before <= now && now <= k.not_after)
            .max_by_key(|k| (k.suite == SuiteId::XWing, k.not_after))
    }
}

/// "CKS1": Chrysalis keyset, version 1.
const KEYSET_MAGIC: u32 = u32::from_be_bytes(*b"CKS1");

#[cfg(test)]
mod tests {
    use super::*;

    fn keyset() -> Keyset {
        let entry = |suite, not_after| SealKeyEntry {
            id: KeyId([7; 16]),
            suite,
            role: KeyRole::Worker,
            not_before: UnixTime(100),
            not_after: UnixTime(not_after),
            public: vec![9; 32],
        };
        Keyset {
            network: NetworkId::INSECURE_SIM,
            meter_key: [1; 32],
            tls_spki: Digest([2; 32]),
            seal_keys: vec![entry(SuiteId::X25519, 900), entry(SuiteId::XWing, 800)],
        }
    }

    #[test]
    fn decodes_what_it_encodes() {
        let k = keyset();
        assert_eq!(Keyset::decode(&k.encode()).unwrap(), k);
    }

    #[test]
    fn refuses_every_truncation() {
        let bytes = keyset().encode();
        for len in 0..bytes.len() {
            assert!(Keyset::decode(&bytes[..len]).is_err(), "accepted {len} bytes");
        }
    }

    #[test]
    fn refuses_trailing_bytes() {
        let mut bytes = keyset().encode();
        bytes.push(0);
        assert!(matches!(Keyset::decode(&bytes), Err(WireError::TrailingBytes { got: 1, .. })));
    }

    #[test]
    fn refuses_a_future_version() {
        let mut bytes = keyset().encode();
        bytes[3] = b'2';
        assert!(matches!(Keyset::decode(&bytes), Err(WireError::UnsupportedVersion { .. })));
    }

    #[test]
    fn refuses_one_seal_key_more_than_the_limit() {
        let mut k = keyset();
        k.seal_keys = vec![k.seal_keys[0].clone(); MAX_SEAL_KEYS + 1];
        assert!(matches!(Keyset::decode(&k.encode()), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn refuses_a_public_key_one_byte_over_the_limit() {
        let mut k = keyset();
        k.seal_keys[0].public = vec![9; MAX_SEAL_PUBLIC_KEY_BYTES];
        assert_eq!(Keyset::decode(&k.encode()).unwrap(), k);
        k.seal_keys[0].public.push(9);
        assert!(matches!(
            Keyset::decode(&k.encode()),
            Err(WireError::TooLarge { limit: MAX_SEAL_PUBLIC_KEY_BYTES, .. })
        ));
    }

    #[test]
    fn refuses_a_keyset_one_byte_over_the_limit() {
        // At the limit its size is no reason; what is wrong then is the content.
        let mut k = keyset();
        k.seal_keys = vec![k.seal_keys[0].clone(); MAX_SEAL_KEYS];
        let mut bytes = k.encode();
        bytes.resize(MAX_KEYSET_BYTES, 0);
        assert!(matches!(Keyset::decode(&bytes), Err(WireError::TrailingBytes { .. })));
        bytes.push(0);
        assert!(matches!(
            Keyset::decode(&bytes),
            Err(WireError::TooLarge { what: "keyset", limit: MAX_KEYSET_BYTES, .. })
        ));
    }

    #[test]
    fn picks_the_newest_valid_key_of_a_suite() {
        let mut k = keyset();
        let old = k.seal_keys[1].clone();
        let mut newer = old.clone();
        (newer.id, newer.not_before, newer.not_after) =
            (KeyId([8; 16]), UnixTime(600), UnixTime(1400));
        for keys in [vec![old.clone(), newer.clone()], vec![newer.clone(), old.clone()]] {
            k.seal_keys = keys;
            assert_eq!(k.seal_key(KeyRole::Worker, UnixTime(599)), Some(&old));
            assert_eq!(k.seal_key(KeyRole::Worker, UnixTime(600)), Some(&newer));
        }
    }

    #[test]
    fn refuses_an_unknown_suite_and_an_unknown_role() {
        let mut k = keyset().encode();
        // Magic 4, network 4, meter 32, spki 32, count 1, key id 16.
        k[89] = 0xff;
        assert!(matches!(Keyset::decode(&k), Err(WireError::UnknownValue { .. })));
        let mut k = keyset().encode();
        k[91] = 99;
        assert!(matches!(Keyset::decode(&k), Err(WireError::UnknownValue { .. })));
    }

    #[test]
    fn picks_x_wing_and_only_a_valid_key() {
        let k = keyset();
        assert_eq!(k.seal_key(KeyRole::Worker, UnixTime(500)).unwrap().suite, SuiteId::XWing);
        assert_eq!(k.seal_key(KeyRole::Worker, UnixTime(850)).unwrap().suite, SuiteId::X25519);
        assert!(k.seal_key(KeyRole::Worker, UnixTime(901)).is_none());
        assert!(k.seal_key(KeyRole::Grant, UnixTime(500)).is_none());
    }
}
