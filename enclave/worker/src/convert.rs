//! Between the API's types, the engine's types and the manifest's limits.

use std::time::Instant;

use chrysalis_api::{
    ApiError, CallFormat, Constraint, Endpoint, ErrorKind, InferenceRequest, Input, Limits,
    LoggedToken, Message, PastCall, Prompt, Role, TokenLogprob, Tools, limits, served_at,
};
use chrysalis_channel::PathId;
use chrysalis_engine::{self as engine, ToolStyle};
use chrysalis_wire::{Digest, InnerRequest, SecretBytes, WorkerManifest};
use sha2::{Digest as _, Sha256};

use crate::session::Session;

/// Reads the plaintext of a sealed request.
///
/// # Errors
/// 400 if the plaintext has no head; 409 if it relies on evidence this boot did not produce.
pub fn inner<'a>(
    plaintext: &'a [u8],
    recipient: usize,
    session: &Session,
) -> Result<(InnerRequest<'a>, Digest), ApiError> {
    let inner = InnerRequest::decode(plaintext).map_err(|error| {
        ApiError::new(400, ErrorKind::InvalidRequest, "E-INNER", error.to_string())
    })?;
    let evidence = inner
        .evidence
        .get(recipient)
        .copied()
        .filter(|digest| session.produced_evidence(digest))
        .ok_or_else(|| {
            let message = "The request relies on evidence this worker did not produce in this \
                           boot, or has forgotten. Attest again and seal a fresh request.";
            ApiError::new(409, ErrorKind::InvalidRequest, "E-EVIDENCE-UNKNOWN", message)
        })?;
    Ok((inner, evidence))
}

/// The endpoint a sealed header names; `None` for the one that is not answered with text.
#[must_use]
pub const fn endpoint(path: PathId) -> Option<Endpoint> {
    match path {
        PathId::ChatCompletions => Some(Endpoint::Chat),
        PathId::Completions => Some(Endpoint::Completions),
        PathId::Responses => Some(Endpoint::Responses),
        PathId::Embeddings => None,
    }
}

/// 400: the model is served, but not at the endpoint that was asked.
#[must_use]
pub fn wrong_endpoint(manifest: &WorkerManifest) -> ApiError {
    ApiError::wrong_endpoint(&manifest.model.name, served_at(manifest.model.task))
}

/// Parses the OpenAI request and checks that it asks for the model served.
///
/// # Errors
/// The API's own refusals, which name the field; 404 for another model.
pub fn parse(
    endpoint: Endpoint,
    json: &[u8],
    manifest: &WorkerManifest,
) -> Result<InferenceRequest, ApiError> {
    let allowed = Limits::from_manifest(&manifest.limits);
    let parsed = InferenceRequest::parse(endpoint, json, &allowed)?;
    if parsed.model != manifest.model.name {
        return Err(ApiError::model_not_found(&manifest.model.name));
    }
    Ok(parsed)
}

/// SHA-256 of the canonical sampling parameters, for the receipt.
#[must_use]
pub fn sampling_hash(request: &InferenceRequest) -> Digest {
    Digest(Sha256::digest(request.canonical_sampling_bytes().expose()).into())
}

