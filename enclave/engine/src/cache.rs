//! Keys and values of every sequence, in pages of one pool. A page holds all layers, so that a sequence
//! is a list of pages and nothing else; which page belongs to whom is not known here.
//!
//! In memory the pages of a block are interleaved: the keys of one head of one layer in all of them
//! lie one after the other, then the values. A sequence mostly has neighbouring pages, so that what
//! attention reads is long runs. Were a page in one piece, each 4 KiB of it would be the start of a
//! new run, and that was measured to cost more than reading it.
//!
//! Pages hold what prompts were made of: they are wiped before they are used again and when the pool
//! ends, and kept out of swap and core dumps where the system allows.

use core::ops::Range;

use chrysalis_vault::LockedBytes;
use chrysalis_wire::manifest::KvCacheType;

use crate::error::EngineError;
use crate::kernels::{Page, Piece, pieces, put};

/// What a token needs room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheShape {
    pub(crate) kind: KvCacheType,
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl CacheShape {
    /// Pieces of the keys of a head in a page.
    const fn keys(self) -> usize {
        let [keys, _] = pieces(self.kind, self.head_dim);
        keys
    }

    /// Pieces of the values of a head in a page.
    const fn values(self) -> usize {
        let [_, values] = pieces(self.kind, self.head_dim);
        values
    }

    /// Pieces of a head of a layer in a page.
    const fn head(self) -> usize {
        self.keys().saturating_add(self.values())
    }

    /// Pieces of a page.
    const fn page(self) -> usize {
        self.head().saturating_mul(self.layers).saturating_mul(self.kv_heads)
    }

    /// Pages of a block, two at least.
    fn block(self) -> usize {
        BLOCK_BYTES.checked_div(self.page().saturating_mul(size_of::<Piece>())).unwrap_or(0).max(2)
    }
}

/// A page of the pool, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageId(pub(crate) usize);

/// The pool. Its memory grows to the highest page that was ever used.
pub(crate) struct Cache {
    shape: CacheShape,
    /// Pages of a block: asked for with every page that is read.
    block: usize,
    blocks: Vec<LockedBytes>,
}

impl Cache {
    pub(crate) fn new(shape: CacheShape) -> Self {
        Self { shape, block: shape.block(), blocks: Vec::new() }
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self) -> u64 {
        let bytes = self.shape.page().saturating_mul(size_of::<Piece>());
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// How entries are kept.
    pub(crate) const fn kind(&self) -> KvCacheType {
        self.shape.kind
    }

    /// Makes sure that there is memory for `page`.
    ///
    /// # Errors
    /// [`EngineError::Compute`] if the system has none.
    pub(crate) fn provide(&mut self, page: PageId) -> Result<(), EngineError> {
        let pages = self.block;
        let bytes = self.shape.page().saturating_mul(size_of::<Piece>()).saturating_mul(pages);
        let refused = |_| EngineError::Compute { stage: "memory for keys and values" };
        while self.blocks.len().saturating_mul(pages) <= page.0 {
            self.blocks.push(LockedBytes::zeroed(bytes).map_err(refused)?);
        }
        Ok(())
    }

    /// Pages there is memory for.
    pub(crate) fn room(&self) -> usize {
        self.blocks.len().saturating_mul(self.block)
    }

    /// Overwrites `page` with zeros.
    pub(crate) fn wipe(&mut self, page: PageId) {
        for layer in 0..self.shape.layers {
            for head in 0..self.shape.kv_heads {
                let place = self.place(page, layer, head);
                // No dead store: the memory lives on, and what is in it is read.
                for part in self.parts_mut(&place).into_iter().flatten() {
                    part.fill(Piece::default());
                }
            }
        }
    }

    /// The blocks of some pages, in order and each once.
    pub(crate) fn blocks_of(&self, pages: impl Iterator<Item = PageId>) -> Vec<usize> {
        let mut blocks: Vec<_> = pages.filter_map(|page| page.0.checked_div(self.block)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    /// The memory of each head of a layer in some `blocks`, which are in order: threads may store in
    /// different ones at the same time.
    pub(crate) fn shelves(&mut self, layer: usize, blocks: &[usize]) -> Vec<Shelf<'_>> {
        let (shape, pages) = (self.shape, self.block);
        let run = shape.head().saturating_mul(pages);
        let start = layer.saturating_mul(shape.kv_heads).saturating_mul(run);
        let memory = self.blocks.iter_mut().enumerate();
        memory
            .filter(|(block, _)| blocks.binary_search(block).is_ok())
            .flat_map(|(block, memory)| {
                let all = memory.as_mut_slice().as_chunks_mut().0;
                let heads = all.get_mut(start..).unwrap_or_default().chunks_exact_mut(run.max(1));
                heads.take(shape.kv_heads).enumerate().map(move |(head, memory)| Shelf {
                    shape,
                    pages,
                    block,
                    head,
                    memory,
                })
            })
            .collect()
    }

    /// Stores key and value of the token in `slot` of `page`, for which there is memory.
    #[cfg(test)]
    pub(crate) fn put(
        &mut self,
        (page, slot): (PageId, usize),
        layer: usize,
        head: usize,
        kv: [&[f32]; 2],
    ) {
        let blocks = self.blocks_of([page].into_iter());
        self.shelves(layer, &blocks)[head].put((page, slot), kv);
    }

    /// One head of one layer in each of `pages`.
    pub(crate) fn pages<'c>(
        &'c self,
        pages: &[PageId],
        layer: usize,
        head: usize,
    ) -> impl Iterator<Item = Page<'c>> {
        pages.iter().filter_map(move |page| {
            let Place { block, keys, values } = self.place(*page, layer, head);
            let all = self.blocks.get(block)?.as_slice().as_chunks().0;
            Some(Page { keys: all.get(keys)?, values: all.get(values)? })
        })
    }

