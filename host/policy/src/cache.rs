//! Acceptances, kept by digest of everything they depend on. A verdict is about one session: its
//! nonce, exporter and key are in the digest like everything else, so that what is kept can answer
//! the same question again and no other. Refusals are not kept: many of them pass with time.

use std::collections::BTreeMap;

use chrysalis_evidence::{Collateral, Session, Verdict};
use chrysalis_wire::{AttestationDocument, Digest, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::judge::Judge;

/// Most verdicts kept; one more drops the one that ends first.
pub const MAX_CACHED_VERDICTS: usize = 256;

/// Verdicts that accepted.
#[derive(Debug, Default)]
pub struct VerdictCache {
    kept: BTreeMap<Digest, Kept>,
}

#[derive(Debug)]
struct Kept {
    verdict: Verdict,
    from: UnixTime,
    until: UnixTime,
}

impl VerdictCache {
    /// An empty cache.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: BTreeMap::new() }
    }

    /// [`Judge::appraise`], or the verdict it gave for exactly the same evidence, session,
    /// collateral and pins, if all of that is valid at `now`.
    pub fn appraise(
        &mut self,
        judge: &Judge,
        doc: &AttestationDocument,
        session: &Session,
        collateral: &Collateral,
        now: UnixTime,
    ) -> Verdict {
        let Some(key) = key(judge, doc, session, collateral) else {
            return judge.appraise(doc, session, collateral, now);
        };
        // A clock that was set back asks again: what is valid now may not have been then.
        let fresh = |kept: &&Kept| kept.from <= now && now < kept.until;
        if let Some(kept) = self.kept.get(&key).filter(fresh) {
            return kept.verdict.clone();
        }
        let verdict = judge.appraise(doc, session, collateral, now);
        if let Some(until) = verdict.result.as_ref().ok().and_then(|worker| worker.valid_until()) {
            self.keep(key, Kept { verdict: verdict.clone(), from: now, until });
        }
        verdict
    }

    /// Verdicts kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn keep(&mut self, key: Digest, kept: Kept) {
        if kept.from >= kept.until {
            return;
        }
        if self.kept.len() >= MAX_CACHED_VERDICTS && !self.kept.contains_key(&key) {
            let first = self.kept.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| *key);
            first.and_then(|first| self.kept.remove(&first));
        }
        self.kept.insert(key, kept);
    }
}

/// SHA-256 over everything a verdict depends on but the time, each part with its length.
pub(crate) fn key(
    judge: &Judge,
    doc: &AttestationDocument,
    session: &Session,
    collateral: &Collateral,
) -> Option<Digest> {
    // The whole document, signatures included: a digest of signed parts alone would be the same for
    // a good and a bad signature.
    let (doc, session) = (serde_json::to_vec(doc).ok()?, serde_json::to_vec(session).ok()?);
    let mut hash = Sha256::new();
    hash.update(KEY_DOMAIN);
    for part in [doc.as_slice(), session.as_slice(), &collateral.digest().0] {
        hash.update(u64::try_from(part.len()).ok()?.to_be_bytes());
        hash.update(part);
    }
    for pins in judge.in_force() {
        hash.update(pins.digest().0);
    }
    Some(Digest(hash.finalize().into()))
}

const KEY_DOMAIN: &[u8] = b"chrysalis/verdict-key/v1";
