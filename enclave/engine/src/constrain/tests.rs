//! Grammars alone, without a model: what they take, what they make, and what is refused.

mod calling;
mod gbnf;
mod limits;

use proptest::prelude::*;
use serde_json::json;

use super::program::MAX_DEPTH;
use super::*;

fn secret(text: &str) -> SecretBytes {
    text.as_bytes().to_vec().into()
}

fn schema(schema: &Value) -> Constraint {
    Constraint::JsonSchema(secret(&schema.to_string()))
}

fn regex(pattern: &str) -> Constraint {
    Constraint::Regex(secret(pattern))
}

/// Every byte as a token, and some words.
fn vocabulary() -> Arc<Vocabulary> {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    let words =
        ["\": ", "\", \"", "true", "tru", "nul", "null", "abc", "ab", "12", "}}", "{\"", "ä"];
    tokens.extend(words.iter().map(|word| word.as_bytes().to_vec()));
    // A second token with the bytes of another.
    tokens.push(b"ab".to_vec());
    let end = tokens.len() as u32;
    tokens.push(b"<end>".to_vec());
    Arc::new(Vocabulary::new(tokens.len(), |id| &tokens[id as usize], vec![end]))
}

fn made(constraint: &Constraint, vocabulary: Arc<Vocabulary>) -> Result<Matcher, ConstraintError> {
    Matcher::new(constraint, vocabulary, plain())
}

/// A model without reasoning and without tokens for calls.
fn plain() -> Setting {
    Setting { reasoning: Reasoning::None, spelled: Vec::new() }
}

fn matcher(constraint: &Constraint) -> Matcher {
    made(constraint, vocabulary()).unwrap()
}

fn refused(constraint: &Constraint) -> ConstraintError {
    made(constraint, vocabulary()).err().expect("it was accepted")
}

fn takes(constraint: &Constraint, text: &str) -> bool {
    let mut matcher = matcher(constraint);
    matcher.advance(text.as_bytes()).unwrap();
    matcher.accepts()
}

/// Draws bytes among those that are allowed, for as long as it goes on; `None` if that is too long, or
/// more work than one answer gets, as ambiguous recursion comes to.
fn draw(constraint: &Constraint, mut random: impl FnMut(usize) -> usize) -> Option<Vec<u8>> {
    let mut matcher = matcher(constraint);
    let mut text = Vec::new();
    let too_complex = |error, text: &[u8]| {
        assert_eq!(error, ConstraintError::TooComplex, "behind {text:?}");
        None
    };
    loop {
        let mask = match matcher.allowed() {
            Ok(mask) => mask,
            Err(error) => return too_complex(error, &text),
        };
        let mut logits = vec![0.0; 256];
        mask.apply(&mut logits);
        let allowed: Vec<u8> =
            (0..=u8::MAX).filter(|byte| logits[usize::from(*byte)] == 0.0).collect();
        assert!(!allowed.is_empty() || matcher.accepts(), "a dead end behind {text:?}");
        if matcher.is_over() || (matcher.accepts() && random(4) == 0) {
            return Some(text);
        }
        if text.len() > 600 {
            return None;
        }
        let byte = allowed[random(allowed.len())];
        if let Err(error) = matcher.advance(&[byte]) {
            return too_complex(error, &text);
        }
        text.push(byte);
    }
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 5},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mail": {"anyOf": [{"type": "null"}, {"type": "string", "format": "email"}]},
            "tags": {"type": "array", "items": {"enum": ["a", "b\"", 3]}, "maxItems": 2},
        },
        "required": ["name", "tags"],
        "additionalProperties": false,
    })
}

