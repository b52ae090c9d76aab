//! Keys and values of every sequence, in `f16`, in pages of one pool. A page holds all layers, so that
//! a sequence is a list of pages and nothing else; which page belongs to whom is not known here.
//!
//! In memory the pages of a block are interleaved: the keys of one head of one layer in all of them
//! lie one after the other, then the values. A sequence mostly has neighbouring pages, so that what
//! attention reads is long runs. Were a page in one piece, each 4 KiB of it would be the start of a
//! new run, and that was measured to cost more than reading it.
//!
//! Pages hold what prompts were made of: they are wiped before they are used again and when the pool
//! ends, and kept out of swap and core dumps where the system allows. A page that was not wiped would also be wrong, not only readable: attention multiplies what
//! lies behind the last token by zero, which makes no zero of an infinity.

use core::ops::Range;

use chrysalis_vault::LockedBytes;

use crate::error::EngineError;
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

    /// Entries of a head of a layer in a page.
    const fn head(self) -> usize {
        self.keys().saturating_add(self.values())
    }

    /// Entries of a page.
    const fn page(self) -> usize {
        self.head().saturating_mul(self.layers).saturating_mul(self.kv_heads)
    }

    /// Pages of a block, two at least.
    fn block(self) -> usize {
        BLOCK_BYTES.checked_div(self.page().saturating_mul(size_of::<Halves>())).unwrap_or(0).max(2)
    }
}

/// A page of the pool, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageId(pub(crate) usize);

/// The pool. Its memory grows to the highest page that was ever used.
pub(crate) struct Cache {
    shape: CacheShape,
    blocks: Vec<LockedBytes>,
}

impl Cache {
    pub(crate) const fn new(shape: CacheShape) -> Self {
        Self { shape, blocks: Vec::new() }
    }

    /// Makes sure that there is memory for `page`.
    ///
    /// # Errors
    /// [`EngineError::Compute`] if the system has none.
    pub(crate) fn provide(&mut self, page: PageId) -> Result<(), EngineError> {
        let pages = self.shape.block();
        let bytes = self.shape.page().saturating_mul(size_of::<Halves>()).saturating_mul(pages);
        let refused = |_| EngineError::Compute { stage: "memory for keys and values" };
        while self.blocks.len().saturating_mul(pages) <= page.0 {
            self.blocks.push(LockedBytes::zeroed(bytes).map_err(refused)?);
        }
        Ok(())
    }

    /// Pages there is memory for.
    pub(crate) fn room(&self) -> usize {
        self.blocks.len().saturating_mul(self.shape.block())
    }

    /// Overwrites `page` with zeros.
    pub(crate) fn wipe(&mut self, page: PageId) {
        for layer in 0..self.shape.layers {
            for head in 0..self.shape.kv_heads {
                let place = self.place(page, layer, head);
                // No dead store: the memory lives on, and what is in it is read.
                for part in self.parts_mut(&place).into_iter().flatten() {
                    part.fill(Halves::default());
                }
            }
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
        let place = self.place(page, layer, head);
        if let Some([keys, values]) = self.parts_mut(&place) {
            put(keys, values, slot, kv);
        }
    }

    /// One head of one layer in each of `pages`.
    pub(crate) fn pages(&self, pages: &[PageId], layer: usize, head: usize) -> Vec<Page<'_>> {
        let page = |page: &PageId| {
            let Place { block, keys, values } = self.place(*page, layer, head);
            let all = self.blocks.get(block)?.as_slice().as_chunks().0;
            Some(Page { keys: all.get(keys)?, values: all.get(values)? })
        };
        pages.iter().filter_map(page).collect()
    }

    /// The keys and the values at `place`, if there is memory.
    fn parts_mut(&mut self, place: &Place) -> Option<[&mut [Halves]; 2]> {
        let all = self.blocks.get_mut(place.block)?.as_mut_slice().as_chunks_mut().0;
        // Values lie behind keys.
        let (before, values) = all.split_at_mut_checked(place.values.start)?;
        let values = values.get_mut(..place.values.len())?;
        Some([before.get_mut(place.keys.clone())?, values])
    }

