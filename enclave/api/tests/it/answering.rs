//! Answers, byte for byte in the shapes the SDKs read, and read back.

use chrysalis_api::{
    Answer, Call, Completion, Endpoint, FinishReason, LoggedToken, Piece, Responder, TokenLogprob,
    TokenUsage, Whole,
};
use chrysalis_wire::{RequestId, SecretBytes, UnixTime};

const USAGE: TokenUsage = TokenUsage { prompt: 12, cached: 4, completion: 3, reasoning: 0 };
const USAGE_JSON: &str = concat!(
    r#"{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,"#,
    r#""prompt_tokens_details":{"cached_tokens":4},"#,
    r#""completion_tokens_details":{"reasoning_tokens":0}}"#
);

fn responder(endpoint: Endpoint) -> Responder {
    Responder::new(endpoint, RequestId([0xab; 16]), UnixTime(7), "m").with_fingerprint("fp")
}

fn text(json: &SecretBytes) -> String {
    String::from_utf8(json.expose().to_vec()).unwrap()
}

fn envelope(id: &str, object: &str, choices: &str, rest: &str) -> String {
    let id = format!("{id}-{}", "ab".repeat(16));
    format!(
        r#"{{"id":"{id}","object":"{object}","created":7,"model":"m","system_fingerprint":"fp","choices":[{choices}]{rest}}}"#
    )
}

