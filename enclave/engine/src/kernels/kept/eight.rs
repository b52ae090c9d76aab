//! Keys and values in eight bits: signed codes, and for each token and head a scale of its keys and one
//! of its values, in `bf16`, which reaches as far as `f32`. A page takes a little more than half of what
//! it takes in `f16`.
//!
//! Both begin with the scales of the page's tokens. Then keys: for sixteen tokens at a time and four
//! dimensions at a time, those dimensions of the first token, then of the next, which is what one
//! instruction multiplies. Values: for sixteen dimensions and four tokens at a time, those tokens of the first
//! dimension, then of the next.
//!
//! Scores and sums of values are sums of integers. Queries have sixteen bits and weights fourteen, two
//! codes of each, so that their rounding adds little to that of keys and values.

use super::super::heads::Heads;
use super::super::isa::Kernel;
use super::super::math;
use super::super::pool::Pool;
use super::super::product::each_row;
use super::*;
use zeroize::Zeroizing;

pub(crate) struct Eight;

impl Kept for Eight {
    type Query<'a> = Query<'a>;
    // There are two sums of each.
    const AT_ONCE: [usize; 2] = [4, 12];

    #[inline(always)]
    fn query<'a>(queries: &Queries<'a>, row: usize, head: usize) -> Query<'a> {
        queries.coded.get(row, head)
    }

    #[inline(always)]
    fn score<S: Isa, const R: usize>(
        isa: S,
        pages: &[Page<'_>],
        queries: [Query<'_>; R],
        room: &mut [[[i32; 2]; PANEL_ROWS]],
        scores: &mut [[Lanes; PANEL_ROWS]],
    ) {
        // Side by side they are reached from one address.
        let room = &mut room[..queries[0].codes.len()];
        for (i, room) in room.iter_mut().enumerate() {
            each_row!(R, r => room[r] = queries[r].codes[i]);
        }
        for (page, scores) in pages.iter().zip(scores.as_chunks_mut::<2>().0) {
            // Few rows have too few sums to keep a processor busy, so both halves are taken at once.
            if S::REGISTERS >= 32 && R <= 4 {
                dots::<S, R, 2>(isa, page, 0, &queries, room, scores);
            } else {
                dots::<S, R, 1>(isa, page, 0, &queries, room, scores);
                dots::<S, R, 1>(isa, page, 1, &queries, room, scores);
            }
        }
    }

    // Closures are no part of what is compiled for one processor, so none here computes with `isa`.

    /// Weights times scales are rounded to fourteen bits for each row and range, two codes of seven.
    #[inline(always)]
    fn weigh<S: Isa, const R: usize>(isa: S, pages: &[Page<'_>], weights: &mut Weights<'_>) {
        let Weights { numbers, codes, most, sums, scales } = weights;
        let mut largest = [isa.splat(0.0); R];
        let mut totals = [isa.splat(0.0); R];
        for (page, numbers) in pages.iter().zip(numbers.as_chunks_mut::<2>().0) {
            for (scales, numbers) in page.values.iter().zip(numbers) {
                let scales = isa.load_bf16(scales);
                each_row!(R, r => {
                    let weight = weight(isa, &numbers[r], most[r]);
                    totals[r] = isa.mul_add(weight, isa.splat(1.0), totals[r]);
                    let scaled = isa.mul(weight, scales);
                    largest[r] = isa.max(largest[r], scaled);
                    isa.store(scaled, &mut numbers[r]);
                });
            }
        }
        let mut inverse = [0.0; R];
        each_row!(R, r => {
            let most = isa.most(largest[r]);
            sums[r] = isa.sum(totals[r]);
            scales[r] = most / WEIGHT_CODES;
            inverse[r] = if most < LEAST { 0.0 } else { WEIGHT_CODES / most };
        });
        for (numbers, codes) in numbers.iter().zip(codes.iter_mut()) {
            each_row!(R, r => {
                codes[r] = isa.sevens(isa.mul(isa.load(&numbers[r]), isa.splat(inverse[r])));
            });
        }
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
        let mut sums = [[[isa.splat_int(0); 2]; R]; W];
        let codes = weights.codes.as_chunks::<2>().0;
        for (n, (page, codes)) in pages.iter().zip(codes).enumerate() {
            let values = page.values[SCALE_PIECES..].as_flattened().as_chunks::<64>().0;
            let values = &values[tile * FOURS..][..W * FOURS];
            let ahead = ahead.get(n);
            if let Some(ahead) = ahead {
                isa.prefetch(ahead.keys, (tile + W) * FOURS * 64);
            }
            for four in 0..FOURS {
                let mut x = [[0; 2]; R];
                each_row!(R, r => {
                    let [high, low] = &codes[four / 4][r];
                    x[r] = [high[four % 4], low[four % 4]];
                });
                each_row!(W, w => {
                    // As many lines of what comes as are read here.
                    if let Some(ahead) = ahead {
                        isa.prefetch(ahead.keys, (tile * FOURS + four * W + w) * 64);
                    }
                    let values = isa.bytes(&values[w * FOURS + four]);
                    each_row!(R, r => {
                        let [high, low] = x[r];
                        sums[w][r][0] = isa.dot_weights(sums[w][r][0], values, high);
                        sums[w][r][1] = isa.dot_weights(sums[w][r][1], values, low);
                    });
                });
            }
        }
        each_row!(W, w => {
            each_row!(R, r => {
                let [high, low] = [isa.to_float(sums[w][r][0]), isa.to_float(sums[w][r][1])];
                let sum = isa.mul_add(high, isa.splat(LOW_CODES), low);
                let sum = isa.mul(sum, isa.splat(weights.scales[r]));
                isa.store(sum, &mut part[r * width + tile + w]);
            });
        });
        W
    }
}

/// Scores of the tokens of `H` halves of a page, from `half` on.
#[inline(always)]
fn dots<S: Isa, const R: usize, const H: usize>(
    isa: S,
    page: &Page<'_>,
    half: usize,
    queries: &[Query<'_>; R],
    room: &[[[i32; 2]; PANEL_ROWS]],
    scores: &mut [[Lanes; PANEL_ROWS]; 2],
) {
    let (scales, codes) = page.keys.split_at(SCALE_PIECES);
    let (codes, fours) = (codes.as_flattened().as_chunks::<64>().0, room.len());
    let codes: [_; H] = core::array::from_fn(|h| &codes[(half + h) * fours..][..fours]);
    let mut sums = [[[isa.splat_int(0); 2]; R]; H];
    each_row!(R, r => {
        let [high, low] = queries[r].sums;
        each_row!(H, h => {
            sums[h][r][0] = isa.splat_int(-S::SIGNED_BIAS * high);
            sums[h][r][1] = isa.splat_int(-S::SIGNED_BIAS * low);
        });
    });
    for (i, queries) in room.iter().enumerate() {
        each_row!(H, h => {
            isa.prefetch(page.values, (half * fours + i * H + h) * 64);
            let codes = isa.signed(isa.bytes(&codes[h][i]));
            each_row!(R, r => {
                let [high, low] = queries[r];
                sums[h][r][0] = isa.dot_signed(sums[h][r][0], codes, high);
                sums[h][r][1] = isa.dot_signed(sums[h][r][1], codes, low);
            });
        });
    }
    // The scales lie in a line of their own, so that there is one more.
    isa.prefetch(page.values, (half + H) * fours * 64);
    each_row!(H, h => {
        let scale = isa.load_bf16(&scales[half + h]);
        each_row!(R, r => {
            let [high, low] = [isa.to_float(sums[h][r][0]), isa.to_float(sums[h][r][1])];
            let sum = isa.mul_add(high, isa.splat(HIGH), low);
            let scale = isa.mul(scale, isa.splat(queries[r].scale));
            isa.store(isa.mul(sum, scale), &mut scores[half + h][r]);
        });
    });
}

/// Queries of a step in codes. Wiped on drop.
#[derive(Default)]
pub(crate) struct Coded {
    heads: usize,
    /// Of each head: the two codes of each four dimensions, their sums, and the bits of the scale.
    entries: usize,
    data: Zeroizing<Vec<[i32; 2]>>,
}

/// One head of one row.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    /// Four signed bytes of each for each four dimensions: [`HIGH`] times the first, plus the second.
    codes: &'a [[i32; 2]],
    /// What the codes add up to.
    sums: [i32; 2],
    scale: f32,
}

impl Coded {
    /// Room for `rows` of queries.
    pub(crate) fn new(rows: usize, heads: usize, head_dim: usize) -> Self {
        let entries = head_dim.div_ceil(4) + 2;
        Self { heads, entries, data: Zeroizing::new(vec![[0; 2]; rows * heads * entries]) }
    }

    /// Takes the queries of `from`.
    pub(crate) fn fill(&mut self, pool: &Pool, from: &Heads) {
        let (heads, entries) = (self.heads, self.entries);
        pool.chunks(&mut self.data, heads * entries, |first, rows| {
            pool.path().run(Encode { from, first, heads, entries, rows });
        });
    }

    #[inline(always)]
    fn get(&self, row: usize, head: usize) -> Query<'_> {
        let all = &self.data[(row * self.heads + head) * self.entries..][..self.entries];
        let (codes, numbers) = all.split_at(self.entries - 2);
        let scale = f32::from_bits(numbers[1][0].cast_unsigned());
        Query { codes, sums: numbers[0], scale }
    }
}

struct Encode<'a> {
    from: &'a Heads,
    first: usize,
    heads: usize,
    entries: usize,
    rows: &'a mut [[i32; 2]],
}

