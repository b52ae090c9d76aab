//! Answers that have to be what the request says, on real logits.

use chrysalis_engine::{Constraint, ConstraintError, MAX_CONSTRAINT_BYTES, ToolStyle};
use serde_json::Value;

use super::*;

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":12},
    "age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":
    {"type":"string","maxLength":6},"maxItems":3}},"required":["name","age","tags"]}"#;

fn secret(text: &str) -> chrysalis_wire::SecretBytes {
    text.as_bytes().to_vec().into()
}

fn hot_with(constraint: Constraint, seed: u64, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        constraint: Some(constraint),
        sampling: Sampling { temperature: 1.5, seed: Some(seed), ..Sampling::greedy() },
        ..hello(max_tokens)
    }
}

#[test]
fn every_seed_gives_an_instance_of_the_schema_at_a_high_temperature() {
    let engine = engine(&TinyModel::random(7));
    for seed in 0..40 {
        let schema = Constraint::JsonSchema(secret(PERSON));
        let got = answer(&engine, hot_with(schema, seed, 400));
        let value: Value = serde_json::from_str(&got.text()).unwrap();
        assert!(value["name"].as_str().unwrap().chars().count() <= 12);
        assert!((0..=150).contains(&value["age"].as_i64().unwrap()));
        assert!(value["tags"].as_array().unwrap().iter().all(Value::is_string));
        assert_eq!(reason(&got), FinishReason::Stop);
    }
}

#[test]
fn any_object_parses_unless_it_is_cut() {
    let engine = engine(&TinyModel::random(3));
    let mut complete = 0;
    for seed in 0..40 {
        let got = answer(&engine, hot_with(Constraint::JsonObject, seed, 200));
        if reason(&got) == FinishReason::Stop {
            complete += 1;
            assert!(serde_json::from_str::<Value>(&got.text()).unwrap().is_object());
        }
    }
    assert!(complete > 0, "none was complete: this shows nothing");
}

