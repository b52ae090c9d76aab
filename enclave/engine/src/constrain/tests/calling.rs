//! Calls in each family's words: those that have to be, and those that may stand behind text.

use super::*;

const STYLES: [ToolStyle; 5] =
    [ToolStyle::Told, ToolStyle::Tagged, ToolStyle::Bare, ToolStyle::List, ToolStyle::Named];

/// `f` takes a number, `g` any object.
fn tools() -> Vec<(SecretBytes, SecretBytes)> {
    let number =
        json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    [("f", number), ("g", json!({"type": "object"}))]
        .map(|(name, schema)| (secret(name), secret(&schema.to_string())))
        .into()
}

fn may(style: ToolStyle, parallel: bool) -> Constraint {
    Constraint::MayCall { style, tools: tools(), parallel }
}

/// A call as a model of the family writes it behind its tag, and the tag.
fn call(style: ToolStyle, name: &str, arguments: &str) -> (&'static str, String) {
    let one = |word: &str| format!("{{\"name\": \"{name}\", \"{word}\": {arguments}}}");
    match style {
        ToolStyle::Told | ToolStyle::Tagged => {
            ("<tool_call>", format!("\n{}\n</tool_call>", one("arguments")))
        }
        ToolStyle::Bare => ("<|python_tag|>", one("parameters")),
        ToolStyle::List => ("[TOOL_CALLS]", format!("[{}]", one("arguments"))),
        ToolStyle::Named => ("[TOOL_CALLS]", format!("{name}[ARGS]{arguments}")),
    }
}

/// Two calls of `g` in a row, tag and all.
fn two(style: ToolStyle) -> String {
    let (tag, one) = call(style, "g", "{}");
    match style {
        ToolStyle::Told | ToolStyle::Tagged => format!("{tag}{one} and {tag}{one}"),
        ToolStyle::Bare => format!("{tag}{one}; {one}"),
        ToolStyle::List => {
            let one = one.trim_matches(['[', ']']);
            format!("{tag}[{one}, {one}]")
        }
        ToolStyle::Named => format!("{tag}{one}{tag}{one}"),
    }
}