impl Kernel for Encode<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        for (n, to) in self.rows.chunks_exact_mut(self.entries).enumerate() {
            encode(isa, self.from.get(self.first + n / self.heads, n % self.heads), to);
        }
    }
}

#[inline(always)]
fn encode<S: Isa>(isa: S, query: &[f32], to: &mut [[i32; 2]]) {
    let (mut most, mut nothing) = (isa.splat(0.0), isa.splat(0.0));
    for x in query.chunks(16) {
        let x = isa.load(&sixteen(x));
        most = isa.max(isa.max(x, isa.mul(x, isa.splat(-1.0))), most);
        nothing = isa.mul_add(x, isa.splat(0.0), nothing);
    }
    // A query that is no finite number has a scale that is none.
    let (most, nothing) = (isa.most(most), isa.sum(nothing));
    let scale = if most < LEAST { 0.0 } else { most / QUERY_CODES };
    let inverse = if most < LEAST { 0.0 } else { QUERY_CODES / most };
    let (codes, numbers) = to.split_at_mut(query.len().div_ceil(4));
    let mut sums = [[0; 16]; 2];
    for (codes, x) in codes.chunks_mut(4).zip(query.chunks(16)) {
        let (x, mut both) = (sixteen(x), [[0; 16]; 2]);
        #[allow(clippy::cast_possible_truncation)] // up to 127
        for i in 0..16 {
            let code = math::whole(x[i] * inverse);
            let high = math::whole(code * (1.0 / HIGH));
            let [high, low] = [math::round(high) as i8, math::round(code - high * HIGH) as i8];
            (both[0][i], both[1][i]) = (high.cast_unsigned(), low.cast_unsigned());
            (sums[0][i], sums[1][i]) = (sums[0][i] + i32::from(high), sums[1][i] + i32::from(low));
        }
        for (n, codes) in codes.iter_mut().enumerate() {
            for (code, bytes) in codes.iter_mut().zip(&both) {
                *code = i32::from_le_bytes(bytes.as_chunks().0[n]);
            }
        }
    }
    numbers[0] = sums.map(|sums| sums.iter().sum());
    numbers[1] = [(scale + nothing).to_bits().cast_signed(), 0];
}

