//! The decoder: takes the weights that a plan names and runs steps of them. A
//! step computes new tokens of any number of sequences together, so that weights are read once for all
//! of them; a token's numbers depend on its own sequence alone, bit for bit.
//!
//! One block serves every family (`family/`): norm, attention over grouped heads, norm, gated
//! feed-forward or a mixture of them; what a family adds is in the plan. Its numbers are compared with
//! those of independent implementations in `tests/`.

mod backend;
#[cfg(feature = "cuda")]
mod device;

use core::ops::Range;

use chrysalis_wire::manifest::KvCacheType;
use zeroize::Zeroizing;

use crate::cache::{Cache, CacheShape, PageId, Shelf};
use crate::error::{EngineError, ModelError};
use crate::experts::{Expert, Experts};
use crate::family::{Plan, ROPE_FREQS, Turning};
use crate::gguf::Gguf;
use crate::kernels::{
    Attention, HeadNorm, Heads, Inputs, Lanes, Matrix, Norm, PAGE_TOKENS, Pool, Rotation, Span,
    Tiled, add, add_normalised, add_product, gated_product, likeliest, normalised, product,
};
use crate::weights::Weights;
pub(crate) use backend::{Backend, Room, Row, Store};

/// Weights, and the threads that compute with them.
pub(crate) struct Decoder {
    pool: Pool,
    plan: Plan,
    embedding: Matrix,
    /// One for each layer of the plan.
    layers: Vec<Layer>,
    norm: Norm,
    /// `None`: the embedding is used.
    output: Option<Matrix>,
    /// For each turning of the plan, how far each pair of dimensions turns from one position to the
    /// next, in radians.
    turns: Vec<Vec<f64>>,
}

struct Layer {
    attention_norm: Norm,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    /// Of queries and of keys.
    head_norms: Option<[HeadNorm; 2]>,
    attention_output: Matrix,
    after_attention: Option<Norm>,
    ffn_norm: Norm,
    feed: Feed,
    after_ffn: Option<Norm>,
}

enum Feed {
    Gated { gate: Matrix, up: Matrix, down: Matrix },
    Mixture(Experts),
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
    /// Whether the likeliest token does instead.
    pub(crate) likeliest: bool,
}

impl Segment<'_> {
    /// Where the token at `position` lies.
    fn slot(&self, position: usize) -> Option<(PageId, usize)> {
        let page = self.pages.get(position.checked_div(PAGE_TOKENS)?)?;
        Some((*page, position.checked_rem(PAGE_TOKENS)?))
    }
}

impl Decoder {
    /// A decoder of `weights`, which were checked against `plan`, computed by `pool`.
    pub(crate) fn load(
        gguf: &Gguf,
        weights: &Weights,
        plan: Plan,
        pool: Pool,
    ) -> Result<Self, ModelError> {
        let loader = Loader { gguf, weights, epsilon: plan.epsilon };
        let hidden = plan.hidden;
        let layers = (0..plan.layers.len())
            .map(|block| Layer::load(&loader, block, &plan))
            .collect::<Result<_, _>>()?;
        let tied = !gguf.content.tensor_infos.contains_key("output.weight");
        let output = || weights.matrix("output.weight", plan.vocab, hidden);
        let turns = plan.turnings.iter().map(|turning| loader.turns(*turning, plan.head_dim));
        Ok(Self {
            embedding: weights.matrix("token_embd.weight", plan.vocab, hidden)?,
            layers,
            norm: loader.norm("output_norm.weight", hidden)?,
            output: if tied { None } else { Some(output()?) },
            turns: turns.collect::<Result<_, _>>()?,
            plan,
            pool,
        })
    }

    /// An empty cache of a `kind`.
    pub(crate) fn cache(&self, kind: KvCacheType) -> Cache {
        let Plan { kv_heads, head_dim, .. } = self.plan;
        Cache::new(CacheShape { kind, layers: self.layers.len(), kv_heads, head_dim })
    }

    /// As [`Plan::window`].
    pub(crate) fn window(&self) -> Option<usize> {
        self.plan.window()
    }

