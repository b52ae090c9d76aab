//! How the models of each family are told about tools, and how they write calls: read off the chat template,
//! which shows the model how calls look. Templates are the model's; what is not recognised is told in text.

/// How a model is told about tools and writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStyle {
    /// The chat template knows no tools, or in a way that is not known here: who asks tells them in the
    /// messages, and asks for calls between `<tool_call>` tags.
    Told,
    /// Calls stand between `<tool_call>` tags: Qwen, Hermes.
    Tagged,
    /// A call is the whole answer, or follows `<|python_tag|>`: Llama 3.1 and later.
    Bare,
    /// A list of calls follows `[TOOL_CALLS]`: Mistral.
    List,
    /// Each call is `[TOOL_CALLS]`, a name, `[ARGS]` and the arguments: newer models of Mistral.
    Named,
}

impl ToolStyle {
    /// The style of a template that was seen to tell tools.
    pub(crate) fn of(source: &str) -> Self {
        if source.contains(LIST_TOKEN) {
            return match (source.contains(ARGUMENTS_TOKEN), source.contains(CALL_ID_TOKEN)) {
                (false, _) => Self::List,
                (true, false) => Self::Named,
                // Those between put an id of nine characters between name and arguments.
                (true, true) => Self::Told,
            };
        }
        if source.contains(TAG) {
            // Qwen3-Coder and GLM 4.5 put no JSON between these tags.
            let other = ["<function=", "<arg_key>"].iter().any(|tag| source.contains(tag));
            return if other { Self::Told } else { Self::Tagged };
        }
        let bare = source.contains("ipython") || source.contains(BARE_TOKEN);
        if bare && source.contains("parameters") { Self::Bare } else { Self::Told }
    }

    /// The tokens of calls that are no text in the vocabularies of the family.
    pub(crate) const fn tokens(self) -> &'static [&'static str] {
        match self {
            Self::Told | Self::Tagged => &[],
            Self::Bare => &[BARE_TOKEN],
            Self::List => &[LIST_TOKEN],
            Self::Named => &[LIST_TOKEN, ARGUMENTS_TOKEN],
        }
    }

    /// What stands before calls that follow text.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Told | Self::Tagged => TAG,
            Self::Bare => BARE_TOKEN,
            Self::List | Self::Named => LIST_TOKEN,
        }
    }

    /// Whether an answer that has to be a call begins with the tag.
    pub(crate) const fn writes_tag(self) -> bool {
        matches!(self, Self::Told | Self::Tagged)
    }

    /// What the prompt ends with if the answer has to be a call: a grammar is over text, which that token
    /// is not.
    pub(crate) const fn call_prefix(self) -> &'static str {
        match self {
            Self::Told | Self::Tagged | Self::Bare => "",
            Self::List | Self::Named => LIST_TOKEN,
        }
    }

    /// What stands before the name of a call and behind its tag, between name and arguments, and behind
    /// them.
    pub(crate) const fn around(self) -> [&'static str; 3] {
        match self {
            Self::Told | Self::Tagged => ["\n{\"name\": ", ", \"arguments\": ", "}\n</tool_call>"],
            Self::Bare => ["{\"name\": ", ", \"parameters\": ", "}"],
            Self::List => ["{\"name\": ", ", \"arguments\": ", "}"],
            Self::Named => ["", ARGUMENTS_TOKEN, ""],
        }
    }

    /// Whether names are JSON.
    pub(crate) const fn quotes_names(self) -> bool {
        !matches!(self, Self::Named)
    }

    /// What stands before, between and behind calls in a row; nothing where each has a tag of its own, and
    /// text may follow it.
    pub(crate) const fn row(self) -> Option<[&'static str; 3]> {
        match self {
            Self::Told | Self::Tagged => None,
            Self::Bare => Some(["", "; ", ""]),
            Self::List => Some(["[", ", ", "]"]),
            Self::Named => Some(["", LIST_TOKEN, ""]),
        }
    }
}

const TAG: &str = "<tool_call>";

const BARE_TOKEN: &str = "<|python_tag|>";
const LIST_TOKEN: &str = "[TOOL_CALLS]";
const ARGUMENTS_TOKEN: &str = "[ARGS]";
const CALL_ID_TOKEN: &str = "[CALL_ID]";
