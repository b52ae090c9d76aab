//! Server-sent events. The JSON may come from a worker and is not trusted to be one line: a line
//! break in it could forge events, `[DONE]` included.

use chrysalis_wire::SecretBytes;
use thiserror::Error;

use crate::error::ApiError;

/// Why an event cannot be written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SseError {
    /// The data has a line break, which compact JSON never has.
    #[error("the data of an event contains a line break; the worker does not keep to the protocol")]
    LineBreak,
    /// There is no data.
    #[error("the data of an event is empty; the worker does not keep to the protocol")]
    Empty,
}

impl SseError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LineBreak => "E-SSE-LINE-BREAK",
            Self::Empty => "E-SSE-EMPTY",
        }
    }
}

/// `data: {json}` and a blank line.
///
/// # Errors
/// [`SseError::LineBreak`] if `json` contains one, [`SseError::Empty`] if there is none.
pub fn event(json: &[u8]) -> Result<SecretBytes, SseError> {
    if json.is_empty() {
        return Err(SseError::Empty);
    }
    if json.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        return Err(SseError::LineBreak);
    }
    let capacity = json.len().saturating_add(PREFIX.len()).saturating_add(SUFFIX.len());
    let mut out = Vec::with_capacity(capacity);
    out.extend_from_slice(PREFIX);
    out.extend_from_slice(json);
    out.extend_from_slice(SUFFIX);
    Ok(SecretBytes::new(out))
}

/// The event that ends a broken stream. No [`DONE`] follows it.
#[must_use]
pub fn error_event(error: &ApiError) -> Vec<u8> {
    [PREFIX, &error.to_json(), SUFFIX].concat()
}

/// The event that ends a complete stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
/// A comment that keeps an idle connection open.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

const PREFIX: &[u8] = b"data: ";
const SUFFIX: &[u8] = b"\n\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn writes_one_event() {
        assert_eq!(event(b"{}").unwrap().expose(), b"data: {}\n\n");
    }

    #[test]
    fn refuses_data_that_would_forge_another_event() {
        for json in [&b"{}\n\ndata: [DONE]"[..], b"{}\r", b"\n"] {
            assert_eq!(event(json).unwrap_err(), SseError::LineBreak);
        }
    }

    #[test]
    fn refuses_an_event_without_data() {
        assert_eq!(event(b"").unwrap_err(), SseError::Empty);
    }

    #[test]
    fn an_error_event_is_one_line_whatever_its_message_holds() {
        let error = ApiError::new(500, ErrorKind::Server, "x", "a\nb\r\n\ndata: [DONE]");
        let event = error_event(&error);
        assert_eq!(event.iter().filter(|b| matches!(b, b'\r' | b'\n')).count(), 2);
        assert!(event.ends_with(b"}\n\n"));
    }
}
