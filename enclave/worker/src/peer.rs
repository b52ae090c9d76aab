//! Whom the worker serves, where that is not everybody: TLS clients that have proved themselves on
//! their connection, as attest/1 asks. Evidence, collateral and certificate of a client are as hostile
//! as anything else that arrives; what lets it in is the verdict.
//!
//! A client that has to prove itself shows a key in the handshake, takes a challenge from `POST
//! /v1/peer/challenge` and answers it with `POST /v1/peer/evidence`; both bodies are the messages of
//! [`chrysalis_evidence::exchange`]. What anybody may ask (readiness, the worker's own evidence) stays
//! open to all.
//!
//! The pins come beside the measured manifest, which names their digest ([`crate::gate`]). The
//! collateral is the boot's; for a platform of another family, or later than the boot, a client may
//! carry a bundle along (`POST /v1/peer/collateral`). It authenticates itself, and how old it may be
//! and which vulnerabilities it has to know is for the pins to say, whoever brought it.
//!
//! Clock and boot collateral are the worker's own host's, who can turn both back: expired collateral
//! passes then, as old as the least TCB number of the pins allows. The gate keeps out strangers, not
//! clients that this host wants in.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrysalis_evidence::exchange::{
    Attested, Awaiting, Challenger, ExchangeError, Judged, Message, Nonce,
};
use chrysalis_evidence::{Appraiser, Collateral};
use chrysalis_wire::{Digest, UnixTime};

use crate::http::Refused;
use crate::limits::MAX_CONNECTIONS;
use crate::refusals::Refusals;

/// The clients a worker serves.
pub struct PeerGate {
    appraiser: Appraiser,
    collateral: Collateral,
    interval: Duration,
    /// The latest proof of each key.
    proofs: Mutex<BTreeMap<Digest, Attested>>,
    /// Clients that were refused.
    pub refusals: Refusals,
}

/// What a client has shown on its connection.
pub struct Client {
    standing: Option<Standing>,
    carried: Option<Collateral>,
}

/// How far a client has come on its connection.
enum Standing {
    /// It showed a key.
    Unproven(Challenger),
    /// It was challenged.
    Challenged(Awaiting),
    /// It has proved itself.
    Proven(Box<Attested>),
}

impl Client {
    /// A client that may be challenged if it showed a key.
    #[must_use]
    pub fn new(challenger: Option<Challenger>) -> Self {
        Self { standing: challenger.map(Standing::Unproven), carried: None }
    }
}

impl PeerGate {
    /// A gate for those that `appraiser` accepts with `collateral`, or with what they carry, each
    /// time for `interval`.
    #[must_use]
    pub fn new(appraiser: Appraiser, collateral: Collateral, interval: Duration) -> Self {
        let (proofs, refusals) = (Mutex::default(), Refusals::default());
        Self { appraiser, collateral, interval, proofs, refusals }
    }

    /// The challenge for a client, in place of what it has proved so far.
    ///
    /// # Errors
    /// [`Refused::Peer`] for a client without a key or that was refused before,
    /// [`Refused::Quote`] without randomness.
    pub fn challenge(client: &mut Client, now: Instant) -> Result<Message, Refused> {
        let nonce =
            Nonce::draw(getrandom::fill).map_err(|_| Refused::Quote { code: "E-NO-RANDOMNESS" })?;
        let awaiting = match client.standing.take() {
            None | Some(Standing::Challenged(_)) => return Err(no_proof()),
            Some(Standing::Unproven(challenger)) => challenger.challenge(nonce, now),
            Some(Standing::Proven(attested)) => attested.challenge_again(nonce, now),
        };
        let awaiting = awaiting.map_err(|error| told(&error))?;
        let message = Message::Challenge(awaiting.challenge());
        client.standing = Some(Standing::Challenged(awaiting));
        Ok(message)
    }

