//! What cargo says about a source tree. Cargo is run, never imitated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::TcbError;

/// The cargo of a source tree.
#[derive(Clone, Debug)]
pub struct Cargo {
    program: PathBuf,
    root: PathBuf,
}

/// A crate in the tree of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is to the program.
    pub role: Role,
    /// Whether it belongs to this source tree.
    pub own: bool,
    /// Where its source lies, if it is on this machine.
    pub dir: Option<PathBuf>,
}

/// What a crate is to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// In the program.
    Linked,
    /// Procedural macros and what they need: it ran where the program was built.
    BuildTime,
}

impl Cargo {
    /// `program`, normally `cargo`, in the workspace at `root`.
    #[must_use]
    pub const fn new(program: PathBuf, root: PathBuf) -> Self {
        Self { program, root }
    }

    /// The workspace's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `cargo tree -p PROGRAM -e normal` names, the program itself among it, by name and
    /// version. `None` if the workspace has no such member.
    ///
    /// # Errors
    /// [`TcbError::Cargo`] and [`TcbError::Output`].
    pub fn linked_by(&self, program: &str) -> Result<Option<Vec<Linked>>, TcbError> {
        let metadata = self.metadata()?;
        if !metadata.members().contains(program) {
            return Ok(None);
        }
        let all = self.tree(program, "normal")?;
        let linked = self.tree(program, "normal,no-proc-macro")?;
        let sources: BTreeMap<Id, &Package> =
            metadata.packages.iter().map(|p| ((p.name.clone(), p.version.clone()), p)).collect();
        let crates = all.into_iter().map(|id| {
            let package = sources.get(&id);
            let role = if linked.contains(&id) { Role::Linked } else { Role::BuildTime };
            let dir = package.and_then(|p| p.manifest_path.parent()).map(Path::to_owned);
            let dir = dir.filter(|dir| dir.is_dir());
            let own = package.is_some_and(|p| p.source.is_none());
            Linked { name: id.0, version: id.1, role, own, dir }
        });
        Ok(Some(crates.collect()))
    }

    fn tree(&self, program: &str, edges: &str) -> Result<BTreeSet<Id>, TcbError> {
        let arguments = ["tree", "-p", program, "-e", edges, "--prefix", "none", "-f", "{p}"];
        let output = self.run("tree", &arguments)?;
        output.lines().filter(|line| !line.is_empty()).map(id).collect()
    }

    fn metadata(&self) -> Result<Metadata, TcbError> {
        let output = self.run("metadata", &["metadata", "--format-version", "1"])?;
        serde_json::from_str(&output)
            .map_err(|e| TcbError::Output { command: "metadata", what: e.to_string() })
    }

    /// The lock file must be current and the crates fetched: a report changes nothing.
    fn run(&self, command: &'static str, arguments: &[&str]) -> Result<String, TcbError> {
        let failed = |reason: String| TcbError::Cargo { command, reason };
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["--locked", "--offline"])
            .current_dir(&self.root)
            .output()
            .map_err(|e| failed(format!("{}: {e}", self.program.display())))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(failed(words.trim().chars().take(MAX_LAST_WORDS).collect()));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| TcbError::Output { command, what: "not UTF-8".to_owned() })
    }
}

/// Name and version: what cargo prints as `name vVERSION`, before notes in parentheses.
type Id = (String, String);

fn id(line: &str) -> Result<Id, TcbError> {
    let mut words = line.split(' ');
    let name = words.next().filter(|name| !name.is_empty());
    let version = words.next().and_then(|version| version.strip_prefix('v'));
    match (name, version) {
        (Some(name), Some(version)) => Ok((name.to_owned(), version.to_owned())),
        _ => Err(TcbError::Output { command: "tree", what: line.to_owned() }),
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    manifest_path: PathBuf,
    source: Option<String>,
}

impl Metadata {
    fn members(&self) -> BTreeSet<&str> {
        let members = self.packages.iter().filter(|p| self.workspace_members.contains(&p.id));
        members.map(|p| p.name.as_str()).collect()
    }
}

const MAX_LAST_WORDS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_cargo_tree() {
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(id("serde v1.0.229").unwrap(), pair("serde", "1.0.229"));
        assert_eq!(id("serde_derive v1.0.229 (proc-macro) (*)").unwrap().1, "1.0.229");
        assert_eq!(id("toml v1.2.1+spec-1.1.0 (*)").unwrap().1, "1.2.1+spec-1.1.0");
        assert_eq!(id("a v0.1.0 (/some where/a)").unwrap(), pair("a", "0.1.0"));
        for bad in ["", "serde", "serde 1.0", "[build-dependencies]"] {
            assert!(matches!(id(bad), Err(TcbError::Output { .. })), "{bad}");
        }
    }

    #[test]
    fn a_cargo_that_is_not_there_is_named() {
        let cargo = Cargo::new("/nowhere/cargo".into(), "/".into());
        let error = cargo.linked_by("x").unwrap_err();
        assert_eq!(error.code(), "E-TCB-CARGO");
        assert!(error.to_string().contains("/nowhere/cargo"), "{error}");
    }
}
