//! The watcher: looks at every channel through every server, decides, brings what is to be brought and
//! takes down what was paid. Time is the caller's.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrysalis_chain::{
    AccessError, ChainAccess, ChannelView, MAX_TRANSACTIONS, TransactionView, channel_view,
};
use chrysalis_receipt::{Cell, ChannelId};
use chrysalis_ton::{RESERVE, Refusal, settle_external};
use chrysalis_wire::{Digest, UnixTime};
use futures_util::future::{join, join_all};
use futures_util::stream::{self, StreamExt as _};

use crate::book::{Book, BookError, Note, Proven, Watched};
use crate::decide::{Decision, Memory, Seen, Waiting, decide, three_quarters};
use crate::error::WatchError;
use crate::policy::{POLL_SECONDS, Policy, URGENT_SECONDS};

/// Watches the channels of a book through one or more servers.
#[derive(Debug)]
pub struct Watcher<C> {
    servers: Vec<C>,
    /// Of each server, also from the looks before.
    silences: Vec<Mutex<Silence>>,
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
    /// A server answers again that was left alone: it may know what the others hide.
    pub heard_again: bool,
}

impl Round {
    /// Seconds until the next one.
    #[must_use]
    pub fn next_in(&self) -> u64 {
        let urgent = self.heard_again || self.reports.iter().any(Report::is_urgent);
        if urgent { URGENT_SECONDS } else { POLL_SECONDS }
    }
}

/// What was found and done about one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The channel.
    pub channel: ChannelId,
    /// What the servers that answered show; `None` if none shows a channel.
    pub seen: Option<Seen>,
    /// Servers that show the channel, of how many.
    pub shown_by: (usize, usize),
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

impl Outcome {
    /// Whether somebody took the claim or judged it, so that it is not brought again for a while. That
    /// nobody has such a channel is a judgement too: anybody can make one up.
    const fn is_answer(&self) -> bool {
        match self {
            Self::Taken | Self::Refused { .. } => true,
            Self::Undelivered { error } => matches!(error, AccessError::NoContract { .. }),
        }
    }
}

/// A look at one channel, as far as it is.
struct Look {
    channel: Watched,
    views: Vec<ChannelView>,
    seen: Option<Seen>,
    unanswered: Vec<AccessError>,
    decision: Decision,
    outcome: Option<Outcome>,
    not_noted: Option<BookError>,
}

impl Look {
    fn report(self, asked: usize) -> Report {
        Report {
            channel: self.channel.id(),
            seen: self.seen,
            shown_by: (self.views.len(), asked),
            unanswered: self.unanswered,
            decision: self.decision,
            outcome: self.outcome,
            not_noted: self.not_noted,
        }
    }
}

impl<C: ChainAccess> Watcher<C> {
    /// A watcher that asks `servers`.
    #[must_use]
    pub fn new(servers: Vec<C>, policy: Policy) -> Self {
        let silences = servers.iter().map(|_| Mutex::default()).collect();
        Self { servers, silences, policy, memory: BTreeMap::new() }
    }

    /// Looks at every channel once and does what is to be done. One that cannot be looked at does
    /// not keep the others from it.
    ///
    /// # Errors
    /// [`BookError`] if the book cannot be read.
    pub async fn tick(&mut self, book: &impl Book, now: UnixTime) -> Result<Round, BookError> {
        let mut round = Round::default();
        let mut channels = Vec::new();
        for channel in book.channels()? {
            match channel {
                Ok(channel) => channels.push(channel),
                Err(refused) => round.refused.push(refused),
            }
        }
        channels.retain(|channel| !self.rests(channel, now));
        // Where time is short comes first, and last where it is over and nothing is owed: of those there are
        // more and more.
        channels.sort_by_key(|channel| {
            let close_at = self.memory.get(&key(channel.id())).and_then(|memory| memory.close_at);
            let owed = claimed(channel) > channel.settled();
            let over = !owed && close_at.is_some_and(|at| at <= now);
            (over, close_at.is_none(), close_at, channel.close_delay())
        });
        let servers = Asked::of(&self.servers, &self.silences, now);
        let first = channels.first().map(|channel| channel.id().account);
        // A claim is brought as soon as its own channel was looked at, whatever the others wait for.
        let visits = channels.into_iter().map(|channel| {
            let memory = self.memory.get(&key(channel.id())).copied().unwrap_or_default();
            servers.visit(&self.policy, channel, memory, now)
        });
        let visited = stream::iter(visits).buffered(AT_ONCE).collect::<Vec<(Look, Memory)>>();
        // No channel waits for those that were silent.
        let (visited, heard) = join(visited, servers.try_again(first)).await;
        round.heard_again = heard.is_some();
        let mut looks = Vec::with_capacity(visited.len());
        for (look, memory) in visited {
            self.memory.insert(key(look.channel.id()), memory);
            looks.push(look);
        }
        // What is only taken down can wait for a slow server.
        let noting = looks.iter().map(|look| servers.take_down(look, book, now));
        let noted: Vec<_> = stream::iter(noting).buffered(AT_ONCE).collect().await;
        for (look, noted) in looks.iter_mut().zip(noted) {
            look.not_noted = noted.err();
        }
        if let Some(since) = heard {
            self.bring_again(&looks, since, now);
        }
        let asked = self.servers.len();
        round.reports = looks.into_iter().map(|look| look.report(asked)).collect();
        Ok(round)
    }