#[test]
fn a_pattern_holds_with_penalties_biases_and_several_choices() {
    let engine = engine(&TinyModel::random(5));
    let pattern = Constraint::Regex(secret("[A-C]{3}-[0-9]{2,4}!"));
    let mut request = hot_with(pattern, 11, 100);
    request.sampling.frequency_penalty = 2.0;
    request.sampling.top_p = 0.9;
    // What is not allowed is not drawn, however much it is wanted.
    request.logit_bias =
        vec![LogitBias { token: 70, bias: 100.0 }, LogitBias { token: IM_END, bias: 100.0 }];
    request.choices = 3;
    let mut generation = engine.generate(request).unwrap();
    let mut texts = vec![String::new(); 3];
    while let Some(event) = generation.events.blocking_recv() {
        if let Event::Delta(delta) = event {
            texts[delta.choice as usize] += std::str::from_utf8(delta.text.expose()).unwrap();
        }
    }
    for text in texts {
        let (letters, digits) = text.strip_suffix('!').unwrap().split_once('-').unwrap();
        assert!(
            letters.len() == 3 && letters.bytes().all(|b| (b'A'..=b'C').contains(&b)),
            "{text}"
        );
        assert!((2..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
    }
}

#[test]
fn an_answer_ends_where_nothing_can_follow_without_a_token_for_it() {
    let engine = engine(&TinyModel::random(5));
    let choice = Constraint::Choice(vec![secret("hello")]);
    let got = answer(&engine, hot_with(choice, 1, 100));
    assert_eq!((got.text().as_str(), reason(&got)), ("hello", FinishReason::Stop));
    assert!(completion(&got) <= 5, "no token behind the last letter");
}

#[test]
fn constrained_answers_are_the_same_alone_and_among_others() {
    let engine = engine(&TinyModel::random(7));
    let asked = |seed| hot_with(Constraint::JsonSchema(secret(PERSON)), seed, 300);
    let alone: Vec<_> = (0..4).map(|seed| answer(&engine, asked(seed)).text()).collect();
    let together: Vec<_> = (0..4).map(|seed| engine.generate(asked(seed)).unwrap()).collect();
    let free = engine.generate(hot("free", 1, None)).unwrap();
    let together: Vec<_> = together.into_iter().map(|g| collect(g).text()).collect();
    assert_eq!(alone, together);
    drop(free);
}

#[test]
fn what_is_cut_is_the_beginning_of_an_instance() {
    let engine = engine(&TinyModel::random(7));
    let schema = || Constraint::JsonSchema(secret(PERSON));
    let whole = answer(&engine, hot_with(schema(), 5, 400)).text();
    let cut = answer(&engine, hot_with(schema(), 5, 7));
    assert_eq!(reason(&cut), FinishReason::Length);
    assert!(whole.starts_with(&cut.text()));
    let stop = GenerateRequest { stop: vec![secret("age")], ..hot_with(schema(), 5, 400) };
    let stopped = answer(&engine, stop).text();
    assert!(whole.starts_with(&stopped) && !stopped.contains("age"));
}

#[test]
fn refuses_a_constraint_and_says_why() {
    let why = |constraint| refusal(hot_with(constraint, 1, 10));
    let one_of = Constraint::JsonSchema(secret(r#"{"oneOf":[{}]}"#));
    let keyword = ConstraintError::Keyword { keyword: "oneOf" };
    assert_eq!(why(one_of), EngineError::Constraint(keyword));
    let got = MAX_CONSTRAINT_BYTES + 1;
    let long = Constraint::Regex(secret(&"a".repeat(got)));
    assert_eq!(why(long), EngineError::Constraint(ConstraintError::TooLong { got }));
    let never = Constraint::JsonSchema(secret("false"));
    assert_eq!(why(never), EngineError::Constraint(ConstraintError::Unmeetable));
}

#[test]
fn a_call_that_has_to_be_is_written_as_the_family_writes_it() {
    let ask = |style| {
        let tool = (secret("f"), secret(r#"{"properties":{"n":{"enum":[1]}},"required":["n"]}"#));
        hot_with(Constraint::ToolCall(style, vec![tool]), 3, 100)
    };
    let engine = engine(&TinyModel::random(7));
    for (style, begin, end) in [
        (ToolStyle::Tagged, "<tool_call>\n{\"name\": \"f\", \"arguments\": {", "}}\n</tool_call>"),
        (ToolStyle::Bare, "{\"name\": \"f\", \"parameters\": {", "}}"),
        (ToolStyle::List, "[{\"name\": \"f\", \"arguments\": {", "}}]"),
        (ToolStyle::Named, "f[ARGS]{", "}"),
    ] {
        let text = answer(&engine, ask(style)).text();
        assert!(text.starts_with(begin) && text.ends_with(end), "{text}");
    }
}

#[test]
fn text_that_may_call_calls_once_at_most_at_a_high_temperature() {
    let engine = engine(&TinyModel::random(7));
    let mut called = 0;
    for seed in 0..20 {
        let tools = vec![(secret("f"), secret(r#"{"properties":{"n":{"enum":[1]}}}"#))];
        let may = Constraint::MayCall { style: ToolStyle::Bare, tools, parallel: false };
        // A brace is what a call begins with; before the bytes there are four other tokens.
        let brace = LogitBias { token: 4 + u32::from(b'{'), bias: 8.0 };
        let request = GenerateRequest { logit_bias: vec![brace], ..hot_with(may, seed, 60) };
        let text = answer(&engine, request).text();
        let Some(call) = text.trim_start().strip_prefix('{') else { continue };
        called += 1;
        assert!(call.starts_with("\"name\": \"f\", \"parameters\": {"), "{text}");
        assert_eq!(text.matches("name").count(), 1, "{text}");
    }
    assert!(called > 0, "none began with a brace: this shows nothing");
}
