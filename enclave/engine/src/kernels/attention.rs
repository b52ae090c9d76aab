//! Attention of new tokens over the keys and values of their sequences. Query heads that share a key
//! head are computed together, up to eight rows at a time, so that keys and values are read once for
//! all of them; nothing is copied or expanded. Rows of different sequences never share a panel.

use core::ops::Range;
use std::sync::{Mutex, PoisonError};

use zeroize::{DefaultIsZeroes, Zeroizing};

use super::half;
use super::heads::Heads;
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

/// The new tokens of one sequence among the rows of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The row of the first one.
    pub(crate) first: usize,
    /// New tokens, and tokens before them.
    pub(crate) tokens: usize,
    pub(crate) before: usize,
}

/// Up to eight rows of one key head of one sequence.
#[derive(Clone, Copy)]
struct Place {
    /// Number of the span, and what it says.
    index: usize,
    span: Span,
    head: usize,
    /// Of the rows of this head (token by token, then query head) the first one here.
    row: usize,
}

/// Attention for the tokens of one step. Buffers are wiped on drop.
pub(crate) struct Attention {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    places: Vec<Place>,
    /// For each place eight rows of the head's dimensions.
    out: Zeroizing<Vec<Lanes>>,
    scratch: Vec<Mutex<Scratch>>,
}

impl Attention {
    pub(crate) fn new(
        pool: &Pool,
        spans: &[Span],
        [heads, kv_heads, head_dim]: [usize; 3],
    ) -> Self {
        let longest = spans.iter().map(|span| span.tokens + span.before).max().unwrap_or(0);
        let padded = longest.next_multiple_of(PAGE_TOKENS);
        let scratch = || Scratch {
            queries: Zeroizing::new(vec![[0.0; PANEL_ROWS]; head_dim]),
            scores: Zeroizing::new(vec![[0.0; 16]; padded / 16 * PANEL_ROWS]),
            weights: Zeroizing::new(vec![[0.0; PANEL_ROWS]; padded]),
        };
        let group = heads / kv_heads;
        let mut places = Vec::new();
        for (index, span) in spans.iter().copied().enumerate() {
            for head in 0..kv_heads {
                let rows = (0..span.tokens * group).step_by(PANEL_ROWS);
                places.extend(rows.map(|row| Place { index, span, head, row }));
            }
        }
        let lanes = PANEL_ROWS * head_dim.div_ceil(16);
        Self {
            heads,
            kv_heads,
            head_dim,
            out: Zeroizing::new(vec![[0.0; 16]; places.len() * lanes]),
            places,
            scratch: (0..pool.threads()).map(|_| Mutex::new(scratch())).collect(),
        }
    }

    /// Query heads of a key head.
    const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Lanes of one row of a head.
    const fn row_lanes(&self) -> usize {
        self.head_dim.div_ceil(16)
    }

    /// Attends from `queries`, turned and scaled, over `pages`: those of a span and a key head, in
    /// order, the new tokens' among them. With a `window` a token sees that many tokens, itself the
    /// last. The result has the heads side by side.
    pub(crate) fn run<'p>(
        &mut self,
        pool: &Pool,
        queries: &Heads,
        window: Option<usize>,
        pages: impl Fn(usize, usize) -> Vec<Page<'p>> + Sync,
        to: &mut Tiled,
    ) {
        let mut out = core::mem::take(&mut self.out);
        let lanes = PANEL_ROWS * self.row_lanes();
        pool.chunks(&mut out, lanes, |first, out| {
            // There are as many as threads, so one is free.
            let free = self.scratch.iter().find_map(|scratch| scratch.try_lock().ok());
            let mut scratch = free
                .unwrap_or_else(|| self.scratch[0].lock().unwrap_or_else(PoisonError::into_inner));
            for (place, out) in self.places[first..].iter().zip(out.chunks_exact_mut(lanes)) {
                let pages = &pages(place.index, place.head);
                let panel = Panel { all: self, queries, window, pages, place: *place };
                pool.path().run(Run { panel, scratch: &mut scratch, out });
            }
        });
        self.out = out;
        self.gather(to);
    }

    /// Copies the heads side by side.
    fn gather(&self, to: &mut Tiled) {
        let (dim, width) = (self.head_dim, self.row_lanes());
        for (place, out) in self.places.iter().zip(self.out.chunks_exact(PANEL_ROWS * width)) {
            for (row, from) in out.chunks_exact(width).take(place.rows(self)).enumerate() {
                let (token, head) = place.at(self, row);
                let token = place.span.first + token;
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

impl Place {
    /// Rows here, at most eight.
    #[inline(always)]
    const fn rows(self, all: &Attention) -> usize {
        let rows = self.span.tokens * all.group() - self.row;
        if rows < PANEL_ROWS { rows } else { PANEL_ROWS }
    }

    /// Token (of the span) and query head of a row.
    #[inline(always)]
    const fn at(self, all: &Attention, row: usize) -> (usize, usize) {
        let (row, group) = (self.row + row, all.group());
        (row / group, self.head * group + row % group)
    }
}

/// What the rows of one place are computed from.
struct Panel<'a> {
    all: &'a Attention,
    queries: &'a Heads,
    window: Option<usize>,
    pages: &'a [Page<'a>],
    place: Place,
}

impl Panel<'_> {
    /// The tokens of its sequence that a row sees.
    #[inline(always)]
    fn seen(&self, row: usize) -> Range<usize> {
        let end = self.place.span.before + self.place.at(self.all, row).0 + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

struct Run<'a> {
    panel: Panel<'a>,
    scratch: &'a mut Scratch,
    out: &'a mut [Lanes],
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let rows = self.panel.place.rows(self.panel.all);
        match rows {
            1 => self.rows::<S, 1>(isa, 1),
            2 => self.rows::<S, 2>(isa, 2),
            3 | 4 => self.rows::<S, 4>(isa, rows),
            _ => self.rows::<S, 8>(isa, rows),
        }
    }
}

