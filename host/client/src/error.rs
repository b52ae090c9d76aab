//! Why the client refuses. Messages name what was expected, what was found and what to do; none
//! of them contains a byte of a prompt or of an answer, and text of a peer is repeated only after
//! it was bounded and stripped of control characters.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use chrysalis_api::{AnswerError, ApiError};
use chrysalis_channel::ChannelError;
use chrysalis_evidence::Refusal;
use chrysalis_evidence::exchange::{Due, ExchangeError};
use chrysalis_ledger::LedgerError;
use chrysalis_receipt::{PaymentRequired, ReceiptError};
use chrysalis_wire::{Digest, RequestId, UnixTime};
use thiserror::Error;

use crate::limits::{MAX_PEER_TEXT_CHARS, MAX_TRANSCRIPT_BYTES};

/// Why the client refuses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// No TCP connection.
    #[error("cannot reach the worker at {address}: {kind}")]
    Unreachable {
        /// The address tried.
        address: String,
        /// The system's reason.
        kind: ErrorKind,
    },
    /// The worker's name has no address.
    #[error("cannot find the worker {address}: its name has no address")]
    NoSuchHost {
        /// The address as given.
        address: String,
    },
    /// A step took longer than its limit.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// The step.
        what: &'static str,
        /// Its limit.
        limit: Duration,
    },
    /// The TLS handshake did not complete.
    #[error("the TLS 1.3 handshake did not complete: {0}")]
    Handshake(String),
    /// The connection was closed before the TLS handshake was over.
    #[error("the connection was closed during the TLS handshake: {0}")]
    ClosedDuringHandshake(ErrorKind),
    /// The peer sent more than the one certificate that carries its key.
    #[error("the worker sent {got} certificates beyond the first; a chain proves nothing here")]
    CertificateChain {
        /// Certificates beyond the first.
        got: usize,
    },
    /// A further connection presented another key than the attested one.
    #[error("TLS key {got} is not the attested key {expected}")]
    TlsKeyChanged {
        /// SPKI digest in the attested keyset.
        expected: Digest,
        /// SPKI digest of this connection.
        got: Digest,
    },
    /// The attested keyset names another TLS key than the connection it was fetched over.
    #[error("the keyset names TLS key {keyset}, this connection has {connection}")]
    KeysetOfAnotherConnection {
        /// SPKI digest in the keyset.
        keyset: Digest,
        /// SPKI digest of the connection.
        connection: Digest,
    },
    /// Not the HTTP that was expected.
    #[error("the worker's {what} is not valid: {reason}")]
    Protocol {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A length of the peer is over its limit.
    #[error("the worker's {what} is over the limit of {limit} bytes")]
    TooLarge {
        /// What was being read.
        what: &'static str,
        /// The named limit.
        limit: usize,
    },
    /// The connection ended before there was an answer.
    #[error("the worker closed the connection before it answered")]
    Disconnected,
    /// The worker refused outside the sealed channel.
    #[error("the worker refused with HTTP {status} {code}: {message}")]
    WorkerRefused {
        /// HTTP status.
        status: u16,
        /// The worker's stable code.
        code: String,
        /// Its message, sanitised.
        message: String,
        /// Its next step, sanitised.
        next_step: String,
        /// Seconds it asks to wait.
        retry_after: Option<u32>,
    },
    /// The worker refused inside the sealed channel. Its message may quote the request, so only
    /// its code is here.
    #[error("the worker refused the request with {status} {code}")]
    AnswerRefused {
        /// HTTP status.
        status: u16,
        /// OpenAI error code, sanitised.
        code: String,
    },
    /// The evidence does not satisfy the pins.
    #[error("the worker's evidence is refused: {} by {}: {}", .0.code, .0.rule, .0.message())]
    Appraisal(Box<Refusal>),
    /// The exchange of challenge and evidence ended without evidence to judge, or with evidence of
    /// something else than before.
    #[error("the worker does not prove itself: {0}")]
    Exchange(ExchangeError),
    /// A worker that was accepted has to prove itself again and does not. Its connections are
    /// closed.
    #[error("{due}, and the worker does not prove itself again: {error}")]
    Reattestation {
        /// Why it had to.
        due: Due,
        /// Why it is refused.
        error: Box<Self>,
    },
    /// What was accepted when the request was sealed is not any more, and the request was still here.
    #[error("the worker was refused, or its evidence is too old, and nothing was sent to it")]
    EvidenceOutdated,
    /// A model key for a worker that was measured with another model.
    #[error("the key is of the model with root {asked}; the worker was measured with {measured}")]
    KeyOfAnotherModel {
        /// Root of the model the key is of.
        asked: Digest,
        /// Root in the worker's measured manifest.
        measured: Digest,
    },
    /// The worker serves only clients that prove themselves, and this one cannot.
    #[error("the worker serves only clients that prove themselves")]
    WorkerWantsProof,
    /// This side has no evidence about itself to show.
    #[error("this client's own platform makes no evidence: {code}")]
    OwnEvidence {
        /// Code of what failed.
        code: &'static str,
    },
    /// The attested keyset has no key to seal to.
    #[error("the attested keyset has no {role} key that is valid now")]
    NoSealKey {
        /// `request` or `grant`.
        role: &'static str,
    },
    /// The sealed channel refused.
    #[error("the sealed channel refused: {0}")]
    Channel(ChannelError),
    /// The answer ended without its final frame.
    #[error("the answer ended after {chunks} pieces without its final frame: it is incomplete")]
    Truncated {
        /// Pieces that arrived.
        chunks: u64,
    },
    /// The sealed request would be larger than the worker takes.
    #[error("the sealed request would have {got} bytes; this worker takes {limit}")]
    RequestTooLarge {
        /// Limit in the measured manifest.
        limit: u32,
        /// Size it would have.
        got: usize,
    },
    /// A frame where the protocol does not allow it.
    #[error("the sealed answer is out of order: {0}")]
    FrameOrder(&'static str),
    /// The answer has no receipt.
    #[error("the answer ended without a receipt")]
    ReceiptMissing,
    /// The receipt cannot be read.
    #[error("the receipt cannot be read: {0}")]
    ReceiptMalformed(String),
    /// The receipt does not match what was sent and received.
    #[error("the receipt does not hold: {}", failed.join("; "))]
    ReceiptRefused {
        /// The checks that did not hold, in words.
        failed: Vec<String>,
    },
    /// A file of the receipt store cannot be used.
    #[error("cannot {what} the receipt store: {kind}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        kind: ErrorKind,
    },
    /// No receipt of this id is stored.
    #[error("no receipt {0} is stored here")]
    NoSuchReceipt(RequestId),
    /// A stored receipt cannot be read.
    #[error("the stored receipt is malformed: {0}")]
    StoredMalformed(String),
    /// A proof is dated after the present, and would be judged by pins that do not count yet.
    #[error("the proof says that its evidence was appraised at {}; it is {} here", .at.0, .now.0)]
    ProofOfTheFuture {
        /// Seconds since 1970 in the proof.
        at: UnixTime,
        /// Seconds since 1970 by this machine's clock.
        now: UnixTime,
    },
    /// A channel's history cannot be read.
    #[error("the history is malformed: {0}")]
    HistoryMalformed(String),
    /// The words of an exchange are too many to be kept.
    #[error("the transcript is over the limit of {MAX_TRANSCRIPT_BYTES} bytes")]
    TranscriptTooLarge,
    /// The request is not one this API takes; nothing was sealed.
    #[error("the request is refused: {0}")]
    Api(ApiError),
    /// A piece of the answer does not have the API's shape.
    #[error(transparent)]
    Answer(AnswerError),
    /// The gateway was told to listen on an address others can reach.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The gateway cannot listen.
    #[error("cannot listen on {address}: {kind}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        kind: ErrorKind,
    },
    /// The worker wants to be paid, or paid more.
    #[error("the worker wants to be paid: {message} ({code})")]
    PaymentRequired {
        /// Code of the worker.
        code: String,
        /// Its message, sanitised.
        message: String,
        /// Whom to pay and how much of a cap would do; not verified.
        required: Box<PaymentRequired>,
        /// Seconds after which it may be served, if the worker says so.
        retry_after: Option<u32>,
    },
    /// The next request needs a cap above what the user allowed.
    #[error("the next request needs a cap of {needed} nanogram, the budget is {limit}")]
    Budget {
        /// Smallest cap that would do.
        needed: u128,
        /// Most that may be signed.
        limit: u128,
    },
    /// The worker claimed more than its receipts come to.
    #[error(
        "the worker claims more than the {accounted} nanogram that all its receipts, and all requests \
         without one, can come to; nothing more is signed for it"
    )]
    Overcharged {
        /// The most that can be owed.
        accounted: u128,
    },
    /// Two claims of one meter that no log has both of.
    #[error(
        "the worker's meter shows a log of {count} requests, and before one of {before} that it cannot have \
         grown from; nothing more is signed for it"
    )]
    LogForked {
        /// Requests in the log that was shown before.
        before: u64,
        /// Requests in this one.
        count: u64,
    },
    /// A message about payment that does not verify, or a channel the worker is not paid by.
    #[error(transparent)]
    Payment(#[from] ReceiptError),
    /// The ledger of what was promised.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
}