    /// Computes the new tokens of every segment of `batch` and stores their keys and values; what is
    /// wanted, segment by segment, each in the order of its tokens. Of all `known` ids the likeliest, where
    /// that does for every segment; logits otherwise.
    ///
    /// # Errors
    /// [`EngineError::Compute`] for a token that is not in the vocabulary, more of them wanted than
    /// there are, or tokens without a place; nothing was stored then.
    pub(crate) fn step(
        &self,
        cache: &mut Cache,
        batch: &[Segment<'_>],
        known: usize,
    ) -> Result<Vec<Row>, EngineError> {
        let count = batch.iter().map(|segment| segment.tokens.len()).sum();
        // Whole from the start: what a vector grows out of is not wiped.
        let mut tokens = Zeroizing::new(Vec::with_capacity(count));
        let (mut spans, mut wanted) = (Vec::new(), Vec::new());
        for segment in batch {
            let count = segment.tokens.len();
            check(self.plan.vocab, segment)?;
            let (first, before) = (tokens.len(), segment.before);
            spans.push(Span { first, tokens: count, before });
            tokens.extend_from_slice(segment.tokens);
            wanted.extend(tokens.len().saturating_sub(segment.wanted)..tokens.len());
            segment.pages.iter().try_for_each(|page| cache.provide(*page))?;
        }
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let x = self.layers(cache, batch, &spans, &tokens);
        let likeliest = batch.iter().all(|segment| segment.likeliest || segment.wanted == 0);
        Ok(self.rows(&x, &wanted, likeliest.then_some(known)))
    }

    /// Lets the threads that compute work on `items`, each once.
    pub(crate) fn share<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        self.pool.chunks(items, 1, |_, items| items.iter_mut().for_each(&work));
    }

