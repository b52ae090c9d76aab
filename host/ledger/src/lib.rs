//! What a payer promised and a payee earned, kept so that no crash loses it.
//!
//! A [`Ledger`] is one file. A payer's holds the caps it gave, written before they are sent, and the
//! receipts it acknowledged; a payee's holds the latest [`Claim`](chrysalis_receipt::Claim) of each
//! channel, which is all that is needed to be paid. [`Ledger::record`] returns after the entry is on
//! the disk, and recording the same thing twice counts once.
//!
//! Nothing is believed because it is in the file or because somebody said it: caps and claims enter
//! with their signatures verified, sums only grow, and a file that is damaged, foreign or newer than
//! this build is refused by type. What comes from a chain ([`Entry::Paid`] and what follows it) is the
//! word of whoever read the chain.
//!
//! [`LedgerView`] reads while another process writes: per channel what was earned, covered, settled
//! and spent on fees, and every [`Event`] with its time.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod channel;
mod error;
mod event;
mod ledger;
mod memory;
mod nano;
mod view;

pub use channel::{Channel, Entry, Phase};
pub use error::LedgerError;
pub use event::{Event, EventKind};
pub use ledger::{Ledger, OLDEST_SCHEMA, Recorded, SCHEMA_VERSION, Side};
pub use memory::{Fork, Memory, OpenRequest, Overcharge, Question, Stopped};
pub use nano::Nano;
pub use view::LedgerView;
