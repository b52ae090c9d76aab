//! Counts of refused clients, by code and rule, for the console. Nothing of a client is kept, and both
//! words come from closed sets of our own, so that no flood of clients makes this larger or puts a
//! word of theirs where the host reads it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chrysalis_evidence::RuleId;
use chrysalis_evidence::exchange::ExchangeError;
use chrysalis_wire::ConsoleEvent;

/// Clients refused since the console was told last.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<(&'static str, Option<RuleId>), u64>>);

impl Refusals {
    /// Counts one.
    pub fn note(&self, error: &ExchangeError) {
        let rule = match error {
            ExchangeError::Refused(refusal) => Some(refusal.rule),
            _ => None,
        };
        // A count changes in one step; a panic elsewhere cannot leave half of one.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((error.code(), rule)).or_default();
        *count = count.saturating_add(1);
    }

    /// What is to be told now, and only once.
    #[must_use]
    pub fn take(&self) -> Vec<ConsoleEvent> {
        let counts = core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        counts
            .into_iter()
            .map(|((code, rule), count)| ConsoleEvent::PeersRefused {
                code: code.to_owned(),
                rule: rule.map(|rule| rule.id().to_owned()),
                count,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_reason_and_tells_each_once() {
        let refusals = Refusals::default();
        for _ in 0..3 {
            refusals.note(&ExchangeError::NoClientKey);
        }
        let told = refusals.take();
        assert_eq!(told.len(), 1);
        assert!(matches!(
            &told[0],
            ConsoleEvent::PeersRefused { code, rule: None, count: 3 } if code == "E-ATTEST-NO-KEY"
        ));
        assert!(refusals.take().is_empty());
    }
}
