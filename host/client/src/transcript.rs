//! The words of one exchange, kept only where their owner asks for it: the exact bytes that were
//! sealed and the exact payloads that came back. A receipt commits to both, so whoever has the
//! words can check them against it. A file read back is untrusted until that check.

use std::fmt;

use chrysalis_channel::PathId;
use chrysalis_wire::manifest::ModelTask;
use chrysalis_wire::{RequestId, SecretBytes};
use serde::{Deserialize, Serialize};
use serde_json::StreamDeserializer;
use serde_json::de::SliceRead;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{ClientError, sanitise};
use crate::limits::MAX_TRANSCRIPT_BYTES;
use crate::observed::Observed;

/// Schema name of a transcript.
pub const TRANSCRIPT_SCHEMA: &str = "chrysalis/transcript/v1";

/// Whether the words of an exchange are kept beside its receipt. A type and not a flag, so that the
/// choice is visible at every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The receipt alone, which has no word in it.
    #[default]
    Receipt,
    /// Request and answer as well.
    Words,
}

/// The words of one exchange.
pub struct Transcript {
    request_id: RequestId,
    request: SecretBytes,
    pieces: Vec<SecretBytes>,
    bytes: usize,
}

impl Transcript {
    pub(crate) fn new(request_id: RequestId, request: &[u8]) -> Self {
        let request = SecretBytes::new(request.to_vec());
        Self { request_id, bytes: request.len(), request, pieces: Vec::new() }
    }

    /// Adds a piece of the answer.
    ///
    /// # Errors
    /// [`ClientError::TranscriptTooLarge`].
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), ClientError> {
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > MAX_TRANSCRIPT_BYTES {
            return Err(ClientError::TranscriptTooLarge);
        }
        self.pieces.push(SecretBytes::new(piece.to_vec()));
        Ok(())
    }

    /// Id of the request.
    #[must_use]
    pub const fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The exact bytes of the request.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        self.request.expose()
    }

    /// The payloads of the answer, in order, in one buffer.
    #[must_use]
    pub fn response(&self) -> Zeroizing<Vec<u8>> {
        let size = self.pieces.iter().map(SecretBytes::len).sum();
        let mut whole = Zeroizing::new(Vec::with_capacity(size));
        for piece in &self.pieces {
            whole.extend_from_slice(piece.expose());
        }
        whole
    }

    /// The document to store.
    ///
    /// # Errors
    /// [`ClientError::StoredMalformed`] for words that are not UTF-8, which no JSON is.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let text = |bytes| {
            core::str::from_utf8(bytes)
                .map_err(|_| ClientError::StoredMalformed("words that are not UTF-8".to_owned()))
        };
        let response: Result<Vec<&str>, _> = self.pieces.iter().map(|p| text(p.expose())).collect();
        let document = Written {
            schema: TRANSCRIPT_SCHEMA,
            request_id: self.request_id,
            request: text(self.request.expose())?,
            response: response?,
        };
        // Room for every byte escaped, so that no copy is left behind by growing.
        let room = self.bytes.saturating_mul(2).saturating_add(ROOM_PER_PIECE * self.pieces.len());
        let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(ROOM)));
        serde_json::to_writer_pretty(&mut *bytes, &document)
            .map_err(|e| ClientError::StoredMalformed(e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a transcript from untrusted bytes.
    ///
    /// # Errors
    /// [`ClientError::StoredMalformed`] if it is too large, of another schema, or not readable.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClientError> {
        // What the reader says may quote the words.
        let malformed = |what: &str| ClientError::StoredMalformed(format!("transcript: {what}"));
        let found: SchemaOnly = serde_json::from_slice(bytes)
            .map_err(|e| malformed(&format!("not JSON at line {}", e.line())))?;
        if found.schema != TRANSCRIPT_SCHEMA {
            let schema = sanitise(&found.schema);
            return Err(malformed(&format!("schema {schema:?}, expected {TRANSCRIPT_SCHEMA}")));
        }
        let mut read: Read = serde_json::from_slice(bytes)
            .map_err(|e| malformed(&format!("not in its form at line {}", e.line())))?;
        let mut transcript = Self::new(read.request_id, read.request.as_bytes());
        for piece in &read.response {
            transcript.push(piece.as_bytes())?;
        }
        read.request.zeroize();
        read.response.zeroize();
        Ok(transcript)
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transcript({}, <redacted {} bytes>)", self.request_id, self.bytes)
    }
}

