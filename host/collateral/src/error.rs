//! Why no bundle was fetched. Text of the service is repeated only bounded and in printable ASCII.

use std::io::ErrorKind;
use std::time::Duration;

use chrysalis_evidence::CollateralError;
use thiserror::Error;

use crate::limits::MAX_SHOWN_CHARS;
use crate::part::Part;

/// Why a base URL was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// Not a base URL.
    #[error("the address of the service cannot be used: {reason}")]
    Form {
        /// What is wrong.
        reason: &'static str,
    },
    /// Plain HTTP to another machine.
    #[error("plain http to {host}: the network could read and withhold answers")]
    Plain {
        /// The host named.
        host: String,
    },
}

impl UrlError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "E-URL",
            Self::Plain { .. } => "E-URL-PLAIN",
        }
    }
}

/// Why no bundle was fetched.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FetchError {
    /// One endpoint gave no usable answer.
    #[error("{part}: {problem} (attempt {attempts})")]
    Part {
        /// Which one.
        part: Part,
        /// What was wrong the last time.
        problem: Problem,
        /// Attempts made.
        attempts: u32,
    },
    /// The parts together are no bundle.
    #[error(transparent)]
    Bundle(#[from] CollateralError),
    /// No certificate authority for TLS was found in a file.
    #[error("no certificate authority can be read from the file")]
    NoAuthorities,
}

impl FetchError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Part { problem, .. } => problem.code(),
            Self::Bundle(error) => error.code(),
            Self::NoAuthorities => "E-FETCH-AUTHORITIES",
        }
    }
}

/// What was wrong with one answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// No connection.
    #[error("cannot reach the service: {0}")]
    Unreachable(ErrorKind),
    /// No TLS connection.
    #[error("no TLS 1.3 connection to the service: {0}")]
    Tls(String),
    /// The service needs TLS and no authorities were given.
    #[error("the service is named with https and no certificate authorities were given")]
    NoTlsRoots,
    /// It took too long.
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
    /// The connection ended inside the answer, or the answer was no HTTP.
    #[error("the answer broke off or is no HTTP")]
    Broken,
    /// Another status than 200.
    #[error("the service answered with HTTP status {got}")]
    Status {
        /// Status found.
        got: u16,
    },
    /// A redirect. It is not followed: the user named one service.
    #[error("the service answered with a redirect (HTTP status {got}), which is not followed")]
    Redirect {
        /// Status found.
        got: u16,
    },
    /// Over a limit.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// JSON was due.
    #[error("the answer is of type {got:?}; application/json is expected")]
    ContentType {
        /// Type found.
        got: String,
    },
    /// No issuer chain, or one that is not two certificates.
    #[error("the issuer chain in header {header} is {reason}")]
    Chain {
        /// Name of the header.
        header: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Not the JSON it should be.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// Not a revocation list in DER, PEM or hex.
    #[error("the answer is no certificate revocation list")]
    NotACrl,
    /// About something else than was asked for.
    #[error("asked for {what} {expected}, the answer is about {got}")]
    Other {
        /// What was compared.
        what: &'static str,
        /// What was asked for.
        expected: String,
        /// What came.
        got: String,
    },
    /// Not signed under the root, or not valid now.
    #[error("not authentic: {0}")]
    NotAuthentic(&'static str),
    /// Its window is not now.
    #[error("valid from {from} to {until} (seconds since 1970); it is {now}")]
    NotNow {
        /// First second.
        from: u64,
        /// Last second.
        until: u64,
        /// The caller's time.
        now: u64,
    },
}

impl Problem {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "E-FETCH-UNREACHABLE",
            Self::Tls(_) => "E-FETCH-TLS",
            Self::NoTlsRoots => "E-FETCH-AUTHORITIES",
            Self::TimedOut(_) => "E-FETCH-TIMEOUT",
            Self::Broken => "E-FETCH-BROKEN",
            Self::Status { .. } => "E-FETCH-STATUS",
            Self::Redirect { .. } => "E-FETCH-REDIRECT",
            Self::TooLarge { .. } => "E-FETCH-SIZE",
            Self::ContentType { .. } => "E-FETCH-TYPE",
            Self::Chain { .. } => "E-FETCH-CHAIN",
            Self::Malformed(_) => "E-FETCH-FORM",
            Self::NotACrl => "E-FETCH-CRL",
            Self::Other { .. } => "E-FETCH-OTHER",
            Self::NotAuthentic(_) => "E-FETCH-AUTHENTIC",
            Self::NotNow { .. } => "E-FETCH-WINDOW",
        }
    }

    /// Whether asking again may help.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Broken => true,
            Self::Status { got } => matches!(got, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether it is what the service said, and not that it could not be asked.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Other { .. } | Self::NotAuthentic(_) | Self::NotNow { .. })
    }
}

/// Foreign text in printable ASCII, cut.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .take(MAX_SHOWN_CHARS)
        .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
        .collect()
}
