//! Evidence this process accepted, with everything needed to judge it again later. A value of
//! [`Appraised`] exists only behind an accepting verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrysalis_evidence::exchange::{Attested, Due, ExchangeError};
use chrysalis_evidence::{Session, VerifiedWorker};
use chrysalis_wire::{AttestationDocument, KeyRole, UnixTime};
use tokio::sync::watch;

use crate::error::ClientError;

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
    /// Why the answers of this boot have to end, once they have to. Each holds a receiver; later
    /// evidence of the same boot shares it, so that none is left behind.
    pub(crate) over: Arc<Over>,
}

/// Says once why everything that rests on a boot has ended.
pub(crate) type Over = watch::Sender<Option<ClientError>>;

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

    /// Whether an answer of this boot is in progress.
    pub(crate) fn answering(&self) -> bool {
        self.over.receiver_count() > 0
    }

    /// Whether the worker was refused since. Nothing rests on this any more; it has to prove itself
    /// again, even if it would be accepted by now.
    pub(crate) fn ended(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// Ends every answer of this boot with `error`; the first reason stays.
    pub(crate) fn end(&self, error: ClientError) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            if first {
                *over = Some(error);
            }
            first
        });
    }

    /// Later evidence in place of this. Answers of the same boot go on under it; those of another,
    /// which nobody could challenge any more, end.
    pub(crate) fn give_way(&self, mut later: Self) -> Self {
        if self.ended() {
            return later;
        }
        if self.attested.renewed_by(&later.attested) {
            later.over = Arc::clone(&self.over);
            return later;
        }
        let expected = self.verified.keyset().tls_spki.to_string();
        let got = later.verified.keyset().tls_spki.to_string();
        self.end(ExchangeError::Changed { what: "boot", expected, got }.into());
        later
    }
}
