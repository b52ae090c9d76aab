//! Reference values of a release: one source of truth, `values.toml`, and the same facts in the
//! dialects that others read. Every file here may come from a stranger; a set of files is accepted
//! only if each dialect, read back by its own reader, says exactly what the source says.
//!
//! | file | dialect | read by |
//! |---|---|---|
//! | `values.toml` | ours, for people; the source | [`Values`] |
//! | `corim.cbor` | CoRIM, draft-ietf-rats-corim-11, unsigned | RATS verifiers |
//! | `intoto.json` | in-toto Statement v1 | supply-chain tools |
//! | `values.boc` | TON cell, as a bag of cells | the registry contract |
//!
//! The source is computed from the files of an image ([`Values::of_image`]), and a release is judged
//! by computing it again ([`Values::recompute`]); a quote is compared with what [`Values::registers`]
//! gives for a shape and a workload.
//!
//! Pure functions over bytes. Whoever publishes a release signs these files by her own means; a
//! digest of the source is in each of them, so one signature covers all.

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

mod bag;
mod cell;
mod corim;
mod error;
mod facts;
mod intoto;
mod pins;
mod provenance;
mod recompute;
mod registers;
mod release;
mod source;
mod values;

#[cfg(test)]
#[path = "../../../tests/harness/small_image.rs"]
mod small_image;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::{Moved, ReleaseError};
pub use facts::{Facts, Scope};
pub use intoto::PREDICATE_TYPE;
pub use pins::pins_for;
pub use provenance::SourceCommit;
pub use recompute::{Evidence, Recomputed};
pub use registers::{Choice, Registers};
pub use release::{BOC_FILE, CORIM_FILE, INTOTO_FILE, Release, VALUES_FILE};
pub use source::{Ingredients, Label, SelectedShape};
pub use values::{
    MAX_VALUES_BYTES, Part, Sgx, Shape, Tdx, VALUES_VERSION, ValueStatus, Values, Workload,
};
