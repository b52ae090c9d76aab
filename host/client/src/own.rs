//! The other direction of attest/1: a client that runs in a TEE itself, as a proxy does, proves to a
//! worker what it is. The worker is appraised first, so that a stranger sees a key and no evidence; what
//! is signed is this side's own view of the connection ([`Statement`]), never bytes of the worker.
//!
//! A proxy is a program of its own. What it calls is
//!
//! ```text
//! let worker = Worker::new(address, judge, collateral, clock).proving(identity);
//! let attested = worker.appraise().await?;      // judges the worker
//! attested.request(path, json).await?;          // proves itself on every connection it uses
//! ```
//!
//! and what it brings is an [`Identity`]: its TLS key and, as [`OwnEvidence`], its platform. Both sides
//! go on proving themselves without further calls, while answers are in progress too.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrysalis_evidence::Collateral;
use chrysalis_evidence::exchange::{ExchangeError, Message, Statement};
use chrysalis_wire::manifest::PeersSection;
use chrysalis_wire::{AttestationDocument, Digest};
use http_body_util::Full;
use hyper::Method;
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::connection::Connection;
use crate::error::ClientError;
use crate::io::read_whole;
use crate::limits::{Bounds, MAX_PLAIN_ERROR_BYTES};
use crate::plain::expect_ok;
use crate::tls::spki_digest;

/// Makes the evidence of this process. It may take as long as a quote does; it is called on a thread
/// that may block.
pub trait OwnEvidence: Send + Sync {
    /// The document that makes `statement`. Its keyset names the TLS key of the [`Identity`].
    ///
    /// # Errors
    /// A stable code, if the platform makes no evidence now.
    fn document(&self, statement: &Statement) -> Result<AttestationDocument, &'static str>;
}

/// What a client proves itself with.
#[derive(Clone)]
pub struct Identity {
    key: Arc<SingleCertAndKey>,
    spki: Digest,
    evidence: Arc<dyn OwnEvidence>,
    collateral: Option<Arc<Collateral>>,
}

impl Identity {
    /// An identity with a TLS key in one certificate, which is trusted for nothing, and a source of
    /// evidence about it.
    ///
    /// # Errors
    /// [`ClientError::CertificateChain`] for anything but one certificate,
    /// [`ClientError::Handshake`] for one that cannot be read.
    pub fn new(key: CertifiedKey, evidence: Arc<dyn OwnEvidence>) -> Result<Self, ClientError> {
        let [certificate] = key.cert.as_slice() else {
            let got = key.cert.len().saturating_sub(1);
            return Err(ClientError::CertificateChain { got });
        };
        let spki = spki_digest(certificate).map_err(|e| ClientError::Handshake(e.to_string()))?;
        Ok(Self { key: Arc::new(SingleCertAndKey::from(key)), spki, evidence, collateral: None })
    }

    /// The same, carrying collateral of its own platform to workers. They take it if it is not older
    /// than what they hold; it authenticates itself.
    #[must_use]
    pub fn carrying(mut self, collateral: Arc<Collateral>) -> Self {
        self.collateral = Some(collateral);
        self
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what the keyset of the evidence has to name.
    #[must_use]
    pub const fn spki(&self) -> Digest {
        self.spki
    }

    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.key) as Arc<dyn ResolvesClientCert>
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.spki)
    }
}

/// Whether a proof given at `proved` has to be given again by `now`, half of the worker's interval
/// before it would be refused.
pub(crate) fn due(proved: Option<Instant>, peers: &PeersSection, now: Instant) -> bool {
    let half = Duration::from_secs(peers.reattest_seconds.into()) / 2;
    proved.is_none_or(|proved| now.saturating_duration_since(proved) >= half)
}

/// Proves this side on `connection`, whose worker was accepted.
///
/// # Errors
/// [`ClientError::OwnEvidence`] without evidence, [`ClientError::WorkerRefused`] by the worker's
/// policy, and what goes wrong on a connection.
pub(crate) async fn prove(
    connection: &mut Connection,
    own: &Identity,
    bounds: &Bounds,
) -> Result<(), ClientError> {
    let wait = bounds.attestation;
    if let Some(collateral) = &own.collateral
        && connection.proved.is_none()
    {
        let body = collateral.to_json().into_bytes();
        accepted(connection, "/v1/peer/collateral", body, wait).await?;
    }
    let response = connection.send(post("/v1/peer/challenge", Vec::new())?, wait).await?;
    let body = expect_ok(response, "application/octet-stream", wait).await?;
    let bytes = read_whole(body, "challenge", MAX_PLAIN_ERROR_BYTES, wait).await?;
    let challenge = match Message::decode(&bytes).map_err(ExchangeError::from)? {
        Message::Challenge(challenge) => challenge,
        other => {
            let (expected, got) = ("a challenge", other.name());
            return Err(ExchangeError::Order { expected, got }.into());
        }
    };
    // Before the evidence: it is no older than this.
    let asked = Instant::now();
    let prover = connection.prover.as_mut().ok_or(ExchangeError::NoClientKey)?;
    let statement = prover.take(&challenge, asked)?;
    let source = Arc::clone(&own.evidence);
    let document = tokio::task::spawn_blocking(move || source.document(&statement))
        .await
        .map_err(|_| ClientError::OwnEvidence { code: "E-QUOTE-STOPPED" })?
        .map_err(|code| ClientError::OwnEvidence { code })?;
    let evidence = Message::evidence(&document)?.encode();
    accepted(connection, "/v1/peer/evidence", evidence, wait).await?;
    connection.proved = Some(asked);
    Ok(())
}

/// Posts what the worker answers with a bare acceptance.
async fn accepted(
    connection: &mut Connection,
    path: &'static str,
    body: Vec<u8>,
    wait: Duration,
) -> Result<(), ClientError> {
    let response = connection.send(post(path, body)?, wait).await?;
    let body = expect_ok(response, "application/json", wait).await?;
    read_whole(body, "answer to a proof", MAX_PLAIN_ERROR_BYTES, wait).await.map(drop)
}

fn post(path: &'static str, body: Vec<u8>) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
    hyper::Request::builder()
        .method(Method::POST)
        .uri(path)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| ClientError::Protocol { what: "request", reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_given_again_at_half_of_the_workers_interval() {
        let peers = PeersSection { pins_sha256: Digest([0; 32]), reattest_seconds: 60 };
        let proved = Instant::now();
        let after = |seconds| proved + Duration::from_secs(seconds);
        assert!(due(None, &peers, proved));
        assert!(!due(Some(proved), &peers, after(29)));
        assert!(due(Some(proved), &peers, after(30)));
    }
}