    /// What the last layer leaves for each of `tokens`.
    fn layers(
        &self,
        cache: &mut Cache,
        batch: &[Segment<'_>],
        spans: &[Span],
        tokens: &[u32],
    ) -> Tiled {
        let Plan { hidden, heads, kv_heads, head_dim, ffn, .. } = self.plan;
        let (pool, count, plan) = (&self.pool, tokens.len(), &self.plan);
        let mut x = self.embed(tokens);
        let rotations: Vec<Rotation> =
            self.turns.iter().map(|turns| self.rotation(turns, spans)).collect();
        // Each of query, key and value starts at a tile.
        let pad = |columns: usize| columns.next_multiple_of(16);
        let (key_at, kv) = (pad(plan.query_width()), plan.kv_width());
        let value_at = key_at.saturating_add(pad(kv));
        let mut qkv = Tiled::new(count, value_at.saturating_add(kv));
        let mut queries = Heads::new(count, heads, head_dim);
        let mut keys = Heads::new(count, kv_heads, head_dim);
        let mut mixed = Tiled::new(count, plan.query_width());
        let mut inner = Tiled::new(count, ffn);
        let mut inputs = Inputs::new(count, hidden.max(ffn).max(plan.query_width()));
        let mut attention = Attention::new(pool, cache.kind(), spans, [heads, kv_heads, head_dim]);
        let slots: Vec<(PageId, usize)> = batch
            .iter()
            .zip(spans)
            .flat_map(|(segment, span)| {
                let positions = span.before..span.before.saturating_add(span.tokens);
                positions.filter_map(|position| segment.slot(position))
            })
            .collect();
        let blocks = cache.blocks_of(slots.iter().map(|(page, _)| *page));

        for (index, (layer, way)) in self.layers.iter().zip(&plan.layers).enumerate() {
            let Layer { query, key, value, .. } = layer;
            inputs.fill(pool, &x, Some(&layer.attention_norm), &[query, key, value]);
            product(pool, &[query, key, value], &inputs, &mut qkv);
            let [of_queries, of_keys] =
                layer.head_norms.as_ref().map_or([None; 2], |[q, k]| [Some(q), Some(k)]);
            // The plan's turnings, of which there is one for each.
            let Some(rotation) = rotations.get(way.turning) else { continue };
            queries.fill(pool, (&qkv, 0), of_queries, rotation, plan.attention_scale);
            keys.fill(pool, (&qkv, key_at), of_keys, rotation, 1.0);
            let mut shelves = cache.shelves(index, &blocks);
            remember(pool, &mut shelves, &keys, (&qkv, value_at), head_dim, &slots);
            let pages = |span: usize, head: usize, some: Range<usize>| {
                let all = batch.get(span).map_or(&[][..], |segment| segment.pages);
                let end = some.end.min(all.len());
                cache.pages(all.get(some.start..end).unwrap_or_default(), index, head)
            };
            attention.run(pool, &queries, way.window, pages, &mut mixed);
            inputs.fill(pool, &mixed, None, &[&layer.attention_output]);
            let after = layer.after_attention.as_ref();
            self.join(&layer.attention_output, &inputs, after, &mut x);
            match &layer.feed {
                Feed::Gated { gate, up, down } => {
                    inputs.fill(pool, &x, Some(&layer.ffn_norm), &[gate, up]);
                    gated_product(pool, [gate, up], plan.activation, &inputs, &mut inner);
                    inputs.fill(pool, &inner, None, &[down]);
                    self.join(down, &inputs, layer.after_ffn.as_ref(), &mut x);
                }
                Feed::Mixture(experts) => {
                    let from = normalised(&x, &layer.ffn_norm);
                    let sum = experts.run(pool, &from, plan.activation, ffn);
                    match &layer.after_ffn {
                        Some(norm) => add_normalised(&sum, norm, &mut x),
                        None => add(&sum, &mut x),
                    }
                }
            }
        }
        x
    }

    /// Adds a product, through `after` if there is one.
    fn join(&self, weights: &Matrix, inputs: &Inputs, after: Option<&Norm>, x: &mut Tiled) {
        let Some(norm) = after else { return add_product(&self.pool, weights, inputs, x) };
        let mut result = Tiled::new(inputs.rows(), self.plan.hidden);
        product(&self.pool, &[weights], inputs, &mut result);
        add_normalised(&result, norm, x);
    }

    /// What is there after some rows: the likeliest of so many ids, or logits.
    fn rows(&self, x: &Tiled, rows: &[usize], known: Option<usize>) -> Vec<Row> {
        let Plan { hidden, vocab, .. } = self.plan;
        if rows.is_empty() {
            return Vec::new();
        }
        let (pool, output) = (&self.pool, self.output.as_ref().unwrap_or(&self.embedding));
        let mut inputs = Inputs::new(rows.len(), hidden);
        inputs.fill(pool, &x.pick(rows), Some(&self.norm), &[output]);
        if let Some(known) = known {
            let found = likeliest(pool, output, &inputs, known.min(vocab));
            return found.iter().copied().map(Row::Likeliest).collect();
        }
        let mut logits = Tiled::new(rows.len(), vocab);
        product(pool, &[output], &inputs, &mut logits);
        let mut out: Vec<_> = rows.iter().map(|_| Zeroizing::default()).collect();
        // Of many requests these are megabytes.
        pool.chunks(&mut out, 1, |first, out| {
            for (row, out) in (first..).zip(out) {
                *out = logits.row(row, vocab);
            }
        });
        out.into_iter().map(Row::Logits).collect()
    }

    fn embed(&self, tokens: &[u32]) -> Tiled {
        let mut x = Tiled::new(tokens.len(), self.plan.hidden);
        let mut values = Zeroizing::new(vec![0.0; self.plan.hidden]);
        for (row, id) in tokens.iter().enumerate() {
            self.embedding.row(usize::try_from(*id).unwrap_or(usize::MAX), &mut values);
            values.iter_mut().for_each(|value| *value *= self.plan.embedding_scale);
            x.set_row(row, &values);
        }
        x
    }

    /// Angles are computed in `f64`: at position 8000 an `f32` has lost four digits of the fraction.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn rotation(&self, turns: &[f64], spans: &[Span]) -> Rotation {
        let positions = spans.iter().flat_map(|s| s.before..s.before.saturating_add(s.tokens));
        let turn = |(position, turn): (usize, &f64)| {
            let (sin, cos) = (position as f64 * turn).sin_cos();
            [cos as f32, sin as f32]
        };
        let (pairs, pairing) = (turns.len(), self.plan.pairing);
        let turns = positions.flat_map(|p| turns.iter().map(move |t| turn((p, t)))).collect();
        Rotation { turns, pairs, pairing }
    }
}

