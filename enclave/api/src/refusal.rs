//! Every way a request is refused. A refusal names the field and what is allowed there; it never
//! holds a value from the request.

use thiserror::Error;

use crate::error::{ApiError, ErrorKind};

/// Why a request was refused. `param` is a path such as `messages[0].content`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The body is larger than the limit.
    #[error("The request is {got} bytes; at most {limit} are accepted. Shorten it.")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// Size found.
        got: usize,
    },
    /// The body is not UTF-8.
    #[error("The request is not UTF-8 text.")]
    NotUtf8,
    /// The body is not JSON.
    #[error("The request is not valid JSON at line {line}, column {column}.")]
    NotJson {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault.
        column: usize,
    },
    /// A field occurs twice.
    #[error("Duplicate parameter: '{param}'. Give it once.")]
    Duplicate {
        /// The field.
        param: String,
    },
    /// A field nobody defined.
    #[error("Unknown parameter: '{param}'. Remove it.")]
    Unknown {
        /// The field.
        param: String,
    },
    /// A field OpenAI defines and this server does not support.
    #[error("Unsupported parameter: '{param}' is not supported yet. Remove it.")]
    Unsupported {
        /// The field.
        param: String,
    },
    /// A value OpenAI allows and this server does not support.
    #[error("Unsupported value: '{param}' must be {allowed} here.")]
    UnsupportedValue {
        /// The field.
        param: String,
        /// What is supported.
        allowed: &'static str,
    },
    /// A field that must be there is not.
    #[error("Missing required parameter: '{param}'.")]
    Missing {
        /// The field.
        param: String,
    },
    /// A value of the wrong JSON type.
    #[error("Invalid type for '{param}': expected {expected}.")]
    WrongType {
        /// The field.
        param: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A number outside its range.
    #[error("Invalid value for '{param}': it must be {allowed}.")]
    OutOfRange {
        /// The field.
        param: String,
        /// What is allowed.
        allowed: String,
    },
    /// A list with too many elements, or an object with too many fields.
    #[error("'{param}' has too many elements; at most {limit} are accepted.")]
    TooMany {
        /// The field.
        param: String,
        /// The limit.
        limit: usize,
    },
    /// A string that is too long.
    #[error("'{param}' is too long; at most {limit} bytes are accepted.")]
    TooLong {
        /// The field.
        param: String,
        /// The limit.
        limit: usize,
    },
    /// A list or string that must not be empty.
    #[error("'{param}' must not be empty.")]
    Empty {
        /// The field.
        param: String,
    },
    /// A string with an escape that is no character: half of a surrogate pair.
    #[error("'{param}' contains an escape sequence that is not a Unicode character.")]
    NotUnicode {
        /// The field.
        param: String,
    },
    /// Two fields that cannot be combined.
    #[error("'{param}' cannot be used {rule}.")]
    Conflict {
        /// The field.
        param: String,
        /// The rule, as the end of a sentence.
        rule: &'static str,
    },
}

impl RequestError {
    /// Stable code of the refusal; OpenAI's own word where it has one.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "request_too_large",
            Self::NotUtf8 | Self::NotJson { .. } => "invalid_json",
            Self::Duplicate { .. } => "duplicate_parameter",
            Self::Unknown { .. } => "unknown_parameter",
            Self::Unsupported { .. } => "unsupported_parameter",
            Self::UnsupportedValue { .. } => "unsupported_value",
            Self::Missing { .. } => "missing_required_parameter",
            Self::WrongType { .. } => "invalid_type",
            Self::OutOfRange { .. } => "invalid_value",
            Self::TooMany { .. } => "array_above_max_length",
            Self::TooLong { .. } => "string_above_max_length",
            Self::Empty { .. } => "empty_value",
            Self::NotUnicode { .. } => "invalid_unicode",
            Self::Conflict { .. } => "invalid_parameter_combination",
        }
    }

    /// The field the refusal is about, if it is about one.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::TooLarge { .. } | Self::NotUtf8 | Self::NotJson { .. } => None,
            Self::Duplicate { param }
            | Self::Unknown { param }
            | Self::Unsupported { param }
            | Self::UnsupportedValue { param, .. }
            | Self::Missing { param }
            | Self::WrongType { param, .. }
            | Self::OutOfRange { param, .. }
            | Self::TooMany { param, .. }
            | Self::TooLong { param, .. }
            | Self::Empty { param }
            | Self::NotUnicode { param }
            | Self::Conflict { param, .. } => Some(param).filter(|p| !p.is_empty()).map(|p| &**p),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let status = if matches!(error, RequestError::TooLarge { .. }) { 413 } else { 400 };
        let api = Self::new(status, ErrorKind::InvalidRequest, error.code(), error.to_string());
        match error.param() {
            Some(param) => api.with_param(param),
            None => api,
        }
    }
}
