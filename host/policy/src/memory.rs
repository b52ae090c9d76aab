//! What a verifier remembers of a publisher's pins: the newest number it accepted, and the files
//! that were in force during the longest delay it could choose. The memory is the verifier's own file;
//! it is read strictly all the same, because one that is misread forgets. The delay in use belongs to
//! each question, so a short one in one call takes nothing from a long one in the next.

use chrysalis_evidence::{AllowSim, Pins};
use chrysalis_wire::{Digest, UnixTime};
use serde::{Deserialize, Serialize};

use crate::error::PolicyError;
use crate::signed::{SignedPins, numbered};

/// Schema name of a memory.
pub const MEMORY_SCHEMA: &str = "chrysalis/pins-memory/v1";

/// Largest memory read, in bytes.
pub const MAX_MEMORY_BYTES: usize = 16 * 1024 * 1024;

/// Most files held. One more drops the second oldest: the oldest still makes additions wait, and a
/// publisher of that many files within one delay can at worst bring back what it removed in between.
pub const MAX_HELD_PINS: usize = 8;

/// How long what pins newly accept has to wait, in seconds, unless the verifier says otherwise: two
/// days, so that a weekend's theft of the publisher's key can be noticed.
pub const ACTIVATION_DELAY_SECONDS: u64 = 48 * 3600;

/// The shortest wait a verifier can choose, in seconds.
pub const MIN_ACTIVATION_DELAY_SECONDS: u64 = 3600;

/// The longest wait a verifier can choose, in seconds: a year. Files are remembered for it.
pub const MAX_ACTIVATION_DELAY_SECONDS: u64 = 8760 * 3600;

/// What a verifier remembers of one publisher's pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinsMemory {
    key: Digest,
    /// By rising number, each with the time it came into force; the last is the newest.
    held: Vec<Held>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    sequence: u64,
    since: UnixTime,
    text: String,
    pins: Pins,
}

impl PinsMemory {
    /// A memory of nothing, for pins of one key.
    #[must_use]
    pub const fn new(key: Digest) -> Self {
        Self { key, held: Vec::new() }
    }

    /// Reads a memory back.
    ///
    /// # Errors
    /// [`PolicyError::Memory`], [`PolicyError::Pins`]: it is never replaced by an empty one, which
    /// would accept old pins again.
    pub fn parse(bytes: &[u8], sim: AllowSim) -> Result<Self, PolicyError> {
        let refuse = |reason| PolicyError::Memory { reason };
        if bytes.len() > MAX_MEMORY_BYTES {
            return Err(refuse("it is too large"));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|_| refuse("it is malformed"))?;
        if file.schema != MEMORY_SCHEMA {
            return Err(refuse("it is of another schema"));
        }
        if file.held.len() > MAX_HELD_PINS {
            return Err(refuse("it holds too many files"));
        }
        let mut held: Vec<Held> = Vec::new();
        for one in file.held {
            let (pins, sequence) = numbered(&one.text, sim)?;
            if held.last().is_some_and(|l| l.sequence >= sequence || l.since > one.since) {
                return Err(refuse("its files are in no order"));
            }
            held.push(Held { sequence, since: one.since, text: one.text, pins });
        }
        Ok(Self { key: file.key, held })
    }

    /// The memory as JSON; [`Self::parse`] reads it back.
    #[must_use]
    pub fn to_json(&self) -> String {
        let held = |h: &Held| HeldFile { since: h.since, text: h.text.clone() };
        let file = File {
            schema: MEMORY_SCHEMA.to_owned(),
            key: self.key,
            held: self.held.iter().map(held).collect(),
        };
        // Strings and numbers always serialise; an empty text would be refused on reading.
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Number of the newest pins.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.held.last().map(|held| held.sequence)
    }

    /// Takes note of `signed` at `now`. The first pins of a publisher are in force at once: there is
    /// nothing that could be widened.
    ///
    /// # Errors
    /// [`PolicyError::Rollback`], [`PolicyError::Fork`], [`PolicyError::MemoryOfAnotherKey`].
    pub fn adopt(&mut self, signed: &SignedPins, now: UnixTime) -> Result<(), PolicyError> {
        if signed.key() != self.key {
            return Err(PolicyError::MemoryOfAnotherKey { have: self.key, got: signed.key() });
        }
        let (sequence, pins) = (signed.sequence(), signed.pins().clone());
        if let Some(newest) = self.held.last() {
            if sequence < newest.sequence {
                return Err(PolicyError::Rollback { have: newest.sequence, got: sequence });
            }
            if sequence == newest.sequence {
                let same = newest.pins.digest() == pins.digest();
                return if same { Ok(()) } else { Err(PolicyError::Fork { sequence }) };
            }
        }
        self.forget(now);
        // A clock that was set back makes the wait longer, never shorter.
        let since = self.held.last().map_or(now, |newest| newest.since.max(now));
        self.held.push(Held { sequence, since, text: signed.text().to_owned(), pins });
        if self.held.len() > MAX_HELD_PINS {
            self.held.remove(1);
        }
        Ok(())
    }

    /// Forgets files that were superseded before the longest delay began. Only where a new file comes:
    /// a clock that is ahead for a moment, as at a start, does no harm by itself.
    fn forget(&mut self, now: UnixTime) {
        let begin = now.0.saturating_sub(MAX_ACTIVATION_DELAY_SECONDS);
        let over = self.held.iter().skip(1).take_while(|next| next.since.0 <= begin).count();
        self.held.drain(..over);
    }

    /// The pins that must all accept at `now`, oldest first: those in force at some moment of the
    /// delay that ends now.
    ///
    /// # Errors
    /// [`PolicyError::Delay`] for a delay under [`MIN_ACTIVATION_DELAY_SECONDS`] or over
    /// [`MAX_ACTIVATION_DELAY_SECONDS`].
    pub fn in_force(&self, delay: u64, now: UnixTime) -> Result<Vec<&Pins>, PolicyError> {
        if !(MIN_ACTIVATION_DELAY_SECONDS..=MAX_ACTIVATION_DELAY_SECONDS).contains(&delay) {
            return Err(PolicyError::Delay { got: delay });
        }
        let begin = now.0.saturating_sub(delay);
        // A file was in force until the next one came.
        let until = self.held.iter().skip(1).map(|next| Some(next.since)).chain([None]);
        let held = self.held.iter().zip(until);
        Ok(held
            .filter(|(_, end)| end.is_none_or(|end| end.0 > begin))
            .map(|(h, _)| &h.pins)
            .collect())
    }

    /// When everything the newest pins accept is accepted; `None` if that is so already.
    #[must_use]
    pub fn settled_at(&self, delay: u64, now: UnixTime) -> Option<UnixTime> {
        let newest = self.held.last().filter(|_| self.held.len() > 1)?;
        Some(UnixTime(newest.since.0.saturating_add(delay))).filter(|at| *at > now)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: String,
    key: Digest,
    held: Vec<HeldFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldFile {
    since: UnixTime,
    text: String,
}
