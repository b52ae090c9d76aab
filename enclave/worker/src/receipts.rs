//! The last receipts of this boot, for `/v1/receipts/{id}`.
//!
//! The host can ask for them, so what is kept is the public form: no salt and no blind that would
//! let a guess of the prompt be confirmed.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use chrysalis_wire::RequestId;

use crate::limits::MAX_RECEIPTS;

/// A bounded store; the oldest receipt goes first.
#[derive(Default)]
pub struct Receipts {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<RequestId, Bytes>,
    order: VecDeque<RequestId>,
}

impl Receipts {
    /// Keeps `receipt` under `id`, unless there is one already.
    pub fn put(&self, id: RequestId, receipt: Bytes) {
        let Ok(mut inner) = self.inner.lock() else { return };
        // The id is the client's choice and visible to the host: a second request under it must
        // not take the place of the first one's receipt.
        let Entry::Vacant(place) = inner.by_id.entry(id) else { return };
        place.insert(receipt);
        inner.order.push_back(id);
        while inner.order.len() > MAX_RECEIPTS {
            if let Some(oldest) = inner.order.pop_front() {
                inner.by_id.remove(&oldest);
            }
        }
    }

    /// The receipt of `id`, if it is still held.
    pub fn get(&self, id: &RequestId) -> Option<Bytes> {
        self.inner.lock().ok()?.by_id.get(id).cloned()
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
            r.put(id(n), Bytes::from_static(b"x"));
        }
        assert!(r.get(&id(0)).is_none());
        assert!(r.get(&id(1)).is_some());
        assert!(r.get(&id(MAX_RECEIPTS)).is_some());
    }

    #[test]
    fn a_receipt_is_not_replaced_by_another_request_with_its_id() {
        let r = Receipts::default();
        r.put(id(1), Bytes::from_static(b"first"));
        r.put(id(1), Bytes::from_static(b"second"));
        assert_eq!(r.get(&id(1)).unwrap(), "first");
    }
}