    /// The keys and the values at `place`, if there is memory.
    fn parts_mut(&mut self, place: &Place) -> Option<[&mut [Piece]; 2]> {
        let all = self.blocks.get_mut(place.block)?.as_mut_slice().as_chunks_mut().0;
        // Values lie behind keys.
        let (before, values) = all.split_at_mut_checked(place.values.start)?;
        let values = values.get_mut(..place.values.len())?;
        Some([before.get_mut(place.keys.clone())?, values])
    }

    /// Where a head of a layer of a page lies.
    fn place(&self, page: PageId, layer: usize, head: usize) -> Place {
        let pages = self.block;
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

/// One head of one layer in the pages of a block.
pub(crate) struct Shelf<'c> {
    shape: CacheShape,
    /// How many.
    pages: usize,
    block: usize,
    /// Which head.
    pub(crate) head: usize,
    /// Their keys, then their values.
    memory: &'c mut [Piece],
}

impl Shelf<'_> {
    /// Whether `page` is one of them.
    pub(crate) fn holds(&self, page: PageId) -> bool {
        page.0.checked_div(self.pages) == Some(self.block)
    }

    /// Stores key and value of the token in `slot` of `page`, which is one of them.
    pub(crate) fn put(&mut self, (page, slot): (PageId, usize), kv: [&[f32]; 2]) {
        let within = page.0.checked_rem(self.pages).unwrap_or(0);
        let keys = self.pages.saturating_mul(self.shape.keys());
        let Some((keys, values)) = self.memory.split_at_mut_checked(keys) else { return };
        let keys = keys.chunks_exact_mut(self.shape.keys().max(1)).nth(within);
        let values = values.chunks_exact_mut(self.shape.values().max(1)).nth(within);
        if let (Some(keys), Some(values)) = (keys, values) {
            put(self.shape.kind, keys, values, slot, kv);
        }
    }
}

