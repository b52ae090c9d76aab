//! `/v1/responses`: what is read, what is written, and what is refused.

use chrysalis_api::{
    Answer, ApiError, Constraint, Endpoint, FinishReason, InferenceRequest, Input, ResponsesWriter,
    Role, TokenUsage,
};
use chrysalis_wire::{RequestId, UnixTime};

use crate::parse;

const USAGE: TokenUsage = TokenUsage { prompt: 12, cached: 4, completion: 3, reasoning: 0 };

fn responses(fields: &str) -> Result<InferenceRequest, ApiError> {
    parse(Endpoint::Responses, &format!(r#"{{"model":"m",{fields}}}"#))
}

fn messages(request: InferenceRequest) -> Vec<(Role, String)> {
    let Input::Chat(messages) = request.input else { panic!("not a chat") };
    messages.iter().map(|m| (m.role, m.content.expose().to_owned())).collect()
}

fn writer() -> ResponsesWriter {
    ResponsesWriter::new(RequestId([0xab; 16]), UnixTime(7), "m")
}

#[test]
fn a_string_and_a_list_of_messages_are_a_conversation() {
    let r = responses(r#""input":"hi","instructions":"be kind","max_output_tokens":5,"store":false,"truncation":"disabled""#).unwrap();
    assert_eq!(r.max_tokens, Some(5));
    assert_eq!(messages(r), [(Role::System, "be kind".into()), (Role::User, "hi".into())]);
    let r = responses(
        r#""input":[{"role":"user","content":"a"},
        {"type":"message","id":"msg_1","status":"completed","role":"assistant",
         "content":[{"type":"output_text","text":"b","annotations":[],"logprobs":[]}]},
        {"role":"user","content":[{"type":"input_text","text":"c"},{"type":"input_text","text":"d"}]}]"#,
    );
    let told = messages(r.unwrap());
    assert_eq!(told.iter().map(|m| m.1.as_str()).collect::<Vec<_>>(), ["a", "b", "c\nd"]);
}

#[test]
fn a_constraint_said_elsewhere_outlives_a_text_without_one() {
    let guided =
        |text: &str| responses(&format!(r#""input":"x","guided_regex":"[ab]","text":{text}"#));
    for text in ["{}", r#"{"format":null}"#, r#"{"format":{"type":"text"}}"#] {
        let got = guided(text).unwrap().constraint;
        assert!(matches!(got, Some((Constraint::Regex(_), "guided_regex"))), "{text}: {got:?}");
    }
    let both = guided(r#"{"format":{"type":"json_object"}}"#).unwrap_err();
    assert_eq!((both.code(), both.param()), ("invalid_parameter_combination", Some("text.format")));
}

#[test]
fn a_text_format_is_a_constraint() {
    let format = |format: &str| responses(&format!(r#""input":"x","text":{{"format":{format}}}"#));
    assert!(format(r#"{"type":"text"}"#).unwrap().constraint.is_none());
    let schema = format(r#"{"type":"json_schema","name":"n","strict":true,"schema":{}}"#).unwrap();
    assert!(matches!(schema.constraint, Some((Constraint::JsonSchema(_), "text.format"))));
    let object = format(r#"{"type":"json_object"}"#).unwrap();
    assert!(matches!(object.constraint, Some((Constraint::JsonObject, "text.format"))));
}

#[test]
fn refuses_what_would_need_something_stored() {
    for (field, code, param) in [
        (r#""store":true"#, "unsupported_value", "store"),
        (r#""previous_response_id":"resp_1""#, "unsupported_parameter", "previous_response_id"),
        (r#""conversation":"conv_1""#, "unsupported_parameter", "conversation"),
        (r#""background":true"#, "unsupported_parameter", "background"),
        (r#""prompt":{"id":"x"}"#, "unsupported_parameter", "prompt"),
        (r#""tools":[]"#, "unsupported_parameter", "tools"),
        (r#""stream":true,"stream_options":{}"#, "unsupported_parameter", "stream_options"),
        (r#""reasoning":{}"#, "unsupported_parameter", "reasoning"),
        (r#""truncation":"auto""#, "unsupported_value", "truncation"),
        (r#""max_tokens":5"#, "unknown_parameter", "max_tokens"),
        (r#""messages":[]"#, "unknown_parameter", "messages"),
    ] {
        let error = responses(&format!(r#""input":"x",{field}"#)).unwrap_err();
        assert_eq!((error.code(), error.param()), (code, Some(param)), "{field}");
    }
    for (input, code, param) in [
        (r#""input":[]"#, "empty_value", "input"),
        (r#""input":[{"type":"item_reference","id":"x"}]"#, "unsupported_value", "input[0].type"),
        (
            r#""input":[{"role":"user","content":[{"type":"input_image"}]}]"#,
            "unsupported_value",
            "input[0].content[0].type",
        ),
        (r#""input":[{"role":"user","content":"x","x":1}]"#, "unknown_parameter", "input[0].x"),
    ] {
        let error = responses(input).unwrap_err();
        assert_eq!((error.code(), error.param()), (code, Some(param)), "{input}");
    }
}

#[test]
fn writes_a_whole_response_that_reads_back() {
    let json = writer().whole("a\"b", FinishReason::Stop, &USAGE);
    let text = std::str::from_utf8(json.expose()).unwrap();
    let id = "ab".repeat(16);
    assert!(text.starts_with(&format!(
        r#"{{"id":"resp_{id}","object":"response","created_at":7,"status":"completed","#
    )));
    assert!(text.contains(r#""store":false"#));
    let read = Answer::parse(json.expose()).unwrap();
    assert_eq!(read.text.unwrap().expose(), "a\"b");
    assert_eq!((read.finish, read.usage), (Some(FinishReason::Stop), Some(USAGE)));
    let cut = writer().whole("", FinishReason::Length, &USAGE);
    let text = std::str::from_utf8(cut.expose()).unwrap();
    assert!(
        text.contains(r#""status":"incomplete""#)
            && text.contains(r#"{"reason":"max_output_tokens"}"#)
    );
    assert_eq!(Answer::parse(cut.expose()).unwrap().finish, Some(FinishReason::Length));
}

#[test]
fn events_are_numbered_and_their_deltas_are_the_text() {
    let mut writer = writer();
    let mut events = writer.open();
    events.extend(["a", "ä\n"].map(|text| writer.delta(text)));
    events.extend(writer.close("aä\n", FinishReason::Stop, &USAGE));
    let names = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(events.len(), names.len());
    let (mut said, mut last) = (String::new(), Answer::default());
    for (number, (event, name)) in events.iter().zip(names).enumerate() {
        let text = std::str::from_utf8(event.expose()).unwrap();
        assert!(
            text.starts_with(&format!(r#"{{"type":"{name}","sequence_number":{number},"#)),
            "{text}"
        );
        assert!(!text.contains('\n'), "one line");
        last = Answer::parse(event.expose()).unwrap();
        said += last.text.as_ref().map_or("", |text| text.expose());
    }
    assert_eq!(
        (said.as_str(), last.finish, last.usage),
        ("aä\n", Some(FinishReason::Stop), Some(USAGE))
    );
}
