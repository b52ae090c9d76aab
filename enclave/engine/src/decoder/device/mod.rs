//! The decoder on one GPU: the graph of `decoder.rs` over the kernels of `chrysalis-cuda`; tests run it on a
//! stand-in for the driver, or on a GPU where there is one (`scripts/gpu`).
//!
//! A step is one copy to the device, which says everything about it, launches, and one copy back: the
//! likeliest tokens, and logits where more is drawn from them. Weights come from the processor's memory,
//! in its tiles; that memory is wiped and given back when they have arrived.
//!
//! Activations are not rounded to eight bits here. So logits are not those of the processor bit for bit,
//! but nearer to exact arithmetic; a token's numbers depend on its own sequence alone here too.
//!
//! Between steps the device's buffers hold what the last one left there: activations, logits, and the
//! tokens of its table. They are overwritten with zeros when they are given back.

mod buffers;
mod table;
mod weights;

use chrysalis_cuda::{
    Angles, Attend, Choose, CudaError, Device, Embed, Gate, Heads, Join, Layer as LayerHeads,
    Memory, Mix, NO_TOKEN, Norm as RowNorm, Pages, Part, Pinned, RANGE_TOKENS, Route, Rows, Table,
    Wipe,
};
use zeroize::Zeroizing;

use self::buffers::{Buffers, Size};
use self::weights::{Fused, Uploader, padded};
use super::{Decoder, Feed, Layer, Room, Row, Segment};
use crate::cache::PageId;
use crate::error::{EngineError, ModelError};
use crate::family::Plan;
use crate::kernels::{Activation, Norm, PAGE_TOKENS, Pairing, Pool};

/// Weights on the device.
pub(crate) struct DeviceDecoder {
    device: Device,
    /// Of the processor, which still draws.
    pool: Pool,
    plan: Plan,
    embedding: Fused,
    layers: Vec<DeviceLayer>,
    norm: Memory,
    /// `None`: the embedding is used.
    output: Option<Fused>,
    turns: Memory,
}

struct DeviceLayer {
    attention_norm: Memory,
    /// Queries, keys and values.
    qkv: Fused,
    head_norms: Option<[Memory; 2]>,
    attention_output: Fused,
    after_attention: Option<Memory>,
    ffn_norm: Memory,
    /// The router, and how many experts it takes.
    router: Option<(Fused, usize)>,
    /// Gate and up; of experts a stack.
    gate_up: Fused,
    down: Fused,
    after_ffn: Option<Memory>,
}

/// Keys and values on the device, and what steps need beside them.
pub(crate) struct DeviceStore {
    pages: Memory,
    count: usize,
    /// Pages that are wiped before anything else is computed.
    wipe: Vec<PageId>,
    /// Of one launch.
    most_wipes: usize,
    buffers: Buffers,
    /// The table of the next step, and results of the last one.
    table: Pinned,
    result: Pinned,
}

impl DeviceDecoder {
    /// Copies the weights of `decoder` to the device.
    pub(crate) fn load(decoder: Decoder, device: &Device) -> Result<Self, ModelError> {
        let (plan, columns) = (decoder.plan.clone(), decoder.plan.hidden);
        let staging = device.pinned(STAGING_BYTES)?;
        let mut up = Uploader { device, staging };
        let turns: Vec<u8> =
            decoder.turns.iter().flatten().flat_map(|turn| turn.to_le_bytes()).collect();
        let output = decoder.output.as_ref();
        let loaded = Self {
            embedding: up.fused(&[(&decoder.embedding, plan.vocab)], columns)?,
            layers: decoder
                .layers
                .iter()
                .map(|layer| DeviceLayer::load(layer, &plan, &mut up))
                .collect::<Result<_, _>>()?,
            norm: norm(&mut up, &decoder.norm)?,
            output: output.map(|output| up.fused(&[(output, plan.vocab)], columns)).transpose()?,
            turns: up.bytes(&turns)?,
            pool: decoder.pool,
            device: device.clone(),
            plan,
        };
        device.wait()?;
        Ok(loaded)
    }

