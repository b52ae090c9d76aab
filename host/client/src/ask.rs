//! One question, one streamed answer, one receipt: what `chrysalis ask` does. Question and answer
//! are secrets of the user; neither appears in an error.

use chrysalis_api::{Answer, ApiError};
use chrysalis_channel::PathId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{ClientError, sanitise};
use crate::response::{ClientEvent, Completed, ResponseStream};
use crate::transcript::Keep;
use crate::worker::AttestedWorker;

/// A question to a chat model.
#[derive(Clone, Copy, Default)]
pub struct Question<'a> {
    /// Instructions before the prompt.
    pub system: Option<&'a str>,
    /// The prompt.
    pub prompt: &'a str,
    /// Most tokens of the answer; the measured manifest's limit if not given.
    pub max_tokens: Option<u32>,
    /// Sampling temperature; the worker's default if not given.
    pub temperature: Option<f32>,
    /// Seed of the sampler.
    pub seed: Option<u64>,
    /// What is kept of question and answer.
    pub keep: Keep,
}

/// Asks `worker` and hands each piece of text to `write` as it arrives. The pieces are an answer
/// only once this function returns the completed receipt. An answer that fails may have a receipt for what
/// was produced; `failed` is given it.
///
/// # Errors
/// [`ClientError`]; [`ClientError::AnswerRefused`] if the worker refuses inside the channel.
pub async fn ask(
    worker: &AttestedWorker,
    question: &Question<'_>,
    mut write: impl FnMut(&str),
    failed: impl FnOnce(Box<Completed>),
) -> Result<Box<Completed>, ClientError> {
    let evidence = worker.evidence().await;
    let manifest = evidence.verified.manifest();
    let limit = manifest.limits.completion_tokens;
    let max_tokens = question.max_tokens.unwrap_or(limit).min(limit);
    let json = body(&manifest.model.name, question, max_tokens)?;
    let mut stream = worker.request_keeping(PathId::ChatCompletions, &json, question.keep).await?;
    drop(json);
    loop {
        match stream.next().await? {
            Some(ClientEvent::Chunk(chunk)) => {
                let answer = Answer::parse(chunk.expose()).map_err(ClientError::Answer)?;
                if let Some(text) = answer.text {
                    write(text.expose());
                }
            }
            Some(ClientEvent::Done(completed)) => return Ok(completed),
            Some(ClientEvent::Error { status, json }) => {
                let refused = answer_refused(status, json.expose());
                if let Some(completed) = after_error(&mut stream).await? {
                    failed(completed);
                }
                return Err(refused);
            }
            // The stream refuses a body where chunks were asked for.
            Some(ClientEvent::Body(_)) | None => return Err(ClientError::ReceiptMissing),
        }
    }
}

/// The receipt of an answer that failed, if it comes.
///
/// # Errors
/// [`ClientError`] for one that does not hold.
pub(crate) async fn after_error(
    stream: &mut ResponseStream,
) -> Result<Option<Box<Completed>>, ClientError> {
    match stream.next().await? {
        Some(ClientEvent::Done(completed)) => Ok(Some(completed)),
        _ => Ok(None),
    }
}

/// The code of an OpenAI error; its message may quote the request and stays behind.
pub(crate) fn answer_refused(status: u16, json: &[u8]) -> ClientError {
    let code = serde_json::from_slice::<RefusedBody>(json)
        .ok()
        .and_then(|body| body.error.code.or(body.error.kind))
        .map_or_else(|| "without a code".to_owned(), |code| sanitise(&code));
    ClientError::AnswerRefused { status, code }
}

fn body(
    model: &str,
    question: &Question<'_>,
    max_tokens: u32,
) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let system = question.system.map(|content| Message { role: "system", content });
    let user = Message { role: "user", content: question.prompt };
    let request = Body {
        model,
        messages: system.into_iter().chain([user]).collect(),
        max_tokens,
        temperature: question.temperature,
        seed: question.seed,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
    };
    // Room for escapes, so that the buffer does not grow and leave a copy behind.
    let text = question.prompt.len() + question.system.map_or(0, str::len);
    let mut json = Zeroizing::new(Vec::with_capacity(6 * text + model.len() + BODY_OVERHEAD_BYTES));
    serde_json::to_writer(&mut *json, &request)
        .map_err(|_| ClientError::Api(ApiError::internal()))?;
    Ok(json)
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Deserialize)]
struct RefusedBody {
    error: RefusedParts,
}

#[derive(Deserialize)]
struct RefusedParts {
    code: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Everything in a request body but model name and texts.
const BODY_OVERHEAD_BYTES: usize = 512;
