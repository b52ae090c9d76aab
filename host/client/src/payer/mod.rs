//! Pays a worker for what it answers. The worker is attested and still not believed about money: a
//! cap is signed only up to what the user allowed, and only after it is on the disk; what the worker
//! says is owed is held against the receipts of the requests.
//!
//! A ledger that was lost is told from a meter that counts too much by the cap. A claim under a higher
//! cap than the ledger has was signed for and forgotten; under any other nothing was, and whatever is
//! more than may be owed is too much. That holds only if a meter has shown what it knows before it gets
//! the first cap of a process, which may be the very one that was forgotten.

mod standing;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use chrysalis_evidence::VerifiedWorker;
use chrysalis_ledger::{Channel, Entry, Ledger, OpenRequest, Question, Stopped};
use chrysalis_receipt::{
    ChannelId, ChannelTerms, Claim, LogHead, MeterPublicKey, Offer, PayerKey, PaymentRequired,
    PublicReceipt, ReceiptError, StateRequest, worst_case,
};
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixTime};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

pub use self::standing::Budget;
use self::standing::{Asked, Ended, Known, Standing, TooMuch, longest};
use crate::clock::Clock;
use crate::error::{ClientError, sanitise};

/// Pays through one channel. Clones share it.
#[derive(Clone)]
pub struct Payer {
    inner: Arc<Inner>,
}

struct Inner {
    key: PayerKey,
    terms: ChannelTerms,
    channel: ChannelId,
    budget: Budget,
    ledger: Ledger,
    clock: Clock,
    state: Mutex<State>,
    /// Meter that has shown what it knows. Held while it is asked: no cap goes to it before.
    heard: tokio::sync::Mutex<Option<Digest>>,
    /// Told why a request waits.
    told: OnceLock<Tell>,
}

type Tell = Box<dyn Fn(&str) + Send + Sync>;

struct State {
    standing: Standing,
    /// Meter that the last cap names.
    meter: Option<Digest>,
    /// The last claim in the ledger.
    claim: Option<Claim>,
    /// Why nothing more is signed.
    stopped: Option<ClientError>,
    /// Meter whose logs are not compared any more.
    forgiven: Option<Digest>,
    /// When this process asked for the receipts of requests whose answers were given up.
    tries: HashMap<RequestId, Tries>,
}

/// How often a receipt was asked for that was not there, and when the last time.
#[derive(Clone, Copy)]
struct Tries {
    times: u32,
    last: UnixTime,
}

impl Tries {
    /// Whether it may be there by now: also if the clock was set back since.
    fn is_due(&self, now: UnixTime) -> bool {
        let pause = FIRST_RECEIPT_PAUSE.saturating_mul(1 << self.times.min(MAX_PAUSE_DOUBLINGS));
        now.0.checked_sub(self.last.0).is_none_or(|since| since >= pause)
    }
}

/// Where a channel stands, nanogram since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayerStanding {
    /// The most that may be owed.
    pub may_owe: u128,
    /// Largest cap signed.
    pub covered: u128,
    /// No cap goes above this.
    pub limit: u128,
    /// Whether most of the limit may be owed.
    pub near: bool,
}

