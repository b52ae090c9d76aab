//! The payer key. The secret half lives with whoever pays and signs caps by their fields only;
//! the public half stands in the channel contract and is refused when weak.

use core::fmt;

use chrysalis_wire::{Digest, NetworkId};
use zeroize::Zeroizing;

use crate::cell::Cell;
use crate::channel::{Cap, ChannelId, SignedCap};
use crate::error::ReceiptError;
use crate::key::{MeterPublicKey, Secret};

/// The Ed25519 secret that signs caps, one per channel. It is no meter key: each is derived under
/// a label of its own, and neither type signs what the other signs.
pub struct PayerKey(Secret);

impl PayerKey {
    /// The key with this RFC 8032 seed.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(Secret::from_seed(seed))
    }

    /// The key of one network and channel salt under a secret, derived as meter keys are, with
    /// role `payer`. The account of a channel follows from its payer key, so `salt` stands where
    /// a meter key has the account: the 64-bit salt of the channel, big endian, in the last 8 of
    /// 32 bytes.
    #[must_use]
    pub fn derive(secret: &Zeroizing<[u8; 32]>, network: NetworkId, salt: u64) -> Self {
        let mut place = [0u8; 32];
        for (to, from) in place.iter_mut().skip(24).zip(salt.to_be_bytes()) {
            *to = from;
        }
        Self(Secret::derive(secret, b"payer", network, &Digest(place)))
    }

    /// The public half, for the channel's configuration.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.public()
    }

    /// Signs a ceiling for `meter_key` on `channel`.
    ///
    /// # Errors
    /// [`ReceiptError::Cell`] for an amount above 120 bits. A weak meter key cannot be named: its
    /// type refuses it.
    pub fn sign(
        &self,
        channel: ChannelId,
        meter_key: MeterPublicKey,
        max_cum: u128,
    ) -> Result<SignedCap, ReceiptError> {
        let cap = Cap { channel, meter_key, max_cum };
        let signature = self.0.sign(cap.cell()?.hash(), channel.network);
        SignedCap::new(cap, signature)
    }

    /// Signs the hash of a cell that this crate built from fields.
    pub(crate) fn sign_cell(&self, cell: &Cell, network: NetworkId) -> [u8; 64] {
        self.0.sign(cell.hash(), network)
    }
}

impl fmt::Debug for PayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted payer key>")
    }
}

/// A payer's public key that is safe to verify with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PayerPublicKey(MeterPublicKey);

impl PayerPublicKey {
    /// Reads a public key from untrusted bytes.
    ///
    /// # Errors
    /// [`ReceiptError::WeakPayerKey`] for a point of small order, for which TON accepts
    /// signatures nobody made; [`ReceiptError::PayerKeyEncoding`] for bytes that are no point, or
    /// not the only spelling of one.
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, ReceiptError> {
        match MeterPublicKey::parse(bytes) {
            Ok(key) => Ok(Self(key)),
            Err(ReceiptError::WeakKey) => Err(ReceiptError::WeakPayerKey),
            Err(_) => Err(ReceiptError::PayerKeyEncoding),
        }
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub(crate) fn verify(
        &self,
        root: Digest,
        network: NetworkId,
        signature: &[u8; 64],
    ) -> Result<(), ReceiptError> {
        self.0.verify(root, network, signature).map_err(|_| ReceiptError::CapSignature)
    }
}

impl fmt::Debug for PayerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayerPublicKey({})", self.0)
    }
}
