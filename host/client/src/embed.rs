//! Texts in, verified vectors out: what `chrysalis embed` does. Texts are secrets of the user, and so are
//! their vectors; neither appears in an error.

use chrysalis_api::{ApiError, Vectors};
use chrysalis_channel::PathId;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::ask::{after_error, answer_refused};
use crate::error::ClientError;
use crate::response::{ClientEvent, Completed};
use crate::worker::AttestedWorker;

/// The vectors of `texts`, in their order, and the receipt that holds for them. An answer that fails may have
/// one too, and `failed` is given it.
///
/// # Errors
/// [`ClientError`]; [`ClientError::AnswerRefused`] if the worker refuses inside the channel.
pub async fn embed(
    worker: &AttestedWorker,
    texts: &[&str],
    failed: impl FnOnce(Box<Completed>),
) -> Result<(Vectors, Box<Completed>), ClientError> {
    let evidence = worker.evidence().await;
    let json = body(&evidence.verified.manifest().model.name, texts)?;
    let mut stream = worker.request(PathId::Embeddings, &json).await?;
    drop(json);
    let mut pieces = Vec::new();
    loop {
        match stream.next().await? {
            // The stream bounds the sum of all pieces.
            Some(ClientEvent::Body(piece)) => pieces.push(piece),
            Some(ClientEvent::Done(completed)) => {
                let size = pieces.iter().map(|piece| piece.len()).sum();
                let mut whole = Zeroizing::new(Vec::with_capacity(size));
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece.expose()));
                let vectors = Vectors::parse(&whole, texts.len()).map_err(ClientError::Answer)?;
                return Ok((vectors, completed));
            }
            Some(ClientEvent::Error { status, json }) => {
                let refused = answer_refused(status, json.expose());
                if let Some(completed) = after_error(&mut stream).await? {
                    failed(completed);
                }
                return Err(refused);
            }
            // The stream refuses chunks where a body was asked for.
            Some(ClientEvent::Chunk(_)) | None => return Err(ClientError::ReceiptMissing),
        }
    }
}

fn body(model: &str, input: &[&str]) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    // Room for escapes, so that the buffer does not grow and leave a copy behind.
    let text: usize = input.iter().map(|text| 6 * text.len() + 3).sum();
    let mut json = Zeroizing::new(Vec::with_capacity(text + model.len() + BODY_OVERHEAD_BYTES));
    serde_json::to_writer(&mut *json, &Body { model, input, encoding_format: "float" })
        .map_err(|_| ClientError::Api(ApiError::internal()))?;
    Ok(json)
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

/// Everything in a request body but model name and texts.
const BODY_OVERHEAD_BYTES: usize = 128;
