//! The decoder of the Llama family: takes its weights and runs steps of them. A
//! step computes new tokens of any number of sequences together, so that weights are read once for all
//! of them; a token's numbers depend on its own sequence alone, bit for bit.
//!
//! Its numbers are compared with those of Candle's `quantized_llama` in `tests/parity.rs`.

use core::ops::Range;

use zeroize::Zeroizing;

use crate::cache::{Cache, CacheShape, PageId};
use crate::error::{EngineError, ModelError};
use crate::gguf::Gguf;
use crate::kernels::{
    Attention, Inputs, Lanes, Matrix, Norm, PAGE_TOKENS, Pool, Rotation, Span, Tiled, add_product,
    gated_product, product,
};
use crate::weights::Weights;

/// Sizes of a decoder. Heads divide the width and groups divide the heads: see `LlamaShape`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) ffn: usize,
    pub(crate) vocab: usize,
}

/// Weights, and the threads that compute with them.
pub(crate) struct Decoder {
    pool: Pool,
    sizes: Sizes,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Norm,
    /// `None`: the embedding is used.
    output: Option<Matrix>,
    /// How far each pair of dimensions turns from one position to the next, in radians.
    turns: Vec<f64>,
}

struct Layer {
    attention_norm: Norm,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    attention_output: Matrix,
    ffn_norm: Norm,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// What one sequence has computed in a step.
pub(crate) struct Segment<'a> {
    /// Its new tokens, and the tokens before them, whose keys and values are there.
    pub(crate) tokens: &'a [u32],
    pub(crate) before: usize,
    /// Its pages, with room for both; nobody else's new tokens go there.
    pub(crate) pages: &'a [PageId],
    /// Logits are wanted after this many of the last tokens.
    pub(crate) wanted: usize,
}

impl Segment<'_> {
    /// Where the token at `position` lies.
    fn slot(&self, position: usize) -> Option<(PageId, usize)> {
        let page = self.pages.get(position.checked_div(PAGE_TOKENS)?)?;
        Some((*page, position.checked_rem(PAGE_TOKENS)?))
    }
}

impl Decoder {
    /// A decoder of `weights`, which were checked against `sizes`, computed by `pool`.
    pub(crate) fn load(
        gguf: &Gguf,
        weights: &Weights,
        sizes: Sizes,
        pool: Pool,
    ) -> Result<Self, ModelError> {
        let loader = Loader { gguf, weights, epsilon: epsilon(gguf)? };
        let (hidden, ffn) = (sizes.hidden, sizes.ffn);
        let kv = sizes.kv_heads.saturating_mul(sizes.head_dim);
        let mut layers = Vec::new();
        for block in 0..sizes.layers {
            let matrix = |name: &str, rows: usize, columns: usize| {
                weights.matrix(&format!("blk.{block}.{name}.weight"), rows, columns)
            };
            let norm = |name: &str| loader.norm(&format!("blk.{block}.{name}.weight"), hidden);
            layers.push(Layer {
                attention_norm: norm("attn_norm")?,
                query: matrix("attn_q", hidden, hidden)?,
                key: matrix("attn_k", kv, hidden)?,
                value: matrix("attn_v", kv, hidden)?,
                attention_output: matrix("attn_output", hidden, hidden)?,
                ffn_norm: norm("ffn_norm")?,
                gate: matrix("ffn_gate", ffn, hidden)?,
                up: matrix("ffn_up", ffn, hidden)?,
                down: matrix("ffn_down", hidden, ffn)?,
            });
        }
        let tied = !gguf.content.tensor_infos.contains_key("output.weight");
        let output = || weights.matrix("output.weight", sizes.vocab, hidden);
        Ok(Self {
            embedding: weights.matrix("token_embd.weight", sizes.vocab, hidden)?,
            layers,
            norm: loader.norm("output_norm.weight", hidden)?,
            output: if tied { None } else { Some(output()?) },
            turns: loader.turns(sizes.head_dim)?,
            sizes,
            pool,
        })
    }

    /// An empty cache.
    pub(crate) const fn cache(&self) -> Cache {
        let Sizes { layers, kv_heads, head_dim, .. } = self.sizes;
        Cache::new(CacheShape { layers, kv_heads, head_dim })
    }

