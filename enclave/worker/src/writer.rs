//! Writes the engine's text in the shape the request asked for: SSE chunks or one JSON object.

use chrysalis_api::{
    self as api, Call, CallParser, Completion, Endpoint, FinishReason, InferenceRequest,
    LoggedToken, Piece, Responder, ResponsesWriter, Said, Thought, ThoughtParser, Whole,
};
use chrysalis_channel::FrameKind;
use chrysalis_engine::{Delta, Reasoning, TokenUsage, ToolStyle};
use chrysalis_wire::{RequestId, SecretBytes, UnixTime};

use crate::convert;

/// Content frames, in order.
pub type Pieces = Vec<(FrameKind, SecretBytes)>;

/// Writes one answer.
pub struct Writer {
    responder: Responder,
    /// Instead of the responder, where a response was asked for.
    responses: Option<ResponsesWriter>,
    stream: bool,
    obfuscate: bool,
    /// Whether tokens are told.
    logprobs: bool,
    choices: Vec<Choice>,
}

/// One choice so far.
#[derive(Default)]
struct Choice {
    /// Its text, if it is not streamed; each piece is wiped on drop.
    parts: Vec<SecretBytes>,
    /// Its tokens, if they are told and not streamed.
    tokens: Vec<LoggedToken>,
    /// Tells its reasoning from its text, if the model may reason.
    thoughts: Option<ThoughtParser>,
    /// Its reasoning, if it is not streamed; each piece is wiped on drop.
    reasoning: Vec<SecretBytes>,
    /// Finds calls of tools in its text, if there are tools.
    parser: Option<CallParser>,
    /// The calls of tools in it.
    calls: Vec<Call>,
    /// Why it ended.
    reason: Option<FinishReason>,
}

impl Writer {
    /// A writer for `request`, which asked for `stream` or not, and whose answer may begin with `reasoning`
    /// and has calls in the model's `style`.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        request: &InferenceRequest,
        request_id: RequestId,
        created: UnixTime,
        fingerprint: &str,
        reasoning: Reasoning,
        style: ToolStyle,
    ) -> Self {
        let responder = Responder::new(endpoint, request_id, created, &request.model)
            .with_fingerprint(fingerprint)
            .with_usage(request.include_usage);
        // Log probabilities are of all that was said; what has to be something has no room for reasoning;
        // and responses would have to tell it in items of their own.
        let whole = request.constraint.as_ref().is_some_and(|(what, _)| what.is_of_all());
        let whole = whole || request.logprobs.is_some();
        let thoughts = || match reasoning {
            _ if whole || endpoint != Endpoint::Chat => None,
            Reasoning::None => None,
            Reasoning::Possible => Some(false),
            Reasoning::Begun => Some(true),
        };
        let responses = (endpoint == Endpoint::Responses)
            .then(|| ResponsesWriter::new(request_id, created, &request.model));
        let (format, begun) = convert::call_format(request, style);
        let parser = || request.tools.as_ref().map(|t| CallParser::new(t.names(), format, begun));
        Self {
            responder,
            responses,
            stream: request.stream,
            obfuscate: request.include_obfuscation,
            logprobs: request.logprobs.is_some(),
            choices: (0..request.choices)
                .map(|_| Choice::new(parser(), thoughts().map(ThoughtParser::new)))
                .collect(),
        }
    }

    /// What is sent before the first token.
    #[must_use]
    pub fn open(&mut self) -> Pieces {
        if !self.stream {
            return Vec::new();
        }
        if let Some(responses) = &mut self.responses {
            return responses.open().into_iter().flat_map(|event| chunk(Some(event))).collect();
        }
        (0..).zip(&self.choices).flat_map(|(index, _)| chunk(self.responder.open(index))).collect()
    }

    /// One more piece of a choice.
    #[must_use]
    pub fn delta(&mut self, delta: Delta) -> Pieces {
        let Some(choice) = nth(&mut self.choices, delta.choice) else { return Vec::new() };
        if choice.thoughts.is_some() || choice.parser.is_some() {
            // The engine promises UTF-8; a piece that is not would be its fault, not the requester's.
            let Ok(text) = core::str::from_utf8(delta.text.expose()) else { return Vec::new() };
            let said = choice.read(text);
            return self.said(delta.choice, said);
        }
        let tokens = delta.tokens.into_iter().map(convert::logged);
        if !self.stream {
            choice.parts.push(delta.text);
            choice.tokens.extend(tokens);
            return Vec::new();
        }
        let tokens: Vec<LoggedToken> = tokens.collect();
        let Ok(text) = core::str::from_utf8(delta.text.expose()) else { return Vec::new() };
        if let Some(responses) = &mut self.responses {
            // The last events repeat the whole text.
            let event = responses.delta(text);
            choice.parts.push(delta.text);
            return chunk(Some(event));
        }
        let noise = self.obfuscate.then(noise).flatten();
        let tokens = self.logprobs.then_some(tokens.as_slice());
        chunk(Some(self.responder.delta(delta.choice, Piece { text, tokens }, noise.as_deref())))
    }

    /// Reasoning, text and calls of a choice that were told apart.
    fn said(&mut self, index: u32, said: Vec<Part>) -> Pieces {
        let mut pieces = Vec::new();
        let Some(choice) = nth(&mut self.choices, index) else { return pieces };
        for said in said {
            let noise = self.obfuscate.then(noise).flatten();
            match said {
                Part::Reasoning(text) if self.stream => {
                    let noise = noise.as_deref();
                    let json = self.responder.reasoning(index, text.expose(), noise);
                    pieces.extend(chunk(Some(json)));
                }
                Part::Reasoning(text) => choice.reasoning.push(text.into_secret()),
                Part::Said(Said::Text(text)) if self.stream => {
                    let piece = Piece::text(text.expose());
                    pieces.extend(chunk(Some(self.responder.delta(
                        index,
                        piece,
                        noise.as_deref(),
                    ))));
                }
                Part::Said(Said::Text(text)) => choice.parts.push(text.into_secret()),
                Part::Said(Said::Call(call)) => {
                    let number = u32::try_from(choice.calls.len()).unwrap_or(u32::MAX);
                    let noise = noise.as_deref();
                    let json = || self.responder.call(index, number, &call, noise);
                    pieces.extend(chunk(self.stream.then(json)));
                    choice.calls.push(call);
                }
            }
        }
        pieces
    }

    /// The end of a complete choice.
    #[must_use]
    pub fn finish(&mut self, index: u32, reason: FinishReason) -> Pieces {
        let said = nth(&mut self.choices, index).map(Choice::end).unwrap_or_default();
        let mut pieces = self.said(index, said);
        let Some(choice) = nth(&mut self.choices, index) else { return pieces };
        let called = reason == FinishReason::Stop && !choice.calls.is_empty();
        let reason = if called { FinishReason::ToolCalls } else { reason };
        choice.reason = Some(reason);
        let told = self.stream && self.responses.is_none();
        pieces.extend(chunk(told.then(|| self.responder.finish(index, reason))));
        pieces
    }

    /// Whether every choice is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.choices.iter().all(|choice| choice.reason.is_some())
    }

    /// What ends a complete answer.
    #[must_use]
    pub fn end(&mut self, tokens: &TokenUsage) -> Pieces {
        let usage = api::TokenUsage {
            prompt: tokens.prompt,
            cached: tokens.cached,
            completion: tokens.completion,
            reasoning: 0,
        };
        if let Some(responses) = &mut self.responses {
            let Some(choice) = self.choices.first_mut() else { return Vec::new() };
            let (text, reason) = (choice.text(), choice.reason.unwrap_or(FinishReason::Stop));
            let text = core::str::from_utf8(text.expose()).unwrap_or_default();
            if self.stream {
                let last = responses.close(text, reason, &usage);
                return last.into_iter().flat_map(|event| chunk(Some(event))).collect();
            }
            return vec![(FrameKind::Body, responses.whole(text, reason, &usage))];
        }
        if self.stream {
            return chunk(self.responder.usage(&usage));
        }
        let reasonings = self.choices.iter_mut().map(|choice| joined(&mut choice.reasoning));
        let reasonings: Vec<SecretBytes> = reasonings.collect();
        let texts: Vec<SecretBytes> = self.choices.iter_mut().map(Choice::text).collect();
        let mut all = Vec::with_capacity(texts.len());
        for ((choice, text), reasoning) in self.choices.iter().zip(&texts).zip(&reasonings) {
            let reasoning = core::str::from_utf8(reasoning.expose()).unwrap_or_default();
            let reasoning = Some(reasoning).filter(|reasoning| !reasoning.is_empty());
            let text = core::str::from_utf8(text.expose()).unwrap_or_default();
            let tokens = self.logprobs.then_some(choice.tokens.as_slice());
            let reason = choice.reason.unwrap_or(FinishReason::Stop);
            all.push(Whole {
                piece: Piece { text, tokens },
                reasoning,
                calls: &choice.calls,
                reason,
            });
        }
        vec![(FrameKind::Body, self.responder.whole(&all, &usage))]
    }
}

