//! Tests of the image writer over small made-up packages, kernels and firmware that have exactly
//! the structure the code looks at, and over the pinned packages where they are at hand.

mod archive;
mod build;
mod erofs;
mod firmware;
mod package;
mod pinned;
mod recipe;
mod root;
mod store;
pub(crate) mod support;
mod tamper;
