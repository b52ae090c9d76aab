//! Who uses which page: counts of users, and the prefix cache, an index of pages whose tokens are known.
//!
//! A page is *free*, *used* by sequences, or *idle*: nobody uses it, but its tokens may come again, so
//! it is kept until another needs the room, the longest unused first. Only pages of a tenant are kept
//! longer than a request, and only that tenant's requests find them: what somebody else computed changes
//! neither an answer nor the time it takes. A hash finds a page and its exact tokens decide, so no collision can
//! serve keys and values of other tokens.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use zeroize::Zeroizing;

use super::Owner;
use crate::cache::PageId;

/// What is known about every page.
pub(crate) struct PagePool {
    /// How many there are.
    count: usize,
    /// Those that were ever used.
    pages: Vec<Entry>,
    /// Those of them that are free.
    free: BTreeSet<PageId>,
    /// Pages nobody uses whose tokens are known, in the order in which they go.
    idle: BTreeSet<(u64, PageId)>,
    /// Pages in the order of their tokens: by owner, block before, and hash of their own tokens.
    index: HashMap<Key, PageId>,
    /// The number of the next block.
    next: u64,
    /// Freed pages that nobody has wiped yet.
    unwiped: Vec<PageId>,
    /// Counts releases: the time of the order of `idle`.
    releases: u64,
}

type Key = (Owner, Option<BlockId>, u64);

/// The tokens of one page behind those of the pages before it, by a number that none had before: a page may
/// be used for other tokens while somebody still knows what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockId(u64);

#[derive(Default)]
struct Entry {
    users: usize,
    block: Option<Block>,
}

/// What makes a page recognisable.
struct Block {
    id: BlockId,
    key: Key,
    tokens: Zeroizing<Vec<u32>>,
    /// Its place in `idle`, while nobody uses it.
    released: u64,
}

