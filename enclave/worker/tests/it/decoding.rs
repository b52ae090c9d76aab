//! Choices, answers that have to be something, tools and responses, through the sealed channel.

use std::collections::BTreeSet;

use chrysalis_api::limits::MAX_FIELDS;
use chrysalis_channel::{Frame, FrameKind, Header, PathId};
use chrysalis_engine::testing::{CHATML, TinyModel};
use chrysalis_receipt::Finish;
use chrysalis_worker::limits::Bounds;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

use crate::rig::{MODEL, Rig, engine, receipt, text};

async fn rig() -> Rig {
    let model = TinyModel::random(7).context(4096);
    Rig::start(Bounds::default(), Some(engine(&model))).await
}

/// A chat that is not streamed, with more fields.
fn chat(more: &Value) -> String {
    let mut chat = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 1.5,
        "seed": 4,
        "max_tokens": 200,
    });
    let fields = more.as_object().unwrap().clone();
    chat.as_object_mut().unwrap().extend(fields);
    chat.to_string()
}

/// The body of an answer that is not streamed.
fn body(frames: &[Frame]) -> Value {
    let kinds: Vec<_> = frames.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [FrameKind::Body, FrameKind::Receipt], "{}", text(frames));
    serde_json::from_slice(frames[0].payload.expose()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_choices_are_one_answer_and_one_receipt_with_all_their_tokens() {
    let rig = rig().await;
    let one = receipt(&rig.ask(1, &chat(&json!({"max_tokens": 9}))).await);
    let frames = rig.ask(2, &chat(&json!({"n": 3, "max_tokens": 9}))).await;
    let (answer, signed) = (body(&frames), receipt(&frames));
    let choices = answer["choices"].as_array().unwrap();
    let texts: BTreeSet<_> = choices.iter().map(|c| c["message"]["content"].as_str()).collect();
    assert_eq!((choices.len(), texts.len()), (3, 3));
    let usage = &signed.receipt().usage;
    assert_eq!(usage.prompt, one.receipt().usage.prompt, "the prompt is counted once");
    assert_eq!(answer["usage"]["completion_tokens"], json!(usage.completion));
    assert!(usage.completion > one.receipt().usage.completion);
    let streamed = rig.ask(3, &chat(&json!({"n": 3, "max_tokens": 9, "stream": true}))).await;
    assert_eq!(receipt(&streamed).receipt().usage.completion, usage.completion);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_choice_that_was_cut_makes_the_receipt_say_so() {
    let rig = rig().await;
    let choice =
        json!({"guided_choice": ["a", "bcdefghijklmnopqrstuvwxyz"], "n": 8, "max_tokens": 5});
    let frames = rig.ask(1, &chat(&choice)).await;
    let answer = body(&frames);
    let reasons: BTreeSet<_> =
        answer["choices"].as_array().unwrap().iter().map(|c| c["finish_reason"].as_str()).collect();
    assert_eq!(reasons, [Some("length"), Some("stop")].into(), "this seed gives both");
    assert_eq!(receipt(&frames).receipt().usage.finish, Finish::Length);
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_share_the_tokens_the_header_pays_for() {
    let rig = rig().await;
    let header = Header { max_tokens: 5, ..rig.header(1) };
    let (sealed, mut opener) = rig.seal_with(&header, &chat(&json!({"n": 2, "max_tokens": 3})));
    let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let frames = opener.push(&bytes).unwrap();
    assert_eq!((frames.len(), frames[0].kind), (1, FrameKind::Error));
    assert!(text(&frames).contains("max_tokens_exceeded"), "{}", text(&frames));
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_commit_to_what_an_answer_has_to_be() {
    let rig = rig().await;
    let mut hashes = BTreeSet::new();
    for (id, more) in (1..).zip([
        json!({}),
        json!({"n": 2}),
        json!({"guided_regex": "[ab]"}),
        json!({"guided_regex": "[ba]"}),
        json!({"guided_grammar": "root ::= [ab]"}),
        json!({"response_format": {"type": "json_object"}}),
    ]) {
        hashes.insert(receipt(&rig.ask(id, &chat(&more)).await).receipt().model.sampling_hash);
    }
    assert_eq!(hashes.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused_by_field_and_keyword_or_place_and_not_quoted() {
    let rig = rig().await;
    let schema = json!({"not": {"const": "canary-7319"}});
    let frames = rig.ask(1, &chat(&json!({"guided_json": schema}))).await;
    assert_eq!((frames.len(), frames[0].kind), (1, FrameKind::Error));
    let told = text(&frames);
    assert!(told.contains(r#""param":"guided_json""#) && told.contains(": not"), "{told}");
    assert!(!told.contains("canary-7319"), "{told}");
    let grammar = "root ::= \"a\"\nb ::= canary-7319";
    let told = text(&rig.ask(2, &chat(&json!({"guided_grammar": grammar}))).await);
    assert!(told.contains(r#""param":"guided_grammar""#), "{told}");
    assert!(told.contains("not defined (rule 2, line 2, column 7)"), "{told}");
    assert!(!told.contains("canary-7319"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_tool_is_called_whole_and_in_a_stream() {
    let rig = rig().await;
    let parameters =
        json!({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
    let with =
        |stream| chat(&json!({"tools": [tool], "tool_choice": "required", "stream": stream}));
    let frames = rig.ask(1, &with(false)).await;
    let choice = &body(&frames)["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let function = &choice["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    assert!(function["name"] == "f" && [json!(1), json!(2)].contains(&arguments["n"]));
    assert_eq!(receipt(&frames).receipt().usage.finish, Finish::Stop);
    let streamed = text(&rig.ask(2, &with(true)).await);
    assert!(streamed.contains(r#""tool_calls":[{"index":0,"#), "{streamed}");
    assert!(!streamed.contains("obfuscation"), "{streamed}");
    assert!(
        streamed.contains(r#""finish_reason":"tool_calls""#) && !streamed.contains("tool_call>")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_a_call_is_hidden_in_a_stream_that_asks_for_it() {
    let rig = rig().await;
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"enum": [{}]}}});
    let options = json!({"include_obfuscation": true});
    let asked = json!({"tools": [tool], "tool_choice": "required", "stream": true, "stream_options": options});
    let frames = rig.ask(1, &chat(&asked)).await;
    let calls =
        frames.iter().filter(|frame| text(std::slice::from_ref(frame)).contains("tool_calls\":["));
    let all = calls.map(|frame| text(std::slice::from_ref(frame))).collect::<Vec<_>>();
    assert!(all.len() == 1 && all[0].contains(r#""obfuscation":""#), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_told_as_events_and_whole() {
    let rig = Rig::saying(&["Hello", " there"]).await;
    let mut texts = Vec::new();
    for (id, stream) in [(1, false), (2, true)] {
        let header = Header { path: PathId::Responses, ..rig.header(id) };
        let json = json!({"model": MODEL, "input": "hi", "temperature": 0, "stream": stream});
        let (sealed, mut opener) = rig.seal_with(&header, &json.to_string());
        let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let frames = opener.push(&bytes).unwrap();
        assert_eq!(receipt(&frames).receipt().usage.finish, Finish::Stop);
        let (_, content) = frames.split_last().unwrap();
        let last: Value = serde_json::from_slice(content.last().unwrap().payload.expose()).unwrap();
        let response = if stream { &last["response"] } else { &last };
        assert_eq!((&last["type"] == "response.completed", content.len() > 1), (stream, stream));
        assert_eq!(response["status"], "completed");
        texts.push(response["output"][0]["content"][0]["text"].clone());
    }
    assert_eq!(texts, ["Hello there", "Hello there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_told_apart_where_the_template_knows_it_and_nowhere_else() {
    let pieces = ["<think>", "so", " then", "</think>", "\n\nYes"];
    let known = "{% for m in messages %}{{ m['role'] + ': ' + m['content'].split('</think>')[-1] }}\
        {% endfor %}{{ 'assistant: ' }}{# <think> #}";
    let begun = "{% for m in messages %}{{ m['content'] }}{% endfor %}{{ '<think>\n' }}";
    for (template, from, reasoning, content) in [
        (Some(known), 0, Some("so then"), "Yes"),
        (Some(begun), 1, Some("so then"), "Yes"),
        (None, 0, None, "<think>so then</think>\n\nYes"),
    ] {
        let model = TinyModel::scripted(&pieces[from..]);
        let model = template.map_or_else(|| TinyModel::scripted(&pieces), |t| model.template(t));
        let rig = Rig::start(Bounds::default(), Some(engine(&model))).await;
        let asked = |stream: bool| chat(&json!({"temperature": 0, "stream": stream}));
        let frames = rig.ask(1, &asked(false)).await;
        let message = &body(&frames)["choices"][0]["message"];
        assert_eq!(message["content"], content, "{template:?}");
        assert_eq!(message["reasoning_content"].as_str(), reasoning, "{template:?}");
        let streamed = rig.ask(2, &asked(true)).await;
        let (mut told, mut said) = (String::new(), String::new());
        for frame in streamed.iter().filter(|frame| frame.kind == FrameKind::Chunk) {
            let chunk: Value = serde_json::from_slice(frame.payload.expose()).unwrap();
            let delta = &chunk["choices"][0]["delta"];
            told += delta["reasoning_content"].as_str().unwrap_or_default();
            said += delta["content"].as_str().unwrap_or_default();
        }
        assert_eq!((said.as_str(), told.as_str()), (content, reasoning.unwrap_or_default()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_call_leaves_no_room_for_reasoning_even_where_the_prompt_begins_it() {
    let template = "{% for m in messages %}{{ m['content'] }}{% endfor %}\
        {% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}\
        {% else %}{{ '<think>\n' }}{% endif %}";
    let model = TinyModel::random(7).template(template).context(4096);
    let rig = Rig::start(Bounds::default(), Some(engine(&model))).await;
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"enum": [{}]}}});
    for (id, thinking) in (1..).zip([json!({}), json!({"enable_thinking": true})]) {
        let asked =
            json!({"tools": [tool], "tool_choice": "required", "chat_template_kwargs": thinking});
        let answer = body(&rig.ask(id, &chat(&asked)).await);
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{}");
        assert!(choice["message"].get("reasoning_content").is_none(), "{choice}");
    }
}

/// Templates that tell tools as the families do, and what a model of each says.
const BARE: &str = "{% if tools %}{{ tools | tojson(indent=4) }} ipython parameters{% endif %}\
    {% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}";
const LIST: &str = "{% if tools %}{{ tools | tojson }}[TOOL_CALLS]{% endif %}\
    {% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}";

const NAMED: &str = "{% if tools %}{{ tools | tojson }}[TOOL_CALLS]f[ARGS]{% endif %}\
    {% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}";

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_found_in_the_words_of_each_family_whole_and_in_a_stream() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let bare = [
        "{\"name\": \"f\", ",
        "\"parameters\"",
        ": {\"n\": 1}}",
        "; {\"name\":\"f\",\"parameters\":{}}",
    ];
    let list = [
        "[TOOL_",
        "CALLS][{\"name\"",
        ": \"f\", \"arguments\": {\"n\": 1}}",
        ", {\"arguments\":{},\"name\":\"f\"}]",
    ];
    let named = ["[TOOL_", "CALLS]f[AR", "GS]{\"n\": 1}", "[TOOL_CALLS]f[ARGS]{}"];
    for (template, said) in [(BARE, bare), (LIST, list), (NAMED, named)] {
        let model = TinyModel::scripted(&said).template(template);
        let rig = Rig::start(Bounds::default(), Some(engine(&model))).await;
        let with = |stream: bool| chat(&json!({"tools": [tool], "stream": stream}));
        let frames = rig.ask(1, &with(false)).await;
        let choice = &body(&frames)["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        let arguments: Vec<_> =
            calls.iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
        assert_eq!(arguments, ["{\"n\": 1}", "{}"]);
        let streamed = text(&rig.ask(2, &with(true)).await);
        assert!(streamed.contains(r#""tool_calls":[{"index":1,"#), "{streamed}");
        assert!(!streamed.contains("TOOL_CALLS") && !streamed.contains(r#""content":"{"#));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_call_that_was_not_cut_is_a_call_whatever_its_arguments_are() {
    let named = |names: Vec<String>| json!({"type": "object", "required": names, "additionalProperties": {"enum": [1]}});
    let schemas = [
        (json!({}), 4),
        (json!({"additionalProperties": {"enum": [1]}}), 4),
        (named(vec!["a\"\\\u{e9}\n".to_owned()]), 1),
        (json!({"properties": {"a": {"enum": ["</tool_call>"]}}, "required": ["a"]}), 1),
        // One more than a request may have, and an answer is none.
        (named((0..=MAX_FIELDS).map(|n| format!("{n}")).collect()), 1),
    ];
    let mut complete = 0;
    for template in [CHATML, BARE, LIST] {
        let model = TinyModel::random(5).template(template).context(4096);
        let rig = Rig::start(Bounds::default(), Some(engine(&model))).await;
        for (id, (parameters, choices)) in (1..).zip(&schemas) {
            let function = json!({"name": "f", "parameters": parameters});
            let tools = [json!({"type": "function", "function": function})];
            let asked = json!({"tools": tools, "tool_choice": "required", "n": choices, "max_tokens": 1000});
            let answer = body(&rig.ask(id, &chat(&asked)).await);
            for choice in answer["choices"].as_array().unwrap() {
                if choice["finish_reason"] == "length" {
                    assert_eq!(*choices, 4, "{parameters} has an end");
                    continue;
                }
                complete += 1;
                assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
                let call = &choice["message"]["tool_calls"][0]["function"];
                let arguments: Value =
                    serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
                assert!(call["name"] == "f" && arguments.is_object(), "{choice}");
            }
        }
    }
    assert!(complete > 3 * 3, "those without an end were all cut: {complete}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_call_comes_in_the_words_of_each_family() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"enum": [{}]}}});
    for template in [BARE, LIST, NAMED] {
        let model = TinyModel::random(5).template(template);
        let rig = Rig::start(Bounds::default(), Some(engine(&model))).await;
        let more = json!({"tools": [tool], "tool_choice": "required", "max_tokens": 100});
        let frames = rig.ask(1, &chat(&more)).await;
        let choice = &body(&frames)["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["name"], "f");
    }
}

/// A model that says two calls, in the words of each family, asked for one at most: what it would say
/// behind the first it cannot say.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_one_call_at_most_where_parallel_calls_are_off() {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    // No two tokens of a scripted model are the same.
    let [first, second] = ["{}", "{\"a\": 1}"];
    let tagged = |arguments| {
        format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {arguments}}}\n</tool_call>")
    };
    let bare = |arguments| format!("{{\"name\": \"f\", \"parameters\": {arguments}}}");
    let list = |arguments| format!("{{\"name\": \"f\", \"arguments\": {arguments}}}");
    let named = |arguments| format!("[TOOL_CALLS]f[ARGS]{arguments}");
    let strings = |texts: [&str; 4]| texts.map(str::to_owned);
    for (template, pieces) in [
        (None, strings(["So: ", &tagged(first), " and ", &tagged(second)])),
        (Some(BARE), strings([&bare(first), "; ", &bare(second), ""])),
        (Some(LIST), strings(["[TOOL_CALLS][", &list(first), ", ", &(list(second) + "]")])),
        (Some(NAMED), strings(["So: ", &named(first), &named(second), ""])),
    ] {
        let pieces: Vec<&String> = pieces.iter().filter(|piece| !piece.is_empty()).collect();
        let model = TinyModel::scripted(&pieces);
        let model = template.map_or_else(|| TinyModel::scripted(&pieces), |t| model.template(t));
        let rig = Rig::start(Bounds::default(), Some(engine(&model))).await;
        for (id, parallel, stream) in
            [(1, true, false), (2, false, false), (3, true, true), (4, false, true)]
        {
            let more = json!({"tools": [tool], "parallel_tool_calls": parallel, "stream": stream, "temperature": 0});
            let frames = rig.ask(id, &chat(&more)).await;
            let told = text(&frames);
            let calls = told.matches(r#""name":"f""#).count();
            assert_eq!(calls, if parallel { 2 } else { 1 }, "{template:?}: {told}");
            assert!(told.contains(r#""finish_reason":"tool_calls""#), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_tool_is_called_with_arguments_of_its_schema_or_not_at_all() {
    let tool = |strict: bool| {
        let parameters =
            json!({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]});
        json!({"type": "function", "function": {"name": "f", "strict": strict, "parameters": parameters}})
    };
    let wanted = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 7}}\n</tool_call>";
    let rig = Rig::saying(&[wanted]).await;
    for (id, strict) in [(1, false), (2, true)] {
        let frames = rig.ask(id, &chat(&json!({"tools": [tool(strict)], "temperature": 0}))).await;
        let calls = &body(&frames)["choices"][0]["message"]["tool_calls"];
        assert_eq!(calls[0]["function"]["arguments"] == "{\"n\": 7}", !strict, "{calls}");
    }
    let not = json!({"type": "function", "function": {"name": "f", "strict": true, "parameters": {"not": {}}}});
    let told = text(&rig.ask(3, &chat(&json!({"tools": [not]}))).await);
    assert!(told.contains(r#""param":"tools""#) && told.contains(": not"), "{told}");
}
