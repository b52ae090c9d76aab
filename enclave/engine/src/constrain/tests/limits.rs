//! What a constraint may cost: its size, its parts, the work for one token, and what is kept of it.

use super::super::program::MAX_OPS;
use super::*;

#[test]
fn refuses_one_byte_too_much_and_what_grows_too_large() {
    let fits = "b".repeat(MAX_PATTERN_BYTES);
    assert!(made(&regex(&fits), vocabulary()).is_ok());
    assert_eq!(refused(&regex(&format!("{fits}b"))), ConstraintError::Patterns);
    let both = json!({"items": {"pattern": fits}, "prefixItems": [{"pattern": fits}]});
    assert!(made(&schema(&both), vocabulary()).is_ok(), "the same is read once");
    let both = json!({"items": {"pattern": fits}, "prefixItems": [{"pattern": "b"}]});
    assert_eq!(refused(&schema(&both)), ConstraintError::Patterns);
    let got = MAX_CONSTRAINT_BYTES + 1;
    assert_eq!(refused(&regex(&"b".repeat(got))), ConstraintError::TooLong { got });
    let half = || secret(&"b".repeat(MAX_CONSTRAINT_BYTES / 2 + 1));
    let refusal = refused(&Constraint::Choice(vec![half(), half()]));
    assert_eq!(refusal, ConstraintError::TooLong { got: MAX_CONSTRAINT_BYTES + 2 });
    assert_eq!(refused(&regex(&format!("a{{{MAX_OPS}}}"))), ConstraintError::TooLarge);
    assert_eq!(refused(&regex("((((a{99}){99}){99}){99}){99}")), ConstraintError::TooLarge);
    let long = json!({"type": "string", "maxLength": MAX_OPS});
    assert_eq!(refused(&schema(&long)), ConstraintError::TooLarge);
    let mut deep = json!({});
    for _ in 0..=json::MAX_SCHEMA_DEPTH {
        deep = json!({"type": "array", "items": deep});
    }
    assert_eq!(refused(&schema(&deep)), ConstraintError::TooLarge);
    let many = vec![json!({"type": "null"}); json::MAX_SCHEMAS];
    assert_eq!(refused(&schema(&json!({"anyOf": many}))), ConstraintError::TooLarge);
}