    /// An empty store, all of whose memory is taken now: a step within `room` takes no more.
    pub(crate) fn store(&self, room: &Room) -> Result<DeviceStore, ModelError> {
        let Room { pages, tokens, wanted, sequences, context } = *room;
        // Only to learn how large one is: no part is looked at.
        let shape = self.pages(self.norm.all());
        let bytes = shape.page().and_then(|page| page.checked_mul(2)?.checked_mul(pages.max(1)));
        let bytes = bytes.ok_or(CudaError::Shape { what: "keys and values" })?;
        let listed = sequences.saturating_mul(context.div_ceil(PAGE_TOKENS));
        let numbers = tokens.saturating_mul(4).saturating_add(listed).saturating_add(wanted);
        let size = Size {
            tokens,
            ranges: context.div_ceil(RANGE_TOKENS),
            wanted,
            numbers: numbers.saturating_add(pages.min(MOST_WIPES)),
        };
        let buffers = Buffers::new(&self.device, &self.plan, size)?;
        Ok(DeviceStore {
            pages: self.device.alloc(bytes)?,
            count: pages,
            wipe: Vec::new(),
            most_wipes: MOST_WIPES,
            table: self.device.pinned(buffers.table.len())?,
            result: self.device.pinned(buffers.result.len())?,
            buffers,
        })
    }

    /// As [`Plan::window`].
    pub(crate) fn window(&self) -> Option<usize> {
        self.plan.window()
    }