#[test]
fn takes_instances_of_a_schema_and_nothing_else() {
    let person = schema(&person());
    for good in [
        r#"{"name":"Ada","tags":[]}"#,
        r#"{"name": "Ada", "age": 36, "tags": ["a", 3]}"#,
        r#"{"name":"ä\n\u00e4\"","age":150,"mail":null,"tags":["b\""]}"#,
        r#"{"name":"A","mail":"a@b.org","tags":[3,3]}"#,
    ] {
        assert!(takes(&person, good), "{good}");
    }
    for bad in [
        r#"{"name":"Ada"}"#,
        r#"{"tags":[],"name":"Ada"}"#,
        r#"{"name":"","tags":[]}"#,
        r#"{"name":"Ada123","tags":[]}"#,
        r#"{"name":"Ada","age":151,"tags":[]}"#,
        r#"{"name":"Ada","age":-1,"tags":[]}"#,
        r#"{"name":"Ada","age":07,"tags":[]}"#,
        r#"{"name":"Ada","tags":["a","a","a"]}"#,
        r#"{"name":"Ada","tags":["c"]}"#,
        r#"{"name":"Ada","tags":[],"more":1}"#,
        r#"{"name":"Ada","tags":[]"#,
        r#"{"name":"Ada","tags":[]}}"#,
        r#"{"name":"\ud83d","tags":[]}"#,
        "{\"name\":\"a\nb\",\"tags\":[]}",
    ] {
        assert!(!takes(&person, bad), "{bad}");
    }
}

#[test]
fn takes_every_number_of_a_range_and_no_other() {
    for (low, high) in [(0, 0), (7, 123), (-5, 5), (-120, -99), (99, 100), (0, 1000)] {
        let range = schema(&json!({"type": "integer", "minimum": low, "maximum": high}));
        for n in -1100..1100 {
            assert_eq!(
                takes(&range, &n.to_string()),
                (low..=high).contains(&n),
                "{n} of {low} to {high}"
            );
        }
    }
    let above = schema(&json!({"type": "integer", "exclusiveMinimum": 9}));
    assert!(takes(&above, "10") && takes(&above, "999999999999999"));
    assert!(!takes(&above, "9") && !takes(&above, "1000000000000000"));
}