/// Few bytes that ask for gigabytes, or for seconds before the grammar is as large as it may be.
/// `tests/memory.rs` holds the engine to what refusing them may take.
#[test]
fn refuses_what_a_few_bytes_would_make_large_before_it_is() {
    let nested = |levels| {
        let mut nested = json!({"type": "null"});
        for _ in 0..levels {
            nested = json!({"additionalProperties": nested});
        }
        schema(&nested)
    };
    // Each level once stood twice in the one around it.
    assert!(takes(&nested(20), &format!("{}{{}}{}", r#"{"a":"#.repeat(19), "}".repeat(19))));
    for (large, why) in [
        (regex(&r"\w".repeat(json::MAX_SCHEMAS)), "classes of a pattern"),
        (schema(&json!({"items": {"pattern": r"\w".repeat(1000)}})), "classes of a string"),
        (regex(&format!("(?i){}", r"[\D]".repeat(8))), "cases of a class"),
        (regex(&format!("(?i){}", r"\p{Lu}".repeat(8))), "cases of a property"),
        (regex(&format!("(?i){}", "[ -\u{10FFFF}]".repeat(8))), "cases of a range"),
        (regex(&format!("(?i){}{}", "[".repeat(9), r"\D]".repeat(9))), "cases of cases"),
        (regex("(?i:[^[^a]--[^[^b]--[^[^c]--[^[^d]--e]]]])"), "cases of operators"),
        (schema(&json!({"anyOf": vec![json!({"type": ["number", "integer"]}); 900]})), "numbers"),
    ] {
        let refusal = made(&large, vocabulary()).err();
        assert_eq!(refusal, Some(ConstraintError::TooLarge), "{why}");
    }
    // A constant of all properties that have to be there.
    let names: Vec<String> = (0..json::MAX_SCHEMAS - 1).map(|n| n.to_string()).collect();
    let value = "x".repeat(30_000);
    let many = json!({"required": names, "additionalProperties": {"const": value}});
    assert_eq!(refused(&schema(&many)), ConstraintError::TooLarge);
    // Nothing, as often as it is allowed to be, in a part that comes as often.
    let nothing = regex(&format!("(?:{}a?){{0,60000}}", "(?:b{0}){9}".repeat(700)));
    assert_eq!(refused(&nothing), ConstraintError::TooLarge);
    let some = regex(&format!("(?i){}", "[a-z]".repeat(weigh::MAX_CLASSES)));
    assert!(made(&some, vocabulary()).is_ok(), "letters have few cases");
    let one_more = regex(&"[a-z]".repeat(weigh::MAX_CLASSES + 1));
    assert_eq!(refused(&one_more), ConstraintError::TooLarge);
}

#[test]
fn a_part_is_counted_before_it_is_made_and_one_too_many_refused() {
    let mut rules = Rules::new();
    assert_eq!(rules.text(&[b'a'; rules::MAX_PARTS]).err(), Some(ConstraintError::TooLarge));
    let mut rules = Rules::new();
    let text = rules.text(&[b'a'; rules::MAX_PARTS - 1]).unwrap();
    assert_eq!(text.parts(), rules::MAX_PARTS);
    assert_eq!(rules.charge(1), Err(ConstraintError::TooLarge));
    // What is counted is what is there.
    let value = person();
    let mut rules = Rules::new();
    let whole = Schemas::new(&value, &mut rules).instance().unwrap();
    let there = rules.parts() + whole.parts();
    let counted = rules.counted();
    assert!((there..there + there / 8).contains(&counted), "{counted} for {there}");
}

#[test]
fn an_object_may_have_more_properties_than_values_nest() {
    let names: Vec<String> = (0..200).map(|n| format!("p{n:03}")).collect();
    let properties: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), json!({"type": "null"}))).collect();
    let optional = json!({"type": "object", "properties": properties});
    let mut all = optional.clone();
    all["required"] = json!(names);
    let text = |names: &[String]| {
        let all: Vec<String> = names.iter().map(|name| format!("\"{name}\":null")).collect();
        format!("{{{}}}", all.join(","))
    };
    assert!(takes(&schema(&all), &text(&names)), "all of them");
    assert!(!takes(&schema(&all), &text(&names[1..])), "all but the first");
    for some in [&names[..], &names[..1], &names[100..], &names[199..], &[]] {
        assert!(takes(&schema(&optional), &text(some)), "{some:?}");
    }
}

#[test]
fn as_many_optional_properties_as_there_may_be_schemas_end_no_thread() {
    let many = |count: usize| {
        let properties: serde_json::Map<String, Value> =
            (0..count).map(|n| (format!("{n}"), json!(false))).collect();
        schema(&json!({"type": "object", "properties": properties}))
    };
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let made = small.spawn(move || {
        assert!(takes(&many(json::MAX_SCHEMAS - 1), "{}"));
        assert_eq!(refused(&many(json::MAX_SCHEMAS)), ConstraintError::TooLarge);
    });
    made.unwrap().join().unwrap();
}

#[test]
fn refuses_one_place_too_many() {
    // A text is a place of its own, and one more where it is told from the next.
    let choice =
        |count: usize| Constraint::Choice((0..count).map(|n| secret(&format!("{n:04}"))).collect());
    let most = machine::MAX_PLACES.div_ceil(2);
    assert!(made(&choice(most), vocabulary()).is_ok());
    assert_eq!(refused(&choice(most + 1)), ConstraintError::TooComplex);
    // Five for each of the characters there may be: whether it is there, and its bytes.
    let ambiguous = |count: usize| regex(&format!("([\\x00-\\x{{7ff}}]?){{{count}}}"));
    assert!(made(&ambiguous(800), vocabulary()).is_ok());
    assert_eq!(refused(&ambiguous(1700)), ConstraintError::TooComplex);
}

#[test]
fn a_long_answer_forgets_states_and_goes_on() {
    let long = schema(&json!({"type": "array", "items": {"type": "string", "maxLength": 3000}}));
    let mut matcher = matcher(&long);
    let one = format!("\"{}\"", "ä".repeat(3000));
    let mut whole = format!("[{one}");
    for _ in 0..4 {
        whole.push_str(&format!(",{one}"));
    }
    for (at, byte) in whole.bytes().enumerate() {
        matcher.advance(&[byte]).unwrap();
        if at % 97 == 0 {
            assert!(!matcher.allowed().unwrap().is_empty());
        }
    }
    matcher.advance(b"]").unwrap();
    assert!(matcher.accepts() && matcher.is_over());
}

