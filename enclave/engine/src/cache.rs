//! Keys and values of one sequence, in `f16`, in pages that are added as it grows and wiped when it
//! ends. A page holds all layers, so that a sequence is a list of pages and nothing else.

use zeroize::Zeroizing;

use crate::kernels::{Halves, PAGE_TOKENS, Page, put};

/// What a token needs room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheShape {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl CacheShape {
    /// Entries of the keys of a head in a page.
    const fn keys(self) -> usize {
        (PAGE_TOKENS / 16).saturating_mul(self.head_dim)
    }

    /// Entries of the values of a head in a page.
    const fn values(self) -> usize {
        self.head_dim.div_ceil(16).saturating_mul(PAGE_TOKENS)
    }

    const fn place(self, layer: usize, head: usize) -> usize {
        layer.saturating_mul(self.kv_heads).saturating_add(head)
    }
}

struct Slab {
    keys: Zeroizing<Vec<Halves>>,
    values: Zeroizing<Vec<Halves>>,
}

/// The pages of a sequence.
pub(crate) struct Cache {
    shape: CacheShape,
    slabs: Vec<Slab>,
    tokens: usize,
}

impl Cache {
    pub(crate) const fn new(shape: CacheShape) -> Self {
        Self { shape, slabs: Vec::new(), tokens: 0 }
    }

    /// Tokens whose keys and values are here.
    pub(crate) const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Makes room for `count` more tokens.
    pub(crate) fn reserve(&mut self, count: usize) {
        let CacheShape { layers, kv_heads, .. } = self.shape;
        let heads = layers.saturating_mul(kv_heads);
        let zeros = |len: usize| Zeroizing::new(vec![Halves::default(); heads.saturating_mul(len)]);
        let needed = self.tokens.saturating_add(count).div_ceil(PAGE_TOKENS);
        while self.slabs.len() < needed {
            let (keys, values) = (zeros(self.shape.keys()), zeros(self.shape.values()));
            self.slabs.push(Slab { keys, values });
        }
    }

    /// Stores key and value of the token at `position`, for which there is room.
    pub(crate) fn put(&mut self, layer: usize, head: usize, position: usize, kv: [&[f32]; 2]) {
        let (keys, values) = (self.shape.keys(), self.shape.values());
        let place = self.shape.place(layer, head);
        let (page, slot) = (position / PAGE_TOKENS, position % PAGE_TOKENS);
        if let Some(slab) = self.slabs.get_mut(page) {
            let keys = slab.keys.chunks_exact_mut(keys).nth(place);
            let values = slab.values.chunks_exact_mut(values).nth(place);
            if let (Some(keys), Some(values)) = (keys, values) {
                put(keys, values, slot, kv);
            }
        }
    }

    /// The pages of one head of one layer.
    pub(crate) fn pages(&self, layer: usize, head: usize) -> Vec<Page<'_>> {
        let (keys, values) = (self.shape.keys(), self.shape.values());
        let place = self.shape.place(layer, head);
        self.slabs
            .iter()
            .filter_map(|slab| {
                let keys = slab.keys.chunks_exact(keys).nth(place)?;
                let values = slab.values.chunks_exact(values).nth(place)?;
                Some(Page { keys, values })
            })
            .collect()
    }

    /// Counts `count` tokens that were stored in every layer.
    pub(crate) const fn advance(&mut self, count: usize) {
        self.tokens = self.tokens.saturating_add(count);
    }
}
