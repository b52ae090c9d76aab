//! A worker as a client sees it: where it is, how it is judged, and, once judged, what may be
//! sent to it. Nothing is sealed to a worker whose evidence was not appraised by this process.

use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrysalis_channel::{GrantRequest, OsRandom, PathId, seal_grant};
use chrysalis_evidence::exchange::{Awaiting, Due, ExchangeError, Judged};
use chrysalis_evidence::{Collateral, Refusal, RuleId, Session, Verdict};
use chrysalis_policy::{Judge, VerdictCache};
use chrysalis_receipt::{CLAIM_BYTES, Claim};
use chrysalis_vault::ModelKey;
use chrysalis_wire::{AttestationDocument, Digest, KeyRole, SecretBytes, UnixTime};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};
use serde::Serialize;
use tokio::sync::watch;

use crate::attest::{Attestation, attest};
use crate::clock::Clock;
use crate::connection::{Connection, SendError};
use crate::error::ClientError;
use crate::evidence::Appraised;
use crate::handover::CLAIM;
use crate::io::{read_whole, within};
use crate::keep::keep;
use crate::limits::{
    Bounds, FUNDING_ATTEMPTS, MAX_FUNDING_WAIT_SECONDS, MAX_IDLE_CONNECTIONS, MAX_IDLE_TIME,
    MAX_PLAIN_ERROR_BYTES, MAX_PUBLIC_RECEIPT_BYTES, REATTEST_INTERVAL,
};
use crate::own::{Identity, due, prove};
use crate::payer::{Payer, Ticket};
use crate::plain::expect_ok;
use crate::random::fresh;
use crate::request::SealedCall;
use crate::response::ResponseStream;
use crate::transcript::{Keep, Transcript};

/// Where a worker is and how it is judged.
#[derive(Clone)]
pub struct Worker {
    address: Arc<str>,
    policy: Arc<watch::Sender<Arc<Policy>>>,
    verdicts: Arc<Mutex<VerdictCache>>,
    clock: Clock,
    bounds: Bounds,
    identity: Option<Identity>,
}

/// What workers are judged by.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The pins.
    pub judge: Arc<Judge>,
    /// The collateral.
    pub collateral: Arc<Collateral>,
    /// Since when both are in use.
    pub since: UnixTime,
    /// Why newer ones are not, if there are some.
    pub refused: Option<PolicyRefusal>,
}

/// Why a newer policy is not in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyRefusal {
    /// Stable code.
    pub code: String,
    /// What is wrong with it.
    pub message: String,
    /// When it was refused.
    pub at: UnixTime,
}

impl Worker {
    /// A worker at `address` (`host:port`), to be judged by `judge` with `collateral`, which
    /// must not come from the worker.
    #[must_use]
    pub fn new(
        address: &str,
        judge: Arc<Judge>,
        collateral: Arc<Collateral>,
        clock: Clock,
    ) -> Self {
        let (bounds, verdicts) = (Bounds::default(), Arc::default());
        let policy = Policy { judge, collateral, since: clock.now().seconds(), refused: None };
        let policy = Arc::new(watch::Sender::new(Arc::new(policy)));
        Self { address: address.into(), policy, verdicts, clock, bounds, identity: None }
    }

