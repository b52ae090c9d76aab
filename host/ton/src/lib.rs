//! TON contracts of Chrysalis and the messages that move them.
//!
//! A [`ChannelConfig`] is a metered payment channel from one payer to one payee: its address, the
//! message that deploys it, and the messages that settle, top up and close it. The contract itself is
//! `contracts/channel.tolk`; [`Refusal`] names every way in which it says no.
//!
//! A [`RegistryConfig`] is the registry of a network: what its owners accept and deny, changed only by
//! [`Order`]s that enough of them sign, in `contracts/registry.tolk`.
//!
//! A [`Wallet`] is the account that people sign with, in an application of theirs that opens
//! [`TransferLink`]s.
//!
//! Nothing here holds a key or talks to a network. Caps and settlements come signed from
//! `chrysalis-receipt`; what a chain says is a stranger's claim and is read as one.

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

mod address;
mod amount;
mod boc;
mod channel;
mod code;
mod dict;
mod error;
mod link;
mod message;
mod refusal;
mod registry;
mod wallet;

pub use address::{Address, AddressKind, account_of};
pub use amount::{Gram, NANO_PER_GRAM};
pub use boc::{MAX_BOC_BYTES, MAX_CELLS, read_boc};
pub use channel::{
    ChannelConfig, DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE, MAX_CLOSE_DELAY, MAX_MIN_SETTLE,
    MIN_CLOSE_DELAY, MIN_MIN_SETTLE, RESERVE,
};
pub use code::{
    CHANNEL_CODE_HASH, REGISTRY_CODE_HASH, WALLET_CODE_HASH, channel_code, registry_code,
};
pub use error::TonError;
pub use link::TransferLink;
pub use message::{coop_close, finish_close, settle, settle_external, start_close, top_up};
pub use refusal::{Refusal, RegistryRefusal};
pub use registry::{
    Action, EntryKind, MAX_ACTIVATION_DELAY, MAX_OWNERS, MIN_ACTIVATION_DELAY, Order, Owners,
    RegistryConfig, apply_order,
};
pub use wallet::{MAX_WALLET_MESSAGES, Order as WalletOrder, Outgoing, Wallet};
