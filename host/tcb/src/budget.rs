//! The committed budget: how much may be trusted at most. It only shrinks, or is raised with a
//! reason, and every value it ever had stays in the file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::TcbError;
use crate::report::{ProgramReport, TcbReport};

/// Largest budget read, in bytes.
pub const MAX_BUDGET_BYTES: usize = 64 << 10;

/// A budget for every program.
#[derive(Clone, Debug)]
pub struct Budget {
    lines: Vec<Line>,
}

/// The limit of one count of one program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    program: String,
    count: Count,
    /// What it was and is; the last one holds.
    history: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at_most: usize,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    budget: Vec<Line>,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Crates in the program.
    LinkedCrates,
    /// Crates that ran while it was built.
    BuildTimeCrates,
    /// Our own lines of code in it.
    OwnLines,
    /// `unsafe` in our own code.
    OwnUnsafe,
    /// Places in our own code that listen.
    Listens,
}

/// One line of the budget, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The program.
    pub program: String,
    /// What is limited.
    pub count: Count,
    /// The limit.
    pub at_most: usize,
    /// What was counted.
    pub found: usize,
    /// How they compare.
    pub outcome: Outcome,
}

/// How a count compares with its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Within the budget, and near it.
    Within,
    /// Over it.
    Over,
    /// So far below it that the budget limits nothing any more and must shrink.
    Loose,
}

impl Budget {
    /// Reads a budget.
    ///
    /// # Errors
    /// [`TcbError::Budget`] for what is not one: an unknown field, a value without a reason, a
    /// count named twice.
    pub fn parse(text: &str) -> Result<Self, TcbError> {
        let bad = |what: String| Err(TcbError::Budget(what));
        if text.len() > MAX_BUDGET_BYTES {
            return bad(format!("it has {} bytes", text.len()));
        }
        let raw: Raw = toml::from_str(text).map_err(|e| TcbError::Budget(e.to_string()))?;
        if raw.version != 1 {
            return bad(format!("version {} is not known", raw.version));
        }
        let mut seen = BTreeSet::new();
        for line in &raw.budget {
            let name = format!("{} of {}", line.count.name(), line.program);
            if !seen.insert((line.program.clone(), line.count)) {
                return bad(format!("{name} is named twice"));
            }
            if line.history.is_empty() {
                return bad(format!("{name} has no value"));
            }
            if line.history.iter().any(|entry| entry.reason.trim().len() < MIN_REASON_CHARS) {
                return bad(format!("{name} has a value without a reason"));
            }
        }
        Ok(Self { lines: raw.budget })
    }

    /// Compares a report, program by program.
    ///
    /// # Errors
    /// [`TcbError::Budget`] if a program of the report lacks a limit.
    pub fn judge(&self, report: &TcbReport) -> Result<Vec<Verdict>, TcbError> {
        let mut verdicts = Vec::new();
        for program in &report.programs {
            let mut limits: BTreeMap<Count, usize> = BTreeMap::new();
            for line in self.lines.iter().filter(|line| line.program == program.name) {
                limits.extend(line.history.last().map(|entry| (line.count, entry.at_most)));
            }
            for count in Count::ALL {
                let Some(at_most) = limits.get(&count).copied() else {
                    let what = format!("{} has no limit for {}", program.name, count.name());
                    return Err(TcbError::Budget(what));
                };
                let found = count.of(program);
                let outcome = compare(found, at_most);
                let program = program.name.clone();
                verdicts.push(Verdict { program, count, at_most, found, outcome });
            }
        }
        Ok(verdicts)
    }
}

impl Count {
    const ALL: [Self; 5] =
        [Self::LinkedCrates, Self::BuildTimeCrates, Self::OwnLines, Self::OwnUnsafe, Self::Listens];

    /// As the budget spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkedCrates => "linked-crates",
            Self::BuildTimeCrates => "build-time-crates",
            Self::OwnLines => "own-lines",
            Self::OwnUnsafe => "own-unsafe",
            Self::Listens => "listens",
        }
    }

    const fn of(self, program: &ProgramReport) -> usize {
        match self {
            Self::LinkedCrates => program.linked_crates,
            Self::BuildTimeCrates => program.build_time_crates,
            Self::OwnLines => program.own.lines,
            Self::OwnUnsafe => program.own.unsafes.total(),
            Self::Listens => program.own.listens.len(),
        }
    }
}