/// A part of what a choice says.
enum Part {
    Reasoning(Completion),
    Said(Said),
}

impl Choice {
    fn new(parser: Option<CallParser>, thoughts: Option<ThoughtParser>) -> Self {
        Self { thoughts, parser, ..Self::default() }
    }

    /// Tells apart what comes next.
    fn read(&mut self, text: &str) -> Vec<Part> {
        let thoughts = match &mut self.thoughts {
            Some(thoughts) => thoughts.push(text),
            None => vec![Thought::Text(Completion::new(text.to_owned()))],
        };
        thoughts.into_iter().flat_map(|thought| self.part(thought)).collect()
    }

    /// What was held back.
    fn end(&mut self) -> Vec<Part> {
        let thoughts = self.thoughts.as_mut().map(ThoughtParser::finish).unwrap_or_default();
        let mut parts: Vec<Part> =
            thoughts.into_iter().flat_map(|thought| self.part(thought)).collect();
        let said = self.parser.as_mut().map(CallParser::finish).unwrap_or_default();
        parts.extend(said.into_iter().map(Part::Said));
        parts
    }

    fn part(&mut self, thought: Thought) -> Vec<Part> {
        match (thought, &mut self.parser) {
            (Thought::Reasoning(text), _) => vec![Part::Reasoning(text)],
            (Thought::Text(text), None) => vec![Part::Said(Said::Text(text))],
            (Thought::Text(text), Some(parser)) => {
                parser.push(text.expose()).into_iter().map(Part::Said).collect()
            }
        }
    }

    /// Its text in one piece.
    fn text(&mut self) -> SecretBytes {
        joined(&mut self.parts)
    }
}

fn joined(parts: &mut Vec<SecretBytes>) -> SecretBytes {
    let len = parts.iter().map(SecretBytes::len).fold(0, usize::saturating_add);
    let mut text = Vec::with_capacity(len);
    for part in parts.drain(..) {
        text.extend_from_slice(part.expose());
    }
    SecretBytes::new(text)
}

fn nth(choices: &mut [Choice], index: u32) -> Option<&mut Choice> {
    choices.get_mut(usize::try_from(index).ok()?)
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