    /// Takes a bundle of collateral that a client carries, for what it shows on this connection.
    ///
    /// # Errors
    /// [`Refused::Peer`] for a client without a key, for bytes that are no bundle and for one that is
    /// older than the boot's.
    pub fn carry(&self, client: &mut Client, body: &[u8]) -> Result<(), Refused> {
        if client.standing.is_none() {
            return Err(no_proof());
        }
        let refuse = |code, message: String| Err(Refused::Peer { code, message });
        match Collateral::parse(body) {
            Err(error) => refuse(error.code(), error.to_string()),
            Ok(bundle) if !bundle.may_replace(&self.collateral) => {
                refuse("E-PEER-COLLATERAL", "this worker holds newer collateral".to_owned())
            }
            Ok(bundle) => {
                client.carried = Some(bundle);
                Ok(())
            }
        }
    }

    /// Judges what a client answers. After a refusal nothing on this connection lets it in, and all it
    /// learns is that there was one; the rule is for the console.
    ///
    /// # Errors
    /// [`Refused::Peer`].
    pub fn evidence(
        &self,
        client: &mut Client,
        body: &[u8],
        clock: UnixTime,
        now: Instant,
    ) -> Result<(), Refused> {
        let Some(Standing::Challenged(awaiting)) = client.standing.take() else {
            return Err(no_proof());
        };
        let collateral = client.carried.as_ref().unwrap_or(&self.collateral);
        let attested = Message::decode(body)
            .map_err(ExchangeError::from)
            .and_then(|message| awaiting.receive(&message, &self.appraiser, collateral, clock, now))
            .and_then(Judged::accept)
            .map_err(|error| {
                self.refusals.note(&error);
                told(&error)
            })?;
        self.remember(&attested, clock, now);
        client.standing = Some(Standing::Proven(Box::new(attested)));
        Ok(())
    }

    /// Whether a client may be served now.
    ///
    /// # Errors
    /// [`Refused::Peer`] without a proof, or with one that is due again: its connection is over, and
    /// the client proves itself on another.
    pub fn admit(&self, client: &Client, clock: UnixTime, now: Instant) -> Result<(), Refused> {
        let Some(Standing::Proven(own)) = &client.standing else { return Err(no_proof()) };
        let Some(due) = own.due_after(self.interval, now, clock) else { return Ok(()) };
        // While a request is being answered its connection has no room for a challenge; the same boot
        // may have proved itself on another.
        let proofs = self.proofs();
        let renewed = proofs.get(&own.session().tls_spki).is_some_and(|later| {
            own.renewed_by(later) && later.due_after(self.interval, now, clock).is_none()
        });
        if renewed {
            return Ok(());
        }
        Err(Refused::Peer { code: DUE, message: due.to_string() })
    }

    /// Whether a client that was let in may not be served any more.
    #[must_use]
    pub fn is_over(&self, client: &Client, clock: UnixTime, now: Instant) -> bool {
        matches!(client.standing, Some(Standing::Proven(_)))
            && self.admit(client, clock, now).is_err()
    }

    /// Keeps the proof for other connections of the same key. One key more than there can be
    /// connections is not kept: its streams end at the interval.
    fn remember(&self, attested: &Attested, clock: UnixTime, now: Instant) {
        let mut proofs = self.proofs();
        proofs.retain(|_, proof| proof.due_after(self.interval, now, clock).is_none());
        let key = attested.session().tls_spki;
        if proofs.len() < MAX_CONNECTIONS || proofs.contains_key(&key) {
            proofs.insert(key, attested.clone());
        }
    }

    fn proofs(&self) -> MutexGuard<'_, BTreeMap<Digest, Attested>> {
        // A proof is added in one step; a panic elsewhere cannot leave half of one.
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_proof() -> Refused {
    let message = "this worker serves clients that have proved themselves on their connection";
    Refused::Peer { code: "E-PEER", message: message.to_owned() }
}

/// What a client is told. What it did wrong in the protocol it knows anyway; what the pins are is
/// not its business.
fn told(error: &ExchangeError) -> Refused {
    match error {
        ExchangeError::Refused(_) | ExchangeError::Changed { .. } => {
            let message = "this worker does not accept the evidence; its operator sees the rule";
            Refused::Peer { code: "E-PEER-REFUSED", message: message.to_owned() }
        }
        error => Refused::Peer { code: error.code(), message: error.to_string() },
    }
}

/// A proof that has to be given again.
pub const DUE: &str = "E-PEER-DUE";
