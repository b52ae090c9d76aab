//! The report: for each program of the enclave what it links and how much of that is ours.

use serde::Serialize;

use crate::cargo::{Cargo, Linked, Role};
use crate::error::TcbError;
use crate::image::GuestFiles;
use crate::source::{Listen, SourceCount};

/// The programs that run inside, as far as they exist.
pub const PROGRAMS: &[&str] = &["chrysalis-worker", "chrysalis-init"];

/// What must be trusted.
#[derive(Clone, Debug, Serialize)]
pub struct TcbReport {
    /// One entry per program of the source tree.
    pub programs: Vec<ProgramReport>,
    /// Files of an image, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestFiles>,
}

/// What one program is made of.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramReport {
    /// The program.
    pub name: String,
    /// Crates in it, ours among them.
    pub linked_crates: usize,
    /// Further crates that `cargo tree -e normal` names: macros, which ran while it was built.
    pub build_time_crates: usize,
    /// Our own code in it, without tests.
    pub own: SourceCount,
    /// All crates, ours first.
    pub crates: Vec<CrateReport>,
}

/// One crate.
#[derive(Clone, Debug, Serialize)]
pub struct CrateReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is to the program.
    pub role: Role,
    /// Whether it is ours.
    pub own: bool,
    /// What was counted; absent where the source is not on this machine or was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceCount>,
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Our own source; of dependencies the names.
    Own,
    /// Dependencies' source too, where it is on this machine.
    Dependencies,
}

impl TcbReport {
    /// Counts the programs of a source tree. A program that does not exist yet is left out.
    ///
    /// # Errors
    /// [`TcbError`]; also if not one of [`PROGRAMS`] is there.
    pub fn of_tree(cargo: &Cargo, depth: Depth) -> Result<Self, TcbError> {
        let mut programs = Vec::new();
        for name in PROGRAMS {
            if let Some(linked) = cargo.linked_by(name)? {
                programs.push(ProgramReport::new(name, linked, depth)?);
            }
        }
        if programs.is_empty() {
            let what = format!("none of {} is a member of the workspace", PROGRAMS.join(", "));
            return Err(TcbError::Output { command: "metadata", what });
        }
        Ok(Self { programs, guest: None })
    }
}

impl ProgramReport {
    fn new(name: &str, linked: Vec<Linked>, depth: Depth) -> Result<Self, TcbError> {
        let mut own = SourceCount::default();
        let mut crates = Vec::new();
        for one in linked {
            let Linked { name, version, role, own: ours, dir } = one;
            let source = match dir {
                Some(dir) if ours => Some(SourceCount::own(&dir)?),
                Some(dir) if depth == Depth::Dependencies => Some(SourceCount::dependency(&dir)?),
                _ => None,
            };
            if let Some(mut source) = source.clone().filter(|_| ours) {
                let prefix = |listen: Listen| Listen {
                    file: std::path::Path::new(&name).join(listen.file),
                    line: listen.line,
                };
                source.listens = source.listens.into_iter().map(prefix).collect();
                own.add(source);
            }
            crates.push(CrateReport { name, version, role, own: ours, source });
        }
        crates.sort_by_key(|one| (!one.own, one.role));
        let count = |role| crates.iter().filter(|one| one.role == role).count();
        let (linked_crates, build_time_crates) = (count(Role::Linked), count(Role::BuildTime));
        let name = name.to_owned();
        Ok(Self { name, linked_crates, build_time_crates, own, crates })
    }

    /// `unsafe` in dependencies that are linked, and lines of C and assembly; upper bounds.
    /// `None` if their source was not looked at.
    #[must_use]
    pub fn dependencies(&self) -> Option<SourceCount> {
        let mut sum = SourceCount::default();
        let mut looked = false;
        for one in self.crates.iter().filter(|one| !one.own && one.role == Role::Linked) {
            if let Some(source) = &one.source {
                looked = true;
                let listens = Vec::new();
                sum.add(SourceCount { listens, ..source.clone() });
            }
        }
        looked.then_some(sum)
    }
}