impl Payer {
    /// A payer with `key` for the channel with `terms`, as its ledger left it.
    ///
    /// # Errors
    /// [`ClientError::Payment`] for a key that is not the channel's, [`ClientError::Ledger`].
    pub fn open(
        key: PayerKey,
        terms: ChannelTerms,
        network: NetworkId,
        budget: Budget,
        ledger: Ledger,
        clock: Clock,
    ) -> Result<Self, ClientError> {
        if key.public() != terms.payer_key().to_bytes() {
            return Err(ReceiptError::Terms { field: "the payer key" }.into());
        }
        let channel = terms.id(network).map_err(ReceiptError::from)?;
        let now = clock.now().seconds();
        ledger.record(&Entry::Opened { network, terms: &terms }, now)?;
        let view = ledger.view();
        let (mut known, meter, claim) = match view.channel(channel)? {
            Some(Channel { covered, earned: claimed, receipted, meter, claim, .. }) => {
                (Known { covered, claimed, receipted, ..Known::default() }, meter, claim)
            }
            None => (Known::default(), None, None),
        };
        let (mut stopped, mut forgiven) = (None, None);
        let memory = view.memory(channel)?;
        let remembered = memory.is_some();
        if let Some(memory) = memory {
            stopped = memory.stopped().map(|stopped| match stopped {
                Stopped::Overcharge(proof) => {
                    ClientError::Overcharged { accounted: proof.accounted }
                }
                Stopped::Fork(proof) => log_forked(&proof.before, &proof.claim),
            });
            // Earlier builds accepted claims for receipts that never came to the disk: their requests are open.
            known.included = memory.included.min(known.receipted);
            known.explained = memory.explained;
            (known.lost, known.late) = (memory.open, memory.late);
            let beyond = known.claimed.saturating_sub(known.included);
            known.unreceipted = memory.unreceipted.unwrap_or(beyond);
            forgiven = memory.forgiven;
        } else if known.covered > known.claimed {
            // An older build kept no memory: for all that is known, what was covered may be owed.
            let (request, worst) =
                (RequestId([0; 16]), known.covered.saturating_sub(known.claimed));
            ledger.record(&Entry::Begun { channel, request, worst }, now)?;
            known.lost.push(OpenRequest { request, worst, begun: now });
            known.unreceipted = known.claimed;
        } else {
            known.unreceipted = known.claimed;
        }
        let mut standing = Standing::new(budget, known);
        if remembered {
            // Which meter the receipts since the last claim are of is written down nowhere.
            standing.change_meter();
        }
        let tries = HashMap::new();
        let state = Mutex::new(State { standing, meter, claim, stopped, forgiven, tries });
        let (heard, told) = Default::default();
        let inner = Inner { key, terms, channel, budget, ledger, clock, state, heard, told };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Has `tell` told, in the worker's words, why a request waits. The first one stays.
    pub fn tell(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.inner.told.set(Box::new(tell));
    }

    pub(crate) fn waits(&self, why: &str) {
        if let Some(tell) = self.inner.told.get() {
            tell(why);
        }
    }

    /// The channel it pays through.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.inner.channel
    }

    /// Where it stands.
    #[must_use]
    pub fn standing(&self) -> PayerStanding {
        let state = self.inner.state();
        PayerStanding {
            may_owe: state.standing.may_owe(),
            covered: state.standing.covered(),
            limit: self.inner.budget.limit,
            near: state.standing.near(),
        }
    }

    /// Whether the worker asks to be paid, and through this channel.
    ///
    /// # Errors
    /// [`ClientError::Payment`] if it pays somebody else, for another worker, by another contract or on
    /// another network.
    pub(crate) fn suits(&self, verified: &VerifiedWorker) -> Result<bool, ClientError> {
        let Some(payment) = verified.manifest().payment else { return Ok(false) };
        let (expected, got) = (payment.payee, self.inner.terms.payee());
        if expected != got {
            return Err(ReceiptError::OtherPayee { expected, got }.into());
        }
        let (expected, got) = (payment.worker, self.inner.terms.worker());
        if expected != got {
            return Err(ReceiptError::OtherWorker { expected, got }.into());
        }
        if payment.channel_code != self.inner.terms.code().hash() {
            return Err(ReceiptError::UnknownCode { got: payment.channel_code }.into());
        }
        let expected = ChannelId { network: verified.keyset().network, ..self.inner.channel };
        if expected != self.inner.channel {
            return Err(ReceiptError::OtherChannel { expected, got: self.inner.channel }.into());
        }
        Ok(true)
    }

