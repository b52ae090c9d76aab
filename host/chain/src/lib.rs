//! Access to a TON chain, for programs that settle, watch and show. Every answer is a stranger's claim:
//! a server proves nothing, so nothing read here raises what a payer signed for or moves a coin.
//!
//! [`ChainAccess`] is what callers need; [`Toncenter`] speaks toncenter's API v2, to that service, to a
//! server of the operator's own or to `chrysalis devchain`.
//!
//! # What a lying server can do
//!
//! | caller | reads | a lie makes it | what bounds that |
//! |---|---|---|---|
//! | watcher | paid, closing date, balance of a channel | settle too early, or not when it should | a settlement pays its own payee only, once; it is sent again after a while whatever the chain is said to be; several servers can be asked |
//! | owner who vouches | paid, closing date, balance of a channel | let her worker serve for coins that are not there | the least of several servers counts; the payer's caps; a note is good for minutes |
//! | owner's view | the same, and transactions | show wrong sums of what was settled | what is owed comes from signed receipts, not from here |
//! | `channel show` | the same, code of the contract | show a channel that is not there | the address is the hash of code and settings, computed here |
//! | development wallet | its own count of orders | sign an order that no wallet takes | an order says its network and ends in a minute |
//!
//! Whoever serves decides how much the channel covers by receipts and caps, which are signed. A balance that
//! is read here only lowers that, where the owner vouches for deposits at all.

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

mod access;
mod answer;
mod channel;
mod endpoint;
mod error;
mod http;
mod limits;
mod toncenter;

pub use access::{AccountState, ChainAccess, Deployed, Received, TransactionView};
pub use channel::{ChannelView, channel_view};
pub use endpoint::{ApiKey, Endpoint, EndpointError};
pub use error::AccessError;
pub use http::TlsRoots;
pub use limits::{
    ANSWER_TIMEOUT, CONNECT_TIMEOUT, FIRST_WAIT, MAX_ANSWER_BYTES, MAX_API_KEY_BYTES, MAX_ATTEMPTS,
    MAX_STACK, MAX_TRANSACTIONS, MAX_URL_BYTES, MAX_WAIT,
};
pub use toncenter::{Patience, Toncenter};
