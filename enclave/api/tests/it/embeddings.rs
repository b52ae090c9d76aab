//! `/v1/embeddings`: every form of input, what is written, what is read back, and what is refused.

use chrysalis_api::limits::{
    MAX_ANSWER_BYTES, MAX_EMBEDDING_INPUTS, MAX_EMBEDDING_TOKENS, MAX_MODEL_BYTES, MAX_USER_BYTES,
};
use chrysalis_api::{
    Answer, ApiError, EmbeddingInput, EmbeddingRequest, EncodingFormat, FinishReason, TokenUsage,
    Vectors, embeddings_json,
};

use proptest::prelude::*;

use crate::LIMITS;

fn parse(fields: &str) -> Result<EmbeddingRequest, ApiError> {
    EmbeddingRequest::parse(format!(r#"{{"model":"m",{fields}}}"#).as_bytes(), &LIMITS)
}

/// The inputs, as JSON.
fn inputs(input: &str) -> Vec<serde_json::Value> {
    let plain = |input: &EmbeddingInput| match input {
        EmbeddingInput::Text(text) => text.expose().into(),
        EmbeddingInput::Tokens(ids) => ids.to_vec().into(),
    };
    let request = parse(&format!(r#""input":{input}"#)).unwrap();
    request.inputs.iter().map(plain).collect()
}

#[test]
fn takes_a_string_strings_tokens_and_lists_of_tokens() {
    for (input, expected) in [
        (r#""a\u00e4""#, r#"["aä"]"#),
        (r#"[ "a" , "b" ]"#, r#"["a","b"]"#),
        ("[ 1,2 ]", "[[1,2]]"),
        ("[[1], [ 2,3]]", "[[1],[2,3]]"),
        (r#"["a",[1]]"#, r#"["a",[1]]"#),
    ] {
        let expected: Vec<serde_json::Value> = serde_json::from_str(expected).unwrap();
        assert_eq!(inputs(input), expected, "{input}");
    }
}

#[test]
fn refuses_every_other_form_by_the_name_of_its_field() {
    for (fields, code, param) in [
        (r#""user":"u""#, "missing_required_parameter", "input"),
        (r#""input":null"#, "missing_required_parameter", "input"),
        (r#""input":5"#, "invalid_type", "input"),
        (r#""input":{}"#, "invalid_type", "input"),
        (r#""input":"""#, "empty_value", "input"),
        (r#""input":[]"#, "empty_value", "input"),
        (r#""input":["a",""]"#, "empty_value", "input[1]"),
        (r#""input":[[1],[]]"#, "empty_value", "input[1]"),
        (r#""input":["a",5]"#, "invalid_type", "input[1]"),
        (r#""input":[5,"a"]"#, "invalid_type", "input[1]"),
        (r#""input":[5,[5]]"#, "invalid_type", "input[1]"),
        (r#""input":[[5,"a"]]"#, "invalid_type", "input[0][1]"),
        (r#""input":[-1]"#, "invalid_value", "input[0]"),
        (r#""input":[4294967296]"#, "invalid_value", "input[0]"),
        (r#""input":[1.5]"#, "invalid_type", "input[0]"),
        (r#""input":"a","encoding_format":"int8""#, "unsupported_value", "encoding_format"),
        (r#""input":"a","encoding_format":7"#, "unsupported_value", "encoding_format"),
        (r#""input":"a","dimensions":64"#, "unsupported_parameter", "dimensions"),
        (r#""input":"a","user":7"#, "invalid_type", "user"),
        (r#""input":"a","temperature":0"#, "unknown_parameter", "temperature"),
        (r#""input":"a","stream":true"#, "unknown_parameter", "stream"),
    ] {
        let error = parse(fields).unwrap_err();
        assert_eq!((error.code(), error.param()), (code, Some(param)), "{fields}");
    }
    assert!(parse(r#""input":"a","dimensions":null,"user":"u""#).is_ok());
}

#[test]
fn every_limit_holds_one_past_it() {
    let texts = |count: usize| parse(&format!(r#""input":[{}]"#, vec![r#""a""#; count].join(",")));
    assert_eq!(texts(MAX_EMBEDDING_INPUTS).unwrap().inputs.len(), MAX_EMBEDDING_INPUTS);
    assert_eq!(texts(MAX_EMBEDDING_INPUTS + 1).unwrap_err().code(), "array_above_max_length");
    for around in [["", ""], ["[", "]"]] {
        let tokens = |count: usize| {
            let [open, close] = around;
            let ids = vec!["7"; count].join(",");
            parse(&format!(r#""input":{open}[{ids}]{close}"#))
        };
        assert!(tokens(MAX_EMBEDDING_TOKENS).is_ok());
        let error = tokens(MAX_EMBEDDING_TOKENS + 1).unwrap_err();
        assert_eq!(error.code(), "array_above_max_length");
    }
    let user = |len: usize| parse(&format!(r#""input":"a","user":"{}""#, "u".repeat(len)));
    assert!(user(MAX_USER_BYTES).is_ok());
    assert_eq!(user(MAX_USER_BYTES + 1).unwrap_err().code(), "string_above_max_length");
}

#[test]
fn what_changes_the_answer_has_one_documented_encoding() {
    let bytes = |more: &str| parse(&format!(r#""input":"a"{more}"#)).unwrap().canonical_bytes();
    assert_eq!(bytes(""), b"chrysalis/embeddings/v1\0");
    assert_eq!(bytes(r#","encoding_format":"float","user":"u""#), b"chrysalis/embeddings/v1\0");
    assert_eq!(bytes(r#","encoding_format":"base64""#), b"chrysalis/embeddings/v1\x01");
}

#[test]
fn is_written_in_the_shape_the_sdks_read() {
    let vectors: [&[f32]; 2] = [&[0.5, -1.0, 0.1], &[1e-20, 0.0, 3.0]];
    let json = embeddings_json("m", &vectors, EncodingFormat::Float, 7);
    assert_eq!(
        core::str::from_utf8(json.expose()).unwrap(),
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1.0,0.1]},{"object":"embedding","index":1,"embedding":[1e-20,0.0,3.0]}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#
    );
    let read = Vectors::parse(json.expose(), 2).unwrap();
    assert_eq!(read.expose(), vectors);
    assert_eq!(format!("{read:?}"), "<redacted 2 vectors>");
    let json = embeddings_json("m", &vectors[..1], EncodingFormat::Base64, 7);
    let text = core::str::from_utf8(json.expose()).unwrap();
    assert!(text.contains(r#""embedding":"AAAAPwAAgL/NzMw9""#), "{text}");
}

#[test]
fn an_answer_says_what_it_cost_and_that_it_is_whole() {
    let json = embeddings_json("m", &[&[1.0]], EncodingFormat::Base64, 7);
    let answer = Answer::parse(json.expose()).unwrap();
    assert_eq!(answer.usage, Some(TokenUsage { prompt: 7, ..TokenUsage::default() }));
    assert_eq!(answer.finish, Some(FinishReason::Stop));
    assert!(answer.text.is_none());
}

#[test]
fn refuses_an_answer_with_other_vectors_than_were_asked_for() {
    let item =
        |index: u32, embedding: &str| format!(r#"{{"index":{index},"embedding":{embedding}}}"#);
    let parse = |items: &[String], texts| {
        let json = format!(r#"{{"data":[{}]}}"#, items.join(","));
        Vectors::parse(json.as_bytes(), texts).is_ok()
    };
    let fine = [item(0, "[1,2]"), item(1, "[3,4]")];
    assert!(parse(&fine, 2));
    assert!(!parse(&fine, 1) && !parse(&fine, 3));
    assert!(!parse(&[item(1, "[1]"), item(0, "[1]")], 2), "out of order");
    assert!(!parse(&[item(0, "[1,2]"), item(1, "[3]")], 2), "of other lengths");
    assert!(!parse(&[item(0, r#""AAAA""#)], 1), "not numbers");
    assert!(!parse(&[item(0, r#"["x"]"#)], 1), "not numbers");
}

/// Most texts that are taken if the answer may have `limit` bytes.
fn most(encoding: &str, dimensions: usize, limit: usize) -> usize {
    let texts = vec![r#""a""#; MAX_EMBEDDING_INPUTS].join(",");
    let request = parse(&format!(r#""input":[{texts}],"encoding_format":"{encoding}""#)).unwrap();
    let Err(error) = request.fit(dimensions, limit) else { return MAX_EMBEDDING_INPUTS };
    let parts = (error.status(), error.code(), error.param());
    assert_eq!(parts, (400, "array_above_max_length", Some("input")));
    let digits = error.message().split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|word| word.parse().ok()).next().unwrap()
}

#[test]
fn refuses_more_texts_than_a_client_could_read_the_vectors_of() {
    for dimensions in [384, 768, 1024, 1536] {
        assert_eq!(most("float", dimensions, MAX_ANSWER_BYTES), MAX_EMBEDDING_INPUTS);
    }
    assert!(most("float", 2048, MAX_ANSWER_BYTES) < MAX_EMBEDDING_INPUTS);
    assert_eq!(most("base64", 4096, MAX_ANSWER_BYTES), MAX_EMBEDDING_INPUTS);
    let few = most("float", 64, 20_000);
    let of =
        |count: usize| parse(&format!(r#""input":[{}]"#, vec![r#""a""#; count].join(","))).unwrap();
    assert!(few > 1 && of(few).fit(64, 20_000).is_ok() && of(few + 1).fit(64, 20_000).is_err());
    assert!(of(1).fit(usize::MAX, usize::MAX).is_err(), "a model of absurd size");
}

proptest! {
    /// An answer of as many texts as are taken is never longer than was said, whatever its numbers are.
    #[test]
    fn an_answer_is_never_longer_than_its_request_was_refused_for(
        bits in prop::collection::vec(any::<u32>(), 1..40),
        small in prop::collection::vec(-1e-4f32..1e-4, 1..40),
        limit in 1500usize..20_000,
    ) {
        let worst = [-1.234_567_9e-5, -1.175_494_4e-38, -3.402_823_5e38];
        let numbers = bits.into_iter().map(f32::from_bits).chain(small).chain(worst);
        let vector: Vec<f32> = numbers.collect();
        let model = "\u{1}".repeat(MAX_MODEL_BYTES);
        for (name, encoding) in [("float", EncodingFormat::Float), ("base64", EncodingFormat::Base64)] {
            let vectors = vec![vector.as_slice(); most(name, vector.len(), limit)];
            let json = embeddings_json(&model, &vectors, encoding, u32::MAX);
            prop_assert!(vectors.is_empty() || json.len() <= limit, "{} > {limit}", json.len());
        }
    }
}

#[test]
fn debug_of_a_request_shows_no_text() {
    let shown = format!("{:?}", parse(r#""input":["canary",[1234567]]"#).unwrap());
    assert!(!shown.contains("canary") && !shown.contains("1234567"), "{shown}");
}
