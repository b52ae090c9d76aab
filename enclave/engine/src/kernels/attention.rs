//! Attention of new tokens over the keys and values of their sequences. Query heads that share a key
//! head are computed together, up to eight rows at a time, so that keys and values are read once for
//! all of them; nothing is copied or expanded. Rows of different sequences never share a panel.
//!
//! The tokens of a sequence are taken in ranges, at the same places whoever asks: of each range a row
//! gets its largest score, the sum of its weights and the sum of its values, and these are put together
//! in order. So the ranges of a long sequence may be computed by different threads, and its numbers are
//! the same as if one had computed them all.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use chrysalis_wire::manifest::KvCacheType;
use zeroize::Zeroizing;

use super::heads::Heads;
use super::input::PANEL_ROWS;
use super::isa::{Isa, Kernel};
use super::kept::{Coded, Eight, HalfPrecision, Kept, Page, Weights};
use super::math;
use super::pool::Pool;
use super::product::each_row;
use super::tiled::{Lanes, Tiled};

/// Tokens of a page.
pub(crate) const PAGE_TOKENS: usize = 32;

/// Scratch of one thread.
#[derive(Default)]
struct Scratch {
    /// For sixteen tokens of a range at a time and each row: those tokens. First scores, then weights.
    scores: Zeroizing<Vec<[Lanes; PANEL_ROWS]>>,
    /// The weights of a range in codes: see [`Weights`].
    codes: Zeroizing<Vec<[[[i32; 4]; 2]; PANEL_ROWS]>>,
    /// See [`Kept::score`].
    room: Zeroizing<Vec<[[i32; 2]; PANEL_ROWS]>>,
    /// The result of a range: see [`State`].
    part: Zeroizing<Vec<Lanes>>,
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

/// Up to eight rows of one key head of one sequence, over some of the ranges they see.
#[derive(Clone, Copy)]
struct Place {
    /// Number of the span, and what it says.
    index: usize,
    span: Span,
    head: usize,
    /// Of the rows of this head (token by token, then query head) the first one here.
    row: usize,
    /// The first range, and the one after the last.
    ranges: [usize; 2],
}

/// Queries, as they are kept with whichever way.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    pub(super) heads: &'a Heads,
    /// Empty where numbers are computed with.
    pub(super) coded: &'a Coded,
}

/// Attention for the tokens of one step. Buffers are wiped on drop.
pub(crate) struct Attention {
    kind: KvCacheType,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    places: Vec<Place>,
    /// The [`State`] of each place.
    out: Zeroizing<Vec<Lanes>>,
    coded: Coded,
    scratch: Vec<Mutex<Scratch>>,
}

