//! The verifying client of Chrysalis workers, and the OpenAI gateway on top of it. It runs on the
//! user's machine and protects the user: host, network and an unappraised worker are hostile, and
//! an appraised one is held to its receipts.
//!
//! * [`Worker::attest`] connects, challenges and judges; [`AttestedWorker`] exists only behind an
//!   accepting verdict.
//! * [`AttestedWorker::request`] seals, streams and verifies; [`ClientEvent::Done`] is the only
//!   sign of a complete answer.
//! * [`Identity`] proves this side to workers that serve only whom they know: what a proxy brings.
//! * [`StoredReceipt`] keeps what a receipt proves; [`ReceiptStore`] keeps them on disk;
//!   [`ProvenChild`] shows one part of one to somebody else, and [`ChannelHistory`] recomputes what a
//!   whole channel owes.
//! * [`Payer`] pays for requests through a channel, up to a budget.
//! * [`Gateway`] speaks the OpenAI API on loopback, so that unmodified SDKs work.
//!
//! No prompt and no answer reaches a log, an error or a file of this crate, but for the
//! [`Transcript`] of a requester who asks for one.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod ask;
mod attest;
mod clock;
mod connection;
mod embed;
mod error;
mod evidence;
mod gateway;
mod handover;
mod history;
mod io;
mod keep;
pub mod limits;
mod observed;
mod own;
mod payer;
mod plain;
mod proven;
mod random;
mod report;
mod request;
mod response;
mod settle;
mod store;
mod stored;
mod tls;
mod transcript;
mod worker;

pub use ask::{Question, ask};
pub use attest::Attestation;
pub use chrysalis_api::Vectors;
pub use chrysalis_channel::PathId;
pub use clock::Clock;
pub use embed::embed;
pub use error::{ClientError, ErrorClass};
pub use evidence::Appraised;
pub use gateway::{Exposure, Gateway};
pub use handover::{HandedIn, hand_in_claims, hand_in_note, is_no_room};
pub use history::{
    ChannelHistory, Counted, HISTORY_REPORT_SCHEMA, HISTORY_SCHEMA, HistoryReport, MeterHistory,
    Place,
};
pub use limits::Bounds;
pub use own::{Identity, OwnEvidence};
pub use payer::{Budget, Payer, PayerStanding};
pub use proven::{PROVEN_CHILD_SCHEMA, PROVEN_REPORT_SCHEMA, ProvenChild, ProvenReport};
pub use report::{Gram, STORED_REPORT_SCHEMA, StoredReport, Utc, receipt_in_words};
pub use response::{ClientEvent, Completed, ResponseStream};
pub use store::{ReceiptStore, read_stored_receipt};
pub use stored::{STORED_RECEIPT_SCHEMA, StoredReceipt};
pub use transcript::{Keep, Spoken, TRANSCRIPT_SCHEMA, Transcript, payloads_of};
pub use worker::{AttestedWorker, Policy, PolicyRefusal, Worker};
