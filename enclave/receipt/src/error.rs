//! Every way a receipt or a key is refused. Messages hold numbers, names and digests; a receipt
//! contains no prompt, so neither can they.

use chrysalis_wire::{Digest, NetworkId, UnixTime, WireError};
use thiserror::Error;

use crate::cell::CellError;
use crate::channel::ChannelId;
use crate::json::MAX_RECEIPT_JSON_BYTES;
use crate::log::LogError;
use crate::meter::book::{MAX_CHANNELS, MAX_CLAIMED, Shortfall};
use crate::proof::Child;

/// Why a receipt, a proof or a key was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptError {
    /// A field does not fit the cell layout.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// A log of receipts, or a proof about one.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The source of randomness failed or gave zeros.
    #[error("no randomness for a meter key; check the system's random source")]
    NoRandomness,
    /// A public key of small order: anybody can forge its signatures.
    #[error("the meter key has small order, so anybody could sign for it; do not use this worker")]
    WeakKey,
    /// Bytes that are not the canonical encoding of a curve point.
    #[error("the meter key is not the canonical encoding of an Ed25519 public key")]
    KeyEncoding,
    /// The signature does not fit the key and the receipt.
    #[error("the signature does not fit this meter key and this receipt; it was changed or forged")]
    Signature,
    /// More cached than prompt tokens.
    #[error(
        "{cached} cached tokens of {prompt} prompt tokens; cached tokens are part of the prompt"
    )]
    CachedOverPrompt {
        /// Cached tokens.
        cached: u32,
        /// Prompt tokens.
        prompt: u32,
    },
    /// More reasoning than completion tokens.
    #[error(
        "{reasoning} reasoning tokens of {completion} completion tokens; they are part of them"
    )]
    ReasoningOverCompletion {
        /// Reasoning tokens.
        reasoning: u32,
        /// Completion tokens.
        completion: u32,
    },
    /// The amount is not tokens times prices.
    #[error("the amount is {got} nanogram, tokens times prices are {expected}")]
    Amount {
        /// Tokens times prices, rounded down.
        expected: u128,
        /// The amount given.
        got: u128,
    },
    /// The request ended before it started.
    #[error("the request ended at {ended} ms, before it started at {started} ms")]
    EndsBeforeStart {
        /// Start, Unix milliseconds.
        started: u64,
        /// End, Unix milliseconds.
        ended: u64,
    },
    /// The JSON is larger than a receipt can be.
    #[error("{got} bytes of JSON; a receipt has at most {MAX_RECEIPT_JSON_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not JSON, a missing, unknown or repeated field, or a value in another spelling.
    #[error("the receipt is malformed: {0}")]
    Malformed(String),
    /// A schema this build does not read.
    #[error("the schema is not `{expected}`; a newer build may read it")]
    Schema {
        /// The schema this build reads.
        expected: &'static str,
    },
    /// The tag does not belong to the network.
    #[error("on {network} the receipt tag is `{expected}`, this one carries another")]
    Tag {
        /// Network the receipt names.
        network: NetworkId,
        /// Tag of receipts of that network.
        expected: &'static str,
    },
    /// The opened child does not have the hash the signed root names.
    #[error("the opened {child} cell is not the one the signed receipt names")]
    ChildHash {
        /// Which child.
        child: Child,
    },
    /// A payer's key of small order: anybody can forge its caps.
    #[error(
        "the payer key has small order, so anybody could sign caps for it; open no such channel"
    )]
    WeakPayerKey,
    /// Bytes that are not the canonical encoding of a curve point.
    #[error("the payer key is not the canonical encoding of an Ed25519 public key")]
    PayerKeyEncoding,
    /// The signature of a cap does not fit.
    #[error("the signature does not fit this payer key and this cap; it was changed or forged")]
    CapSignature,
    /// A cap or a settlement for another channel or network.
    #[error("signed for {got}, this is {expected}")]
    OtherChannel {
        /// The channel it was verified for.
        expected: ChannelId,
        /// The channel it names.
        got: ChannelId,
    },
    /// A cap for another meter.
    #[error("the cap names meter {got}, this one is {expected}; ask the payer for a new cap")]
    OtherMeter {
        /// The key it was verified for.
        expected: Digest,
        /// The key it names.
        got: Digest,
    },
    /// More than the payer allowed.
    #[error(
        "{needed} nanogram are needed, the cap allows {max_cum}; ask the payer for a larger cap"
    )]
    OverCap {
        /// Owed, and reserved for requests that are running.
        needed: u128,
        /// The payer's ceiling.
        max_cum: u128,
    },
    /// A message between payer and meter that is cut, goes on, or has a value without meaning.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A message of another kind.
    #[error("the message begins with {got:02x?}, {expected:02x?} was expected")]
    WireTag {
        /// The tag of the kind that was expected.
        expected: [u8; 4],
        /// The tag found.
        got: [u8; 4],
    },
    /// A channel contract this build does not know.
    #[error("no channel contract with code {got} is known here; open a channel with a current one")]
    UnknownCode {
        /// Hash of the code.
        got: Digest,
    },
    /// Terms of a channel that would hurt somebody who relies on it.
    #[error("{field} is not what a channel may have; open another one")]
    Terms {
        /// Which of them.
        field: &'static str,
    },
    /// A channel that pays somebody else.
    #[error("the channel pays 0:{got}, this worker is paid at 0:{expected}; open one to it")]
    OtherPayee {
        /// Account that must be paid.
        expected: Digest,
        /// Account the channel pays.
        got: Digest,
    },
    /// A channel to another worker of the payee, who would be paid only one of their sums.
    #[error(
        "the channel pays for worker {got} of its payee, this is worker {expected}; open one that does"
    )]
    OtherWorker {
        /// The number of this worker.
        expected: u32,
        /// The number in the channel's salt.
        got: u32,
    },
    /// Nobody with the payer's key asked for this.
    #[error("the signature does not fit this payer key and this request; sign each request")]
    SpendSignature,
    /// The cap does not cover a request.
    #[error(
        "{} nanogram are missing: {} owed, {} promised to running requests and {} for this one, the \
         cap allows {}; sign a cap of {} or ask for fewer tokens",
        .0.missing(), .0.owed, .0.reserved, .0.request, .0.max_cum, .0.wanted()
    )]
    Uncovered(Shortfall),
    /// The owner's key of small order, or in a second spelling.
    #[error("the funding key is not the encoding of a sound Ed25519 public key; make a new one")]
    FundingKey,
    /// A note that its owner did not sign.
    #[error("the signature does not fit this funding key and this note; it was changed or forged")]
    NoteSignature,
    /// A note that is over, from the future, or good for too long.
    #[error(
        "a note of second {} until {} is not good now; its owner looks at the chain again",
        .seen_at.0, .until.0
    )]
    NoteTime {
        /// When the owner looked.
        seen_at: UnixTime,
        /// Until when it is good.
        until: UnixTime,
    },
    /// A note that is not newer than the one there is, and not that one.
    #[error("the note is of second {}, there is one of {}; the newest one holds", .got.0, .known.0)]
    NoteOld {
        /// Time of the note there is.
        known: UnixTime,
        /// Time of this one.
        got: UnixTime,
    },
    /// The payer allowed it, and whoever is paid has not seen the coins.
    #[error("{}", unfunded(*needed, *covers))]
    Unfunded {
        /// Owed, promised and this request, nanogram.
        needed: u128,
        /// What the channel can pay as far as is known; `None` while nobody has looked.
        covers: Option<u128>,
    },
    /// The chain paid by a claim that this meter does not know, and would be paid nothing up to.
    #[error(
        "the channel has paid {paid} nanogram, and this worker knows of claims for {claimed}; hand in the claim \
         that was paid by, or open another channel"
    )]
    Unclaimed {
        /// Paid since the channel was opened, nanogram.
        paid: u128,
        /// By the highest claim that is known, nanogram.
        claimed: u128,
    },
    /// The payee has not been told yet what was counted.
    #[error(
        "{untold} requests of this channel wait to be told to the payee; ask again in a moment"
    )]
    Untold {
        /// How many.
        untold: u32,
    },
    /// A request that came to more than was set aside for it.
    #[error("the request came to {got} nanogram, {reserved} were set aside; it is not charged")]
    OverReservation {
        /// Set aside.
        reserved: u128,
        /// What it came to.
        got: u128,
    },
    /// A channel nothing was paid through since the worker started.
    #[error("this meter counted nothing on that channel; make a request first")]
    NoSuchChannel,
    /// More channels than a meter keeps.
    #[error("this worker serves {MAX_CHANNELS} channels already; use another worker")]
    ChannelsFull,
    /// More claims of channels that were not served yet than a meter keeps.
    #[error(
        "this worker keeps {MAX_CLAIMED} claims of channels it does not serve yet; make a request first"
    )]
    ClaimsFull,
    /// A check of a verification did not pass.
    #[error("{title}: {detail}")]
    Check {
        /// Stable id of the check.
        id: &'static str,
        /// What was checked.
        title: &'static str,
        /// What was expected and found.
        detail: String,
    },
}

