//! Cases and the stages they belong to. What a case expects is written down by hand where the case is
//! made, never computed by the verifier that is tested.

use chrysalis_evidence::RuleId;
use serde_json::{Value, json};

/// What a verifier must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Accepted, exit code 0.
    Accepted,
    /// Refused.
    Refused {
        /// Stable code of the refusal.
        code: &'static str,
        /// Rule of the policy, if one refuses and not a parser in front of it.
        rule: Option<RuleId>,
        /// Exit code: 10 refused, 20 unsupported, 30 malformed.
        exit: u8,
    },
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// `nnn-name`, unique in its stage.
    pub name: String,
    /// What the case is, in a sentence.
    pub title: &'static str,
    /// Position in the stage of the case it is an edit of; `None` stands on its own.
    pub base: Option<usize>,
    /// What the verifier is given.
    pub input: Value,
    /// What it must answer.
    pub expected: Expected,
}

/// The cases of one stage.
#[derive(Clone, Debug)]
pub struct Stage {
    name: &'static str,
    clause: &'static str,
    cases: Vec<Case>,
}

impl Stage {
    /// A stage without cases. `clause` is what its refusals are tied to where no rule refuses.
    pub(crate) const fn new(name: &'static str, clause: &'static str) -> Self {
        Self { name, clause, cases: Vec::new() }
    }

    /// Its name, a directory of `tests/vectors`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What refusals without a rule are tied to.
    #[must_use]
    pub const fn clause(&self) -> &'static str {
        self.clause
    }

    /// Its cases.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// A case that stands on its own and is accepted. `input` is an object without schema and stage.
    pub(crate) fn genuine(&mut self, name: &str, title: &'static str, input: &Value) -> usize {
        let mut whole = json!({ "schema": "chrysalis/case/v1", "stage": self.name });
        let object = whole.as_object_mut().unwrap();
        object.extend(input.as_object().unwrap().clone());
        self.push(name, title, None, whole, Expected::Accepted)
    }

    /// An edit of `base` that is still accepted.
    pub(crate) fn accepts(
        &mut self,
        base: usize,
        name: &str,
        title: &'static str,
        change: impl FnOnce(&mut Value),
    ) -> usize {
        self.edited(base, name, title, Expected::Accepted, change)
    }

    /// An edit of `base` that a rule refuses, exit code 10.
    pub(crate) fn refuses(
        &mut self,
        base: usize,
        (code, rule): (&'static str, RuleId),
        name: &str,
        title: &'static str,
        change: impl FnOnce(&mut Value),
    ) {
        let expected = Expected::Refused { code, rule: Some(rule), exit: 10 };
        self.edited(base, name, title, expected, change);
    }

    /// An edit of `base` that is refused before any rule is asked.
    pub(crate) fn rejects(
        &mut self,
        base: usize,
        (code, exit): (&'static str, u8),
        name: &str,
        title: &'static str,
        change: impl FnOnce(&mut Value),
    ) {
        let expected = Expected::Refused { code, rule: None, exit };
        self.edited(base, name, title, expected, change);
    }

    fn edited(
        &mut self,
        base: usize,
        name: &str,
        title: &'static str,
        expected: Expected,
        change: impl FnOnce(&mut Value),
    ) -> usize {
        let original = &self.cases[base];
        assert!(original.base.is_none(), "{name}: its base is itself an edit");
        let mut input = original.input.clone();
        change(&mut input);
        assert_ne!(input, original.input, "{name} changes nothing");
        self.push(name, title, Some(base), input, expected)
    }

    fn push(
        &mut self,
        name: &str,
        title: &'static str,
        base: Option<usize>,
        input: Value,
        expected: Expected,
    ) -> usize {
        let index = self.cases.len();
        let name = format!("{:03}-{name}", index + 1);
        self.cases.push(Case { name, title, base, input, expected });
        index
    }
}

/// Changes a text of an input.
pub(crate) fn text(input: &mut Value, pointer: &str, change: impl FnOnce(&str) -> String) {
    let field = input.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    let changed = change(field.as_str().unwrap());
    *field = changed.into();
}

/// Leaves out the last byte.
pub(crate) fn shorten(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - 1);
}

/// Changes bytes of an input that are written as hex.
pub(crate) fn bytes(input: &mut Value, pointer: &str, change: impl FnOnce(&mut Vec<u8>)) {
    text(input, pointer, |old| {
        let mut bytes = hex::decode(old).unwrap();
        change(&mut bytes);
        hex::encode(bytes)
    });
}
