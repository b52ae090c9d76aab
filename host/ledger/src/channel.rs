//! What the entries of one channel add up to. Entries come from counterparties, consoles and readers
//! of chains; a pure function of the state before decides whether one is new, known or refused.

use chrysalis_receipt::{ChannelId, ChannelTerms, Claim, PublicReceipt, SignedCap};
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::error::{LedgerError, damaged};
use crate::event::EventKind;
use crate::memory::Question;
use crate::nano::Nano;

/// Something to record.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// A channel, before anything else of it.
    Opened {
        /// Network it is on.
        network: NetworkId,
        /// Its terms.
        terms: &'a ChannelTerms,
    },
    /// A cap, before it is given to anybody.
    Cap(&'a SignedCap),
    /// A request whose receipt was verified; counted once per id.
    Request {
        /// Channel that paid for it.
        channel: ChannelId,
        /// Id of the request.
        request: RequestId,
        /// Amount of the receipt, nanogram.
        amount: u128,
    },
    /// A request, before it is sent; a payer's ledger only. Until it ends it may cost its most.
    Begun {
        /// Channel that will pay for it.
        channel: ChannelId,
        /// Id of the request.
        request: RequestId,
        /// The most it can cost, nanogram.
        worst: u128,
    },
    /// The receipt of a request whose answer was given up, closed as the meter shows it to anybody.
    Found {
        /// Channel that paid for it.
        channel: ChannelId,
        /// The receipt, verified.
        receipt: &'a PublicReceipt,
    },
    /// A request that was begun and costs nothing.
    Refused {
        /// Channel that would have paid for it.
        channel: ChannelId,
        /// Id of the request.
        request: RequestId,
    },
    /// The meter's cumulative receipt with the cap it is under. Opens an unknown channel.
    Claim(&'a Claim),
    /// The same, as its payer takes it: with what it includes for certain.
    Accepted {
        /// The claim.
        claim: &'a Claim,
        /// Receipts in it, nanogram since the channel was opened.
        included: u128,
        /// Requests without a receipt that are in it if they cost anything. A receipt may come all the same.
        late: &'a [RequestId],
        /// Requests of which nothing will come any more.
        ended: &'a [RequestId],
        /// What claims said so far that only the late ones explain, nanogram.
        explained: u128,
        /// The most that claims can say of requests that are over without a receipt, nanogram.
        unreceipted: u128,
    },
    /// A claim for more than its payer can account for. It is no sum of the channel: it is a proof.
    Overcharge {
        /// The claim.
        claim: &'a Claim,
        /// The most that could be owed, nanogram.
        accounted: u128,
        /// The question that it answers.
        asked: Question,
    },
    /// Two claims of one meter that cannot both be of one log. The later one is no sum of the channel: together
    /// they are a proof.
    Forked {
        /// The one that was accepted.
        before: &'a Claim,
        /// The other.
        claim: &'a Claim,
    },
    /// The payer pays on after all: nothing is left of the proof but its event.
    Lifted {
        /// Channel that it is about.
        channel: ChannelId,
    },
    /// What the chain says was paid, since the channel was opened.
    Paid {
        /// The channel.
        channel: ChannelId,
        /// Sum of all payments, nanogram.
        cum_paid: u128,
        /// What this transaction cost, nanogram.
        fee: u128,
        /// Its hash.
        transaction: Digest,
    },
    /// The chain says that less was paid than is recorded: whoever was read before said what is not so.
    NotPaid {
        /// The channel.
        channel: ChannelId,
        /// Sum of all payments, at most, nanogram.
        cum_paid: u128,
    },
    /// The payer asked to close.
    Closing {
        /// The channel.
        channel: ChannelId,
        /// From when on the rest can be taken back.
        refund_from: UnixTime,
    },
    /// The rest went back to the payer.
    Closed {
        /// The channel.
        channel: ChannelId,
    },
}

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Phase {
    /// Nobody asked to close.
    Open,
    /// The payer asked to close: settle before the rest can be taken back.
    Closing {
        /// From when on that is.
        refund_from: UnixTime,
    },
    /// The rest went back.
    Closed,
}

/// What is known of one channel. Amounts are nanogram and sums since the channel was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The channel.
    pub id: ChannelId,
    /// Its terms.
    pub terms: ChannelTerms,
    /// Owed by the latest cumulative receipt.
    pub earned: u128,
    /// Most that may be owed by the largest cap.
    pub covered: u128,
    /// Meter that the latest cap names.
    pub meter: Option<Digest>,
    /// Paid on the chain.
    pub settled: u128,
    /// Fees of those payments.
    pub fees: u128,
    /// Sum of the receipts of single requests; a payer's ledger only.
    pub receipted: u128,
    /// Requests counted: by receipts of their own on a payer's side, by the meter on a payee's.
    pub requests: u64,
    /// How far it is.
    pub phase: Phase,
    /// The claim to settle by, once there is one.
    pub claim: Option<Claim>,
    /// When the first entry was recorded.
    pub first: UnixTime,
    /// When the last entry was recorded.
    pub last: UnixTime,
}