impl PagePool {
    /// A pool of `count` free pages.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count,
            pages: Vec::new(),
            free: BTreeSet::new(),
            idle: BTreeSet::new(),
            index: HashMap::new(),
            next: 0,
            unwiped: Vec::new(),
            releases: 0,
        }
    }

    /// Pages there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Pages that were ever taken: the first ones, since the lowest free one is taken first.
    pub(crate) const fn reach(&self) -> usize {
        self.pages.len()
    }

    /// Makes it `count` pages. Nothing was ever stored in a page behind them; who was given one is not its
    /// user any more.
    pub(crate) fn resize(&mut self, count: usize) {
        self.count = count;
        self.pages.truncate(count);
        self.free.split_off(&PageId(count));
        self.unwiped.retain(|page| page.0 < count);
    }

    /// Pages that can be taken: free ones, and those kept for a prefix that may come again.
    pub(crate) fn available(&self) -> usize {
        let unused = self.count.saturating_sub(self.pages.len());
        unused.saturating_add(self.free.len()).saturating_add(self.idle.len())
    }

    /// A page for one user, the lowest free one, so that memory grows only when it must. `None` if
    /// every page is used.
    pub(crate) fn take(&mut self) -> Option<PageId> {
        if self.free.is_empty() {
            if self.pages.len() < self.count {
                self.free.insert(PageId(self.pages.len()));
                self.pages.push(Entry::default());
            } else {
                let (_, page) = self.idle.pop_first()?;
                self.forget(page);
            }
        }
        let page = self.free.pop_first()?;
        self.pages.get_mut(page.0)?.users = 1;
        Some(page)
    }

    /// The page of `owner` that holds exactly `tokens` behind the block `before` and those before it.
    pub(crate) fn find(
        &self,
        owner: Owner,
        before: Option<BlockId>,
        tokens: &[u32],
    ) -> Option<(PageId, BlockId)> {
        let page = *self.index.get(&(owner, before, hash(tokens)))?;
        let block = self.pages.get(page.0)?.block.as_ref()?;
        (*block.tokens == tokens).then_some((page, block.id))
    }

    /// One user more for a page that was found.
    pub(crate) fn share(&mut self, page: PageId) {
        if let Some(entry) = self.pages.get_mut(page.0) {
            if let (0, Some(block)) = (entry.users, &entry.block) {
                self.idle.remove(&(block.released, page));
            }
            entry.users = entry.users.saturating_add(1);
        }
    }

    /// Makes `page`, which is full and computed, findable as `tokens` behind `before`, which is itself.
    /// If there is such a page already, its user gets that one for it: both hold the same bits. `None`
    /// if the hash is taken: then neither this page nor one behind it can be found.
    pub(crate) fn publish(
        &mut self,
        page: PageId,
        owner: Owner,
        before: Option<BlockId>,
        tokens: &[u32],
    ) -> Option<(PageId, BlockId)> {
        if let Some((other, id)) = self.find(owner, before, tokens) {
            if other != page {
                self.share(other);
                self.release(&[page]);
            }
            return Some((other, id));
        }
        let key = (owner, before, hash(tokens));
        if self.index.contains_key(&key) {
            return None;
        }
        let (id, tokens) = (BlockId(self.next), Zeroizing::new(tokens.to_vec()));
        self.pages.get_mut(page.0)?.block = Some(Block { id, key, tokens, released: 0 });
        self.next = self.next.saturating_add(1);
        self.index.insert(key, page);
        Some((page, id))
    }

    /// One user less for each of these pages of a sequence. The last one goes first: so a page is not kept
    /// longer than the page before it, without which it would not be found. Those that a sequence with a
    /// window leaves behind go before the others all the same; pages behind one that is gone are in nobody's
    /// way, and go when their turn comes.
    pub(crate) fn release(&mut self, pages: &[PageId]) {
        for page in pages.iter().rev() {
            let Some(entry) = self.pages.get_mut(page.0) else { continue };
            entry.users = entry.users.saturating_sub(1);
            if entry.users > 0 {
                continue;
            }
            self.releases = self.releases.saturating_add(1);
            if let Some(block) = &mut entry.block {
                block.released = self.releases;
                self.idle.insert((self.releases, *page));
            } else {
                self.forget(*page);
            }
        }
    }

    /// Frees what is kept of an owner that has nothing more to ask.
    pub(crate) fn forget_owner(&mut self, owner: Owner) {
        let owned = |page: PageId| {
            let block = self.pages.get(page.0).and_then(|entry| entry.block.as_ref());
            block.is_some_and(|block| block.key.0 == owner)
        };
        let kept: Vec<_> = self.idle.iter().filter(|(_, page)| owned(*page)).copied().collect();
        for place in kept {
            self.idle.remove(&place);
            self.forget(place.1);
        }
    }

    /// Pages that were freed since the last call. Every page that is taken was among them before, or
    /// was never used: the caller wipes them before it computes anything.
    #[must_use]
    pub(crate) fn freed(&mut self) -> Vec<PageId> {
        core::mem::take(&mut self.unwiped)
    }

    /// Frees a page that nobody uses.
    fn forget(&mut self, page: PageId) {
        if let Some(entry) = self.pages.get_mut(page.0) {
            if let Some(block) = entry.block.take() {
                self.index.remove(&block.key);
            }
            self.free.insert(page);
            self.unwiped.push(page);
        }
    }

    /// Whether a page is free: neither used nor kept.
    #[cfg(test)]
    pub(crate) fn is_free(&self, page: PageId) -> bool {
        page.0 >= self.pages.len() || self.free.contains(&page)
    }

    /// Users of all pages together.
    #[cfg(test)]
    pub(crate) fn users(&self) -> usize {
        self.pages.iter().map(|entry| entry.users).sum()
    }

    /// What must hold at any time; whether sequences leave pages behind.
    #[cfg(test)]
    pub(crate) fn check(&self, windowed: bool) {
        for (n, entry) in self.pages.iter().enumerate() {
            let page = PageId(n);
            let free = self.free.contains(&page);
            let idle = self.idle.iter().any(|(_, idle)| *idle == page);
            let states = usize::from(free) + usize::from(idle) + usize::from(entry.users > 0);
            assert_eq!(states, 1, "page {n} is free, idle or used, and one of them only");
            if let Some(block) = &entry.block {
                assert_eq!(self.index.get(&block.key), Some(&page));
                // The page before is there, and stays at least as long.
                if let Some(before) = block.key.1.filter(|_| !windowed) {
                    let is = |entry: &&Entry| entry.block.as_ref().is_some_and(|b| b.id == before);
                    let before = self.pages.iter().find(is).expect("a page before that is known");
                    let parent = before.block.as_ref().unwrap();
                    assert!(before.users > 0 || (idle && parent.released > block.released));
                }
            } else {
                assert!(!idle);
            }
        }
        let known = self.pages.iter().filter(|entry| entry.block.is_some()).count();
        assert_eq!(self.index.len(), known);
    }
}

/// Without a key: who can make two blocks of his own collide loses a hit, and harms nobody else.
fn hash(tokens: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    tokens.hash(&mut hasher);
    hasher.finish()
}
