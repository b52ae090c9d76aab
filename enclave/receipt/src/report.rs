//! What a verification says, check by check, in words for the person who asked. It holds ids,
//! numbers and digests only.

use core::fmt;

use serde::Serialize;

use crate::error::ReceiptError;

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What was expected is what was found.
    Pass,
    /// It is not.
    Fail,
    /// Nothing was given to compare with; the detail says what the receipt claims.
    Skip,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        })
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable id, such as `signature`.
    pub id: &'static str,
    /// What is checked, as a statement that is true when it passes.
    pub title: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was expected and found; for a failure, what to do.
    pub detail: String,
}

/// Every check of one verification, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use = "a report that nobody reads verifies nothing"]
pub struct ReceiptReport {
    /// Whether no check failed. A skipped check is not a failure: see [`ReceiptReport::skipped`].
    pub ok: bool,
    /// Whether the receipt is from the simulated network and so worth nothing.
    pub insecure_sim: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

impl ReceiptReport {
    pub(crate) fn new(insecure_sim: bool, checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|c| c.outcome != Outcome::Fail);
        Self { ok, insecure_sim, checks }
    }

    /// The check with this id.
    #[must_use]
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|c| c.id == id)
    }

    /// Checks that had nothing to compare with.
    pub fn skipped(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| c.outcome == Outcome::Skip)
    }

    /// Turns the first failure into an error.
    ///
    /// # Errors
    /// [`ReceiptError::Check`] with the first check that failed.
    pub fn require(self) -> Result<Self, ReceiptError> {
        match self.checks.iter().find(|c| c.outcome == Outcome::Fail) {
            None => Ok(self),
            Some(c) => {
                Err(ReceiptError::Check { id: c.id, title: c.title, detail: c.detail.clone() })
            }
        }
    }
}

/// Collects checks.
#[derive(Default)]
pub(crate) struct Checks(Vec<Check>);

impl Checks {
    pub(crate) fn finish(self, insecure_sim: bool) -> ReceiptReport {
        ReceiptReport::new(insecure_sim, self.0)
    }

    pub(crate) fn add(
        &mut self,
        id: &'static str,
        title: &'static str,
        outcome: Outcome,
        detail: impl Into<String>,
    ) {
        self.0.push(Check { id, title, outcome, detail: detail.into() });
    }

    /// A check that either passes or fails, with its words.
    pub(crate) fn result(
        &mut self,
        id: &'static str,
        title: &'static str,
        result: Result<String, String>,
    ) {
        match result {
            Ok(detail) => self.add(id, title, Outcome::Pass, detail),
            Err(detail) => self.add(id, title, Outcome::Fail, detail),
        }
    }

    /// Compares what the receipt says with what is expected, if anything is.
    pub(crate) fn equal<T: PartialEq + fmt::Display>(
        &mut self,
        id: &'static str,
        title: &'static str,
        expected: Option<T>,
        got: &T,
        if_different: &str,
    ) {
        let (outcome, detail) = match expected {
            None => (Outcome::Skip, format!("the receipt says {got}; nothing to compare it with")),
            Some(e) if e == *got => (Outcome::Pass, got.to_string()),
            Some(e) => {
                (Outcome::Fail, format!("expected {e}, the receipt says {got}: {if_different}"))
            }
        };
        self.add(id, title, outcome, detail);
    }
}
