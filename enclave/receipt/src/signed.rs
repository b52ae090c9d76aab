//! A receipt with its signature and everything needed to rebuild what was signed. Reading one
//! says nothing about its truth: [`crate::verify`] does.

use chrysalis_wire::Digest;

use crate::boc::boc;
use crate::cell::Cell;
use crate::commit::Blinds;
use crate::error::ReceiptError;
use crate::fields::RequestReceipt;
use crate::key::MeterPublicKey;

/// A receipt with its signature, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    pub(crate) receipt: RequestReceipt,
    pub(crate) blinds: Blinds,
    pub(crate) key: MeterPublicKey,
    /// Rebuilt from the fields above, always.
    pub(crate) root: Cell,
    /// What the document claims the root hash to be.
    pub(crate) hash: Digest,
    pub(crate) signature: [u8; 64],
}

impl SignedReceipt {
    /// What the receipt says.
    #[must_use]
    pub const fn receipt(&self) -> &RequestReceipt {
        &self.receipt
    }

    /// The blinds of its children.
    #[must_use]
    pub const fn blinds(&self) -> &Blinds {
        &self.blinds
    }

    /// The meter key it names.
    #[must_use]
    pub fn meter_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The signature over [`SignedReceipt::hash`].
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Representation hash of the root cell, computed from the fields.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.root.hash()
    }

    /// `RQR1`, or `SIM1` for a simulated receipt.
    #[must_use]
    pub const fn tag(&self) -> &'static str {
        crate::fields::tag(self.receipt.network)
    }

    /// The root cell and its children as a bag of cells, for TON tools. The signature is not in
    /// it.
    #[must_use]
    pub fn boc(&self) -> Vec<u8> {
        boc(&self.root)
    }

    /// The receipt as a JSON document, schema [`crate::RECEIPT_SCHEMA`].
    ///
    /// # Errors
    /// None in practice: the document has no map with other than string keys. The signature keeps
    /// `serde_json`'s refusal visible instead of panicking on it.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        crate::json::write_receipt(self)
    }

    /// Reads a receipt from untrusted JSON.
    ///
    /// # Errors
    /// [`ReceiptError::TooLarge`], [`ReceiptError::Malformed`], [`ReceiptError::Schema`],
    /// [`ReceiptError::Tag`], a refused meter key, or fields that do not fit their cell.
    pub fn from_json(json: &[u8]) -> Result<Self, ReceiptError> {
        crate::json::read_receipt(json)
    }
}
