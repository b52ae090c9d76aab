//! Keys and values of every sequence, in `f16`, in pages of one pool. A page holds all layers, so that
//! a sequence is a list of pages and nothing else; which page belongs to whom is not known here.
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

    /// Entries of a head of a layer in a page: its keys, then its values.
    const fn head(self) -> usize {
        self.keys().saturating_add(self.values())
    }

    /// Entries of a page: layer by layer, head by head.
    const fn page(self) -> usize {
        self.head().saturating_mul(self.layers).saturating_mul(self.kv_heads)
    }

    /// Pages of a block.
    fn block(self) -> usize {
        BLOCK_BYTES.checked_div(self.page().saturating_mul(size_of::<Halves>())).unwrap_or(1).max(1)
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

    /// Overwrites `page` with zeros.
    pub(crate) fn wipe(&mut self, page: PageId) {
        let (block, entries) = self.place(page);
        if let Some(block) = self.blocks.get_mut(block) {
            // No dead store: the memory lives on, and what is in it is read.
            let all = block.as_mut_slice().as_chunks_mut::<{ size_of::<Halves>() }>().0;
            all.get_mut(entries).unwrap_or_default().fill(Halves::default());
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
        let (block, entries) = self.head(page, layer, head);
        let keys = self.shape.keys();
        let Some(block) = self.blocks.get_mut(block) else { return };
        let all = block.as_mut_slice().as_chunks_mut::<{ size_of::<Halves>() }>().0;
        let found = all.get_mut(entries).and_then(|head| head.split_at_mut_checked(keys));
        if let Some((keys, values)) = found {
            put(keys, values, slot, kv);
        }
    }

    /// One head of one layer in each of `pages`.
    pub(crate) fn pages(&self, pages: &[PageId], layer: usize, head: usize) -> Vec<Page<'_>> {
        let page = |page: &PageId| {
            let (block, entries) = self.head(*page, layer, head);
            let all = self.blocks.get(block)?.as_slice().as_chunks().0;
            let (keys, values) = all.get(entries)?.split_at_checked(self.shape.keys())?;
            Some(Page { keys, values })
        };
        pages.iter().filter_map(page).collect()
    }

    /// The block of a page, and its entries there.
    fn place(&self, page: PageId) -> (usize, Range<usize>) {
        let (pages, size) = (self.shape.block(), self.shape.page());
        let start = page.0.checked_rem(pages).unwrap_or(0).saturating_mul(size);
        (page.0.checked_div(pages).unwrap_or(0), start..start.saturating_add(size))
    }

    /// The block of a page, and the entries of a head of a layer there.
    fn head(&self, page: PageId, layer: usize, head: usize) -> (usize, Range<usize>) {
        let (block, entries) = self.place(page);
        let (size, place) = (self.shape.head(), layer.saturating_mul(self.shape.kv_heads));
        let start = place.saturating_add(head).saturating_mul(size).saturating_add(entries.start);
        (block, start..start.saturating_add(size))
    }
}

/// Memory is taken in blocks of about this size: of a few large pages of the processor each.
const BLOCK_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_wiped_holds_nothing_and_its_neighbour_everything() {
        let mut cache = Cache::new(CacheShape { layers: 2, kv_heads: 3, head_dim: 6 });
        let (ours, theirs) = (PageId(1), PageId(0));
        let written = |cache: &Cache, page: PageId| {
            let (block, entries) = cache.place(page);
            let all = cache.blocks[block].as_slice().as_chunks::<32>().0;
            all[entries].iter().any(|entry| *entry != [0; 32])
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
