//! Sees to it that a payee is paid, and says what she earned.
//!
//! A [`Watcher`] looks at a payee's channels and brings the latest cap and cumulative receipt to the
//! chain: when enough is owed, when it is owed for long, and above all when the payer asks to close. It
//! holds no key and needs none: a settlement pays the payee whoever brings it. [`Earnings`] is the same
//! told to the owner.
//!
//! # Whom it trusts
//!
//! Not the chain servers. They can say that nothing is owed, that a channel is open which is closing, or
//! that a message was taken which was not. So reading the chain only makes the watcher *earlier*: it
//! brings every claim it has when it starts, and again after three quarters of the channel's closing
//! delay, whatever it was told. A contract that has paid already refuses, which costs nobody anything.
//! What this or a lie can cost is a settlement before its time, 0.0007 GRAM of the deposit, and never for
//! less than the channel's smallest settlement. Several servers can be asked: the
//! earliest closing date and the least payment of any of them count, and messages go to all. One of
//! them has to pass messages on: where none does, nothing is settled.
//!
//! Not the book either: caps and receipts are verified again before they are brought, so a damaged one
//! is reported instead.
//!
//! A restart loses nothing: what was sent is found out by looking, and bringing a claim twice pays once.

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

mod book;
mod decide;
mod earnings;
mod error;
mod ledger;
mod policy;
mod vouch;
mod watcher;

pub use book::{Book, BookError, Note, Proven, Watched};
pub use decide::{Decision, Memory, Reason, Seen, Waiting, decide};
pub use earnings::{Earnings, Fact, Happened, Standing, Upcoming, Window};
pub use error::WatchError;
pub use ledger::{Facts, facts};
pub use policy::{
    DEFAULT_FEE_SHARE_PPM, DEFAULT_SETTLE_AFTER, DEFAULT_SETTLE_AT, EXPECTED_FEE,
    MAX_FEE_SHARE_PPM, MAX_SETTLE_AFTER, MIN_SETTLE_AFTER, POLL_SECONDS, Policy, REPEAT_SECONDS,
    URGENT_SECONDS,
};
pub use vouch::{Deposit, FEES_KEPT, NOTE_SECONDS, deposit, note};
pub use watcher::{AGREEING, AT_ONCE, Outcome, Report, Round, SILENCES, SILENT_SECONDS, Watcher};