    /// A server that was left alone `since` then got none of the claims that were brought meanwhile, and may be the
    /// only one that passes them on: they are brought once more. Not for each time that a server comes and
    /// goes: it would make every payment small and early, at the owner's cost.
    fn bring_again(&mut self, looks: &[Look], since: UnixTime, now: UnixTime) {
        for look in looks {
            let Some(memory) = self.memory.get_mut(&key(look.channel.id())) else { continue };
            let pause = three_quarters(look.channel.close_delay());
            let lately = memory.again_at.and_then(|at| now.0.checked_sub(at.0));
            let missed = memory.sent.is_some_and(|(_, at)| at >= since);
            if missed && lately.is_none_or(|age| age >= pause) {
                (memory.sent, memory.again_at) = (None, Some(now));
            }
        }
    }

    /// Whether a channel is left out of a look, because the only server that is asked said a little while ago
    /// that it is over. That may be a lie, and is asked again while there is time to bring a claim.
    fn rests(&self, channel: &Watched, now: UnixTime) -> bool {
        let memory = self.memory.get(&key(channel.id()));
        let ago = |at: UnixTime| now.0.checked_sub(at.0);
        let since = memory.and_then(|memory| memory.over_at).and_then(ago);
        let pause = u64::from(channel.close_delay()) / LOOKS_IN_A_DELAY;
        // A claim is brought again before three quarters of the delay: no rest may reach beyond them.
        let sent = memory.and_then(|memory| memory.sent).map(|(_, at)| at);
        let latest = three_quarters(channel.close_delay());
        if sent.is_some_and(|at| ago(at).is_none_or(|age| age >= latest)) {
            return false;
        }
        let settled = claimed(channel) <= channel.settled();
        self.servers.len() < AGREEING && settled && since.is_some_and(|since| since < pause)
    }
}

/// The servers as one look at all channels asks them: one that says nothing [`SILENCES`] times is not
/// waited for again, for as many times as there are channels, nor in the looks after, while another one answers.
struct Asked<'a, C> {
    servers: Vec<(&'a C, &'a Mutex<Silence>)>,
    now: UnixTime,
}

/// How often in a row a server said nothing, since when, and in which way and when the last time.
#[derive(Debug, Default)]
struct Silence {
    times: usize,
    since: Option<UnixTime>,
    last: Option<(AccessError, UnixTime)>,
}

impl Silence {
    /// What it says instead of an answer without being asked.
    fn error(&self) -> Option<AccessError> {
        let (error, _) = self.last.as_ref().filter(|_| self.times >= SILENCES)?;
        Some(error.clone())
    }

    /// Whether it is time to ask it again; also if the clock was set back since.
    fn is_over(&self, now: UnixTime) -> bool {
        let since = self.last.as_ref().and_then(|(_, at)| now.0.checked_sub(at.0));
        self.error().is_some() && since.is_none_or(|seconds| seconds >= SILENT_SECONDS)
    }