    /// Where a head of a layer of a page lies.
    fn place(&self, page: PageId, layer: usize, head: usize) -> Place {
        let pages = self.shape.block();
        let (keys, values) = (self.shape.keys(), self.shape.values());
        let within = page.0.checked_rem(pages).unwrap_or(0);
        let heads = layer.saturating_mul(self.shape.kv_heads).saturating_add(head);
        let start = heads.saturating_mul(self.shape.head()).saturating_mul(pages);
        let keys_at = start.saturating_add(within.saturating_mul(keys));
        let values_at = start
            .saturating_add(pages.saturating_mul(keys))
            .saturating_add(within.saturating_mul(values));
        Place {
            block: page.0.checked_div(pages).unwrap_or(0),
            keys: keys_at..keys_at.saturating_add(keys),
            values: values_at..values_at.saturating_add(values),
        }
    }
}

/// Where a head of a layer of a page lies: its block, and its entries there.
struct Place {
    block: usize,
    keys: Range<usize>,
    values: Range<usize>,
}

/// Memory is taken in blocks of about this size: of a few large pages of the processor each. The first
/// token of a block touches all of it, because its pages are interleaved; so a block is no larger than
/// it takes for runs that are long enough. Of the default model that is eight pages, which attention
/// reads as one range.
const BLOCK_BYTES: usize = 6 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_wiped_holds_nothing_and_its_neighbour_everything() {
        let mut cache = Cache::new(CacheShape { layers: 2, kv_heads: 3, head_dim: 6 });
        let (ours, theirs) = (PageId(1), PageId(0));
        let written = |cache: &Cache, page: PageId| {
            let head = |n: usize| cache.pages(&[page], n / 3, n % 3);
            (0..6).any(|n| head(n)[0].keys.iter().chain(head(n)[0].values).any(|e| *e != [0; 32]))
        };
        cache.provide(ours).unwrap();
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

    #[test]
    fn every_entry_of_a_block_belongs_to_one_head_of_one_page() {
        let shape = CacheShape { layers: 2, kv_heads: 3, head_dim: 6 };
        let cache = Cache::new(shape);
        let mut taken = vec![false; shape.page() * shape.block()];
        for page in 0..shape.block() {
            for head in 0..6 {
                let Place { block, keys, values } = cache.place(PageId(page), head / 3, head % 3);
                assert_eq!(block, 0);
                assert_eq!((keys.len(), values.len()), (2 * 6, PAGE_TOKENS));
                for entry in keys.chain(values) {
                    assert!(!std::mem::replace(&mut taken[entry], true), "{entry} is taken twice");
                }
            }
        }
        assert!(taken.iter().all(|taken| *taken));
    }

    #[test]
    fn keys_of_neighbouring_pages_are_one_run_and_so_are_values() {
        let cache = Cache::new(CacheShape { layers: 2, kv_heads: 3, head_dim: 64 });
        let [a, b] = [0, 1].map(|page| cache.place(PageId(page), 1, 2));
        assert_eq!((a.keys.end, a.values.end), (b.keys.start, b.values.start));
    }

    #[test]
    fn pages_of_other_blocks_lie_apart() {
        let shape = CacheShape { layers: 64, kv_heads: 8, head_dim: 128 };
        let mut cache = Cache::new(shape);
        let pages = [0, 1, 2, 3, 4].map(PageId);
        assert_eq!(shape.block(), 2, "a page of this shape is 8 MiB");
        for page in pages {
            cache.provide(page).unwrap();
            cache.put((page, 0), 63, 7, [&[page.0 as f32; 128], &[1.0; 128]]);
        }
        let first: Vec<u16> = cache
            .pages(&pages, 63, 7)
            .iter()
            .map(|page| u16::from_le_bytes([page.keys[0][0], page.keys[0][1]]))
            .collect();
        assert_eq!(first, [0, 0x3c00, 0x4000, 0x4200, 0x4400], "0 to 4 in f16");
    }
}
