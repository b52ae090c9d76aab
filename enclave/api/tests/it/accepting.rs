//! What the official SDKs send, and what becomes of it.

use chrysalis_api::{Constraint, InferenceRequest, Input, Limits, LogitBias, Role, Sampling};
use chrysalis_wire::manifest::LimitsSection;

use crate::{chat, chat_of, chat_with, completion_with};

fn messages(request: InferenceRequest) -> Vec<(Role, String)> {
    let Input::Chat(messages) = request.input else { panic!("not a chat") };
    messages.iter().map(|m| (m.role, m.content.expose().to_owned())).collect()
}

#[test]
fn reads_a_chat_with_every_supported_field() {
    let r = chat(
        r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}],
        "temperature":0.7,"top_p":0.9,"top_k":40,"max_tokens":128,"stop":["\n\n","END"],"seed":42,
        "stream":true,"stream_options":{"include_usage":true,"include_obfuscation":true},"n":1,
        "user":"someone","logprobs":false,"response_format":{"type":"text"},
        "frequency_penalty":0.5,"presence_penalty":-2,"min_p":0.05,"logit_bias":{"50":-100,"7":1.5},
        "store":false}"#,
    )
    .unwrap();
    assert_eq!(r.model, "m");
    let sampling = Sampling {
        temperature: 0.7,
        top_p: 0.9,
        top_k: Some(40),
        min_p: 0.05,
        frequency_penalty: 0.5,
        presence_penalty: -2.0,
        seed: Some(42),
    };
    assert_eq!(r.sampling, sampling);
    let bias = |token, bias| LogitBias { token, bias };
    assert_eq!(r.logit_bias, [bias(7, 1.5), bias(50, -100.0)]);
    assert_eq!(r.stop.iter().map(|s| s.expose()).collect::<Vec<_>>(), ["\n\n", "END"]);
    assert_eq!(r.max_tokens, Some(128));
    assert!(r.stream && r.include_usage && r.include_obfuscation);
    assert_eq!(messages(r), [(Role::System, "s".into()), (Role::User, "u".into())]);
}

#[test]
fn what_is_left_out_has_openais_defaults() {
    let r = chat_with("").unwrap();
    let sampling = Sampling {
        temperature: 1.0,
        top_p: 1.0,
        top_k: None,
        min_p: 0.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        seed: None,
    };
    assert!(r.logit_bias.is_empty());
    assert_eq!(r.sampling, sampling);
    assert_eq!((r.max_tokens, r.stop.len()), (None, 0));
    assert!(!r.stream && !r.include_usage && !r.include_obfuscation);
    assert_eq!(completion_with("").unwrap().max_tokens, Some(16));
}

#[test]
fn null_means_left_out_even_for_what_is_not_supported() {
    let r = chat_with(
        r#","temperature":null,"stop":null,"stream":null,"stream_options":null,"n":null,
        "tools":null,"logit_bias":null,"max_tokens":null,"response_format":null,"user":null"#,
    );
    assert!(r.is_ok(), "{r:?}");
}

#[test]
fn the_message_of_an_answer_can_be_sent_back() {
    let r = chat_of(
        r#"[{"role":"user","content":"hi"},
        {"role":"assistant","content":"hello","reasoning_content":"so","refusal":null,"tool_calls":null,"audio":null},
        {"role":"developer","content":"d"}]"#,
    )
    .unwrap();
    let roles: Vec<_> = messages(r).into_iter().map(|m| m.0).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Developer]);
}

#[test]
fn the_message_that_an_sdks_helper_made_of_an_answer_can_be_sent_back() {
    for (parsed, read) in [("null", "null"), (r#"{"a":[1]}"#, r#"{"b":{}}"#)] {
        let call = format!(
            r#"{{"index":0,"id":"c","type":"function","function":{{"name":"f","arguments":"{{}}","parsed_arguments":{read}}}}}"#
        );
        let r = chat_of(&format!(
            r#"[{{"role":"assistant","content":"said","refusal":null,"parsed":{parsed},"tool_calls":[{call}]}},
            {{"role":"tool","tool_call_id":"c","content":"7"}}]"#
        ));
        let Input::Chat(messages) = r.unwrap().input else { panic!("no chat") };
        let (said, result) = (&messages[0], &messages[1]);
        // What the helpers read is in what the model wrote; it is told once.
        assert_eq!((said.content.expose(), said.calls[0].arguments.expose()), ("said", "{}"));
        assert_eq!(result.answers, said.calls[0].number);
    }
}

#[test]
fn text_parts_are_joined_with_a_line_break() {
    let r = chat_of(
        r#"[{"role":"user","content":[{"type":"text","text":"a"},{"text":"b","type":"text"}]}]"#,
    );
    assert_eq!(messages(r.unwrap()), [(Role::User, "a\nb".into())]);
}

