//! What `cargo metadata` says about the workspace, cut to what the rules of the tree need.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The workspace and its resolved dependencies.
pub(crate) struct Metadata {
    /// The crates of this workspace.
    pub(crate) members: Vec<Package>,
    /// Package id to name.
    names: BTreeMap<String, String>,
    /// Package id to the ids of its normal dependencies, features resolved.
    edges: BTreeMap<String, Vec<String>>,
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
    /// Asks cargo. The lock file must be current and the crates fetched.
    pub(crate) fn read() -> Self {
        let root = super::root();
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .current_dir(&root)
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let members: BTreeSet<_> = strings(&value["workspace_members"]).collect();
        let packages = || value["packages"].as_array().expect("packages").iter();
        Self {
            names: packages().map(|p| (text(&p["id"]), text(&p["name"]))).collect(),
            members: packages()
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
            edges: value["resolve"]["nodes"]
                .as_array()
                .expect("nodes")
                .iter()
                .map(|node| (text(&node["id"]), normal_edges(node)))
                .collect(),
        }
    }

    /// Names of all crates reachable from the member `root` over normal dependencies.
    pub(crate) fn normal_closure(&self, root: &str) -> BTreeSet<String> {
        let start = self.names.iter().find(|(_, name)| *name == root).expect("a member").0;
        let (mut seen, mut queue) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(id) = queue.pop() {
            if seen.insert(id.clone()) {
                queue.extend(self.edges[&id].iter().cloned());
            }
        }
        seen.iter().map(|id| self.names[id].clone()).collect()
    }
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

fn normal_edges(node: &Value) -> Vec<String> {
    let is_normal = |dep: &&Value| {
        let kinds = dep["dep_kinds"].as_array().expect("dep_kinds");
        kinds.iter().any(|k| Kind::read(&k["kind"]) == Kind::Normal)
    };
    let deps = node["deps"].as_array().expect("deps");
    deps.iter().filter(is_normal).map(|dep| text(&dep["pkg"])).collect()
}

fn strings(value: &Value) -> impl Iterator<Item = String> + '_ {
    value.as_array().expect("an array").iter().map(text)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