#[test]
fn an_answer_that_takes_much_work_for_every_token_ends_and_keeps_little_meanwhile() {
    let mut matcher = matcher(&regex("((a1?|b2?|c3?|d4?|e5?|f6?)?){450}"));
    let mut tokens = 0;
    let end = loop {
        match matcher.allowed() {
            Ok(_) => assert!(!matcher.machine.is_large(), "after {tokens} tokens"),
            Err(error) => break error,
        }
        if let Err(error) = matcher.advance(b"a") {
            break error;
        }
        tokens += 1;
        assert!(tokens < 450);
    };
    assert_eq!(end, ConstraintError::TooComplex);
    assert!(tokens > 1, "one mask may take as much as several tokens allow");
    // What takes little goes on for as long as it is.
    let mut matcher = super::matcher(&regex("([a-z]?){50}[0-9]*"));
    for _ in 0..2000 {
        assert!(!matcher.allowed().unwrap().is_empty());
        matcher.advance(b"7").unwrap();
    }
}

/// The mask is there before the prompt is computed; what fails afterwards has cost that already.
#[test]
fn the_first_token_can_be_drawn_whatever_its_mask_took() {
    // Each of these tokens ends in a state of its own, of some 2000 places.
    let begin = |longest: usize| {
        let tokens: Vec<Vec<u8>> = (1..=longest).map(|n| vec![b'a'; n]).collect();
        let of = |id: u32| tokens[id as usize].as_slice();
        let vocabulary = Arc::new(Vocabulary::new(tokens.len(), of, Vec::new()));
        super::made(&regex("([ab]?){2000}"), vocabulary)
    };
    let (mut taken, mut refused) = (64, 1000);
    assert!(matches!(begin(refused), Err(ConstraintError::TooComplex)));
    while refused - taken > 1 {
        let middle = usize::midpoint(taken, refused);
        if begin(middle).is_ok() { taken = middle } else { refused = middle }
    }
    let matcher = begin(taken).unwrap();
    // Each choice has the same: enough for its first token, and for the second what the mask left.
    for mut choice in [matcher.clone(), matcher] {
        assert!(!choice.allowed().unwrap().is_empty());
        choice.advance(&[b'a'; 64]).unwrap();
        assert_eq!(choice.allowed().err(), Some(ConstraintError::TooComplex));
        // Of what it took meanwhile its caller's account is told.
        let most = (machine::MASK_WORK + machine::TOKEN_WORK) / machine::TOKEN_WORK;
        let work = choice.take_work();
        assert!((2..=most).contains(&work), "{work}");
        assert_eq!(choice.take_work(), 0, "once");
    }
}

/// All choices draw their second token in one step, for which everybody waits.
#[test]
fn a_second_mask_takes_little_more_than_the_first_and_all_choices_together_no_more_than_one_mask() {
    // One token leads to states of many places each, all others nowhere.
    let tokens: Vec<Vec<u8>> =
        std::iter::once(b"!".to_vec()).chain((1..=400).map(|n| vec![b'a'; n])).collect();
    let of = |id: u32| tokens[id as usize].as_slice();
    let vocabulary = Arc::new(Vocabulary::new(tokens.len(), of, Vec::new()));
    let second = |places: usize, choices: u32| {
        let pattern = regex(&format!("!([ab]?){{{places}}}"));
        let mut matcher = super::made(&pattern, Arc::clone(&vocabulary)).unwrap();
        matcher.divide(choices);
        let mut ends = Vec::new();
        let mut work = 0;
        for mut choice in (0..choices).map(|_| matcher.clone()) {
            assert!(!choice.allowed().unwrap().is_empty());
            choice.advance(b"!").unwrap();
            ends.push(choice.allowed().is_ok());
            work += choice.take_work() * machine::TOKEN_WORK;
        }
        (ends, work)
    };
    let (ends, work) = second(1000, 1);
    assert!(ends == [false] && work <= LEAD_WORK + 2 * machine::TOKEN_WORK, "{work}");
    let (ends, work) = second(1000, 8);
    assert!(ends == [false; 8] && work <= machine::MASK_WORK, "{work}");
    // What takes little is not cut for anybody.
    assert_eq!(second(5, 8).0, [true; 8]);
}