#[test]
fn content_is_exactly_what_was_escaped() {
    let r = chat_of(r#"[{"role":"user","content":"\"\\\/\n\u00e4\ud83d\ude00 ä😀"}]"#);
    assert_eq!(messages(r.unwrap())[0].1, "\"\\/\nä😀 ä😀");
}

#[test]
fn both_names_of_max_tokens_are_read() {
    assert_eq!(chat_with(r#","max_tokens":5"#).unwrap().max_tokens, Some(5));
    assert_eq!(chat_with(r#","max_completion_tokens":6"#).unwrap().max_tokens, Some(6));
}

#[test]
fn one_stop_string_needs_no_list() {
    assert_eq!(chat_with(r#","stop":"x""#).unwrap().stop[0].expose(), "x");
    assert!(chat_with(r#","stop":[]"#).unwrap().stop.is_empty());
}

#[test]
fn a_negative_seed_is_its_twos_complement() {
    assert_eq!(chat_with(r#","seed":-1"#).unwrap().sampling.seed, Some(u64::MAX));
    assert_eq!(chat_with(r#","seed":9223372036854775807"#).unwrap().sampling.seed, Some(!0 >> 1));
}

#[test]
fn limits_of_a_manifest_are_the_limits_of_a_request() {
    let manifest = LimitsSection {
        request_bytes: 4096,
        context_tokens: 2048,
        completion_tokens: 7,
        concurrent_requests: 1,
    };
    let limits = Limits::from_manifest(&manifest);
    assert_eq!((limits.request_bytes, limits.completion_tokens), (4096, 7));
}

#[test]
fn log_probabilities_are_asked_for_in_the_words_of_each_endpoint() {
    let chat = |extra| chat_with(extra).unwrap().logprobs;
    assert_eq!(chat(""), None);
    assert_eq!(chat(r#","logprobs":false"#), None);
    assert_eq!(chat(r#","logprobs":true"#), Some(0));
    assert_eq!(chat(r#","logprobs":true,"top_logprobs":20"#), Some(20));
    let completion = |extra| completion_with(extra).unwrap().logprobs;
    assert_eq!(completion(""), None);
    assert_eq!(completion(r#","logprobs":0"#), Some(0));
    assert_eq!(completion(r#","logprobs":5"#), Some(5));
}

#[test]
fn several_answers_may_be_asked_for() {
    assert_eq!(chat_with("").unwrap().choices, 1);
    assert_eq!(chat_with(r#","n":8"#).unwrap().choices, 8);
    assert_eq!(completion_with(r#","n":2,"best_of":2"#).unwrap().choices, 2);
}

#[test]
fn what_an_answer_has_to_be_is_read_with_the_field_that_says_it() {
    let read = |extra: &str| chat_with(extra).unwrap().constraint;
    assert!(read(r#","response_format":{"type":"text"}"#).is_none());
    let object = read(r#","response_format":{"type":"json_object"}"#);
    assert!(matches!(object, Some((Constraint::JsonObject, "response_format"))));
    let schema =
        r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{ "a": 1}}}"#;
    let Some((Constraint::JsonSchema(schema), _)) =
        read(&format!(r#","response_format":{schema}"#))
    else {
        panic!("not a schema")
    };
    assert_eq!(schema.expose(), r#"{ "a": 1}"#, "as it stands");
    let Some((Constraint::Regex(pattern), field)) = read(r#","guided_regex":"a\u0062""#) else {
        panic!("not a pattern")
    };
    assert_eq!((pattern.expose(), field), ("ab", "guided_regex"));
    let grammar = completion_with(r#","guided_grammar":"root ::= [a]\n""#).unwrap().constraint;
    let Some((Constraint::Grammar(grammar), "guided_grammar")) = grammar else {
        panic!("not a grammar")
    };
    assert_eq!(grammar.expose(), "root ::= [a]\n");
    let choice = completion_with(r#","guided_choice":["yes","no"]"#).unwrap().constraint;
    assert!(matches!(choice, Some((Constraint::Choice(texts), _)) if texts.len() == 2));
}

const TOOL: &str = r#"{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{}},"strict":true}}"#;

#[test]
fn tools_are_introduced_in_the_system_message() {
    let mut r =
        chat_with(&format!(r#","tools":[{TOOL}],"tool_choice":"auto","parallel_tool_calls":true"#))
            .unwrap();
    let tools = r.tools.as_ref().unwrap();
    assert_eq!((tools.names(), tools.functions().count()), (vec!["f".to_owned()], 1));
    assert!(!tools.is_required(), "and what is called is kept to the schema, which is strict");
    assert!(matches!(r.constraint, Some((Constraint::MayCall { parallel: true, .. }, "tools"))));
    r.tell_tools();
    let told = messages(r);
    assert_eq!((told[0].0, told[1].0), (Role::System, Role::User));
    assert!(told[0].1.contains(
        r#"<tools>
{"name":"f","description":"d","parameters":{"type":"object","properties":{}},"strict":true}
</tools>"#
    ));
    let mine = chat(&format!(
        r#"{{"model":"m","messages":[{{"role":"system","content":"mine"}},{{"role":"user","content":"u"}}],"tools":[{TOOL}]}}"#
    ));
    let mut mine = mine.unwrap();
    mine.tell_tools();
    let mine = messages(mine);
    assert!(mine[0].1.starts_with("mine\n\n# Tools") && mine.len() == 2);
    let mut none = chat_with(&format!(r#","tools":[{TOOL}],"tool_choice":"none""#)).unwrap();
    none.tell_tools();
    assert!(none.tools.is_none() && messages(none).len() == 1, "they are not told");
}

#[test]
fn a_required_call_is_a_constraint() {
    let pairs = |choice: &str| {
        let other = TOOL.replace(r#""name":"f""#, r#""name":"g""#);
        let r = chat_with(&format!(r#","tools":[{TOOL},{other}],"tool_choice":{choice}"#)).unwrap();
        let Some((Constraint::ToolCall(pairs), "tools")) = r.constraint else { panic!("no call") };
        pairs.iter().step_by(2).map(|name| name.expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(pairs(r#""required""#), ["f", "g"]);
    assert_eq!(pairs(r#"{"type":"function","function":{"name":"g"}}"#), ["g"]);
}

#[test]
fn calls_and_results_are_told_as_the_model_writes_and_reads_them() {
    let call = |id: &str| {
        format!(
            r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{\"a\":1}}"}}}}"#
        )
    };
    let r = chat_of(&format!(
        r#"[{{"role":"user","content":"u"}},
        {{"role":"assistant","content":null,"tool_calls":[{},{}]}},
        {{"role":"tool","tool_call_id":"x","content":"one"}},
        {{"role":"tool","tool_call_id":"y","content":[{{"type":"text","text":"two"}}]}}]"#,
        call("x"),
        call("y")
    ));
    let mut r = r.unwrap();
    let Input::Chat(messages_of) = &r.input else { panic!("not a chat") };
    let numbers: Vec<_> = messages_of[1].calls.iter().map(|call| call.number).collect();
    let answers: Vec<_> = messages_of.iter().map(|message| message.answers).collect();
    assert_eq!((numbers, answers), (vec![1, 2], vec![0, 0, 1, 2]));
    r.tell_tools();
    let told = messages(r);
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>";
    assert_eq!(told[1], (Role::Assistant, format!("{one}\n{one}")));
    let results = "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>";
    assert_eq!(told[2..], [(Role::User, results.to_owned())], "one message for both");
}

#[test]
fn thinking_is_switched_by_the_field_the_templates_know() {
    let thinking = |more: &str| chat_with(more).unwrap().thinking;
    assert_eq!(thinking(""), None);
    assert_eq!(thinking(r#","chat_template_kwargs":{}"#), None);
    let told = |on| format!(r#","chat_template_kwargs":{{"enable_thinking":{on}}}"#);
    assert_eq!(thinking(&told(true)), Some(true));
    assert_eq!(thinking(&told(false)), Some(false));
}

#[test]
fn calls_that_are_free_are_kept_to_one_or_to_strict_schemas_if_the_request_says_so() {
    let tool = |name: &str, more: &str| {
        format!(
            r#"{{"type":"function","function":{{"name":"{name}","parameters":{{"type":"object","x":1}}{more}}}}}"#
        )
    };
    let (free, strict) = (tool("f", ""), tool("g", r#","strict":true"#));
    let read = |tools: &str, more: &str| {
        let r = chat_with(&format!(r#","tools":[{tools}]{more}"#)).unwrap();
        match r.constraint {
            Some((Constraint::MayCall { pairs, parallel }, "tools")) => {
                let texts = pairs.iter().map(|text| text.expose().to_owned()).collect::<Vec<_>>();
                Some((texts.join(" "), parallel))
            }
            None => None,
            other => panic!("{other:?}"),
        }
    };
    let any = r#"{"type":"object"}"#;
    let kept = r#"{"type":"object","x":1}"#;
    assert_eq!(read(&free, ""), None);
    assert_eq!(read(&free, r#","parallel_tool_calls":true"#), None);
    let single = r#","parallel_tool_calls":false"#;
    assert_eq!(read(&free, single), Some((format!("f {any}"), false)));
    let both = format!("{free},{strict}");
    assert_eq!(read(&both, ""), Some((format!("f {any} g {kept}"), true)));
    assert_eq!(read(&both, single), Some((format!("f {any} g {kept}"), false)));
    let none = format!(r#","tools":[{both}],"tool_choice":"none"{single}"#);
    assert!(chat_with(&none).unwrap().constraint.is_none());
    let bytes = |more: &str| {
        let r = chat_with(&format!(r#","tools":[{strict}]{more}"#)).unwrap();
        r.canonical_sampling_bytes().expose().to_vec()
    };
    assert_ne!(bytes(""), bytes(single), "receipts tell them apart");
}