#[test]
fn a_required_call_names_a_tool_and_keeps_its_schema_in_each_style() {
    for style in STYLES {
        let required = Constraint::ToolCall(style, tools());
        let written = |name: &str, arguments: &str| {
            let (tag, one) = call(style, name, arguments);
            // The prompt ends with the tags that are no text.
            if style.writes_tag() { format!("{tag}{one}") } else { one }
        };
        assert!(takes(&required, &written("f", r#"{"n":1}"#)), "{style:?}");
        assert!(takes(&required, &written("g", r#"{"x":[]}"#)), "{style:?}");
        for (name, arguments) in [("f", "{}"), ("h", "{}"), ("g", "[]")] {
            assert!(!takes(&required, &written(name, arguments)), "{style:?} {name} {arguments}");
        }
        assert!(!takes(&required, "Hello") && !takes(&required, ""));
    }
}

#[test]
fn text_may_stand_alone_or_before_a_call_that_keeps_its_schema() {
    for style in STYLES {
        for parallel in [false, true] {
            let may = may(style, parallel);
            let (tag, good) = call(style, "f", r#"{"n":1}"#);
            let almost = tag[..tag.len() - 1].repeat(2);
            for text in ["", "Hello.\n", "<tool_calls> [TOOL_CALL] <|python", "a{}", &almost] {
                assert!(takes(&may, text), "{style:?} {text}");
                assert!(takes(&may, &format!("{text}{tag}{good}")), "{style:?} {text}");
                assert!(takes(&may, &format!("{text}{tag} \n{good}")), "{style:?} {text}");
                assert!(!takes(&may, &format!("{text}{tag}")), "{style:?} {text}");
                for (name, arguments) in [("f", "{}"), ("h", "{}"), ("g", "7")] {
                    let (_, bad) = call(style, name, arguments);
                    let whole = format!("{text}{tag}{bad}");
                    assert!(!takes(&may, &whole), "{style:?} {whole}");
                }
            }
        }
    }
}

#[test]
fn there_is_one_call_at_most_unless_there_may_be_several() {
    for style in STYLES {
        let two = two(style);
        assert!(takes(&may(style, true), &format!("So: {two}")), "{style:?}");
        assert!(!takes(&may(style, false), &format!("So: {two}")), "{style:?}");
        // Behind the only one the answer is over, without a token for it.
        let (tag, one) = call(style, "g", "{}");
        let mut matcher = matcher(&may(style, false));
        matcher.advance(format!("So: {tag}{one}").as_bytes()).unwrap();
        assert!(matcher.is_over(), "{style:?}");
    }
}

#[test]
fn a_bare_answer_that_begins_with_a_brace_is_calls_and_nothing_else() {
    let (_, one) = call(ToolStyle::Bare, "g", "{}");
    for parallel in [false, true] {
        let may = may(ToolStyle::Bare, parallel);
        for good in [one.clone(), format!(" \n\t{one}")] {
            assert!(takes(&may, &good), "{good}");
        }
        assert_eq!(takes(&may, &format!("{one}; {one}")), parallel);
        for bad in ["{", "{}", "\n {\"a\":1}", &format!("{one} more"), &format!("{one};")] {
            assert!(!takes(&may, bad), "{bad}");
        }
    }
}

#[test]
fn what_is_thought_aloud_about_calls_is_none_and_a_call_may_follow() {
    let (tag, one) = call(ToolStyle::Tagged, "g", "{}");
    let with = |reasoning| {
        let setting = Setting { reasoning, spelled: Vec::new() };
        Matcher::new(&may(ToolStyle::Tagged, false), vocabulary(), setting).unwrap()
    };
    let takes = |reasoning, text: &str| {
        let mut matcher = with(reasoning);
        matcher.advance(text.as_bytes()).unwrap();
        matcher.accepts()
    };
    let thought = format!("I could {tag} twice {tag}</think>\n\nSo: {tag}{one}");
    assert!(takes(Reasoning::Begun, &thought));
    assert!(takes(Reasoning::Possible, &format!("\n<think>{thought}")));
    assert!(takes(Reasoning::Possible, &format!("So: {tag}{one}")));
    for reasoning in [Reasoning::Begun, Reasoning::Possible] {
        assert!(!takes(reasoning, &format!("<think>a</think>{tag}{one}{tag}{one}")));
    }
    assert!(!takes(Reasoning::None, &format!("<think>{thought}")));
    assert!(!takes(Reasoning::Possible, &thought), "no reasoning was begun");
}

#[test]
fn control_tokens_that_spell_a_tag_are_allowed_where_it_may_stand() {
    // Two control tokens, which have no text in the vocabulary.
    let tokens = ["a", "g", "{}", "", ""];
    let of = |id: u32| tokens[id as usize].as_bytes();
    let vocabulary = Arc::new(Vocabulary::new(tokens.len(), of, Vec::new()));
    let spelled = vec![(3, "[TOOL_CALLS]"), (4, "[ARGS]")];
    let setting = Setting { reasoning: Reasoning::None, spelled };
    let may = may(ToolStyle::Named, false);
    let mut matcher = Matcher::new(&may, Arc::clone(&vocabulary), setting.clone()).unwrap();
    let mut allowed = |text: &str| -> Vec<usize> {
        matcher.advance(text.as_bytes()).unwrap();
        let mut logits = vec![1.0; tokens.len()];
        matcher.allowed().unwrap().apply(&mut logits);
        (0..tokens.len()).filter(|at| logits[*at].is_finite()).collect()
    };
    assert_eq!(allowed("a"), [0, 1, 2, 3, 4], "no call was begun, so [ARGS] is text");
    assert_eq!(allowed("[TOOL_CALLS]"), [1]);
    assert_eq!(allowed("g"), [4]);
    assert_eq!(allowed("[ARGS]"), [2]);
    // Without them a tag can be spelled only by tokens that are text.
    let without = Setting { spelled: Vec::new(), ..setting };
    let mut matcher = Matcher::new(&may, vocabulary, without).unwrap();
    matcher.advance(b"[TOOL_CALLS]g").unwrap();
    assert_eq!(matcher.allowed().err(), Some(ConstraintError::Unmeetable));
}

#[test]
fn refuses_a_tool_whose_schema_would_not_be_kept() {
    let bad = || vec![(secret("f"), secret(r#"{"not":{}}"#))];
    for style in STYLES {
        for constraint in [
            Constraint::ToolCall(style, bad()),
            Constraint::MayCall { style, tools: bad(), parallel: true },
        ] {
            assert_eq!(refused(&constraint), ConstraintError::Keyword { keyword: "not" });
        }
    }
}