    /// The meter that was asked for what it knows, to be set by whoever asks another one.
    pub(crate) async fn heard(&self) -> tokio::sync::MutexGuard<'_, Option<Digest>> {
        self.inner.heard.lock().await
    }

    /// The claim that a worker with another meter key has to go on from: this payer does not want to
    /// be owed what the next settlement would be refused for. `None` once it named this meter.
    pub(crate) fn handover(&self, verified: &VerifiedWorker) -> Option<Vec<u8>> {
        let state = self.inner.state();
        let meter = Digest(verified.keyset().meter_key);
        let claim = state.claim.as_ref().filter(|_| state.meter != Some(meter))?;
        Some(claim.encode())
    }

    /// Signs for the sealed request that is about to be sent, and for a higher cap if it takes one.
    ///
    /// # Errors
    /// [`ClientError::Budget`], [`ClientError::Overcharged`] after a claim that was too much,
    /// [`ClientError::Ledger`], [`ClientError::Payment`].
    pub(crate) async fn offer(
        &self,
        verified: &VerifiedWorker,
        request: RequestId,
        sealed: &[u8],
        max_tokens: u32,
    ) -> Result<(String, Ticket), ClientError> {
        let manifest = verified.manifest();
        let worst = worst_case(&manifest.prices, &manifest.limits, max_tokens);
        let meter = MeterPublicKey::parse(&verified.keyset().meter_key)?;
        let digest = Digest(Sha256::digest(sealed).into());
        let payer = self.clone();
        let work = move || {
            let inner = &payer.inner;
            let begun = inner.clock.now().seconds();
            let offer = inner.offer(meter, &digest, OpenRequest { request, worst, begun })?;
            // Made here: whoever asked may be gone before this is done.
            let ticket =
                Ticket { request: OpenRequest { request, worst, begun }, payer, over: false };
            Ok((hex::encode(offer.encode()), ticket))
        };
        blocking(work).await
    }

    /// Whether it still signs.
    ///
    /// # Errors
    /// Why it does not: [`ClientError::Overcharged`], [`ClientError::LogForked`].
    pub(crate) fn signs(&self) -> Result<(), ClientError> {
        self.inner.state().stopped.clone().map_or(Ok(()), Err)
    }

    /// Requests whose answers were given up, and whose receipts a worker may be asked for: the last ones, and
    /// each after longer pauses. How many claims are asked for meanwhile says nothing of when one is there.
    pub(crate) fn missing(&self) -> Vec<RequestId> {
        let now = self.inner.clock.now().seconds();
        let mut state = self.inner.state();
        let mut missing = state.standing.missing();
        state.tries.retain(|id, _| missing.contains(id));
        missing.retain(|id| state.tries.get(id).is_none_or(|tries| tries.is_due(now)));
        missing.truncate(MAX_RECEIPTS_ASKED);
        for id in &missing {
            let times = state.tries.get(id).map_or(0, |tries| tries.times.saturating_add(1));
            state.tries.insert(*id, Tries { times, last: now });
        }
        missing
    }

    /// Takes the receipt of a request whose answer was given up. On the disk when this returns.
    ///
    /// # Errors
    /// [`ClientError::ReceiptMalformed`] also for a receipt of another request, or for more than it could cost,
    /// [`ClientError::Payment`] for one of another meter, [`ClientError::Ledger`].
    pub(crate) async fn find(
        &self,
        verified: &VerifiedWorker,
        request: RequestId,
        json: &[u8],
    ) -> Result<(), ClientError> {
        let receipt = PublicReceipt::from_json(json)
            .map_err(|error| ClientError::ReceiptMalformed(sanitise(&error.to_string())))?;
        receipt.verify(verified.keyset().network, &verified.keyset().meter_key)?;
        if receipt.request_id() != request {
            let text = format!("it is about request {}, not {request}", receipt.request_id());
            return Err(ClientError::ReceiptMalformed(text));
        }
        let (inner, meter) = (Arc::clone(&self.inner), Digest(verified.keyset().meter_key));
        blocking(move || inner.find(&receipt, meter)).await
    }

    /// The question for the latest claim, and what to hold the answer against.
    pub(crate) fn question(
        &self,
        verified: &VerifiedWorker,
    ) -> Result<(Vec<u8>, Asked), ClientError> {
        let meter = MeterPublicKey::parse(&verified.keyset().meter_key)?;
        let state = self.inner.state();
        let longest = longest(&verified.manifest().limits);
        let asked = state.standing.ask(self.inner.clock.now().seconds(), longest);
        let (key, channel) = (&self.inner.key, self.inner.channel);
        let acknowledged = state.claim.as_ref().map_or(Digest([0; 32]), Claim::hash);
        let question = StateRequest::sign(key, channel, &meter, acknowledged)?;
        Ok((question.encode(), asked))
    }

    /// Takes the answer: a claim of the attested meter that the receipts account for, or before its first
    /// request the one of another meter from which it goes on. On the disk when this returns.
    ///
    /// # Errors
    /// [`ClientError::Overcharged`], after which nothing more is signed; [`ClientError::Payment`],
    /// [`ClientError::Ledger`].
    pub(crate) async fn accept(
        &self,
        verified: &VerifiedWorker,
        asked: Asked,
        claim: &[u8],
    ) -> Result<Claim, ClientError> {
        let claim = self.own(Claim::decode(claim)?)?;
        let own = verified.keyset().meter_key == claim.cap().cap().meter_key.to_bytes();
        let inner = Arc::clone(&self.inner);
        let work = move || match own {
            true => inner.accept(asked, claim),
            false => inner.adopt(&claim).map(|_| claim),
        };
        blocking(work).await
    }

    /// Learns from a refusal what this payer owed and forgot. True if it did: then the request is
    /// worth another try.
    ///
    /// # Errors
    /// [`ClientError::Overcharged`] for a claim that this payer would not have taken from the meter
    /// that made it, and that it cannot have forgotten.
    pub(crate) async fn learn(&self, required: &PaymentRequired) -> Result<bool, ClientError> {
        let Some(claim) = required.claim()? else { return Ok(false) };
        let claim = self.own(claim)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.adopt(&claim)).await
    }

    /// The claim, if it is of this payer's channel and both its signatures hold. The one on its cap
    /// is this payer's own.
    fn own(&self, claim: Claim) -> Result<Claim, ClientError> {
        let (expected, got) = (self.inner.channel, claim.channel());
        if expected != got {
            return Err(ReceiptError::OtherChannel { expected, got }.into());
        }
        Ok(claim.verify().map(|verified| verified.claim().clone())?)
    }
}

