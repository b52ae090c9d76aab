//! What happened to a channel, in order and with its time.

use chrysalis_receipt::ChannelId;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::nano::Nano;

/// One thing that happened, as it stands in the file and in the export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Place in the ledger, from 1, without gaps.
    pub seq: u64,
    /// When it was recorded, by the recorder's clock.
    pub at: UnixTime,
    /// Network of the channel.
    pub network: NetworkId,
    /// Account of the channel, in workchain 0.
    pub account: Digest,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        ChannelId { network: self.network, account: self.account }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// The channel became known.
    Opened {
        /// Account that opened it.
        payer: Digest,
        /// Account that is paid.
        payee: Digest,
    },
    /// The payer allowed more, or another meter.
    Cap {
        /// Meter it names.
        meter: Digest,
        /// Most that may ever be paid.
        max_cum: Nano,
    },
    /// One request was answered and its receipt verified; a payer's ledger only.
    Request {
        /// Its id.
        request: RequestId,
        /// What it cost.
        amount: Nano,
    },
    /// The meter's cumulative receipt grew.
    Earned {
        /// Meter that signed it.
        meter: Digest,
        /// Owed since the channel was opened.
        cum: Nano,
        /// How much more that is than before.
        amount: Nano,
        /// Requests in it.
        requests: u64,
        /// Tokens in it.
        tokens: u64,
    },
    /// The payer was shown a claim for more than it can account for, and pays no more.
    Overcharged {
        /// What it claims, since the channel was opened.
        cum: Nano,
        /// The most that could be owed.
        accounted: Nano,
        /// The claim itself, hexadecimal; both its signatures hold.
        claim: String,
    },
    /// The payer was shown two logs of one meter, and pays no more.
    Forked {
        /// The claim that was accepted, hexadecimal; all signatures hold.
        before: String,
        /// The one that is of another log.
        claim: String,
    },
    /// The payer pays on after all.
    Lifted {},
    /// The chain paid.
    Settled {
        /// Paid since the channel was opened.
        cum_paid: Nano,
        /// How much more that is than before.
        amount: Nano,
        /// What the transaction cost.
        fee: Nano,
        /// Hash of the transaction.
        transaction: Digest,
    },
    /// The chain has not paid what an earlier event says.
    NotSettled {
        /// Paid since the channel was opened, at most.
        cum_paid: Nano,
        /// How much less that is than before.
        amount: Nano,
    },
    /// The payer asked to close.
    Closing {
        /// From when on the rest can be taken back.
        refund_from: UnixTime,
    },
    /// The rest went back to the payer.
    Closed {},
}

impl EventKind {
    /// Whether a build that writes the first schema may not know it.
    pub(crate) const fn is_of_second_schema(&self) -> bool {
        matches!(
            self,
            Self::Overcharged { .. }
                | Self::Forked { .. }
                | Self::Lifted {}
                | Self::NotSettled { .. }
        )
    }
}
