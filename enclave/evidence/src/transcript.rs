//! The record of an appraisal, written rule by rule. It is also the last safeguard: a verdict
//! accepts only if every rule was evaluated, in order, and none refused.

use core::fmt;

use serde::Serialize;

use crate::quote_verdict::{AcceptedQuote, QuoteVerdict};
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
    /// Not evaluated, because an earlier rule refused or there is nothing of the kind. Never a
    /// pass.
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

impl fmt::Display for RuleResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, title, outcome, detail, clause } = self;
        write!(f, "{}  {id:<18}{title} [{clause}] — {detail}", outcome.word())
    }
}

/// The lines of a transcript that has ended, and what they come to.
pub(crate) type Ended<T> = (Vec<RuleResult>, Result<T, Refusal>);

/// A transcript being written.
#[derive(Debug)]
pub(crate) struct Transcript {
    required: Vec<RuleId>,
    rules: Vec<RuleResult>,
    /// Rules of another kind of evidence, and why they are not evaluated.
    foreign: Vec<(RuleId, &'static str)>,
}

impl Default for Transcript {
    /// A transcript of a worker without devices.
    fn default() -> Self {
        Self::of(&[RuleId::ALL])
    }
}

impl Transcript {
    /// A transcript that accepts only once all of these rules were evaluated, in this order.
    pub(crate) fn of(lists: &[&[RuleId]]) -> Self {
        Self { required: lists.concat(), rules: Vec::new(), foreign: Vec::new() }
    }

    /// The quote turned out to be an enclave's: the rules of enclaves decide instead, and those
    /// that only a trust domain has are shown as skipped, behind them.
    pub(crate) fn of_an_enclave(&mut self) {
        let whole = self.required.contains(&RuleId::Document);
        let rules = if whole { RuleId::OF_AN_ENCLAVE } else { RuleId::OF_AN_ENCLAVE_QUOTE };
        let left: Vec<RuleId> = core::mem::replace(&mut self.required, rules.to_vec());
        let absent = left.into_iter().filter(|id| !rules.contains(id));
        self.foreign = absent.map(|id| (id, "an SGX enclave has nothing of the kind")).collect();
    }

    /// The quote turned out to be a trust domain's, where the pins name enclaves too.
    pub(crate) fn of_no_enclave(&mut self) {
        let skipped = RuleId::SGX.iter();
        self.foreign = skipped.map(|id| (*id, "the quote is of a trust domain")).collect();
    }

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
    /// is not that of the required rules, nothing is accepted.
    pub(crate) fn end<T>(mut self, result: Result<T, Refusal>) -> Ended<T> {
        let in_order = self.rules.iter().map(|r| r.id).eq(self.required.iter().copied());
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
        for id in core::mem::take(&mut self.required).into_iter().skip(self.rules.len()) {
            self.push(id, Outcome::Skip, "an earlier rule refused".to_owned());
        }
        for (id, why) in core::mem::take(&mut self.foreign) {
            self.push(id, Outcome::Skip, why.to_owned());
        }
        (self.rules, result)
    }

    /// Ends the transcript of a worker.
    pub(crate) fn finish(
        self,
        result: Result<VerifiedWorker, Refusal>,
        insecure_sim: bool,
    ) -> Verdict {
        let (rules, result) = self.end(result);
        Verdict { rules, result, insecure_sim }
    }

    /// Ends the transcript of a quote alone: [`RuleId::OF_A_QUOTE`] decide, and the rules about the
    /// document that did not come with it are shown as skipped.
    pub(crate) fn finish_quote(
        self,
        result: Result<AcceptedQuote, Refusal>,
        insecure_sim: bool,
    ) -> QuoteVerdict {
        let enclave = self.required.contains(&RuleId::SgxDebug);
        let (mut rules, result) = self.end(result);
        for rule in &mut rules {
            if rule.id == RuleId::ReportData {
                rule.title = "quote is bound to what the verifier computed";
            }
        }
        let all = if enclave { RuleId::OF_AN_ENCLAVE } else { RuleId::ALL };
        let shown: Vec<RuleId> = rules.iter().map(|rule| rule.id).collect();
        for id in all.iter().filter(|id| !shown.contains(id)) {
            rules.push(line(*id, Outcome::Skip, "the quote came without a document".to_owned()));
        }
        // In the order of a whole verdict; what does not apply to the platform comes last.
        rules.sort_by_key(|rule| all.iter().position(|id| *id == rule.id).unwrap_or(all.len()));
        QuoteVerdict { rules, result, insecure_sim }
    }

    fn push(&mut self, id: RuleId, outcome: Outcome, detail: String) {
        self.rules.push(line(id, outcome, detail));
    }
}

const fn line(id: RuleId, outcome: Outcome, detail: String) -> RuleResult {
    RuleResult { id, title: id.title(), outcome, detail, clause: id.clause() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Passed;

    const TWO: &[RuleId] = &[RuleId::QuoteForm, RuleId::Debug];

    fn passed(outcome: Outcome) -> Decision<()> {
        Ok(Passed { value: (), outcome, detail: String::new() })
    }

    /// What a transcript of two rules comes to when these were recorded and nothing refused.
    fn ended(recorded: &[(RuleId, Outcome)]) -> (Vec<Outcome>, Result<(), &'static str>) {
        let mut log = Transcript::of(&[TWO]);
        for (id, outcome) in recorded {
            log.rule(*id, passed(*outcome)).unwrap();
        }
        let (rules, result) = log.end(Ok(()));
        (rules.iter().map(|rule| rule.outcome).collect(), result.map_err(|refusal| refusal.code))
    }

    #[test]
    fn accepts_only_rules_that_were_evaluated_in_order() {
        let [first, second] = [RuleId::QuoteForm, RuleId::Debug];
        use Outcome::{Info, Pass, Skip};
        assert_eq!(ended(&[(first, Pass), (second, Info)]), (vec![Pass, Info], Ok(())));
        let refused = Err("E-INTERNAL");
        assert_eq!(ended(&[(first, Pass)]), (vec![Pass, Skip], refused));
        assert_eq!(ended(&[]), (vec![Skip, Skip], refused));
        assert_eq!(ended(&[(second, Pass), (first, Pass)]).1, refused);
        assert_eq!(ended(&[(first, Pass), (second, Pass), (second, Pass)]).1, refused);
    }

    #[test]
    fn a_skip_is_never_a_pass_whatever_its_rule_says() {
        use Outcome::{Fail, Pass, Skip};
        for bad in [Skip, Fail] {
            let recorded = [(RuleId::QuoteForm, bad), (RuleId::Debug, Pass)];
            assert_eq!(ended(&recorded), (vec![bad, Pass], Err("E-INTERNAL")));
        }
        assert_eq!(Skip.word(), "SKIP");
    }
}
