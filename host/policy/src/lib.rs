//! What a verifier keeps around pins and verdicts. A file of pins that its user wrote is her own
//! word. Pins that come from somebody else are signed, numbered and slow to widen, because their
//! publisher's key can be stolen: [`SignedPins`] opens only under the key the caller pinned,
//! [`PinsMemory`] refuses a number that goes back, and [`Judge`] lets what they newly accept wait
//! while what they no longer accept is refused at once.
//!
//! ```text
//! accepted at t  ⇔  every pins file that was in force at some moment of [t − delay, t] accepts
//! ```
//!
//! So an addition of any kind (a worker, a platform, a lower TCB number, a flag) waits for the whole
//! delay, a removal or denial does not wait at all, and no field needs a rule of its own.
//!
//! Signed pins have no end: a mirror that goes on showing the newest file it wants to be seen is not
//! noticed here. Who relies on denials fetches the pins from more than one place.
//!
//! [`VerdictCache`] keeps acceptances by digest of everything they depend on, until the first of it
//! ends. Pure: time, files and keys are arguments.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
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

mod cache;
mod diff;
mod error;
mod judge;
mod memory;
mod signed;

#[cfg(test)]
mod tests;

pub use cache::{MAX_CACHED_VERDICTS, VerdictCache};
pub use diff::{Change, Direction, compare_pins, denied_in_words};
pub use error::PolicyError;
pub use judge::Judge;
pub use memory::{
    ACTIVATION_DELAY_SECONDS, MAX_ACTIVATION_DELAY_SECONDS, MAX_HELD_PINS, MAX_MEMORY_BYTES,
    MEMORY_SCHEMA, MIN_ACTIVATION_DELAY_SECONDS, PinsMemory,
};
pub use signed::{
    MAX_SIGNED_PINS_BYTES, PINS_PAYLOAD_TYPE, PinsKey, PinsSecret, SignedPins, key_id,
};
