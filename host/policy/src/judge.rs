//! One call for a verifier whose pins come from a publisher: every file in force must accept. The
//! evidence is the peer's; memory, session, collateral and clock are the verifier's own.

use chrysalis_evidence::{Appraiser, Collateral, Pins, Session, Verdict};
use chrysalis_wire::{AttestationDocument, UnixTime};

use crate::error::PolicyError;
use crate::memory::PinsMemory;

/// Appraises by several files of pins at once.
#[derive(Clone, Debug)]
pub struct Judge {
    newest: Appraiser,
    earlier: Vec<Appraiser>,
}

impl Judge {
    /// A judge by one file: the user's own word, which is in force at once.
    #[must_use]
    pub const fn by(pins: Pins) -> Self {
        Self { newest: Appraiser::new(pins), earlier: Vec::new() }
    }

    /// A judge by what `memory` holds in force at `now`.
    ///
    /// # Errors
    /// [`PolicyError::Empty`], [`PolicyError::Delay`].
    pub fn of(memory: &PinsMemory, delay: u64, now: UnixTime) -> Result<Self, PolicyError> {
        let mut earlier = memory.in_force(delay, now)?;
        let newest = Appraiser::new(earlier.pop().ok_or(PolicyError::Empty)?.clone());
        let earlier = earlier.into_iter().map(|pins| Appraiser::new(pins.clone())).collect();
        Ok(Self { newest, earlier })
    }

    /// The newest pins.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        self.newest.pins()
    }

    /// Every file that must accept, newest first.
    pub fn in_force(&self) -> impl Iterator<Item = &Pins> {
        core::iter::once(&self.newest).chain(&self.earlier).map(Appraiser::pins)
    }

    /// Appraises as [`Appraiser::appraise`], by the newest pins first. If they accept and an earlier
    /// file in force does not, the verdict is that file's, and its refusal says that the worker is
    /// accepted later.
    #[must_use]
    pub fn appraise(
        &self,
        doc: &AttestationDocument,
        session: &Session,
        collateral: &Collateral,
        now: UnixTime,
    ) -> Verdict {
        let verdict = self.newest.appraise(doc, session, collateral, now);
        if !verdict.accepted() {
            return verdict;
        }
        for earlier in &self.earlier {
            let mut before = earlier.appraise(doc, session, collateral, now);
            if let Err(refusal) = &mut before.result {
                refusal.code = "E-PINS-WAITING";
                refusal.expected =
                    format!("{}, under pins that are still in force", refusal.expected);
                refusal.next_step = "the newest pins accept this worker, and what they add has to \
                                     wait; try again after the delay";
                return before;
            }
        }
        verdict
    }
}