    pub(crate) fn share<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        self.pool.chunks(items, 1, |_, items| items.iter_mut().for_each(&work));
    }

    /// As [`Decoder::step`].
    pub(crate) fn step(
        &self,
        store: &mut DeviceStore,
        batch: &[Segment<'_>],
        known: usize,
    ) -> Result<Vec<Row>, EngineError> {
        for segment in batch {
            super::check(self.plan.vocab, segment)?;
            if segment.pages.iter().any(|page| page.0 >= store.count) {
                return Err(EngineError::Compute { stage: "memory for keys and values" });
            }
        }
        // A list that is too long for one launch is as long as the pool: it is wiped in parts.
        while let Some((now, _)) = store.wipe.split_at_checked(store.most_wipes)
            && now.len() < store.wipe.len()
        {
            let plan = table::Plan::of(&[], now)?;
            self.say(store, &plan)?;
            // Not before: of what failed they are still to be wiped.
            store.wipe.drain(..store.most_wipes);
        }
        let plan = table::Plan::of(batch, &store.wipe)?;
        if plan.numbers().is_empty() {
            return Ok(Vec::new());
        }
        self.say(store, &plan)?;
        store.wipe.clear();
        if plan.tokens == 0 {
            // Nothing comes back that would be waited for, and what was freed is gone before others sleep.
            self.device.wait()?;
            return Ok(Vec::new());
        }
        let known = known.min(self.plan.vocab);
        self.compute(store, &plan)?;
        self.end(store, &plan, known)
    }

    /// Copies the table to the device, with room for the step, and wipes pages.
    fn say(&self, store: &mut DeviceStore, plan: &table::Plan) -> Result<(), EngineError> {
        let size = Size {
            tokens: plan.tokens,
            ranges: plan.longest.div_ceil(RANGE_TOKENS),
            wanted: plan.wanted,
            numbers: plan.numbers().len(),
        };
        if let Some(more) = store.buffers.size.more(size) {
            // All of it, or what is there stays.
            let buffers = Buffers::new(&self.device, &self.plan, more)?;
            let table = self.device.pinned(buffers.table.len())?;
            let result = self.device.pinned(buffers.result.len())?;
            (store.buffers, store.table, store.result) = (buffers, table, result);
        }
        let room = store.table.bytes_mut()?.as_chunks_mut::<4>().0;
        if room.len() < plan.numbers().len() {
            return Err(CudaError::Shape { what: "the table of a step" }.into());
        }
        for (to, number) in room.iter_mut().zip(plan.numbers()) {
            *to = number.to_le_bytes();
        }
        let bytes = plan.numbers().len().saturating_mul(4);
        self.device.upload(&mut store.table, store.buffers.table.all(), bytes)?;
        if plan.wiped > 0 {
            let pages = self.pages(store.pages.all());
            let list = numbers(&store.buffers.table, plan.wipes)?;
            self.device.wipe(&Wipe { pages, list, count: plan.wiped })?;
        }
        Ok(())
    }

    /// Queues the layers.
    fn compute(&self, store: &DeviceStore, step: &table::Plan) -> Result<(), CudaError> {
        let (b, d, plan, count) = (&store.buffers, &self.device, &self.plan, step.tokens);
        let table = |at: usize| numbers(&b.table, at);
        let embedding = self.embedding.only().ok_or(CudaError::Shape { what: "embed" })?;
        let (ids, scale) = (table(step.ids)?, plan.embedding_scale);
        d.embed(&Embed { weights: embedding, ids, to: b.x(), count, scale })?;
        let (ways, pairs) = (plan.turnings.len(), plan.head_dim / 2);
        let positions = table(step.positions)?;
        let (turns, to) = (self.turns.all(), b.angles.all());
        d.angles(&Angles { turns, ways, pairs, positions, to, count })?;
        let starts = self.starts();
        for (number, (layer, way)) in self.layers.iter().zip(&plan.layers).enumerate() {
            self.normalise(&layer.attention_norm, b.x(), b.normed(), count, false)?;
            layer.qkv.multiply(d, b.normed(), b.qkv(), count, false)?;
            let size = count.saturating_mul(pairs).saturating_mul(8);
            let of_layer = LayerHeads { number, heads: plan.heads, window: way.window };
            let pages = self.pages(store.pages.all());
            let norms = layer.head_norms.as_ref().map(|[q, k]| [q.all(), k.all()]);
            d.heads(&Heads {
                qkv: b.qkv(),
                starts,
                angles: b.angles.part(size.saturating_mul(way.turning), size)?,
                norms,
                queries: b.queries.all(),
                pages,
                slots: table(step.slots)?,
                layer: of_layer,
                count,
                neighbours: plan.pairing == Pairing::Neighbours,
                epsilon: plan.epsilon,
                scale: plan.attention_scale,
            })?;
            let attend = Attend {
                queries: b.queries.all(),
                pages,
                positions,
                tables: table(step.tables)?,
                table: table(step.pages)?,
                numbers: b.scores.all(),
                sums: b.sums.all(),
                layer: of_layer,
                count,
                ranges: step.longest.div_ceil(RANGE_TOKENS),
            };
            d.attend(&attend)?;
            d.join(&Join { from: &attend, to: b.mixed() })?;
            let after = layer.after_attention.as_ref();
            self.add(&layer.attention_output, b.mixed(), after, b, count)?;
            self.normalise(&layer.ffn_norm, b.x(), b.normed(), count, false)?;
            self.feed(layer, b, count)?;
        }
        Ok(())
    }

    /// The feed-forward part of a layer.
    fn feed(&self, layer: &DeviceLayer, b: &Buffers, count: usize) -> Result<(), CudaError> {
        let (d, plan) = (&self.device, &self.plan);
        let gate = |count: usize| Gate {
            from: b.gate_up(),
            up_at: padded(plan.ffn),
            to: b.inner(),
            count,
            width: plan.ffn,
            gelu: plan.activation == Activation::GeluTanh,
        };
        let after = layer.after_ffn.as_ref();
        let (Some((router, used)), Some(experts)) = (&layer.router, plan.experts) else {
            layer.gate_up.multiply(d, b.normed(), b.gate_up(), count, false)?;
            d.gate(&gate(count))?;
            return self.add(&layer.down, b.inner(), after, b, count);
        };
        let used = *used;
        router.multiply(d, b.normed(), b.router(), count, false)?;
        let (chosen, shares) = (b.experts.all(), b.shares.all());
        d.route(&Route {
            logits: b.router(),
            experts: Table(chosen),
            shares,
            count,
            all: experts.count,
            used,
        })?;
        let items = count.saturating_mul(used);
        layer.gate_up.multiply_chosen(d, b.normed(), b.gate_up(), items, (chosen, used))?;
        d.gate(&gate(items))?;
        layer.down.multiply_chosen(d, b.inner(), b.given(), items, (chosen, 1))?;
        let (to, add) = if after.is_some() { (b.after(), false) } else { (b.x(), true) };
        let (from, width) = (b.given(), plan.hidden);
        d.mix(&Mix { from, shares, to, count, used, width, add })?;
        after.map_or(Ok(()), |norm| self.normalise(norm, b.after(), b.x(), count, true))
    }

    /// Adds a product to the stream of activations, through a norm if there is one.
    fn add(
        &self,
        weights: &Fused,
        from: Rows<'_>,
        after: Option<&Memory>,
        b: &Buffers,
        count: usize,
    ) -> Result<(), CudaError> {
        let Some(norm) = after else {
            return weights.multiply(&self.device, from, b.x(), count, true);
        };
        weights.multiply(&self.device, from, b.after(), count, false)?;
        self.normalise(norm, b.after(), b.x(), count, true)
    }

    fn normalise(
        &self,
        weight: &Memory,
        from: Rows<'_>,
        to: Rows<'_>,
        count: usize,
        add: bool,
    ) -> Result<(), CudaError> {
        let Plan { hidden: width, epsilon, .. } = self.plan;
        let weight = weight.all();
        self.device.norm(&RowNorm { from, rows: None, weight, to, count, width, epsilon, add })
    }

    /// Queues what is wanted, and brings it back.
    fn end(
        &self,
        store: &mut DeviceStore,
        step: &table::Plan,
        known: usize,
    ) -> Result<Vec<Row>, EngineError> {
        let (d, plan, count) = (&self.device, &self.plan, step.wanted);
        if count == 0 {
            return Ok(Vec::new());
        }
        let b = &store.buffers;
        let Plan { hidden: width, epsilon, .. } = self.plan;
        d.norm(&RowNorm {
            from: b.x(),
            rows: Some(numbers(&b.table, step.rows)?),
            weight: self.norm.all(),
            to: b.normed(),
            count,
            width,
            epsilon,
            add: false,
        })?;
        let logits = b.logits()?;
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        output.multiply(d, b.normed(), logits, count, false)?;
        let (with_logits, stride) = (step.with_logits, logits.stride);
        let chosen = count.saturating_sub(with_logits);
        if chosen > 0 {
            let before = stride.saturating_mul(with_logits).saturating_mul(4);
            let part = logits.part;
            let part = part.part(before, part.len().saturating_sub(before))?;
            let logits = Rows { part, stride };
            d.choose(&Choose { logits, to: Table(b.result.all()), count: chosen, known })?;
        }
        // Tokens come first, so that one copy brings them and the logits behind.
        let bytes = if with_logits == 0 {
            chosen.saturating_mul(4)
        } else {
            let rows = stride.saturating_mul(with_logits).saturating_mul(4);
            b.tokens_bytes().saturating_add(rows)
        };
        d.download(b.result.all(), &mut store.result, bytes)?;
        let skip = b.tokens_bytes();
        let all = store.result.bytes()?.as_chunks::<4>().0;
        let row = |place: &usize| {
            if let Some(token) = place.checked_sub(with_logits) {
                let token = all.get(token).map(|bytes| u32::from_le_bytes(*bytes));
                return Row::Likeliest(token.filter(|token| *token != NO_TOKEN));
            }
            let start = place.saturating_mul(stride).saturating_add(skip / 4);
            let row = all.get(start..start.saturating_add(plan.vocab)).unwrap_or_default();
            Row::Logits(Zeroizing::new(row.iter().map(|b| f32::from_le_bytes(*b)).collect()))
        };
        Ok(step.order.iter().map(row).collect())
    }

    const fn pages<'a>(&self, part: Part<'a>) -> Pages<'a> {
        let Plan { kv_heads, head_dim: dim, .. } = self.plan;
        Pages { part, layers: self.layers.len(), kv_heads, dim }
    }

    /// Columns of keys and values behind the queries.
    const fn starts(&self) -> [usize; 2] {
        let key = padded(self.plan.query_width());
        [key, key.saturating_add(padded(self.plan.kv_width()))]
    }
}