    /// The same worker, to which this client proves itself with `identity` if it asks.
    #[must_use]
    pub fn proving(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// What this worker is judged by now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Judges by other pins and collateral from now on. Live connections are judged again at once: an
    /// answer of a worker that is not accepted any more is ended.
    pub fn set_policy(&self, judge: Arc<Judge>, collateral: Arc<Collateral>) {
        let since = self.clock.now().seconds();
        self.policy.send_replace(Arc::new(Policy { judge, collateral, since, refused: None }));
    }

    /// Notes that a newer policy cannot be used; the one in use stays.
    pub fn refuse_policy(&self, code: &str, message: &str) {
        let (code, message) = (code.to_owned(), message.to_owned());
        let refused = Some(PolicyRefusal { code, message, at: self.clock.now().seconds() });
        let policy = Policy { refused, ..(*self.policy()).clone() };
        self.policy.send_replace(Arc::new(policy));
    }

    /// What this client proves itself with.
    pub(crate) const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The same worker with other bounds.
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The time by this client's clock.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The bounds.
    pub(crate) const fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Connects, asks for evidence over a fresh nonce and appraises it. The transcript is in the
    /// result whether or not the worker is accepted.
    ///
    /// # Errors
    /// [`ClientError`] if no evidence could be fetched; evidence that was fetched and refused is
    /// not an error here but in [`Attestation::accept`].
    pub async fn attest(&self) -> Result<Attestation, ClientError> {
        let own = self.identity.as_ref();
        self.attest_on(Connection::open(&self.address, None, own, &self.bounds).await?).await
    }

    async fn attest_on(&self, connection: Connection) -> Result<Attestation, ClientError> {
        let limit = self.bounds.attestation;
        within("the attestation", limit, attest(self, connection)).await?
    }

    /// [`Worker::attest`] and [`Attestation::accept`] in one.
    ///
    /// # Errors
    /// [`ClientError`] if evidence cannot be fetched or is refused.
    pub async fn appraise(&self) -> Result<AttestedWorker, ClientError> {
        self.attest().await?.accept()
    }

    /// Judges `document` as the answer to the challenge, now.
    pub(crate) fn judge(
        &self,
        awaiting: Awaiting,
        document: AttestationDocument,
    ) -> Result<Judged, ExchangeError> {
        let clock = self.clock.now().seconds();
        let received = Instant::now();
        awaiting.judge_by(document, clock, received, |_, doc, session| {
            self.verdict(doc, session, clock)
        })
    }

    /// Whether evidence that was accepted is accepted now: a denial, or the end of what its verdict
    /// rested on, may have come in between.
    fn still_accepts(&self, appraised: &Appraised, now: UnixTime) -> bool {
        self.verdict(&appraised.document, &appraised.session, now).accepted()
    }

    /// What the policy has against a worker that was accepted. That its seal keys have ended is nothing:
    /// it has newer ones by then, and shows them when it is asked, which is due.
    pub(crate) fn refusal(&self, appraised: &Appraised, now: UnixTime) -> Option<Refusal> {
        let verdict = self.verdict(&appraised.document, &appraised.session, now);
        verdict.result.err().filter(|refusal| refusal.rule != RuleId::Keyset)
    }

    /// The verdict on a worker, from the cache while everything it rests on is valid.
    pub(crate) fn verdict(
        &self,
        document: &AttestationDocument,
        session: &Session,
        now: UnixTime,
    ) -> Verdict {
        let policy = self.policy();
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.appraise(&policy.judge, document, session, &policy.collateral, now)
    }
}

/// A worker whose evidence was accepted. Clones share connections and evidence.
#[derive(Clone)]
pub struct AttestedWorker {
    shared: Arc<Shared>,
}

/// What clones of one [`AttestedWorker`] share.
pub(crate) struct Shared {
    worker: Worker,
    current: Mutex<Arc<Appraised>>,
    /// Held while evidence is fetched: one request re-attests, the others wait for it.
    renewal: tokio::sync::Mutex<()>,
    idle: Mutex<Vec<Idle>>,
    /// When this side proved itself last.
    proved: Mutex<Option<Instant>>,
    /// Whether somebody looks after this.
    kept: Once,
    payer: OnceLock<Payer>,
}

/// A connection whose last answer is complete.
struct Idle {
    connection: Connection,
    since: Instant,
}

impl AttestedWorker {
    pub(crate) fn new(worker: Worker, appraised: Appraised, connection: Connection) -> Self {
        let shared = Shared {
            worker,
            current: Mutex::new(Arc::new(appraised)),
            renewal: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            proved: Mutex::default(),
            kept: Once::new(),
            payer: OnceLock::new(),
        };
        shared.put_idle(connection);
        Self { shared: Arc::new(shared) }
    }

    /// Begins to look after the worker, with the first request: before it there is nothing to end, and
    /// perhaps no runtime.
    fn keep(&self) {
        self.shared.kept.call_once(|| {
            let policy = self.shared.worker.policy.subscribe();
            // Without randomness everybody asks at the same time, which is late for nobody.
            let [jitter]: [u8; 1] = fresh().unwrap_or_default();
            tokio::spawn(keep(Arc::downgrade(&self.shared), policy, jitter));
        });
    }

