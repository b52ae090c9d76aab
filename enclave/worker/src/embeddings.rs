//! `/v1/embeddings` inside the sealed channel: parse, embed, seal, sign. As [`crate::inference`], but
//! an answer is one body, and a text's vector is as secret as the text.

use std::sync::atomic::Ordering;

use chrysalis_api::{
    ApiError, EmbeddingInput, EmbeddingRequest, ErrorKind, Limits, embeddings_json, limits,
};
use chrysalis_channel::{FrameKind, Header};
use chrysalis_engine::{
    EmbedInput, Embedder, Embedding, EngineError, MAX_INPUTS, TextError, TokenUsage, Vector,
};
use chrysalis_receipt::{Finish, ResponseCommit};
use chrysalis_wire::{Digest, SecretBytes, UnixMillis, WorkerManifest};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::block_in_place;

use crate::answer::{Answer, Gone, Outcome, ReceiptFacts};
use crate::convert;
use crate::inference::{ended, settle};
use crate::payment::Held;
use crate::worker::Worker;

/// A request that was parsed and queued.
struct Prepared {
    request: EmbeddingRequest,
    commit: ResponseCommit,
    facts: ReceiptFacts,
    embedding: Embedding,
}

/// Answers an opened request with vectors, or an error inside the channel.
///
/// # Errors
/// [`Gone`] if nobody reads any more.
pub(crate) async fn run(
    worker: &Worker,
    embedder: &Embedder,
    (header, body): (Header, SecretBytes),
    mut answer: Answer,
    mut held: Option<Held>,
    started: UnixMillis,
    over: watch::Receiver<bool>,
) -> Result<(), Gone> {
    let recipient = answer.recipient();
    // Texts are cut into tokens here, which takes a while for many; the network threads are few.
    let prepared = block_in_place(|| prepare(worker, embedder, &header, body, recipient, started));
    match prepared {
        Err(error) => answer.send(FrameKind::Error, &error.frame_payload(), true).await,
        Ok(prepared) => {
            if let Some(held) = &mut held {
                held.narrow(&worker.manifest, prepared.embedding.prompt_tokens, 0);
            }
            embed(worker, answer, prepared, held, started, over).await
        }
    }
}

/// Parses the opened body and queues its texts. The body is wiped on return.
fn prepare(
    worker: &Worker,
    embedder: &Embedder,
    header: &Header,
    body: SecretBytes,
    recipient: usize,
    started: UnixMillis,
) -> Result<Prepared, ApiError> {
    let (inner, evidence) = convert::inner(body.expose(), recipient, &worker.session)?;
    let mut request = parse(inner.json, &worker.manifest)?;
    request.fit(embedder.info().dimensions, worker.bounds.answer_bytes)?;
    let sampling = Digest(Sha256::digest(request.canonical_bytes()).into());
    let inputs = std::mem::take(&mut request.inputs).into_iter().map(|input| match input {
        EmbeddingInput::Text(text) => EmbedInput::Text(text.into_secret()),
        EmbeddingInput::Tokens(ids) => EmbedInput::Tokens(ids),
    });
    let embedding = embedder.embed(inputs.collect()).map_err(|error| refused(&error))?;
    let facts = ReceiptFacts::new(header, &inner.salt, inner.json, sampling, evidence, started);
    Ok(Prepared { request, commit: ResponseCommit::new(&inner.salt), facts, embedding })
}

/// Parses the OpenAI request and checks that it asks for the model served.
fn parse(json: &[u8], manifest: &WorkerManifest) -> Result<EmbeddingRequest, ApiError> {
    let request = EmbeddingRequest::parse(json, &Limits::from_manifest(&manifest.limits))?;
    if request.model != manifest.model.name {
        return Err(ApiError::model_not_found(&manifest.model.name));
    }
    Ok(request)
}