impl DeviceStore {
    /// Pages there is memory for.
    pub(crate) const fn room(&self) -> usize {
        self.count
    }

    pub(crate) fn wipe(&mut self, page: PageId) {
        // One that is not there was never written.
        if page.0 < self.count {
            self.wipe.push(page);
        }
    }
}

impl DeviceLayer {
    fn load(layer: &Layer, plan: &Plan, up: &mut Uploader<'_>) -> Result<Self, ModelError> {
        let Plan { hidden, ffn, .. } = *plan;
        let (query, kv) = (plan.query_width(), plan.kv_width());
        let (router, gate_up, down) = match &layer.feed {
            Feed::Gated { gate, up: other, down } => {
                let both = up.fused(&[(gate, ffn), (other, ffn)], hidden)?;
                (None, both, up.fused(&[(down, hidden)], ffn)?)
            }
            Feed::Mixture(experts) => {
                let router = up.fused(&[(&experts.router, experts.all.len())], hidden)?;
                let both = experts.all.iter().map(|e| vec![(&e.gate, ffn), (&e.up, ffn)]);
                let both: Vec<_> = both.collect();
                let downs: Vec<_> = experts.all.iter().map(|e| vec![(&e.down, hidden)]).collect();
                let router = Some((router, experts.used));
                (router, up.stack(&both, hidden)?, up.stack(&downs, ffn)?)
            }
        };
        let mut after = |of: &Option<Norm>| of.as_ref().map(|of| norm(up, of)).transpose();
        let (after_attention, after_ffn) =
            (after(&layer.after_attention)?, after(&layer.after_ffn)?);
        let qkv = [(&layer.query, query), (&layer.key, kv), (&layer.value, kv)];
        let head_norms = layer.head_norms.as_ref();
        Ok(Self {
            attention_norm: norm(up, &layer.attention_norm)?,
            qkv: up.fused(&qkv, hidden)?,
            head_norms: head_norms
                .map(|[q, k]| Ok::<_, ModelError>([up.floats(&q.weight)?, up.floats(&k.weight)?]))
                .transpose()?,
            attention_output: up.fused(&[(&layer.attention_output, hidden)], query)?,
            after_attention,
            ffn_norm: norm(up, &layer.ffn_norm)?,
            router,
            gate_up,
            down,
            after_ffn,
        })
    }
}

