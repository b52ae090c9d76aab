//! Asks a worker for evidence over the connection that will be used, and judges it. The document
//! is hostile until the verdict; the nonce, the exporter and the TLS key are this side's own.

use bytes::Bytes;
use chrysalis_evidence::{Session, Verdict};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::limits::MAX_ATTESTATION_BYTES;
use chrysalis_wire::{AttestationDocument, UnixTime};
use http_body_util::Full;
use hyper::Request;

use crate::connection::Connection;
use crate::error::{ClientError, sanitise};
use crate::evidence::Appraised;
use crate::io::read_whole;
use crate::plain::expect_ok;
use crate::random::fresh;
use crate::worker::{AttestedWorker, Worker};

/// Evidence with its verdict, accepting or not.
pub struct Attestation {
    worker: Worker,
    connection: Connection,
    document: AttestationDocument,
    session: Session,
    at: UnixTime,
    verdict: Verdict,
}

impl Attestation {
    /// Every rule in order, and the verdict.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The document as it was received.
    #[must_use]
    pub const fn document(&self) -> &AttestationDocument {
        &self.document
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
        let verified =
            self.verdict.result.map_err(|refusal| ClientError::Appraisal(Box::new(refusal)))?;
        // The appraiser compares report_data with this connection's key; that the keyset names
        // the same key is what lets later connections be pinned to it.
        let (keyset, connection) = (verified.keyset().tls_spki, self.connection.tls_spki);
        if keyset != connection {
            return Err(ClientError::KeysetOfAnotherConnection { keyset, connection });
        }
        let Self { document, session, at, connection, .. } = self;
        Ok((Appraised { verified, document, session, at }, connection))
    }
}

/// Fetches and judges evidence for a fresh nonce on `connection`.
///
/// # Errors
/// [`ClientError`] if there is no document to judge.
pub(crate) async fn attest(
    worker: &Worker,
    mut connection: Connection,
) -> Result<Attestation, ClientError> {
    let session =
        Session { nonce: fresh()?, tls_spki: connection.tls_spki, exporter: connection.exporter };
    let request = Request::get(format!("/v1/attestation?nonce={}", hex::encode(session.nonce)))
        .body(Full::new(Bytes::new()))
        .map_err(|e| ClientError::Protocol { what: "request", reason: e.to_string() })?;
    let wait = worker.bounds().attestation;
    let response = connection.send(request, wait).await?;
    let body = expect_ok(response, "application/json", wait).await?;
    let bytes = read_whole(body, "attestation document", MAX_ATTESTATION_BYTES, wait).await?;
    let document = parse(&bytes)?;
    let at = worker.clock().now().seconds();
    let verdict = worker.judge(&document, &session);
    Ok(Attestation { worker: worker.clone(), connection, document, session, at, verdict })
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
