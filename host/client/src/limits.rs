//! Limits of the client: every length and every wait a peer could stretch has a name here.
//!
//! Limits shared with the worker are in [`chrysalis_wire::limits`].

use std::time::Duration;

use chrysalis_wire::limits::KEEP_ALIVE_INTERVAL;

/// Longest the TCP connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest the TLS handshake may take; a full post-quantum handshake is about 2 ms of CPU.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest one attestation may take. A quote through the stock TDX driver is about one second
/// and quotes are serialised, so this allows for a short queue.
pub const ATTESTATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest a worker is used on the same evidence. Then it is challenged again before the next
/// request, on a connection that is still open if there is one.
pub const REATTEST_INTERVAL: Duration = chrysalis_evidence::exchange::REATTEST_INTERVAL;

/// Longest the worker may be silent while it answers. It says every [`KEEP_ALIVE_INTERVAL`] that it still
/// computes, however long that takes.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const _: () = assert!(IDLE_TIMEOUT.as_secs() >= 4 * KEEP_ALIVE_INTERVAL.as_secs());

/// How often a local requester of a stream is told that it still lives, if there is nothing else to tell.
pub const GATEWAY_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Longest a finished answer may keep its connection before the connection is dropped.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// Largest head of a response, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header fields of a response.
pub const MAX_HEADERS: usize = 64;

/// Largest JSON of a refusal outside the sealed channel, in bytes.
pub const MAX_PLAIN_ERROR_BYTES: usize = 16 * 1024;

/// Longest text of a peer that is repeated in one of our messages, in characters.
pub const MAX_PEER_TEXT_CHARS: usize = 240;

/// Longest wait a worker may ask for in `Retry-After`, in seconds.
pub const MAX_RETRY_AFTER_SECONDS: u32 = 3600;

/// Largest sealed answer, in bytes. A token travels in a frame of about half a KiB, and the
/// largest context a manifest may name is 2^20 tokens. None of it is held but a body.
pub const MAX_RESPONSE_BYTES: usize = 1024 * 1024 * 1024;

/// Largest answer that is not streamed, in bytes; the gateway holds it until its receipt is
/// verified. Workers compute no vectors that have no room in it.
pub const MAX_BODY_BYTES: usize = chrysalis_api::limits::MAX_ANSWER_BYTES;

/// Idle connections kept to one worker.
pub const MAX_IDLE_CONNECTIONS: usize = 4;

/// Longest an idle connection is kept. Workers close theirs after a minute; half of it leaves no
/// request on a connection that is being closed.
pub const MAX_IDLE_TIME: Duration = Duration::from_secs(30);

/// Largest request the gateway reads, in bytes.
pub const MAX_GATEWAY_REQUEST_BYTES: usize = chrysalis_wire::limits::MAX_SEALED_REQUEST_BYTES;

/// Longest the gateway waits for the body of a local request.
pub const GATEWAY_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest the gateway waits for the head of a local request, also between two requests on one
/// connection. SDKs drop their idle connections after a few seconds.
pub const GATEWAY_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Most connections to the gateway at once; one more is closed. Each holds one request at most.
pub const MAX_GATEWAY_CONNECTIONS: usize = 128;

/// Largest transcript kept or read, in bytes of its words: the largest request, and the largest answer
/// that is not streamed. What was paid for can be kept.
pub const MAX_TRANSCRIPT_BYTES: usize = MAX_GATEWAY_REQUEST_BYTES + MAX_BODY_BYTES;
/// And of a stream 2^16 tokens.
const _: () = assert!(MAX_BODY_BYTES >= 32 * 1024 * 1024);

/// Largest stored receipt, in bytes: the attestation document and less than 16 KiB.
pub const MAX_STORED_RECEIPT_BYTES: usize =
    chrysalis_wire::limits::MAX_ATTESTATION_BYTES + 16 * 1024;

/// Largest receipt of a request whose parts are closed, in bytes: four times its size.
pub const MAX_PUBLIC_RECEIPT_BYTES: usize = 8 * 1024;

/// Largest history of a channel, in bytes: some ten thousand receipts.
pub const MAX_HISTORY_BYTES: usize = 16 * 1024 * 1024;

/// Most receipts one listing returns.
pub const MAX_LISTED_RECEIPTS: usize = 10_000;

/// How often a request is tried whose deposit the worker's owner has not seen yet, after the first time.
pub const FUNDING_ATTEMPTS: u32 = 10;

/// Longest wait between two of these, whatever the worker asks for, in seconds.
pub const MAX_FUNDING_WAIT_SECONDS: u32 = 5;

/// The bounds of one client, changed only by tests and by users on slow links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// See [`CONNECT_TIMEOUT`].
    pub connect: Duration,
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake: Duration,
    /// See [`ATTESTATION_TIMEOUT`].
    pub attestation: Duration,
    /// See [`REATTEST_INTERVAL`]; a longer one has no effect.
    pub reattest: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle: Duration,
    /// See [`MAX_RESPONSE_BYTES`].
    pub response_bytes: usize,
    /// See [`MAX_BODY_BYTES`].
    pub body_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            handshake: HANDSHAKE_TIMEOUT,
            attestation: ATTESTATION_TIMEOUT,
            reattest: REATTEST_INTERVAL,
            idle: IDLE_TIMEOUT,
            response_bytes: MAX_RESPONSE_BYTES,
            body_bytes: MAX_BODY_BYTES,
        }
    }
}
