//! What clones of one attested worker share: the evidence in use, which is renewed when it is due, and connections,
//! on which nothing secret is sent to anybody but the holder of the attested key.

use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use chrysalis_evidence::exchange::Due;
use chrysalis_wire::Digest;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};

use super::{GRANT, SEALED, Worker};
use crate::connection::{Connection, SendError};
use crate::error::ClientError;
use crate::evidence::Appraised;
use crate::handover::CLAIM;
use crate::limits::{MAX_IDLE_CONNECTIONS, MAX_IDLE_TIME, REATTEST_INTERVAL};
use crate::own::{due, prove};
use crate::payer::Payer;

/// What clones of one [`AttestedWorker`] share.
pub(crate) struct Shared {
    pub(super) worker: Worker,
    pub(super) current: Mutex<Arc<Appraised>>,
    /// Held while evidence is fetched: one request re-attests, the others wait for it.
    pub(super) renewal: tokio::sync::Mutex<()>,
    pub(super) idle: Mutex<Vec<Idle>>,
    /// When this side proved itself last.
    pub(super) proved: Mutex<Option<Instant>>,
    /// Whether somebody looks after this.
    pub(super) kept: Once,
    pub(super) payer: OnceLock<Payer>,
}

/// A connection whose last answer is complete.
pub(super) struct Idle {
    connection: Connection,
    since: Instant,
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
    pub(super) async fn usable(&self) -> Result<Arc<Appraised>, ClientError> {
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
    pub(super) async fn post(
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
    pub(super) async fn exchange(
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
pub(super) struct PostError {
    /// Whether any of it may have reached the worker.
    pub(super) written: bool,
    pub(super) error: ClientError,
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

/// Carries what pays for a sealed request.
const PAYMENT_HEADER: &str = "chrysalis-payment";