impl Attention {
    /// For the rows of `spans`, over pages of a `kind`.
    pub(crate) fn new(
        pool: &Pool,
        kind: KvCacheType,
        spans: &[Span],
        [heads, kv_heads, head_dim]: [usize; 3],
    ) -> Self {
        let state = State::lanes(head_dim);
        let scratch = || Scratch {
            scores: Zeroizing::new(vec![[[0.0; 16]; PANEL_ROWS]; RANGE_TOKENS / 16]),
            codes: Zeroizing::new(vec![[[[0; 4]; 2]; PANEL_ROWS]; RANGE_TOKENS / 16]),
            room: Zeroizing::new(vec![[[0; 2]; PANEL_ROWS]; head_dim.div_ceil(4)]),
            part: Zeroizing::new(vec![[0.0; 16]; state]),
        };
        let group = heads / kv_heads;
        let mut places = Vec::new();
        for (index, span) in spans.iter().copied().enumerate() {
            let rows = span.tokens * group;
            for head in 0..kv_heads {
                for row in (0..rows).step_by(PANEL_ROWS) {
                    let last = (row + PANEL_ROWS).min(rows) - 1;
                    let ranges = (span.before + last / group + 1).div_ceil(RANGE_TOKENS);
                    let place = |ranges| Place { index, span, head, row, ranges };
                    if rows <= PANEL_ROWS {
                        // One token, mostly: the only work of its sequence, so it is divided.
                        places.extend((0..ranges).map(|range| place([range, range + 1])));
                    } else {
                        places.push(place([0, ranges]));
                    }
                }
            }
        }
        let rows = spans.iter().map(|span| span.tokens).sum();
        let coded = match kind {
            KvCacheType::F16 => Coded::default(),
            KvCacheType::Q8_0 => Coded::new(rows, heads, head_dim),
        };
        Self {
            kind,
            heads,
            kv_heads,
            head_dim,
            coded,
            out: Zeroizing::new(vec![[0.0; 16]; places.len() * state]),
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

    /// Attends from `queries`, turned and scaled, over `pages`: some of those of a span and a key head,
    /// in order, the new tokens' among them. With a `window` a token sees that many tokens, itself the
    /// last. The result has the heads side by side.
    pub(crate) fn run<'p, P: IntoIterator<Item = Page<'p>>>(
        &mut self,
        pool: &Pool,
        queries: &Heads,
        window: Option<usize>,
        pages: impl Fn(usize, usize, Range<usize>) -> P + Sync,
        to: &mut Tiled,
    ) {
        let mut out = core::mem::take(&mut self.out);
        let mut coded = core::mem::take(&mut self.coded);
        if self.kind == KvCacheType::Q8_0 {
            coded.fill(pool, queries);
        }
        let queries = Queries { heads: queries, coded: &coded };
        let states = out.chunks_exact_mut(State::lanes(self.head_dim));
        let states: Vec<_> = states.map(Mutex::new).collect();
        // Each thread has places side by side, so that it knows the next one, and then helps the others.
        let threads = pool.threads();
        let start = |thread: usize| thread * states.len() / threads;
        let next: Vec<_> = (0..threads).map(|thread| AtomicUsize::new(start(thread))).collect();
        pool.chunks(&mut vec![(); threads], 1, |first, _| {
            // There are as many as threads, so one is free.
            let free = self.scratch.iter().find_map(|scratch| scratch.try_lock().ok());
            let mut scratch = free
                .unwrap_or_else(|| self.scratch[0].lock().unwrap_or_else(PoisonError::into_inner));
            let of = |place: &Place| pages(place.index, place.head, place.pages(self, window));
            let (mut pages, mut coming, mut ready) = (Vec::new(), Vec::new(), None);
            for thread in first..first + threads {
                let thread = thread % threads;
                let places = &self.places[..start(thread + 1)];
                loop {
                    let at = next[thread].fetch_add(1, Ordering::Relaxed);
                    let Some(place) = places.get(at) else { break };
                    core::mem::swap(&mut pages, &mut coming);
                    if ready != Some(at) {
                        pages.clear();
                        pages.extend(of(place));
                    }
                    let later = places.get(at + 1);
                    ready = later.map(|_| at + 1);
                    coming.clear();
                    coming.extend(later.into_iter().flat_map(of));
                    let first_page = place.pages(self, window).start;
                    let (pages, ahead, place) = (&pages[..], &coming[..], *place);
                    let panel =
                        Panel { all: self, queries, window, first_page, pages, ahead, place };
                    let mut out = states[at].lock().unwrap_or_else(PoisonError::into_inner);
                    pool.path().run(Run { panel, scratch: &mut scratch, out: &mut out });
                }
            }
        });
        drop(states);
        pool.path().run(Gather { all: self, out: &mut out, to });
        (self.out, self.coded) = (out, coded);
    }
}

/// Puts the ranges of each panel together and copies the heads side by side.
struct Gather<'a> {
    all: &'a Attention,
    /// The [`State`] of each place.
    out: &'a mut [Lanes],
    to: &'a mut Tiled,
}

impl Kernel for Gather<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let Self { all, out, to } = self;
        let (dim, width) = (all.head_dim, all.row_lanes());
        let lanes = State::lanes(dim);
        let states = out.chunks_exact_mut(lanes);
        let mut places = all.places.iter().zip(states).peekable();
        while let Some((place, first)) = places.next() {
            let rows = place.rows(all);
            let mut state = State(first);
            while let Some((_, part)) = places.next_if(|(next, _)| next.continues(*place)) {
                // Half of them lie in the cache of another processor.
                for line in (0..rows * width).chain([lanes - 2, lanes - 1]) {
                    isa.prefetch(part, (2 * lanes + line) * size_of::<Lanes>());
                }
                state.add(isa, part, rows, width);
            }
            for row in 0..rows {
                let (token, head) = place.at(all, row);
                let (token, from) = (place.span.first + token, state.finished(isa, row, width));
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
        if row < group {
            return (0, self.head * group + row);
        }
        (row / group, self.head * group + row % group)
    }

    /// The tokens of its sequence that a row sees.
    #[inline(always)]
    fn seen(self, all: &Attention, window: Option<usize>, row: usize) -> Range<usize> {
        let end = self.span.before + self.at(all, row).0 + 1;
        window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// The pages of its ranges, without those that end before what the first row sees, which sees the
    /// earliest.
    fn pages(self, all: &Attention, window: Option<usize>) -> Range<usize> {
        let [from, to] = self.ranges.map(|range| range * RANGE_PAGES);
        from.max(self.seen(all, window, 0).start / PAGE_TOKENS).min(to)..to
    }

    /// Whether these are the rows of `before`, over later ranges.
    const fn continues(self, before: Self) -> bool {
        self.index == before.index && self.head == before.head && self.row == before.row
    }
}

/// What rows have seen of some ranges: for each row the weighted sum of values, then the largest scores
/// of the rows, to which the weights are relative, then the sums of the weights.
struct State<'a>(&'a mut [Lanes]);

impl State<'_> {
    const fn lanes(head_dim: usize) -> usize {
        PANEL_ROWS * head_dim.div_ceil(16) + 2
    }

