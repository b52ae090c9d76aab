//! Limits of the fetcher: every length and every wait the service could stretch has a name here.

use std::time::Duration;

/// Largest answer of one endpoint, in bytes. The largest real one is a revocation list of 7 KB in
/// hex; a bundle of all four has to stay under the wire's own limit.
pub const MAX_ANSWER_BYTES: usize = 128 * 1024;

/// Largest head of an answer, in bytes. An issuer chain travels in it: 2.5 KB, percent-encoded.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Most header fields of an answer.
pub const MAX_HEADERS: usize = 64;

/// Largest issuer chain, in bytes of PEM. Intel's are 1.9 KB.
pub const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// Longest the connection to the service may take, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest one answer may take from the first byte asked to the last received.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most attempts at one endpoint.
pub const MAX_ATTEMPTS: u32 = 4;

/// Wait before the second attempt; it doubles before each further one.
pub const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Longest base URL, in bytes.
pub const MAX_URL_BYTES: usize = 512;

/// Longest text of the service that is repeated in one of our messages, in characters.
pub const MAX_SHOWN_CHARS: usize = 120;
