//! One connection to a worker: TCP, TLS 1.3, HTTP/1.1. The peer is hostile until its evidence is
//! appraised, and every length it controls is bounded.
//!
//! Dropping a [`Connection`] closes the socket at once; this is how a worker learns that the
//! requester went away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrysalis_evidence::Role;
use chrysalis_evidence::exchange::{Attested, Link, Prover};
use chrysalis_wire::Digest;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{ClientError, sanitise};
use crate::io::within;
use crate::limits::{Bounds, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::own::Identity;
use crate::tls::{KeyRefusal, KeyVerifier, key_refusal};

/// One connection to a worker.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    /// SHA-256 of the SubjectPublicKeyInfo the worker holds, proved by the handshake.
    pub(crate) tls_spki: Digest,
    /// This side's own view of the connection, for challenges.
    pub(crate) link: Link,
    /// The last proof on this very connection; a connection that is pinned to an attested key
    /// begins without one.
    pub(crate) attested: Option<Attested>,
    /// Answers the worker's challenges, if this side shows a key.
    pub(crate) prover: Option<Prover>,
    /// When the worker challenged this side last, if it was content.
    pub(crate) proved: Option<Instant>,
}

impl Connection {
    /// Connects to `address`; with a `pin`, only to the holder of that key. A worker that asks is shown
    /// the key of `own`.
    ///
    /// # Errors
    /// [`ClientError::NoSuchHost`], [`ClientError::Unreachable`], [`ClientError::TimedOut`], [`ClientError::Handshake`],
    /// [`ClientError::ClosedDuringHandshake`], [`ClientError::CertificateChain`],
    /// [`ClientError::TlsKeyChanged`].
    pub(crate) async fn open(
        address: &str,
        pin: Option<Digest>,
        own: Option<&Identity>,
        bounds: &Bounds,
    ) -> Result<Self, ClientError> {
        let stream = within("the TCP connection", bounds.connect, connect(address)).await??;
        // Frames are small and each one is a token somebody waits for.
        drop(stream.set_nodelay(true));
        let verifier = KeyVerifier::new(pin);
        let tls = handshake(stream, &verifier, own, bounds.handshake).await?;
        let tls_spki = verifier
            .presented()
            .ok_or_else(|| ClientError::Handshake("no certificate was verified".to_owned()))?;
        let session = tls.get_ref().1;
        let export = |label| session.export_keying_material([0u8; 32], label, None);
        let link = Link::new(Role::Client, tls_spki, own.map(Identity::spki), export)
            .map_err(|e| ClientError::Handshake(e.to_string()))?;
        let prover = own.map(|_| Prover::new(link.clone())).transpose()?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|e| protocol("HTTP connection", &e))?;
        // The driver's own error is the same one the request in flight reports.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver, tls_spki, link, attested: None, prover, proved: None })
    }

    /// Whether another request can be sent.
    pub(crate) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends `request` and waits for the head of the response.
    ///
    /// # Errors
    /// The request comes back unsent in [`SendError::Unsent`] if the connection was closed before
    /// any of it was written; every other failure is a [`ClientError`].
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        request.headers_mut().insert(HOST, HeaderValue::from_static(HOST_NAME));
        if self.sender.ready().await.is_err() {
            return Err(SendError::Unsent(request));
        }
        let answer = within("the answer", limit, self.sender.try_send_request(request)).await;
        match answer.map_err(SendError::Failed)? {
            Ok(response) => Ok(response),
            Err(mut failed) => Err(match failed.take_message() {
                Some(unsent) => SendError::Unsent(unsent),
                None => SendError::Failed(sent_but_unanswered(failed.error())),
            }),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why a request has no response.
pub(crate) enum SendError {
    /// The connection was already closed; nothing was written.
    Unsent(Request<Full<Bytes>>),
    /// Anything else.
    Failed(ClientError),
}

impl From<SendError> for ClientError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unsent(_) => Self::Disconnected,
            SendError::Failed(error) => error,
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream, ClientError> {
    let no_such_host = || ClientError::NoSuchHost { address: address.to_owned() };
    // Resolved apart, because the system's reason for a name without an address has no kind.
    let found: Vec<_> = lookup_host(address).await.map_err(|_| no_such_host())?.collect();
    if found.is_empty() {
        return Err(no_such_host());
    }
    TcpStream::connect(found.as_slice())
        .await
        .map_err(|e| ClientError::Unreachable { address: address.to_owned(), kind: e.kind() })
}

async fn handshake(
    stream: TcpStream,
    verifier: &Arc<KeyVerifier>,
    own: Option<&Identity>,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let config = verifier.config(own.map(Identity::resolver));
    let config = config.map_err(|e| ClientError::Handshake(e.to_string()))?;
    // Required by the interface; never sent (no SNI) and never compared.
    let name =
        ServerName::try_from(HOST_NAME).map_err(|e| ClientError::Handshake(e.to_string()))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    within("the TLS handshake", limit, connected).await?.map_err(|e| handshake_error(&e))
}

fn handshake_error(error: &std::io::Error) -> ClientError {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        // The loader's relay closes at once while there is no worker behind it.
        return ClientError::ClosedDuringHandshake(error.kind());
    };
    match key_refusal(tls) {
        Some(KeyRefusal::Intermediates { got }) => ClientError::CertificateChain { got },
        Some(KeyRefusal::Changed { expected, got }) => ClientError::TlsKeyChanged { expected, got },
        None => ClientError::Handshake(sanitise(&tls.to_string())),
    }
}

fn sent_but_unanswered(error: &hyper::Error) -> ClientError {
    if error.is_parse_too_large() {
        return ClientError::TooLarge { what: "response head", limit: MAX_HEAD_BYTES };
    }
    if error.is_parse() { protocol("response head", error) } else { ClientError::Disconnected }
}

/// An error of the HTTP layer; its text names a rule of HTTP, not the content.
fn protocol(what: &'static str, error: &hyper::Error) -> ClientError {
    ClientError::Protocol { what, reason: sanitise(&error.to_string()) }
}

/// `Host` of every request. A worker has no name; the relay in front of it reads none.
const HOST_NAME: &str = "chrysalis-worker";
