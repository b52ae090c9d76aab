//! The routes of the worker, over HTTP/1.1 inside TLS 1.3: six, three more for clients that have to prove
//! themselves where there is a [`crate::peer::PeerGate`], and three where the worker is paid. Everything that
//! arrives here is
//! attacker-controlled, the relay's host included; bodies, headers, times and counts are bounded.
//!
//! Errors outside the sealed channel are a closed set of codes. None of them is computed from a
//! request's content, because the host reads them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrysalis_evidence::exchange::{
    Challenge, Challenger, MAX_EVIDENCE_BYTES, MESSAGE_HEADER_BYTES, Prover, Statement,
};
use chrysalis_evidence::{MAX_COLLATERAL_BYTES, Role};
use chrysalis_receipt::{CLAIM_BYTES, NOTE_BYTES, PaymentRequired, STATE_REQUEST_BYTES};
use chrysalis_wire::limits::RETRY_AFTER_SECONDS;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use crate::body::ReplyBody;
use crate::intake::read_body;
use crate::limits::MAX_GRANT_BYTES;
use crate::payment::PAYMENT_HEADER;
use crate::peer::{Client, PeerGate};
use crate::worker::Worker;
use crate::{attestation, inference};

/// What one TLS connection contributes to its requests.
pub struct Connection {
    prover: Mutex<Prover>,
    client: Mutex<Client>,
    over: watch::Sender<bool>,
}

impl Connection {
    /// A connection on which `prover` answers challenges and `client` may be challenged, if it
    /// showed a key.
    #[must_use]
    pub fn new(prover: Prover, client: Option<Challenger>) -> Self {
        let client = Mutex::new(Client::new(client));
        Self { prover: Mutex::new(prover), client, over: watch::Sender::new(false) }
    }

    /// Tells the answer in progress that its client is not served any more.
    pub fn end(&self) {
        self.over.send_replace(true);
    }

    /// Turns true when the client is not served any more.
    #[must_use]
    pub fn over(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }

    /// What the client has shown.
    pub fn client(&self) -> MutexGuard<'_, Client> {
        // Reached in builds that unwind only: a panic ends a release worker (`profile.release`). Here it
        // leaves a client that has proved nothing.
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a challenge with `nonce` asks this worker to state about this connection.
    ///
    /// # Errors
    /// [`Refused::Challenge`] for more challenges than one connection may bring.
    pub fn statement(&self, nonce: [u8; 32]) -> Result<Statement, Refused> {
        let challenge = Challenge { prover: Role::Server, nonce };
        // As above; a challenge is counted in one step.
        let mut prover = self.prover.lock().unwrap_or_else(PoisonError::into_inner);
        prover
            .take(&challenge, Instant::now())
            .map_err(|error| Refused::Challenge { code: error.code(), message: error.to_string() })
    }
}

/// Answers one request.
pub async fn route(
    worker: Arc<Worker>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let path = request.uri().path().to_owned();
    let answer = match (request.method(), path.as_str()) {
        (&Method::GET, "/livez") => Ok(json(StatusCode::OK, &Live { live: true })),
        (&Method::GET, "/readyz") => Ok(readyz(&worker)),
        (&Method::GET, "/v1/attestation") => {
            attestation::answer(&worker, &connection, request.uri().query()).await
        }
        // A claim proves itself, and whose it is does not matter.
        (&Method::POST, "/v1/payment/claim") => resume(&worker, request).await,
        // So does a note.
        (&Method::POST, "/v1/payment/funding") => fund(&worker, request).await,
        (&Method::POST, "/v1/peer/challenge") => challenge(&worker, &connection),
        (&Method::POST, "/v1/peer/collateral") => carry(&worker, &connection, request).await,
        (&Method::POST, "/v1/peer/evidence") => evidence(&worker, &connection, request).await,
        // A model's owner is no client, and the key says whether the grant is good.
        (&Method::POST, "/v1/grant") => grant(&worker, request).await,
        _ => match served(&worker, &connection) {
            Ok(()) => answer_served(worker, &connection, request).await,
            Err(refused) => Err(refused),
        },
    };
    answer.unwrap_or_else(Refused::into_response)
}

/// What only those get whom the worker serves.
async fn answer_served(
    worker: Arc<Worker>,
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refused> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/v1/sealed") => sealed(worker, connection, request).await,
        (&Method::POST, "/v1/payment/state") => payment_state(&worker, request).await,
        (&Method::GET, other) => receipt(&worker, other),
        _ => Err(Refused::NotFound),
    }
}

/// Whether the client of this connection is served.
fn served(worker: &Worker, connection: &Connection) -> Result<(), Refused> {
    let Some(gate) = &worker.peers else { return Ok(()) };
    gate.admit(&connection.client(), (worker.clock)().seconds(), Instant::now())
}