    /// Computes the new tokens of every segment of `batch` and stores their keys and values; the
    /// logits that are wanted, segment by segment, each in the order of its tokens.
    ///
    /// # Errors
    /// [`EngineError::Compute`] for a token that is not in the vocabulary, more of them wanted than
    /// there are, or tokens without a place; nothing was stored then.
    pub(crate) fn step(
        &self,
        cache: &mut Cache,
        batch: &[Segment<'_>],
    ) -> Result<Vec<Zeroizing<Vec<f32>>>, EngineError> {
        let mut tokens = Vec::new();
        let (mut spans, mut wanted) = (Vec::new(), Vec::new());
        for segment in batch {
            let count = segment.tokens.len();
            self.check(segment)?;
            let (first, before) = (tokens.len(), segment.before);
            spans.push(Span { first, tokens: count, before });
            tokens.extend_from_slice(segment.tokens);
            wanted.extend(tokens.len().saturating_sub(segment.wanted)..tokens.len());
            segment.pages.iter().try_for_each(|page| cache.provide(*page))?;
        }
        let tokens = Zeroizing::new(tokens);
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let x = self.layers(cache, batch, &spans, &tokens);
        Ok(self.logits(&x, &wanted))
    }

    /// Lets the threads that compute work on `items`, each once.
    pub(crate) fn share<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        self.pool.chunks(items, 1, |_, items| items.iter_mut().for_each(&work));
    }

    fn check(&self, segment: &Segment<'_>) -> Result<(), EngineError> {
        let Segment { tokens, before, pages, wanted } = *segment;
        let known = |id: &u32| usize::try_from(*id).is_ok_and(|id| id < self.sizes.vocab);
        let stage = if !tokens.iter().all(known) {
            "a token that the model does not have"
        } else if before.saturating_add(tokens.len()) > pages.len().saturating_mul(PAGE_TOKENS) {
            "tokens without a page"
        } else if wanted > tokens.len() {
            "more logits than tokens"
        } else {
            return Ok(());
        };
        Err(EngineError::Compute { stage })
    }

    /// What the last layer leaves for each of `tokens`.
    fn layers(
        &self,
        cache: &mut Cache,
        batch: &[Segment<'_>],
        spans: &[Span],
        tokens: &[u32],
    ) -> Tiled {
        let Sizes { hidden, heads, kv_heads, head_dim, ffn, .. } = self.sizes;
        let (pool, count) = (&self.pool, tokens.len());
        let mut x = self.embed(tokens);
        let rotation = self.rotation(spans);
        // Each of query, key and value starts at a tile.
        let pad = |columns: usize| columns.next_multiple_of(16);
        let (key_at, kv) = (pad(hidden), kv_heads.saturating_mul(head_dim));
        let value_at = key_at.saturating_add(pad(kv));
        let mut qkv = Tiled::new(count, value_at.saturating_add(kv));
        let mut mixed = Tiled::new(count, hidden);
        let mut inner = Tiled::new(count, ffn);
        let mut inputs = Inputs::new(count, hidden.max(ffn));
        let mut attention = Attention::new(pool, spans, [heads, kv_heads, head_dim]);
        let slots: Vec<(PageId, usize)> = batch
            .iter()
            .zip(spans)
            .flat_map(|(segment, span)| {
                let positions = span.before..span.before.saturating_add(span.tokens);
                positions.filter_map(|position| segment.slot(position))
            })
            .collect();

        for (index, layer) in self.layers.iter().enumerate() {
            let Layer { query, key, value, gate, up, down, .. } = layer;
            inputs.fill(pool, &x, Some(&layer.attention_norm), &[query, key, value]);
            product(pool, &[query, key, value], &inputs, &mut qkv);
            remember(cache, index, self.sizes, &qkv, [key_at, value_at], &rotation, &slots);
            let pages = |span: usize, head: usize, some: Range<usize>| {
                let all = batch.get(span).map_or(&[][..], |segment| segment.pages);
                let end = some.end.min(all.len());
                cache.pages(all.get(some.start..end).unwrap_or_default(), index, head)
            };
            attention.run(pool, &qkv, &rotation, pages, &mut mixed);
            inputs.fill(pool, &mixed, None, &[&layer.attention_output]);
            add_product(pool, &layer.attention_output, &inputs, &mut x);
            inputs.fill(pool, &x, Some(&layer.ffn_norm), &[gate, up]);
            gated_product(pool, gate, up, &inputs, &mut inner);
            inputs.fill(pool, &inner, None, &[down]);
            add_product(pool, down, &inputs, &mut x);
        }
        x
    }

    /// The logits of some rows.
    fn logits(&self, x: &Tiled, rows: &[usize]) -> Vec<Zeroizing<Vec<f32>>> {
        let Sizes { hidden, vocab, .. } = self.sizes;
        if rows.is_empty() {
            return Vec::new();
        }
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        let mut inputs = Inputs::new(rows.len(), hidden);
        inputs.fill(&self.pool, &x.pick(rows), Some(&self.norm), &[output]);
        let mut logits = Tiled::new(rows.len(), vocab);
        product(&self.pool, &[output], &inputs, &mut logits);
        let mut out: Vec<_> = rows.iter().map(|_| Zeroizing::default()).collect();
        // Of many requests these are megabytes.
        self.pool.chunks(&mut out, 1, |first, out| {
            for (row, out) in (first..).zip(out) {
                *out = logits.row(row, vocab);
            }
        });
        out
    }

    fn embed(&self, tokens: &[u32]) -> Tiled {
        let mut x = Tiled::new(tokens.len(), self.sizes.hidden);
        let mut values = Zeroizing::new(vec![0.0; self.sizes.hidden]);
        for (row, id) in tokens.iter().enumerate() {
            self.embedding.row(usize::try_from(*id).unwrap_or(usize::MAX), &mut values);
            x.set_row(row, &values);
        }
        x
    }

    /// Angles are computed in `f64`: at position 8000 an `f32` has lost four digits of the fraction.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn rotation(&self, spans: &[Span]) -> Rotation {
        let positions = spans.iter().flat_map(|s| s.before..s.before.saturating_add(s.tokens));
        let turn = |(position, turn): (usize, &f64)| {
            let (sin, cos) = (position as f64 * turn).sin_cos();
            [cos as f32, sin as f32]
        };
        let turns = positions.flat_map(|p| self.turns.iter().map(move |t| turn((p, t)))).collect();
        Rotation { turns, pairs: self.turns.len() }
    }
}

