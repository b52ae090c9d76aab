//! The in-toto dialect: a Statement v1 whose subjects are the image's files and whose predicate is
//! what they measure. Unsigned; a DSSE envelope goes around exactly these bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ReleaseError;
use crate::facts::{Facts, Scope};
use crate::release::INTOTO_FILE;
use crate::values::Values;

/// Type of the predicate.
pub const PREDICATE_TYPE: &str = "urn:chrysalis:reference-values:1";

/// in-toto Statement v1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    /// Facts about everything but the subjects.
    predicate: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

/// Writes the statement of `values`.
pub(crate) fn write(values: &Values) -> Result<Vec<u8>, ReleaseError> {
    let mut subject = Vec::new();
    let mut predicate = BTreeMap::new();
    for (name, value) in values.facts(Scope::Whole)?.iter() {
        match name.strip_prefix("part/") {
            Some(part) => subject.push(Subject {
                name: part.to_owned(),
                digest: [("sha256".to_owned(), value.to_owned())].into(),
            }),
            None => drop(predicate.insert(name.to_owned(), value.to_owned())),
        }
    }
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject,
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate,
    };
    let mut bytes = serde_json::to_vec_pretty(&statement).map_err(|e| malformed(&e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads back what a statement says.
pub(crate) fn read(bytes: &[u8]) -> Result<Facts, ReleaseError> {
    if bytes.len() > MAX_INTOTO_BYTES {
        let got = bytes.len();
        return Err(ReleaseError::TooLarge { file: INTOTO_FILE, got, max: MAX_INTOTO_BYTES });
    }
    let statement: Statement = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
    expect("_type", &statement.kind, STATEMENT_TYPE)?;
    expect("predicateType", &statement.predicate_type, PREDICATE_TYPE)?;
    let mut facts = Facts::default();
    for Subject { name, digest } in statement.subject {
        let value = digest.get("sha256").filter(|_| digest.len() == 1);
        let value = value.ok_or_else(|| ReleaseError::Value {
            field: "subject.digest",
            got: digest.keys().cloned().collect::<Vec<_>>().join(", "),
            expected: "sha256 alone",
        })?;
        facts.say(format!("part/{name}"), value)?;
    }
    for (name, value) in statement.predicate {
        facts.say(name, value)?;
    }
    Ok(facts)
}

fn expect(field: &'static str, got: &str, expected: &'static str) -> Result<(), ReleaseError> {
    if got == expected {
        return Ok(());
    }
    Err(ReleaseError::Value { field, got: got.chars().take(80).collect(), expected })
}

fn malformed(error: &serde_json::Error) -> ReleaseError {
    ReleaseError::Malformed { file: INTOTO_FILE, reason: error.to_string() }
}

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// Largest statement accepted, in bytes.
const MAX_INTOTO_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    fn changed(from: &str, to: &str) -> Result<Facts, ReleaseError> {
        let text = String::from_utf8(write(&values()).unwrap()).unwrap();
        let other = text.replacen(from, to, 1);
        assert_ne!(text, other, "the case changes nothing");
        read(other.as_bytes())
    }

    #[test]
    fn reads_back_every_fact_it_writes() {
        let bytes = write(&values()).unwrap();
        assert_eq!(read(&bytes).unwrap(), values().facts(Scope::Whole).unwrap());
    }

    #[test]
    fn refuses_another_statement_or_predicate_type() {
        for (from, to, field) in [
            ("Statement/v1", "Statement/v2", "_type"),
            ("reference-values:1", "reference-values:2", "predicateType"),
        ] {
            let refused = changed(from, to);
            assert!(matches!(refused, Err(ReleaseError::Value { field: f, .. }) if f == field));
        }
    }

    #[test]
    fn refuses_a_subject_with_another_or_a_second_digest() {
        for to in ["\"sha1\":", "\"sha1\": \"00\", \"sha256\":"] {
            let refused = changed("\"sha256\":", to);
            assert!(matches!(refused, Err(ReleaseError::Value { field: "subject.digest", .. })));
        }
    }

    #[test]
    fn refuses_a_subject_twice_and_unknown_fields() {
        let twice = changed("\"cmdline\"", "\"vmlinuz\"");
        assert!(matches!(twice, Err(ReleaseError::Duplicate { .. })));
        let unknown = changed("\"predicate\":", "\"x\": 1, \"predicate\":");
        assert!(matches!(unknown, Err(ReleaseError::Malformed { .. })));
    }

    #[test]
    fn refuses_one_byte_over_the_limit() {
        let refused = read(&vec![b' '; MAX_INTOTO_BYTES + 1]);
        assert!(matches!(refused, Err(ReleaseError::TooLarge { .. })));
    }
}