/// What was said, from whoever kept it: the exact request bytes, and the answer's payload bytes
/// (the JSON of each chunk in order, or the whole body).
#[derive(Clone, Copy)]
pub struct Spoken<'a> {
    /// The exact bytes of the OpenAI request.
    pub request: &'a [u8],
    /// The payload bytes of the answer, in order.
    pub response: &'a [u8],
}

impl Spoken<'_> {
    /// The endpoint the request is for: a chat has messages, a response an input, and so has a request
    /// for embeddings, which a model of another kind answers.
    pub(crate) fn path(&self, task: ModelTask) -> PathId {
        if task == ModelTask::Embedding {
            return PathId::Embeddings;
        }
        #[derive(Deserialize)]
        struct Fields {
            messages: Option<serde::de::IgnoredAny>,
            input: Option<serde::de::IgnoredAny>,
        }
        match serde_json::from_slice::<Fields>(self.request) {
            Ok(Fields { messages: Some(_), .. }) => PathId::ChatCompletions,
            Ok(Fields { input: Some(_), .. }) => PathId::Responses,
            _ => PathId::Completions,
        }
    }

    /// What the answer says about itself; `None` if it is not an answer of this API.
    pub(crate) fn observed(&self) -> Option<Observed> {
        let mut observed = Observed::default();
        let mut values: StreamDeserializer<'_, SliceRead<'_>, serde::de::IgnoredAny> =
            serde_json::Deserializer::from_slice(self.response).into_iter();
        let mut from = 0;
        while let Some(value) = values.next() {
            value.ok()?;
            let to = values.byte_offset();
            observed.note(self.response.get(from..to)?).ok()?;
            from = to;
        }
        Some(observed)
    }
}

impl fmt::Debug for Spoken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<redacted {} and {} bytes>", self.request.len(), self.response.len())
    }
}

/// The payloads in a response as a program may have saved it: `data:` lines of an event stream are
/// unwrapped, everything else is taken as it is.
#[must_use]
pub fn payloads_of(saved: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut whole = Zeroizing::new(Vec::with_capacity(saved.len()));
    if !saved.starts_with(EVENT) {
        whole.extend_from_slice(saved);
        return whole;
    }
    for line in saved.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(payload) = line.strip_prefix(EVENT)
            && payload != DONE
        {
            whole.extend_from_slice(payload);
        }
    }
    whole
}

#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    request_id: RequestId,
    request: &'a str,
    response: Vec<&'a str>,
}

/// The schema is read first and alone, so that a newer document is refused by its version.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(rename = "schema")]
    _schema: String,
    request_id: RequestId,
    request: String,
    response: Vec<String>,
}

const EVENT: &[u8] = b"data: ";
const DONE: &[u8] = b"[DONE]";

/// Room for the document around its words.
const ROOM: usize = 512;
const ROOM_PER_PIECE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_byte_for_byte() {
        let request = br#"{"model":"m","messages":[{"content":"canary \u00e9 \"x\""}]}"#;
        let mut transcript = Transcript::new(RequestId([7; 16]), request);
        for piece in [r#"{"a":"wörd\n"}"#, r#"{"b":2}"#] {
            transcript.push(piece.as_bytes()).unwrap();
        }
        let read = Transcript::parse(&transcript.to_json().unwrap()).unwrap();
        assert_eq!((read.request_id(), read.request()), (RequestId([7; 16]), &request[..]));
        assert_eq!(&read.response()[..], "{\"a\":\"wörd\\n\"}{\"b\":2}".as_bytes());
        assert!(!format!("{read:?}").contains("canary"));
    }

    #[test]
    fn refuses_another_schema_and_what_is_not_one_without_quoting_it() {
        for bad in [
            r#"{"schema":"chrysalis/transcript/v2"}"#,
            r#"{"schema":"chrysalis/transcript/v1","canary":1}"#,
            "canary",
        ] {
            let refused = Transcript::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(refused.code(), "E-STORED-RECEIPT");
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }

    #[test]
    fn refuses_words_one_byte_over_their_limit() {
        let mut transcript = Transcript::new(RequestId([0; 16]), b"");
        transcript.push(&vec![b' '; MAX_TRANSCRIPT_BYTES]).unwrap();
        assert_eq!(transcript.push(b" ").unwrap_err(), ClientError::TranscriptTooLarge);
    }

    #[test]
    fn an_event_stream_is_unwrapped_and_a_body_is_taken_as_it_is() {
        let saved = b"data: {\"a\":1}\r\n\r\ndata: {\"b\":2}\n\ndata: [DONE]\n\n";
        assert_eq!(&payloads_of(saved)[..], b"{\"a\":1}{\"b\":2}");
        assert_eq!(&payloads_of(b"{\"a\":1}\n")[..], b"{\"a\":1}\n");
    }
}
