//! Tools, calls and results in the chat templates of each family, in short templates of our own that use the
//! same constructs as the published ones.

use super::*;
use crate::defuse::{self, TokenTable};
use crate::error::TemplateError;
use crate::request::ToolCall;
use crate::template::ChatTemplate;
use crate::tool_style::ToolStyle;

/// Qwen3: one tool a line, calls between tags, results in a row in one message of the user.
const QWEN: &str = include_str!("../../../tests/parity/templates/qwen-3-tools.jinja");

/// Llama 3.1: tools with four spaces in the first question, one call at a time, results as `ipython`.
const LLAMA: &str = include_str!("../../../tests/parity/templates/llama-3-tools.jinja");

/// Mistral: tools before the last question, field by field, ids of nine characters, calls as a list.
const MISTRAL: &str = include_str!("../../../tests/parity/templates/mistral-tools.jinja");

const TOOL: &str = r#"{"name":"f","description":"<Ü>","parameters":{"type":"object","required":[],"properties":{"b":{},"a":{"enum":[1,2.5,true,null]}}}}"#;

fn compiled(source: &str) -> ChatTemplate {
    ChatTemplate::compile(source.into(), "<s>", "</s>").unwrap()
}

fn said(role: Role, content: &str) -> ChatMessage {
    ChatMessage::new(role, content.as_bytes().to_vec().into())
}

fn call(number: u32, arguments: &str) -> ToolCall {
    let bytes = |text: &str| text.as_bytes().to_vec().into();
    ToolCall { number, name: bytes("f"), arguments: bytes(arguments) }
}

/// A question, `calls` of one tool, a result for each, and an answer.
fn talk(calls: u32) -> Conversation {
    let arguments = r#"{"b": "x", "a": 1}"#;
    let made = (1..=calls).map(|number| call(number, arguments)).collect();
    let mut messages =
        vec![said(Role::User, "One?"), ChatMessage { calls: made, ..said(Role::Assistant, "") }];
    let result = |answers| ChatMessage { answers, ..said(Role::Tool, "7") };
    messages.extend((1..=calls).map(result));
    let tools = vec![TOOL.as_bytes().to_vec().into()];
    Conversation { messages, tools, ..Conversation::default() }
}

fn render(template: &ChatTemplate, talk: &Conversation) -> Result<String, TemplateError> {
    template.check(talk)?;
    let told = Told::new(talk, template.style(), &|text| Value::from(text)).unwrap();
    template.render_told(&told).map(|out| out.to_string())
}

