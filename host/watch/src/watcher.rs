//! The watcher: looks at every channel through every server, decides, brings what is to be brought and
//! takes down what was paid. Time is the caller's.

use std::collections::BTreeMap;

use chrysalis_chain::{
    AccessError, ChainAccess, ChannelView, MAX_TRANSACTIONS, TransactionView, channel_view,
};
use chrysalis_receipt::{Cell, ChannelId};
use chrysalis_ton::{Refusal, settle_external};
use chrysalis_wire::{Digest, UnixTime};
use futures_util::future::join_all;

use crate::book::{Book, BookError, Note, Proven, Watched};
use crate::decide::{Decision, Memory, Seen, Waiting, decide};
use crate::error::WatchError;
use crate::policy::{POLL_SECONDS, Policy, URGENT_SECONDS};

/// Watches the channels of a book through one or more servers.
#[derive(Debug)]
pub struct Watcher<C> {
    servers: Vec<C>,
    policy: Policy,
    /// By network and account.
    memory: BTreeMap<(i32, Digest), Memory>,
}

/// One look at every channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Channels that were looked at.
    pub reports: Vec<Report>,
    /// Why others were not.
    pub refused: Vec<WatchError>,
}

impl Round {
    /// Seconds until the next one.
    #[must_use]
    pub fn next_in(&self) -> u64 {
        if self.reports.iter().any(Report::is_urgent) { URGENT_SECONDS } else { POLL_SECONDS }
    }
}

/// What was found and done about one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The channel.
    pub channel: ChannelId,
    /// What the servers that answered show; `None` if none shows a channel.
    pub seen: Option<Seen>,
    /// What servers said instead of an answer.
    pub unanswered: Vec<AccessError>,
    /// What was decided.
    pub decision: Decision,
    /// What came of bringing the claim, if that was decided.
    pub outcome: Option<Outcome>,
    /// Why a payment or a request to close was not taken down.
    pub not_noted: Option<BookError>,
}

impl Report {
    /// Whether something is under way, or will be over soon.
    fn is_urgent(&self) -> bool {
        let closing = self.seen.is_some_and(|seen| seen.close_at.is_some());
        match self.decision {
            Decision::Nothing => false,
            Decision::Settle { .. } => true,
            Decision::Wait { why, .. } => closing || why == Waiting::Underway,
        }
    }
}

/// What came of bringing a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server took it. Whether the contract pays is seen later.
    Taken,
    /// The contract is said to refuse it, everywhere.
    Refused {
        /// Its reason, if the server passed it on.
        refusal: Option<Refusal>,
    },
    /// It reached no server.
    Undelivered {
        /// What the last one said.
        error: AccessError,
    },
}

impl<C: ChainAccess> Watcher<C> {
    /// A watcher that asks `servers`.
    #[must_use]
    pub fn new(servers: Vec<C>, policy: Policy) -> Self {
        Self { servers, policy, memory: BTreeMap::new() }
    }

    /// Looks at every channel once and does what is to be done. One that cannot be looked at does
    /// not keep the others from it.
    ///
    /// # Errors
    /// [`BookError`] if the book cannot be read.
    pub async fn tick(&mut self, book: &impl Book, now: UnixTime) -> Result<Round, BookError> {
        let mut round = Round::default();
        for channel in book.channels()? {
            match channel {
                Ok(channel) => round.reports.push(self.look(&channel, book, now).await),
                Err(refused) => round.refused.push(refused),
            }
        }
        Ok(round)
    }

    async fn look(&mut self, channel: &Watched, book: &impl Book, now: UnixTime) -> Report {
        let id = channel.id();
        let (views, unanswered) = self.views(id.account).await;
        let seen = Seen::of(views);
        let not_noted = match seen {
            Some(seen) => self.take_down(channel, &seen, book, now).await.err(),
            None => None,
        };
        let memory = self.memory.entry(key(id)).or_default();
        let decision = decide(&self.policy, channel, seen.as_ref(), memory, now);
        let outcome = match (decision, channel.claim()) {
            (Decision::Settle { .. }, Some(claim)) => Some(self.bring(id, claim, now).await),
            _ => None,
        };
        Report { channel: id, seen, unanswered, decision, outcome, not_noted }
    }

