//! The seam between the scheduler and what computes its steps: the processor, or under the feature
//! `cuda` one GPU. Scheduler, page accounts, prefix cache and sampling are the same for both.

use zeroize::Zeroizing;

#[cfg(feature = "cuda")]
use super::device::{DeviceDecoder, DeviceStore};
use super::{Decoder, Segment};
use crate::cache::{Cache, PageId};
use crate::error::EngineError;

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

/// What is there after a token for which something was wanted.
pub(crate) enum Row {
    Logits(Zeroizing<Vec<f32>>),
    /// The likeliest token, chosen where the logits are; `None` if they were no finite numbers.
    Likeliest(Option<u32>),
}

impl Backend {
    /// The decoder with its weights on a device.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(
        decoder: Decoder,
        device: &chrysalis_cuda::Device,
    ) -> Result<Self, crate::error::ModelError> {
        DeviceDecoder::load(decoder, device).map(Self::Device)
    }

    /// An empty store of `pages`.
    pub(crate) fn store(&self, pages: usize) -> Result<Store, EngineError> {
        match self {
            Self::Processor(decoder) => {
                // It grows with what is used; how much that may be is the scheduler's to know.
                let _ = pages;
                Ok(Store::Processor(decoder.cache()))
            }
            #[cfg(feature = "cuda")]
            Self::Device(decoder) => Ok(Store::Device(Box::new(decoder.store(pages)?))),
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
    /// Overwrites `page` with zeros before anything else is computed.
    pub(crate) fn wipe(&mut self, page: PageId) {
        match self {
            Self::Processor(cache) => cache.wipe(page),
            #[cfg(feature = "cuda")]
            Self::Device(store) => store.wipe(page),
        }
    }
}
