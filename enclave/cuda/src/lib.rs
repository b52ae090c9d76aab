//! One NVIDIA GPU: its driver's library, opened at run time, and our own kernels on it. What a model is
//! and what a step computes is the engine's; here are memory, copies that are counted, and launches
//! whose shapes are checked.
//!
//! The kernels compile for Hopper and Blackwell (`scripts/build-cuda`). All tests passed on an H200 (26 November
//! 2026, not in confidential mode; no Blackwell). What runs in tests elsewhere is the same sources compiled for the
//! processor, behind a stand-in for the driver's library with the same C interface (`stand-in/`): arithmetic,
//! indices, buffers, and every call of `driver.rs`. The driver itself, speed and races inside a warp are tested
//! on a GPU only (`scripts/gpu`; NVIDIA's `compute-sanitizer` found neither a wrong access nor a race there).
//!
//! It trusts the driver, which the guest's measurement covers, as it trusts the kernel; lengths and codes
//! it returns are checked. It trusts its callers about which token goes where: a launch is refused when it
//! would reach past a buffer, and indices inside tables are the caller's to check.
//!
//! # What a step costs under confidential computing
//!
//! Kernels run at full speed there; copies between host and device do not, as each is encrypted and waits
//! for what is queued before it. [`Device::crossings`] counts them. The aim is one table up and one result
//! down for each step.
//!
//! # Code that the GPU runs
//!
//! Machine code only (cubins), no PTX: the driver compiles nothing, so what was measured is what runs.
//!
//! # On a machine with a GPU
//!
//! `scripts/gpu` builds everything on a machine with or without a GPU, and runs it where there is one, with a
//! driver of 580 or later: the tests that run on the stand-in, with the same limits; every family and format
//! against exact arithmetic, and the default model against `transformers` in bfloat16 (T6 of
//! `tests/parity/main.rs`); and a benchmark.
//!
//! One caller is slow yet for what a GPU can do: a step is some three hundred launches, of which each takes
//! microseconds, and small products are bound by instructions, at a third to two thirds of the speed of memory.
//! What is next, in the order of what it gives: one launch for a step (CUDA graphs over these buffers, which
//! do not move), activations that are split for the tensor cores once instead of by everybody who reads them,
//! weights read from the bundle straight into pinned memory, and reading back on a thread of its own. None of
//! them needs another scheduler.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout
    )
)]

mod arguments;
mod device;
mod driver;
mod elf;
mod error;
mod kernel;
mod kind;
mod launch;
mod memory;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use device::{Device, DeviceInfo, Image, LIBRARY, embedded};
pub use error::CudaError;
pub use kind::Kind;
pub use launch::{
    Angles, Attend, Choose, Embed, Gate, Heads, Join, Layer, MAX_EXPERTS, MAX_HEAD_DIM, Mix,
    NO_TOKEN, Norm, PAGE_TOKENS, Pages, Product, RANGE_TOKENS, Route, Rows, Select, Table, Tiles,
    Wipe,
};
pub use memory::{Memory, Part, Pinned};

#[cfg(test)]
mod tests;