    /// What the servers show, and what those say that show nothing.
    async fn views(&self, account: Digest) -> (Vec<ChannelView>, Vec<AccessError>) {
        let asked = self.servers.iter().map(|server| channel_view(server, account));
        let (mut views, mut unanswered) = (Vec::new(), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(Some(view)) => views.push(view),
                Ok(None) => unanswered.push(AccessError::NoContract { account }),
                Err(error) => unanswered.push(error),
            }
        }
        (views, unanswered)
    }

    /// Brings a claim to every server.
    async fn bring(&mut self, id: ChannelId, claim: &Proven, now: UnixTime) -> Outcome {
        let message = match settle_external(claim.cap(), claim.settlement()) {
            Ok(message) => message,
            Err(error) => return Outcome::Undelivered { error: error.into() },
        };
        let outcome = self.hand_in(&message).await;
        if !matches!(outcome, Outcome::Undelivered { .. }) {
            self.memory.entry(key(id)).or_default().sent = Some((claim.cum_amount(), now));
        }
        outcome
    }

    async fn hand_in(&self, message: &Cell) -> Outcome {
        let answers = join_all(self.servers.iter().map(|server| server.send(message))).await;
        if answers.iter().any(Result::is_ok) {
            return Outcome::Taken;
        }
        let refused = answers.iter().find_map(|answer| match answer {
            Err(AccessError::NotAccepted { exit_code }) => Some(*exit_code),
            _ => None,
        });
        match (refused, answers.into_iter().find_map(Result::err)) {
            (Some(code), _) => Outcome::Refused { refusal: code.and_then(Refusal::from_exit_code) },
            (None, Some(error)) => Outcome::Undelivered { error },
            // Without servers there is nobody to say anything.
            (None, None) => Outcome::Undelivered { error: AccessError::Broken },
        }
    }

    /// Takes down what is new.
    async fn take_down(
        &self,
        channel: &Watched,
        seen: &Seen,
        book: &impl Book,
        now: UnixTime,
    ) -> Result<(), BookError> {
        let id = channel.id();
        if let Some(refund_from) = seen.close_at {
            book.note(id, Note::Closing { refund_from }, now)?;
        }
        let more = seen.cum_paid.saturating_sub(channel.settled());
        // No chain pays more than was claimed: that is a lie, or the book is behind the chain.
        let claimed = channel.claim().map_or(0, Proven::cum_amount);
        if more > 0 && seen.cum_paid <= claimed {
            let found = self.payments(channel, more).await;
            let (fee, transaction) = found.unwrap_or((0, Digest([0; 32])));
            book.note(id, Note::Paid { cum_paid: seen.cum_paid, fee, transaction }, now)?;
        }
        Ok(())
    }

    /// Fees of the last payments that add up to `amount`, and the hash of the newest of them.
    async fn payments(&self, channel: &Watched, amount: u128) -> Option<(u128, Digest)> {
        for server in &self.servers {
            let account = channel.id().account;
            let Ok(listed) = server.transactions(account, 0, MAX_TRANSACTIONS).await else {
                continue;
            };
            if let Some(found) = newest_payments(&listed, channel.payee(), amount) {
                return Some(found);
            }
        }
        None
    }
}

const fn key(channel: ChannelId) -> (i32, Digest) {
    (channel.network.0, channel.account)
}

/// Fees of the newest transactions that paid `amount` to the payee together, and the hash of the first;
/// `None` if they do not add up to exactly that.
fn newest_payments(
    listed: &[TransactionView],
    payee: Digest,
    amount: u128,
) -> Option<(u128, Digest)> {
    let (mut paid, mut fees, mut newest) = (0u128, 0u128, None);
    for transaction in listed {
        let sent = transaction.sent.iter().filter(|(to, _)| *to == payee);
        let sent = sent.fold(0u128, |sum, (_, value)| sum.saturating_add(*value));
        if sent == 0 {
            continue;
        }
        newest = newest.or(Some(transaction.hash));
        paid = paid.saturating_add(sent);
        fees = fees.saturating_add(transaction.fee);
        if paid >= amount {
            break;
        }
    }
    newest.filter(|_| paid == amount).map(|hash| (fees, hash))
}