#[test]
fn qwen_is_told_tools_by_the_line_and_calls_and_results_between_tags() {
    let template = compiled(QWEN);
    assert_eq!(template.style(), ToolStyle::Tagged);
    let tool = r#"{"type": "function", "function": {"name": "f", "description": "<Ü>", "parameters": {"type": "object", "required": [], "properties": {"b": {}, "a": {"enum": [1, 2.5, true, null]}}}}}"#;
    let one = r#"<tool_call>{"name": "f", "arguments": {"b": "x", "a": 1}}</tool_call>"#;
    let out = render(&template, &talk(2)).unwrap();
    let expected = format!(
        "<|im_start|>system\n<tools>\n{tool}\n</tools> in <tool_call></tool_call><|im_end|>\n\
         <|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n{one}{one}<|im_end|>\n\
         <|im_start|>user\n<tool_response>7</tool_response>\n<tool_response>7</tool_response>\
         <|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(out, expected);
}

#[test]
fn qwen_is_told_whether_to_think_and_who_does_not_know_that_refuses_it() {
    let with = |thinking| Conversation { thinking, ..talk(0) };
    let end = |thinking| {
        let out = render(&compiled(QWEN), &with(thinking)).unwrap();
        out.split("<|im_start|>assistant\n").last().unwrap().to_owned()
    };
    assert_eq!((end(None), end(Some(true))), (String::new(), String::new()));
    assert_eq!(end(Some(false)), "<think>\n\n</think>\n\n");
    let refused = render(&compiled(LLAMA), &with(Some(true)));
    assert_eq!(refused, Err(TemplateError::NoThinkingSwitch));
}

#[test]
fn llama_is_told_tools_with_four_spaces_and_takes_one_call_at_a_time() {
    let template = compiled(LLAMA);
    assert_eq!(template.style(), ToolStyle::Bare);
    let out = render(&template, &talk(1)).unwrap();
    let lines = "\n            \"type\": \"object\",\n            \"required\": [],\n            \"properties\": {\n                \"b\": {},\n";
    assert!(out.contains(lines), "{out}");
    let rest = "\nuser: One?\n{\"name\": \"f\", \"parameters\": {\"b\": \"x\", \"a\": 1}}\nipython: \"7\"\nassistant: ";
    assert!(out.ends_with(rest), "{out}");
    let without =
        Conversation { messages: vec![said(Role::User, "Hi")], ..Conversation::default() };
    assert_eq!(render(&template, &without).unwrap(), "\nuser: Hi\nassistant: ");
}

#[test]
fn several_calls_of_llama_are_told_one_by_one_each_with_its_result() {
    let template = compiled(LLAMA);
    let call = "\n{\"name\": \"f\", \"parameters\": {\"b\": \"x\", \"a\": 1}}";
    let mut several = talk(3);
    // Results in another order, one of no call, and a call without a result.
    several.messages.truncate(2);
    let of = |answers, text| ChatMessage { answers, ..said(Role::Tool, text) };
    several.messages.extend([of(3, "third"), of(9, "stray"), of(1, "first")]);
    several.messages.push(said(Role::User, "And?"));
    let out = render(&template, &several).unwrap();
    let [first, third, stray] =
        ["first", "third", "stray"].map(|text| format!("\nipython: \"{text}\""));
    let expected =
        format!("\nuser: One?{call}{first}{call}{call}{third}{stray}\nuser: And?\nassistant: ");
    assert!(out.ends_with(&expected), "{out}");
    assert!(render(&template, &talk(2)).is_ok());
    // What was said with the calls is said once.
    let says =
        "{% for m in messages %}{{ m.content }}|{{ (m.tool_calls or []) | length }};{% endfor %}";
    let says =
        format!("{says}{{% if tools %}}{{{{ tools | tojson }}}}ipython parameters{{% endif %}}");
    let mut spoken = talk(2);
    spoken.messages[1].content = b"So".to_vec().into();
    let out = render(&compiled(&says), &spoken).unwrap();
    assert!(out.starts_with("One?|0;So|1;7|0;|1;7|0;"), "{out}");
}

#[test]
fn mistral_is_told_tools_before_the_last_question_and_calls_as_a_list() {
    let template = compiled(MISTRAL);
    assert_eq!(template.style(), ToolStyle::List);
    let out = render(&template, &talk(2)).unwrap();
    let tools = r#"[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "f", "description": "<Ü>", "parameters": {"type": "object", "#;
    assert!(out.starts_with(tools), "{out}");
    for part in [
        r#"[INST]One?[/INST][TOOL_CALLS][{"name": "f", "arguments": {"b": "x", "a": 1}, "id": "call00001"}, {"#,
        r#""id": "call00002"}]</s>[TOOL_RESULTS]{"content": 7, "call_id": "call00001"}"#,
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
}

/// Newer models of Mistral: each call behind a token of its own, its name before its arguments.
#[test]
fn newer_models_of_mistral_write_calls_by_name() {
    let start = MISTRAL.find("{{- '[TOOL_CALLS][' }}").unwrap();
    let end = MISTRAL.find("{{- ']' + eos_token }}").unwrap();
    let calls = "{%- for tool_call in message.tool_calls %}\
            {{- '[TOOL_CALLS]' + tool_call.function.name + '[ARGS]' }}\
            {{- tool_call.function.arguments | tojson }}\
        {%- endfor %}{{- eos_token }}";
    let end = end + "{{- ']' + eos_token }}".len();
    let newer = [&MISTRAL[..start], calls, &MISTRAL[end..]].concat();
    let template = compiled(&newer);
    assert_eq!(template.style(), ToolStyle::Named);
    let out = render(&template, &talk(2)).unwrap();
    let call = r#"[TOOL_CALLS]f[ARGS]{"b": "x", "a": 1}"#;
    assert!(out.contains(&format!("[/INST]{call}{call}</s>[TOOL_RESULTS]")), "{out}");
}

#[test]
fn a_template_that_names_tools_without_telling_them_knows_none() {
    for source in [
        crate::testing::CHATML,
        "{% if tools %}<tool_call>{% endif %}{{ messages[0].content }}",
        "{% if tools %}{{ raise_exception('none') }}{% endif %}{{ messages[0].content }}",
        "{{ messages[0].content }}{% if tools %}{{ tools | tojson }}{% endif %}",
    ] {
        let template = compiled(source);
        assert_eq!(template.style(), ToolStyle::Told, "{source}");
        assert_eq!(render(&template, &talk(1)), Err(TemplateError::NoTools), "{source}");
    }
    let between = MISTRAL.replace("[TOOL_CALLS][", "[TOOL_CALLS]f[CALL_ID]x[ARGS]");
    assert_eq!(compiled(&between).style(), ToolStyle::Told);
    // Qwen3-Coder and GLM 4.5 write something else between the same tags.
    for other in ["<function=f>\\n<parameter=a>", "f\\n<arg_key>a</arg_key>"] {
        let coder =
            QWEN.replace("<tool_call></tool_call>", &format!("<tool_call>{other}</tool_call>"));
        assert_ne!(coder, QWEN);
        assert_eq!(compiled(&coder).style(), ToolStyle::Told, "{other}");
    }
}

#[test]
fn no_part_of_a_tool_or_a_call_becomes_a_control_token() {
    let controls = TokenTable::new([("<|im_end|>".to_owned(), 1)]);
    let canary = "<|im_end|>";
    let tool = format!(r#"{{"name":"f","description":"{canary}","{canary}":["{canary}"]}}"#);
    let arguments = [format!(r#"{{"{canary}":"{canary}"}}"#), canary.to_owned()];
    let calls = arguments.iter().map(|arguments| call(1, arguments)).collect();
    let conversation = Conversation {
        messages: vec![
            ChatMessage { calls, ..said(Role::Assistant, canary) },
            said(Role::Tool, canary),
        ],
        tools: vec![tool.into_bytes().into()],
        ..Conversation::default()
    };
    let defuse = |text: &str| Value::from(defuse::defuse(text, &controls).as_str());
    let told = Told::new(&conversation, ToolStyle::Tagged, &defuse).unwrap();
    let out = compiled(QWEN).render_told(&told).unwrap();
    assert_eq!(
        out.matches(canary).count(),
        3,
        "the template's own: of the system, the assistant, the user"
    );
    assert_eq!(defuse::restore(&out).matches(canary).count(), 3 + 8);
}

#[test]
fn numbers_are_written_as_python_does_and_text_only_as_it_is() {
    let json = |text: &str| {
        let value = json(&serde_json::from_str(text).unwrap(), &|text| Value::from(text));
        to_json(&value, Kwargs::from_iter([("ensure_ascii", Value::from(false))])).unwrap()
    };
    for (text, written) in [
        ("[0, -7, 18446744073709551615]", "[0, -7, 18446744073709551615]"),
        ("[1.0, -0.0, 2.50, 0.0001]", "[1.0, -0.0, 2.5, 0.0001]"),
        ("[1e15, 1e16, 1.5e300]", "[1000000000000000.0, 1e+16, 1.5e+300]"),
        ("[1e-5, 1.25e-7, 5e-324]", "[1e-05, 1.25e-07, 5e-324]"),
    ] {
        assert_eq!(json(text), written);
    }
    let escaped = Kwargs::from_iter([("ensure_ascii", Value::from(true))]);
    assert!(to_json(&Value::from("é"), escaped).is_err(), "it would not be escaped");
}

#[test]
fn refuses_a_tool_that_is_no_json() {
    let tools = vec![TOOL.as_bytes().to_vec().into(), b"{".to_vec().into()];
    let conversation = Conversation { tools, ..Conversation::default() };
    let refused = Told::new(&conversation, ToolStyle::Tagged, &|text| Value::from(text)).err();
    assert_eq!(refused, Some(EngineError::ToolNotJson { index: 1 }));
}

#[test]
fn an_object_of_many_names_takes_no_longer_than_it_is_long() {
    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("\"aaaa{n}\":1")).collect();
        format!("{{{}}}", names.join(","))
    };
    let begun = std::time::Instant::now();
    let mut long = talk(1);
    long.messages[1].calls = vec![call(1, &many(20_000))];
    let out = render(&compiled(QWEN), &long).unwrap();
    assert!(out.contains("\"aaaa0\": 1, \"aaaa1\": 1") && out.contains("\"aaaa19999\": 1}"));
    let value: serde_json::Value = serde_json::from_str(&many(100_000)).unwrap();
    let value = json(&value, &|text| Value::from(text));
    let told =
        value.try_iter().unwrap().filter(|name| value.get_item(name).unwrap() == Value::from(1));
    assert_eq!(told.count(), 100_000);
    // Each name was once compared with all before it: five thousand million comparisons.
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}
