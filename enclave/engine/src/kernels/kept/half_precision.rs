//! Keys and values in `f16`.
//!
//! Keys: for sixteen tokens at a time and each dimension, those tokens. Values: for sixteen dimensions
//! at a time and each token, those dimensions.

use super::super::half;
use super::super::product::each_row;
use super::*;

pub(crate) struct HalfPrecision;

impl Kept for HalfPrecision {
    type Query<'a> = &'a [f32];
    const AT_ONCE: [usize; 2] = [8, 16];

    #[inline(always)]
    fn query<'a>(queries: &Queries<'a>, row: usize, head: usize) -> &'a [f32] {
        queries.heads.get(row, head)
    }

    #[inline(always)]
    fn score<S: Isa, const R: usize>(
        isa: S,
        pages: &[Page<'_>],
        queries: [&[f32]; R],
        _: &mut [[[i32; 2]; PANEL_ROWS]],
        scores: &mut [[Lanes; PANEL_ROWS]],
    ) {
        for (page, scores) in pages.iter().zip(scores.as_chunks_mut::<2>().0) {
            let (left, right) = page.keys.split_at(page.keys.len() / 2);
            let queries = queries.map(|query| &query[..left.len()]);
            let mut totals = [[isa.splat(0.0); R]; 2];
            for (i, (left, right)) in left.iter().zip(right).enumerate() {
                isa.prefetch(page.values, i * 64);
                let (left, right) = (isa.load_f16(left), isa.load_f16(right));
                each_row!(R, r => {
                    let query = isa.splat(queries[r][i]);
                    totals[0][r] = isa.mul_add(left, query, totals[0][r]);
                    totals[1][r] = isa.mul_add(right, query, totals[1][r]);
                });
            }
            each_row!(R, r => {
                isa.store(totals[0][r], &mut scores[0][r]);
                isa.store(totals[1][r], &mut scores[1][r]);
            });
        }
    }

    #[inline(always)]
    fn weigh<S: Isa, const R: usize>(isa: S, _: &[Page<'_>], weights: &mut Weights<'_>) {
        let Weights { numbers, most, sums, .. } = weights;
        let mut totals = [isa.splat(0.0); R];
        for numbers in numbers.iter_mut() {
            each_row!(R, r => {
                let weight = weight(isa, &numbers[r], most[r]);
                totals[r] = isa.mul_add(weight, isa.splat(1.0), totals[r]);
                isa.store(weight, &mut numbers[r]);
            });
        }
        each_row!(R, r => sums[r] = isa.sum(totals[r]));
    }

    #[inline(always)]
    fn mix<S: Isa, const R: usize, const W: usize>(
        isa: S,
        pages: &[Page<'_>],
        ahead: &[Page<'_>],
        weights: &Weights<'_>,
        tile: usize,
        part: &mut [Lanes],
    ) -> usize {
        let width = part.len() / PANEL_ROWS;
        let mut totals = [[isa.splat(0.0); R]; W];
        for (n, (page, weights)) in pages.iter().zip(weights.numbers.as_chunks::<2>().0).enumerate()
        {
            let values = &page.values[tile * PAGE_TOKENS..][..W * PAGE_TOKENS];
            let ahead = ahead.get(n);
            for half in 0..2 {
                for token in 0..16 {
                    // Spread over the page: as many at once would hold up the loads behind them.
                    if let Some(ahead) = ahead {
                        for line in 0..W.div_ceil(2) {
                            let line = (half * 16 + token) * W.div_ceil(2) + line;
                            isa.prefetch(ahead.keys, tile * PAGE_TOKENS * 32 + line * 64);
                        }
                    }
                    each_row!(W, w => {
                        let value = isa.load_f16(&values[w * PAGE_TOKENS + half * 16 + token]);
                        each_row!(R, r => {
                            let weight = isa.splat(weights[half][r][token]);
                            totals[w][r] = isa.mul_add(value, weight, totals[w][r]);
                        });
                    });
                }
            }
        }
        each_row!(W, w => {
            each_row!(R, r => isa.store(totals[w][r], &mut part[r * width + tile + w]));
        });
        W
    }
}

/// Of the keys and of the values of a head in a page.
pub(super) const fn pieces(head_dim: usize) -> [usize; 2] {
    [(PAGE_TOKENS / 16).saturating_mul(head_dim), head_dim.div_ceil(16).saturating_mul(PAGE_TOKENS)]
}

pub(super) fn put(keys: &mut [Piece], values: &mut [Piece], slot: usize, kv: Option<[&[f32]; 2]>) {
    let dim = keys.len() / (PAGE_TOKENS / 16);
    let tile = &mut keys[slot / 16 * dim..][..dim];
    let Some([key, value]) = kv else {
        for entry in tile {
            entry[slot % 16 * 2..][..2].copy_from_slice(&NAN.to_le_bytes());
        }
        values.chunks_exact_mut(PAGE_TOKENS).for_each(|tile| tile[slot].fill(0));
        return;
    };
    // Sixteen at a time: the conversion becomes vectors, what comes after it cannot.
    for (entries, x) in tile.chunks_mut(16).zip(key.chunks(16)) {
        for (entry, half) in entries.iter_mut().zip(halves(x).as_chunks::<2>().0) {
            entry[slot % 16 * 2..][..2].copy_from_slice(half);
        }
    }
    for (tile, x) in values.chunks_exact_mut(PAGE_TOKENS).zip(value.chunks(16)) {
        tile[slot][..2 * x.len()].copy_from_slice(&halves(x)[..2 * x.len()]);
    }
}

/// Up to sixteen values in half precision.
#[inline(always)]
fn halves(from: &[f32]) -> Piece {
    let halves = sixteen(from).map(|x| half::from_f32(x.clamp(-MOST, MOST)));
    core::array::from_fn(|i| halves[i / 2].to_le_bytes()[i % 2])
}

/// The largest `f16`.
const MOST: f32 = 65504.0;
const NAN: u16 = 0x7e00;

/// Key and value of the token in `slot`.
#[cfg(any(test, feature = "testing"))]
pub(super) fn unpacked(page: &Page<'_>, slot: usize, dim: usize) -> [Vec<f32>; 2] {
    let entry = |piece: &Piece, at: usize| {
        half::to_f32(u16::from_le_bytes([piece[2 * at], piece[2 * at + 1]]))
    };
    let value = |i: usize| &page.values[i / 16 * PAGE_TOKENS + slot];
    [
        (0..dim).map(|i| entry(&page.keys[slot / 16 * dim + i], slot % 16)).collect(),
        (0..dim).map(|i| entry(value(i), i % 16)).collect(),
    ]
}
