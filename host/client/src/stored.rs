//! A receipt as the requester keeps it: the signed receipt, the salt that opens it, and the
//! evidence of the worker that signed it. A file read back is untrusted until [`StoredReceipt::verify`].
//!
//! Neither the request nor the answer is in it. Whoever holds the file and guesses both can
//! confirm the guess with the salt, so the file is for its owner.

use std::fmt;

use chrysalis_evidence::{Collateral, Session};
use chrysalis_policy::Judge;
use chrysalis_receipt::{
    ResponseCommit, SignedReceipt, TimeWindow, request_commit, verify, verify_offline,
};
use chrysalis_wire::{AttestationDocument, Digest, RequestId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::error::{ClientError, sanitise};
use crate::evidence::Appraised;
use crate::limits::MAX_STORED_RECEIPT_BYTES;
use crate::report::StoredReport;
use crate::request::sampling_hash;
use crate::settle::expectation;
use crate::transcript::Spoken;

/// Schema name of a stored receipt.
pub const STORED_RECEIPT_SCHEMA: &str = "chrysalis/stored-receipt/v1";

/// A receipt with everything needed to verify it again, offline.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredReceipt {
    receipt: SignedReceipt,
    salt: [u8; 32],
    evidence: AttestationDocument,
    session: Session,
    pin_name: String,
    insecure_sim: bool,
    appraised_at: UnixTime,
    saved_at: UnixTime,
}

impl StoredReceipt {
    /// A receipt that was verified when it came.
    pub(crate) fn new(
        appraised: &Appraised,
        receipt: SignedReceipt,
        salt: [u8; 32],
        saved_at: UnixTime,
    ) -> Self {
        Self {
            receipt,
            salt,
            evidence: appraised.document.clone(),
            session: appraised.session.clone(),
            pin_name: appraised.verified.pin_name().to_owned(),
            insecure_sim: appraised.verified.insecure_sim(),
            appraised_at: appraised.at,
            saved_at,
        }
    }

    /// Id of the request.
    #[must_use]
    pub const fn request_id(&self) -> RequestId {
        self.receipt.receipt().request_id
    }

    /// The signed receipt.
    #[must_use]
    pub const fn receipt(&self) -> &SignedReceipt {
        &self.receipt
    }

    /// The evidence of the worker, as it was received.
    pub(crate) const fn evidence(&self) -> &AttestationDocument {
        &self.evidence
    }

    /// The session that the evidence was bound to.
    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// The pin that accepted the worker, as recorded.
    #[must_use]
    pub fn pin_name(&self) -> &str {
        &self.pin_name
    }

    /// Whether the platform was simulated, as recorded.
    #[must_use]
    pub const fn insecure_sim(&self) -> bool {
        self.insecure_sim
    }

    /// When the evidence was appraised, as recorded.
    #[must_use]
    pub const fn appraised_at(&self) -> UnixTime {
        self.appraised_at
    }

    /// When the receipt was received, as recorded.
    #[must_use]
    pub const fn saved_at(&self) -> UnixTime {
        self.saved_at
    }

    /// Verifies the receipt without any worker: the stored evidence is appraised again, by
    /// `judge`'s pins and collateral and as of the recorded time, and the receipt is held against
    /// what that evidence proves. What is not given is skipped, and the report says so.
    pub fn verify(
        &self,
        judge: Option<(&Judge, &Collateral)>,
        spoken: Option<&Spoken<'_>>,
    ) -> StoredReport {
        let evidence = judge.map(|(judge, collateral)| {
            judge.appraise(&self.evidence, &self.session, collateral, self.appraised_at)
        });
        let verified = evidence.as_ref().and_then(|verdict| verdict.result.as_ref().ok());
        let receipt = match verified {
            None => verify_offline(&self.receipt),
            Some(verified) => {
                let mut expect = expectation(verified, self.request_id(), &self.salt);
                expect.window = Some(TimeWindow { from: self.appraised_at, to: self.saved_at });
                if let Some(spoken) = spoken {
                    expect.request_commit = Some(request_commit(&self.salt, spoken.request));
                    expect.response_commit = Some(self.response_commit(spoken.response));
                    expect.sampling_hash = sampling_hash(
                        spoken.path(verified.manifest().model.task),
                        spoken.request,
                        verified.manifest(),
                    );
                    let observed = spoken.observed().unwrap_or_default();
                    expect.tokens = observed.tokens;
                    expect.finish = observed.finish;
                }
                verify(&self.receipt, &expect)
            }
        };
        StoredReport::new(self, evidence, receipt)
    }

    fn response_commit(&self, response: &[u8]) -> Digest {
        let mut commit = ResponseCommit::new(&self.salt);
        commit.update(response);
        commit.finish()
    }

    /// The document to store.
    ///
    /// # Errors
    /// [`ClientError::StoredMalformed`] if the result would not be read back.
    pub fn to_json(&self) -> Result<Vec<u8>, ClientError> {
        let malformed = |e: &dyn fmt::Display| ClientError::StoredMalformed(e.to_string());
        let receipt = self.receipt.to_json().map_err(|e| malformed(&e))?;
        let document = Document {
            schema: STORED_RECEIPT_SCHEMA.to_owned(),
            saved_at: self.saved_at,
            appraised_at: self.appraised_at,
            pin_name: self.pin_name.clone(),
            insecure_sim: self.insecure_sim,
            salt: Digest(self.salt),
            receipt: serde_json::from_str(&receipt).map_err(|e| malformed(&e))?,
            session: self.session.clone(),
            evidence: self.evidence.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&document).map_err(|e| malformed(&e))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a stored receipt from untrusted bytes.
    ///
    /// # Errors
    /// [`ClientError::StoredMalformed`] if it is too large, of another schema, or not readable.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClientError> {
        if bytes.len() > MAX_STORED_RECEIPT_BYTES {
            let text = format!("{} bytes; the limit is {MAX_STORED_RECEIPT_BYTES}", bytes.len());
            return Err(ClientError::StoredMalformed(text));
        }
        let malformed =
            |e: &dyn fmt::Display| ClientError::StoredMalformed(sanitise(&e.to_string()));
        let found: SchemaOnly = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
        if found.schema != STORED_RECEIPT_SCHEMA {
            let text = format!("schema {:?}, expected {STORED_RECEIPT_SCHEMA}", found.schema);
            return Err(malformed(&text));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
        let receipt = serde_json::to_vec(&document.receipt).map_err(|e| malformed(&e))?;
        Ok(Self {
            receipt: SignedReceipt::from_json(&receipt).map_err(|e| malformed(&e))?,
            salt: document.salt.0,
            evidence: document.evidence,
            session: document.session,
            pin_name: sanitise(&document.pin_name),
            insecure_sim: document.insecure_sim,
            appraised_at: document.appraised_at,
            saved_at: document.saved_at,
        })
    }
}

/// The salt opens the commitments, so it does not print.
impl fmt::Debug for StoredReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredReceipt({})", self.request_id())
    }
}

/// The schema is read first and alone, so that a newer document is refused by its version.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    saved_at: UnixTime,
    appraised_at: UnixTime,
    pin_name: String,
    insecure_sim: bool,
    salt: Digest,
    receipt: serde_json::Value,
    session: Session,
    evidence: AttestationDocument,
}