    /// Nothing seen.
    fn clear(&mut self) {
        self.0.fill([0.0; 16]);
        if let Some([most, _]) = self.0.last_chunk_mut() {
            most.fill(f32::NEG_INFINITY);
        }
    }

    /// Adds what its first `rows` have seen of the next range; of one that saw nothing there it stays what
    /// it is.
    #[inline(always)]
    fn add<S: Isa>(&mut self, isa: S, part: &[Lanes], rows: usize, width: usize) {
        let Some((ours, [most, sums])) = self.0.split_last_chunk_mut() else { return };
        let Some((theirs, [their_most, their_sums])) = part.split_last_chunk() else { return };
        let (one, minus) = (isa.splat(1.0), isa.splat(-1.0));
        let (before, now) = (isa.load(most), isa.load(their_most));
        isa.store(isa.max(before, now), most);
        // Where neither saw anything it is a number too, to which both are nothing.
        let less = isa.mul(isa.max(isa.load(most), isa.splat(f32::MIN)), minus);
        let keep = math::weights(isa, isa.mul_add(before, one, less));
        let take = math::weights(isa, isa.mul_add(now, one, less));
        isa.store(isa.mul_add(isa.load(sums), keep, isa.mul(isa.load(their_sums), take)), sums);
        let mut factors = [[0.0; 16]; 2];
        isa.store(keep, &mut factors[0]);
        isa.store(take, &mut factors[1]);
        for row in 0..rows {
            let (keep, take) = (isa.splat(factors[0][row]), isa.splat(factors[1][row]));
            let ours = &mut ours[row * width..][..width];
            for (ours, theirs) in ours.iter_mut().zip(&theirs[row * width..][..width]) {
                let taken = isa.mul(isa.load(theirs), take);
                isa.store(isa.mul_add(isa.load(ours), keep, taken), ours);
            }
        }
    }

    /// The mean of the values of a row, once everything was added.
    #[inline(always)]
    fn finished<S: Isa>(&mut self, isa: S, row: usize, width: usize) -> &[Lanes] {
        let inverse = isa.splat(1.0 / self.0[self.0.len() - 1][row]);
        let sums = &mut self.0[row * width..][..width];
        for sum in sums.iter_mut() {
            isa.store(isa.mul(isa.load(sum), inverse), sum);
        }
        sums
    }
}

/// What the rows of one place are computed from.
struct Panel<'a> {
    all: &'a Attention,
    queries: Queries<'a>,
    window: Option<usize>,
    /// Those of the place, from the `first_page` of its sequence on.
    pages: &'a [Page<'a>],
    first_page: usize,
    /// Those of the place that this thread computes next.
    ahead: &'a [Page<'a>],
    place: Place,
}

