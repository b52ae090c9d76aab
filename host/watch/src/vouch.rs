//! How much of a channel its payee's owner may vouch for, from what servers show of it. Here a lie in
//! the other direction than the watcher's hurts: too much makes the owner serve for nothing. So the
//! least of what the servers say counts, and less than [`AGREEING`] answers are none where as many are
//! asked: who silences the honest server has not got the owner's word by the other one.

use chrysalis_chain::{AccessError, ChainAccess, ChannelView, channel_view};
use chrysalis_receipt::{FundingNote, MeterPublicKey};
use chrysalis_ton::{ChannelConfig, RESERVE};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use futures_util::future::join_all;

use crate::policy::EXPECTED_FEE;
use crate::watcher::AGREEING;

/// What the servers that answered agree is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// Most that may be vouched for, nanogram since the channel was opened.
    pub covers: u128,
    /// Most that any of them says was paid, nanogram.
    pub paid: u128,
    /// What others said instead of an answer.
    pub unanswered: Vec<AccessError>,
}

/// Asks every server for the channel at `account`, whose smallest settlement is `min_settle` nanogram.
///
/// # Errors
/// What the last server said, if fewer than [`AGREEING`] of them answer, or than there are.
pub async fn deposit(
    servers: &[impl ChainAccess],
    account: Digest,
    min_settle: u128,
) -> Result<Deposit, AccessError> {
    let asked = servers.iter().map(|server| channel_view(server, account));
    let (mut answers, mut least, mut paid, mut unanswered) = (0, u128::MAX, 0, Vec::new());
    for answer in join_all(asked).await {
        match answer {
            Ok(view) => {
                answers += 1;
                least = least.min(view.as_ref().map_or(0, |view| covers(view, min_settle)));
                paid = view.map_or(0, |view| view.cum_paid).max(paid);
            }
            Err(error) => unanswered.push(error),
        }
    }
    if answers < AGREEING.min(servers.len()).max(1) {
        return Err(unanswered.pop().unwrap_or(AccessError::Broken));
    }
    Ok(Deposit { covers: least, paid, unanswered })
}

/// What a channel covers by one view of it: what was paid and what can be without a wallet, less fees of
/// settlements to come. Nothing once its payer asked to close: what is owed until then is the watcher's
/// to bring.
fn covers(view: &ChannelView, min_settle: u128) -> u128 {
    let left = view.balance.saturating_sub(RESERVE + FEES_KEPT);
    match view.close_at {
        Some(_) => 0,
        None if left < min_settle => view.cum_paid,
        None => view.cum_paid.saturating_add(left),
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
    seen: &Deposit,
    now: UnixTime,
) -> Result<FundingNote, chrysalis_ton::TonError> {
    let until = UnixTime(now.0.saturating_add(NOTE_SECONDS));
    let (channel, &Deposit { covers, paid, .. }) = (config.id(network)?, seen);
    Ok(FundingNote { channel, meter_key, covers, paid, seen_at: now, until })
}

/// How long a note is good, seconds: longer than a server that is away for a while.
pub const NOTE_SECONDS: u64 = 600;
/// Kept back for the fees of settlements that the deposit pays, nanogram: of ten.
pub const FEES_KEPT: u128 = 10 * EXPECTED_FEE;

const _: () = assert!(NOTE_SECONDS <= chrysalis_receipt::MAX_NOTE_SECONDS);