#[test]
fn writes_a_whole_chat_completion() {
    let json = responder(Endpoint::Chat).whole(
        &[Whole {
            piece: Piece::text("hi \"you\""),
            reasoning: None,
            calls: &[],
            reason: FinishReason::Stop,
        }],
        &USAGE,
    );
    assert_eq!(
        text(&json),
        envelope(
            "chatcmpl",
            "chat.completion",
            concat!(
                r#"{"index":0,"message":{"role":"assistant","content":"hi \"you\"","refusal":null},"#,
                r#""logprobs":null,"finish_reason":"stop"}"#
            ),
            &format!(r#","usage":{USAGE_JSON}"#),
        )
    );
}

#[test]
fn writes_a_chat_stream() {
    let r = responder(Endpoint::Chat);
    let chunk = |delta: &str, finish: &str| {
        let choice =
            format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#);
        envelope("chatcmpl", "chat.completion.chunk", &choice, "")
    };
    assert_eq!(text(&r.open(0).unwrap()), chunk(r#"{"role":"assistant","content":""}"#, "null"));
    assert_eq!(text(&r.delta(0, Piece::text("a\n"), None)), chunk(r#"{"content":"a\n"}"#, "null"));
    assert_eq!(text(&r.finish(0, FinishReason::Length)), chunk("{}", r#""length""#));
    assert!(r.usage(&USAGE).is_none(), "nobody asked for it");
}

#[test]
fn a_stream_with_usage_has_null_until_its_last_chunk() {
    let r = responder(Endpoint::Chat).with_usage(true);
    for json in
        [r.open(0).unwrap(), r.delta(0, Piece::text("a"), None), r.finish(0, FinishReason::Stop)]
    {
        assert!(text(&json).ends_with(r#"],"usage":null}"#), "{}", text(&json));
    }
    assert_eq!(
        text(&r.usage(&USAGE).unwrap()),
        envelope("chatcmpl", "chat.completion.chunk", "", &format!(r#","usage":{USAGE_JSON}"#))
    );
}

#[test]
fn writes_text_completions_whole_and_streamed() {
    let r = responder(Endpoint::Completions);
    let choice = |text: &str, finish: &str| {
        format!(r#"{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{finish}}}"#)
    };
    assert!(r.open(0).is_none());
    let json = |choice: &str, rest: &str| envelope("cmpl", "text_completion", choice, rest);
    assert_eq!(text(&r.delta(0, Piece::text("a"), None)), json(&choice("a", "null"), ""));
    assert_eq!(text(&r.finish(0, FinishReason::Stop)), json(&choice("", r#""stop""#), ""));
    assert_eq!(
        text(&r.whole(
            &[Whole {
                piece: Piece::text("ab"),
                reasoning: None,
                calls: &[],
                reason: FinishReason::Stop
            }],
            &USAGE
        )),
        json(&choice("ab", r#""stop""#), &format!(r#","usage":{USAGE_JSON}"#))
    );
}

#[test]
fn obfuscation_is_as_long_as_the_bytes_given_and_printable() {
    let random: Vec<u8> = (0..=255).collect();
    let json = text(&responder(Endpoint::Chat).delta(0, Piece::text("a"), Some(&random)));
    let (_, field) = json.split_once(r#""obfuscation":""#).unwrap();
    let field = field.strip_suffix("\"}").unwrap();
    assert_eq!(field.len(), 256);
    assert!(field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
}

#[test]
fn every_answer_is_one_line() {
    for endpoint in [Endpoint::Chat, Endpoint::Completions] {
        let r = responder(endpoint);
        for json in [
            r.delta(0, Piece::text("a\r\n\u{2028}\0"), None),
            r.whole(
                &[Whole {
                    piece: Piece::text("\n\ndata: [DONE]\n\n"),
                    reasoning: None,
                    calls: &[],
                    reason: FinishReason::Stop,
                }],
                &USAGE,
            ),
        ] {
            assert!(!json.expose().iter().any(|b| *b < 0x20));
        }
    }
}

#[test]
fn reads_back_what_it_writes() {
    for endpoint in [Endpoint::Chat, Endpoint::Completions] {
        let r = responder(endpoint).with_usage(true);
        let whole = Answer::parse(
            r.whole(
                &[Whole {
                    piece: Piece::text("a\"😀"),
                    reasoning: None,
                    calls: &[],
                    reason: FinishReason::Length,
                }],
                &USAGE,
            )
            .expose(),
        )
        .unwrap();
        assert_eq!(whole.text.unwrap().expose(), "a\"😀");
        assert_eq!((whole.finish, whole.usage), (Some(FinishReason::Length), Some(USAGE)));

        let delta = Answer::parse(r.delta(0, Piece::text("b"), Some(b"xyz")).expose()).unwrap();
        assert_eq!(delta.text.unwrap().expose(), "b");
        assert_eq!((delta.finish, delta.usage), (None, None));

        let last = Answer::parse(r.usage(&USAGE).unwrap().expose()).unwrap();
        assert!(last.text.is_none());
        assert_eq!(last.usage, Some(USAGE));
    }
}

#[test]
fn refuses_answers_of_another_shape() {
    for json in [
        "",
        "[]",
        "{}",
        r#"{"choices":{}}"#,
        r#"{"choices":[7]}"#,
        r#"{"choices":[{},{},{},{},{},{},{},{},{}]}"#,
        r#"{"choices":[{"text":7}]}"#,
        r#"{"choices":[{"delta":"x"}]}"#,
        r#"{"choices":[],"choices":[]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":1}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":4294967296,"completion_tokens":1}}"#,
    ] {
        let error = Answer::parse(json.as_bytes()).expect_err(json);
        assert_eq!(error.code(), "E-ANSWER-SHAPE");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_not_quoted() {
    let json = r#"{"choices":[{"delta":"my secret canary"}]}"#;
    assert!(!Answer::parse(json.as_bytes()).unwrap_err().to_string().contains("canary"));
}

#[test]
fn refuses_an_answer_one_byte_over_its_limit() {
    let mut json = br#"{"choices":[]}"#.to_vec();
    json.resize(chrysalis_api::limits::MAX_ANSWER_BYTES, b' ');
    assert!(Answer::parse(&json).is_ok());
    json.push(b' ');
    assert!(Answer::parse(&json).is_err());
}

fn logprob(bytes: &[u8], control: bool, logprob: f32) -> TokenLogprob {
    TokenLogprob { bytes: bytes.to_vec().into(), control, logprob }
}

/// The text `a` and half a character, the first with two alternatives.
fn logged() -> Vec<LoggedToken> {
    let top = vec![logprob(b"a", false, -0.5), logprob(b"<|im_end|>", true, -1.0)];
    vec![
        LoggedToken { drawn: logprob(b"a", false, -0.5), offset: 0, top },
        LoggedToken {
            drawn: logprob(b"\xf0\x9f", false, -9999.0),
            offset: 1,
            top: vec![logprob(b"b", false, 0.0)],
        },
    ]
}

#[test]
fn log_probabilities_of_a_chat_have_bytes_where_there_is_text() {
    let tokens = logged();
    let piece = Piece { text: "a\u{fffd}", tokens: Some(&tokens) };
    let expected = concat!(
        r#""logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":["#,
        r#"{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"<|im_end|>","logprob":-1.0,"bytes":null}]},"#,
        r#"{"token":"bytes:\\xf0\\x9f","logprob":-9999.0,"bytes":[240,159],"#,
        r#""top_logprobs":[{"token":"b","logprob":0.0,"bytes":[98]}]}],"refusal":null}"#
    );
    let r = responder(Endpoint::Chat);
    for json in [
        r.delta(0, piece, None),
        r.whole(
            &[Whole { piece, reasoning: None, calls: &[], reason: FinishReason::Stop }],
            &USAGE,
        ),
    ] {
        assert!(text(&json).contains(expected), "{}", text(&json));
    }
    assert!(text(&r.finish(0, FinishReason::Stop)).contains(r#""logprobs":null"#));
}

#[test]
fn log_probabilities_of_a_completion_are_four_lists_side_by_side() {
    let tokens = logged();
    let piece = Piece { text: "a\u{fffd}", tokens: Some(&tokens) };
    let expected = concat!(
        r#""logprobs":{"tokens":["a","bytes:\\xf0\\x9f"],"token_logprobs":[-0.5,-9999.0],"#,
        r#""top_logprobs":[{"a":-0.5,"<|im_end|>":-1.0},{"b":0.0,"bytes:\\xf0\\x9f":-9999.0}],"#,
        r#""text_offset":[0,1]}"#
    );
    let r = responder(Endpoint::Completions);
    for json in [
        r.delta(0, piece, None),
        r.whole(
            &[Whole { piece, reasoning: None, calls: &[], reason: FinishReason::Stop }],
            &USAGE,
        ),
    ] {
        assert!(text(&json).contains(expected), "{}", text(&json));
    }
}

#[test]
fn several_choices_are_told_apart_by_their_index() {
    let r = responder(Endpoint::Completions);
    let whole =
        |text, reason| Whole { piece: Piece::text(text), reasoning: None, calls: &[], reason };
    let all = [whole("a", FinishReason::Stop), whole("b", FinishReason::Length)];
    let json = r.whole(&all, &USAGE);
    let both = concat!(
        r#"{"index":0,"text":"a","logprobs":null,"finish_reason":"stop"},"#,
        r#"{"index":1,"text":"b","logprobs":null,"finish_reason":"length"}"#
    );
    let usage = format!(r#","usage":{USAGE_JSON}"#);
    assert_eq!(text(&json), envelope("cmpl", "text_completion", both, &usage));
    let read = Answer::parse(json.expose()).unwrap();
    assert_eq!(read.text.unwrap().expose(), "a");
    assert_eq!(read.finish, Some(FinishReason::Length), "not all of it is complete");
    let chat = responder(Endpoint::Chat);
    for json in [
        chat.open(1).unwrap(),
        chat.delta(1, Piece::text("x"), None),
        chat.finish(1, FinishReason::Stop),
    ] {
        assert!(text(&json).contains(r#""choices":[{"index":1,"#), "{}", text(&json));
    }
}

#[test]
fn calls_of_tools_are_told_whole_and_in_a_stream() {
    let call = || Call { name: "f".into(), arguments: Completion::new(r#"{"a":"\""}"#.into()) };
    let json = |index: &str| {
        let id = format!("call-{}-0-0", "ab".repeat(16));
        format!(
            r#"{{{index}"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{\"a\":\"\\\"\"}}"}}}}"#
        )
    };
    let r = responder(Endpoint::Chat);
    let streamed = text(&r.call(0, 0, &call(), None));
    let delta = format!(r#""delta":{{"tool_calls":[{}]}}"#, json(r#""index":0,"#));
    assert!(streamed.contains(&delta) && !streamed.contains("obfuscation"), "{streamed}");
    let obfuscated = text(&r.call(0, 0, &call(), Some(b"xyz")));
    assert!(obfuscated.contains(&delta), "{obfuscated}");
    assert!(obfuscated.len() > streamed.len() + 3 && obfuscated.contains(r#""obfuscation":""#));
    let calls = [call()];
    let whole = Whole {
        piece: Piece::text(""),
        reasoning: None,
        calls: &calls,
        reason: FinishReason::ToolCalls,
    };
    let whole = r.whole(&[whole], &USAGE);
    let message = format!(
        r#""message":{{"role":"assistant","content":null,"refusal":null,"tool_calls":[{}]}},"logprobs":null,"finish_reason":"tool_calls""#,
        json("")
    );
    assert!(text(&whole).contains(&message), "{}", text(&whole));
    assert_eq!(Answer::parse(whole.expose()).unwrap().finish, Some(FinishReason::ToolCalls));
}

#[test]
fn reasoning_has_a_field_of_its_own() {
    let r = responder(Endpoint::Chat);
    let json = text(&r.reasoning(0, "so", None));
    assert!(json.contains(r#""delta":{"reasoning_content":"so"}"#), "{json}");
    let reasoning = Some("so");
    let whole =
        Whole { piece: Piece::text("a"), reasoning, calls: &[], reason: FinishReason::Stop };
    let json = text(&r.whole(&[whole], &USAGE));
    assert!(json.contains(r#""content":"a","refusal":null,"reasoning_content":"so"}"#), "{json}");
}