/// What kind of refusal it is; the CLI maps this to its exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Refused by policy or by a failed check.
    Refused,
    /// Input that cannot be read.
    Malformed,
    /// The machine or the network does not cooperate.
    Unavailable,
}

impl ClientError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "E-UNREACHABLE",
            Self::NoSuchHost { .. } => "E-NO-SUCH-HOST",
            Self::TimedOut { .. } => "E-TIMEOUT",
            Self::Handshake(_) => "E-TLS",
            Self::ClosedDuringHandshake(_) => "E-TLS-CLOSED",
            Self::CertificateChain { .. } => "E-TLS-CHAIN",
            Self::TlsKeyChanged { .. } => "E-TLS-KEY-CHANGED",
            Self::KeysetOfAnotherConnection { .. } => "E-KEYSET-TLS",
            Self::Protocol { .. } => "E-PROTOCOL",
            Self::TooLarge { .. } => "E-RESPONSE-SIZE",
            Self::Disconnected => "E-DISCONNECTED",
            Self::WorkerRefused { .. } => "E-WORKER-REFUSED",
            Self::AnswerRefused { .. } => "E-ANSWER-REFUSED",
            Self::Appraisal(refusal) => refusal.code,
            Self::Exchange(error) => error.code(),
            Self::Reattestation { error, .. } => error.code(),
            Self::EvidenceOutdated => "E-EVIDENCE-OUTDATED",
            Self::KeyOfAnotherModel { .. } => "E-GRANT-MODEL",
            Self::WorkerWantsProof => "E-WORKER-WANTS-PROOF",
            Self::OwnEvidence { code } => code,
            Self::NoSealKey { .. } => "E-NO-SEAL-KEY",
            Self::Channel(error) => error.code(),
            Self::Truncated { .. } => "E-TRUNCATED",
            Self::RequestTooLarge { .. } => "E-REQUEST-SIZE",
            Self::FrameOrder(_) => "E-FRAME-ORDER",
            Self::ReceiptMissing => "E-RECEIPT-MISSING",
            Self::ReceiptMalformed(_) => "E-RECEIPT-MALFORMED",
            Self::ReceiptRefused { .. } => "E-RECEIPT",
            Self::Store { .. } => "E-STORE",
            Self::NoSuchReceipt(_) => "E-NO-RECEIPT",
            Self::StoredMalformed(_) => "E-STORED-RECEIPT",
            Self::ProofOfTheFuture { .. } => "E-PROOF-TIME",
            Self::HistoryMalformed(_) => "E-HISTORY",
            Self::TranscriptTooLarge => "E-TRANSCRIPT-SIZE",
            Self::Api(_) => "E-REQUEST",
            Self::Answer(error) => error.code(),
            Self::NotLoopback(_) => "E-NOT-LOOPBACK",
            Self::Listen { .. } => "E-LISTEN",
            Self::PaymentRequired { .. } => "E-PAYMENT-REQUIRED",
            Self::Budget { .. } => "E-BUDGET",
            Self::Overcharged { .. } => "E-OVERCHARGED",
            Self::LogForked { .. } => "E-LOG-FORKED",
            Self::Payment(error) => error.code(),
            Self::Ledger(error) => error.code(),
            Self::Randomness => "E-RANDOMNESS",
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "check the address and `chrysalis status` on the host",
            Self::NoSuchHost { .. } => {
                "check the spelling, and that this machine can resolve names"
            }
            Self::TimedOut { .. } => "try again; if it persists, the worker is overloaded or gone",
            Self::Handshake(_) => "check that the address is a Chrysalis worker speaking TLS 1.3",
            Self::ClosedDuringHandshake(_) => {
                "the worker may be starting or gone: see `chrysalis status` on its host, try again"
            }
            Self::CertificateChain { .. } | Self::KeysetOfAnotherConnection { .. } => {
                "something terminates TLS between you and the worker; connect to it directly"
            }
            Self::TlsKeyChanged { .. } => {
                "the worker restarted or another machine answers; appraise it again"
            }
            Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::FrameOrder(_)
            | Self::Answer(_) => {
                "the worker does not follow the protocol; check that both sides are one release"
            }
            Self::Disconnected => "send the request again",
            Self::WorkerRefused { next_step, .. } => next_step,
            Self::AnswerRefused { .. } => "correct the request, or try again if the status is 5xx",
            Self::Appraisal(refusal) => refusal.next_step,
            Self::Exchange(_) => "do not use this connection; appraise the worker again",
            Self::Reattestation { error, .. } => error.next_step(),
            Self::EvidenceOutdated => "try again; the worker is appraised anew first",
            Self::KeyOfAnotherModel { .. } => "name the worker that serves this model",
            Self::WorkerWantsProof => "go through a proxy that the worker serves",
            Self::OwnEvidence { .. } => "check the platform this client runs on",
            Self::NoSealKey { .. } => "check this machine's clock, then appraise the worker again",
            Self::Channel(_) => "discard what arrived and send the request again",
            Self::Truncated { .. } => {
                "discard what arrived; the worker or the path to it died, send the request again"
            }
            Self::RequestTooLarge { .. } => "shorten the prompt",
            Self::ReceiptMissing | Self::ReceiptMalformed(_) | Self::ReceiptRefused { .. } => {
                "do not rely on this answer; report the worker by its measurement"
            }
            Self::Store { .. } => "check the state directory's permissions and free space",
            Self::NoSuchReceipt(_) => "see what is stored with `chrysalis receipt list`",
            Self::StoredMalformed(_) | Self::HistoryMalformed(_) => {
                "use the file as it was stored; it was edited or damaged"
            }
            Self::ProofOfTheFuture { .. } => {
                "check this machine's clock; ask the prover for another"
            }
            Self::TranscriptTooLarge => "ask for fewer tokens, or keep no transcript",
            Self::Api(_) => "correct the request",
            Self::NotLoopback(_) => {
                "listen on 127.0.0.1, or allow others to read your prompts explicitly"
            }
            Self::Listen { .. } => "choose another port",
            Self::PaymentRequired { retry_after: Some(_), .. } => {
                "deploy the channel or top it up, and ask again once the deposit is on the chain"
            }
            Self::PaymentRequired { .. } => {
                "open a channel to the worker's payee and pay through it, or use another worker"
            }
            Self::Budget { .. } => "raise the budget, or ask for fewer tokens",
            Self::Overcharged { .. } => {
                "use another worker, and close the channel: the deposit beyond the claim is yours. If this key \
                 pays from another state directory too, see `chrysalis channel stopped`"
            }
            Self::LogForked { .. } => {
                "use another worker; `chrysalis channel stopped` shows both logs, and `chrysalis receipt chain \
                 --with` which of them the payee's history has"
            }
            Self::Payment(_) => "check the channel's terms against the worker's manifest",
            Self::Ledger(_) => "nothing was signed or sent; see to the ledger and try again",
            Self::Randomness => "check the operating system",
        }
    }

    /// Which kind of refusal this is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Reattestation { error, .. } => error.class(),
            Self::Unreachable { .. }
            | Self::NoSuchHost { .. }
            | Self::ClosedDuringHandshake(_)
            | Self::TimedOut { .. }
            | Self::Disconnected
            | Self::Store { .. }
            | Self::Ledger(_)
            | Self::Listen { .. }
            | Self::OwnEvidence { .. }
            | Self::Randomness
            | Self::WorkerRefused { status: 408 | 429 | 500.., .. } => ErrorClass::Unavailable,
            Self::Protocol { .. }
            | Self::ReceiptMalformed(_)
            | Self::StoredMalformed(_)
            | Self::HistoryMalformed(_)
            | Self::NoSuchReceipt(_)
            | Self::TranscriptTooLarge
            | Self::RequestTooLarge { .. }
            | Self::Answer(_)
            | Self::Api(_) => ErrorClass::Malformed,
            _ => ErrorClass::Refused,
        }
    }

    /// Seconds the worker asks to wait before the request is repeated.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u32> {
        match self {
            Self::WorkerRefused { retry_after, .. } | Self::PaymentRequired { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Whether nothing more is signed for the worker after it: it counts what it may not.
    #[must_use]
    pub const fn ends_payments(&self) -> bool {
        matches!(self, Self::Overcharged { .. } | Self::LogForked { .. })
    }

    /// Whether fresh evidence may help: the keys this client holds are not the worker's any more.
    #[must_use]
    pub fn wants_new_evidence(&self) -> bool {
        match self {
            Self::TlsKeyChanged { .. } | Self::EvidenceOutdated => true,
            Self::WorkerRefused { code, .. } => STALE_KEY_CODES.contains(&code.as_str()),
            _ => false,
        }
    }
}

/// Codes of the sealed channel that say: not sealed to what this worker is now. A request that
/// was refused with one of them was not opened, so it may be sealed again.
const STALE_KEY_CODES: [&str; 5] = [
    "E-SEAL-NO-RECIPIENT",
    "E-SEAL-KEY-EXPIRED",
    "E-SEAL-POLICY",
    "E-SEAL-MODEL-ROOT",
    // There is another key by then: a worker makes one before the last is full.
    KEY_FULL,
];

/// The key takes no more requests, because nobody could tell any more whether one is replayed.
pub(crate) const KEY_FULL: &str = "E-SEAL-REPLAY-FULL";

/// Text of a peer made safe to repeat: printable ASCII, bounded, everything else a `?`.
#[must_use]
pub(crate) fn sanitise(text: &str) -> String {
    text.chars()
        .take(MAX_PEER_TEXT_CHARS)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_text_loses_control_characters_and_everything_past_its_limit() {
        assert_eq!(sanitise("a\x1b[2Jb\nc é"), "a?[2Jb?c ?");
        assert_eq!(sanitise(&"x".repeat(MAX_PEER_TEXT_CHARS + 1)).len(), MAX_PEER_TEXT_CHARS);
    }
}
