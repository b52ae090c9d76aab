//! Attention of new tokens over the keys and values of a sequence. Query heads that share a key head
//! are computed together, up to eight rows at a time, so that keys and values are read once for all of
//! them; nothing is copied or expanded.

use std::sync::{Mutex, PoisonError};

use zeroize::{DefaultIsZeroes, Zeroizing};

use super::half;
use super::input::PANEL_ROWS;
use super::isa::{Isa, Kernel};
use super::math;
use super::pool::Pool;
use super::product::each_row;
use super::tiled::{Lanes, Tiled};

/// Tokens of a page.
pub(crate) const PAGE_TOKENS: usize = 32;

/// Sixteen `f16`, little-endian.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
pub(crate) struct Halves(pub(crate) [u8; 32]);

impl DefaultIsZeroes for Halves {}

/// Keys and values of [`PAGE_TOKENS`] tokens, of one head of one layer, in the order they are read.
pub(crate) struct Page<'a> {
    /// For sixteen tokens at a time and each dimension: those tokens.
    pub(crate) keys: &'a [Halves],
    /// For sixteen dimensions at a time and each token: those dimensions.
    pub(crate) values: &'a [Halves],
}

/// Scratch of one thread.
#[derive(Default)]
struct Scratch {
    /// For each dimension of a head, eight rows of queries.
    queries: Zeroizing<Vec<[f32; PANEL_ROWS]>>,
    /// For sixteen tokens at a time and each row: those tokens.
    scores: Zeroizing<Vec<Lanes>>,
    /// For each token, eight rows.
    weights: Zeroizing<Vec<[f32; PANEL_ROWS]>>,
}

/// Attention for the tokens of one step. Buffers are wiped on drop.
pub(crate) struct Attention {
    /// New tokens, and tokens before them.
    tokens: usize,
    before: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// For each key head and each of its rows (token by token, then query head), the head's dimensions.
    out: Zeroizing<Vec<Lanes>>,
    scratch: Vec<Mutex<Scratch>>,
}

impl Attention {
    pub(crate) fn new(
        pool: &Pool,
        [tokens, before]: [usize; 2],
        [heads, kv_heads, head_dim]: [usize; 3],
    ) -> Self {
        let padded = (tokens + before).next_multiple_of(PAGE_TOKENS);
        let scratch = || Scratch {
            queries: Zeroizing::new(vec![[0.0; PANEL_ROWS]; head_dim]),
            scores: Zeroizing::new(vec![[0.0; 16]; padded / 16 * PANEL_ROWS]),
            weights: Zeroizing::new(vec![[0.0; PANEL_ROWS]; padded]),
        };
        let scratch = (0..pool.threads()).map(|_| Mutex::new(scratch())).collect();
        let mut new =
            Self { tokens, before, heads, kv_heads, head_dim, out: Zeroizing::default(), scratch };
        new.out = Zeroizing::new(vec![[0.0; 16]; kv_heads * new.head_lanes()]);
        new
    }

    /// Query heads of a key head.
    const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Lanes of one row of a head.
    const fn row_lanes(&self) -> usize {
        self.head_dim.div_ceil(16)
    }

    /// Panels of a key head.
    const fn head_panels(&self) -> usize {
        (self.tokens * self.group()).div_ceil(PANEL_ROWS)
    }

    /// Lanes of a key head.
    const fn head_lanes(&self) -> usize {
        self.head_panels() * PANEL_ROWS * self.row_lanes()
    }

