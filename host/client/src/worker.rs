//! A worker as a client sees it: where it is, how it is judged, and, once judged, what may be
//! sent to it. Nothing is sealed to a worker whose evidence was not appraised by this process.

mod paying;
mod shared;

use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrysalis_channel::{GrantRequest, OsRandom, PathId, seal_grant};
use chrysalis_evidence::exchange::{Awaiting, ExchangeError, Judged};
use chrysalis_evidence::{Collateral, Refusal, RuleId, Session, Verdict};
use chrysalis_policy::{Judge, VerdictCache};
use chrysalis_vault::ModelKey;
use chrysalis_wire::{AttestationDocument, Digest, KeyRole, SecretBytes, UnixTime};
use serde::Serialize;
use tokio::sync::watch;

use self::shared::PostError;
pub(crate) use self::shared::{Shared, post};
use crate::attest::{Attestation, attest};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::error::ClientError;
use crate::evidence::Appraised;
use crate::io::{read_whole, within};
use crate::keep::keep;
use crate::limits::{Bounds, FUNDING_ATTEMPTS, MAX_FUNDING_WAIT_SECONDS, MAX_PLAIN_ERROR_BYTES};
use crate::own::Identity;
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

const SEALED: &str = "/v1/sealed";
const GRANT: &str = "/v1/grant";
