//! What the verification of a stored receipt says, in words. Its input was checked or sanitised;
//! no prompt or answer is in it.

use std::fmt;

use chrysalis_evidence::Verdict;
use chrysalis_receipt::{Outcome, ReceiptReport};
use chrysalis_wire::{RequestId, UnixTime};
use serde::Serialize;

use crate::stored::StoredReceipt;

/// Schema name of a [`StoredReport`] in JSON.
pub const STORED_REPORT_SCHEMA: &str = "chrysalis/stored-receipt-report/v1";

/// The verification of one stored receipt.
#[derive(Clone, Debug, Serialize)]
#[must_use = "a report that nobody reads verifies nothing"]
pub struct StoredReport {
    schema: &'static str,
    /// Whether the receipt holds: nothing failed, and the evidence was appraised and accepted.
    pub holds: bool,
    /// Id of the request.
    pub request_id: RequestId,
    /// Whether the receipt or the evidence is of the simulated platform, which proves nothing.
    pub insecure_sim: bool,
    /// The evidence appraised again, or `None` if no pins were given.
    pub evidence: Option<Verdict>,
    /// Every check of the receipt.
    pub receipt: ReceiptReport,
    appraised_at: UnixTime,
}

impl StoredReport {
    pub(crate) fn new(
        stored: &StoredReceipt,
        evidence: Option<Verdict>,
        receipt: ReceiptReport,
    ) -> Self {
        let accepted = evidence.as_ref().is_some_and(Verdict::accepted);
        let simulated = evidence.as_ref().is_some_and(|verdict| verdict.insecure_sim);
        Self {
            schema: STORED_REPORT_SCHEMA,
            holds: accepted && receipt.ok,
            request_id: stored.request_id(),
            insecure_sim: simulated || receipt.insecure_sim || stored.insecure_sim(),
            evidence,
            receipt,
            appraised_at: stored.appraised_at(),
        }
    }

    /// Whether anything that was checked did not hold. A receipt without appraised evidence
    /// neither holds nor fails.
    #[must_use]
    pub fn failed(&self) -> bool {
        !self.receipt.ok || self.evidence.as_ref().is_some_and(|verdict| !verdict.accepted())
    }

    /// The last line of the report.
    #[must_use]
    pub fn conclusion(&self) -> String {
        let sim = if self.insecure_sim { " (INSECURE-SIM: this proves nothing)" } else { "" };
        if self.failed() {
            return format!("REFUSED{sim}  this receipt does not hold; do not rely on the answer");
        }
        let unchecked = not_checked(&self.receipt);
        if self.evidence.is_none() {
            return format!(
                "UNPROVEN{sim}  the signature is good, but who signed is not shown: give pins and \
                 collateral to appraise the evidence{unchecked}"
            );
        }
        format!("HOLDS{sim}  the attested worker signed this receipt{unchecked}")
    }
}

impl fmt::Display for StoredReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "receipt of request {}", self.request_id)?;
        match &self.evidence {
            None => writeln!(f, "SKIP  evidence: no pins were given")?,
            Some(verdict) => {
                writeln!(f, "evidence, as of {}", Utc(self.appraised_at))?;
                writeln!(f, "{verdict}")?;
            }
        }
        writeln!(f, "receipt")?;
        write_checks(f, &self.receipt)?;
        f.write_str(&self.conclusion())
    }
}

/// What had nothing to be compared with, as the end of a sentence.
pub(crate) fn not_checked(report: &ReceiptReport) -> String {
    let skipped: Vec<&str> = report.skipped().map(|check| check.id).collect();
    if skipped.is_empty() {
        String::new()
    } else {
        format!("; not checked: {}", skipped.join(", "))
    }
}

/// Writes the checks of a receipt, one line each.
pub(crate) fn write_checks(f: &mut impl fmt::Write, report: &ReceiptReport) -> fmt::Result {
    for check in &report.checks {
        writeln!(f, "{}  {:<12}{} — {}", check.outcome, check.id, check.title, check.detail)?;
    }
    Ok(())
}

/// The checks of a receipt as text, one line each, and the result.
#[must_use]
pub fn receipt_in_words(report: &ReceiptReport) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_checks(&mut text, report);
    let sim =
        if report.insecure_sim { " (INSECURE-SIM: this receipt is worth nothing)" } else { "" };
    let failed = report.checks.iter().filter(|c| c.outcome == Outcome::Fail).count();
    text.push_str(&match failed {
        0 => format!("HOLDS{sim}  the receipt matches what was sent, received and attested"),
        n => format!("REFUSED{sim}  {n} checks do not hold"),
    });
    text
}

/// An amount in GRAM, for people; the value is in nanogram.
#[derive(Clone, Copy, Debug)]
pub struct Gram(pub u128);

impl fmt::Display for Gram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} GRAM", self.0 / NANOGRAM, self.0 % NANOGRAM)
    }
}

/// Nanogram in a GRAM.
const NANOGRAM: u128 = 1_000_000_000;

/// A time in UTC, for people.
#[derive(Clone, Copy, Debug)]
pub struct Utc(pub UnixTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.0 / 86_400, self.0.0 % 86_400);
        // Civil date from days since the epoch: years from 1 March, so that the leap day is the
        // last of its year.
        let z = days.saturating_add(719_468);
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_times_in_utc() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_305_600, "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(Utc(UnixTime(time)).to_string(), text);
        }
    }
}