#[test]
fn work_that_was_done_before_a_request_is_served_is_on_no_account_and_later_work_adds_up() {
    let mut matcher = matcher(&regex("((a1?|b2?|c3?|d4?|e5?|f6?)?){450}"));
    assert_eq!(matcher.take_work(), 0);
    let mut work = 0;
    for _ in 0..8 {
        let masks = matcher.allowed().and_then(|_| matcher.advance(b"a"));
        work += matcher.take_work();
        if masks.is_err() {
            break;
        }
    }
    assert!(work > 0);
    // What takes little never adds up to a token here.
    let mut matcher = super::matcher(&regex("[0-9]*"));
    for _ in 0..50 {
        assert!(!matcher.allowed().unwrap().is_empty());
        matcher.advance(b"7").unwrap();
    }
    assert_eq!(matcher.take_work(), 0);
}

#[test]
fn forgets_states_as_soon_as_a_mask_has_made_too_many() {
    // Long tokens through many states: each of the places between 0 and 9 is one.
    let tokens: Vec<Vec<u8>> =
        (0..machine::KEPT_STATES).map(|n| format!("{n:04}").into_bytes()).collect();
    let of = |id: u32| tokens[id as usize].as_slice();
    let vocabulary = Arc::new(Vocabulary::new(tokens.len(), of, Vec::new()));
    let choice = |n: usize| secret(&format!("{n:04}"));
    let constraint = Constraint::Choice((0..machine::KEPT_STATES).map(choice).collect());
    let mut matcher = made(&constraint, vocabulary).unwrap();
    matcher.masks.clear();
    assert!(!matcher.allowed().unwrap().is_empty());
    assert!(!matcher.machine.is_large());
    matcher.advance(b"0042").unwrap();
    assert!(matcher.accepts() && matcher.is_over());
}

#[test]
fn one_mask_more_than_are_kept_makes_room_and_no_difference() {
    let long =
        schema(&json!({"type": "string", "minLength": 2 * MAX_MASKS, "maxLength": 3 * MAX_MASKS}));
    let mut matcher = matcher(&long);
    matcher.advance(b"\"").unwrap();
    let first = matcher.allowed().unwrap();
    while matcher.masks.len() < MAX_MASKS {
        matcher.advance(b"a").unwrap();
        assert!(!matcher.allowed().unwrap().is_empty());
    }
    matcher.advance(b"a").unwrap();
    let next = matcher.allowed().unwrap();
    assert_eq!(matcher.masks.len(), 1, "all others are forgotten");
    assert_eq!(next, first, "and what is allowed inside of a string is what it was");
}

/// Schemas of every keyword that is kept, and of some that are not.
fn any_schema() -> impl Strategy<Value = Value> {
    let small = || 0..4u64;
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        Just(json!({})),
        prop::sample::select(vec![
            "null", "boolean", "integer", "number", "string", "array", "object"
        ])
        .prop_map(|of| json!({"type": of})),
        (small(), small()).prop_map(|(min, max)| json!({"minLength": min, "maxLength": max})),
        (-20..20i64, -20..20i64)
            .prop_map(|(low, high)| json!({"minimum": low, "exclusiveMaximum": high})),
        prop::sample::select(vec!["^a+$", "[0-9]", "(x|y)$", "^$", "(", "\\\\d{1,2}"])
            .prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        prop::sample::select(vec!["date", "uuid", "ipv4", "hostname"])
            .prop_map(|format| json!({"type": "string", "format": format})),
        Just(json!({"enum": ["a", 1, null, {"b": []}]})),
        Just(json!({"const": "c", "type": ["string", "null"]})),
        prop::sample::select(vec!["#", "#/$defs/d", "#/nowhere"])
            .prop_map(|to| json!({"$ref": to})),
        prop::sample::select(vec!["oneOf", "not", "multipleOf"]).prop_map(|key| json!({key: 1})),
    ];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        let list = || prop::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            list().prop_map(|all| json!({"anyOf": all})),
            inner.clone().prop_map(|one| json!({"allOf": [one]})),
            (inner.clone(), small(), small())
                .prop_map(|(items, min, max)| json!({"items": items, "minItems": min, "maxItems": max})),
            list().prop_map(|all| json!({"type": "array", "prefixItems": all, "items": false})),
            inner.clone().prop_map(|others| json!({"additionalProperties": others})),
            (inner.clone(), inner.clone(), prop::sample::subsequence(vec!["a", "b\"", "c"], 0..=3)).prop_map(
                |(a, b, required)| json!({"type": "object", "properties": {"a": a, "b\"": b}, "required": required})
            ),
            (inner.clone(), inner.clone()).prop_map(|(mut one, def)| {
                if let Some(one) = one.as_object_mut() {
                    one.insert("$defs".to_owned(), json!({"d": def}));
                }
                one
            }),
        ]
    })
}

