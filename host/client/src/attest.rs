//! Asks a worker for evidence over the connection that will be used, and judges it. The document
//! is hostile until the verdict; the nonce, the exporter and the TLS key are this side's own.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chrysalis_evidence::exchange::{Challenger, ExchangeError, Judged, Nonce};
use chrysalis_evidence::{Session, Verdict};
use chrysalis_wire::AttestationDocument;
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::limits::MAX_ATTESTATION_BYTES;
use http_body_util::Full;
use hyper::Request;

use crate::connection::Connection;
use crate::error::{ClientError, sanitise};
use crate::evidence::{Appraised, Over};
use crate::io::read_whole;
use crate::plain::expect_ok;
use crate::worker::{AttestedWorker, Worker};

/// Evidence with its verdict, accepting or not.
pub struct Attestation {
    worker: Worker,
    connection: Connection,
    judged: Judged,
}

impl Attestation {
    /// Every rule in order, and the verdict.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.judged.verdict
    }

    /// The document as it was received.
    #[must_use]
    pub const fn document(&self) -> &AttestationDocument {
        &self.judged.document
    }

    /// This side's view of the connection, which the evidence was judged for.
    #[must_use]
    pub const fn session(&self) -> &Session {
        self.judged.session()
    }

    /// The worker, if the verdict accepts it.
    ///
    /// # Errors
    /// [`ClientError::Appraisal`] with the rule that refused,
    /// [`ClientError::KeysetOfAnotherConnection`].
    pub fn accept(self) -> Result<AttestedWorker, ClientError> {
        let worker = self.worker.clone();
        let (appraised, connection) = self.into_accepted()?;
        Ok(AttestedWorker::new(worker, appraised, connection))
    }

    pub(crate) fn into_accepted(self) -> Result<(Appraised, Connection), ClientError> {
        let Self { judged, mut connection, .. } = self;
        let (document, at) = (judged.document.clone(), judged.at);
        let attested = judged.accept()?;
        let verified = attested.peer().clone();
        // The appraiser compares report_data with this connection's key; that the keyset names
        // the same key is what lets later connections be pinned to it.
        let (keyset, own) = (verified.keyset().tls_spki, connection.tls_spki);
        if keyset != own {
            return Err(ClientError::KeysetOfAnotherConnection { keyset, connection: own });
        }
        let session = attested.session().clone();
        connection.attested = Some(attested.clone());
        let over = Arc::new(Over::new(None));
        Ok((Appraised { verified, document, session, at, attested, over }, connection))
    }
}

/// Challenges the other end of `connection` with a fresh nonce and judges its evidence. On a
/// connection with an earlier proof the new one must be of the same boot.
///
/// # Errors
/// [`ClientError`] if there is no document to judge.
pub(crate) async fn attest(
    worker: &Worker,
    mut connection: Connection,
) -> Result<Attestation, ClientError> {
    let (nonce, now) =
        (Nonce::draw(getrandom::fill).map_err(|_| ClientError::Randomness)?, Instant::now());
    let awaiting = match connection.attested.take() {
        Some(attested) => attested.challenge_again(nonce, now)?,
        None => Challenger::new(connection.link.clone())?.challenge(nonce, now)?,
    };
    let nonce = hex::encode(awaiting.challenge().nonce);
    let request = Request::get(format!("/v1/attestation?nonce={nonce}"))
        .body(Full::new(Bytes::new()))
        .map_err(|e| ClientError::Protocol { what: "request", reason: e.to_string() })?;
    let wait = worker.bounds().attestation;
    let response = connection.send(request, wait).await?;
    let body = expect_ok(response, "application/json", wait).await?;
    let bytes = read_whole(body, "attestation document", MAX_ATTESTATION_BYTES, wait).await?;
    let document = parse(&bytes)?;
    let judged = worker.judge(awaiting, document)?;
    Ok(Attestation { worker: worker.clone(), connection, judged })
}

impl From<ExchangeError> for ClientError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Refused(refusal) => Self::Appraisal(refusal),
            other => Self::Exchange(other),
        }
    }
}

/// Reads an attestation document of known schema; says nothing about its truth.
///
/// # Errors
/// [`ClientError::Protocol`].
fn parse(bytes: &[u8]) -> Result<AttestationDocument, ClientError> {
    let malformed =
        |reason: &str| ClientError::Protocol { what: "attestation", reason: sanitise(reason) };
    let document: AttestationDocument =
        serde_json::from_slice(bytes).map_err(|e| malformed(&e.to_string()))?;
    if document.schema != ATTESTATION_SCHEMA {
        let found = format!("schema {:?}, this build reads {ATTESTATION_SCHEMA}", document.schema);
        return Err(malformed(&found));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text of a document with devices and a place in a batch, so that every field is there.
    fn document() -> String {
        let device = chrysalis_wire::DeviceDocument { report: "00".into(), chain: "01".into() };
        let place = chrysalis_wire::BatchDocument {
            index: 1,
            size: 2,
            path: vec![chrysalis_wire::Digest([0xAB; 32])],
        };
        let document = AttestationDocument {
            schema: ATTESTATION_SCHEMA.into(),
            platform: "tdx".into(),
            quote: "00".repeat(600),
            keyset: "01".into(),
            manifest: "02".into(),
            events: vec![chrysalis_wire::RuntimeEvent { name: "n".into(), payload: "03".into() }],
            devices: vec![device],
            batch: Some(place),
        };
        serde_json::to_string(&document).unwrap()
    }

    #[test]
    fn refuses_every_truncation_of_a_document() {
        let text = document();
        assert!(parse(text.as_bytes()).is_ok());
        for length in 0..text.len() {
            let error = parse(&text.as_bytes()[..length]).unwrap_err();
            assert!(matches!(error, ClientError::Protocol { what: "attestation", .. }), "{length}");
        }
    }

    #[test]
    fn refuses_what_follows_a_document_and_fields_it_does_not_have() {
        let text = document();
        assert!(parse(format!("{text} ").as_bytes()).is_ok());
        for longer in [format!("{text}{{}}"), text.replacen('{', "{\"trust\":\"me\",", 1)] {
            assert!(parse(longer.as_bytes()).is_err(), "{longer}");
        }
    }
}