#[test]
fn a_schema_may_refer_to_itself() {
    let list = schema(&json!({
        "$ref": "#/$defs/node",
        "$defs": {"node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["next"],
        }},
    }));
    assert!(takes(&list, r#"{"next":{"next":{"next":null}}}"#));
    assert!(!takes(&list, r#"{"next":{"next":{}}}"#));
    let deep = |levels| format!("{}null{}", r#"{"next":"#.repeat(levels), "}".repeat(levels));
    assert!(takes(&list, &deep(12)));
    assert!(!takes(&list, &deep(MAX_DEPTH + 1)), "deeper than there are levels");
}

#[test]
fn tuples_and_lists_have_as_many_items_as_they_may() {
    let pair = json!([{"type": "integer"}, {"type": "boolean"}]);
    let pair = schema(&json!({"type": "array", "prefixItems": pair, "items": false}));
    assert!(takes(&pair, "[1,true]") && !takes(&pair, "[1]") && !takes(&pair, "[1,true,null]"));
    let some =
        |min, max| schema(&json!({"items": {"type": "null"}, "minItems": min, "maxItems": max}));
    for count in 0..5 {
        let list = format!("[{}]", vec!["null"; count].join(","));
        assert_eq!(takes(&some(1, 3), &list), (1..=3).contains(&count), "{list}");
        assert_eq!(takes(&some(0, 0), &list), count == 0, "{list}");
    }
}

#[test]
fn any_json_object_is_taken_and_nothing_that_is_none() {
    for good in ["{}", r#"{"a":[1,{"b":null}],"":-1.5e+10,"c":"\\"}"#] {
        assert!(takes(&Constraint::JsonObject, good), "{good}");
    }
    for bad in ["[]", "1", r#"{"a"}"#, r#"{"a":01}"#, r#"{"a":1,}"#, r#"{"a":1e999}"#, "{ }"] {
        assert!(!takes(&Constraint::JsonObject, bad), "{bad}");
    }
}

#[test]
fn an_object_has_the_properties_that_are_listed_and_any_if_none_are() {
    let object = |more: Value| {
        let mut object = json!({"type": "object"});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema(&object)
    };
    let one = r#"{"a":1}"#;
    for (more, empty, any) in [
        (json!({}), true, true),
        (json!({"properties": {}}), true, false),
        (json!({"additionalProperties": false}), true, false),
        (json!({"properties": {}, "additionalProperties": true}), true, true),
        (json!({"additionalProperties": {"type": "integer"}}), true, true),
        (json!({"additionalProperties": {"type": "string"}}), true, false),
        (json!({"properties": {"a": {}}}), true, true),
        (json!({"required": ["a"]}), false, true),
    ] {
        let object = object(more.clone());
        assert_eq!((takes(&object, "{}"), takes(&object, one)), (empty, any), "{more}");
    }
}

#[test]
fn a_pattern_matches_the_whole_text_and_a_part_of_a_json_string() {
    let plate = regex(r"^[A-Z]{2}-\d{1,3}(x|yz)?$");
    assert!(takes(&plate, "AB-12yz") && !takes(&plate, "AB-1234") && !takes(&plate, "AB-12y"));
    assert!(takes(&regex("(?i)ä+|b"), "ÄäÄ") && !takes(&regex("ä+|b"), "bb"));
    let within = schema(&json!({"type": "string", "pattern": "a\"."}));
    assert!(takes(&within, r#""xa\"\\""#) && takes(&within, r#""a\"bcd""#));
    assert!(!takes(&within, r#""a\"""#) && !takes(&within, r#""a"b""#));
    let anchored = schema(&json!({"type": "string", "pattern": "^a"}));
    assert!(takes(&anchored, r#""ab""#) && !takes(&anchored, r#""ba""#));
}

#[test]
fn a_choice_is_one_of_the_texts() {
    let choice = Constraint::Choice(vec![secret("yes"), secret("yes, but"), secret("no")]);
    assert!(takes(&choice, "yes") && takes(&choice, "yes, but") && takes(&choice, "no"));
    assert!(!takes(&choice, "ye") && !takes(&choice, "nono"));
    let mut matcher = matcher(&choice);
    matcher.advance(b"no").unwrap();
    assert!(matcher.is_over(), "nothing can follow");
}

#[test]
fn the_arguments_of_a_call_are_an_object_whatever_their_schema_leaves_open() {
    let call = |schema: Value| {
        let tool = (secret("f"), secret(&schema.to_string()));
        Constraint::ToolCall(ToolStyle::Bare, vec![tool])
    };
    let of = |arguments: &str| format!("{{\"name\": \"f\", \"parameters\": {arguments}}}");
    for open in [json!({}), json!({"description": "d", "$defs": {}}), json!({"type": "object"})] {
        let call = call(open);
        assert!(takes(&call, &of("{}")) && takes(&call, &of(r#"{"caf\u00e9":[1]}"#)));
        assert!(["null", "5", "[]", "\"{}\""].iter().all(|other| !takes(&call, &of(other))));
    }
    let object = json!({"properties": {"n": {"type": "null"}}, "required": ["n"]});
    for same in [
        object.clone(),
        json!({"$ref": "#/$defs/o", "$defs": {"o": object}}),
        json!({"anyOf": [object, {"enum": [{"n": null}]}]}),
        json!({"enum": [{"n": null}, 5], "type": "object"}),
    ] {
        assert!(takes(&call(same.clone()), &of(r#"{"n":null}"#)), "{same}");
    }
    let what = "the arguments of a call have to be an object";
    for other in [
        json!(true),
        json!({"type": ["object", "null"]}),
        json!({"anyOf": [object, {}]}),
        json!({"enum": [{}, null]}),
        json!({"const": []}),
        json!({"minimum": 3, "type": "integer"}),
        json!({"anyOf": [{"$ref": "#/$defs/l"}, object], "$defs": {"l": {"items": {"$ref": "#"}}}}),
    ] {
        assert_eq!(refused(&call(other.clone())), ConstraintError::Malformed { what }, "{other}");
    }
    assert_eq!(refused(&call(json!({"$ref": "#"}))), ConstraintError::Unmeetable);
    // Many ways to the same object are looked at once each.
    let level = |n: u32| {
        (format!("d{n}"), json!({"anyOf": vec![json!({"$ref": format!("#/$defs/d{}", n + 1)}); 2]}))
    };
    let levels = (0..10).map(level).chain([("d10".to_owned(), object)]);
    let defs: serde_json::Map<String, Value> = levels.collect();
    let many = json!({"$ref": "#/$defs/d0", "$defs": defs});
    assert!(takes(&call(many), &of(r#"{"n":null}"#)));
}

#[test]
fn the_mask_holds_exactly_the_tokens_that_go_on() {
    let tokens = ["tr", "true", "t", "truex", "f", "false", "e", "true", "e"];
    let of = |id: u32| tokens[id as usize].as_bytes();
    let vocabulary = Arc::new(Vocabulary::new(tokens.len(), of, vec![8]));
    let boolean = schema(&json!({"type": "boolean"}));
    let mut matcher = made(&boolean, vocabulary).unwrap();
    let mut logits = vec![1.0; tokens.len()];
    matcher.allowed().unwrap().apply(&mut logits);
    let allowed = |logits: &[f32]| -> Vec<usize> {
        (0..tokens.len()).filter(|at| logits[*at].is_finite()).collect()
    };
    assert_eq!(allowed(&logits), [0, 1, 2, 4, 5, 7]);
    matcher.advance(b"tru").unwrap();
    let mut logits = vec![1.0; tokens.len()];
    matcher.allowed().unwrap().apply(&mut logits);
    assert_eq!(allowed(&logits), [6], "what ends an answer is no text");
    matcher.advance(b"e").unwrap();
    let mut logits = vec![1.0; tokens.len()];
    matcher.allowed().unwrap().apply(&mut logits);
    assert_eq!(allowed(&logits), [8], "and it ends one that may end");
}

#[test]
fn refuses_keywords_that_would_not_be_kept_by_name() {
    for (keyword, value) in
        [("oneOf", json!([{}])), ("not", json!({})), ("uniqueItems", json!(true))]
    {
        let refusal = refused(&schema(&json!({"type": "array", keyword: value})));
        assert_eq!(refusal, ConstraintError::Keyword { keyword });
    }
    let nested = json!({"properties": {"a": {"items": {"multipleOf": 2}}}});
    assert_eq!(refused(&schema(&nested)), ConstraintError::Keyword { keyword: "multipleOf" });
    let unknown = refused(&schema(&json!({"canary": 1})));
    assert!(!unknown.to_string().contains("canary"), "the name may be a secret: {unknown}");
    let both = json!({"enum": [1], "minimum": 0});
    assert_eq!(refused(&schema(&both)), ConstraintError::Combination { keyword: "enum" });
}

#[test]
fn refuses_what_no_answer_could_be() {
    for impossible in [
        json!(false),
        json!({"properties": {"a": false}, "required": ["a"]}),
        json!({"required": ["a"], "additionalProperties": false}),
        json!({"$ref": "#"}),
        json!({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"type": "string", "minLength": 3, "maxLength": 2}),
        json!({"properties": {"a": {"minLength": 1, "maxLength": 0}}, "required": ["a"]}),
        json!({"type": "integer", "minimum": 3, "maximum": 2}),
        json!({"enum": []}),
        json!({"anyOf": [false, {"type": []}]}),
    ] {
        assert_eq!(refused(&schema(&impossible)), ConstraintError::Unmeetable, "{impossible}");
    }
    assert_eq!(refused(&Constraint::Choice(Vec::new())), ConstraintError::Unmeetable);
    let optional = json!({"properties": {"a": false, "b": {"type": "null"}}});
    assert!(takes(&schema(&optional), r#"{"b":null}"#), "the rest is possible");
    // A vocabulary that cannot spell it.
    let letters = Arc::new(Vocabulary::new(1, |_| b"a", Vec::new()));
    let refusal = made(&Constraint::JsonObject, letters).err();
    assert_eq!(refusal, Some(ConstraintError::Unmeetable));
}

#[test]
fn refuses_what_is_no_schema_and_no_pattern() {
    for bad in [
        json!(7),
        json!({"type": "text"}),
        json!({"type": 7}),
        json!({"type": ["string", "string"]}),
        json!({"type": "text", "const": 1}),
        json!({"properties": []}),
        json!({"required": "a"}),
        json!({"enum": 7}),
        json!({"$ref": "#/nowhere"}),
        json!({"$ref": "https://example.org/schema"}),
        json!({"minLength": -1}),
        json!({"minimum": 0.5}),
    ] {
        let refusal = refused(&schema(&bad));
        assert!(matches!(refusal, ConstraintError::Malformed { .. }), "{bad}: {refusal}");
    }
    assert_eq!(refused(&Constraint::JsonSchema(secret("{"))), ConstraintError::NotJson);
    let not_utf8 = Constraint::Regex(vec![0xff].into());
    assert_eq!(refused(&not_utf8), ConstraintError::NotUtf8);
    for bad in ["(", "a{2,1}", r"\b", "a^", "^a$|^b$", &"(".repeat(100)] {
        let refusal = refused(&regex(bad));
        assert!(matches!(refusal, ConstraintError::Regex { .. }), "{bad}: {refusal}");
    }
}

#[test]
fn a_constant_is_one_of_the_types_that_are_named_beside_it() {
    let both = schema(&json!({"type": ["string", "integer"], "enum": ["a", 1, 1.0, 1.5, null]}));
    assert!(takes(&both, "\"a\"") && takes(&both, "1") && takes(&both, "1.0"));
    assert!(!takes(&both, "1.5") && !takes(&both, "null"));
    for impossible in [
        json!({"type": "string", "const": 1}),
        json!({"type": "integer", "enum": ["a", 1.5, [], {}]}),
        json!({"type": [], "const": 1}),
    ] {
        assert_eq!(refused(&schema(&impossible)), ConstraintError::Unmeetable, "{impossible}");
    }
    assert!(takes(&schema(&json!({"type": "number", "const": 1})), "1"));
}

/// Whether `value` is an instance of `schema`, for the keywords these tests use.
fn is_instance(schema: &Value, value: &Value) -> bool {
    if let Some(options) = schema["anyOf"].as_array() {
        return options.iter().any(|option| is_instance(option, value));
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(value);
    }
    match schema["type"].as_str().unwrap() {
        "null" => value.is_null(),
        "string" => value.as_str().is_some_and(|text| {
            let length = text.chars().count() as u64;
            let max = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
            (schema["minLength"].as_u64().unwrap_or(0)..=max).contains(&length)
        }),
        "integer" => value.as_i64().is_some_and(|n| {
            let low = schema["minimum"].as_i64().unwrap_or(i64::MIN);
            (low..=schema["maximum"].as_i64().unwrap_or(i64::MAX)).contains(&n)
        }),
        "array" => value.as_array().is_some_and(|items| {
            items.len() as u64 <= schema["maxItems"].as_u64().unwrap_or(u64::MAX)
                && items.iter().all(|item| is_instance(&schema["items"], item))
        }),
        "object" => value.as_object().is_some_and(|object| {
            let required = schema["required"].as_array().unwrap();
            required.iter().all(|name| object.contains_key(name.as_str().unwrap()))
                && object
                    .iter()
                    .all(|(name, value)| is_instance(&schema["properties"][name], value))
        }),
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is drawn, it parses and is an instance, and no way leads nowhere.
    #[test]
    fn every_text_that_can_be_drawn_is_an_instance(choices in prop::collection::vec(any::<u16>(), 64..128)) {
        let mut at = 0;
        let mut random = |below: usize| {
            at += 1;
            usize::from(choices[at % choices.len()].rotate_left(at as u32)) % below
        };
        if let Some(text) = draw(&schema(&person()), &mut random) {
            let value: Value = serde_json::from_slice(&text).unwrap();
            prop_assert!(is_instance(&person(), &value), "{value}");
        }
        if let Some(text) = draw(&Constraint::JsonObject, &mut random) {
            prop_assert!(serde_json::from_slice::<Value>(&text).unwrap().is_object());
        }
    }

    /// No bytes in a constraint make it panic.
    #[test]
    fn no_constraint_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,60}") {
        for constraint in [
            Constraint::JsonSchema(bytes.clone().into()),
            Constraint::Regex(bytes.clone().into()),
            Constraint::Grammar(bytes.into()),
            regex(&text),
            Constraint::Grammar(secret(&format!("root ::= {text}"))),
            schema(&json!({"type": "string", "pattern": text})),
        ] {
            drop(made(&constraint, vocabulary()));
        }
    }
}