impl ReceiptError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Cell(error) => error.code(),
            Self::Log(error) => error.code(),
            Self::NoRandomness => "E-RECEIPT-RANDOMNESS",
            Self::WeakKey => "E-RECEIPT-WEAK-KEY",
            Self::KeyEncoding => "E-RECEIPT-KEY-ENCODING",
            Self::Signature => "E-RECEIPT-SIGNATURE",
            Self::CachedOverPrompt { .. } => "E-RECEIPT-CACHED",
            Self::ReasoningOverCompletion { .. } => "E-RECEIPT-REASONING",
            Self::Amount { .. } => "E-RECEIPT-AMOUNT",
            Self::EndsBeforeStart { .. } => "E-RECEIPT-TIMES",
            Self::TooLarge { .. } => "E-RECEIPT-SIZE",
            Self::Malformed(_) => "E-RECEIPT-MALFORMED",
            Self::Schema { .. } => "E-RECEIPT-SCHEMA",
            Self::Tag { .. } => "E-RECEIPT-TAG",
            Self::ChildHash { .. } => "E-RECEIPT-CHILD",
            Self::WeakPayerKey => "E-CAP-WEAK-KEY",
            Self::PayerKeyEncoding => "E-CAP-KEY-ENCODING",
            Self::CapSignature => "E-CAP-SIGNATURE",
            Self::OtherChannel { .. } => "E-CAP-CHANNEL",
            Self::OtherMeter { .. } => "E-CAP-METER",
            Self::OverCap { .. } => "E-CAP-OVER",
            Self::Wire(_) | Self::WireTag { .. } => "E-PAYMENT-MESSAGE",
            Self::UnknownCode { .. } => "E-CHANNEL-CODE",
            Self::Terms { .. } => "E-CHANNEL-TERMS",
            Self::OtherPayee { .. } => "E-PAYMENT-PAYEE",
            Self::OtherWorker { .. } => "E-PAYMENT-WORKER",
            Self::SpendSignature => "E-PAYMENT-SIGNATURE",
            Self::Uncovered(_) => "E-PAYMENT-CAP",
            Self::FundingKey => "E-FUNDING-KEY",
            Self::NoteSignature => "E-FUNDING-SIGNATURE",
            Self::NoteTime { .. } => "E-FUNDING-TIME",
            Self::NoteOld { .. } => "E-FUNDING-OLD",
            Self::Unfunded { .. } => "E-PAYMENT-FUNDING",
            Self::Unclaimed { .. } => "E-PAYMENT-CLAIM",
            Self::Untold { .. } => "E-PAYMENT-UNTOLD",
            Self::OverReservation { .. } => "E-PAYMENT-RESERVED",
            Self::NoSuchChannel => "E-PAYMENT-CHANNEL",
            Self::ChannelsFull => "E-PAYMENT-FULL",
            Self::ClaimsFull => "E-PAYMENT-CLAIMS",
            Self::Check { .. } => "E-RECEIPT-CHECK",
        }
    }
}

fn unfunded(needed: u128, covers: Option<u128>) -> String {
    match covers {
        None => {
            "nobody has confirmed a deposit in this channel yet; if it was made, wait a moment \
                 and ask again"
                .to_owned()
        }
        Some(covers) => format!(
            "{needed} nanogram are needed, and the channel is seen to cover {covers} in all; top it up \
             (or, if it closes, open another), wait a moment and ask again"
        ),
    }
}
