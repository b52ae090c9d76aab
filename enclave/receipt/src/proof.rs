//! Shows less than a whole receipt: its public root alone ([`PublicReceipt`]), or the root and one
//! child ([`ChildProof`]). Closed children are there by their hashes; their blinds keep them from
//! being guessed. Both come from strangers; nothing in them is believed before it is verified.

use core::fmt;

use chrysalis_wire::{Digest, NetworkId, RequestId, UnixTime};

use crate::cell::{Cell, CellError};
use crate::error::ReceiptError;
use crate::fields::{Att, Head, Io, Model, Usage};
use crate::key::MeterPublicKey;
use crate::signed::SignedReceipt;

/// Names a child of the root, by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// What was asked and answered.
    Io = 0,
    /// What was counted.
    Usage = 1,
    /// What answered.
    Model = 2,
    /// What proves where it ran.
    Att = 3,
}

impl Child {
    /// All children in the order of the root's references.
    pub const ALL: [Self; 4] = [Self::Io, Self::Usage, Self::Model, Self::Att];
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "io",
            Self::Usage => "usage",
            Self::Model => "model",
            Self::Att => "att",
        })
    }
}

/// The content of one opened child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenedChild {
    /// What was asked and answered.
    Io(Io),
    /// What was counted.
    Usage(Usage),
    /// What answered.
    Model(Model),
    /// What proves where it ran.
    Att(Att),
}

impl OpenedChild {
    /// Which child this is.
    #[must_use]
    pub const fn child(&self) -> Child {
        match self {
            Self::Io(_) => Child::Io,
            Self::Usage(_) => Child::Usage,
            Self::Model(_) => Child::Model,
            Self::Att(_) => Child::Att,
        }
    }

    fn cell(&self, blind: &[u8; 16]) -> Result<Cell, CellError> {
        match self {
            Self::Io(io) => io.cell(blind),
            Self::Usage(usage) => usage.cell(blind),
            Self::Model(model) => model.cell(blind),
            Self::Att(att) => att.cell(blind),
        }
    }
}

/// A receipt with every child closed, not verified: who metered which request, when and for how
/// much. This is the form for parties other than the requester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicReceipt {
    pub(crate) head: Head,
    pub(crate) key: MeterPublicKey,
    pub(crate) children: [Digest; 4],
    pub(crate) signature: [u8; 64],
}

impl PublicReceipt {
    /// The request the receipt is about.
    #[must_use]
    pub const fn request_id(&self) -> RequestId {
        self.head.request_id
    }

    /// Price of the request in nanogram.
    #[must_use]
    pub const fn amount(&self) -> u128 {
        self.head.amount
    }

    /// Network it is for.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.head.network
    }

    /// The meter key it names.
    #[must_use]
    pub fn meter_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// When it was signed.
    #[must_use]
    pub const fn issued_at(&self) -> UnixTime {
        self.head.issued_at
    }

    /// Verifies the signature of the attested `meter_key` on `network`.
    ///
    /// # Errors
    /// [`ReceiptError::Check`] for another network or meter key than expected,
    /// [`ReceiptError::Signature`] if that key did not sign this root.
    pub fn verify(&self, network: NetworkId, meter_key: &[u8; 32]) -> Result<(), ReceiptError> {
        if self.head.network != network {
            return Err(ReceiptError::Check {
                id: "network",
                title: "The receipt is for the expected network",
                detail: format!("expected {network}, it says {}", self.head.network),
            });
        }
        if self.key.to_bytes() != *meter_key {
            return Err(ReceiptError::Check {
                id: "meter-key",
                title: "The receipt names the attested meter key",
                detail: format!("expected {}, it says {}", hex::encode(meter_key), self.key),
            });
        }
        self.verify_signature()
    }

    /// Verifies the signature of the key it names; whose key that is stays open.
    pub(crate) fn verify_signature(&self) -> Result<(), ReceiptError> {
        self.key.verify(self.hash()?, self.head.network, &self.signature)
    }

    /// Representation hash of the root cell, as [`SignedReceipt::hash`]: what a log has of it.
    ///
    /// # Errors
    /// [`ReceiptError::Cell`] for fields that do not fit their cell.
    pub fn hash(&self) -> Result<Digest, ReceiptError> {
        // Children of a receipt have no references, so their depth is zero.
        let children = self.children.map(|hash| (0, hash));
        Ok(self.head.data(&self.key)?.hash_with_children(&children))
    }

    /// The receipt as a JSON document, schema [`crate::PUBLIC_SCHEMA`].
    ///
    /// # Errors
    /// As [`SignedReceipt::to_json`].
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        crate::json::write_public(self)
    }

    /// Reads a public receipt from untrusted JSON.
    ///
    /// # Errors
    /// As [`SignedReceipt::from_json`].
    pub fn from_json(json: &[u8]) -> Result<Self, ReceiptError> {
        crate::json::read_public(json)
    }
}