impl Run<'_> {
    /// `R` is `live`, rounded up: rows that are none have queries of zero and no result.
    #[inline(always)]
    fn rows<S: Isa, const R: usize>(self, isa: S, live: usize) {
        let Self { panel, scratch, out } = self;
        let Panel { all, queries, pages, place, .. } = panel;

        for row in 0..PANEL_ROWS {
            let query = (row < live).then(|| {
                let (token, head) = place.at(all, row);
                queries.get(place.span.first + token, head)
            });
            for (i, to) in scratch.queries.iter_mut().enumerate() {
                to[row] = query.map_or(0.0, |query| query[i]);
            }
        }

        // Tokens that the last row sees, which sees the latest, and pages that end before what the
        // first row sees, which sees the earliest.
        let most = panel.seen(live - 1).end;
        let skip = panel.seen(0).start / PAGE_TOKENS;
        let tiles = skip * (PAGE_TOKENS / 16)..most.div_ceil(16);
        let keys = pages.iter().flat_map(|page| page.keys.chunks_exact(all.head_dim));
        let scores = scratch.scores.chunks_exact_mut(PANEL_ROWS);
        for (keys, scores) in keys.zip(scores).take(tiles.end).skip(tiles.start) {
            let mut total = [isa.splat(0.0); R];
            for (key, query) in keys.iter().zip(scratch.queries.iter()) {
                let key = isa.load_f16(&key.0);
                each_row!(R, r => total[r] = isa.mul_add(key, isa.splat(query[r]), total[r]));
            }
            each_row!(R, r => isa.store(total[r], &mut scores[r]));
        }

        let mut inverse = [0.0; R];
        for (row, inverse) in inverse.iter_mut().enumerate().take(live) {
            *inverse = 1.0 / softmax(scratch, row, tiles.clone(), panel.seen(row));
        }

        let width = all.row_lanes();
        for tile in 0..width {
            let mut total = [isa.splat(0.0); R];
            let weights = scratch.weights[..most].chunks(PAGE_TOKENS);
            for (page, weights) in pages.iter().zip(weights).skip(skip) {
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

/// Makes weights of the scores of `row` over the tokens it has `seen`, all others of `tiles` 0; their
/// sum.
#[inline(always)]
fn softmax(scratch: &mut Scratch, row: usize, tiles: Range<usize>, seen: Range<usize>) -> f32 {
    for token in (tiles.start * 16..seen.start).chain(seen.end..tiles.end * 16) {
        scratch.scores[token / 16 * PANEL_ROWS + row][token % 16] = f32::NEG_INFINITY;
    }
    let mut most = [f32::NEG_INFINITY; 16];
    for tile in tiles.clone() {
        let lanes = &scratch.scores[tile * PANEL_ROWS + row];
        for i in 0..16 {
            most[i] = if lanes[i] > most[i] { lanes[i] } else { most[i] };
        }
    }
    let most = math::most(&most);
    let mut sums = [0.0; 16];
    for tile in tiles {
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