/// Of the keys and of the values of a head in a page.
pub(super) const fn pieces(head_dim: usize) -> [usize; 2] {
    let keys = head_dim.div_ceil(4).saturating_mul(PAGE_TOKENS / 16 * 2);
    let values = head_dim.div_ceil(16).saturating_mul(PAGE_TOKENS / 2);
    [keys.saturating_add(SCALE_PIECES), values.saturating_add(SCALE_PIECES)]
}

pub(super) fn put(keys: &mut [Piece], values: &mut [Piece], slot: usize, kv: Option<[&[f32]; 2]>) {
    let (key_scales, keys) = keys.split_at_mut(SCALE_PIECES);
    let (value_scales, values) = values.split_at_mut(SCALE_PIECES);
    let (half, lane) = (slot / 16, slot % 16);
    let groups = keys.as_flattened_mut().as_chunks_mut::<64>().0;
    let first = half * groups.len() / 2;
    let groups = &mut groups[first..];
    let values = values.as_flattened_mut().as_chunks_mut::<64>().0;
    let [key, value] = kv.unwrap_or_default();
    let [key_coder, value_coder] = [key, value].map(Coder::of);
    for (group, x) in groups.iter_mut().zip(key.chunks(4)) {
        for (code, x) in group[lane * 4..].iter_mut().zip(x) {
            *code = key_coder.code(*x);
        }
    }
    for (tile, x) in values.chunks_exact_mut(FOURS).zip(value.chunks(16)) {
        for (codes, x) in tile[slot / 4].as_chunks_mut::<4>().0.iter_mut().zip(x) {
            codes[slot % 4] = value_coder.code(*x);
        }
    }
    // Without a scale the codes that may be left of a draft are worth nothing.
    let key_scale = if kv.is_some() { key_coder.scale } else { NAN };
    key_scales[half][lane * 2..][..2].copy_from_slice(&key_scale.to_le_bytes());
    value_scales[half][lane * 2..][..2].copy_from_slice(&value_coder.scale.to_le_bytes());
}

