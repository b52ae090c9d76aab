//! A case as files: `input.json`, `expected.json`, `manifest.toml`.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::case::{Case, Expected, Stage};
use crate::edit::{Edit, diff};

/// One file of the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFile {
    /// Path below `tests/vectors`.
    pub path: String,
    /// Contents.
    pub text: String,
}

/// The files of a stage.
#[must_use]
pub fn render(stage: &Stage) -> Vec<CaseFile> {
    stage.cases().iter().flat_map(|case| files(stage, case)).collect()
}

fn files(stage: &Stage, case: &Case) -> [CaseFile; 3] {
    let file = |name: &str, text| CaseFile {
        path: format!("{}/{}/{name}", stage.name(), case.name),
        text,
    };
    [
        file("expected.json", expected(case)),
        file("input.json", input(stage, case)),
        file("manifest.toml", manifest(stage, case)),
    ]
}

/// The whole input, or the edits of the base that make it, with the hash of the result.
fn input(stage: &Stage, case: &Case) -> String {
    let Some(base) = case.base else { return pretty(&case.input) };
    let base = &stage.cases()[base];
    let edits: Vec<Value> = diff(&base.input, &case.input).iter().map(Edit::to_json).collect();
    // The compact form of a JSON writer that keeps the order of keys and has no spaces.
    let sha256 = hex::encode(Sha256::digest(case.input.to_string()));
    // One edit a line: a reader sees at once what the case is about.
    let lines: Vec<String> = edits.iter().map(|edit| format!("    {edit}")).collect();
    format!(
        "{{\n  \"base\": {},\n  \"edits\": [\n{}\n  ],\n  \"sha256\": \"{sha256}\"\n}}\n",
        json!(base.name),
        lines.join(",\n"),
    )
}

fn expected(case: &Case) -> String {
    pretty(&match case.expected {
        Expected::Accepted => json!({ "accepted": true, "code": null, "rule": null, "exit": 0 }),
        Expected::Refused { code, rule, exit } => {
            json!({ "accepted": false, "code": code, "rule": rule, "exit": exit })
        }
    })
}

fn manifest(stage: &Stage, case: &Case) -> String {
    let mut table = toml::Table::new();
    let mut put = |key: &str, value: &str| table.insert(key.to_owned(), value.into());
    put("stage", stage.name());
    put("name", &case.name);
    put("title", case.title);
    if let Some(base) = case.base {
        put("base", &stage.cases()[base].name);
    }
    if let Expected::Refused { code, rule, .. } = case.expected {
        put("code", code);
        put("clause", rule.map_or_else(|| stage.clause(), |rule| rule.clause()));
        if let Some(rule) = rule {
            put("rule", rule.id());
        }
    }
    table.to_string()
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    text
}
