//! Writes the engine's text in the shape the request asked for: SSE chunks or one JSON object.

use chrysalis_api::{self as api, Endpoint, InferenceRequest, Responder};
use chrysalis_channel::FrameKind;
use chrysalis_engine::TokenUsage;
use chrysalis_wire::{RequestId, SecretBytes, UnixTime};

/// Content frames, in order.
pub type Pieces = Vec<(FrameKind, SecretBytes)>;

/// Writes one answer.
pub struct Writer {
    responder: Responder,
    stream: bool,
    obfuscate: bool,
    /// Text of an answer that is not streamed; each piece is wiped on drop.
    parts: Vec<SecretBytes>,
}

impl Writer {
    /// A writer for `request`, which asked for `stream` or not.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        request: &InferenceRequest,
        request_id: RequestId,
        created: UnixTime,
        fingerprint: &str,
    ) -> Self {
        let responder = Responder::new(endpoint, request_id, created, &request.model)
            .with_fingerprint(fingerprint)
            .with_usage(request.include_usage);
        Self {
            responder,
            stream: request.stream,
            obfuscate: request.include_obfuscation,
            parts: Vec::new(),
        }
    }

    /// What is sent before the first token.
    #[must_use]
    pub fn open(&self) -> Pieces {
        if self.stream { chunk(self.responder.open()) } else { Vec::new() }
    }

    /// One more piece of text.
    #[must_use]
    pub fn delta(&mut self, text: SecretBytes) -> Pieces {
        if !self.stream {
            self.parts.push(text);
            return Vec::new();
        }
        // The engine promises UTF-8; a piece that is not would be its fault, not the requester's.
        let Ok(text) = core::str::from_utf8(text.expose()) else { return Vec::new() };
        let noise = self.obfuscate.then(noise).flatten();
        chunk(Some(self.responder.delta(text, noise.as_deref())))
    }

    /// What ends a complete answer.
    #[must_use]
    pub fn finish(&mut self, reason: api::FinishReason, tokens: &TokenUsage) -> Pieces {
        let usage = api::TokenUsage {
            prompt: tokens.prompt,
            cached: tokens.cached,
            completion: tokens.completion,
            reasoning: 0,
        };
        if self.stream {
            let mut pieces = chunk(Some(self.responder.finish(reason)));
            pieces.extend(chunk(self.responder.usage(&usage)));
            return pieces;
        }
        let len = self.parts.iter().map(SecretBytes::len).fold(0, usize::saturating_add);
        let mut text = Vec::with_capacity(len);
        for part in self.parts.drain(..) {
            text.extend_from_slice(part.expose());
        }
        let text = SecretBytes::new(text);
        let whole = core::str::from_utf8(text.expose()).unwrap_or_default();
        vec![(FrameKind::Body, self.responder.whole(whole, reason, &usage))]
    }
}

fn chunk(json: Option<SecretBytes>) -> Pieces {
    json.map(|json| (FrameKind::Chunk, json)).into_iter().collect()
}

/// Random bytes of random length for OpenAI's `obfuscation` field.
fn noise() -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; 1 + MAX_NOISE_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    let len = usize::from(bytes.pop()?) % MAX_NOISE_BYTES;
    bytes.truncate(len);
    Some(bytes)
}

/// Longest obfuscation field, in bytes.
const MAX_NOISE_BYTES: usize = 32;
