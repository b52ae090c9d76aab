//! What a dialect says, as a flat list of names and values: the form in which dialects are
//! compared. A reader of one dialect builds its list from that dialect's bytes alone.

use std::collections::BTreeMap;

use crate::error::ReleaseError;

/// Names and values: `shape/cpu-2/11.1.3/rtmr0` and lower-case hex, `release/platform` and a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<String, String>);

/// Which facts a dialect carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Whole,
    /// What a contract needs: identities and register values, and no list of files.
    Registers,
}

impl Facts {
    /// Adds a fact. A name can be said once.
    ///
    /// # Errors
    /// [`ReleaseError::Duplicate`].
    pub(crate) fn say(
        &mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), ReleaseError> {
        let name = name.into();
        if self.0.insert(name.clone(), value.into()).is_some() {
            return Err(ReleaseError::Duplicate { field: "fact", name });
        }
        Ok(())
    }

    /// The value of a fact.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first fact on which `self`, the source, and `other` differ. The digest of the source
    /// differs with every other value, so it is named only where nothing else can be.
    ///
    /// # Errors
    /// [`ReleaseError::Disagrees`], naming `file`.
    pub(crate) fn agree(&self, other: &Self, file: &'static str) -> Result<(), ReleaseError> {
        let names = self.0.keys().chain(other.0.keys());
        let mut differs = names.filter(|name| self.0.get(*name) != other.0.get(*name));
        let first = differs.next();
        let digest = |fact: &&String| fact.as_str() == SOURCE_DIGEST;
        let named = first.filter(|f| !digest(f)).or_else(|| differs.find(|f| !digest(f)));
        let Some(fact) = named.or(first) else { return Ok(()) };
        let said = |facts: &Self| facts.get(fact).unwrap_or("nothing").to_owned();
        Err(ReleaseError::Disagrees {
            file,
            fact: fact.clone(),
            expected: said(self),
            got: said(other),
        })
    }
}

/// SHA-256 of `values.toml`.
pub(crate) const SOURCE_DIGEST: &str = "release/values";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pairs: &[(&str, &str)]) -> Facts {
        let mut facts = Facts::default();
        for (name, value) in pairs {
            facts.say(*name, *value).unwrap();
        }
        facts
    }

    #[test]
    fn names_a_fact_that_differs_is_missing_or_is_new() {
        let source = facts(&[("a", "1"), ("b", "2")]);
        assert_eq!(source.agree(&source.clone(), "x"), Ok(()));
        for (other, fact, expected, got) in [
            (facts(&[("a", "1"), ("b", "3")]), "b", "2", "3"),
            (facts(&[("a", "1")]), "b", "2", "nothing"),
            (facts(&[("a", "1"), ("b", "2"), ("c", "4")]), "c", "nothing", "4"),
        ] {
            let (fact, expected, got) = (fact.to_owned(), expected.to_owned(), got.to_owned());
            let refused = Err(ReleaseError::Disagrees { file: "x", fact, expected, got });
            assert_eq!(source.agree(&other, "x"), refused);
        }
    }

    #[test]
    fn names_the_digest_of_the_source_only_where_nothing_else_differs() {
        let fact = |other: &[(&str, &str)]| {
            let source = facts(&[("release/values", "1"), ("tdx/mrtd", "2")]);
            match source.agree(&facts(other), "x") {
                Err(ReleaseError::Disagrees { fact, .. }) => fact,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(fact(&[("release/values", "9"), ("tdx/mrtd", "3")]), "tdx/mrtd");
        assert_eq!(fact(&[("release/values", "9")]), "tdx/mrtd");
        assert_eq!(fact(&[("release/values", "9"), ("tdx/mrtd", "2")]), "release/values");
    }

    #[test]
    fn refuses_a_fact_that_is_said_twice() {
        let mut said = facts(&[("a", "1")]);
        assert!(matches!(said.say("a", "1"), Err(ReleaseError::Duplicate { .. })));
    }
}
