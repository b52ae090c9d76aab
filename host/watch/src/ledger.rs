//! A payee's ledger as the book that is watched, and as what her earnings are added up from. The file may
//! be anybody's; claims in it are verified again.

use chrysalis_ledger::{Channel, Entry, EventKind, Ledger, LedgerError, LedgerView, Phase};
use chrysalis_receipt::{ChannelId, Claim};
use chrysalis_ton::ChannelConfig;
use chrysalis_wire::UnixTime;

use crate::book::{Book, BookError, Note, Watched};
use crate::earnings::{Fact, Happened, Standing};
use crate::error::WatchError;

impl Book for Ledger {
    /// Every channel but those that are closed and paid, of which several servers gave their word; also one
    /// that is said to be closed while it owes something. One whose record cannot be read is refused, and watched by the last claim that was kept beside it: that proves
    /// itself, and what was paid the chain says as well.
    fn channels(&self) -> Result<Vec<Result<Watched, WatchError>>, BookError> {
        let view = self.view();
        let mut channels = Vec::new();
        for channel in view.each_channel()? {
            match channel {
                Ok(c) if c.phase == Phase::Closed && c.earned <= c.settled => {}
                Ok(channel) => channels.push(watched(&channel)),
                Err(error) => {
                    if let LedgerError::DamagedChannel { channel, .. } = &error
                        && let Some(claim) = view.latest_claim(*channel).ok().flatten()
                    {
                        channels.push(proven(&claim, 0));
                    }
                    channels.push(Err(error.into()));
                }
            }
        }
        Ok(channels)
    }

    fn note(&self, channel: ChannelId, note: Note, at: UnixTime) -> Result<(), BookError> {
        let entry = match note {
            Note::Paid { cum_paid, fee, transaction } => {
                Entry::Paid { channel, cum_paid, fee, transaction }
            }
            Note::NotPaid { cum_paid } => Entry::NotPaid { channel, cum_paid },
            Note::Closing { refund_from } => Entry::Closing { channel, refund_from },
            Note::Closed => Entry::Closed { channel },
        };
        self.record(&entry, at)?;
        Ok(())
    }
}

fn watched(channel: &Channel) -> Result<Watched, WatchError> {
    let config = ChannelConfig::from_terms(&channel.terms);
    match &channel.claim {
        None => Ok(Watched::new(&config, channel.id.network, channel.settled)?),
        Some(claim) => proven(claim, channel.settled),
    }
}

/// A channel by its claim, of which `settled` nanogram are known to be paid.
fn proven(claim: &Claim, settled: u128) -> Result<Watched, WatchError> {
    let config = ChannelConfig::from_terms(claim.terms());
    let (cap, settlement) = (claim.cap().clone(), claim.settlement().clone());
    Watched::new(&config, claim.channel().network, settled)?.with_claim(&config, cap, settlement)
}

/// What earnings are added up from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How the channels stand.
    pub standings: Vec<Standing>,
    /// What happened.
    pub happened: Vec<Fact>,
    /// Channels whose record cannot be read, which are not in the standings.
    pub left_out: Vec<LedgerError>,
}

/// How the channels of a ledger stand, and what happened to them.
///
/// # Errors
/// [`LedgerError`] for a ledger that cannot be read.
pub fn facts(ledger: &LedgerView) -> Result<Facts, LedgerError> {
    let mut happened = Vec::new();
    let mut paid_at = std::collections::HashMap::new();
    let mut last = 0;
    loop {
        let page = ledger.events(last, PAGE)?;
        let Some(newest) = page.last() else { break };
        last = newest.seq;
        for event in &page {
            let what = match &event.kind {
                EventKind::Earned { amount, requests, .. } => {
                    Happened::Earned { amount: amount.0, requests: *requests }
                }
                EventKind::Settled { amount, fee, .. } => {
                    paid_at.insert(event.channel().account, event.at);
                    Happened::Settled { amount: amount.0, fee: fee.0 }
                }
                EventKind::NotSettled { amount, .. } => Happened::NotSettled { amount: amount.0 },
                _ => continue,
            };
            happened.push(Fact { at: event.at, what });
        }
    }
    let standing = |channel: &Channel| Standing {
        earned: channel.earned,
        covered: channel.covered,
        settled: channel.settled,
        min_settle: channel.terms.min_settle(),
        since: paid_at.get(&channel.id.account).copied().unwrap_or(channel.first),
    };
    let (mut standings, mut left_out) = (Vec::new(), Vec::new());
    for channel in ledger.each_channel()? {
        match channel {
            Ok(channel) => standings.push(standing(&channel)),
            Err(error) => left_out.push(error),
        }
    }
    Ok(Facts { standings, happened, left_out })
}

impl From<LedgerError> for BookError {
    fn from(error: LedgerError) -> Self {
        Self(error.to_string())
    }
}

/// Events read at once.
const PAGE: usize = 1_024;