impl Inner {
    fn offer(
        &self,
        meter: MeterPublicKey,
        digest: &Digest,
        request: OpenRequest,
    ) -> Result<Offer, ClientError> {
        let OpenRequest { request, worst, begun } = request;
        let mut state = self.state();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        let limit = self.budget.limit;
        let named = Some(Digest(meter.to_bytes()));
        let max_cum = state
            .standing
            .cap_for(worst, state.meter == named)
            .map_err(|needed| ClientError::Budget { needed, limit })?;
        let cap = self.key.sign(self.channel, meter, max_cum)?;
        let begin = Entry::Begun { channel: self.channel, request, worst };
        let raised = max_cum > state.standing.covered() || state.meter != named;
        // Before it is sent: what was signed must not be forgotten by a crash.
        if raised {
            self.ledger.record_all(&[Entry::Cap(&cap), begin], begun)?;
            state.standing.cover(max_cum);
            if state.meter != named {
                state.standing.change_meter();
            }
            state.meter = named;
        } else {
            self.ledger.record(&begin, begun)?;
        }
        let offer = Offer::sign(&self.key, self.terms.clone(), cap, digest)?;
        state.standing.begin(worst);
        Ok(offer)
    }

    /// Counts the receipt of a request whose answer was given up, of `meter`.
    fn find(&self, receipt: &PublicReceipt, meter: Digest) -> Result<(), ClientError> {
        let (request, amount) = (receipt.request_id(), receipt.amount());
        let mut state = self.state();
        // Somebody else asked for it too.
        let Some(worst) = state.standing.worst_of(request) else { return Ok(()) };
        within(request, worst, amount)?;
        let entry = Entry::Found { channel: self.channel, receipt };
        self.ledger.record(&entry, self.clock.now().seconds())?;
        state.standing.find(request, amount);
        if state.meter != Some(meter) {
            // Another one was named while it was on its way.
            state.standing.stray(amount);
        }
        state.tries.remove(&request);
        Ok(())
    }