/// Makes the engine's request, to begin by the first of these times and to end by the second; the texts move out of `request`.
///
/// # Errors
/// 400 if the request wants more tokens than its authenticated header pays for.
pub fn job(
    request: &mut InferenceRequest,
    paid_tokens: u32,
    manifest: &WorkerManifest,
    style: ToolStyle,
    (begin_by, deadline): (Option<Instant>, Option<Instant>),
) -> Result<engine::GenerateRequest, ApiError> {
    let allowed = paid_tokens.min(manifest.limits.completion_tokens);
    let each = allowed.checked_div(request.choices).unwrap_or_default();
    let max_tokens = request.max_tokens.unwrap_or(each);
    if max_tokens > each || each == 0 {
        let message = format!(
            "The sealed header allows {paid_tokens} completion tokens for all choices, the worker {}.",
            manifest.limits.completion_tokens
        );
        let error = ApiError::new(400, ErrorKind::InvalidRequest, "max_tokens_exceeded", message);
        return Err(error.with_param("max_tokens"));
    }
    if style == ToolStyle::Told {
        request.tell_tools();
    }
    let nothing = Input::Chat(Vec::new());
    let input = match std::mem::replace(&mut request.input, nothing) {
        Input::Text(text) => engine::Input::Text(text.into_secret()),
        Input::Chat(messages) => {
            let told = request.tools.as_ref().filter(|_| style != ToolStyle::Told);
            let secret = |json: &str| json.as_bytes().to_vec().into();
            engine::Input::Chat(engine::Conversation {
                messages: messages.into_iter().map(message).collect(),
                tools: told
                    .map(|tools| tools.functions().map(secret).collect())
                    .unwrap_or_default(),
                must_call: told.is_some_and(Tools::is_required),
                thinking: request.thinking,
            })
        }
    };
    let s = request.sampling;
    Ok(engine::GenerateRequest {
        input,
        sampling: engine::Sampling {
            temperature: s.temperature,
            top_p: s.top_p,
            top_k: s.top_k,
            min_p: s.min_p,
            frequency_penalty: s.frequency_penalty,
            presence_penalty: s.presence_penalty,
            seed: s.seed,
        },
        logit_bias: request
            .logit_bias
            .iter()
            .map(|b| engine::LogitBias { token: b.token, bias: b.bias })
            .collect(),
        stop: std::mem::take(&mut request.stop).into_iter().map(|s| s.into_secret()).collect(),
        constraint: request.constraint.as_mut().map(|(c, _)| constrained(c, style)),
        logprobs: request.logprobs,
        choices: request.choices,
        max_tokens,
        scheduling: engine::Scheduling {
            tenant: request.cache_key.as_ref().map(tenant),
            priority: turn(request.priority),
            begin_by,
            deadline,
        },
    })
}

/// The texts move out of `constraint`.
fn constrained(constraint: &mut Constraint, style: ToolStyle) -> engine::Constraint {
    match std::mem::replace(constraint, Constraint::JsonObject) {
        Constraint::JsonObject => engine::Constraint::JsonObject,
        Constraint::JsonSchema(schema) => engine::Constraint::JsonSchema(schema.into_secret()),
        Constraint::Regex(pattern) => engine::Constraint::Regex(pattern.into_secret()),
        Constraint::Grammar(grammar) => engine::Constraint::Grammar(grammar.into_secret()),
        Constraint::Choice(texts) => {
            engine::Constraint::Choice(texts.into_iter().map(Prompt::into_secret).collect())
        }
        Constraint::ToolCall(pairs) => engine::Constraint::ToolCall(style, paired(pairs)),
        Constraint::MayCall { pairs, parallel } => {
            // What is left says that it was of calls.
            *constraint = Constraint::MayCall { pairs: Vec::new(), parallel };
            engine::Constraint::MayCall { style, tools: paired(pairs), parallel }
        }
    }
}

fn paired(pairs: Vec<Prompt>) -> Vec<(SecretBytes, SecretBytes)> {
    let mut texts = pairs.into_iter().map(Prompt::into_secret);
    std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect()
}

/// A sealed request does not say who sent it, nor does its connection: a proxy's carries many callers.
/// So a tenant is who knows the key that stands in the request; without one each request is a tenant
/// of its own, and nothing of its prompt is kept.
fn tenant(key: &Prompt) -> engine::Tenant {
    let hash = Sha256::new_with_prefix(TENANT_DOMAIN).chain_update(key.expose());
    engine::Tenant(hash.finalize().into())
}

/// The API counts as vLLM does, where the lower number goes first; the engine the other way.
fn turn(priority: i8) -> u8 {
    u8::try_from(i16::from(i8::MAX).saturating_sub(priority.into())).unwrap_or_default()
}

const TENANT_DOMAIN: &[u8] = b"chrysalis tenant/1\0";

fn message(message: Message) -> engine::ChatMessage {
    let call = |call: PastCall| engine::ToolCall {
        number: call.number,
        name: call.name.into_secret(),
        arguments: call.arguments.into_secret(),
    };
    engine::ChatMessage {
        role: role(message.role),
        content: message.content.into_secret(),
        calls: message.calls.into_iter().map(call).collect(),
        answers: message.answers,
    }
}

