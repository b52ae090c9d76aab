//! What a payee knows about her channels: the latest claim of each, verified. Where it is kept is up to
//! the caller; what it holds is not believed until it was verified here.

use chrysalis_receipt::{ChannelId, SignedCap, SignedSettlement};
use chrysalis_ton::ChannelConfig;
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use thiserror::Error;

use crate::error::WatchError;

/// A payee's book, as the watcher needs it.
pub trait Book {
    /// Every channel that is watched, with its latest claim; one whose claim does not hold is refused
    /// alone.
    ///
    /// # Errors
    /// [`BookError`] if it cannot be read.
    fn channels(&self) -> Result<Vec<Result<Watched, WatchError>>, BookError>;

    /// Takes down what the chain is said to have done. The same thing twice counts once.
    ///
    /// # Errors
    /// [`BookError`] if it cannot be written.
    fn note(&self, channel: ChannelId, note: Note, at: UnixTime) -> Result<(), BookError>;
}

/// The book cannot be read or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the book of claims: {0}")]
pub struct BookError(pub String);

/// What the chain is said to have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It paid.
    Paid {
        /// Nanogram since the channel was opened.
        cum_paid: u128,
        /// Fees of the payments since the last note, nanogram; zero if they were not found.
        fee: u128,
        /// Hash of the last of them; zeros if it was not found.
        transaction: Digest,
    },
    /// It paid less than was noted: servers that said so lied, or the chain forgot.
    NotPaid {
        /// Nanogram since the channel was opened, at most.
        cum_paid: u128,
    },
    /// The payer asked to close.
    Closing {
        /// From when on the rest can be taken back.
        refund_from: UnixTime,
    },
    /// The rest went back to her: several servers say so.
    Closed,
}

/// A channel that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    id: ChannelId,
    payee: Digest,
    close_delay: u32,
    min_settle: u128,
    settled: u128,
    claim: Option<Proven>,
}

/// A cap and a cumulative receipt that their contract would pay for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    cap: SignedCap,
    settlement: SignedSettlement,
}

impl Watched {
    /// A channel of which nothing is owed yet, and `settled` nanogram are known to be paid.
    ///
    /// # Errors
    /// [`WatchError::Ton`] in a damaged build.
    pub fn new(
        config: &ChannelConfig,
        network: NetworkId,
        settled: u128,
    ) -> Result<Self, WatchError> {
        Ok(Self {
            id: config.id(network)?,
            payee: config.payee(),
            close_delay: config.close_delay(),
            min_settle: config.min_settle(),
            settled,
            claim: None,
        })
    }

    /// The same with its latest claim, verified as the contract will.
    ///
    /// # Errors
    /// [`WatchError::Claim`].
    pub fn with_claim(
        self,
        config: &ChannelConfig,
        cap: SignedCap,
        settlement: SignedSettlement,
    ) -> Result<Self, WatchError> {
        let refused = |reason| WatchError::Claim { channel: self.id, reason };
        // The cap says which meter counts; that it is the payer's word is what is verified.
        let meter = cap.cap().meter_key;
        let verified = cap.verify(config.payer_key(), self.id, &meter).map_err(refused)?;
        settlement.verify(&verified).map_err(refused)?;
        Ok(Self { claim: Some(Proven { cap, settlement }), ..self })
    }

    /// The channel.
    #[must_use]
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// Account that is paid.
    #[must_use]
    pub const fn payee(&self) -> Digest {
        self.payee
    }

    /// Seconds between a request to close and the refund.
    #[must_use]
    pub const fn close_delay(&self) -> u32 {
        self.close_delay
    }

    /// Smallest settlement, nanogram.
    #[must_use]
    pub const fn min_settle(&self) -> u128 {
        self.min_settle
    }

    /// Nanogram known to be paid.
    #[must_use]
    pub const fn settled(&self) -> u128 {
        self.settled
    }

    /// The latest claim; `None` if nothing was owed yet.
    #[must_use]
    pub const fn claim(&self) -> Option<&Proven> {
        self.claim.as_ref()
    }
}

impl Proven {
    /// The cap.
    #[must_use]
    pub const fn cap(&self) -> &SignedCap {
        &self.cap
    }

    /// The cumulative receipt.
    #[must_use]
    pub const fn settlement(&self) -> &SignedSettlement {
        &self.settlement
    }

    /// Owed since the channel was opened, nanogram.
    #[must_use]
    pub const fn cum_amount(&self) -> u128 {
        self.settlement.settlement().cum_amount
    }
}
