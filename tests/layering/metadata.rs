//! What cargo says about the workspace, cut to what the rules of the tree need: the members and
//! their declared dependencies from `cargo metadata`, what a crate really links from `cargo tree`.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The workspace and its declared dependencies.
pub(crate) struct Metadata {
    /// The crates of this workspace.
    pub(crate) members: Vec<Package>,
}

/// One crate of this workspace.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// `enclave`, `host` or `tests`.
    pub(crate) top_dir: String,
    /// Direct dependencies by name.
    pub(crate) dependencies: Vec<(String, Kind)>,
}

/// What a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Linked into the crate.
    Normal,
    /// Used by its build script.
    Build,
    /// Used by its tests.
    Development,
}

impl Metadata {
    /// Asks cargo.
    pub(crate) fn read() -> Self {
        let root = super::root();
        let output = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
        let value: Value = serde_json::from_str(&output).expect("cargo prints JSON");
        let members: BTreeSet<_> = strings(&value["workspace_members"]).collect();
        let packages = value["packages"].as_array().expect("packages").iter();
        Self {
            members: packages
                .filter(|p| members.contains(&text(&p["id"])))
                .map(|p| Package {
                    name: text(&p["name"]),
                    top_dir: text(&p["manifest_path"])
                        .strip_prefix(&format!("{}/", root.display()))
                        .and_then(|path| path.split('/').next())
                        .expect("a member lies in the workspace")
                        .to_owned(),
                    dependencies: p["dependencies"]
                        .as_array()
                        .expect("dependencies")
                        .iter()
                        .map(|d| (text(&d["name"]), Kind::read(&d["kind"])))
                        .collect(),
                })
                .collect(),
        }
    }
}

/// Names of all crates that `root`, a member, links: itself and what it reaches over normal
/// dependencies with the features a build of it alone resolves.
///
/// This is `cargo tree`, the command users are told to run, and not the resolve graph of `cargo
/// metadata`: that one also names optional dependencies that no enabled feature turns on.
pub(crate) fn linked_by(root: &str) -> BTreeSet<String> {
    let output = cargo(&["tree", "-p", root, "-e", "normal", "--prefix", "none", "-f", "{p}"]);
    let names = output.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The packages of the same tree, each with the features it has there.
pub(crate) fn features_in(root: &str) -> Vec<(String, Vec<String>)> {
    let output = cargo(&["tree", "-p", root, "-e", "normal", "--prefix", "none", "-f", "{p};{f}"]);
    let package = |line: &str| {
        let (package, features) = line.split_once(';')?;
        // Behind the features it says where a package was shown before.
        let features = features.split(' ').next().unwrap_or_default();
        let features = features.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        Some((package.split(' ').next()?.to_owned(), features.collect()))
    };
    output.lines().filter_map(package).collect()
}

/// Runs cargo in the workspace. The lock file must be current and the crates fetched.
fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--locked", "--offline"])
        .current_dir(super::root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

impl Kind {
    fn read(value: &Value) -> Self {
        match value.as_str() {
            None => Self::Normal,
            Some("dev") => Self::Development,
            Some("build") => Self::Build,
            Some(other) => panic!("cargo names a dependency kind {other}"),
        }
    }
}

fn strings(value: &Value) -> impl Iterator<Item = String> + '_ {
    value.as_array().expect("an array").iter().map(text)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
