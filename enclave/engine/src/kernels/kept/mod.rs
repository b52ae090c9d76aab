//! Keys and values as pages keep them, and the two things that attention does with them: scores of
//! keys, and weighted sums of values. Which way a page is kept in is known to its owner alone.
//!
//! What no `f16` or no scale can hold is cut to the largest that they can. A token whose key or value
//! is no finite number keeps a key of NaN and a value of zeros: whoever sees it has no finite result
//! either, and whoever does not is not touched by it, since what is not seen has a weight of zero, and
//! zero times infinity would be no zero.

mod eight;
mod half_precision;

use chrysalis_wire::manifest::KvCacheType;

use super::attention::{PAGE_TOKENS, Queries};
use super::input::PANEL_ROWS;
use super::isa::Isa;
use super::math;
use super::tiled::Lanes;
pub(crate) use eight::Coded;
pub(super) use eight::Eight;
pub(super) use half_precision::HalfPrecision;

/// Half a line of the processor's cache; pages consist of whole lines.
pub(crate) type Piece = [u8; 32];

/// Keys and values of [`PAGE_TOKENS`] tokens, of one head of one layer, in the order they are read.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a> {
    pub(crate) keys: &'a [Piece],
    pub(crate) values: &'a [Piece],
}

/// One way to keep keys and values.
pub(super) trait Kept {
    /// A row of queries in the form that scores are computed from.
    type Query<'a>: Copy;

    /// Rows times tiles that [`Kept::mix`] has registers for, of 8 and of 32 values of sixteen lanes.
    const AT_ONCE: [usize; 2];

    /// The queries of `head` in `row`.
    fn query<'a>(queries: &Queries<'a>, row: usize, head: usize) -> Self::Query<'a>;

    /// Scores of the tokens of `pages`, for each row of queries. Meanwhile it asks for the values of
    /// those tokens, which are needed next: pages lie anywhere, so that what is read next does not
    /// announce itself. `room` is for an entry for each four dimensions.
    fn score<S: Isa, const R: usize>(
        isa: S,
        pages: &[Page<'_>],
        queries: [Self::Query<'_>; R],
        room: &mut [[[i32; 2]; PANEL_ROWS]],
        scores: &mut [[Lanes; PANEL_ROWS]],
    );

    /// Makes weights of the scores of the tokens of `pages`, and those of what is kept of values.
    fn weigh<S: Isa, const R: usize>(isa: S, pages: &[Page<'_>], weights: &mut Weights<'_>);

    /// The weighted sums of `W` tiles of values from `tile` on, for each row; `W`. Meanwhile it asks for
    /// the keys of the pages `ahead`.
    fn mix<S: Isa, const R: usize, const W: usize>(
        isa: S,
        pages: &[Page<'_>],
        ahead: &[Page<'_>],
        weights: &Weights<'_>,
        tile: usize,
        part: &mut [Lanes],
    ) -> usize;
}

/// What values are multiplied with.
pub(super) struct Weights<'a> {
    /// For sixteen tokens at a time and each row: those tokens. First scores, then weights.
    pub(super) numbers: &'a mut [[Lanes; PANEL_ROWS]],
    /// In the same order, where they are codes: see [`Eight`].
    pub(super) codes: &'a mut [[[[i32; 4]; 2]; PANEL_ROWS]],
    pub(super) scales: [f32; PANEL_ROWS],
    /// The largest score of each row, to which its weights are relative, and their sum.
    pub(super) most: Lanes,
    pub(super) sums: Lanes,
}

/// Weights of tokens with `scores`, of which `most` is the largest one of the row.
#[inline(always)]
fn weight<S: Isa>(isa: S, scores: &Lanes, most: f32) -> S::F {
    // What sees nothing has nothing but these, and no weights.
    let most = if most == f32::NEG_INFINITY { 0.0 } else { most };
    math::weights(isa, isa.mul_add(isa.load(scores), isa.splat(1.0), isa.splat(-most)))
}

/// Up to sixteen values, and zeros.
#[inline(always)]
fn sixteen(from: &[f32]) -> Lanes {
    if let Some(all) = from.first_chunk() {
        return *all;
    }
    let mut all = [0.0; 16];
    all[..from.len()].copy_from_slice(from);
    all
}

/// Pieces of the keys and of the values of a head in a page.
pub(crate) const fn pieces(kind: KvCacheType, head_dim: usize) -> [usize; 2] {
    match kind {
        KvCacheType::F16 => half_precision::pieces(head_dim),
        KvCacheType::Q8_0 => eight::pieces(head_dim),
    }
}

/// Stores key and value of one token in its page.
pub(crate) fn put(
    kind: KvCacheType,
    keys: &mut [Piece],
    values: &mut [Piece],
    slot: usize,
    kv: [&[f32]; 2],
) {
    let finite = kv.iter().all(|x| x.iter().all(|x| x.is_finite()));
    let put = match kind {
        KvCacheType::F16 => half_precision::put,
        KvCacheType::Q8_0 => eight::put,
    };
    put(keys, values, slot, finite.then_some(kv));
}

/// Key and value of the token in `slot`, of `dim` dimensions.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn unpacked(
    kind: KvCacheType,
    page: &Page<'_>,
    slot: usize,
    dim: usize,
) -> [Vec<f32>; 2] {
    match kind {
        KvCacheType::F16 => half_precision::unpacked(page, slot, dim),
        KvCacheType::Q8_0 => eight::unpacked(page, slot, dim),
    }
}