impl From<&SignedReceipt> for PublicReceipt {
    fn from(signed: &SignedReceipt) -> Self {
        let mut children = [Digest([0; 32]); 4];
        for (slot, cell) in children.iter_mut().zip(signed.root.refs()) {
            *slot = cell.hash();
        }
        let (head, signature) = (signed.receipt.head(), signed.signature);
        Self { head, key: signed.key, children, signature }
    }
}

/// A proof of one child, not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct ChildProof {
    pub(crate) public: PublicReceipt,
    pub(crate) opened: OpenedChild,
    pub(crate) blind: [u8; 16],
}

impl ChildProof {
    /// The receipt the child belongs to.
    #[must_use]
    pub const fn public(&self) -> &PublicReceipt {
        &self.public
    }

    /// What is opened. Nothing of it is believed before [`crate::verify_proof`].
    #[must_use]
    pub const fn opened(&self) -> &OpenedChild {
        &self.opened
    }

    /// Hash of the opened child.
    pub(crate) fn hash(&self) -> Result<Digest, CellError> {
        Ok(self.opened.cell(&self.blind)?.hash())
    }

    /// The proof as a JSON document, schema [`crate::PROOF_SCHEMA`].
    ///
    /// # Errors
    /// As [`SignedReceipt::to_json`].
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        crate::json::write_proof(self)
    }

    /// Reads a proof from untrusted JSON.
    ///
    /// # Errors
    /// As [`SignedReceipt::from_json`].
    pub fn from_json(json: &[u8]) -> Result<Self, ReceiptError> {
        crate::json::read_proof(json)
    }
}

impl fmt::Debug for ChildProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildProof({}, {})", self.public.request_id(), self.opened.child())
    }
}

/// Opens one child of a receipt and keeps the other three closed.
#[must_use]
pub fn open_child(signed: &SignedReceipt, child: Child) -> ChildProof {
    let (r, blinds) = (&signed.receipt, &signed.blinds);
    let (opened, blind) = match child {
        Child::Io => (OpenedChild::Io(r.io.clone()), blinds.io),
        Child::Usage => (OpenedChild::Usage(r.usage.clone()), blinds.usage),
        Child::Model => (OpenedChild::Model(r.model.clone()), blinds.model),
        Child::Att => (OpenedChild::Att(r.att.clone()), blinds.att),
    };
    ChildProof { public: signed.into(), opened, blind }
}

/// Verifies a proof and returns what it proves.
///
/// # Errors
/// As [`PublicReceipt::verify`]; [`ReceiptError::ChildHash`] if the opened child is not the one
/// that was signed.
pub fn verify_child<'a>(
    proof: &'a ChildProof,
    network: NetworkId,
    meter_key: &[u8; 32],
) -> Result<&'a OpenedChild, ReceiptError> {
    let child = proof.opened.child();
    if proof.public.children.get(child as usize) != Some(&proof.hash()?) {
        return Err(ReceiptError::ChildHash { child });
    }
    proof.public.verify(network, meter_key)?;
    Ok(&proof.opened)
}