/// A budget is loose where less than two thirds of it are used, and more than a few.
fn compare(found: usize, at_most: usize) -> Outcome {
    if found > at_most {
        return Outcome::Over;
    }
    let unused = at_most.saturating_sub(found);
    if unused > FEW && unused.saturating_mul(3) > at_most {
        return Outcome::Loose;
    }
    Outcome::Within
}

/// A budget this near is not called loose, whatever its share.
const FEW: usize = 10;
/// A reason is at least a word or two.
const MIN_REASON_CHARS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceCount;

    const HEAD: &str = "version = 1\n";

    fn line(program: &str, count: &str, history: &str) -> String {
        format!("[[budget]]\nprogram = \"{program}\"\ncount = \"{count}\"\nhistory = [{history}]\n")
    }

    fn full(at_most: usize) -> String {
        let entry = format!("{{ at_most = {at_most}, reason = \"what it is\" }}");
        let lines = Count::ALL.map(|count| line("p", count.name(), &entry));
        format!("{HEAD}{}", lines.concat())
    }

    fn report(lines: usize) -> TcbReport {
        let own = SourceCount { lines, ..SourceCount::default() };
        let program = ProgramReport {
            name: "p".to_owned(),
            linked_crates: 3,
            build_time_crates: 1,
            own,
            crates: Vec::new(),
        };
        TcbReport { programs: vec![program], guest: None }
    }

    fn outcome(text: &str, lines: usize) -> Outcome {
        let verdicts = Budget::parse(text).unwrap().judge(&report(lines)).unwrap();
        assert_eq!(verdicts.len(), 5);
        verdicts.iter().find(|v| v.count == Count::OwnLines).unwrap().outcome
    }

    #[test]
    fn one_line_over_the_budget_is_over_it() {
        assert_eq!(outcome(&full(100), 100), Outcome::Within);
        assert_eq!(outcome(&full(100), 101), Outcome::Over);
    }

    #[test]
    fn a_budget_that_limits_nothing_any_more_is_loose() {
        assert_eq!(outcome(&full(100), 67), Outcome::Within);
        assert_eq!(outcome(&full(100), 66), Outcome::Loose);
        assert_eq!(outcome(&full(10), 0), Outcome::Within);
    }

    #[test]
    fn the_last_value_of_a_history_holds() {
        let history = "{ at_most = 50, reason = \"as counted\" }, { at_most = 120, reason = \"it grew because\" }";
        let entry = "{ at_most = 100, reason = \"what it is\" }";
        let text =
            full(100).replace(&line("p", "own-lines", entry), &line("p", "own-lines", history));
        assert_eq!(outcome(&text, 110), Outcome::Within);
    }

    #[test]
    fn refuses_a_value_without_a_reason() {
        let entry = "{ at_most = 1, reason = \" because \" }";
        for history in [entry, "{ at_most = 1 }", ""] {
            let text = format!("{HEAD}{}", line("p", "listens", history));
            assert_eq!(Budget::parse(&text).unwrap_err().code(), "E-TCB-BUDGET", "{history}");
        }
    }

    #[test]
    fn refuses_unknown_fields_counts_and_versions_and_a_count_named_twice() {
        let entry = "{ at_most = 1, reason = \"what it is\" }";
        let good = line("p", "listens", entry);
        for bad in [
            format!("version = 2\n{good}"),
            format!("{HEAD}extra = 1\n{good}"),
            format!("{HEAD}{good}{good}"),
            format!("{HEAD}{}", line("p", "lines", entry)),
            format!("{HEAD}{good}at_least = 3\n"),
            format!("{HEAD}{good}{}", " ".repeat(MAX_BUDGET_BYTES)),
        ] {
            assert!(Budget::parse(&bad).is_err(), "{}", &bad[..60.min(bad.len())]);
        }
        assert!(Budget::parse(&format!("{HEAD}{good}")).is_ok());
    }

    #[test]
    fn refuses_a_program_that_has_no_budget() {
        let budget = Budget::parse(&full(100).replace("\"p\"", "\"q\"")).unwrap();
        assert_eq!(budget.judge(&report(1)).unwrap_err().code(), "E-TCB-BUDGET");
    }
}
