//! A payee's ledger as the book that is watched, and as what her earnings are added up from. The file may
//! be anybody's; claims in it are verified again.

use chrysalis_ledger::{Channel, Entry, EventKind, Ledger, LedgerError, LedgerView};
use chrysalis_receipt::ChannelId;
use chrysalis_ton::ChannelConfig;
use chrysalis_wire::UnixTime;

use crate::book::{Book, BookError, Note, Watched};
use crate::earnings::{Fact, Happened, Standing};
use crate::error::WatchError;

impl Book for Ledger {
    /// Every channel, also one that is said to be closed: that is a server's word too.
    fn channels(&self) -> Result<Vec<Result<Watched, WatchError>>, BookError> {
        Ok(self.view().channels()?.iter().map(watched).collect())
    }

    fn note(&self, channel: ChannelId, note: Note, at: UnixTime) -> Result<(), BookError> {
        let entry = match note {
            Note::Paid { cum_paid, fee, transaction } => {
                Entry::Paid { channel, cum_paid, fee, transaction }
            }
            Note::NotPaid { cum_paid } => Entry::NotPaid { channel, cum_paid },
            Note::Closing { refund_from } => Entry::Closing { channel, refund_from },
        };
        self.record(&entry, at)?;
        Ok(())
    }
}

fn watched(channel: &Channel) -> Result<Watched, WatchError> {
    let config = ChannelConfig::from_terms(&channel.terms);
    let watched = Watched::new(&config, channel.id.network, channel.settled)?;
    match &channel.claim {
        None => Ok(watched),
        Some(claim) => watched.with_claim(&config, claim.cap().clone(), claim.settlement().clone()),
    }
}

/// How the channels of a ledger stand, and what happened to them.
///
/// # Errors
/// [`LedgerError`] for a ledger that cannot be read.
pub fn facts(ledger: &LedgerView) -> Result<(Vec<Standing>, Vec<Fact>), LedgerError> {
    let mut facts = Vec::new();
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
            facts.push(Fact { at: event.at, what });
        }
    }
    let standing = |channel: &Channel| Standing {
        earned: channel.earned,
        covered: channel.covered,
        settled: channel.settled,
        min_settle: channel.terms.min_settle(),
        since: paid_at.get(&channel.id.account).copied().unwrap_or(channel.first),
    };
    Ok((ledger.channels()?.iter().map(standing).collect(), facts))
}

impl From<LedgerError> for BookError {
    fn from(error: LedgerError) -> Self {
        Self(error.to_string())
    }
}

/// Events read at once.
const PAGE: usize = 1_024;
