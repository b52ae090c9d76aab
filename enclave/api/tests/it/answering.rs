//! Answers, byte for byte in the shapes the SDKs read, and read back.

use chrysalis_api::{Answer, Endpoint, FinishReason, Responder, TokenUsage};
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
    let json = responder(Endpoint::Chat).whole("hi \"you\"", FinishReason::Stop, &USAGE);
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
    assert_eq!(text(&r.open().unwrap()), chunk(r#"{"role":"assistant","content":""}"#, "null"));
    assert_eq!(text(&r.delta("a\n", None)), chunk(r#"{"content":"a\n"}"#, "null"));
    assert_eq!(text(&r.finish(FinishReason::Length)), chunk("{}", r#""length""#));
    assert!(r.usage(&USAGE).is_none(), "nobody asked for it");
}

#[test]
fn a_stream_with_usage_has_null_until_its_last_chunk() {
    let r = responder(Endpoint::Chat).with_usage(true);
    for json in [r.open().unwrap(), r.delta("a", None), r.finish(FinishReason::Stop)] {
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
    assert!(r.open().is_none());
    let json = |choice: &str, rest: &str| envelope("cmpl", "text_completion", choice, rest);
    assert_eq!(text(&r.delta("a", None)), json(&choice("a", "null"), ""));
    assert_eq!(text(&r.finish(FinishReason::Stop)), json(&choice("", r#""stop""#), ""));
    assert_eq!(
        text(&r.whole("ab", FinishReason::Stop, &USAGE)),
        json(&choice("ab", r#""stop""#), &format!(r#","usage":{USAGE_JSON}"#))
    );
}

#[test]
fn obfuscation_is_as_long_as_the_bytes_given_and_printable() {
    let random: Vec<u8> = (0..=255).collect();
    let json = text(&responder(Endpoint::Chat).delta("a", Some(&random)));
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
            r.delta("a\r\n\u{2028}\0", None),
            r.whole("\n\ndata: [DONE]\n\n", FinishReason::Stop, &USAGE),
        ] {
            assert!(!json.expose().iter().any(|b| *b < 0x20));
        }
    }
}

#[test]
fn reads_back_what_it_writes() {
    for endpoint in [Endpoint::Chat, Endpoint::Completions] {
        let r = responder(endpoint).with_usage(true);
        let whole = Answer::parse(r.whole("a\"😀", FinishReason::Length, &USAGE).expose()).unwrap();
        assert_eq!(whole.text.unwrap().expose(), "a\"😀");
        assert_eq!((whole.finish, whole.usage), (Some(FinishReason::Length), Some(USAGE)));

        let delta = Answer::parse(r.delta("b", Some(b"xyz")).expose()).unwrap();
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
        r#"{"choices":[{},{}]}"#,
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