/// Where a head of a layer of a page lies: its block, and its pieces there.
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
    use crate::kernels::{PAGE_TOKENS, unpacked};

    const KINDS: [KvCacheType; 2] = [KvCacheType::F16, KvCacheType::Q8_0];

    fn shape(kind: KvCacheType, [layers, kv_heads, head_dim]: [usize; 3]) -> CacheShape {
        CacheShape { kind, layers, kv_heads, head_dim }
    }

    #[test]
    fn a_page_that_was_wiped_holds_nothing_and_its_neighbour_everything() {
        KINDS.into_iter().for_each(wiped_alone);
    }

    fn wiped_alone(kind: KvCacheType) {
        let mut cache = Cache::new(shape(kind, [2, 3, 6]));
        let (ours, theirs) = (PageId(1), PageId(0));
        let written = |cache: &Cache, page: PageId| {
            let head = |n: usize| cache.pages(&[page], n / 3, n % 3).collect::<Vec<_>>();
            (0..6).any(|n| {
                head(n)[0]
                    .keys
                    .iter()
                    .chain(head(n)[0].values)
                    .any(|piece| *piece != Piece::default())
            })
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
        assert_eq!(cache.pages(&[theirs, ours], 1, 2).count(), 2, "there is no less room");
    }

    #[test]
    fn every_piece_of_a_block_belongs_to_one_head_of_one_page() {
        KINDS.into_iter().for_each(shared_out);
    }

    fn shared_out(kind: KvCacheType) {
        let shape = shape(kind, [2, 3, 6]);
        let cache = Cache::new(shape);
        let mut taken = vec![false; shape.page() * shape.block()];
        for page in 0..shape.block() {
            for head in 0..6 {
                let Place { block, keys, values } = cache.place(PageId(page), head / 3, head % 3);
                assert_eq!(block, 0);
                assert_eq!([keys.len(), values.len()], pieces(kind, 6));
                for entry in keys.chain(values) {
                    assert!(!std::mem::replace(&mut taken[entry], true), "{entry} is taken twice");
                }
            }
        }
        assert!(taken.iter().all(|taken| *taken));
    }

    #[test]
    fn each_page_is_on_one_shelf_of_each_head_whichever_block_it_is_in() {
        let mut cache = Cache::new(shape(KvCacheType::F16, [64, 8, 128]));
        let pages = [0, 3, 4].map(PageId);
        for page in pages {
            cache.provide(page).unwrap();
        }
        let blocks = cache.blocks_of(pages.into_iter());
        assert_eq!(blocks, [0, 1, 2], "a block has two pages");
        let mut shelves = cache.shelves(63, &blocks);
        for (page, value) in pages.into_iter().zip([1.0, 2.0, 3.0]) {
            for head in 0..8 {
                let of_it = |shelf: &&mut Shelf<'_>| shelf.head == head && shelf.holds(page);
                let mut held = shelves.iter_mut().filter(of_it);
                held.next().unwrap().put((page, 5), [&[value; 128], &[-value; 128]]);
                assert!(held.next().is_none(), "page {} is on two shelves", page.0);
            }
        }
        for (page, value) in pages.into_iter().zip([1.0, 2.0, 3.0]) {
            let stored = &cache.pages(&[page], 63, 7).next().unwrap();
            let [key, values] = unpacked(KvCacheType::F16, stored, 5, 128);
            assert_eq!((key, values), (vec![value; 128], vec![-value; 128]));
        }
    }

    #[test]
    fn keys_of_neighbouring_pages_are_one_run_and_so_are_values() {
        let cache = Cache::new(shape(KvCacheType::F16, [2, 3, 64]));
        let [a, b] = [0, 1].map(|page| cache.place(PageId(page), 1, 2));
        assert_eq!((a.keys.end, a.values.end), (b.keys.start, b.values.start));
    }

    #[test]
    fn pages_of_other_blocks_lie_apart() {
        let shape = shape(KvCacheType::F16, [64, 8, 128]);
        let mut cache = Cache::new(shape);
        let pages = [0, 1, 2, 3, 4].map(PageId);
        assert_eq!(shape.block(), 2, "a page of this shape is 8 MiB");
        for page in pages {
            cache.provide(page).unwrap();
            cache.put((page, 0), 63, 7, [&[page.0 as f32; 128], &[1.0; 128]]);
        }
        let first: Vec<u16> = cache
            .pages(&pages, 63, 7)
            .map(|page| u16::from_le_bytes([page.keys[0][0], page.keys[0][1]]))
            .collect();
        assert_eq!(first, [0, 0x3c00, 0x4000, 0x4200, 0x4400], "0 to 4 in f16");
    }

    #[test]
    fn eight_bits_take_little_more_than_half_of_sixteen() {
        for (head_dim, share) in [(64, 33.0 / 64.0), (128, 65.0 / 128.0), (80, 41.0 / 80.0)] {
            let [f16, q8] = KINDS.map(|kind| shape(kind, [3, 2, head_dim]).page() as f64);
            assert_eq!(q8 / f16, share, "{head_dim}");
        }
    }

    /// A refused draft stays where it was computed until the next token comes there.
    #[test]
    fn what_cannot_be_kept_is_the_largest_or_is_seen_as_no_number() {
        for (kind, most) in [(KvCacheType::F16, 65504.0f32), (KvCacheType::Q8_0, 1e38)] {
            let mut cache = Cache::new(shape(kind, [1, 1, 16]));
            let page = PageId(0);
            cache.provide(page).unwrap();
            let mut kept = |key: f32, value: f32| {
                cache.put((page, 3), 0, 0, [&[key; 16], &[value; 16]]);
                let pages: Vec<_> = cache.pages(&[page], 0, 0).collect();
                unpacked(kind, &pages[0], 3, 16)
            };
            for sign in [1.0, -1.0] {
                let [keys, values] = kept(sign * f32::MAX, sign * 1.5);
                assert!(keys.iter().all(|k| (k / (sign * most) - 1.0).abs() < 0.01), "{keys:?}");
                assert!(values.iter().all(|v| (v / (sign * 1.5) - 1.0).abs() < 0.01));
                let [_, values] = kept(1.0, sign * f32::MAX);
                assert!(values.iter().all(|v| v.is_finite() && v * sign >= most * 0.99));
            }
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for (key, value) in [(bad, 1.0), (1.0, bad)] {
                    let [keys, values] = kept(key, value);
                    assert!(keys.iter().all(|k| k.is_nan()), "{kind:?} {bad}");
                    assert_eq!(values, [0.0; 16]);
                }
            }
            assert_eq!(kept(0.0, 0.0), [vec![0.0; 16], vec![0.0; 16]]);
        }
    }
}
