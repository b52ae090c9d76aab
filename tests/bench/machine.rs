//! Which machine the figures belong to, and how the programs were built.

use std::fmt;

use serde::Serialize;

/// What a figure means nothing without.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    architecture: &'static str,
    /// `release`, or a warning that the figures are not worth quoting.
    profile: &'static str,
    chrysalis: &'static str,
    /// The reference engine: its version and the CPU features it was compiled for.
    pub(crate) reference: Option<String>,
}

impl Machine {
    /// This machine, as Linux describes it.
    pub(crate) fn here() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let cpu = model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name);
        Self {
            cpu: cpu.trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            architecture: std::env::consts::ARCH,
            profile: if cfg!(debug_assertions) { "dev: DO NOT QUOTE" } else { "release" },
            chrysalis: env!("CARGO_PKG_VERSION"),
            reference: None,
        }
    }
}

impl Machine {
    /// The same in one line.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, chrysalis, profile, .. } = self;
        format!("chrysalis {chrysalis} ({profile}) on {cpu}, {cores} cores; to the right is better")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, architecture, profile, chrysalis, reference } = self;
        writeln!(f, "Machine: {cpu}, {cores} cores, {architecture}")?;
        writeln!(f, "Built: chrysalis {chrysalis}, profile {profile}")?;
        if let Some(reference) = reference {
            writeln!(f, "Reference: {reference}")?;
        }
        write!(f, "Candidates take turns; every figure is the median over rounds.")
    }
}
