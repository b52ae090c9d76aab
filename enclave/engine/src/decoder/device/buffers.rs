//! What a step needs on the device beside weights and pages. Rows start at multiples of 32 values, and
//! what lies between their ends and the next start is zero and stays it: products read it.

use chrysalis_cuda::{CudaError, Device, Memory, Rows};

use super::padded;
use crate::family::Plan;

/// How much a step has of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) tokens: usize,
    /// Of the longest sequence.
    pub(super) ranges: usize,
    pub(super) wanted: usize,
    /// Of the table.
    pub(super) numbers: usize,
}

impl Size {
    /// A size with room for `step` too, in steps of two; `None` if there is room.
    pub(super) fn more(self, step: Self) -> Option<Self> {
        let grown = |now: usize, then: usize| {
            if then > now { then.checked_next_power_of_two().unwrap_or(then) } else { now }
        };
        let more = Self {
            tokens: grown(self.tokens, step.tokens),
            ranges: grown(self.ranges, step.ranges),
            wanted: grown(self.wanted, step.wanted),
            numbers: grown(self.numbers, step.numbers),
        };
        (more != self).then_some(more)
    }
}

/// Room for steps of a [`Size`].
pub(super) struct Buffers {
    pub(super) size: Size,
    strides: Strides,
    pub(super) table: Memory,
    x: Memory,
    normed: Memory,
    after: Memory,
    qkv: Memory,
    pub(super) queries: Memory,
    pub(super) angles: Memory,
    pub(super) scores: Memory,
    pub(super) sums: Memory,
    mixed: Memory,
    gate_up: Memory,
    inner: Memory,
    router: Memory,
    pub(super) experts: Memory,
    pub(super) shares: Memory,
    given: Memory,
    /// Tokens that were chosen, then logits.
    pub(super) result: Memory,
}

#[derive(Clone, Copy)]
struct Strides {
    hidden: usize,
    qkv: usize,
    query: usize,
    gate_up: usize,
    inner: usize,
    router: usize,
    vocab: usize,
}

impl Buffers {
    pub(super) fn new(device: &Device, plan: &Plan, size: Size) -> Result<Self, CudaError> {
        let whole = |columns: usize| columns.next_multiple_of(32);
        let (query, kv) = (plan.query_width(), plan.kv_width());
        let twice = |columns: usize| padded(columns).saturating_mul(2);
        let (count, used) = plan.experts.map_or((1, 1), |experts| (experts.count, experts.used));
        let strides = Strides {
            hidden: whole(plan.hidden),
            qkv: whole(padded(query).saturating_add(twice(kv))),
            query: whole(query),
            gate_up: whole(twice(plan.ffn)),
            inner: whole(plan.ffn),
            router: whole(count),
            vocab: whole(plan.vocab),
        };
        // Without experts there is one item for each token.
        let (tokens, items) = (size.tokens, size.tokens.saturating_mul(used));
        let rows = size.tokens.max(size.wanted);
        let ranges = tokens.saturating_mul(plan.heads).saturating_mul(size.ranges);
        let room = |of: &[usize]| {
            let bytes = of.iter().try_fold(4usize, |all, n| all.checked_mul((*n).max(1)));
            device.alloc(bytes.ok_or(CudaError::Shape { what: "a step of this size" })?)
        };
        let result = strides.vocab.saturating_mul(size.wanted).saturating_add(whole(size.wanted));
        Ok(Self {
            size,
            strides,
            table: room(&[size.numbers])?,
            x: room(&[tokens, strides.hidden])?,
            normed: room(&[rows, strides.hidden])?,
            after: room(&[tokens, strides.hidden])?,
            qkv: room(&[tokens, strides.qkv])?,
            queries: room(&[tokens, query])?,
            angles: room(&[plan.turnings.len(), tokens, plan.head_dim])?,
            scores: room(&[ranges, 2])?,
            sums: room(&[ranges, plan.head_dim])?,
            mixed: room(&[tokens, strides.query])?,
            gate_up: room(&[items, strides.gate_up])?,
            inner: room(&[items, strides.inner])?,
            router: room(&[tokens, strides.router])?,
            experts: room(&[items])?,
            shares: room(&[items])?,
            given: room(&[if plan.experts.is_some() { items } else { 1 }, strides.hidden])?,
            result: room(&[result])?,
        })
    }

    pub(super) const fn x(&self) -> Rows<'_> {
        Rows { part: self.x.all(), stride: self.strides.hidden }
    }

    pub(super) const fn normed(&self) -> Rows<'_> {
        Rows { part: self.normed.all(), stride: self.strides.hidden }
    }

    pub(super) const fn after(&self) -> Rows<'_> {
        Rows { part: self.after.all(), stride: self.strides.hidden }
    }

    pub(super) const fn qkv(&self) -> Rows<'_> {
        Rows { part: self.qkv.all(), stride: self.strides.qkv }
    }

    pub(super) const fn mixed(&self) -> Rows<'_> {
        Rows { part: self.mixed.all(), stride: self.strides.query }
    }

    pub(super) const fn gate_up(&self) -> Rows<'_> {
        Rows { part: self.gate_up.all(), stride: self.strides.gate_up }
    }

    pub(super) const fn inner(&self) -> Rows<'_> {
        Rows { part: self.inner.all(), stride: self.strides.inner }
    }

    pub(super) const fn router(&self) -> Rows<'_> {
        Rows { part: self.router.all(), stride: self.strides.router }
    }

    /// What experts gave, a row for each token and each of its experts.
    pub(super) const fn given(&self) -> Rows<'_> {
        Rows { part: self.given.all(), stride: self.strides.hidden }
    }

    /// Bytes of the tokens in `result`.
    pub(super) const fn tokens_bytes(&self) -> usize {
        self.size.wanted.next_multiple_of(32).saturating_mul(4)
    }

    pub(super) fn logits(&self) -> Result<Rows<'_>, CudaError> {
        let before = self.tokens_bytes();
        let part = self.result.part(before, self.result.len().saturating_sub(before))?;
        Ok(Rows { part, stride: self.strides.vocab })
    }
}
