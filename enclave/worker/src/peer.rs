//! Whom the worker serves, where that is not everybody: TLS clients that have proved themselves on
//! their connection, as attest/1 asks. Evidence and certificate of a client are as hostile as
//! anything else that arrives; what lets it in is the verdict.
//!
//! A client that has to prove itself shows a key in the handshake, takes a challenge from `POST
//! /v1/peer/challenge` and answers it with `POST /v1/peer/evidence`; both bodies are the messages of
//! [`chrysalis_evidence::exchange`]. What anybody may ask (readiness, the worker's own evidence) stays
//! open to all.

use std::time::Instant;

use chrysalis_evidence::exchange::{
    Attested, Awaiting, Challenger, ExchangeError, Judged, Message, Nonce,
};
use chrysalis_evidence::{Appraiser, Collateral};
use chrysalis_wire::UnixTime;

use crate::http::Refused;

/// The clients a worker serves.
pub struct PeerGate {
    appraiser: Appraiser,
    collateral: Collateral,
}

/// How far a client has come on its connection.
pub enum Standing {
    /// It showed a key.
    Unproven(Challenger),
    /// It was challenged.
    Challenged(Awaiting),
    /// It has proved itself.
    Proven(Box<Attested>),
}

impl PeerGate {
    /// A gate for those that `appraiser` accepts with `collateral`.
    #[must_use]
    pub const fn new(appraiser: Appraiser, collateral: Collateral) -> Self {
        Self { appraiser, collateral }
    }

    /// The challenge for a client, in place of what it has proved so far.
    ///
    /// # Errors
    /// [`Refused::Peer`] for a client without a key or that was refused before,
    /// [`Refused::Quote`] without randomness.
    pub fn challenge(standing: &mut Option<Standing>, now: Instant) -> Result<Message, Refused> {
        let nonce =
            Nonce::draw(getrandom::fill).map_err(|_| Refused::Quote { code: "E-NO-RANDOMNESS" })?;
        let awaiting = match standing.take() {
            None | Some(Standing::Challenged(_)) => return Err(no_proof()),
            Some(Standing::Unproven(challenger)) => challenger.challenge(nonce, now),
            Some(Standing::Proven(attested)) => attested.challenge_again(nonce, now),
        };
        let awaiting = awaiting.map_err(|error| refused(&error))?;
        let message = Message::Challenge(awaiting.challenge());
        *standing = Some(Standing::Challenged(awaiting));
        Ok(message)
    }

    /// Judges what a client answers. After a refusal nothing on this connection lets it in.
    ///
    /// # Errors
    /// [`Refused::Peer`] with the code of the rule.
    pub fn evidence(
        &self,
        standing: &mut Option<Standing>,
        body: &[u8],
        clock: UnixTime,
        now: Instant,
    ) -> Result<(), Refused> {
        let Some(Standing::Challenged(awaiting)) = standing.take() else {
            return Err(no_proof());
        };
        let attested = Message::decode(body)
            .map_err(ExchangeError::from)
            .and_then(|message| {
                awaiting.receive(&message, &self.appraiser, &self.collateral, clock, now)
            })
            .and_then(Judged::accept)
            .map_err(|error| refused(&error))?;
        *standing = Some(Standing::Proven(Box::new(attested)));
        Ok(())
    }
}

/// Whether a client may be served now.
///
/// # Errors
/// [`Refused::Peer`] without a proof, or with one that is due again: its connection is over, and the
/// client proves itself on another.
pub fn admit(standing: Option<&Standing>, clock: UnixTime, now: Instant) -> Result<(), Refused> {
    let Some(Standing::Proven(attested)) = standing else { return Err(no_proof()) };
    match attested.due(now, clock) {
        None => Ok(()),
        Some(due) => Err(Refused::Peer { code: "E-PEER-DUE", message: due.to_string() }),
    }
}

fn no_proof() -> Refused {
    let message = "this worker serves clients that have proved themselves on their connection";
    Refused::Peer { code: "E-PEER", message: message.to_owned() }
}

fn refused(error: &ExchangeError) -> Refused {
    Refused::Peer { code: error.code(), message: error.to_string() }
}
