//! Where a release came from: claims of its publisher. Nothing is computed from them; they tell an
//! auditor what to check out, and what to build it with, before she compares.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ReleaseError;

/// A commit of the source tree: 40 lower-case hexadecimal digits, as `git rev-parse HEAD` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceCommit(String);

impl core::str::FromStr for SourceCommit {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == COMMIT_CHARS && text.bytes().all(digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(ReleaseError::Value {
            field: "source",
            got: text.chars().take(COMMIT_CHARS.saturating_mul(2)).collect(),
            expected: "a whole commit: 40 lower-case hexadecimal digits",
        })
    }
}

impl TryFrom<String> for SourceCommit {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        text.parse()
    }
}

impl From<SourceCommit> for String {
    fn from(commit: SourceCommit) -> Self {
        commit.0
    }
}

impl fmt::Display for SourceCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digits of a SHA-1 object name.
const COMMIT_CHARS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_a_whole_commit_and_nothing_that_only_names_one() {
        let whole = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(whole.parse::<SourceCommit>().unwrap().to_string(), whole);
        let long = format!("{whole}0");
        for bad in ["", "main", &whole[1..], &long, &whole.to_uppercase(), &whole.replace('0', " ")]
        {
            let refused = bad.parse::<SourceCommit>();
            assert!(
                matches!(refused, Err(ReleaseError::Value { field: "source", .. })),
                "accepted {bad:?}"
            );
        }
    }
}