/// Stores the keys, rotated, and the values of the new tokens.
fn remember(
    cache: &mut Cache,
    layer: usize,
    sizes: Sizes,
    qkv: &Tiled,
    [key_at, value_at]: [usize; 2],
    rotation: &Rotation,
    slots: &[(PageId, usize)],
) {
    let dim = sizes.head_dim;
    let zeros = || Zeroizing::new(vec![0.0f32; dim]);
    let (mut key, mut value) = (zeros(), zeros());
    for (token, slot) in slots.iter().enumerate() {
        for head in 0..sizes.kv_heads {
            let at = head.saturating_mul(dim);
            qkv.read(token, key_at.saturating_add(at), &mut key);
            qkv.read(token, value_at.saturating_add(at), &mut value);
            for (pair, ab) in key.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *ab = rotation.turn(token, pair, *ab);
            }
            cache.put(*slot, layer, head, [&key, &value]);
        }
    }
}

/// Takes what is no matrix from a checked file.
struct Loader<'a> {
    gguf: &'a Gguf,
    weights: &'a Weights,
    epsilon: f32,
}

impl Loader<'_> {
    fn norm(&self, name: &str, columns: usize) -> Result<Norm, ModelError> {
        let values = self.weights.vector(name)?;
        let mut weight: Vec<Lanes> = vec![[0.0; 16]; columns.div_ceil(16)];
        for (to, from) in weight.as_flattened_mut().iter_mut().zip(values) {
            *to = *from;
        }
        Ok(Norm { weight, columns, epsilon: self.epsilon })
    }

    /// Rotary frequencies: `base^(-2i/dim)`, divided by the factors Llama 3.1 and later ship.
    #[allow(clippy::cast_precision_loss)] // dimensions of a head
    fn turns(&self, head_dim: usize) -> Result<Vec<f64>, ModelError> {
        const KEY: &str = "llama.rope.freq_base";
        let base = self.gguf.f32_opt(KEY)?.unwrap_or(10_000.0);
        if !base.is_finite() || base < 1.0 {
            let (key, got) = (KEY.to_owned(), base.to_string());
            return Err(ModelError::MetadataInvalid { key, expected: "at least 1", got });
        }
        let exponent = |pair: usize| -2.0 * pair as f64 / head_dim as f64;
        let mut turns: Vec<f64> =
            (0..head_dim / 2).map(|pair| f64::from(base).powf(exponent(pair))).collect();
        if self.gguf.content.tensor_infos.contains_key(ROPE_FREQS) {
            for (turn, factor) in turns.iter_mut().zip(self.weights.vector(ROPE_FREQS)?) {
                *turn /= f64::from(*factor);
            }
        }
        if turns.iter().any(|turn| !turn.is_finite()) {
            return Err(ModelError::Weights { detail: format!("{ROPE_FREQS} has a factor of 0") });
        }
        Ok(turns)
    }
}

fn epsilon(gguf: &Gguf) -> Result<f32, ModelError> {
    const KEY: &str = "llama.attention.layer_norm_rms_epsilon";
    let got = gguf.f32_opt(KEY)?;
    let got = got.ok_or_else(|| ModelError::MetadataMissing { key: KEY.to_owned() })?;
    if got > 0.0 && got < 1.0 {
        return Ok(got);
    }
    let expected = "between 0 and 1";
    Err(ModelError::MetadataInvalid { key: KEY.to_owned(), expected, got: got.to_string() })
}

/// Factors of the rotary frequencies: optional.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";
