//! attest/1: how one end of a TLS 1.3 connection proves to the other which TEE it is. Everything
//! the peer sends is hostile until a verdict accepts it; what is trusted is this end's own TLS
//! library (for exporters and the key that was proved) and its own randomness.
//!
//! No socket, clock or randomness: messages, instants and nonces are arguments. The state machines
//! are types, so that what must not happen cannot be written: [`Challenger`] makes an [`Awaiting`],
//! that one becomes a [`Judged`], and only an accepted one becomes an [`Attested`], which may be
//! challenged again. Every error consumes the state. There is nothing to go on with, and the
//! connection has to be closed.
//!
//! # Messages
//!
//! ```text
//! message     kind u8 | length u32 | body                              integers are big-endian
//! challenge   kind 1, 34 bytes:    version u8 = 1 | prover u8 | nonce[32]
//! evidence    kind 2, <= 256 KiB:  attestation document, JSON (chrysalis_wire::AttestationDocument)
//! refusal     kind 3, 1 byte:      reason u8
//! ```
//!
//! `prover` is the end that is asked: 1 the TLS server, 2 the TLS client. Both ends may challenge, each
//! on its own; an end that needs proof sends nothing else before it has it. Over HTTP the same
//! challenge is the query of `GET /v1/attestation?nonce=` and the same evidence its answer.
//!
//! # What the quote commits to, and what each field is for
//!
//! ```text
//! leaf        = SHA-256(0x00 || "chrysalis/attest/v1" || prover u8 || SHA-256(SPKI)[32] || nonce[32]
//!                       || exporter[32] || keyset_digest[32] || device_digest[32])
//! report_data = SHA-512("chrysalis/report-data/v1" || root)           root: see crate::Batch
//! ```
//!
//! | field | without it |
//! |---|---|
//! | `nonce`, drawn by the verifier for one challenge | *replay*: evidence of last week, of a TEE that is gone or was updated since |
//! | `exporter` of this connection, under the prover's label | *relay*: whoever has stolen the TLS key forwards the challenge to the genuine TEE over a connection of its own |
//! | `SPKI` of the prover in this connection | *diversion*: the evidence of another TEE that shares the connection's secrets with the attacker |
//! | `prover`, and a label for each direction | *reflection*: in mutual mode the verifier's own TEE answers for its peer |
//! | `keyset_digest` | keys of somebody else beside genuine evidence |
//! | `device_digest` | devices of another machine beside genuine evidence |
//!
//! Which genuine machine answered is not in the list: nothing in a protocol can say that. It takes a
//! policy with a list of platforms.
//!
//! The verifier computes the expected value from its own [`Link`] and [`Nonce`] and reads nothing of
//! it from the peer. The prover signs no bytes it was sent: what is quoted is a hash made here, under
//! our own tag, and only a [`Statement`] can be hashed.
//!
//! # Time
//!
//! An answer has [`ANSWER_DEADLINE`]. Evidence on a live connection is good for [`REATTEST_INTERVAL`]
//! at most, and less if its keys or its collateral expire before: [`Attested::due`]. Evidence that comes
//! again must be of the same code, manifest and boot. A prover answers [`MAX_CHALLENGES`] of one
//! connection in any [`CHALLENGE_WINDOW`].

mod challenger;
mod error;
mod link;
mod message;
mod prover;

pub use challenger::{
    ANSWER_DEADLINE, Attested, Awaiting, Challenger, Due, Judged, REATTEST_INTERVAL,
};
pub use error::ExchangeError;
pub use link::{Link, Nonce};
pub use message::{Challenge, MAX_EVIDENCE_BYTES, MESSAGE_HEADER_BYTES, Message, Reason};
pub use prover::{CHALLENGE_WINDOW, MAX_CHALLENGES, Prover, Statement};
