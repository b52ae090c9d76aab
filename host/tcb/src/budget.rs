//! The committed budget: how much may be trusted at most. It only shrinks, or is raised with a
//! reason, and every value it ever had stays in the file.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::TcbError;
use crate::image::GuestFiles;
use crate::report::{ProgramReport, TcbReport};

/// Largest budget read, in bytes.
pub const MAX_BUDGET_BYTES: usize = 64 << 10;

/// A budget for every program, and for what is beside them in a guest.
#[derive(Clone, Debug)]
pub struct Budget {
    lines: Vec<Line>,
}

/// The limit of one count of one program, or of the guest of an image.
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
    /// Regular files in a guest, kernel modules among them.
    Files,
    /// Kernel modules in a guest.
    Modules,
    /// What of an image is measured, in KiB.
    #[serde(rename = "kib")]
    KiB,
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
    /// [`TcbError::Budget`] if a program or the guest of the report lacks a limit.
    pub fn judge(&self, report: &TcbReport) -> Result<Vec<Verdict>, TcbError> {
        let programs = report.programs.iter().map(|p| (p.name.clone(), Count::of_program(p)));
        let guest = report.guest.iter().map(|g| (guest_name(g), Count::of_guest(g)));
        let mut verdicts = Vec::new();
        for (program, counts) in programs.chain(guest) {
            for (count, found) in counts {
                let at_most = self.limit(&program, count)?;
                let outcome = compare(found, at_most);
                verdicts.push(Verdict { program: program.clone(), count, at_most, found, outcome });
            }
        }
        Ok(verdicts)
    }

    fn limit(&self, program: &str, count: Count) -> Result<usize, TcbError> {
        let line = self.lines.iter().find(|l| l.program == program && l.count == count);
        line.and_then(|l| l.history.last())
            .map(|entry| entry.at_most)
            .ok_or_else(|| TcbError::Budget(format!("{program} has no limit for {}", count.name())))
    }
}

/// What the budget calls the guest of an image.
fn guest_name(guest: &GuestFiles) -> String {
    format!("guest-{}", guest.platform)
}

impl Count {
    /// As the budget spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkedCrates => "linked-crates",
            Self::BuildTimeCrates => "build-time-crates",
            Self::OwnLines => "own-lines",
            Self::OwnUnsafe => "own-unsafe",
            Self::Listens => "listens",
            Self::Files => "files",
            Self::Modules => "modules",
            Self::KiB => "kib",
        }
    }

    fn of_program(program: &ProgramReport) -> Vec<(Self, usize)> {
        vec![
            (Self::LinkedCrates, program.linked_crates),
            (Self::BuildTimeCrates, program.build_time_crates),
            (Self::OwnLines, program.own.lines),
            (Self::OwnUnsafe, program.own.unsafes.total()),
            (Self::Listens, program.own.listens.len()),
        ]
    }

    fn of_guest(guest: &GuestFiles) -> Vec<(Self, usize)> {
        let kib = usize::try_from(guest.measured_bytes.div_ceil(1024)).unwrap_or(usize::MAX);
        let (files, modules) = (guest.files.len(), guest.modules.len());
        vec![(Self::Files, files), (Self::Modules, modules), (Self::KiB, kib)]
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
        let of_program = report(0).programs.into_iter().flat_map(|p| Count::of_program(&p));
        let lines: Vec<_> = of_program.map(|(count, _)| line("p", count.name(), &entry)).collect();
        format!("{HEAD}{}", lines.concat())
    }

    fn guest() -> GuestFiles {
        GuestFiles {
            platform: chrysalis_wire::ImagePlatform::Tdx,
            debug: false,
            measured_bytes: 2049,
            files: Vec::new(),
            modules: vec!["a".to_owned(), "b".to_owned()],
            listen_port: 8443,
        }
    }

    #[test]
    fn the_guest_of_an_image_has_a_budget_of_its_own() {
        let report = TcbReport { guest: Some(guest()), ..report(1) };
        let missing = Budget::parse(&full(100)).unwrap().judge(&report).unwrap_err();
        assert_eq!(missing.code(), "E-TCB-BUDGET");
        let entry = |at_most| format!("{{ at_most = {at_most}, reason = \"what it is\" }}");
        let guest = |modules| {
            let lines = [("files", 1), ("modules", modules), ("kib", 3)];
            lines.map(|(count, limit)| line("guest-tdx", count, &entry(limit))).concat()
        };
        let judged = |modules| {
            let text = format!("{}{}", full(100), guest(modules));
            let verdicts = Budget::parse(&text).unwrap().judge(&report).unwrap();
            let kib = verdicts.iter().find(|v| v.count == Count::KiB).unwrap();
            assert_eq!((kib.found, kib.outcome), (3, Outcome::Within));
            verdicts.into_iter().find(|v| v.count == Count::Modules).unwrap().outcome
        };
        assert_eq!(judged(2), Outcome::Within);
        assert_eq!(judged(1), Outcome::Over);
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
