//! What is refused, with which code and about which field.

use chrysalis_api::limits::{
    MAX_CACHE_KEY_BYTES, MAX_CONTENT_PARTS, MAX_FIELDS, MAX_LOGIT_BIASES, MAX_MODEL_BYTES,
    MAX_STOP_BYTES, MAX_USER_BYTES, MIN_CACHE_KEY_BYTES,
};
use chrysalis_api::{ApiError, Endpoint, InferenceRequest};

use crate::{LIMITS, chat, chat_of, chat_with, completion, completion_with, parse};

/// Code and field of a refusal; the status must be 400.
fn refusal(result: Result<InferenceRequest, ApiError>) -> (&'static str, String) {
    let error = result.expect_err("accepted");
    assert_eq!(error.status(), 400, "{error}");
    (error.code(), error.param().unwrap_or_default().to_owned())
}

#[track_caller]
fn refused(result: Result<InferenceRequest, ApiError>, code: &str, param: &str) {
    let (got_code, got_param) = refusal(result);
    assert_eq!((got_code, &*got_param), (code, param));
}

#[test]
fn refuses_an_unknown_field_by_name() {
    refused(chat_with(r#","temprature":0.1"#), "unknown_parameter", "temprature");
    refused(completion_with(r#","messages":[]"#), "unknown_parameter", "messages");
    refused(
        chat_of(r#"[{"role":"user","content":"x","weight":1}]"#),
        "unknown_parameter",
        "messages[0].weight",
    );
    refused(
        chat_with(r#","stream":true,"stream_options":{"include_usag":true}"#),
        "unknown_parameter",
        "stream_options.include_usag",
    );
    refused(
        chat_of(r#"[{"role":"user","content":[{"type":"text","text":"a","x":1}]}]"#),
        "unknown_parameter",
        "messages[0].content[0].x",
    );
}

#[test]
fn refuses_what_is_not_supported_yet_by_name() {
    for name in ["functions", "function_call", "prediction", "metadata", "service_tier"] {
        refused(chat_with(&format!(r#","{name}":{{}}"#)), "unsupported_parameter", name);
    }
    refused(completion_with(r#","suffix":"x""#), "unsupported_parameter", "suffix");
    refused(
        chat_of(r#"[{"role":"user","content":"x","name":"n"}]"#),
        "unsupported_parameter",
        "messages[0].name",
    );
    refused(
        chat_of(r#"[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]"#),
        "unsupported_parameter",
        "messages[0].content[0].image_url",
    );
}

#[test]
fn refuses_values_that_are_not_supported_yet() {
    for (extra, param) in [
        (r#","store":true"#, "store"),
        (r#","response_format":{"type":"grammar"}"#, "response_format.type"),
    ] {
        refused(chat_with(extra), "unsupported_value", param);
    }
    refused(completion_with(r#","echo":true"#), "unsupported_value", "echo");
    refused(completion_with(r#","best_of":3"#), "unsupported_value", "best_of");
    refused(completion_with(r#","n":2,"best_of":3"#), "unsupported_value", "best_of");
}

#[test]
fn refuses_a_role_it_does_not_know() {
    for role in ["tools", "function", "User", ""] {
        refused(
            chat_of(&format!(r#"[{{"role":"{role}","content":"x"}}]"#)),
            "unsupported_value",
            "messages[0].role",
        );
    }
}

#[test]
fn refuses_a_content_part_that_is_not_text() {
    refused(
        chat_of(r#"[{"role":"user","content":[{"type":"audio","text":"x"}]}]"#),
        "unsupported_value",
        "messages[0].content[0].type",
    );
}

#[test]
fn refuses_a_repeated_field_wherever_it_is() {
    refused(chat_with(r#","model":"m""#), "duplicate_parameter", "model");
    refused(chat_with(r#","seed":1,"seed":1"#), "duplicate_parameter", "seed");
    refused(
        chat_of(r#"[{"role":"user","content":"a","content":"b"}]"#),
        "duplicate_parameter",
        "messages[0].content",
    );
}

/// `"\u006dodel"` is `"model"` in a second spelling.
#[test]
fn refuses_a_field_name_written_with_escapes() {
    let (code, _) = refusal(chat_with(r#","\u0073eed":1"#));
    assert_eq!(code, "unknown_parameter");
}

#[test]
fn refuses_a_missing_field_by_name() {
    let missing = "missing_required_parameter";
    refused(chat("{}"), missing, "model");
    refused(chat(r#"{"model":"m"}"#), missing, "messages");
    refused(completion(r#"{"model":"m"}"#), missing, "prompt");
    refused(chat_of(r#"[{"content":"x"}]"#), missing, "messages[0].role");
    refused(chat_of(r#"[{"role":"user"}]"#), missing, "messages[0].content");
    refused(chat_of(r#"[{"role":"user","content":null}]"#), missing, "messages[0].content");
    refused(chat(r#"{"model":null,"messages":[]}"#), missing, "model");
}

#[test]
fn refuses_values_of_the_wrong_type() {
    for (extra, param) in [
        (r#","temperature":"1""#, "temperature"),
        (r#","top_p":true"#, "top_p"),
        (r#","top_k":1.5"#, "top_k"),
        (r#","top_k":1e2"#, "top_k"),
        (r#","seed":"7""#, "seed"),
        (r#","logit_bias":[1]"#, "logit_bias"),
        (r#","logit_bias":{"1":"2"}"#, "logit_bias.1"),
        (r#","max_tokens":10.0"#, "max_tokens"),
        (r#","stream":1"#, "stream"),
        (r#","stop":7"#, "stop"),
        (r#","stop":["a",7]"#, "stop[1]"),
        (r#","user":7"#, "user"),
        (r#","response_format":"text""#, "response_format"),
        (r#","stream":true,"stream_options":[]"#, "stream_options"),
        (r#","n":"1""#, "n"),
    ] {
        refused(chat_with(extra), "invalid_type", param);
    }
    refused(chat_of("{}"), "invalid_type", "messages");
    refused(chat_of("[1]"), "invalid_type", "messages[0]");
    refused(chat_of(r#"[{"role":"user","content":1}]"#), "invalid_type", "messages[0].content");
    refused(chat_of(r#"[{"role":1,"content":"x"}]"#), "invalid_type", "messages[0].role");
    refused(completion(r#"{"model":"m","prompt":["p"]}"#), "invalid_type", "prompt");
    refused(chat("[]"), "invalid_type", "");
}

#[test]
fn refuses_numbers_outside_their_range() {
    for (extra, param) in [
        (r#","temperature":-0.1"#, "temperature"),
        (r#","temperature":2.0001"#, "temperature"),
        (r#","temperature":1e999"#, "temperature"),
        (r#","top_p":0"#, "top_p"),
        (r#","top_p":1e-60"#, "top_p"),
        (r#","top_p":1.1"#, "top_p"),
        (r#","top_k":0"#, "top_k"),
        (r#","min_p":-0.1"#, "min_p"),
        (r#","min_p":1.1"#, "min_p"),
        (r#","frequency_penalty":2.1"#, "frequency_penalty"),
        (r#","presence_penalty":-2.1"#, "presence_penalty"),
        (r#","logit_bias":{"1":100.5}"#, "logit_bias.1"),
        (r#","top_k":16777217"#, "top_k"),
        (r#","seed":9223372036854775808"#, "seed"),
        (r#","max_tokens":0"#, "max_tokens"),
        (r#","max_tokens":-1"#, "max_tokens"),
        (r#","max_tokens":99999999999999999999999999"#, "max_tokens"),
    ] {
        refused(chat_with(extra), "invalid_value", param);
    }
}

#[test]
fn refuses_a_logit_bias_that_names_no_token_or_one_twice() {
    for name in ["-1", "01", "+1", "one", "4294967296"] {
        let extra = format!(r#","logit_bias":{{"{name}":1}}"#);
        let error = chat_with(&extra).unwrap_err();
        assert_eq!(error.code(), "unknown_parameter", "{name}");
    }
    refused(chat_with(r#","logit_bias":{"1":1,"1":2}"#), "duplicate_parameter", "logit_bias.1");
    let many = |n: usize| {
        let list: Vec<_> = (0..n).map(|id| format!(r#""{id}":1"#)).collect();
        chat_with(&format!(r#","logit_bias":{{{}}}"#, list.join(",")))
    };
    assert_eq!(many(MAX_LOGIT_BIASES).unwrap().logit_bias.len(), MAX_LOGIT_BIASES);
    refused(many(MAX_LOGIT_BIASES + 1), "array_above_max_length", "logit_bias");
}

#[test]
fn refuses_one_token_more_than_the_worker_allows() {
    assert!(chat_with(r#","max_tokens":512"#).is_ok());
    let error = chat_with(r#","max_tokens":513"#).unwrap_err();
    assert_eq!(error.code(), "invalid_value");
    assert!(error.message().contains("between 1 and 512"), "{error}");
    refused(chat_with(r#","max_completion_tokens":513"#), "invalid_value", "max_completion_tokens");
}

#[test]
fn refuses_both_names_of_max_tokens_at_once() {
    refused(
        chat_with(r#","max_tokens":5,"max_completion_tokens":5"#),
        "invalid_parameter_combination",
        "max_tokens",
    );
}

#[test]
fn refuses_stream_options_without_a_stream() {
    let conflict = "invalid_parameter_combination";
    refused(chat_with(r#","stream_options":{}"#), conflict, "stream_options");
    refused(chat_with(r#","stream":false,"stream_options":{}"#), conflict, "stream_options");
}

#[test]
fn refuses_one_message_too_many() {
    let of = |n| chat_of(&format!("[{}]", vec![r#"{"role":"user","content":""}"#; n].join(",")));
    assert!(of(LIMITS.messages).is_ok());
    refused(of(LIMITS.messages + 1), "array_above_max_length", "messages");
}

#[test]
fn refuses_one_content_part_too_many() {
    let of = |n| {
        let parts = vec![r#"{"type":"text","text":""}"#; n].join(",");
        chat_of(&format!(r#"[{{"role":"user","content":[{parts}]}}]"#))
    };
    assert!(of(MAX_CONTENT_PARTS).is_ok());
    refused(of(MAX_CONTENT_PARTS + 1), "array_above_max_length", "messages[0].content");
}

#[test]
fn refuses_a_fifth_stop_string() {
    assert!(chat_with(r#","stop":["a","b","c","d"]"#).is_ok());
    refused(chat_with(r#","stop":["a","b","c","d","e"]"#), "array_above_max_length", "stop");
}

#[test]
fn refuses_a_stop_string_one_byte_too_long() {
    let of = |n| chat_with(&format!(r#","stop":["{}"]"#, "x".repeat(n)));
    assert!(of(MAX_STOP_BYTES).is_ok());
    refused(of(MAX_STOP_BYTES + 1), "string_above_max_length", "stop[0]");
}

#[test]
fn refuses_a_model_name_one_byte_too_long() {
    let of = |n| completion(&format!(r#"{{"model":"{}","prompt":"p"}}"#, "m".repeat(n)));
    assert!(of(MAX_MODEL_BYTES).is_ok());
    refused(of(MAX_MODEL_BYTES + 1), "string_above_max_length", "model");
}

#[test]
fn refuses_a_user_value_one_byte_too_long() {
    let of = |n| chat_with(&format!(r#","user":"{}""#, "u".repeat(n)));
    assert!(of(MAX_USER_BYTES).is_ok());
    refused(of(MAX_USER_BYTES + 1), "string_above_max_length", "user");
}

#[test]
fn refuses_a_priority_that_is_out_of_range_or_among_nobodys_requests() {
    let key = format!(r#","prompt_cache_key":"{}""#, "k".repeat(MIN_CACHE_KEY_BYTES));
    let of = |number: i32, key: &str| chat_with(&format!(r#","priority":{number}{key}"#));
    for number in [-128, -1, 0, 127] {
        assert_eq!(i32::from(of(number, &key).unwrap().priority), number);
    }
    for number in [-129, 128] {
        refused(of(number, &key), "invalid_value", "priority");
    }
    // What asks for nothing is accepted from everybody.
    assert_eq!(of(0, "").unwrap().priority, 0);
    refused(of(-1, ""), "invalid_parameter_combination", "priority");
    assert_eq!(completion_with(&format!(r#","priority":3{key}"#)).unwrap().priority, 3);
    let response = format!(r#"{{"model":"m","input":"x","priority":-3{key}}}"#);
    assert_eq!(parse(Endpoint::Responses, &response).unwrap().priority, -3);
}

#[test]
fn refuses_a_cache_key_that_could_be_guessed_and_one_a_byte_too_long() {
    let of = |n| chat_with(&format!(r#","prompt_cache_key":"{}""#, "k".repeat(n)));
    let key = of(MIN_CACHE_KEY_BYTES).unwrap().cache_key.unwrap();
    assert_eq!(key.expose(), "k".repeat(MIN_CACHE_KEY_BYTES));
    refused(of(MIN_CACHE_KEY_BYTES - 1), "unsupported_value", "prompt_cache_key");
    assert!(of(MAX_CACHE_KEY_BYTES).is_ok());
    refused(of(MAX_CACHE_KEY_BYTES + 1), "string_above_max_length", "prompt_cache_key");
    let completion = |key| completion(&format!(r#"{{"model":"m","prompt":"p"{key}}}"#)).unwrap();
    assert!(completion(r#","prompt_cache_key":null"#).cache_key.is_none());
    let key = format!(r#","prompt_cache_key":"{}""#, "k".repeat(MIN_CACHE_KEY_BYTES));
    assert!(completion(&key).cache_key.is_some());
}

#[test]
fn refuses_what_must_not_be_empty() {
    refused(chat_of("[]"), "empty_value", "messages");
    refused(chat_of(r#"[{"role":"user","content":[]}]"#), "empty_value", "messages[0].content");
    refused(chat_with(r#","stop":"""#), "empty_value", "stop");
    refused(completion(r#"{"model":"","prompt":"p"}"#), "empty_value", "model");
}

#[test]
fn refuses_an_object_with_one_field_too_many() {
    let of = |n| {
        let fields: Vec<_> = (0..n).map(|i| format!(r#""f{i}":1"#)).collect();
        chat(&format!("{{{}}}", fields.join(",")))
    };
    refused(of(MAX_FIELDS), "unknown_parameter", "f0");
    refused(of(MAX_FIELDS + 1), "array_above_max_length", "");
}

#[test]
fn refuses_a_body_one_byte_over_its_limit() {
    let mut body = r#"{"model":"m","prompt":"p"}"#.to_owned();
    body.push_str(&" ".repeat(LIMITS.request_bytes - body.len()));
    assert!(completion(&body).is_ok());
    body.push(' ');
    let error = completion(&body).unwrap_err();
    assert_eq!((error.status(), error.code()), (413, "request_too_large"));
}

#[test]
fn refuses_a_body_that_is_not_json() {
    for body in ["", "{", "{\"model\":}", "{} {}", "{\"a\":1,}", "nul", "{\"a\":\"\n\"}"] {
        refused(chat(body), "invalid_json", "");
    }
    let body = r#"{"model":"m","prompt":"p"}"#;
    for len in 0..body.len() {
        assert!(completion(&body[..len]).is_err(), "accepted {len} bytes");
    }
}

#[test]
fn refuses_a_body_that_is_not_utf8() {
    let body = b"{\"model\":\"m\",\"prompt\":\"\xff\"}";
    let error = InferenceRequest::parse(Endpoint::Completions, body, &LIMITS).unwrap_err();
    assert_eq!(error.code(), "invalid_json");
}

#[test]
fn refuses_half_a_surrogate_pair() {
    refused(
        chat_of(r#"[{"role":"user","content":"\ud83d"}]"#),
        "invalid_unicode",
        "messages[0].content",
    );
}

/// Deep nesting is skipped, not followed: the stack of this test is 64 KiB.
#[test]
fn refuses_deep_nesting_without_recursion() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let inside = move || {
        refused(chat_with(&format!(r#","x":{deep}"#)), "unknown_parameter", "x");
        refused(chat_of(&deep), "invalid_type", "messages[0]");
        refused(chat_with(&format!(r#","stop":{deep}"#)), "invalid_type", "stop[0]");
        refused(chat(&"{\"a\":".repeat(100_000)), "invalid_json", "");
    };
    std::thread::Builder::new().stack_size(64 * 1024).spawn(inside).unwrap().join().unwrap();
}

/// A text from the request stands wherever a text can stand; no refusal repeats it.
#[test]
fn no_refusal_quotes_the_request() {
    let canary = "my secret canary";
    let bodies = [
        format!(r#"{{"{canary}":1}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"{canary}","content":"x"}}]}}"#),
        format!(r#"{{"model":"m","messages":"{canary}"}}"#),
        format!(r#"{{"model":"m","messages":["{canary}"]}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","{canary}":"x"}}]}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":{{"{canary}":1}}}}]}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{canary}\ud800"}}]}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{canary}"}}],"x":1}}"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{canary}"}}]"#),
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{canary}" "#),
        format!(r#"{{"model":"m","temperature":"{canary}"}}"#),
        format!(r#"{{"model":"m","stop":["{canary}{}"]}}"#, "x".repeat(64)),
        format!(r#"{{"model":"m","stream":"{canary}"}}"#),
        format!(r#"{{"model":"m","response_format":{{"type":"{canary}"}}}}"#),
        format!(r#"{{"model":"m","user":"{}"}}"#, canary.repeat(100)),
        format!(r#"{{"model":"{}","messages":[]}}"#, canary.repeat(100)),
        canary.to_owned(),
        format!(r#""{canary}""#),
    ];
    for body in bodies {
        for endpoint in [Endpoint::Chat, Endpoint::Completions] {
            let error = crate::parse(endpoint, &body).expect_err(&body);
            let told = format!("{error} {error:?} {}", String::from_utf8_lossy(&error.to_json()));
            assert!(!told.contains("canary"), "{told}");
        }
    }
}

#[test]
fn refuses_more_alternatives_than_are_told_and_alternatives_without_log_probabilities() {
    refused(chat_with(r#","logprobs":true,"top_logprobs":21"#), "invalid_value", "top_logprobs");
    refused(chat_with(r#","logprobs":true,"top_logprobs":-1"#), "invalid_value", "top_logprobs");
    let alone = chat_with(r#","top_logprobs":1"#);
    refused(alone, "invalid_parameter_combination", "top_logprobs");
    refused(completion_with(r#","logprobs":6"#), "invalid_value", "logprobs");
    refused(completion_with(r#","logprobs":true"#), "invalid_type", "logprobs");
    refused(completion_with(r#","top_logprobs":1"#), "unknown_parameter", "top_logprobs");
}

#[test]
fn refuses_one_answer_too_many_none_and_more_tokens_for_all_than_one_request_may_take() {
    refused(chat_with(r#","n":9"#), "invalid_value", "n");
    refused(chat_with(r#","n":0"#), "invalid_value", "n");
    refused(chat_with(r#","n":1.5"#), "invalid_type", "n");
    assert!(chat_with(r#","n":8,"max_tokens":64"#).is_ok());
    refused(chat_with(r#","n":8,"max_tokens":65"#), "invalid_value", "max_tokens");
}

#[test]
fn refuses_two_constraints_on_one_answer_and_parts_of_none() {
    let conflict = "invalid_parameter_combination";
    let two = r#","response_format":{"type":"json_object"},"guided_regex":"a""#;
    refused(chat_with(two), conflict, "guided_regex");
    let other = r#","response_format":{"type":"text","json_schema":{}}"#;
    refused(chat_with(other), conflict, "response_format.json_schema");
    let schema = |inner: &str| {
        chat_with(&format!(r#","response_format":{{"type":"json_schema","json_schema":{inner}}}"#))
    };
    let path = |name| format!("response_format.json_schema.{name}");
    refused(schema(r#"{"schema":{}}"#), "missing_required_parameter", &path("name"));
    refused(schema(r#"{"name":"n"}"#), "missing_required_parameter", &path("schema"));
    refused(schema(r#"{"name":"n","schema":{},"strict":1}"#), "invalid_type", &path("strict"));
    refused(schema(r#"{"name":"n","schema":{},"x":1}"#), "unknown_parameter", &path("x"));
    refused(chat_with(r#","guided_choice":[]"#), "empty_value", "guided_choice");
    let two = r#","guided_grammar":"root ::= [a]","guided_choice":["a"]"#;
    refused(completion_with(two), conflict, "guided_grammar");
    refused(completion_with(r#","response_format":{}"#), "unknown_parameter", "response_format");
}

#[test]
fn refuses_a_constraint_one_past_its_limits() {
    let bytes = chrysalis_api::limits::MAX_CONSTRAINT_BYTES;
    let regex = |len| completion_with(&format!(r#","guided_regex":"{}""#, "a".repeat(len)));
    assert!(regex(bytes).is_ok());
    refused(regex(bytes + 1), "string_above_max_length", "guided_regex");
    let grammar = |len| completion_with(&format!(r#","guided_grammar":"{}""#, "a".repeat(len)));
    assert!(grammar(bytes).is_ok());
    refused(grammar(bytes + 1), "string_above_max_length", "guided_grammar");
    let schema =
        |len: usize| completion_with(&format!(r#","guided_json":"{}""#, "a".repeat(len - 2)));
    assert!(schema(bytes).is_ok());
    refused(schema(bytes + 1), "string_above_max_length", "guided_json");
    let texts = chrysalis_api::limits::MAX_GUIDED_CHOICES;
    let choice = |count| {
        completion_with(&format!(r#","guided_choice":[{}]"#, vec![r#""a""#; count].join(",")))
    };
    assert!(choice(texts).is_ok());
    refused(choice(texts + 1), "array_above_max_length", "guided_choice");
}

#[test]
fn refuses_tools_and_calls_that_are_none() {
    let tool = |function: &str| format!(r#"{{"type":"function","function":{function}}}"#);
    let tools = |list: &str| chat_with(&format!(r#","tools":[{list}]"#));
    let f = tool(r#"{"name":"f"}"#);
    assert!(tools(&f).is_ok());
    refused(tools(""), "empty_value", "tools");
    refused(tools(&format!("{f},{f}")), "duplicate_parameter", "tools[1]");
    refused(tools(r#"{"type":"custom","function":{}}"#), "unsupported_value", "tools[0].type");
    refused(tools(&tool(r#"{"name":"a b"}"#)), "invalid_value", "tools[0].function.name");
    refused(
        tools(&tool(r#"{"name":"f","parameters":[]}"#)),
        "invalid_type",
        "tools[0].function.parameters",
    );
    refused(tools(&tool(r#"{"name":"f","x":1}"#)), "unknown_parameter", "tools[0].function.x");
    refused(
        chat_with(r#","tool_choice":"required""#),
        "invalid_parameter_combination",
        "tool_choice",
    );
    assert!(chat_with(r#","tool_choice":"none""#).is_ok());
    let with = |more: &str| chat_with(&format!(r#","tools":[{f}],{more}"#));
    refused(with(r#""tool_choice":"some""#), "unsupported_value", "tool_choice");
    let other = r#""tool_choice":{"type":"function","function":{"name":"g"}}"#;
    refused(with(other), "unsupported_value", "tool_choice.function.name");
    refused(with(r#""logprobs":true"#), "invalid_parameter_combination", "tools");
    refused(with(r#""guided_regex":"a""#), "invalid_parameter_combination", "tools");
    let most = chrysalis_api::limits::MAX_TOOLS;
    let many = |count: usize| {
        (0..count).map(|n| tool(&format!(r#"{{"name":"f{n}"}}"#))).collect::<Vec<_>>().join(",")
    };
    assert!(tools(&many(most)).is_ok());
    refused(tools(&many(most + 1)), "array_above_max_length", "tools");
    let result = r#"[{"role":"tool","content":"x"}]"#;
    refused(chat_of(result), "missing_required_parameter", "messages[0].tool_call_id");
    let calls = r#"[{"role":"user","content":"x","tool_calls":[]}]"#;
    refused(chat_of(calls), "invalid_parameter_combination", "messages[0].tool_calls");
    let id = r#"[{"role":"user","content":"x","tool_call_id":"y"}]"#;
    refused(chat_of(id), "invalid_parameter_combination", "messages[0].tool_call_id");
}

#[test]
fn refuses_what_no_chat_template_is_told() {
    let kwargs = |told: &str| chat_with(&format!(r#","chat_template_kwargs":{told}"#));
    let field = "chat_template_kwargs.thinking";
    refused(kwargs(r#"{"thinking":true}"#), "unknown_parameter", field);
    let field = "chat_template_kwargs.enable_thinking";
    refused(kwargs(r#"{"enable_thinking":"no"}"#), "invalid_type", field);
}

#[test]
fn refuses_a_tool_and_a_call_one_past_each_of_their_limits() {
    use chrysalis_api::limits::{MAX_NAME_CHARS, MAX_TOOL_CALLS, MAX_TOOL_TEXT_BYTES};
    let long = "string_above_max_length";
    let tool = |name: usize, description: usize| {
        let (name, description) = ("f".repeat(name), "d".repeat(description));
        format!(
            r#"{{"type":"function","function":{{"name":"{name}","description":"{description}"}}}}"#
        )
    };
    let tools =
        |name, description| chat_with(&format!(r#","tools":[{}]"#, tool(name, description)));
    assert!(tools(MAX_NAME_CHARS, 1).is_ok());
    refused(tools(MAX_NAME_CHARS + 1, 1), long, "tools[0].function.name");
    // The description is bounded, and so is all that is told of a tool.
    let around = r#"{"name":"f","description":""}"#.len();
    assert!(tools(1, MAX_TOOL_TEXT_BYTES - around).is_ok());
    refused(tools(1, MAX_TOOL_TEXT_BYTES - around + 1), long, "tools[0].function");
    refused(tools(1, MAX_TOOL_TEXT_BYTES + 1), long, "tools[0].function.description");
    let called = |calls: usize, id: usize, name: usize| {
        let (id, name) = ("i".repeat(id), "f".repeat(name));
        let call = format!(
            r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{{}}"}}}}"#
        );
        let calls = vec![call; calls].join(",");
        chat_of(&format!(r#"[{{"role":"assistant","content":null,"tool_calls":[{calls}]}}]"#))
    };
    let function = "messages[0].tool_calls[0].function.name";
    assert!(called(1, 1, MAX_NAME_CHARS).is_ok());
    refused(called(1, 1, MAX_NAME_CHARS + 1), long, function);
    assert!(called(1, MAX_TOOL_TEXT_BYTES, 1).is_ok());
    refused(called(1, MAX_TOOL_TEXT_BYTES + 1, 1), long, "messages[0].tool_calls[0].id");
    assert!(called(MAX_TOOL_CALLS, 1, 1).is_ok());
    let many = called(MAX_TOOL_CALLS + 1, 1, 1);
    refused(many, "array_above_max_length", "messages[0].tool_calls");
    let result = |id: usize| {
        let id = "i".repeat(id);
        chat_of(&format!(r#"[{{"role":"tool","tool_call_id":"{id}","content":"x"}}]"#))
    };
    assert!(result(MAX_TOOL_TEXT_BYTES).is_ok());
    refused(result(MAX_TOOL_TEXT_BYTES + 1), long, "messages[0].tool_call_id");
    let format = |name: usize| {
        let name = "n".repeat(name);
        chat_with(&format!(
            r#","response_format":{{"type":"json_schema","json_schema":{{"name":"{name}","schema":{{}}}}}}"#
        ))
    };
    assert!(format(MAX_NAME_CHARS).is_ok());
    refused(format(MAX_NAME_CHARS + 1), long, "response_format.json_schema.name");
}