fn challenge(worker: &Worker, connection: &Connection) -> Result<Response<ReplyBody>, Refused> {
    worker.peers.as_ref().ok_or(Refused::NotFound)?;
    let message = PeerGate::challenge(&mut connection.client(), Instant::now())?;
    let body = ReplyBody::whole(message.encode());
    Ok(with_type(StatusCode::OK, "application/octet-stream", body))
}

async fn carry(
    worker: &Worker,
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refused> {
    let gate = worker.peers.as_ref().ok_or(Refused::NotFound)?;
    let body = read_body(worker, request, MAX_COLLATERAL_BYTES).await?;
    gate.carry(&mut connection.client(), &body.bytes)?;
    Ok(json(StatusCode::OK, &Accepted { accepted: true }))
}

async fn evidence(
    worker: &Worker,
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refused> {
    let gate = worker.peers.as_ref().ok_or(Refused::NotFound)?;
    let body = read_body(worker, request, MESSAGE_HEADER_BYTES + MAX_EVIDENCE_BYTES).await?;
    let (clock, now) = ((worker.clock)().seconds(), Instant::now());
    gate.evidence(&mut connection.client(), &body.bytes, clock, now)?;
    Ok(json(StatusCode::OK, &Accepted { accepted: true }))
}

fn readyz(worker: &Worker) -> Response<ReplyBody> {
    let readiness = worker.stages.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

async fn sealed(
    worker: Arc<Worker>,
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refused> {
    let limit = worker.manifest.limits.request_bytes as usize;
    let engine = worker.engine.get().ok_or(Refused::NotReady)?.clone();
    let offer = request.headers().get(PAYMENT_HEADER).cloned();
    let body = read_body(&worker, request, limit).await?;
    let offer = offer.as_ref().map(HeaderValue::as_bytes);
    inference::answer(Arc::clone(&worker), engine, &body.bytes, offer, connection.over())
}

async fn resume(
    worker: &Worker,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refused> {
    let payments = worker.payments.as_ref().ok_or(Refused::NotFound)?;
    let body = read_body(worker, request, CLAIM_BYTES).await?;
    payments.resume(&body.bytes)?;
    Ok(json(StatusCode::OK, &Accepted { accepted: true }))
}

async fn fund(worker: &Worker, request: Request<Incoming>) -> Result<Response<ReplyBody>, Refused> {
    let payments = worker.payments.as_ref().ok_or(Refused::NotFound)?;
    let body = read_body(worker, request, NOTE_BYTES).await?;
    payments.fund(&body.bytes, (worker.clock)().seconds())?;
    Ok(json(StatusCode::OK, &Accepted { accepted: true }))
}

async fn payment_state(
    worker: &Worker,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refused> {
    let payments = worker.payments.as_ref().ok_or(Refused::NotFound)?;
    let body = read_body(worker, request, STATE_REQUEST_BYTES).await?;
    let now = (worker.clock)().seconds();
    let claim = payments.state(&body.bytes, &worker.session.meter, now)?;
    let body = ReplyBody::whole(claim.encode());
    Ok(with_type(StatusCode::OK, "application/octet-stream", body))
}

async fn grant(
    worker: &Worker,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refused> {
    let body = read_body(worker, request, MAX_GRANT_BYTES).await?;
    worker.accept_grant(&body.bytes)?;
    Ok(json(StatusCode::OK, &Accepted { accepted: true }))
}

/// By the request's id, or by that and the account of the channel that paid for it.
fn receipt(worker: &Worker, path: &str) -> Result<Response<ReplyBody>, Refused> {
    let named = path.strip_prefix("/v1/receipts/").ok_or(Refused::NotFound)?;
    let (id, channel) = named.split_once('/').map_or((named, None), |(id, c)| (id, Some(c)));
    let id = id.parse().map_err(|_| Refused::BadReceiptId)?;
    let found = match channel {
        None => worker.receipts.get(&id),
        Some(account) => {
            let account = account.parse().map_err(|_| Refused::BadReceiptId)?;
            worker.receipts.paid_by(&id, account)
        }
    };
    let found = found.ok_or(Refused::NoSuchReceipt)?;
    Ok(with_type(StatusCode::OK, "application/json", ReplyBody::whole(found)))
}

/// Why a request is refused before or outside the sealed channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is described by its message in `parts`")]
pub enum Refused {
    NotFound,
    NotReady,
    Busy,
    TooLarge { limit: usize },
    Slow,
    Broken,
    BadNonce,
    BadReceiptId,
    NoSuchReceipt,
    NoGrantExpected,
    Quote { code: &'static str },
    Challenge { code: &'static str, message: String },
    Peer { code: &'static str, message: String },
    Channel { code: &'static str, message: String },
    Full { code: &'static str, message: String },
    Key { code: &'static str, message: String },
    Payment { code: &'static str, message: String, required: Box<PaymentRequired> },
}

impl Refused {
    fn parts(&self) -> (StatusCode, &str, String, &'static str) {
        match self {
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "E-NOT-FOUND",
                "there is no such route".into(),
                "routes: /livez /readyz /v1/attestation /v1/sealed /v1/grant /v1/receipts/{id}, and \
                 where [payment] is in the manifest /v1/payment/state /v1/payment/claim \
                 /v1/payment/funding",
            ),
            Self::NotReady => (
                StatusCode::SERVICE_UNAVAILABLE,
                "E-NOT-READY",
                "the worker has not finished booting".into(),
                "see /readyz for the stage it is in, then try again",
            ),
            Self::Busy => (
                StatusCode::TOO_MANY_REQUESTS,
                "E-BUSY",
                "as many requests as the worker has room for are in progress".into(),
                "try again after the time in Retry-After",
            ),
            Self::TooLarge { limit } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "E-REQUEST-SIZE",
                format!("the body is over the limit of {limit} bytes"),
                "send less context; the limit is in the attested manifest",
            ),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "E-REQUEST-SLOW",
                "the body did not arrive in time".into(),
                "send the request again",
            ),
            Self::Broken => (
                StatusCode::BAD_REQUEST,
                "E-REQUEST-BROKEN",
                "the body ended early or is not valid HTTP".into(),
                "send the request again",
            ),
            Self::BadNonce => (
                StatusCode::BAD_REQUEST,
                "E-NONCE",
                "the query must be exactly nonce= and 64 lower-case hexadecimal digits".into(),
                "send 32 fresh random bytes; evidence without a nonce of yours proves nothing",
            ),
            Self::BadReceiptId => (
                StatusCode::BAD_REQUEST,
                "E-RECEIPT-ID",
                "a receipt id is 32 lower-case hexadecimal digits, and a channel's account after it 64".into(),
                "use the request id of the sealed header",
            ),
            Self::NoSuchReceipt => (
                StatusCode::NOT_FOUND,
                "E-NO-RECEIPT",
                "no receipt with this id is held; receipts live until the worker restarts".into(),
                "use the copy that ended the response stream",
            ),
            Self::NoGrantExpected => (
                StatusCode::CONFLICT,
                "E-NO-GRANT-EXPECTED",
                "the worker is not waiting for a model key".into(),
                "grants are for sealed models, once per boot; see /readyz",
            ),
            Self::Quote { code } => (
                StatusCode::SERVICE_UNAVAILABLE,
                code,
                "the platform did not produce a quote".into(),
                "try again; if it persists, check the quote service of the host",
            ),
            Self::Challenge { code, message } => (
                StatusCode::TOO_MANY_REQUESTS,
                code,
                message.clone(),
                "one challenge every few minutes is enough; use the evidence you have",
            ),
            Self::Peer { code, message } => (
                StatusCode::FORBIDDEN,
                code,
                message.clone(),
                "connect with a TLS key, take a challenge, show evidence for it; then ask again",
            ),
            Self::Channel { code, message } => (
                StatusCode::BAD_REQUEST,
                code,
                message.clone(),
                "attest again for current keys, check the clock, and seal a fresh request",
            ),
            Self::Full { code, message } => (
                StatusCode::SERVICE_UNAVAILABLE,
                code,
                message.clone(),
                "use another worker, or attest again once this one has new keys",
            ),
            Self::Key { code, message } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                code,
                message.clone(),
                "grant the key this bundle was sealed with; the worker goes on waiting",
            ),
            Self::Payment { code, message, .. } => (
                StatusCode::PAYMENT_REQUIRED,
                code,
                message.clone(),
                "open a channel to the payee, and sign a cap and each request; see `payment`",
            ),
        }
    }

    /// The response of this refusal.
    #[must_use]
    pub fn into_response(self) -> Response<ReplyBody> {
        let (status, code, message, next_step) = self.parts();
        let payment = match &self {
            Self::Payment { required, .. } => Some(&**required),
            _ => None,
        };
        let error = ErrorParts { code, message, next_step };
        let mut response = json(status, &ErrorBody { error, payment });
        let soon = match &self {
            Self::Payment { code, .. } => *code == UNFUNDED,
            other => matches!(other, Self::Busy | Self::NotReady),
        };
        if soon {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if matches!(self, Self::Challenge { .. } | Self::Peer { .. }) {
            // An exchange that ends in an error ends its connection.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Accepted {
    accepted: bool,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorParts<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<&'a PaymentRequired>,
}

#[derive(Serialize)]
struct ErrorParts<'a> {
    code: &'a str,
    message: String,
    next_step: &'static str,
}

/// The refusal of a request whose channel nobody vouches for yet.
const UNFUNDED: &str = "E-PAYMENT-FUNDING";

/// A JSON response. Serialising our own types does not fail; if it did, the body would be empty.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<ReplyBody> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    with_type(status, "application/json", ReplyBody::whole(body))
}

/// A response with a content type.
pub fn with_type(status: StatusCode, kind: &'static str, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
