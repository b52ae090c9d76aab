//! The last receipts of this boot, for `/v1/receipts/{id}`.
//!
//! The host can ask for them, so what is kept is the public form: no salt and no blind that would
//! let a guess of the prompt be confirmed. Ids are requesters' choice and stand in the clear beside
//! their requests, so the id alone does not say whose receipt it is: the channel that paid does.

use std::collections::VecDeque;
use std::collections::hash_map::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use chrysalis_wire::{Digest, RequestId};

use crate::limits::MAX_RECEIPTS;

/// A bounded store; the oldest receipt goes first.
#[derive(Default)]
pub struct Receipts {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The oldest of each id first.
    by_id: HashMap<RequestId, Vec<Kept>>,
    order: VecDeque<RequestId>,
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
        inner.order.push_back(id);
        while inner.order.len() > MAX_RECEIPTS {
            inner.forget_oldest();
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
    fn forget_oldest(&mut self) {
        let Some(id) = self.order.pop_front() else { return };
        let Some(kept) = self.by_id.get_mut(&id) else { return };
        if kept.len() > 1 {
            kept.remove(0);
        } else {
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
        // Each is one of the bounded number, and the older goes first.
        for n in 2..=MAX_RECEIPTS {
            r.put(id(n), None, Bytes::from_static(b"x"));
        }
        assert!(r.paid_by(&id(1), channel(1)).is_none());
        assert_eq!(r.get(&id(1)).unwrap(), "own");
        r.put(id(MAX_RECEIPTS + 1), None, Bytes::from_static(b"x"));
        assert!(r.get(&id(1)).is_none());
    }
}