    fn accept(&self, asked: Asked, claim: Claim) -> Result<Claim, ClientError> {
        let mut state = self.state();
        // It stands as it was found: whatever comes later neither replaces the proof nor adds another.
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        let known = state.claim.as_ref().filter(|known| meter_of(known) == meter_of(&claim));
        let compared = known.filter(|_| state.forgiven != Some(Digest(meter_of(&claim))));
        if let Some(before) = compared.filter(|before| forked(before, &claim)).cloned() {
            let error = log_forked(&before, &claim);
            state.stopped = Some(error.clone());
            // In no process: the meter would show the next one the first log again.
            let entry = Entry::Forked { before: &before, claim: &claim };
            self.ledger.record(&entry, self.clock.now().seconds())?;
            return Err(error);
        }
        let max_cum = claim.cap().cap().max_cum;
        if max_cum > state.standing.covered() {
            // It was signed for with another ledger: this one was lost, or rolled back, since.
            state.standing.adopt(claim.cum_amount(), max_cum);
        }
        match state.standing.accept(asked, claim.cum_amount()) {
            Ok(Some(Ended { late, ended })) => {
                let (included, explained) = (state.standing.included(), state.standing.explained());
                let (late, ended) = (&late, &ended);
                let unreceipted = state.standing.unreceipted();
                let entry = Entry::Accepted {
                    claim: &claim,
                    included,
                    late,
                    ended,
                    explained,
                    unreceipted,
                };
                self.ledger.record(&entry, self.clock.now().seconds())?;
                // What is acknowledged next is what the ledger has, so that its claims go back to each
                // other: it keeps the first of a sum.
                let before = state.claim.as_ref().map(Claim::cum_amount);
                if before.is_none_or(|before| before < claim.cum_amount()) {
                    state.claim = Some(claim.clone());
                }
                Ok(claim)
            }
            Ok(None) => Ok(claim),
            Err(too_much) => {
                let question = state.standing.question(asked);
                Err(self.stop(&mut state, &claim, too_much, question)?)
            }
        }
    }

    /// Signs nothing more on this channel, in no process, and keeps the proof why.
    fn stop(
        &self,
        state: &mut State,
        claim: &Claim,
        too_much: TooMuch,
        asked: Question,
    ) -> Result<ClientError, ClientError> {
        let TooMuch { accounted } = too_much;
        let error = ClientError::Overcharged { accounted };
        state.stopped = Some(error.clone());
        let entry = Entry::Overcharge { claim, accounted, asked };
        self.ledger.record(&entry, self.clock.now().seconds())?;
        Ok(error)
    }