impl Channel {
    fn new(id: ChannelId, terms: ChannelTerms, at: UnixTime) -> Self {
        Self {
            id,
            terms,
            earned: 0,
            covered: 0,
            meter: None,
            settled: 0,
            fees: 0,
            receipted: 0,
            requests: 0,
            phase: Phase::Open,
            claim: None,
            first: at,
            last: at,
        }
    }

    /// Owed and not paid yet.
    #[must_use]
    pub const fn unsettled(&self) -> u128 {
        self.earned.saturating_sub(self.settled)
    }

    /// Applies an entry to the state before it, which the entry may find missing. Of a claim's meter
    /// everything up to `counted` was recorded before. `None` if it says nothing new.
    pub(crate) fn apply(
        before: Option<Self>,
        entry: &Entry<'_>,
        counted: Counted,
        at: UnixTime,
    ) -> Result<Option<(Self, Vec<EventKind>)>, LedgerError> {
        let (mut channel, mut events) = match (before, entry.terms()) {
            (Some(channel), _) => (channel, vec![]),
            (None, Some(terms)) => {
                let opened = EventKind::Opened { payer: terms.payer(), payee: terms.payee() };
                (Self::new(entry.channel()?, terms.clone(), at), vec![opened])
            }
            (None, None) => return Err(LedgerError::UnknownChannel { channel: entry.channel()? }),
        };
        events.extend(channel.change(entry, counted)?);
        channel.last = at;
        Ok((!events.is_empty()).then_some((channel, events)))
    }

    fn change(
        &mut self,
        entry: &Entry<'_>,
        counted: Counted,
    ) -> Result<Option<EventKind>, LedgerError> {
        match entry {
            Entry::Opened { .. } | Entry::Begun { .. } | Entry::Refused { .. } => Ok(None),
            Entry::Cap(cap) => self.cap(cap),
            Entry::Request { request, amount, .. } => self.request(*request, *amount).map(Some),
            Entry::Found { receipt, .. } => {
                self.request(receipt.request_id(), receipt.amount()).map(Some)
            }
            Entry::Claim(claim) | Entry::Accepted { claim, .. } => self.claim(claim, counted),
            Entry::Overcharge { claim, accounted, .. } => {
                (*claim).clone().verify()?;
                Ok(Some(EventKind::Overcharged {
                    cum: Nano(claim.cum_amount()),
                    accounted: Nano(*accounted),
                    claim: hex::encode(claim.encode()),
                }))
            }
            Entry::Forked { before, claim } => {
                (*before).clone().verify()?;
                (*claim).clone().verify()?;
                Ok(Some(EventKind::Forked {
                    before: hex::encode(before.encode()),
                    claim: hex::encode(claim.encode()),
                }))
            }
            Entry::Lifted { .. } => Ok(Some(EventKind::Lifted {})),
            Entry::Paid { cum_paid, fee, transaction, .. } => {
                // What is paid only grows, so whatever is not more was seen before.
                let Some(amount) = cum_paid.checked_sub(self.settled).filter(|more| *more > 0)
                else {
                    return Ok(None);
                };
                self.settled = *cum_paid;
                self.fees = self.sum(self.fees, *fee)?;
                Ok(Some(EventKind::Settled {
                    cum_paid: Nano(*cum_paid),
                    amount: Nano(amount),
                    fee: Nano(*fee),
                    transaction: *transaction,
                }))
            }
            Entry::NotPaid { cum_paid, .. } => {
                let Some(amount) = self.settled.checked_sub(*cum_paid).filter(|less| *less > 0)
                else {
                    return Ok(None);
                };
                self.settled = *cum_paid;
                let (cum_paid, amount) = (Nano(*cum_paid), Nano(amount));
                Ok(Some(EventKind::NotSettled { cum_paid, amount }))
            }
            Entry::Closing { refund_from, .. } => Ok((self.phase == Phase::Open).then(|| {
                self.phase = Phase::Closing { refund_from: *refund_from };
                EventKind::Closing { refund_from: *refund_from }
            })),
            Entry::Closed { .. } => Ok((self.phase != Phase::Closed).then(|| {
                self.phase = Phase::Closed;
                EventKind::Closed {}
            })),
        }
    }

    fn request(&mut self, request: RequestId, amount: u128) -> Result<EventKind, LedgerError> {
        self.receipted = self.sum(self.receipted, amount)?;
        self.requests = self.requests.saturating_add(1);
        Ok(EventKind::Request { request, amount: Nano(amount) })
    }

    fn cap(&mut self, signed: &SignedCap) -> Result<Option<EventKind>, LedgerError> {
        let cap = signed.cap();
        signed.verify(self.terms.payer_key(), self.id, &cap.meter_key)?;
        let meter = Digest(cap.meter_key.to_bytes());
        if cap.max_cum <= self.covered && self.meter == Some(meter) {
            return Ok(None);
        }
        self.covered = self.covered.max(cap.max_cum);
        self.meter = Some(meter);
        Ok(Some(EventKind::Cap { meter, max_cum: Nano(cap.max_cum) }))
    }

