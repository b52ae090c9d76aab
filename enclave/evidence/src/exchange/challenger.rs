//! The end that wants proof. It computes what must be signed from its own connection and its own
//! nonce; the peer's evidence is hostile until [`Judged::accept`].

use core::fmt;
use core::time::Duration;
use std::time::Instant;

use chrysalis_wire::{AttestationDocument, Digest, KeyRole, UnixTime};

use super::error::ExchangeError;
use super::link::{Link, Nonce};
use super::message::{self, Challenge, Message};
use crate::appraiser::Appraiser;
use crate::binding::{Role, Session};
use crate::collateral::Collateral;
use crate::verdict::{Verdict, VerifiedWorker};

/// Longest an answer may take: two quotes of the stock TDX driver, and a slow link.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Longest a live connection is used on the same evidence.
pub const REATTEST_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// An end that has no proof of its peer.
#[derive(Clone, Debug)]
pub struct Challenger {
    link: Link,
    prover: Role,
    before: Option<Boot>,
}

impl Challenger {
    /// The challenger of the other end of `link`.
    ///
    /// # Errors
    /// [`ExchangeError::NoClientKey`] if that is a client without a certificate.
    pub fn new(link: Link) -> Result<Self, ExchangeError> {
        let prover = link.own().other();
        link.session(prover, [0; 32])?;
        Ok(Self { link, prover, before: None })
    }

    /// Challenges the peer with a nonce that serves this once.
    ///
    /// # Errors
    /// None that [`Challenger::new`] would not have had.
    pub fn challenge(self, nonce: Nonce, now: Instant) -> Result<Awaiting, ExchangeError> {
        let session = self.link.session(self.prover, nonce.into_bytes())?;
        Ok(Awaiting { challenger: self, session, since: now })
    }
}

/// An end that waits for evidence.
#[derive(Clone, Debug)]
pub struct Awaiting {
    challenger: Challenger,
    session: Session,
    since: Instant,
}

impl Awaiting {
    /// What to send.
    #[must_use]
    pub const fn challenge(&self) -> Challenge {
        Challenge { prover: self.challenger.prover, nonce: self.session.nonce }
    }

    /// What the evidence has to be about: this end's own view.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// When waiting has to end.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        // An instant that cannot be represented never comes; the caller's own bound remains.
        self.since.checked_add(ANSWER_DEADLINE).unwrap_or(self.since)
    }

    /// Judges the message that came.
    ///
    /// # Errors
    /// [`ExchangeError::NoEvidence`], [`ExchangeError::Order`], [`ExchangeError::Message`] or
    /// [`ExchangeError::Document`]: what is no evidence at all. Otherwise as [`Awaiting::judge`].
    pub fn receive(
        self,
        message: &Message,
        appraiser: &Appraiser,
        collateral: &Collateral,
        clock: UnixTime,
        now: Instant,
    ) -> Result<Judged, ExchangeError> {
        match message {
            Message::Evidence(json) => {
                let document = message::document(json)?;
                self.judge(document, appraiser, collateral, clock, now)
            }
            Message::Refusal(reason) => Err(ExchangeError::NoEvidence(*reason)),
            Message::Challenge(_) => {
                Err(ExchangeError::Order { expected: "evidence", got: message.name() })
            }
        }
    }

    /// Judges a document, hostile as it came. `now` is the instant it was received, `clock` the verifier's wall
    /// clock; `collateral` comes from anywhere but the peer.
    ///
    /// # Errors
    /// [`ExchangeError::Late`]. Evidence that is refused is no error but a [`Judged`], with every
    /// rule.
    pub fn judge(
        self,
        document: AttestationDocument,
        appraiser: &Appraiser,
        collateral: &Collateral,
        clock: UnixTime,
        now: Instant,
    ) -> Result<Judged, ExchangeError> {
        self.judge_by(document, clock, now, |prover, document, session| {
            appraiser.appraise_end(prover, document, session, collateral, clock)
        })
    }

    /// [`Self::judge`] by whoever holds more than one file of pins, or verdicts to reuse: `appraise` is
    /// given which end proves itself, the document and what it has to be bound to.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_by(
        self,
        document: AttestationDocument,
        clock: UnixTime,
        now: Instant,
        appraise: impl FnOnce(Role, &AttestationDocument, &Session) -> Verdict,
    ) -> Result<Judged, ExchangeError> {
        if now.saturating_duration_since(self.since) > ANSWER_DEADLINE {
            return Err(ExchangeError::Late { limit: ANSWER_DEADLINE });
        }
        let verdict = appraise(self.challenger.prover, &document, &self.session);
        Ok(Judged { awaited: self, document, verdict, at: clock })
    }
}