    /// Attends from `queries` (one row a token, the heads side by side, before rotation), rotated by
    /// `rotation`, over `pages`: those of a key head, in order, the new tokens' among them. The result
    /// has the heads side by side.
    pub(crate) fn run<'p>(
        &mut self,
        pool: &Pool,
        queries: &Tiled,
        rotation: &Rotation,
        pages: impl Fn(usize) -> Vec<Page<'p>> + Sync,
        to: &mut Tiled,
    ) {
        let mut out = core::mem::take(&mut self.out);
        let (panels, lanes) = (self.head_panels(), PANEL_ROWS * self.row_lanes());
        pool.chunks(&mut out, lanes, |first, out| {
            // There are as many as threads, so one is free.
            let free = self.scratch.iter().find_map(|scratch| scratch.try_lock().ok());
            let mut scratch = free
                .unwrap_or_else(|| self.scratch[0].lock().unwrap_or_else(PoisonError::into_inner));
            for (i, out) in out.chunks_exact_mut(lanes).enumerate() {
                let (head, panel) = ((first + i) / panels, (first + i) % panels);
                let pages = &pages(head);
                let panel = Panel { all: self, queries, rotation, pages, head, panel };
                pool.path().run(Run { panel, scratch: &mut scratch, out });
            }
        });
        self.out = out;
        self.gather(to);
    }

    /// Copies the heads side by side.
    fn gather(&self, to: &mut Tiled) {
        let (group, dim) = (self.group(), self.head_dim);
        for head in 0..self.heads {
            for token in 0..self.tokens {
                let row = token * group + head % group;
                let at = head / group * self.head_lanes() + row * self.row_lanes();
                let from = &self.out[at..][..self.row_lanes()];
                if dim.is_multiple_of(16) {
                    for (tile, lanes) in from.iter().enumerate() {
                        *to.lanes_mut(token, head * dim / 16 + tile) = *lanes;
                    }
                } else {
                    for i in 0..dim {
                        let column = head * dim + i;
                        to.lanes_mut(token, column / 16)[column % 16] = from[i / 16][i % 16];
                    }
                }
            }
        }
    }
}

/// Rotary embedding of the tokens of a step: neighbouring dimensions turn together, as the rows of
/// query and key weights are ordered in GGUF files of this family.
pub(crate) struct Rotation {
    /// Cosine and sine for each token and each pair of dimensions.
    pub(crate) turns: Vec<[f32; 2]>,
    pub(crate) pairs: usize,
}

impl Rotation {
    /// The pair `pair` of `token`, turned.
    #[inline(always)]
    pub(crate) fn turn(&self, token: usize, pair: usize, [a, b]: [f32; 2]) -> [f32; 2] {
        let [cos, sin] = self.turns[token * self.pairs + pair];
        [a * cos - b * sin, a * sin + b * cos]
    }
}

/// Eight rows of one key head.
struct Panel<'a> {
    all: &'a Attention,
    queries: &'a Tiled,
    rotation: &'a Rotation,
    pages: &'a [Page<'a>],
    head: usize,
    panel: usize,
}

struct Run<'a> {
    panel: Panel<'a>,
    scratch: &'a mut Scratch,
    out: &'a mut [Lanes],
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let all = self.panel.all;
        let rows = all.tokens * all.group() - self.panel.panel * PANEL_ROWS;
        match rows {
            1 => self.rows::<S, 1>(isa, 1),
            2 => self.rows::<S, 2>(isa, 2),
            3 | 4 => self.rows::<S, 4>(isa, rows),
            _ => self.rows::<S, 8>(isa, rows.min(PANEL_ROWS)),
        }
    }
}