    fn note<T>(&mut self, answer: &Result<T, AccessError>, now: UnixTime) {
        match answer {
            Err(error) if is_silence(error) => {
                self.times = self.times.saturating_add(1);
                self.since = self.since.or(Some(now));
                self.last = Some((error.clone(), now));
            }
            _ => *self = Self::default(),
        }
    }
}

impl<'a, C: ChainAccess> Asked<'a, C> {
    fn of(servers: &'a [C], silences: &'a [Mutex<Silence>], now: UnixTime) -> Self {
        let asked = Self { servers: servers.iter().zip(silences).collect(), now };
        // Where nobody answers there is nobody to do without them.
        if asked.servers.iter().all(|(_, silence)| lock(silence).error().is_some()) {
            asked.servers.iter().for_each(|(_, silence)| *lock(silence) = Silence::default());
        }
        asked
    }

    /// Asks those once that have been silent for long, about `account`. Of those that answer, since when they did
    /// not.
    async fn try_again(&self, account: Option<Digest>) -> Option<UnixTime> {
        let account = account?;
        let over = self.servers.iter().filter(|(_, silence)| lock(silence).is_over(self.now));
        let heard = join_all(over.map(async |(server, silence)| {
            let since = lock(silence).since;
            let answer = channel_view(*server, account).await;
            let mut silence = lock(silence);
            silence.note(&answer, self.now);
            since.filter(|_| silence.error().is_none())
        }));
        heard.await.into_iter().flatten().min()
    }