/// Whether `value` is an instance, for the keywords above. `None` if references go deeper than is looked.
fn validates(root: &Value, schema: &Value, value: &Value, depth: usize) -> Option<bool> {
    if depth > 40 {
        return None;
    }
    let is = |schema: &Value, value: &Value| validates(root, schema, value, depth + 1);
    let Some(all) = schema.as_object() else { return Some(schema == &json!(true)) };
    let mut good = true;
    for (key, wanted) in all {
        good &= match key.as_str() {
            "type" => {
                let names = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                names.iter().any(|name| match name.as_str().unwrap() {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    _ => value.is_object(),
                })
            }
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minLength" => {
                value.as_str().is_none_or(|t| t.chars().count() as u64 >= wanted.as_u64().unwrap())
            }
            "maxLength" => {
                value.as_str().is_none_or(|t| t.chars().count() as u64 <= wanted.as_u64().unwrap())
            }
            "minimum" => value.as_f64().is_none_or(|n| n >= wanted.as_f64().unwrap()),
            "exclusiveMaximum" => value.as_f64().is_none_or(|n| n < wanted.as_f64().unwrap()),
            "minItems" => {
                value.as_array().is_none_or(|a| a.len() as u64 >= wanted.as_u64().unwrap())
            }
            "maxItems" => {
                value.as_array().is_none_or(|a| a.len() as u64 <= wanted.as_u64().unwrap())
            }
            "pattern" => value.as_str().is_none_or(|text| match wanted.as_str().unwrap() {
                "^a+$" => !text.is_empty() && text.bytes().all(|b| b == b'a'),
                "(x|y)$" => text.ends_with(['x', 'y']),
                "^$" => text.is_empty(),
                _ => text.chars().any(|c| c.is_numeric()),
            }),
            "anyOf" => {
                let each = wanted.as_array().unwrap().iter().map(|one| is(one, value));
                each.collect::<Option<Vec<_>>>()?.contains(&true)
            }
            "allOf" => is(&wanted[0], value)?,
            "$ref" => match wanted.as_str().unwrap() {
                "#" => is(root, value)?,
                _ => is(root.pointer("/$defs/d")?, value)?,
            },
            "items" | "prefixItems" => {
                let Some(items) = value.as_array() else { continue };
                let before = all.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
                let mut each = items.iter().enumerate().map(|(at, item)| match key.as_str() {
                    "items" if at >= before => is(wanted, item),
                    "prefixItems" if at < before => is(&wanted[at], item),
                    _ => Some(true),
                });
                each.try_fold(true, |all, one| Some(all && one?))?
            }
            "required" => value.as_object().is_none_or(|object| {
                wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "properties" | "additionalProperties" => {
                let Some(object) = value.as_object() else { continue };
                let named = |name: &str| all.get("properties").and_then(|named| named.get(name));
                let mut each =
                    object.iter().map(|(name, value)| match (key.as_str(), named(name)) {
                        ("properties", Some(schema)) => is(schema, value),
                        ("additionalProperties", None) => is(wanted, value),
                        _ => Some(true),
                    });
                each.try_fold(true, |all, one| Some(all && one?))?
            }
            _ => true,
        };
    }
    Some(good)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// A schema is refused for a reason or kept: what is drawn of it is JSON, and an instance.
    #[test]
    fn any_schema_is_refused_or_kept(
        wanted in any_schema(), choices in prop::collection::vec(any::<u16>(), 48..96),
    ) {
        let constraint = schema(&wanted);
        if Matcher::new(&constraint, vocabulary(), plain()).is_err() {
            return Ok(());
        }
        let mut at = 0;
        let random = |below: usize| {
            at += 1;
            usize::from(choices[at % choices.len()].rotate_left(at as u32)) % below
        };
        let Some(text) = draw(&constraint, random) else { return Ok(()) };
        let value: Value = serde_json::from_slice(&text).unwrap();
        prop_assert!(validates(&wanted, &wanted, &value, 0) != Some(false), "{value} of {wanted}");
    }
}