fn norm(up: &mut Uploader<'_>, norm: &Norm) -> Result<Memory, ModelError> {
    up.floats(norm.weight.as_flattened().iter().take(norm.columns))
}

/// The numbers of a table from one on.
fn numbers(table: &Memory, at: usize) -> Result<Table<'_>, CudaError> {
    let at = at.saturating_mul(4);
    Ok(Table(table.part(at, table.len().saturating_sub(at))?))
}

/// Errors of a step. The request that it was for gets this one; what exactly the driver said is of no use
/// to whoever asked.
impl From<CudaError> for EngineError {
    fn from(error: CudaError) -> Self {
        let stage = match error {
            CudaError::Shape { what } => what,
            CudaError::OutOfMemory { .. } => "memory of the GPU",
            // A driver that has refused one call refuses the next: it is not this step's.
            CudaError::Call { call, code, .. } => return Self::Lost { call, code },
            _ => "on the GPU",
        };
        Self::Compute { stage }
    }
}

/// A model that does not get onto the device.
impl From<CudaError> for ModelError {
    fn from(error: CudaError) -> Self {
        Self::Device { code: error.code(), detail: error.to_string() }
    }
}

/// Weights are copied in parts of this size.
const STAGING_BYTES: usize = 8 << 20;
/// Most pages that one launch wipes.
const MOST_WIPES: usize = 1 << 15;

#[cfg(test)]
mod tests;
