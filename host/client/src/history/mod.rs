//! Everything that happened on one payment channel, in one file: caps, cumulative settlements and the
//! requests behind them, under each meter key in turn. Payer, payee and whoever audits them can
//! recompute from it what is owed and why, without a network.
//!
//! A file is untrusted: a signature is believed only under the payer's key, or under the meter key in a
//! cap that this key has signed. Which payer's key a channel has is shown by the channel's terms, of which
//! the account is a hash; in a file without them it is the file's word.

mod assemble;
mod check;
mod document;

use chrysalis_receipt::{
    ChannelId, ChannelTerms, Check, ConsistencyProof, InclusionProof, Outcome, PayerPublicKey,
    PublicReceipt, SignedCap, SignedSettlement,
};
use chrysalis_wire::{Digest, NetworkId};
use serde::Serialize;

pub use self::document::HISTORY_SCHEMA;
use crate::error::ClientError;
use crate::report::Gram;

/// Schema name of a [`HistoryReport`] in JSON.
pub const HISTORY_REPORT_SCHEMA: &str = "chrysalis/channel-history-report/v1";

/// What happened on one channel, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelHistory {
    /// The channel.
    pub channel: ChannelId,
    /// Whose caps count.
    pub payer_key: PayerPublicKey,
    /// The channel's terms, which bind its payer's key and its payee to the account.
    pub terms: Option<ChannelTerms>,
    /// One after the other, as the worker was started.
    pub meters: Vec<MeterHistory>,
}

/// What one meter key counted. Its log begins empty; its sum goes on from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterHistory {
    /// The largest cap that names it.
    pub cap: SignedCap,
    /// Its cumulative receipts, oldest first; some may be left out.
    pub settlements: Vec<SignedSettlement>,
    /// The requests it counted, as far as they are known.
    pub receipts: Vec<Counted>,
    /// Proofs between successive settlements; not needed where every receipt is there.
    pub growth: Vec<ConsistencyProof>,
}

/// A request that a meter counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its position in the meter's log, from zero.
    pub index: u64,
    /// Its receipt, every part closed.
    pub receipt: PublicReceipt,
    /// A proof for the last settlement; not needed where every receipt is there.
    pub inclusion: Option<InclusionProof>,
}

impl ChannelHistory {
    /// Verifies all of it. Whether the meter keys are those of attested workers is not in it: hold
    /// stored receipts against it with [`HistoryReport::place_of`].
    pub fn verify(&self) -> HistoryReport {
        check::verify(self)
    }

    /// Whether `other`, of another party of this channel, shows the same logs: a meter that has signed two
    /// of one size tells payer and payee different things, and each file alone holds. Verify both first.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> Check {
        check::agree(self, other)
    }

    /// The document.
    ///
    /// # Errors
    /// [`ClientError::HistoryMalformed`] if the result would not be read back.
    pub fn to_json(&self) -> Result<Vec<u8>, ClientError> {
        document::write(self)
    }

    /// Reads a history from untrusted bytes.
    ///
    /// # Errors
    /// [`ClientError::HistoryMalformed`] if it is too large, of another schema, or not readable.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClientError> {
        document::read(bytes)
    }
}

/// The verification of one channel's history.
#[derive(Clone, Debug, Serialize)]
#[must_use = "a report that nobody reads verifies nothing"]
pub struct HistoryReport {
    pub(crate) schema: &'static str,
    /// Whether nothing failed and nothing had to be skipped.
    pub holds: bool,
    /// Whether the channel is of the simulated network, on which nothing is worth anything.
    pub insecure_sim: bool,
    /// The channel's network.
    pub network: NetworkId,
    /// The channel's account.
    pub account: Digest,
    /// The payer's key, as the file names it.
    pub payer_key: Digest,
    /// Whether the file has the terms that bind that key to the account.
    pub bound: bool,
    /// Owed since the channel was opened, nanogram, by the last settlement.
    #[serde(serialize_with = "decimal")]
    pub owed: u128,
    /// Most that the payer allowed, nanogram.
    #[serde(serialize_with = "decimal")]
    pub allowed: u128,
    /// Requests counted, by the last settlement of each meter.
    pub requests: u64,
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
    /// Where each receipt stands.
    #[serde(skip)]
    pub(crate) places: Vec<(Digest, Place)>,
}

/// Where a receipt stands in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Which meter key of the channel, from zero.
    pub meter: usize,
    /// Position in that meter's log, from zero.
    pub index: u64,
    /// Whether a settlement counts it.
    pub settled: bool,
}

impl HistoryReport {
    /// Where the receipt with this hash stands, if it is there.
    #[must_use]
    pub fn place_of(&self, receipt: &Digest) -> Option<Place> {
        self.places.iter().find(|(hash, _)| hash == receipt).map(|(_, place)| *place)
    }

    /// Whether anything that was checked did not hold.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.checks.iter().any(|check| check.outcome == Outcome::Fail)
    }

    /// The last line of the report.
    #[must_use]
    pub fn conclusion(&self) -> String {
        let sim = if self.insecure_sim { " (INSECURE-SIM: worth nothing)" } else { "" };
        if self.failed() {
            return format!("REFUSED{sim}  this history does not hold; do not pay by it");
        }
        let (owed, allowed) = (Gram(self.owed), Gram(self.allowed));
        let sum = format!("{} requests cost {owed} of {allowed} allowed", self.requests);
        let skipped = self.checks.iter().filter(|check| check.outcome == Outcome::Skip);
        let skipped: Vec<_> = skipped.map(|check| check.id).collect();
        if skipped.is_empty() {
            format!("HOLDS{sim}  {sum}, and every one of them is here")
        } else {
            format!("INCOMPLETE{sim}  {sum}; not checked to the end: {}", skipped.join(", "))
        }
    }
}

fn decimal<S: serde::Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
