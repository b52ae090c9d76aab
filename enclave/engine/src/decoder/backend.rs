//! The seam between the scheduler and what computes its steps: the processor, or under the feature
//! `cuda` one GPU. Scheduler, page accounts, prefix cache and sampling are the same for both.

use chrysalis_wire::manifest::KvCacheType;
use zeroize::{Zeroize as _, Zeroizing};

#[cfg(feature = "cuda")]
use super::device::{DeviceDecoder, DeviceStore};
use super::{Decoder, Segment};
use crate::cache::{Cache, PageId};
use crate::error::EngineError;
#[cfg(any(doc, feature = "cuda"))]
use crate::error::ModelError;

/// What computes.
pub(crate) enum Backend {
    Processor(Decoder),
    #[cfg(feature = "cuda")]
    Device(DeviceDecoder),
}

/// Where it keeps keys and values.
pub(crate) enum Store {
    Processor(Cache),
    #[cfg(feature = "cuda")]
    Device(Box<DeviceStore>),
}

/// What a store has room for from the start. A step that needs more may find no memory for it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the processor's store grows"))]
pub(crate) struct Room {
    pub(crate) pages: usize,
    /// Tokens of a step, those of them after which something is wanted, and sequences.
    pub(crate) tokens: usize,
    pub(crate) wanted: usize,
    pub(crate) sequences: usize,
    /// Tokens of a sequence.
    pub(crate) context: usize,
}

impl Room {
    /// Pages, and little else.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn of_pages(pages: usize) -> Self {
        Self { pages, tokens: 1, wanted: 1, sequences: 1, context: 1 }
    }
}

/// What is there after a token for which something was wanted.
pub(crate) enum Row {
    Logits(Zeroizing<Vec<f32>>),
    /// The likeliest token, chosen where the logits are; `None` if they were no finite numbers.
    Likeliest(Option<u32>),
}

impl Drop for Row {
    fn drop(&mut self) {
        if let Self::Likeliest(token) = self {
            token.zeroize();
        }
    }
}

impl Backend {
    /// The decoder with its weights on a device.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(
        decoder: Decoder,
        device: &chrysalis_cuda::Device,
    ) -> Result<Self, ModelError> {
        DeviceDecoder::load(decoder, device).map(Self::Device)
    }

    /// An empty store of a `kind`.
    ///
    /// # Errors
    /// [`ModelError::DeviceCache`] on a device, for another kind than `f16`.
    pub(crate) fn store(&self, kind: KvCacheType, room: &Room) -> Result<Store, EngineError> {
        match self {
            Self::Processor(decoder) => {
                // It grows with what is used; how much that may be is the scheduler's to know.
                let _ = room;
                Ok(Store::Processor(decoder.cache(kind)))
            }
            #[cfg(feature = "cuda")]
            Self::Device(_) if kind != KvCacheType::F16 => Err(ModelError::DeviceCache.into()),
            #[cfg(feature = "cuda")]
            Self::Device(decoder) => Ok(Store::Device(Box::new(decoder.store(room)?))),
        }
    }

    /// Bytes of a page of a `kind` in a store that grows; `None` if all of it is taken at the start, or
    /// refused.
    pub(crate) fn growing(&self, kind: KvCacheType) -> Option<u64> {
        match self {
            Self::Processor(decoder) => Some(decoder.cache(kind).page_bytes()),
            #[cfg(feature = "cuda")]
            Self::Device(_) => None,
        }
    }

    /// As [`Decoder::step`]. `known` are the token ids there are: rows of an embedding behind them are
    /// no tokens.
    pub(crate) fn step(
        &self,
        store: &mut Store,
        batch: &[Segment<'_>],
        known: usize,
    ) -> Result<Vec<Row>, EngineError> {
        match (self, store) {
            (Self::Processor(decoder), Store::Processor(cache)) => {
                decoder.step(cache, batch, known)
            }
            #[cfg(feature = "cuda")]
            (Self::Device(decoder), Store::Device(store)) => decoder.step(store, batch, known),
            #[cfg(feature = "cuda")]
            _ => Err(EngineError::Compute { stage: "a store of another backend" }),
        }
    }

    /// As [`crate::family::Plan::window`].
    pub(crate) fn window(&self) -> Option<usize> {
        match self {
            Self::Processor(decoder) => decoder.window(),
            #[cfg(feature = "cuda")]
            Self::Device(decoder) => decoder.window(),
        }
    }

    /// Lets the threads of the processor work on `items`, each once.
    pub(crate) fn share<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        match self {
            Self::Processor(decoder) => decoder.share(items, work),
            #[cfg(feature = "cuda")]
            Self::Device(decoder) => decoder.share(items, work),
        }
    }
}

impl Store {
    /// Makes sure that there is memory for the first `pages`; for how many there is. They are never
    /// fewer than before.
    pub(crate) fn provide(&mut self, pages: usize) -> usize {
        match self {
            Self::Processor(cache) => {
                match pages.checked_sub(1).map(|last| cache.provide(PageId(last))) {
                    None | Some(Ok(())) => pages,
                    Some(Err(_)) => cache.room(),
                }
            }
            // All of it was taken when it was made.
            #[cfg(feature = "cuda")]
            Self::Device(store) => store.room(),
        }
    }

    /// Overwrites `page` with zeros before anything else is computed.
    pub(crate) fn wipe(&mut self, page: PageId) {
        match self {
            Self::Processor(cache) => cache.wipe(page),
            #[cfg(feature = "cuda")]
            Self::Device(store) => store.wipe(page),
        }
    }
}