    fn claim(&mut self, claim: &Claim, before: Counted) -> Result<Option<EventKind>, LedgerError> {
        claim.clone().verify()?;
        let cum = claim.cum_amount();
        let Some(amount) = cum.checked_sub(self.earned).filter(|more| *more > 0) else {
            return Ok(None);
        };
        let meter = claim.cap().cap().meter_key;
        let state = &claim.settlement().settlement().state;
        let requests = state.count.saturating_sub(before.requests);
        // A payer counts its requests by their own receipts.
        if self.receipted == 0 {
            self.requests = self.requests.saturating_add(requests);
        }
        let tokens = state.cum_units.saturating_sub(before.tokens);
        self.earned = cum;
        self.covered = self.covered.max(claim.cap().cap().max_cum);
        let meter = Digest(meter.to_bytes());
        self.meter = Some(meter);
        self.claim = Some(claim.clone());
        let (cum, amount) = (Nano(cum), Nano(amount));
        Ok(Some(EventKind::Earned { meter, cum, amount, requests, tokens }))
    }

    fn sum(&self, sum: u128, more: u128) -> Result<u128, LedgerError> {
        sum.checked_add(more).ok_or(LedgerError::Overflow { channel: self.id })
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, LedgerError> {
        // Terms stand in the form a claim has, which is the only one they have.
        let record = Record {
            terms: hex::encode(self.terms.encode()),
            earned: Nano(self.earned),
            covered: Nano(self.covered),
            meter: self.meter,
            settled: Nano(self.settled),
            fees: Nano(self.fees),
            receipted: Nano(self.receipted),
            requests: self.requests,
            phase: self.phase,
            claim: self.claim.as_ref().map(|claim| hex::encode(claim.encode())),
            first: self.first,
            last: self.last,
        };
        serde_json::to_vec(&record).map_err(damaged)
    }

    /// Reads a record, or says [`LedgerError::DamagedChannel`].
    pub(crate) fn read(id: ChannelId, bytes: &[u8]) -> Result<Self, LedgerError> {
        Self::parse(id, bytes).map_err(|error| match error {
            LedgerError::Damaged { reason } => LedgerError::DamagedChannel { channel: id, reason },
            other => other,
        })
    }

    fn parse(id: ChannelId, bytes: &[u8]) -> Result<Self, LedgerError> {
        let r: Record = serde_json::from_slice(bytes).map_err(damaged)?;
        let terms = ChannelTerms::decode(&hex::decode(&r.terms).map_err(damaged)?);
        let claim = r
            .claim
            .map(|text| Claim::decode(&hex::decode(text).map_err(damaged)?).map_err(damaged))
            .transpose()?;
        Ok(Self {
            id,
            terms: terms.map_err(damaged)?,
            earned: r.earned.0,
            covered: r.covered.0,
            meter: r.meter,
            settled: r.settled.0,
            fees: r.fees.0,
            receipted: r.receipted.0,
            requests: r.requests,
            phase: r.phase,
            claim,
            first: r.first,
            last: r.last,
        })
    }
}

/// What one meter has counted on a channel.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counted {
    requests: u64,
    tokens: u64,
}

impl From<&Claim> for Counted {
    fn from(claim: &Claim) -> Self {
        let state = &claim.settlement().settlement().state;
        Self { requests: state.count, tokens: state.cum_units }
    }
}

impl Entry<'_> {
    /// Terms that open a channel.
    const fn terms(&self) -> Option<&ChannelTerms> {
        match self {
            Self::Opened { terms, .. } => Some(terms),
            Self::Claim(claim)
            | Self::Accepted { claim, .. }
            | Self::Overcharge { claim, .. }
            | Self::Forked { claim, .. } => Some(claim.terms()),
            _ => None,
        }
    }

    /// The channel it is about.
    pub(crate) fn channel(&self) -> Result<ChannelId, LedgerError> {
        Ok(match self {
            Self::Opened { network, terms } => {
                terms.id(*network).map_err(chrysalis_receipt::ReceiptError::from)?
            }
            Self::Cap(cap) => cap.cap().channel,
            Self::Claim(claim)
            | Self::Accepted { claim, .. }
            | Self::Overcharge { claim, .. }
            | Self::Forked { claim, .. } => claim.channel(),
            Self::Request { channel, .. }
            | Self::Begun { channel, .. }
            | Self::Refused { channel, .. }
            | Self::Found { channel, .. }
            | Self::Lifted { channel }
            | Self::Paid { channel, .. }
            | Self::NotPaid { channel, .. }
            | Self::Closing { channel, .. }
            | Self::Closed { channel } => *channel,
        })
    }
}

/// A channel as it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    terms: String,
    earned: Nano,
    covered: Nano,
    meter: Option<Digest>,
    settled: Nano,
    fees: Nano,
    receipted: Nano,
    requests: u64,
    phase: Phase,
    claim: Option<String>,
    first: UnixTime,
    last: UnixTime,
}
