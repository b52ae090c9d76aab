//! Evidence this process accepted, with everything needed to judge it again later. A value of
//! [`Appraised`] exists only behind an accepting verdict.

use std::time::{Duration, Instant};

use chrysalis_evidence::exchange::{Attested, Due};
use chrysalis_evidence::{Session, VerifiedWorker};
use chrysalis_wire::{AttestationDocument, KeyRole, UnixTime};

/// Accepted evidence.
#[derive(Debug)]
#[non_exhaustive]
pub struct Appraised {
    /// What the evidence proves.
    pub verified: VerifiedWorker,
    /// The document as it was received.
    pub document: AttestationDocument,
    /// The session it was bound to, from this side of the connection.
    pub session: Session,
    /// When it was appraised.
    pub at: UnixTime,
    /// The proof, with its age.
    pub(crate) attested: Attested,
}

impl Appraised {
    /// Whether the worker has to prove itself again before anything more is sealed to it.
    pub(crate) fn due(&self, interval: Duration, now: UnixTime) -> Option<Due> {
        self.attested.due_after(interval, Instant::now(), now)
    }

    /// Whether requests may be sealed under this evidence at `now`: a seal key is valid and the
    /// collateral has not expired.
    #[must_use]
    pub fn is_usable(&self, now: UnixTime) -> bool {
        now <= self.verified.collateral_expires()
            && self.verified.keyset().seal_key(KeyRole::Worker, now).is_some()
    }
}