/// Evidence with its verdict, accepting or not.
#[derive(Clone, Debug)]
pub struct Judged {
    awaited: Awaiting,
    /// The document as it was received.
    pub document: AttestationDocument,
    /// Every rule, and the result.
    pub verdict: Verdict,
    /// When it was judged, by the verifier's wall clock.
    pub at: UnixTime,
}

impl Judged {
    /// What the evidence had to be about.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.awaited.session
    }

    /// The proof, if the verdict accepts and nothing changed since the last one.
    ///
    /// # Errors
    /// [`ExchangeError::Refused`] with the rule, [`ExchangeError::Changed`].
    pub fn accept(self) -> Result<Attested, ExchangeError> {
        let peer =
            self.verdict.result.map_err(|refusal| ExchangeError::Refused(Box::new(refusal)))?;
        let Awaiting { challenger, session, since } = self.awaited;
        let boot = Boot::of(&peer);
        if let Some(before) = &challenger.before {
            before.same_as(&boot)?;
        }
        let Challenger { link, prover, .. } = challenger;
        Ok(Attested { link, prover, boot, session, since, peer })
    }
}

/// An end that has proof of its peer.
#[derive(Clone, Debug)]
pub struct Attested {
    link: Link,
    prover: Role,
    boot: Boot,
    session: Session,
    /// When the challenge was sent: the evidence is no older.
    since: Instant,
    peer: VerifiedWorker,
}

/// Why evidence has to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// [`REATTEST_INTERVAL`] is over.
    Interval,
    /// The attested keyset has no key that is valid now; the peer has another keyset by now.
    Keyset,
    /// The collateral that the verdict rests on has expired.
    Collateral,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interval => "the interval is over",
            Self::Keyset => "the attested keys have expired",
            Self::Collateral => "the collateral has expired",
        })
    }
}

impl Attested {
    /// What the evidence proves.
    #[must_use]
    pub const fn peer(&self) -> &VerifiedWorker {
        &self.peer
    }

    /// What it was bound to.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Whether the peer has to be challenged again before anything more is sent to it.
    #[must_use]
    pub fn due(&self, now: Instant, clock: UnixTime) -> Option<Due> {
        self.due_after(REATTEST_INTERVAL, now, clock)
    }

    /// [`Attested::due`] with a shorter interval than [`REATTEST_INTERVAL`]; a longer one is cut.
    #[must_use]
    pub fn due_after(&self, interval: Duration, now: Instant, clock: UnixTime) -> Option<Due> {
        let interval = interval.min(REATTEST_INTERVAL);
        if clock > self.peer.collateral_expires() {
            return Some(Due::Collateral);
        }
        if self.peer.keyset().seal_key(KeyRole::Worker, clock).is_none() {
            return Some(Due::Keyset);
        }
        (now.saturating_duration_since(self.since) >= interval).then_some(Due::Interval)
    }

    /// Whether `later`, a proof on another connection, shows what challenging this one again would:
    /// that the same end, by its TLS key, is still the same boot. The keys of this connection live and
    /// die with that boot, and it was bound to this connection when it proved itself here; a stream
    /// that leaves no room for a challenge goes on under such a proof.
    #[must_use]
    pub fn renewed_by(&self, later: &Self) -> bool {
        self.prover == later.prover
            && self.session.tls_spki == later.session.tls_spki
            && self.boot == later.boot
    }

    /// Challenges the peer again, on the same connection.
    ///
    /// # Errors
    /// As [`Challenger::challenge`].
    pub fn challenge_again(self, nonce: Nonce, now: Instant) -> Result<Awaiting, ExchangeError> {
        let Self { link, prover, boot, .. } = self;
        Challenger { link, prover, before: Some(boot) }.challenge(nonce, now)
    }
}

/// What stays the same as long as a connection lives: the connection's key belongs to one boot, and
/// a boot has one image, one manifest and one meter key. Seal keys may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Boot {
    measurement: Digest,
    manifest: Digest,
    meter_key: Digest,
}

impl Boot {
    fn of(peer: &VerifiedWorker) -> Self {
        Self {
            measurement: peer.measurement_digest(),
            manifest: peer.manifest_digest(),
            meter_key: Digest(peer.keyset().meter_key),
        }
    }

    fn same_as(&self, now: &Self) -> Result<(), ExchangeError> {
        let all = [
            ("measurement", self.measurement, now.measurement),
            ("manifest", self.manifest, now.manifest),
            ("meter key", self.meter_key, now.meter_key),
        ];
        match all.into_iter().find(|(_, before, now)| before != now) {
            None => Ok(()),
            Some((what, before, now)) => {
                let (expected, got) = (before.to_string(), now.to_string());
                Err(ExchangeError::Changed { what, expected, got })
            }
        }
    }
}