impl Run<'_> {
    /// `R` is `live`, rounded up: rows that are none have queries of zero and no result.
    #[inline(always)]
    fn rows<S: Isa, const R: usize>(self, isa: S, live: usize) {
        let Self { panel, scratch, out } = self;
        let Panel { all, queries, rotation, pages, head, panel } = panel;
        let group = all.group();
        let place = |row: usize| {
            let row = panel * PANEL_ROWS + row;
            (row / group, head * group + row % group)
        };

        let scale = 1.0 / (all.head_dim as f32).sqrt();
        for row in 0..PANEL_ROWS {
            for pair in 0..all.head_dim / 2 {
                let [a, b] = if row < live {
                    let (token, head) = place(row);
                    let at = head * all.head_dim + 2 * pair;
                    let q = [queries.get(token, at), queries.get(token, at + 1)];
                    rotation.turn(token, pair, q)
                } else {
                    [0.0; 2]
                };
                scratch.queries[2 * pair][row] = a * scale;
                scratch.queries[2 * pair + 1][row] = b * scale;
            }
        }

        // Tokens that the last row sees, which sees the most.
        let most = all.before + place(live - 1).0 + 1;
        let tiles = most.div_ceil(16);
        let keys = pages.iter().flat_map(|page| page.keys.chunks_exact(all.head_dim));
        for (keys, scores) in keys.zip(scratch.scores.chunks_exact_mut(PANEL_ROWS)).take(tiles) {
            let mut total = [isa.splat(0.0); R];
            for (key, query) in keys.iter().zip(scratch.queries.iter()) {
                let key = isa.load_f16(&key.0);
                each_row!(R, r => total[r] = isa.mul_add(key, isa.splat(query[r]), total[r]));
            }
            each_row!(R, r => isa.store(total[r], &mut scores[r]));
        }

        let mut inverse = [0.0; R];
        for (row, inverse) in inverse.iter_mut().enumerate().take(live) {
            *inverse = 1.0 / softmax(scratch, row, tiles, all.before + place(row).0 + 1);
        }

        let width = all.row_lanes();
        for tile in 0..width {
            let mut total = [isa.splat(0.0); R];
            for (page, weights) in pages.iter().zip(scratch.weights[..most].chunks(PAGE_TOKENS)) {
                let values = &page.values[tile * PAGE_TOKENS..][..PAGE_TOKENS];
                for (value, weight) in values.iter().zip(weights) {
                    let value = isa.load_f16(&value.0);
                    each_row!(R, r => total[r] = isa.mul_add(value, isa.splat(weight[r]), total[r]));
                }
            }
            each_row!(R, r => {
                let result = isa.mul(total[r], isa.splat(inverse[r]));
                isa.store(result, &mut out[r * width + tile]);
            });
        }
    }
}

/// Makes weights of the scores of `row` over its first `seen` tokens, all others 0; their sum.
#[inline(always)]
fn softmax(scratch: &mut Scratch, row: usize, tiles: usize, seen: usize) -> f32 {
    for token in seen..tiles * 16 {
        scratch.scores[token / 16 * PANEL_ROWS + row][token % 16] = f32::NEG_INFINITY;
    }
    let mut most = [f32::NEG_INFINITY; 16];
    for tile in 0..tiles {
        let lanes = &scratch.scores[tile * PANEL_ROWS + row];
        for i in 0..16 {
            most[i] = if lanes[i] > most[i] { lanes[i] } else { most[i] };
        }
    }
    let most = math::most(&most);
    let mut sums = [0.0; 16];
    for tile in 0..tiles {
        let mut lanes = scratch.scores[tile * PANEL_ROWS + row];
        for i in 0..16 {
            lanes[i] = math::exp(lanes[i] - most);
            sums[i] += lanes[i];
        }
        let weights = &mut scratch.weights[tile * 16..][..16];
        for i in 0..16 {
            weights[i][row] = lanes[i];
        }
    }
    math::sum(&sums)
}

/// Stores keys and values of one head: one token's in its page.
pub(crate) fn put(keys: &mut [Halves], values: &mut [Halves], slot: usize, kv: [&[f32]; 2]) {
    let [key, value] = kv;
    let tile = &mut keys[slot / 16 * key.len()..][..key.len()];
    for (entry, x) in tile.iter_mut().zip(key) {
        entry.0[slot % 16 * 2..][..2].copy_from_slice(&half::from_f32(*x).to_le_bytes());
    }
    for (i, x) in value.iter().enumerate() {
        let entry = &mut values[i / 16 * PAGE_TOKENS + slot];
        entry.0[i % 16 * 2..][..2].copy_from_slice(&half::from_f32(*x).to_le_bytes());
    }
}
