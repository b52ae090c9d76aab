//! Answers in the shape of `/v1/responses`: one object, or the events of a stream. What is written is a
//! secret until it is sealed, and is built in a buffer that is wiped.

use chrysalis_wire::{RequestId, SecretBytes, UnixTime};
use serde::Serialize;

use crate::encode::secret_json;
use crate::response::{FinishReason, TokenUsage};

/// Writes one response: either [`ResponsesWriter::whole`], or [`ResponsesWriter::open`],
/// [`ResponsesWriter::delta`]s and [`ResponsesWriter::close`]. Each result is one JSON object on one line.
#[derive(Debug)]
pub struct ResponsesWriter {
    id: String,
    item: String,
    created: UnixTime,
    model: String,
    /// Number of the next event.
    next: u32,
}

impl ResponsesWriter {
    /// A writer. The response's `id` holds `request_id`, so that it leads to the receipt.
    #[must_use]
    pub fn new(request_id: RequestId, created: UnixTime, model: &str) -> Self {
        Self {
            id: format!("resp_{request_id}"),
            item: format!("msg_{request_id}"),
            created,
            model: model.to_owned(),
            next: 0,
        }
    }

    /// The whole response at once.
    #[must_use]
    pub fn whole(&self, text: &str, reason: FinishReason, usage: &TokenUsage) -> SecretBytes {
        let content = [Part::text(text)];
        let output = [self.item(status(reason), &content)];
        secret_json(&self.response(status(reason), &output, Some(usage)))
    }

    /// The events that open a stream.
    #[must_use]
    pub fn open(&mut self) -> Vec<SecretBytes> {
        let mut events = Vec::new();
        for name in ["response.created", "response.in_progress"] {
            let number = self.number();
            let response = Some(self.response(IN_PROGRESS, &[], None));
            events.push(secret_json(&Event { response, ..Event::new(name, number) }));
        }
        let number = self.number();
        let item = Some(self.item(IN_PROGRESS, &[]));
        let added = Event {
            item,
            output_index: Some(0),
            ..Event::new("response.output_item.added", number)
        };
        events.push(secret_json(&added));
        let number = self.number();
        let part = Some(Part::text(""));
        let event = self.of_part("response.content_part.added", number);
        events.push(secret_json(&Event { part, ..event }));
        events
    }

    /// A piece of text.
    #[must_use]
    pub fn delta(&mut self, text: &str) -> SecretBytes {
        let number = self.number();
        let event = self.of_part("response.output_text.delta", number);
        secret_json(&Event { delta: Some(text), logprobs: Some([]), ..event })
    }

    /// The events that end a complete stream, whose text was `text`.
    #[must_use]
    pub fn close(
        &mut self,
        text: &str,
        reason: FinishReason,
        usage: &TokenUsage,
    ) -> Vec<SecretBytes> {
        let numbers = [self.number(), self.number(), self.number(), self.number()];
        let [done, part_done, item_done, last] = numbers;
        let content = [Part::text(text)];
        let status = status(reason);
        let text_done = self.of_part("response.output_text.done", done);
        let part_event = self.of_part("response.content_part.done", part_done);
        let item_event = Event::new("response.output_item.done", item_done);
        let output = [self.item(status, &content)];
        let name = if status == COMPLETED { "response.completed" } else { "response.incomplete" };
        let response = Some(self.response(status, &output, Some(usage)));
        vec![
            secret_json(&Event { text: Some(text), logprobs: Some([]), ..text_done }),
            secret_json(&Event { part: Some(Part::text(text)), ..part_event }),
            secret_json(&Event {
                item: Some(self.item(status, &content)),
                output_index: Some(0),
                ..item_event
            }),
            secret_json(&Event { response, ..Event::new(name, last) }),
        ]
    }

    const fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    fn of_part(&self, name: &'static str, number: u32) -> Event<'_> {
        Event {
            item_id: Some(&self.item),
            output_index: Some(0),
            content_index: Some(0),
            ..Event::new(name, number)
        }
    }

    fn item<'a>(&'a self, status: &'static str, content: &'a [Part<'a>]) -> Item<'a> {
        Item { id: &self.item, r#type: "message", status, role: "assistant", content }
    }

    fn response<'a>(
        &'a self,
        status: &'static str,
        output: &'a [Item<'a>],
        usage: Option<&TokenUsage>,
    ) -> Response<'a> {
        let reason = "max_output_tokens";
        Response {
            id: &self.id,
            object: "response",
            created_at: self.created,
            status,
            error: None,
            incomplete_details: (status == INCOMPLETE).then_some(Incomplete { reason }),
            instructions: None,
            model: &self.model,
            output,
            parallel_tool_calls: true,
            previous_response_id: None,
            store: false,
            tool_choice: "auto",
            tools: [],
            truncation: "disabled",
            usage: usage.map(Usage::from),
        }
    }
}

const fn status(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => INCOMPLETE,
        FinishReason::Stop | FinishReason::ToolCalls => COMPLETED,
    }
}

#[derive(Serialize)]
struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: UnixTime,
    status: &'static str,
    error: Option<()>,
    incomplete_details: Option<Incomplete>,
    instructions: Option<()>,
    model: &'a str,
    output: &'a [Item<'a>],
    parallel_tool_calls: bool,
    previous_response_id: Option<()>,
    store: bool,
    tool_choice: &'static str,
    tools: [(); 0],
    truncation: &'static str,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    r#type: &'static str,
    status: &'static str,
    role: &'static str,
    content: &'a [Part<'a>],
}

#[derive(Serialize)]
struct Part<'a> {
    r#type: &'static str,
    text: &'a str,
    annotations: [(); 0],
    logprobs: [(); 0],
}

impl<'a> Part<'a> {
    const fn text(text: &'a str) -> Self {
        Self { r#type: "output_text", text, annotations: [], logprobs: [] }
    }
}

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    sequence_number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
}

impl Event<'_> {
    const fn new(name: &'static str, number: u32) -> Self {
        Self {
            r#type: name,
            sequence_number: number,
            response: None,
            item_id: None,
            output_index: None,
            content_index: None,
            item: None,
            part: None,
            delta: None,
            text: None,
            logprobs: None,
        }
    }
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u32,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u32,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u32,
}

impl From<&TokenUsage> for Usage {
    fn from(usage: &TokenUsage) -> Self {
        Self {
            input_tokens: usage.prompt,
            input_tokens_details: InputDetails { cached_tokens: usage.cached },
            output_tokens: usage.completion,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning },
            total_tokens: u64::from(usage.prompt).saturating_add(usage.completion.into()),
        }
    }
}

const IN_PROGRESS: &str = "in_progress";
const COMPLETED: &str = "completed";
const INCOMPLETE: &str = "incomplete";
