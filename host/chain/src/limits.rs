//! Limits of chain access: every length and every wait that a server could stretch has a name here.

use std::time::Duration;

/// Largest answer, in bytes: [`MAX_TRANSACTIONS`] with messages of a usual size.
pub const MAX_ANSWER_BYTES: usize = 2 << 20;
/// Largest head of an answer, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 16 << 10;
/// Most header fields of an answer.
pub(crate) const MAX_HEADERS: usize = 64;
/// Longest the connection may take, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest one answer may take from the first byte asked to the last received.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Most attempts at one question.
pub const MAX_ATTEMPTS: u32 = 4;
/// Wait before the second attempt; it doubles before each further one.
pub const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between attempts, also where the server asks for a longer one.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
/// Longest base URL, in bytes.
pub const MAX_URL_BYTES: usize = 512;
/// Longest API key, in bytes; toncenter's have 64.
pub const MAX_API_KEY_BYTES: usize = 256;
/// Most transactions of one answer, which is what toncenter gives.
pub const MAX_TRANSACTIONS: usize = 100;
/// Most values that a get-method is believed to return; ours return eight at most.
pub const MAX_STACK: usize = 32;
/// Most messages that one transaction is believed to send, which is what TON allows.
pub(crate) const MAX_SENT: usize = 255;
/// Longest text of the server that is repeated in one of our messages, in characters.
pub(crate) const MAX_SHOWN_CHARS: usize = 160;