impl Panel<'_> {
    /// The tokens of its sequence that a row sees.
    #[inline(always)]
    fn seen(&self, row: usize) -> Range<usize> {
        self.place.seen(self.all, self.window, row)
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
        match self.panel.all.kind {
            KvCacheType::F16 => self.over::<S, HalfPrecision>(isa),
            KvCacheType::Q8_0 => self.over::<S, Eight>(isa),
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn over<S: Isa, K: Kept>(self, isa: S) {
        let rows = self.panel.place.rows(self.panel.all);
        match rows {
            1 => self.rows::<S, K, 1>(isa, 1),
            2 => self.rows::<S, K, 2>(isa, 2),
            3 => self.rows::<S, K, 3>(isa, 3),
            4 => self.rows::<S, K, 4>(isa, 4),
            _ => self.rows::<S, K, 8>(isa, rows),
        }
    }

    /// `R` is `live`, or more: rows that are none repeat the first and have no result.
    #[inline(always)]
    fn rows<S: Isa, K: Kept, const R: usize>(self, isa: S, live: usize) {
        let Self { panel, scratch, out } = self;
        let Panel { all, queries, pages, first_page, ahead, place, .. } = panel;
        let width = all.row_lanes();

        let query = |row: usize| {
            let (token, head) = place.at(all, if row < live { row } else { 0 });
            K::query(&queries, place.span.first + token, head)
        };
        let queries: [K::Query<'_>; R] = core::array::from_fn(query);

        let (mut state, mut begun) = (State(out), false);
        // The last row sees the latest tokens.
        let last = panel.seen(live - 1).end;
        let Scratch { scores, codes, room, part } = scratch;
        for range in place.ranges[0]..place.ranges[1] {
            // Where a range is entered makes no difference: what no row sees has no weight.
            let start = (range * RANGE_TOKENS).max(first_page * PAGE_TOKENS);
            let end = last.min((range + 1) * RANGE_TOKENS);
            if start >= end {
                continue;
            }
            let pages = &pages[start / PAGE_TOKENS - first_page..];
            let (pages, behind) = pages.split_at((end - start).div_ceil(PAGE_TOKENS));
            let ahead = if behind.is_empty() { ahead } else { behind };
            let tiles = pages.len() * (PAGE_TOKENS / 16);
            let (scores, codes) = (&mut scores[..tiles], &mut codes[..tiles]);
            K::score(isa, pages, queries, room, scores);
            for row in 0..live {
                let seen = panel.seen(row);
                let seen = seen.start.max(start) - start..seen.end.min(end).saturating_sub(start);
                hide(scores, row, seen);
            }
            let most = largest::<S, R>(isa, scores);
            let (scales, sums) = ([0.0; PANEL_ROWS], [0.0; 16]);
            let mut weights = Weights { numbers: scores, codes, scales, most, sums };
            K::weigh::<S, R>(isa, pages, &mut weights);
            // The first is where the result belongs, others are added to it.
            let to = if begun { &mut part[..] } else { &mut *state.0 };
            // As many tiles at a time as there are registers for.
            let mut tile = 0;
            while tile < width {
                let left = width - tile;
                tile += if const { fits::<S, K>(R * 4) } && left >= 4 {
                    K::mix::<S, R, 4>(isa, pages, ahead, &weights, tile, to)
                } else if const { fits::<S, K>(R * 2) } && left >= 2 {
                    K::mix::<S, R, 2>(isa, pages, ahead, &weights, tile, to)
                } else {
                    K::mix::<S, R, 1>(isa, pages, ahead, &weights, tile, to)
                };
            }
            if let Some(numbers) = to.last_chunk_mut() {
                *numbers = [weights.most, weights.sums];
            }
            if begun {
                state.add(isa, part, live, width);
            }
            begun = true;
        }
        if !begun {
            state.clear();
        }
    }
}

/// Whether there are registers for so many rows times tiles.
const fn fits<S: Isa, K: Kept>(sums: usize) -> bool {
    let [few, many] = K::AT_ONCE;
    sums <= if S::REGISTERS >= 32 { many } else { few }
}

/// Makes the scores of `row` the least but for the tokens it has `seen`, counted from the first one here.
fn hide(scores: &mut [[Lanes; PANEL_ROWS]], row: usize, seen: Range<usize>) {
    let all = scores.len() * 16;
    for at in (0..seen.start.min(all)).chain(seen.end.max(seen.start)..all) {
        scores[at / 16][row][at % 16] = f32::NEG_INFINITY;
    }
}

/// The largest score of each row.
#[inline(always)]
fn largest<S: Isa, const R: usize>(isa: S, scores: &[[Lanes; PANEL_ROWS]]) -> Lanes {
    let mut all = [isa.splat(f32::NEG_INFINITY); R];
    for scores in scores {
        each_row!(R, r => all[r] = isa.max(isa.load(&scores[r]), all[r]));
    }
    let mut most = [f32::NEG_INFINITY; 16];
    each_row!(R, r => most[r] = isa.most(all[r]));
    most
}

/// Tokens of a range. Its scores fit into the fastest cache, and two threads share a sequence from this
/// length on.
const RANGE_TOKENS: usize = 256;
const RANGE_PAGES: usize = RANGE_TOKENS / PAGE_TOKENS;
