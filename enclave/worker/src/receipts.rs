//! The last receipts of this boot, for `/v1/receipts/{id}`.
//!
//! The host can ask for them, so what is kept is the public form: no salt and no blind that would
//! let a guess of the prompt be confirmed. Ids are requesters' choice and stand in the clear beside
//! their requests, so the id alone does not say whose receipt it is: the channel that paid does.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::collections::hash_map::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use chrysalis_wire::{Digest, RequestId};

use crate::limits::MAX_RECEIPTS;

/// A bounded store. The oldest receipt of whoever has the most goes first: requests that cost nothing are made
/// without end, and push out no receipt of a channel that has fewer.
#[derive(Default)]
pub struct Receipts {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The oldest of each id first.
    by_id: HashMap<RequestId, Vec<Kept>>,
    /// The oldest of each channel first, with its number in the order of all.
    by_channel: HashMap<Option<Digest>, VecDeque<(u64, RequestId)>>,
    last: u64,
}

struct Kept {
    /// Account of the channel that paid; `None` if nobody did.
    channel: Option<Digest>,
    receipt: Bytes,
}

impl Receipts {
    /// Keeps `receipt` under `id` and the account of the channel that paid for it, unless there is one
    /// already.
    pub fn put(&self, id: RequestId, channel: Option<Digest>, receipt: Bytes) {
        let Ok(mut inner) = self.inner.lock() else { return };
        // A second request under an id must not take the place of the first one's receipt.
        let kept = inner.by_id.entry(id).or_default();
        if kept.iter().any(|kept| kept.channel == channel) {
            return;
        }
        kept.push(Kept { channel, receipt });
        inner.last = inner.last.saturating_add(1);
        let numbered = (inner.last, id);
        inner.by_channel.entry(channel).or_default().push_back(numbered);
        if inner.by_channel.values().map(VecDeque::len).sum::<usize>() > MAX_RECEIPTS {
            inner.forget_one();
        }
    }

    /// The receipt of the first request under `id`, if it is still held.
    pub fn get(&self, id: &RequestId) -> Option<Bytes> {
        let inner = self.inner.lock().ok()?;
        inner.by_id.get(id)?.first().map(|kept| kept.receipt.clone())
    }

    /// The receipt of the request under `id` that the channel at `account` paid for, if it is still held.
    pub fn paid_by(&self, id: &RequestId, account: Digest) -> Option<Bytes> {
        let inner = self.inner.lock().ok()?;
        let kept = inner.by_id.get(id)?.iter().find(|kept| kept.channel == Some(account));
        kept.map(|kept| kept.receipt.clone())
    }
}

impl Inner {
    fn forget_one(&mut self) {
        let rank = |ids: &VecDeque<(u64, _)>| (ids.len(), Reverse(ids.front().map(|id| id.0)));
        let most = self.by_channel.iter_mut().max_by_key(|(_, ids)| rank(ids));
        let Some((channel, ids)) = most else { return };
        let (channel, oldest) = (*channel, ids.pop_front());
        self.by_channel.retain(|_, ids| !ids.is_empty());
        let Some((_, id)) = oldest else { return };
        let Some(kept) = self.by_id.get_mut(&id) else { return };
        kept.retain(|kept| kept.channel != channel);
        if kept.is_empty() {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    fn id(n: usize) -> RequestId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        RequestId(bytes)
    }

    #[test]
    fn forgets_the_oldest_receipt_when_full() {
        let r = Receipts::default();
        for n in 0..=MAX_RECEIPTS {
            r.put(id(n), None, Bytes::from_static(b"x"));
        }
        assert!(r.get(&id(0)).is_none());
        assert!(r.get(&id(1)).is_some());
        assert!(r.get(&id(MAX_RECEIPTS)).is_some());
    }

    #[test]
    fn a_receipt_is_not_replaced_by_another_request_with_its_id() {
        let r = Receipts::default();
        r.put(id(1), None, Bytes::from_static(b"first"));
        r.put(id(1), None, Bytes::from_static(b"second"));
        assert_eq!(r.get(&id(1)).unwrap(), "first");
    }

    /// Who carries requests sees their ids, and can have one of its own under them that ends first.
    #[test]
    fn a_channel_finds_its_own_receipt_under_an_id_that_another_one_used_before() {
        let (r, channel) = (Receipts::default(), |n| Digest([n; 32]));
        for (n, text) in [(1, &b"another's"[..]), (2, b"own"), (2, b"second")] {
            r.put(id(1), Some(channel(n)), Bytes::from_static(text));
        }
        assert_eq!(r.paid_by(&id(1), channel(2)).unwrap(), "own");
        assert_eq!(r.get(&id(1)).unwrap(), "another's", "the first, for who asks by the id alone");
        assert!(r.paid_by(&id(1), channel(3)).is_none());
    }

    #[test]
    fn a_channel_pushes_out_its_own_receipts_before_those_of_others() {
        let (r, [many, few, one]) = (Receipts::default(), [1, 2, 3].map(|n| Digest([n; 32])));
        let put = |n, channel| r.put(id(n), Some(channel), Bytes::from_static(b"x"));
        put(0, one);
        put(1, few);
        put(2, few);
        for n in 3..3 * MAX_RECEIPTS {
            put(n, many);
        }
        let held = |n, channel| r.paid_by(&id(n), channel).is_some();
        assert!(held(0, one) && held(1, few) && held(2, few));
        let kept = (3..3 * MAX_RECEIPTS).filter(|n| held(*n, many)).count();
        assert_eq!(kept, MAX_RECEIPTS - 3);
        let first = 3 * MAX_RECEIPTS - kept;
        assert!(!held(first - 1, many) && held(first, many), "the oldest go first");
    }

    #[test]
    fn of_channels_with_as_many_receipts_the_one_with_the_oldest_gives_it_up() {
        let r = Receipts::default();
        // Each of its own, under the same id two by two.
        let channel = |n: usize| Some(Digest([n.to_be_bytes(); 4].concat().try_into().unwrap()));
        for n in 0..MAX_RECEIPTS + 3 {
            r.put(id(n / 2), channel(n), Bytes::from_static(b"x"));
        }
        let held = |n: usize| r.paid_by(&id(n / 2), channel(n).unwrap()).is_some();
        assert_eq!((0..MAX_RECEIPTS + 3).filter(|n| !held(*n)).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(r.get(&id(0)).is_none() && r.get(&id(1)).is_some());
    }
}
