//! The record of an appraisal, written rule by rule. It is also the last safeguard: a verdict
//! accepts only if every rule was evaluated, in order, and none refused.

use serde::Serialize;

use crate::rules::{Decision, Refused, RuleId};
use crate::verdict::{Refusal, Verdict, VerifiedWorker};

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The rule holds.
    Pass,
    /// The rule refuses the evidence.
    Fail,
    /// Not evaluated, because an earlier rule refused. Never a pass.
    Skip,
    /// Nothing is judged; the detail says what there was to see.
    Info,
}

impl Outcome {
    /// The word shown in a transcript.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
            Self::Info => "INFO",
        }
    }
}

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleResult {
    /// The rule.
    pub id: RuleId,
    /// What must hold.
    pub title: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// The input it judged, or why it refused. Printable ASCII.
    pub detail: String,
    /// Section of `POLICY.md`.
    pub clause: &'static str,
}

/// A transcript being written.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    rules: Vec<RuleResult>,
}

impl Transcript {
    /// Records a rule and hands its value on.
    pub(crate) fn rule<T>(&mut self, id: RuleId, decision: Decision<T>) -> Result<T, Refusal> {
        match decision {
            Ok(passed) => {
                self.push(id, passed.outcome, passed.detail);
                Ok(passed.value)
            }
            Err(refused) => {
                let Refused { code, expected, found, next_step } = refused;
                self.push(id, Outcome::Fail, format!("expected {expected}; found {found}"));
                Err(Refusal { code, rule: id, expected, found, next_step })
            }
        }
    }

    /// Ends the transcript. Rules not evaluated are skipped, and while there is one, or the order
    /// is not that of [`RuleId::ALL`], nothing is accepted.
    pub(crate) fn finish(
        mut self,
        result: Result<VerifiedWorker, Refusal>,
        insecure_sim: bool,
    ) -> Verdict {
        let in_order = self.rules.iter().map(|r| r.id).eq(RuleId::ALL.iter().copied());
        let holds = self.rules.iter().all(|r| matches!(r.outcome, Outcome::Pass | Outcome::Info));
        let result = match result {
            Ok(_) if !(in_order && holds) => Err(Refusal {
                code: "E-INTERNAL",
                rule: RuleId::Document,
                expected: "every rule evaluated in order".to_owned(),
                found: "a rule was left out".to_owned(),
                next_step: "report this as a bug of the verifier",
            }),
            other => other,
        };
        for id in RuleId::ALL.iter().skip(self.rules.len()) {
            self.push(*id, Outcome::Skip, "an earlier rule refused".to_owned());
        }
        Verdict { rules: self.rules, result, insecure_sim }
    }

    fn push(&mut self, id: RuleId, outcome: Outcome, detail: String) {
        let (title, clause) = (id.title(), id.clause());
        self.rules.push(RuleResult { id, title, outcome, detail, clause });
    }
}
