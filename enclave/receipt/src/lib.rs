//! Per-request receipts: what a worker did, for how much, signed by its attested meter key; and
//! what a payment channel settles by, a payer's [`Cap`] and a meter's [`Settlement`].
//!
//! A [`RequestReceipt`] becomes a tree of five TON cells whose representation hash the
//! [`MeterKey`] signs; a [`SignedReceipt`] carries every field in the clear, so the requester can
//! check all of it ([`verify`]), part of it without the request ([`verify_offline`]), prove one part
//! to somebody else ([`open_child`]), or show nothing but the price ([`PublicReceipt`]).
//!
//! The signing side is trusted code inside the enclave. The verifying side trusts nothing in a
//! receipt: it comes from a worker, a file or a stranger. The crate has no I/O, no clock and no
//! randomness, and no entry point that signs a caller's digest.
//!
//! # Layout
//!
//! Big endian, one cell each; the four children are references of the root, in this order.
//!
//! ```text
//! root   tag:32 | global_id:32 | registry:256 | meter_key:256 | request_id:128 | issued_at:32
//!        | amount:Coins | ^io ^usage ^model ^att
//! io     blind:128 | request_commit:256 | response_commit:256
//! usage  blind:128 | prompt:32 | cached:32 | completion:32 | reasoning:32 | finish:8
//!        | price_prompt:64 | price_cached:64 | price_completion:64 | price_reasoning:64
//!        | started_ms:64 | ended_ms:64
//! model  blind:128 | manifest_sha256:256 | engine_image_sha256:256 | sampling_hash:256
//! att    blind:128 | evidence_sha256:256 | measurement_sha256:256
//! ```
//!
//! `tag` is `RQR1`, or `SIM1` on network `INSECURE-SIM`: no signature over a simulated receipt
//! is a signature over a real one. `Coins` is a 4-bit byte length and that many bytes, minimal.
//!
//! ```text
//! blind_x         = HKDF-SHA256(ikm = salt, salt = "chrysalis/receipt/blind/v1",
//!                               info = x || request_id)[..16],  x in io, usage, model, att
//! request_commit  = SHA-256("chrysalis/req/v1"  || 0x00 || salt || len:u64 || request)
//! response_commit = SHA-256("chrysalis/resp/v1" || 0x00 || salt || response || len:u64)
//! amount          = floor(( (prompt - cached) * price_prompt + cached * price_cached
//!                         + (completion - reasoning) * price_completion
//!                         + reasoning * price_reasoning ) / 10^6)       nanogram
//! signature       = Ed25519(meter key, representation hash of root)
//! ```
//!
//! `salt` is 32 bytes the client chose and sent inside the sealed request. The length of the
//! response stands at the end because a stream's length is known only there. Token counts follow
//! the API: `prompt` includes `cached`, `completion` includes `reasoning`.
//!
//! Settlement is apart from these: who saw cumulative amounts would see the traffic of others.
//!
//! ```text
//! cap         CAP1 | global_id:32 | channel:256 | meter_key:256 | max_cum:Coins
//! settlement  STR1 | global_id:32 | channel:256 | cum_amount:Coins | state_hash:256
//! state       STS1 | blind:128 | count:64 | cum_units:64 | issued_at:32 | prev:256 | log_root:256
//! ```
//!
//! The payer signs the hash of a cap, the meter key in it the hash of a settlement, and the channel
//! contract pays `cum_amount` less what it paid before. `state_hash` is the hash of the state.
//!
//! `log_root` is the root of a Merkle tree (RFC 9162 section 2.1, SHA-256) with `count` leaves, the
//! hashes of the root cells of the channel's receipts under this meter key, in the order in which they
//! were counted. An [`InclusionProof`] shows that one of them is in the sum, a [`ConsistencyProof`]
//! that a later sum took none of them back.
//!
//! Before a request is served its payer signs for it, and a [`MeterBook`] sets aside what it may cost:
//!
//! ```text
//! spend       PAY1 | global_id:32 | channel:256 | meter_key:256 | sha256(sealed request):256
//! question    ASK1 | global_id:32 | channel:256 | meter_key:256 | acknowledged settlement:256
//! note        FND1 | global_id:32 | channel:256 | meter_key:256 | covers:Coins | seen_at:32 | until:32
//! ```

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod boc;
mod cell;
mod channel;
mod commit;
mod error;
mod fields;
mod json;
mod key;
mod log;
mod meter;
mod payer;
mod proof;
mod report;
mod signed;
pub mod spelling;
mod verify;

pub use boc::boc;
pub use cell::{Cell, CellBuilder, CellError, MAX_BITS, MAX_COINS_BITS, MAX_DEPTH, MAX_REFS};
pub use channel::{
    Cap, ChannelId, MeterState, Settlement, SignedCap, SignedSettlement, VerifiedCap,
    VerifiedSettlement,
};
pub use commit::{Blinds, ResponseCommit, request_commit};
pub use error::ReceiptError;
pub use fields::{Att, Finish, Io, Model, RequestReceipt, TOKENS_PER_PRICE, Usage};
pub use json::{MAX_RECEIPT_JSON_BYTES, PROOF_SCHEMA, PUBLIC_SCHEMA, RECEIPT_SCHEMA};
pub use key::{MeterKey, MeterPublicKey, MeterRole};
pub use log::{
    CONSISTENCY_SCHEMA, ConsistencyProof, Frontier, INCLUSION_SCHEMA, InclusionProof, LogError,
    LogHead, MAX_PATH_HASHES, head_of, prove_consistency, prove_inclusion,
};
pub use meter::book::{Charge, MAX_CHANNELS, MAX_CLAIMED, MeterBook, Reservation, Shortfall};
pub use meter::claim::{CLAIM_BYTES, Claim, VerifiedClaim};
pub use meter::funding::{
    FundingKey, FundingNote, FundingPublicKey, MAX_NOTE_SECONDS, NOTE_BYTES, NOTE_SKEW_SECONDS,
    SignedNote,
};
pub use meter::offer::{
    OFFER_BYTES, Offer, Payee, STATE_REQUEST_BYTES, StateRequest, VerifiedOffer,
};
pub use meter::price::{bound, worst_case};
pub use meter::required::{PaymentRequired, ShortfallText};
pub use meter::terms::{
    ChannelCode, ChannelTerms, DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE, MAX_CLOSE_DELAY,
    MAX_MIN_SETTLE, MIN_CLOSE_DELAY, MIN_MIN_SETTLE, TermsParts, channel_salt,
};
pub use payer::{PayerKey, PayerPublicKey};
pub use proof::{Child, ChildProof, OpenedChild, PublicReceipt, open_child, verify_child};
pub use report::{Check, Outcome, ReceiptReport};
pub use signed::SignedReceipt;
pub use verify::{
    CLOCK_SKEW_SECONDS, MAX_ISSUE_DELAY_SECONDS, MAX_REQUEST_MILLIS, ReceiptExpectation,
    TimeWindow, verify, verify_offline, verify_proof,
};