    /// The worker as it is judged, to change its policy.
    #[must_use]
    pub fn worker(&self) -> &Worker {
        &self.shared.worker
    }

    pub(crate) const fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The evidence accepted last.
    pub async fn evidence(&self) -> Arc<Appraised> {
        self.shared.current()
    }

    /// Whether the policy in use accepts the worker as it showed itself last; nothing is asked of it.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        let now = self.shared.worker.clock.now().seconds();
        self.shared.worker.refusal(&self.shared.current(), now).is_none()
    }

    /// Pays for every request from now on, with `payer`, if the worker asks to be paid.
    ///
    /// # Errors
    /// [`ClientError::Payment`] if the worker is not paid through that channel.
    pub async fn pay_with(&self, payer: Payer) -> Result<(), ClientError> {
        if payer.suits(&self.evidence().await.verified)? {
            // A second payer would not know what the first one signed.
            drop(self.shared.payer.set(payer));
        }
        Ok(())
    }

    /// Who pays, if anybody.
    #[must_use]
    pub fn payer(&self) -> Option<&Payer> {
        self.shared.payer.get()
    }

    /// Gives a restarted worker the claim it has to go on from.
    async fn hand_over(&self, appraised: &Appraised, claim: Vec<u8>) -> Result<(), ClientError> {
        let (connection, response) = self.shared.post(appraised, CLAIM, claim, None).await?;
        let wait = self.shared.worker.bounds.idle;
        let body = expect_ok(response, "application/json", wait).await?;
        read_whole(body, "answer to the claim", MAX_PLAIN_ERROR_BYTES, wait).await?;
        self.shared.put_idle(connection);
        Ok(())
    }

    /// Asks for the worker's cumulative receipt, holds it against the receipts of the requests and
    /// keeps it. `None` if nobody pays. Done after each answer by itself; a caller that stops may
    /// want the last one.
    ///
    /// # Errors
    /// [`ClientError::Overcharged`] for one that claims too much, after which nothing more is paid.
    pub async fn collect_claim(&self) -> Result<Option<Claim>, ClientError> {
        let appraised = self.shared.current();
        let Some(payer) = self.shared.payer.get() else { return Ok(None) };
        self.ask_claim(payer, &appraised).await.map(Some)
    }

