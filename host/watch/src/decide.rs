//! What to do about one channel now: a pure function of what is owed, what the chain is said to be and
//! what was done before.

use chrysalis_chain::ChannelView;
use chrysalis_ton::RESERVE;
use chrysalis_wire::UnixTime;

use crate::book::Watched;
use crate::policy::{Policy, REPEAT_SECONDS};

/// A channel as all servers together show it, in the way that makes the watcher earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Least that any of them says was paid, nanogram.
    pub cum_paid: u128,
    /// Earliest closing date that any of them has.
    pub close_at: Option<UnixTime>,
    /// Largest balance, nanogram.
    pub balance: u128,
}

impl Seen {
    /// What several servers say; `None` if none of them shows a channel.
    pub fn of(views: impl IntoIterator<Item = ChannelView>) -> Option<Self> {
        views.into_iter().fold(None, |seen, view| {
            let ChannelView { cum_paid, close_at, balance } = view;
            Some(match seen {
                None => Self { cum_paid, close_at, balance },
                Some(seen) => Self {
                    cum_paid: seen.cum_paid.min(cum_paid),
                    close_at: match (seen.close_at, close_at) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    },
                    balance: seen.balance.max(balance),
                },
            })
        })
    }
}

/// What the watcher did about a channel since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Owed by the claim that was sent last, and when.
    pub sent: Option<(u128, UnixTime)>,
    /// What was paid when something was first seen to be owed on top, and when that was.
    pub owed_since: Option<(u128, UnixTime)>,
    /// When the payer may take the rest, by the last look.
    pub close_at: Option<UnixTime>,
    /// When it was looked at last, if every answer said then that everything is paid and the rest went back.
    pub over_at: Option<UnixTime>,
    /// When it was last to be sent once more because a server answers again.
    pub again_at: Option<UnixTime>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is owed.
    Nothing,
    /// Something is owed, and not brought yet.
    Wait {
        /// Nanogram.
        owed: u128,
        /// Why not.
        why: Waiting,
    },
    /// The claim is brought.
    Settle {
        /// Nanogram that are owed, as far as is known.
        owed: u128,
        /// Why now.
        why: Reason,
    },
}

/// Why a claim is not brought yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It was sent and may still arrive.
    Underway,
    /// The contract pays no less than its smallest settlement unless a wallet brings the claim.
    BelowMinimum {
        /// From when on the payer may take the rest, if she asked to.
        refund_from: Option<UnixTime>,
    },
    /// The deposit does not cover the smallest settlement.
    NotCovered,
    /// The fee would be too large a part of it.
    FeeShare,
    /// There is time.
    UntilThreshold {
        /// When it will be brought even if no more is owed.
        at: UnixTime,
    },
    /// No server shows the channel.
    NotSeen,
}

/// Why a claim is brought now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The payer asked to close.
    Closing {
        /// From when on she may take the rest.
        refund_from: UnixTime,
    },
    /// Enough is owed.
    Amount,
    /// It is owed for long.
    Age,
    /// Because it was not for a while, whatever the servers say.
    Insist,
}

/// For how many seconds a claim that was brought is not brought again, of a closing delay of `delay`: its last
/// quarter is left for messages that get lost.
pub(crate) fn three_quarters(delay: u32) -> u64 {
    u64::from(delay).saturating_mul(3).div_ceil(4)
}

/// Decides about a channel and updates what is remembered of when something became owed. What is
/// remembered of sending is up to whoever sends.
pub fn decide(
    policy: &Policy,
    channel: &Watched,
    seen: Option<&Seen>,
    memory: &mut Memory,
    now: UnixTime,
) -> Decision {
    let Some(claim) = channel.claim() else { return Decision::Nothing };
    let cum = claim.cum_amount();
    if cum == 0 {
        return Decision::Nothing;
    }
    let paid = seen.map_or_else(|| channel.settled(), |seen| seen.cum_paid);
    let owed = cum.saturating_sub(paid);
    match (seen, memory.owed_since) {
        (Some(_), _) if owed == 0 => memory.owed_since = None,
        // A payment, or a first look: the time runs from here.
        (Some(seen), since) if since.is_none_or(|(paid, _)| paid != seen.cum_paid) => {
            memory.owed_since = Some((seen.cum_paid, now));
        }
        _ => {}
    }
    let wait = |why| Decision::Wait { owed, why };
    let settle = |why| Decision::Settle { owed, why };
    match memory.sent {
        // Before any reading, so that no answer can prevent it.
        None => return settle(Reason::Insist),
        // A clock that was set back says nothing of how long ago that was.
        Some((_, at)) if at > now => return settle(Reason::Insist),
        Some((sent, at)) => {
            let age = now.0.saturating_sub(at.0);
            if age >= three_quarters(channel.close_delay()) {
                return settle(Reason::Insist);
            }
            if sent >= cum && age < REPEAT_SECONDS && owed > 0 {
                return wait(Waiting::Underway);
            }
        }
    }
    let Some(seen) = seen else { return wait(Waiting::NotSeen) };
    if owed == 0 {
        return Decision::Nothing;
    }
    let payable = owed.min(seen.balance.saturating_sub(RESERVE));
    if owed < channel.min_settle() {
        return wait(Waiting::BelowMinimum { refund_from: seen.close_at });
    }
    if payable < channel.min_settle() {
        return wait(Waiting::NotCovered);
    }
    if let Some(refund_from) = seen.close_at {
        return settle(Reason::Closing { refund_from });
    }
    if !policy.worth_its_fee(payable) {
        return wait(Waiting::FeeShare);
    }
    if payable >= policy.settle_at() {
        return settle(Reason::Amount);
    }
    let since = memory.owed_since.map_or(now, |(_, since)| since);
    let at = UnixTime(since.0.saturating_add(policy.settle_after()));
    if now >= at { settle(Reason::Age) } else { wait(Waiting::UntilThreshold { at }) }
}
