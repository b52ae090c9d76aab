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
}

impl ToolStyle {
    /// The style of a template that was seen to tell tools.
    pub(crate) fn of(source: &str) -> Self {
        if source.contains(LIST_TOKEN) {
            // Newer ones put names before the arguments, without a list.
            return if source.contains("[ARGS]") { Self::Told } else { Self::List };
        }
        if source.contains("<tool_call>") {
            // Qwen3-Coder and GLM 4.5 put no JSON between these tags.
            let other = ["<function=", "<arg_key>"].iter().any(|tag| source.contains(tag));
            return if other { Self::Told } else { Self::Tagged };
        }
        let bare = source.contains("ipython") || source.contains(BARE_TOKEN);
        if bare && source.contains("parameters") { Self::Bare } else { Self::Told }
    }

    /// The token before calls that is no text in the vocabularies of the family.
    pub(crate) const fn token(self) -> Option<&'static str> {
        match self {
            Self::Told | Self::Tagged => None,
            Self::Bare => Some(BARE_TOKEN),
            Self::List => Some(LIST_TOKEN),
        }
    }

    /// What the prompt ends with if the answer has to be a call: a grammar is over text, which that token
    /// is not.
    pub(crate) const fn call_prefix(self) -> &'static str {
        match self {
            Self::Told | Self::Tagged | Self::Bare => "",
            Self::List => LIST_TOKEN,
        }
    }

    /// What stands before the name of a call, between name and arguments, and behind them.
    pub(crate) const fn around(self) -> [&'static str; 3] {
        match self {
            Self::Told | Self::Tagged => {
                ["<tool_call>\n{\"name\": ", ", \"arguments\": ", "}\n</tool_call>"]
            }
            Self::Bare => ["{\"name\": ", ", \"parameters\": ", "}"],
            Self::List => ["[{\"name\": ", ", \"arguments\": ", "}]"],
        }
    }
}

const BARE_TOKEN: &str = "<|python_tag|>";
const LIST_TOKEN: &str = "[TOOL_CALLS]";