    /// Looks for the receipts of requests whose answers were given up: what they cost is in no other place
    /// than a claim, which does not say of which request.
    async fn find_receipts(&self, payer: &Payer, appraised: &Appraised) -> Result<(), ClientError> {
        let wait = self.shared.worker.bounds.idle;
        // Ids are no secret: who carried the request may have had another one answered under its id.
        let account = payer.channel().account;
        for id in payer.missing() {
            let request = get(&format!("{RECEIPTS}{id}/{account}"))?;
            let (connection, response) =
                self.shared.exchange(appraised, request, true, false).await?;
            let body = expect_ok(response, "application/json", wait).await;
            let json = match body {
                Ok(body) => read_whole(body, "receipt", MAX_PUBLIC_RECEIPT_BYTES, wait).await,
                Err(error) => Err(error),
            };
            self.shared.put_idle(connection);
            match json {
                Ok(json) => payer.find(&appraised.verified, id, &json).await?,
                // It is still being made, was never begun, or is of another boot; or the worker is an older
                // one, which knows receipts by their ids alone.
                Err(ClientError::WorkerRefused { status: 400 | 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn ask_claim(&self, payer: &Payer, appraised: &Appraised) -> Result<Claim, ClientError> {
        self.find_receipts(payer, appraised).await?;
        let (question, asked) = payer.question(&appraised.verified)?;
        let (connection, response) = self.shared.post(appraised, STATE, question, None).await?;
        let wait = self.shared.worker.bounds.idle;
        let body = expect_ok(response, "application/octet-stream", wait).await;
        let claim = match body {
            Ok(body) => read_whole(body, "claim", CLAIM_BYTES, wait).await?,
            Err(error) => {
                // A refusal was read as well.
                self.shared.put_idle(connection);
                return Err(error);
            }
        };
        self.shared.put_idle(connection);
        payer.accept(&appraised.verified, asked, &claim).await
    }

    /// Seals `json`, the exact bytes of an OpenAI request, and sends it. The request's own token
    /// limit, or else the measured manifest's, is the most that is paid for.
    ///
    /// Returns once the worker has begun to answer. Evidence is fetched anew when no attested
    /// seal key is valid any more, and once when the worker turns out to have other keys or
    /// evidence than those accepted (it restarted, or forgot); it must pass the same pins.
    ///
    /// # Errors
    /// [`ClientError`], in particular [`ClientError::Api`] for a request this API does not take,
    /// which is refused before anything is sealed, and [`ClientError::WorkerRefused`] for a refusal outside the
    /// channel. Refusals inside it are events of the stream.
    pub async fn request(&self, path: PathId, json: &[u8]) -> Result<ResponseStream, ClientError> {
        self.request_keeping(path, json, Keep::Receipt).await
    }

    /// [`AttestedWorker::request`], and what is kept of the words.
    ///
    /// # Errors
    /// As [`AttestedWorker::request`].
    pub async fn request_keeping(
        &self,
        path: PathId,
        json: &[u8],
        keep: Keep,
    ) -> Result<ResponseStream, ClientError> {
        self.keep();
        let appraised = self.shared.usable().await?;
        let mut outcome = self.try_request(&appraised, path, json, keep).await;
        let required = match &outcome {
            Err(ClientError::PaymentRequired { required, .. }) => Some(required.clone()),
            _ => None,
        };
        if let (Some(required), Some(payer)) = (required, self.shared.payer.get())
            && payer.learn(&required).await?
        {
            // It was not served, and now there is a cap that covers it.
            outcome = self.try_request(&appraised, path, json, keep).await;
        }
        // The deposit may be on its way, or its owner about to look.
        for _ in 0..FUNDING_ATTEMPTS {
            let Err(ClientError::PaymentRequired { retry_after: Some(wait), message, .. }) =
                &outcome
            else {
                break;
            };
            let Some(payer) = self.shared.payer.get() else { break };
            payer.waits(message);
            let wait = Duration::from_secs((*wait).min(MAX_FUNDING_WAIT_SECONDS).into());
            tokio::time::sleep(wait).await;
            outcome = self.try_request(&appraised, path, json, keep).await;
        }
        let stale = match &outcome {
            Ok(stream) => stream.wants_new_evidence(),
            Err(error) => error.wants_new_evidence(),
        };
        if !stale {
            return outcome;
        }
        // Nothing was generated for the first attempt, so it is not billed either.
        let renewed = self.shared.renew(&appraised, None).await?;
        self.try_request(&renewed, path, json, keep).await
    }

    async fn try_request(
        &self,
        appraised: &Arc<Appraised>,
        path: PathId,
        json: &[u8],
        keep: Keep,
    ) -> Result<ResponseStream, ClientError> {
        // From here on a refusal of the worker ends this request.
        let over = appraised.over.subscribe();
        let now = self.shared.worker.clock.now();
        let call = SealedCall::seal(appraised, path, json, now)?;
        let (offer, ticket) = match self.shared.payer.get() {
            // Asked again: evidence that was renewed may be of another pinned manifest.
            Some(payer) if payer.suits(&appraised.verified)? => {
                let (offer, ticket) = self.offer(payer, appraised, &call).await?;
                (Some(offer), Some(ticket))
            }
            _ => (None, None),
        };
        let posted = self.shared.post(appraised, SEALED, call.sealed, offer).await;
        let (connection, response) = match posted {
            Ok(posted) => posted,
            Err(PostError { written, error }) => {
                if let Some(ticket) = ticket.filter(|_| !written) {
                    ticket.refused().await?;
                }
                return Err(error);
            }
        };
        let wait = self.shared.worker.bounds.idle;
        let body = match expect_ok(response, "application/octet-stream", wait).await {
            Ok(body) => body,
            Err(error) => {
                let refused = matches!(
                    error,
                    ClientError::WorkerRefused { .. } | ClientError::PaymentRequired { .. }
                );
                if let Some(ticket) = ticket.filter(|_| refused) {
                    ticket.refused().await?;
                }
                return Err(error);
            }
        };
        let shared = Arc::clone(&self.shared);
        let id = call.pending.request_id;
        let words = (keep == Keep::Words).then(|| Transcript::new(id, json));
        let mut stream =
            ResponseStream::new(shared, connection, body, call.pending, words, ticket, over);
        stream.prefetch().await?;
        Ok(stream)
    }

    /// Before the first cap of this process to a meter: gives it what it must go on from, and learns what
    /// it knows.
    async fn hear(&self, payer: &Payer, appraised: &Appraised) -> Result<(), ClientError> {
        let meter = Some(Digest(appraised.verified.keyset().meter_key));
        let mut heard = payer.heard().await;
        if *heard == meter {
            return Ok(());
        }
        if let Some(claim) = payer.handover(&appraised.verified) {
            match self.hand_over(appraised, claim).await {
                // It has no place for claims of those it does not serve yet; the request says the rest.
                Ok(()) | Err(ClientError::PaymentRequired { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match self.ask_claim(payer, appraised).await {
            // It knows nothing of the channel.
            Ok(_) | Err(ClientError::PaymentRequired { .. }) => {}
            Err(error) => return Err(error),
        }
        *heard = meter;
        Ok(())
    }

    /// Signs for a call, after the worker has what it must go on from.
    async fn offer(
        &self,
        payer: &Payer,
        appraised: &Appraised,
        call: &SealedCall,
    ) -> Result<(String, Ticket), ClientError> {
        let (verified, id) = (&appraised.verified, call.pending.request_id);
        // Before anybody is asked what it will be refused for.
        payer.signs()?;
        self.hear(payer, appraised).await?;
        match payer.offer(verified, id, &call.sealed, call.max_tokens).await {
            // Part of the budget may be held for requests whose receipts never came: a claim says what
            // they came to.
            Err(error @ ClientError::Budget { .. }) => match self.collect_claim().await {
                Ok(Some(_)) => payer.offer(verified, id, &call.sealed, call.max_tokens).await,
                Err(ended) if ended.ends_payments() => Err(ended),
                Ok(None) | Err(_) => Err(error),
            },
            offered => offered,
        }
    }

    /// Seals the key of a sealed model to the worker's attested grant key and sends it. As before a
    /// request, evidence is asked for again where it is due.
    ///
    /// # Errors
    /// [`ClientError::KeyOfAnotherModel`] if the worker was measured with another model,
    /// [`ClientError::NoSealKey`] if the keyset has no grant key, [`ClientError::WorkerRefused`] if
    /// the worker does not wait for a key, and what [`AttestedWorker::request`] is refused with.
    pub async fn grant(&self, model_root: Digest, key: &ModelKey) -> Result<(), ClientError> {
        let appraised = self.shared.usable().await?;
        let measured = appraised.verified.model_root();
        if model_root != measured {
            return Err(ClientError::KeyOfAnotherModel { asked: model_root, measured });
        }
        let now = self.shared.worker.clock.now().seconds();
        let recipient = appraised
            .verified
            .keyset()
            .seal_key(KeyRole::Grant, now)
            .ok_or(ClientError::NoSealKey { role: "grant" })?;
        let grant = GrantRequest { model_root, key: SecretBytes::new(key.expose().to_vec()) };
        let digest = &appraised.verified.keyset_digest();
        let sealed = seal_grant(recipient, digest, &grant, now, &mut OsRandom)
            .map_err(ClientError::Channel)?;
        let (_connection, response) = self.shared.post(&appraised, GRANT, sealed, None).await?;
        let wait = self.shared.worker.bounds.idle;
        let body = expect_ok(response, "application/json", wait).await?;
        read_whole(body, "answer to the grant", MAX_PLAIN_ERROR_BYTES, wait).await.map(drop)
    }
}

impl Shared {
    pub(crate) const fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Keeps a connection whose answer is complete for the next request.
    pub(crate) fn put_idle(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_CONNECTIONS && connection.is_usable() {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// An idle connection to the holder of `pin`; others are dropped on the way.
    fn take_idle(&self, pin: Digest) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { connection, since }) = idle.pop() {
            let young = since.elapsed() < MAX_IDLE_TIME;
            if young && connection.tls_spki == pin && connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn current(&self) -> Arc<Appraised> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The accepted evidence, renewed if it may not be used any more: a key or a part of the
    /// collateral ended, the worker was refused since, or the whole policy, asked again, does not
    /// accept it now.
    async fn usable(&self) -> Result<Arc<Appraised>, ClientError> {
        let now = self.worker.clock.now().seconds();
        let current = self.current();
        match current.due(self.worker.bounds.reattest, now) {
            None if !current.ended()
                && current.is_usable(now)
                && self.worker.still_accepts(&current, now) =>
            {
                Ok(current)
            }
            due => self.renew(&current, due).await,
        }
    }

    /// Fresh evidence in place of `stale`, unless another request already fetched it. If it is of
    /// another boot, the answers of the one before end: from here on nobody looks after them.
    pub(crate) async fn renew(
        &self,
        stale: &Arc<Appraised>,
        due: Option<Due>,
    ) -> Result<Arc<Appraised>, ClientError> {
        let _turn = self.renewal.lock().await;
        let current = self.current();
        if !Arc::ptr_eq(&current, stale) {
            return Ok(current);
        }
        let fresh = self.attest_again(stale).await.map_err(|error| {
            // Whoever does not prove itself is sent nothing more, on no connection.
            self.close_idle();
            match due {
                Some(due) => ClientError::Reattestation { due, error: Box::new(error) },
                None => error,
            }
        })?;
        let fresh = Arc::new(stale.give_way(fresh));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(fresh)
    }

    /// Challenges the worker on a connection that is open, or on a new one if none is. What is
    /// refused on a live connection is refused: a second try would ask somebody else.
    async fn attest_again(&self, stale: &Appraised) -> Result<Appraised, ClientError> {
        let attestation = match self.take_idle(stale.verified.keyset().tls_spki) {
            None => self.worker.attest().await?,
            Some(live) => match self.worker.attest_on(live).await {
                // It was closed while nobody looked, or the worker is gone.
                Err(ClientError::Disconnected) => self.worker.attest().await?,
                answered => answered?,
            },
        };
        let (appraised, connection) = attestation.into_accepted()?;
        self.put_idle(connection);
        Ok(appraised)
    }

    pub(crate) fn close_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ends every answer of the boot that showed `refused` with `error`, and closes what is idle.
    pub(crate) fn end(&self, refused: &Appraised, error: ClientError) {
        self.close_idle();
        refused.end(error);
    }

    /// When this side proved itself last, on whatever connection.
    pub(crate) fn proved(&self) -> Option<Instant> {
        *self.proved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_proof(&self, at: Option<Instant>) {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        *proved = (*proved).max(at);
    }

    /// Proves this side on `connection` where the worker serves nobody else, and has not seen it do so
    /// there lately.
    async fn admit(
        &self,
        appraised: &Appraised,
        connection: &mut Connection,
    ) -> Result<(), ClientError> {
        let Some(peers) = appraised.verified.manifest().peers else { return Ok(()) };
        let own = self.worker.identity().ok_or(ClientError::WorkerWantsProof)?;
        if due(connection.proved, &peers, Instant::now()) {
            prove(connection, own, &self.worker.bounds).await?;
            self.note_proof(connection.proved);
        }
        Ok(())
    }

    /// Whether what was sealed under `appraised` may still be sent. Connecting and paying take as long
    /// as the host likes; what the evidence rests on may end meanwhile. The shorter interval of a user
    /// was looked at before, and would be over at once where it is nothing.
    fn is_current(&self, appraised: &Appraised) -> bool {
        let now = self.worker.clock.now().seconds();
        !appraised.ended()
            && appraised.due(REATTEST_INTERVAL, now).is_none()
            && self.worker.still_accepts(appraised, now)
    }

    /// Posts sealed bytes to the holder of the attested TLS key. An idle connection that turns
    /// out to be closed before anything was written is replaced by a new one.
    ///
    /// # Errors
    /// [`ClientError::EvidenceOutdated`] where a secret would go to who is not accepted any more, just
    /// before it is sent.
    async fn post(
        &self,
        appraised: &Appraised,
        path: &'static str,
        sealed: Vec<u8>,
        offer: Option<String>,
    ) -> Result<(Connection, Response<Incoming>), PostError> {
        let mut request = post(path, sealed).map_err(PostError::unsent)?;
        // Grants and claims prove themselves, whoever brings them.
        let gated = path != GRANT && path != CLAIM;
        let secret = path == SEALED || path == GRANT;
        if let Some(offer) = offer {
            let offer = HeaderValue::from_str(&offer)
                .map_err(|e| ClientError::Protocol { what: "offer", reason: e.to_string() })
                .map_err(PostError::unsent)?;
            request.headers_mut().insert(PAYMENT_HEADER, offer);
        }
        self.exchange(appraised, request, gated, secret).await
    }

    /// Sends a request to the holder of the attested TLS key: after this side proved itself if it is
    /// `gated`, and only while the worker is accepted if it is `secret`.
    async fn exchange(
        &self,
        appraised: &Appraised,
        mut request: Request<Full<Bytes>>,
        gated: bool,
        secret: bool,
    ) -> Result<(Connection, Response<Incoming>), PostError> {
        let pin = appraised.verified.keyset().tls_spki;
        let wait = self.worker.bounds.idle;
        if let Some(mut connection) = self.take_idle(pin) {
            let admitted =
                if gated { self.admit(appraised, &mut connection).await } else { Ok(()) };
            match admitted {
                Ok(()) if secret && !self.is_current(appraised) => {
                    return Err(PostError::unsent(ClientError::EvidenceOutdated));
                }
                Ok(()) => match connection.send(request, wait).await {
                    Ok(response) => return Ok((connection, response)),
                    Err(SendError::Unsent(unsent)) => request = unsent,
                    Err(SendError::Failed(error)) => return Err(PostError::sent(error)),
                },
                // It was closed while nobody looked; nothing was sent on it.
                Err(ClientError::Disconnected) => {}
                Err(error) => return Err(PostError::unsent(error)),
            }
        }
        let (address, bounds) = (&self.worker.address, &self.worker.bounds);
        let own = self.worker.identity();
        let mut connection =
            Connection::open(address, Some(pin), own, bounds).await.map_err(PostError::unsent)?;
        if gated {
            self.admit(appraised, &mut connection).await.map_err(PostError::unsent)?;
        }
        if secret && !self.is_current(appraised) {
            return Err(PostError::unsent(ClientError::EvidenceOutdated));
        }
        let response = connection.send(request, wait).await.map_err(|error| match error {
            SendError::Unsent(_) => PostError::unsent(ClientError::Disconnected),
            SendError::Failed(error) => PostError::sent(error),
        })?;
        Ok((connection, response))
    }
}

/// Why a post was not answered.
struct PostError {
    /// Whether any of it may have reached the worker.
    written: bool,
    error: ClientError,
}

impl PostError {
    const fn sent(error: ClientError) -> Self {
        Self { written: true, error }
    }

    const fn unsent(error: ClientError) -> Self {
        Self { written: false, error }
    }
}

impl From<PostError> for ClientError {
    fn from(failed: PostError) -> Self {
        failed.error
    }
}

pub(crate) fn post(path: &'static str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| ClientError::Protocol { what: "request", reason: e.to_string() })?;
    let binary = HeaderValue::from_static("application/octet-stream");
    request.headers_mut().insert(CONTENT_TYPE, binary);
    Ok(request)
}

fn get(path: &str) -> Result<Request<Full<Bytes>>, ClientError> {
    Request::builder()
        .method(Method::GET)
        .uri(path)
        .body(Full::default())
        .map_err(|e| ClientError::Protocol { what: "request", reason: e.to_string() })
}

const SEALED: &str = "/v1/sealed";
const RECEIPTS: &str = "/v1/receipts/";
const GRANT: &str = "/v1/grant";
const STATE: &str = "/v1/payment/state";
/// Carries what pays for a sealed request.
const PAYMENT_HEADER: &str = "chrysalis-payment";