/// Refuses what cannot be computed with a vocabulary of `vocab`.
fn check(vocab: usize, segment: &Segment<'_>) -> Result<(), EngineError> {
    let Segment { tokens, before, pages, wanted, .. } = *segment;
    let known = |id: &u32| usize::try_from(*id).is_ok_and(|id| id < vocab);
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

/// Stores the keys and the values of the new tokens in `shelves`, which are where they lie.
fn remember(
    pool: &Pool,
    shelves: &mut [Shelf<'_>],
    keys: &Heads,
    (qkv, value_at): (&Tiled, usize),
    dim: usize,
    slots: &[(PageId, usize)],
) {
    let store = |_, shelves: &mut [Shelf<'_>]| {
        let mut value = Zeroizing::new(vec![0.0f32; dim]);
        for shelf in shelves {
            let at = value_at.saturating_add(shelf.head.saturating_mul(dim));
            for (token, slot) in slots.iter().enumerate() {
                if shelf.holds(slot.0) {
                    qkv.read(token, at, &mut value);
                    shelf.put(*slot, [keys.get(token, shelf.head), &value]);
                }
            }
        }
    };
    // Of few tokens it is less than a thread takes to be told.
    if slots.len() < SHARED_SLOTS { store(0, shelves) } else { pool.chunks(shelves, 1, store) }
}

impl Layer {
    /// The weights of one block.
    fn load(loader: &Loader<'_>, block: usize, plan: &Plan) -> Result<Self, ModelError> {
        let Plan { hidden, head_dim, ffn, .. } = *plan;
        let (query, kv) = (plan.query_width(), plan.kv_width());
        let path = |name: &str| format!("blk.{block}.{name}.weight");
        let matrix = |name: &str, rows, columns| loader.weights.matrix(&path(name), rows, columns);
        let norm = |name: &str| loader.norm(&path(name), hidden);
        let after = |name: &str| plan.after_norms.then(|| norm(name)).transpose();
        let head_norm = |name: &str| {
            let weight = loader.weights.vector(&path(name))?.to_vec();
            // The decoder's shapes rest on it.
            if weight.len() != head_dim {
                return Err(ModelError::Weights { detail: format!("{name} has another size") });
            }
            Ok(HeadNorm { weight, epsilon: loader.epsilon })
        };
        let feed = match plan.experts {
            None => Feed::Gated {
                gate: matrix("ffn_gate", ffn, hidden)?,
                up: matrix("ffn_up", ffn, hidden)?,
                down: matrix("ffn_down", hidden, ffn)?,
            },
            Some(experts) => {
                let part = |name: &str, rows, columns| {
                    loader.weights.matrices(&path(name), experts.count, rows, columns)
                };
                let gates = part("ffn_gate_exps", ffn, hidden)?.into_iter();
                let ups = part("ffn_up_exps", ffn, hidden)?;
                let downs = part("ffn_down_exps", hidden, ffn)?;
                Feed::Mixture(Experts {
                    router: matrix("ffn_gate_inp", experts.count, hidden)?,
                    used: experts.used,
                    all: gates
                        .zip(ups)
                        .zip(downs)
                        .map(|((gate, up), down)| Expert { gate, up, down })
                        .collect(),
                })
            }
        };
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            query: matrix("attn_q", query, hidden)?,
            key: matrix("attn_k", kv, hidden)?,
            value: matrix("attn_v", kv, hidden)?,
            head_norms: if plan.head_norms {
                Some([head_norm("attn_q_norm")?, head_norm("attn_k_norm")?])
            } else {
                None
            },
            attention_output: matrix("attn_output", hidden, query)?,
            after_attention: after("post_attention_norm")?,
            ffn_norm: norm("ffn_norm")?,
            feed,
            after_ffn: after("post_ffw_norm")?,
        })
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

    /// Rotary frequencies: `base^(-2i/dim)`, divided by the stretch of the context and by the factors
    /// Llama 3.1 and later ship.
    #[allow(clippy::cast_precision_loss)] // dimensions of a head
    fn turns(&self, turning: Turning, head_dim: usize) -> Result<Vec<f64>, ModelError> {
        let (base, stretch) = (f64::from(turning.base), f64::from(turning.stretch));
        let exponent = |pair: usize| -2.0 * pair as f64 / head_dim as f64;
        let mut turns: Vec<f64> =
            (0..head_dim / 2).map(|pair| base.powf(exponent(pair)) / stretch).collect();
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

/// Tokens of a step from which on threads store keys and values together.
const SHARED_SLOTS: usize = 4;