    /// Takes what a claim under a forgotten cap proves. True if more is owed by it than was known.
    fn adopt(&self, claim: &Claim) -> Result<bool, ClientError> {
        let mut state = self.state();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        let before = state.standing.may_owe();
        let (cum, max_cum) = (claim.cum_amount(), claim.cap().cap().max_cum);
        if max_cum <= state.standing.covered() {
            let accounted = state.standing.accountable();
            if cum > accounted {
                // Nobody asked for it: of what came since the last one that was, it may have nothing.
                let (receipted, at) = (state.standing.included(), self.clock.now().seconds());
                let asked = Question { receipted, at };
                return Err(self.stop(&mut state, claim, TooMuch { accounted }, asked)?);
            }
            // What it includes is known already, and to which requests it belongs is not.
            return Ok(false);
        }
        self.ledger.record(&Entry::Claim(claim), self.clock.now().seconds())?;
        state.standing.adopt(cum, max_cum);
        if state.claim.as_ref().is_none_or(|known| known.cum_amount() < claim.cum_amount()) {
            state.claim = Some(claim.clone());
        }
        Ok(state.standing.may_owe() > before)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is made whole; a panic elsewhere cannot leave half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way. Dropped without a word, it may have cost its most.
pub(crate) struct Ticket {
    payer: Payer,
    request: OpenRequest,
    over: bool,
}

impl Ticket {
    /// The receipt came and holds. On the disk when this returns.
    ///
    /// # Errors
    /// [`ClientError::ReceiptMalformed`] for more than the request could cost, which no honest meter counts, and
    /// [`ClientError::Ledger`]; then it may have cost its most.
    pub(crate) async fn receipted(self, amount: u128) -> Result<(), ClientError> {
        within(self.request.request, self.request.worst, amount)?;
        self.end(amount, move |channel, request| Entry::Request { channel, request, amount }).await
    }

    /// It cost nothing: the worker refused it before it did anything, or was never sent it. On the disk
    /// when this returns.
    ///
    /// # Errors
    /// [`ClientError::Ledger`]; then it may have cost its most.
    pub(crate) async fn refused(self) -> Result<(), ClientError> {
        self.end(0, |channel, request| Entry::Refused { channel, request }).await
    }

    async fn end(
        self,
        amount: u128,
        entry: impl FnOnce(ChannelId, RequestId) -> Entry<'static> + Send + 'static,
    ) -> Result<(), ClientError> {
        let entry = entry(self.payer.inner.channel, self.request.request);
        // The ticket goes along: whoever waits may be gone before this is done.
        blocking(move || self.end_by(amount, &entry)).await
    }

    /// On the disk first: a claim that is accepted says which receipts it has, and a receipt that the next process
    /// did not find would be missing from all it can explain.
    fn end_by(mut self, amount: u128, entry: &Entry<'_>) -> Result<(), ClientError> {
        let inner = Arc::clone(&self.payer.inner);
        let mut state = inner.state();
        inner.ledger.record(entry, inner.clock.now().seconds())?;
        state.standing.end(self.request.worst, amount);
        self.over = true;
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.over {
            self.payer.inner.state().standing.lose(self.request);
        }
    }
}

/// Whether a request of at most `worst` can have cost `amount`. Claims are held against receipts, so a receipt
/// that said more would be room for a claim of as much.
fn within(request: RequestId, worst: u128, amount: u128) -> Result<(), ClientError> {
    if amount <= worst {
        return Ok(());
    }
    let text = format!("request {request} cannot have cost {amount} nanogram, but {worst} at most");
    Err(ClientError::ReceiptMalformed(text))
}

fn meter_of(claim: &Claim) -> [u8; 32] {
    claim.cap().cap().meter_key.to_bytes()
}

/// Whether the meter of both claims has taken requests back or shows another log: what it cannot do without
/// telling payer and payee different things. An answer that was overtaken is lower in all.
fn forked(before: &Claim, now: &Claim) -> bool {
    let (old, new) = (log_of(before), log_of(now));
    match new.size.cmp(&old.size) {
        Ordering::Less => now.cum_amount() > before.cum_amount(),
        Ordering::Equal => new.root != old.root,
        Ordering::Greater => now.cum_amount() < before.cum_amount(),
    }
}

const fn log_of(claim: &Claim) -> LogHead {
    claim.settlement().settlement().state.log_head()
}

const fn log_forked(before: &Claim, now: &Claim) -> ClientError {
    ClientError::LogForked { before: log_of(before).size, count: log_of(now).size }
}

/// Most receipts that are asked for before one claim.
const MAX_RECEIPTS_ASKED: usize = 16;
/// After which one process asks again for a receipt that was not there, seconds; twice as long after each time.
const FIRST_RECEIPT_PAUSE: u64 = 15;
/// How often that doubles: up to an hour or so, for as long as something may come of a request.
const MAX_PAUSE_DOUBLINGS: u32 = 8;

/// Signs and writes off the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    let stopped = |_| ClientError::Store { what: "use", kind: std::io::ErrorKind::Interrupted };
    spawn_blocking(work).await.map_err(stopped)?
}
