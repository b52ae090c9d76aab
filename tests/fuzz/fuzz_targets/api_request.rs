//! Requests of both endpoints. A refusal is an OpenAI error that can be sent.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_api::{Endpoint, InferenceRequest, Limits};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]}],"stream":true,"stream_options":{"include_usage":true},"temperature":0.5,"top_p":0.9,"max_tokens":5,"stop":["x"],"seed":-1}"#,
        r#"{"model":"m","prompt":"a","max_tokens":5,"stop":"x","user":"u"}"#,
        r#"{"model":"m","messages":[],"unknown":1}"#,
    ]
    .map(|json| json.as_bytes().to_vec())
    .to_vec()
}

fn one(data: &[u8]) -> String {
    let limits = Limits { request_bytes: 1 << 16, messages: 8, completion_tokens: 100 };
    [Endpoint::Chat, Endpoint::Completions]
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
        .concat()
}
