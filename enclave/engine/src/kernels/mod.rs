//! Arithmetic of the decoder on a CPU: products of block-quantised weights and activations, attention
//! over keys and values of sixteen or eight bits, and what lies between them. It trusts its callers about shapes, which
//! they take from the checked model; a wrong one gives wrong numbers, never a wrong access.
//!
//! Weights are repacked when they are loaded: sixteen rows become a tile, in which the codes that one
//! instruction multiplies lie side by side. The codes and scales are those of the file, bit for bit.
//! Activations are rounded to eight bits per 32 values, as in llama.cpp.
//!
//! **One row of activations never depends on another.** The order of the additions of a result is
//! fixed by the row alone: not by how many rows are computed with it, nor by the number of threads.
//! So a prompt gives the same logits in chunks of any size, alone or beside others.
//!
//! `unsafe` stands in two places: `isa/` calls instructions the processor was asked for, and
//! `pool.rs` hands parts of a slice to threads.

// Shapes are checked when a model is loaded, and the sizes here follow from them; indices that the
// compiler cannot see to be inside are checked by it at run time.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
// Over sixteen lanes an index becomes one instruction; an iterator may stay a call.
#![allow(clippy::needless_range_loop)]

mod attention;
mod encoder;
mod format;
mod half;
mod heads;
mod input;
mod isa;
mod kept;
mod likeliest;
mod math;
mod matrix;
mod pool;
mod product;
mod residual;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
mod tiled;

pub(crate) use attention::{Attention, PAGE_TOKENS, Span};
pub(crate) use encoder::{LayerNorm, add_bias, attend_all, gelu, lanes};
pub(crate) use heads::{HeadNorm, Heads, Pairing, Rotation};
pub(crate) use input::{Inputs, Norm};
#[cfg(any(test, feature = "testing"))]
pub(crate) use kept::unpacked;
pub(crate) use kept::{Page, Piece, pieces, put};
pub(crate) use likeliest::likeliest;
pub(crate) use matrix::{Kind, LINE, Layout, Matrix};
pub(crate) use pool::Pool;
pub(crate) use product::{Activation, add_product, gated_product, product};
pub(crate) use residual::{add, add_normalised, add_weighted, normalised};
pub(crate) use tiled::{Lanes, Tiled};

#[cfg(test)]
mod tests;