/// How finite numbers become codes.
struct Coder {
    /// What a code of one is worth, as `bf16`.
    scale: u16,
    inverse: f32,
}

impl Coder {
    #[allow(clippy::cast_possible_truncation)] // the upper half
    fn of(all: &[f32]) -> Self {
        let most = all.iter().fold(0.0f32, |most, x| if x.abs() > most { x.abs() } else { most });
        if most < LEAST {
            return Self { scale: 0, inverse: 0.0 };
        }
        let most = most.min(MOST);
        // Rounded up, so that no code is larger than the largest.
        let scale = ((most / CODES).to_bits() + 0xffff) >> 16;
        Self { scale: scale as u16, inverse: 1.0 / f32::from_bits(scale << 16) }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // at most 127
    fn code(&self, x: f32) -> u8 {
        (math::whole((x * self.inverse).clamp(-CODES, CODES)) as i8).cast_unsigned()
    }
}

/// Largest code.
const CODES: f32 = 127.0;
/// What is more is cut to it, so that what follows from one token stays finite.
const MOST: f32 = 1e38;
/// Worth of the first code of a query, in units of the second.
const HIGH: f32 = 254.0;
/// Largest value of both codes of a query: of one more the first would be rounded to 128.
const QUERY_CODES: f32 = CODES * HIGH + CODES - 1.0;
/// Largest value of both codes of a weight, and worth of its first, in units of the second.
const WEIGHT_CODES: f32 = LOW_CODES * LOW_CODES - 1.0;
const LOW_CODES: f32 = 128.0;
/// What is less is zero: the inverse of its scale might be no number.
const LEAST: f32 = 1e-30;
const NAN: u16 = 0x7fc0;
/// Pieces of the scales of keys or values of a page.
const SCALE_PIECES: usize = PAGE_TOKENS * 2 / size_of::<Piece>();
/// Four tokens at a time: so many in a page, each a line of a tile of values.
const FOURS: usize = PAGE_TOKENS / 4;

/// Key and value of the token in `slot`.
#[cfg(any(test, feature = "testing"))]
pub(super) fn unpacked(page: &Page<'_>, slot: usize, dim: usize) -> [Vec<f32>; 2] {
    let scale = |pieces: &[Piece]| {
        let at = slot % 16 * 2;
        let [low, high] = [pieces[slot / 16][at], pieces[slot / 16][at + 1]];
        f32::from_bits(u32::from_le_bytes([0, 0, low, high]))
    };
    let code = |pieces: &[Piece], at: usize| {
        f32::from(pieces[SCALE_PIECES..].as_flattened()[at].cast_signed())
    };
    let groups = dim.div_ceil(4);
    let key = |i: usize| ((slot / 16 * groups + i / 4) * 16 + slot % 16) * 4 + i % 4;
    let value = |i: usize| ((i / 16 * FOURS + slot / 4) * 16 + i % 16) * 4 + slot % 4;
    [
        (0..dim).map(|i| code(page.keys, key(i)) * scale(page.keys)).collect(),
        (0..dim).map(|i| code(page.values, value(i)) * scale(page.values)).collect(),
    ]
}
