//! Which machine the figures belong to, and how the programs were built.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What a figure means nothing without.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Of the run's start, in UTC.
    date: String,
    cpu: String,
    cores: usize,
    architecture: &'static str,
    /// `release`, or a warning that the figures are not worth quoting.
    profile: &'static str,
    chrysalis: &'static str,
    /// The reference engine: its version and the CPU features it was compiled for.
    pub(crate) reference: Option<String>,
    /// The GPU, where one was measured.
    pub(crate) gpu: Option<String>,
}

impl Machine {
    /// This machine, as Linux describes it.
    pub(crate) fn here() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let cpu = model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name);
        // A clock before 1970 gives that year, which whoever reads the figures sees.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            date: date(now.as_secs()),
            cpu: cpu.trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            architecture: std::env::consts::ARCH,
            profile: if cfg!(debug_assertions) { "dev: DO NOT QUOTE" } else { "release" },
            chrysalis: env!("CARGO_PKG_VERSION"),
            reference: None,
            gpu: None,
        }
    }
}

impl Machine {
    /// The same in one line.
    pub(crate) fn line(&self) -> String {
        let Self { date, cpu, cores, chrysalis, profile, .. } = self;
        format!(
            "{date}, chrysalis {chrysalis} ({profile}) on {cpu}, {cores} cores; to the right is better"
        )
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, cpu, cores, architecture, profile, chrysalis, reference, gpu } = self;
        writeln!(f, "Date: {date}")?;
        writeln!(f, "Machine: {cpu}, {cores} cores, {architecture}")?;
        writeln!(f, "Built: chrysalis {chrysalis}, profile {profile}")?;
        if let Some(gpu) = gpu {
            writeln!(f, "GPU: {gpu}")?;
        }
        if let Some(reference) = reference {
            writeln!(f, "Reference: {reference}")?;
        }
        write!(f, "Candidates take turns; every figure is the median over rounds.")
    }
}

/// The day of a Unix time, as YYYY-MM-DD, counted from 1 March of year 0, in eras of 400 years that all have
/// the same days.
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    // Without the leap days before it: at the end of 4, of 100 and not of 400 years.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    // Months from March on: five of them have 153 days.
    let march = (5 * of_year + 2) / 153;
    let (month, day) = ((march + 2) % 12 + 1, of_year - (153 * march + 2) / 5 + 1);
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month < 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let days = [(0, "1970-01-01"), (951_782_399, "2000-02-28"), (951_782_400, "2000-02-29")];
        let later = [(1_709_251_200, "2024-03-01"), (1_795_651_199, "2026-11-25")];
        for (seconds, day) in days.into_iter().chain(later) {
            assert_eq!(date(seconds), day);
        }
    }
}
