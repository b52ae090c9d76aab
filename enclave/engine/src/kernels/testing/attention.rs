//! Attention over pages of both kinds beside exact arithmetic over what they keep.

use core::ops::Range;

use chrysalis_wire::manifest::KvCacheType;

use super::super::{Attention, Heads, PAGE_TOKENS, Page, Pairing, Piece, Rotation, Span};
use super::super::{pieces, put, unpacked};
use super::{Path, Pool, Random, Tiled, is_same, tiled};

/// Both ways to keep keys and values.
pub(in crate::kernels) const CACHES: [KvCacheType; 2] = [KvCacheType::F16, KvCacheType::Q8_0];

/// New tokens of some sequences, and what they see.
#[derive(Debug)]
pub struct Sight<'a> {
    /// Of each sequence the new tokens, and the tokens before them.
    pub spans: &'a [[usize; 2]],
    /// Query heads, key heads and dimensions of a head.
    pub shape: [usize; 3],
    /// So many tokens does a token see, itself the last.
    pub window: Option<usize>,
    /// Queries are from minus this to this; keys and values from -1 to 1.
    pub peak: f32,
    /// A position in the first sequence whose key is no number.
    pub strange: Option<usize>,
    /// Of the random numbers.
    pub seed: u64,
    /// Threads that compute.
    pub threads: usize,
}

impl Sight<'_> {
    /// Compares every result with exact arithmetic over what is kept. Each sequence alone, computed by one
    /// thread, has the same bits.
    pub fn check(&self) {
        let [heads, kv_heads, dim] = self.shape;
        let mut random = Random(self.seed);
        let sizes = self.spans.iter().map(|[tokens, before]| (*tokens, tokens + before));
        let talks: Vec<(Vec<f32>, Vec<[f32; 2]>)> = sizes
            .enumerate()
            .map(|(index, (tokens, all))| {
                let mut queries = random.many(tokens * heads * dim);
                queries.iter_mut().for_each(|x| *x *= self.peak);
                let flat = random.many(all * kv_heads * dim * 2);
                let mut kv = flat.as_chunks().0.to_vec();
                if let Some(at) = self.strange.filter(|at| index == 0 && *at < all) {
                    kv[at * kv_heads * dim..][..kv_heads * dim].fill([f32::NAN, 1.0]);
                }
                (queries, kv)
            })
            .collect();
        let queries: Vec<&[f32]> = talks.iter().map(|(queries, _)| queries.as_slice()).collect();
        for kind in CACHES {
            let slabs: Vec<Slabs> =
                talks.iter().map(|(_, kv)| Slabs::new(kind, [kv_heads, dim], kv)).collect();
            let exact: Vec<Vec<f64>> = self
                .spans
                .iter()
                .zip(queries.iter().zip(&slabs))
                .map(|(span, (queries, slabs))| {
                    let kept = |position: usize, head: usize| slabs.kept(position, head, dim);
                    exact_attention(*span, self.shape, self.window, queries, kept)
                })
                .collect();
            for path in Path::all() {
                let pool = Pool::with_path(self.threads, path);
                let got = self.computed(&pool, &slabs, &queries, 0..self.spans.len());
                self.compare(kind, path, &got, &exact);
                let pool = Pool::with_path(1, path);
                let alone = (0..self.spans.len())
                    .flat_map(|index| self.computed(&pool, &slabs, &queries, index..index + 1));
                for (at, (one, all)) in alone.zip(&got).enumerate() {
                    assert!(is_same(one, *all), "{} {kind:?} at {at}: {self:?}", path.name());
                }
            }
        }
    }

    fn compare(&self, kind: KvCacheType, path: Path, got: &[f32], exact: &[Vec<f64>]) {
        let tolerance = tolerance(kind) * f64::from(self.peak).max(PEAK) / PEAK;
        for (at, (got, exact)) in got.iter().zip(exact.iter().flatten()).enumerate() {
            let got = f64::from(*got);
            let close =
                if exact.is_finite() { (got - exact).abs() < tolerance } else { !got.is_finite() };
            let name = path.name();
            assert!(close, "{name} {kind:?} at {at}: {got} is not {exact}: {self:?}");
        }
    }

    /// What the kernels make of some of the sequences in one step.
    fn computed(
        &self,
        pool: &Pool,
        slabs: &[Slabs],
        queries: &[&[f32]],
        some: Range<usize>,
    ) -> Vec<f32> {
        let spans = &self.spans[some.clone()];
        attend(pool, &slabs[some.clone()], spans, self.shape, self.window, &queries[some].concat())
    }
}

