//! How much of a channel its payee's owner may vouch for, from what servers show of it. Here a lie in
//! the other direction than the watcher's hurts: too much makes the owner serve for nothing. So the
//! least of what the servers say counts, and who asks several is hurt only if all of them lie.

use chrysalis_chain::{AccessError, ChainAccess, ChannelView, channel_view};
use chrysalis_receipt::{FundingNote, MeterPublicKey};
use chrysalis_ton::{ChannelConfig, RESERVE};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use futures_util::future::join_all;

use crate::policy::EXPECTED_FEE;

/// What the servers that answered agree is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// Most that may be vouched for, nanogram since the channel was opened.
    pub covers: u128,
    /// What others said instead of an answer.
    pub unanswered: Vec<AccessError>,
}

/// Asks every server for the channel at `account`.
///
/// # Errors
/// What the last server said, if none of them answers.
pub async fn deposit(
    servers: &[impl ChainAccess],
    account: Digest,
) -> Result<Deposit, AccessError> {
    let asked = servers.iter().map(|server| channel_view(server, account));
    let (mut least, mut unanswered) = (None::<u128>, Vec::new());
    for answer in join_all(asked).await {
        match answer {
            Ok(view) => {
                let covers = view.as_ref().map_or(0, covers);
                least = Some(least.map_or(covers, |least| least.min(covers)));
            }
            Err(error) => unanswered.push(error),
        }
    }
    match least {
        Some(covers) => Ok(Deposit { covers, unanswered }),
        None => Err(unanswered.pop().unwrap_or(AccessError::Broken)),
    }
}

/// What a channel covers by one view of it: what was paid and what can be, less fees of settlements to
/// come. Nothing once its payer asked to close: what is owed until then is the watcher's to bring.
fn covers(view: &ChannelView) -> u128 {
    match view.close_at {
        Some(_) => 0,
        None => view.cum_paid.saturating_add(view.balance.saturating_sub(RESERVE + FEES_KEPT)),
    }
}

/// The note for a worker with `meter_key` about the channel of `config`, seen at `now`.
///
/// # Errors
/// [`chrysalis_ton::TonError`] in a damaged build.
pub fn note(
    config: &ChannelConfig,
    network: NetworkId,
    meter_key: MeterPublicKey,
    covers: u128,
    now: UnixTime,
) -> Result<FundingNote, chrysalis_ton::TonError> {
    let until = UnixTime(now.0.saturating_add(NOTE_SECONDS));
    Ok(FundingNote { channel: config.id(network)?, meter_key, covers, seen_at: now, until })
}

/// How long a note is good, seconds: longer than a server that is away for a while.
pub const NOTE_SECONDS: u64 = 600;
/// Kept back for the fees of settlements that the deposit pays, nanogram: of ten.
pub const FEES_KEPT: u128 = 10 * EXPECTED_FEE;

const _: () = assert!(NOTE_SECONDS <= chrysalis_receipt::MAX_NOTE_SECONDS);
