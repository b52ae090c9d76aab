//! Requests of every endpoint, and answers that may hold calls of tools. A refusal is an OpenAI error that can be sent.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_api::{
    CallFormat, CallParser, EmbeddingRequest, Endpoint, InferenceRequest, Limits, Said,
};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]}],"stream":true,"stream_options":{"include_usage":true},"temperature":0.5,"top_p":0.9,"max_tokens":5,"stop":["x"],"seed":-1}"#,
        r#"{"model":"m","prompt":"a","max_tokens":5,"stop":"x","user":"u"}"#,
        r#"{"model":"m","messages":[],"unknown":1}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"n":2}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},"logprobs":false}"#,
        r#"{"model":"m","prompt":"a","guided_choice":["x","y"],"logprobs":5}"#,
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]}],"text":{"format":{"type":"json_object"}},"store":false}"#,
        r#"{"model":"m","input":["a",[1,2]],"encoding_format":"base64","user":"u"}"#,
        r#"{"model":"m","input":[1,2]}"#,
        "text <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call> more",
        "<|python_tag|>{\"name\":\"f\",\"parameters\":{}};{\"name\":\"f\",\"parameters\":{}}",
        "[TOOL_CALLS] [{\"name\":\"f\",\"arguments\":{}}] more",
    ]
    .map(|json| json.as_bytes().to_vec())
    .to_vec()
}

fn one(data: &[u8]) -> String {
    let limits = Limits { request_bytes: 1 << 16, messages: 8, completion_tokens: 100 };
    let said = String::from_utf8_lossy(data);
    let half = said.chars().count() / 2;
    let cut = said.char_indices().nth(half).map_or(0, |(at, _)| at);
    let (first, second) = said.split_at(cut);
    for format in [CallFormat::Tagged, CallFormat::Bare, CallFormat::List] {
        for begun in [false, true] {
            let mut parser = CallParser::new(vec!["f".to_owned()], format, begun);
            let mut all = parser.push(first);
            all.extend(parser.push(second));
            all.extend(parser.finish());
            assert!(all.iter().all(|said| !matches!(said, Said::Text(text) if text.is_empty())));
        }
    }
    let embeddings = match EmbeddingRequest::parse(data, &limits) {
        Ok(request) => format!("{} inputs", request.inputs.len().min(4)),
        Err(error) => error.code().to_owned(),
    };
    let texts = [Endpoint::Chat, Endpoint::Completions, Endpoint::Responses]
        .map(|endpoint| match InferenceRequest::parse(endpoint, data, &limits) {
            Ok(request) => {
                assert!(request.max_tokens.is_none_or(|n| n <= limits.completion_tokens));
                let sampling = request.canonical_sampling_bytes();
                assert!(!sampling.expose().is_empty());
                format!("stream {}", request.stream)
            }
            Err(error) => {
                let payload = error.frame_payload();
                let status = payload.first_chunk().map(|s| u16::from_be_bytes(*s));
                assert!(status.is_some_and(|s| (400..600).contains(&s)));
                format!("{status:?}")
            }
        })
        .concat();
    texts + &embeddings
}