/// Attention of the kernels for the new tokens of some sequences, whose queries stand one after the other.
pub(in crate::kernels) fn attend(
    pool: &Pool,
    slabs: &[Slabs],
    spans: &[[usize; 2]],
    [heads, kv_heads, dim]: [usize; 3],
    window: Option<usize>,
    queries: &[f32],
) -> Vec<f32> {
    let rows = spans.iter().map(|[tokens, _]| tokens).sum();
    let turns = vec![[1.0, 0.0]; rows * dim / 2];
    let still = Rotation { turns, pairs: dim / 2, pairing: Pairing::Neighbours };
    let mut turned = Heads::new(rows, heads, dim);
    let from = tiled(rows, heads * dim, queries);
    turned.fill(pool, (&from, 0), None, &still, 1.0 / (dim as f32).sqrt());
    let mut out = Tiled::new(rows, heads * dim);
    let mut first = 0;
    let spans: Vec<Span> = spans
        .iter()
        .map(|[tokens, before]| {
            first += tokens;
            Span { first: first - tokens, tokens: *tokens, before: *before }
        })
        .collect();
    let pages = |index: usize, head: usize, some: Range<usize>| slabs[index].pages(head, some);
    Attention::new(pool, slabs[0].kind, &spans, [heads, kv_heads, dim])
        .run(pool, &turned, window, pages, &mut out);
    (0..rows * heads * dim).map(|i| out.get(i / (heads * dim), i % (heads * dim))).collect()
}

/// Keys and values of one sequence in pages.
pub(in crate::kernels) struct Slabs {
    pub(in crate::kernels) kind: KvCacheType,
    /// Of each head, page after page.
    slabs: Vec<[Vec<Piece>; 2]>,
    pages: usize,
}

impl Slabs {
    /// Of tokens whose `kv` are, head by head, a key and a value for each of `dim` dimensions.
    pub(in crate::kernels) fn new(
        kind: KvCacheType,
        [kv_heads, dim]: [usize; 2],
        kv: &[[f32; 2]],
    ) -> Self {
        let pages = (kv.len() / dim / kv_heads).div_ceil(PAGE_TOKENS);
        let empty = pieces(kind, dim).map(|count| vec![Piece::default(); count]);
        let mut out = Self { kind, slabs: vec![empty; pages * kv_heads], pages };
        for (i, kv) in kv.chunks_exact(dim).enumerate() {
            out.put(i / kv_heads, i % kv_heads, kv);
        }
        out
    }

    pub(in crate::kernels) fn put(&mut self, position: usize, head: usize, kv: &[[f32; 2]]) {
        let [key, value] = [0, 1].map(|n| kv.iter().map(|kv| kv[n]).collect::<Vec<_>>());
        let [keys, values] = &mut self.slabs[head * self.pages + position / PAGE_TOKENS];
        put(self.kind, keys, values, position % PAGE_TOKENS, [&key, &value]);
    }

    pub(in crate::kernels) fn pages(&self, head: usize, some: Range<usize>) -> Vec<Page<'_>> {
        let all = &self.slabs[head * self.pages..][some.start..some.end.min(self.pages)];
        all.iter().map(|[keys, values]| Page { keys, values }).collect()
    }

    /// Key and value of a token as they were kept.
    fn kept(&self, position: usize, head: usize, dim: usize) -> [Vec<f32>; 2] {
        let page = position / PAGE_TOKENS;
        let page = self.pages(head, page..page + 1);
        unpacked(self.kind, &page[0], position % PAGE_TOKENS, dim)
    }
}

/// Attention in `f64` over the keys and values of `kept`.
pub(in crate::kernels) fn exact_attention(
    [tokens, before]: [usize; 2],
    [heads, kv_heads, dim]: [usize; 3],
    window: Option<usize>,
    queries: &[f32],
    kept: impl Fn(usize, usize) -> [Vec<f32>; 2],
) -> Vec<f64> {
    let mut out = Vec::new();
    for token in 0..tokens {
        for head in 0..heads {
            let shared = head / (heads / kv_heads);
            let query = &queries[(token * heads + head) * dim..][..dim];
            let first = (before + token + 1).saturating_sub(window.unwrap_or(usize::MAX));
            let seen: Vec<_> = (first..=before + token).map(|at| kept(at, shared)).collect();
            let dot = |key: &[f32]| -> f64 {
                query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
            };
            let score = |kept: &[Vec<f32>; 2]| dot(&kept[0]) / (dim as f64).sqrt();
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..dim).map(|i| {
                let terms = weights.iter().zip(&seen).map(|(w, kept)| w * f64::from(kept[1][i]));
                terms.sum::<f64>() / total
            }));
        }
    }
    out
}

/// Codes of queries and weights are rounded, beside `f32` itself. For queries up to [`PEAK`].
const fn tolerance(kind: KvCacheType) -> f64 {
    match kind {
        KvCacheType::F16 => 1e-5,
        KvCacheType::Q8_0 => 1e-3,
    }
}

/// Queries this large have scores like those of models.
const PEAK: f64 = 3.0;
