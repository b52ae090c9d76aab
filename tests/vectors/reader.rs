//! Reads the cases beside this file, as `README.md` describes them. Included by the tests of the crates
//! that run them; it shares nothing with the generator, so one checks the other.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// One case as it is given to a verifier, and what must come out.
pub(crate) struct Case {
    /// `stage/nnn-name`.
    pub(crate) name: String,
    pub(crate) input: Value,
    pub(crate) expected: Value,
}

/// The cases of these stages, in order.
pub(crate) fn cases(vectors: &Path, stages: &[&str]) -> Vec<Case> {
    let list = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        stages.iter().flat_map(|stage| list(vectors.join(stage))).collect();
    paths.sort();
    let read = |path: PathBuf| Case {
        name: path.strip_prefix(vectors).unwrap().display().to_string(),
        input: whole(&path),
        expected: json(&path.join("expected.json")),
    };
    paths.into_iter().map(read).collect()
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// The input of a case, with the edits of its base applied.
fn whole(case: &Path) -> Value {
    let text = json(&case.join("input.json"));
    let Some(base) = text["base"].as_str() else { return text };
    let mut value = whole(&case.parent().unwrap().join(base));
    for edit in text["edits"].as_array().unwrap() {
        apply(&mut value, edit);
    }
    let sha256 = hex::encode(Sha256::digest(value.to_string()));
    assert_eq!(text["sha256"], sha256, "{}: the edits do not fit", case.display());
    value
}

fn apply(value: &mut Value, edit: &Value) {
    let path = edit["path"].as_str().unwrap();
    if let Some(parts) = edit.get("splice") {
        let field = value.pointer_mut(path).unwrap();
        let mut text = field.as_str().unwrap().to_owned();
        for part in parts.as_array().unwrap().iter().rev() {
            let number = |i: usize| usize::try_from(part[i].as_u64().unwrap()).unwrap();
            let put = part[2].as_str().unwrap().repeat(number(3));
            text.replace_range(number(0)..number(0) + number(1), &put);
        }
        *field = text.into();
        return;
    }
    let (parent, last) = path.rsplit_once('/').unwrap();
    match (value.pointer_mut(parent).unwrap(), edit.get("set")) {
        (Value::Object(object), Some(new)) => drop(object.insert(last.to_owned(), new.clone())),
        (Value::Object(object), None) => drop(object.shift_remove(last)),
        (Value::Array(array), set) => {
            let index: usize = last.parse().unwrap();
            match set {
                Some(new) if index == array.len() => array.push(new.clone()),
                Some(new) => array[index] = new.clone(),
                None => drop(array.remove(index)),
            }
        }
        _ => panic!("nothing can be at {path}"),
    }
}
