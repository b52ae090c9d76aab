//! Keys and values of every sequence, in `f16`, in pages of one pool. A page holds all layers, so that
//! a sequence is a list of pages and nothing else; which page belongs to whom is not known here.
//!
//! Pages hold what prompts were made of: they are wiped before they are used again and when the pool
//! ends. A page that was not wiped would also be wrong, not only readable: attention multiplies what
//! lies behind the last token by zero, which makes no zero of an infinity.

use zeroize::{Zeroize as _, Zeroizing};

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

/// A page of the pool, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageId(pub(crate) usize);

struct Slab {
    keys: Zeroizing<Vec<Halves>>,
    values: Zeroizing<Vec<Halves>>,
}

/// The pool. Its memory grows to the highest page that was ever used.
pub(crate) struct Cache {
    shape: CacheShape,
    slabs: Vec<Slab>,
}

impl Cache {
    pub(crate) const fn new(shape: CacheShape) -> Self {
        Self { shape, slabs: Vec::new() }
    }

    /// Makes sure that there is memory for `page`.
    pub(crate) fn provide(&mut self, page: PageId) {
        let CacheShape { layers, kv_heads, .. } = self.shape;
        let heads = layers.saturating_mul(kv_heads);
        let zeros = |len: usize| Zeroizing::new(vec![Halves::default(); heads.saturating_mul(len)]);
        while self.slabs.len() <= page.0 {
            let (keys, values) = (zeros(self.shape.keys()), zeros(self.shape.values()));
            self.slabs.push(Slab { keys, values });
        }
    }

    /// Overwrites `page` with zeros.
    pub(crate) fn wipe(&mut self, page: PageId) {
        if let Some(slab) = self.slabs.get_mut(page.0) {
            // The slices: of a vector it would also give up the length.
            slab.keys.as_mut_slice().zeroize();
            slab.values.as_mut_slice().zeroize();
        }
    }

    /// Stores key and value of the token in `slot` of `page`, for which there is memory.
    pub(crate) fn put(
        &mut self,
        (page, slot): (PageId, usize),
        layer: usize,
        head: usize,
        kv: [&[f32]; 2],
    ) {
        let (keys, values) = (self.shape.keys(), self.shape.values());
        let place = self.shape.place(layer, head);
        if let Some(slab) = self.slabs.get_mut(page.0) {
            let keys = slab.keys.chunks_exact_mut(keys).nth(place);
            let values = slab.values.chunks_exact_mut(values).nth(place);
            if let (Some(keys), Some(values)) = (keys, values) {
                put(keys, values, slot, kv);
            }
        }
    }

    /// One head of one layer in each of `pages`.
    pub(crate) fn pages(&self, pages: &[PageId], layer: usize, head: usize) -> Vec<Page<'_>> {
        let (keys, values) = (self.shape.keys(), self.shape.values());
        let place = self.shape.place(layer, head);
        pages
            .iter()
            .filter_map(|page| {
                let slab = self.slabs.get(page.0)?;
                let keys = slab.keys.chunks_exact(keys).nth(place)?;
                let values = slab.values.chunks_exact(values).nth(place)?;
                Some(Page { keys, values })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_wiped_holds_nothing_and_its_neighbour_everything() {
        let mut cache = Cache::new(CacheShape { layers: 2, kv_heads: 3, head_dim: 6 });
        let (ours, theirs) = (PageId(1), PageId(0));
        let written = |cache: &Cache, page: PageId| {
            let slab = &cache.slabs[page.0];
            slab.keys.iter().chain(slab.values.iter()).any(|entry| entry.0 != [0; 32])
        };
        cache.provide(ours);
        for page in [ours, theirs] {
            assert!(!written(&cache, page), "a new page holds nothing");
            for layer in 0..2 {
                for head in 0..3 {
                    let slot = PAGE_TOKENS - 1;
                    cache.put((page, slot), layer, head, [&[f32::INFINITY; 6], &[1.0; 6]]);
                }
            }
            assert!(written(&cache, page));
        }
        cache.wipe(ours);
        assert!(!written(&cache, ours), "some of it is left");
        assert!(written(&cache, theirs));
        assert_eq!(cache.pages(&[theirs, ours], 1, 2).len(), 2, "there is no less room");
    }
}
