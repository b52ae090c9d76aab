//! How a case differs from its base, so that a flipped byte does not cost another copy of the quote.
//! Three operations, on JSON Pointers (RFC 6901): enough for every case, and for a reader of twenty
//! lines in any language.

use serde_json::{Map, Value, json};

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// The value there is this one; an array grows by one if the index is its length.
    Set(String, Value),
    /// Nothing is there.
    Remove(String),
    /// The text there, cut and filled in: (at, characters to leave out, text to put there, how many
    /// times). Positions are those of the base, ascending.
    Splice(String, Vec<(usize, usize, String, usize)>),
}

impl Edit {
    /// The edit as it is written.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Set(path, value) => json!({ "path": path, "set": value }),
            Self::Remove(path) => json!({ "path": path, "remove": true }),
            Self::Splice(path, parts) => json!({ "path": path, "splice": parts }),
        }
    }
}

/// What makes `case` of `base`.
#[must_use]
pub fn diff(base: &Value, case: &Value) -> Vec<Edit> {
    let mut edits = Vec::new();
    compare("", base, case, &mut edits);
    edits
}

fn compare(path: &str, base: &Value, case: &Value, edits: &mut Vec<Edit>) {
    match (base, case) {
        (same, other) if same == other => {}
        (Value::Object(base), Value::Object(case)) => objects(path, base, case, edits),
        (Value::Array(base), Value::Array(case)) => arrays(path, base, case, edits),
        (Value::String(base), Value::String(case)) if base.is_ascii() && case.is_ascii() => {
            edits.push(Edit::Splice(path.to_owned(), splices(base, case)));
        }
        _ => edits.push(Edit::Set(path.to_owned(), case.clone())),
    }
}

fn objects(
    path: &str,
    base: &Map<String, Value>,
    case: &Map<String, Value>,
    edits: &mut Vec<Edit>,
) {
    for key in base.keys().filter(|key| !case.contains_key(*key)) {
        edits.push(Edit::Remove(format!("{path}/{key}")));
    }
    for (key, value) in case {
        let path = format!("{path}/{key}");
        match base.get(key) {
            Some(old) => compare(&path, old, value, edits),
            None => edits.push(Edit::Set(path, value.clone())),
        }
    }
}

fn arrays(path: &str, base: &[Value], case: &[Value], edits: &mut Vec<Edit>) {
    for index in (case.len()..base.len()).rev() {
        edits.push(Edit::Remove(format!("{path}/{index}")));
    }
    for (index, value) in case.iter().enumerate() {
        let path = format!("{path}/{index}");
        match base.get(index) {
            Some(old) => compare(&path, old, value, edits),
            None => edits.push(Edit::Set(path, value.clone())),
        }
    }
}

/// Texts of one length differ in runs; others in the part between what they begin and end with.
fn splices(base: &str, case: &str) -> Vec<(usize, usize, String, usize)> {
    let (a, b) = (base.as_bytes(), case.as_bytes());
    if a.len() == b.len() {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in (0..a.len()).filter(|at| a[*at] != b[*at]) {
            match runs.last_mut() {
                // Two runs cost more than the few equal characters between them.
                Some((_, end)) if at - *end < SHORTEST_GAP => *end = at + 1,
                _ => runs.push((at, at + 1)),
            }
        }
        return runs.iter().map(|(s, e)| (*s, e - s, case[*s..*e].to_owned(), 1)).collect();
    }
    let shorter = a.len().min(b.len());
    let head = (0..shorter).take_while(|i| a[*i] == b[*i]).count();
    let tail = (0..shorter - head).take_while(|i| a[a.len() - 1 - i] == b[b.len() - 1 - i]).count();
    let (text, times) = repeated(&case[head..b.len() - tail]);
    vec![(head, a.len() - head - tail, text.to_owned(), times)]
}

/// A text that is one character, or two, many times over.
fn repeated(text: &str) -> (&str, usize) {
    for unit in 1..=2 {
        let Some(first) = text.get(..unit) else { continue };
        let times = text.len() / unit;
        if times >= LEAST_REPETITIONS
            && text.len().is_multiple_of(unit)
            && first.repeat(times) == text
        {
            return (first, times);
        }
    }
    (text, 1)
}

const SHORTEST_GAP: usize = 12;
const LEAST_REPETITIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_length_differ_in_runs() {
        let far = "0".repeat(40);
        let (a, b) = (format!("1{far}2"), format!("3{far}4"));
        let runs = vec![(0, 1, "3".to_owned(), 1), (41, 1, "4".to_owned(), 1)];
        assert_eq!(splices(&a, &b), runs);
    }

    #[test]
    fn texts_of_two_lengths_differ_between_head_and_tail() {
        assert_eq!(splices("abcd", "abXcd"), [(2, 0, "X".to_owned(), 1)]);
        assert_eq!(splices("abcd", "ad"), [(1, 2, String::new(), 1)]);
        assert_eq!(splices("ab", &format!("ab{}", "00".repeat(50))), [(2, 0, "0".to_owned(), 100)]);
    }
}