    /// Asks all of them, but for those that are silent.
    async fn each<T>(
        &self,
        ask: impl AsyncFn(&'a C) -> Result<T, AccessError>,
    ) -> Vec<Result<T, AccessError>> {
        join_all(self.servers.iter().map(async |(server, silence)| {
            let silent = lock(silence).error();
            if let Some(error) = silent {
                return Err(error);
            }
            let answer = ask(server).await;
            lock(silence).note(&answer, self.now);
            answer
        }))
        .await
    }

    /// Looks at one channel, and brings its claim if that is to be done.
    async fn visit(
        &self,
        policy: &Policy,
        channel: Watched,
        mut memory: Memory,
        now: UnixTime,
    ) -> (Look, Memory) {
        let (views, unanswered) = self.views(channel.id().account).await;
        let seen = Seen::of(views.iter().copied());
        memory.close_at = seen.map_or(memory.close_at, |seen| seen.close_at);
        let decision = decide(policy, &channel, seen.as_ref(), &mut memory, now);
        let paid = seen.is_some_and(|seen| seen.cum_paid >= claimed(&channel));
        let over = paid && views.iter().all(|view| is_over(view, now));
        memory.over_at = over.then_some(now);
        let (outcome, not_noted) = (None, None);
        let mut look = Look { channel, views, seen, unanswered, decision, outcome, not_noted };
        look.outcome = self.bring(&look).await;
        if let (Some(outcome), Some(claim)) = (&look.outcome, look.channel.claim())
            && outcome.is_answer()
        {
            memory.sent = Some((claim.cum_amount(), now));
        }
        (look, memory)
    }

    /// What the servers show, and what those say that show nothing.
    async fn views(&self, account: Digest) -> (Vec<ChannelView>, Vec<AccessError>) {
        let (mut views, mut unanswered) = (Vec::new(), Vec::new());
        for answer in self.each(async |server| channel_view(server, account).await).await {
            match answer {
                Ok(Some(view)) => views.push(view),
                Ok(None) => unanswered.push(AccessError::NoContract { account }),
                Err(error) => unanswered.push(error),
            }
        }
        (views, unanswered)
    }

    /// Brings a claim to every server, if that was decided.
    async fn bring(&self, look: &Look) -> Option<Outcome> {
        let (Decision::Settle { .. }, Some(claim)) = (look.decision, look.channel.claim()) else {
            return None;
        };
        Some(match settle_external(claim.cap(), claim.settlement()) {
            Ok(message) => self.hand_in(&message).await,
            Err(error) => Outcome::Undelivered { error: error.into() },
        })
    }

    async fn hand_in(&self, message: &Cell) -> Outcome {
        let answers = self.each(async |server| server.send(message).await).await;
        if answers.iter().any(Result::is_ok) {
            return Outcome::Taken;
        }
        let refused = answers.iter().find_map(|answer| match answer {
            Err(AccessError::NotAccepted { exit_code }) => Some(*exit_code),
            _ => None,
        });
        // That there is no such contract counts only if everybody says so who says anything: made up
        // channels would be brought again at every look for as long as one server is silent.
        let errors = answers.into_iter().filter_map(Result::err);
        let worst = errors.min_by_key(|error| match error {
            AccessError::NoContract { .. } => 1,
            silent if is_silence(silent) => 2,
            _ => 0,
        });
        match (refused, worst) {
            (Some(code), _) => Outcome::Refused { refusal: code.and_then(Refusal::from_exit_code) },
            (None, Some(error)) => Outcome::Undelivered { error },
            // Without servers there is nobody to say anything.
            (None, None) => Outcome::Undelivered { error: AccessError::Broken },
        }
    }

    /// Takes down what is new, and takes back what is not so. Of what was paid only what
    /// [`AGREEING`] servers show counts, where there are as many: one that lies, or is behind, would put a
    /// wrong sum into the owner's book. That a channel is closed counts from as many only.
    async fn take_down(
        &self,
        look: &Look,
        book: &impl Book,
        now: UnixTime,
    ) -> Result<(), BookError> {
        let (channel, Some(seen)) = (&look.channel, &look.seen) else { return Ok(()) };
        let id = channel.id();
        if let Some(refund_from) = seen.close_at {
            book.note(id, Note::Closing { refund_from }, now)?;
        }
        if look.views.len() < AGREEING.min(self.servers.len()) {
            return Ok(());
        }
        let most = look.views.iter().map(|view| view.cum_paid).max().unwrap_or(0);
        if most < channel.settled() {
            return book.note(id, Note::NotPaid { cum_paid: most }, now);
        }
        let more = seen.cum_paid.saturating_sub(channel.settled());
        // No chain pays more than was claimed: that is a lie, or the book is behind the chain.
        if more > 0 && seen.cum_paid <= claimed(channel) {
            let found = self.payments(channel, more).await;
            let (fee, transaction) = found.unwrap_or((0, Digest([0; 32])));
            book.note(id, Note::Paid { cum_paid: seen.cum_paid, fee, transaction }, now)?;
        }
        // No watcher looks at a closed channel again, so this word could not be taken back, also not by the
        // servers that its owner asks later.
        let agreed = look.views.iter().filter(|view| is_over(view, now)).count() >= AGREEING;
        if agreed {
            book.note(id, Note::Closed, now)?;
        }
        Ok(())
    }

    /// Fees of the last payments that add up to `amount`, and the hash of the newest of them.
    async fn payments(&self, channel: &Watched, amount: u128) -> Option<(u128, Digest)> {
        let account = channel.id().account;
        let listed =
            self.each(async |server| server.transactions(account, 0, MAX_TRANSACTIONS).await).await;
        let mut listed = listed.into_iter().filter_map(Result::ok);
        listed.find_map(|listed| newest_payments(&listed, channel.payee(), amount))
    }
}

fn lock(silence: &Mutex<Silence>) -> MutexGuard<'_, Silence> {
    silence.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a server said nothing at all, and may take as long to do so again.
const fn is_silence(error: &AccessError) -> bool {
    matches!(error, AccessError::Unreachable(_) | AccessError::TimedOut(_) | AccessError::Broken)
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

/// Whether the rest went back.
fn is_over(view: &ChannelView, now: UnixTime) -> bool {
    view.close_at.is_some_and(|at| at <= now) && view.balance <= RESERVE
}

fn claimed(channel: &Watched) -> u128 {
    channel.claim().map_or(0, Proven::cum_amount)
}

/// Servers that have to show a payment before it is taken down, where there are as many.
pub const AGREEING: usize = 2;
/// How often a channel that the only server says is over is looked at in its closing delay.
pub(crate) const LOOKS_IN_A_DELAY: u64 = 4;
/// Channels that are looked at at once: one server that is slow does not carry the others past a closing
/// delay.
pub const AT_ONCE: usize = 16;
/// Times in a row that a server may say nothing before looks do without it.
pub const SILENCES: usize = 3;
/// For how long they do, seconds. The one after is a look away, and both together half of the shortest delay that
/// a channel may close with.
pub const SILENT_SECONDS: u64 = POLL_SECONDS;