/// Waits for the vectors and ends with the receipt, also when the requester has gone or the engine has
/// failed: what was taken on is provable, and what was computed billed as a prompt is.
async fn embed(
    worker: &Worker,
    mut answer: Answer,
    prepared: Prepared,
    held: Option<Held>,
    started: UnixMillis,
    mut over: watch::Receiver<bool>,
) -> Result<(), Gone> {
    let Prepared { request, commit, facts, embedding } = prepared;
    let Embedding { prompt_tokens, mut vectors, computed } = embedding;
    answer.commit_with(commit);
    let come = loop {
        tokio::select! {
            // An engine that is gone sends nothing.
            come = &mut vectors => {
                let come = come.unwrap_or(Err(EngineError::Stopped));
                break Some(come.map_err(|error| (refused(&error), Finish::Failed)));
            }
            () = answer.closed() => break None,
            () = answer.silent(worker.bounds.keep_alive) => {
                if answer.keep_alive().await.is_err() {
                    break None;
                }
            }
            // The requester's doing, as if it had left.
            true = ended(&mut over) => break Some(Err((convert::peer_due(), Finish::Aborted))),
        }
    };
    let (sent, finish) = match come {
        Some(Ok(vectors)) => {
            // The engine has let go; the place is taken for the delivery only.
            answer.hurry(worker.bounds.delivery);
            let json = told(&request, &vectors, prompt_tokens);
            let sent = answer.send_content(vec![(FrameKind::Body, json)]).await;
            (sent, if sent.is_ok() { Finish::Stop } else { Finish::Aborted })
        }
        Some(Err((error, finish))) => {
            (answer.send(FrameKind::Error, &error.frame_payload(), false).await, finish)
        }
        None => (Err(Gone), Finish::Aborted),
    };
    let prompt = computed.load(Ordering::Relaxed);
    let outcome = Outcome { finish, tokens: TokenUsage { prompt, cached: 0, completion: 0 } };
    settle(worker, &mut answer, facts, outcome, held, started, sent).await
}

fn told(request: &EmbeddingRequest, vectors: &[Vector], prompt_tokens: u32) -> SecretBytes {
    let vectors: Vec<&[f32]> = vectors.iter().map(Vector::expose).collect();
    embeddings_json(&request.model, &vectors, request.encoding, prompt_tokens)
}

/// The API's words for what the engine refused.
fn refused(error: &EngineError) -> ApiError {
    use EngineError as E;
    let invalid = |code, param| {
        ApiError::new(400, ErrorKind::InvalidRequest, code, error.to_string()).with_param(param)
    };
    match error {
        E::Busy { .. } => ApiError::overloaded(),
        E::Input { index, error: TextError::TooLong { .. } } => {
            invalid("context_length_exceeded", format!("input[{index}]"))
        }
        E::Input { index, .. } => invalid("invalid_value", format!("input[{index}]")),
        E::InputsTooLong { .. } => invalid("context_length_exceeded", "input".to_owned()),
        E::InputsEmpty | E::TooManyInputs { .. } | E::InputEmpty { .. } | E::NotUtf8 { .. } => {
            invalid(error.code(), "input".to_owned())
        }
        _ => ApiError::internal(),
    }
}

// What the API accepts the engine accepts too: a request is refused once, by the name of its field.
const _: () = assert!(limits::MAX_EMBEDDING_INPUTS <= MAX_INPUTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_input_and_quotes_nothing() {
        let long = E::Input { index: 3, error: TextError::TooLong { limit: 256 } };
        let told = refused(&long);
        let parts = (told.status(), told.code(), told.param());
        assert_eq!(parts, (400, "context_length_exceeded", Some("input[3]")));
        assert!(told.message().contains("more than 256 tokens"), "{}", told.message());
        let id = E::Input { index: 0, error: TextError::UnknownId { at: 2, vocabulary: 9 } };
        assert_eq!(refused(&id).code(), "invalid_value");
        assert_eq!(refused(&E::InputsTooLong { got: 9, limit: 8 }).param(), Some("input"));
        assert_eq!(refused(&E::Busy { limit: 1 }).status(), 429);
        assert_eq!(refused(&E::Compute { stage: "x" }), ApiError::internal());
        assert_eq!(refused(&E::Stopped), ApiError::internal());
    }

    use EngineError as E;
}