/// How calls stand in the answer to `request`, and whether its prompt ends with the tag before them.
#[must_use]
pub fn call_format(request: &InferenceRequest, style: ToolStyle) -> (CallFormat, bool) {
    let begun = request.tools.as_ref().is_some_and(Tools::is_required);
    match style {
        ToolStyle::Told | ToolStyle::Tagged => (CallFormat::Tagged, false),
        ToolStyle::Bare => (CallFormat::Bare, false),
        ToolStyle::List => (CallFormat::List, begun),
        ToolStyle::Named => (CallFormat::Named, begun),
    }
}

const fn role(role: Role) -> engine::Role {
    match role {
        Role::System | Role::Developer => engine::Role::System,
        Role::User => engine::Role::User,
        Role::Assistant => engine::Role::Assistant,
        Role::Tool => engine::Role::Tool,
    }
}

/// A token with its log probabilities in the API's types.
#[must_use]
pub fn logged(token: engine::LoggedToken) -> LoggedToken {
    let plain = |t: engine::TokenLogprob| TokenLogprob {
        bytes: t.bytes,
        control: t.control,
        logprob: t.logprob,
    };
    LoggedToken {
        drawn: plain(token.drawn),
        offset: token.offset,
        top: token.top.into_iter().map(plain).collect(),
    }
}

/// The API's words for what the engine refused. `constraint` is the field that said what the answer has
/// to be.
#[must_use]
pub fn engine_error(error: &engine::EngineError, constraint: Option<&'static str>) -> ApiError {
    use engine::EngineError as E;
    match error {
        E::Busy { .. } | E::Expired => ApiError::overloaded(),
        E::PromptTooLong { got, limit } => ApiError::context_length_exceeded(*limit, *got),
        E::Stopped | E::Lost { .. } | E::Compute { .. } | E::Model(_) => ApiError::internal(),
        E::Constraint(_) => {
            let code = "unsupported_value";
            let error = ApiError::new(400, ErrorKind::InvalidRequest, code, error.to_string());
            error.with_param(constraint.unwrap_or_default())
        }
        // What is left is about the request; these messages hold numbers, never text of it.
        other => ApiError::new(400, ErrorKind::InvalidRequest, other.code(), other.to_string()),
    }
}

/// 403 inside an answer: its client has to prove itself again, and did not in time.
#[must_use]
pub fn peer_due() -> ApiError {
    let message = "The client has to prove itself again. The answer is not complete.";
    ApiError::new(403, ErrorKind::Refused, crate::peer::DUE, message)
}

// What the API accepts the engine accepts too: a request is refused once, by the name of its field.
const _: () = assert!(limits::MAX_MESSAGES <= engine::MAX_MESSAGES);
const _: () = assert!(limits::MAX_LOGIT_BIASES <= engine::MAX_LOGIT_BIASES);
const _: () = assert!(limits::MAX_TOP_LOGPROBS <= engine::MAX_TOP_LOGPROBS);
const _: () = assert!(limits::MAX_COMPLETION_LOGPROBS <= engine::MAX_TOP_LOGPROBS);
const _: () = assert!(limits::MAX_CHOICES <= engine::MAX_CHOICES);
const _: () = assert!(limits::MAX_CONSTRAINT_BYTES <= engine::MAX_CONSTRAINT_BYTES);
const _: () =
    assert!(limits::MAX_GUIDED_CHOICES * limits::MAX_USER_BYTES <= engine::MAX_CONSTRAINT_BYTES);
const _: () = assert!(limits::MAX_STOPS <= engine::MAX_STOPS);
const _: () = assert!(limits::MAX_STOP_BYTES <= engine::MAX_STOP_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_priority_of_the_api_is_the_highest_of_the_engine() {
        let turns = [i8::MIN, -1, 0, 1, i8::MAX].map(turn);
        assert_eq!(turns, [255, 128, 127, 126, 0]);
        assert!(turns.is_sorted_by(|before, after| before > after));
    }
}
