//! A direct view of ids and logits, without the engine around the model, for tests. Not part of any
//! binary: see `testing.rs`. Panics on misuse, as a test should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::missing_panics_doc)]

use std::num::NonZeroUsize;
use std::sync::Arc;

use chrysalis_wire::manifest::KvCacheType;

use crate::cache::PageId;
use crate::decoder::{Backend, Room, Row, Segment, Store};
use crate::engine::{TextSide, load};
use crate::error::EngineError;
use crate::kernels::PAGE_TOKENS;
use crate::model::Model;
use crate::request::Input;

/// A model without the engine around it: ids and logits.
pub struct Probe {
    model: Model,
    text: TextSide,
    kind: KvCacheType,
}

impl Probe {
    /// Loads a model as the engine does.
    ///
    /// # Errors
    /// As [`crate::CandleEngine::load`].
    pub fn load(gguf: &[u8]) -> Result<Self, EngineError> {
        Self::load_with(gguf, None)
    }

    /// As [`Probe::load`], computed by `threads`.
    ///
    /// # Errors
    /// As [`crate::CandleEngine::load`].
    pub fn load_with(mut gguf: &[u8], threads: Option<NonZeroUsize>) -> Result<Self, EngineError> {
        let len = gguf.len() as u64;
        let (model, text) = load(&mut gguf, len, threads)?;
        Ok(Self { model, text, kind: KvCacheType::F16 })
    }

    /// The same model with keys and values kept in another way.
    #[must_use]
    pub fn keeping(self, kind: KvCacheType) -> Self {
        Self { kind, ..self }
    }

    /// A model that was loaded otherwise.
    pub(crate) fn of((model, text): (Model, TextSide)) -> Self {
        Self { model, text, kind: KvCacheType::F16 }
    }

    /// What an engine is made of.
    #[cfg(all(test, feature = "cuda"))]
    pub(crate) fn parts(self) -> (Model, Arc<crate::tokenizer::Tokenizer>) {
        (self.model, self.text.tokenizer)
    }

    /// The prompt's token ids, as the engine computes them.
    ///
    /// # Errors
    /// As [`crate::Engine::generate`].
    pub fn ids(&self, input: &Input) -> Result<Vec<u32>, EngineError> {
        self.text.prompt(input).map(|ids| ids.to_vec())
    }

    /// Bytes the ids decode to.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|id| self.text.tokenizer.bytes(*id)).copied().collect()
    }

    /// The same model on a device.
    ///
    /// # Errors
    /// As [`crate::CandleEngine::load`].
    #[cfg(feature = "cuda")]
    pub fn on(self, device: &chrysalis_cuda::Device) -> Result<Self, EngineError> {
        Ok(Self { model: self.model.move_to(device)?, ..self })
    }

    /// What computes.
    #[cfg(all(test, feature = "cuda"))]
    pub(crate) fn backend(self) -> Arc<Backend> {
        Arc::clone(self.model.decoder())
    }

    /// Pages of the longest sequence.
    fn pages(&self) -> usize {
        (self.model.info().context_tokens as usize).div_ceil(PAGE_TOKENS)
    }

    /// `count` empty sequences over one cache.
    #[must_use]
    pub fn batch(&self, count: usize) -> ProbeBatch<'_> {
        let sequences = vec![(Vec::new(), 0); count];
        let store =
            self.model.decoder().store(self.kind, &Room::of_pages(count * self.pages())).unwrap();
        ProbeBatch { model: &self.model, store, sequences, pages: 0 }
    }

    /// A new sequence with an empty cache.
    #[must_use]
    pub fn session(&self) -> ProbeSession {
        let decoder = Arc::clone(self.model.decoder());
        let store = decoder.store(self.kind, &Room::of_pages(self.pages())).unwrap();
        let limit = self.model.info().context_tokens as usize;
        ProbeSession { decoder, store, pages: Vec::new(), tokens: 0, limit }
    }
}

/// Sequences that share the pages of one cache and are computed in common steps.
pub struct ProbeBatch<'a> {
    model: &'a Model,
    store: Store,
    /// Pages and tokens of each.
    sequences: Vec<(Vec<PageId>, usize)>,
    pages: usize,
}

impl ProbeBatch<'_> {
    /// One step: appends tokens to some sequences, each named once. Logits after each of the tokens.
    ///
    /// # Errors
    /// [`EngineError::Compute`] for a token that the model does not have.
    ///
    /// # Panics
    /// If a sequence is not there.
    pub fn step(&mut self, new: &[(usize, &[u32])]) -> Result<Vec<Vec<Vec<f32>>>, EngineError> {
        for (sequence, tokens) in new {
            let (pages, before) = &mut self.sequences[*sequence];
            while pages.len() * PAGE_TOKENS < *before + tokens.len() {
                pages.push(PageId(self.pages));
                self.pages += 1;
            }
        }
        let mut batch = Vec::new();
        for (sequence, tokens) in new {
            let (pages, before) = &self.sequences[*sequence];
            let (wanted, likeliest) = (tokens.len(), false);
            batch.push(Segment { tokens, before: *before, pages, wanted, likeliest });
        }
        let rows = self.model.decoder().step(&mut self.store, &batch, usize::MAX)?;
        let mut logits = rows.into_iter().map(logits);
        Ok(new
            .iter()
            .map(|(sequence, tokens)| {
                self.sequences[*sequence].1 += tokens.len();
                logits.by_ref().take(tokens.len()).collect()
            })
            .collect())
    }
}

impl ProbeBatch<'_> {
    /// One sequence more, which begins with the first `pages` full pages of another. Their tokens.
    pub fn share(&mut self, other: usize, pages: usize) -> usize {
        let shared = self.sequences[other].0[..pages].to_vec();
        let tokens = pages * PAGE_TOKENS;
        assert!(tokens <= self.sequences[other].1, "pages that are not full");
        self.sequences.push((shared, tokens));
        tokens
    }
}

/// One sequence with a cache of its own, fed by hand.
pub struct ProbeSession {
    decoder: Arc<Backend>,
    store: Store,
    pages: Vec<PageId>,
    tokens: usize,
    limit: usize,
}

impl ProbeSession {
    /// Appends `tokens` in chunks of `chunk`; the logits after the last.
    ///
    /// # Errors
    /// [`EngineError::Compute`] past the end of the context.
    pub fn feed(&mut self, tokens: &[u32], chunk: usize) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::new();
        for part in tokens.chunks(chunk) {
            logits = self.feed_for(part, 1)?.remove(0);
        }
        Ok(logits)
    }

    /// Appends `tokens`; the logits after each of them.
    ///
    /// # Errors
    /// [`EngineError::Compute`] past the end of the context.
    pub fn feed_each(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, EngineError> {
        self.feed_for(tokens, tokens.len())
    }

    fn feed_for(&mut self, tokens: &[u32], wanted: usize) -> Result<Vec<Vec<f32>>, EngineError> {
        let after = self.tokens + tokens.len();
        if after > self.limit {
            return Err(EngineError::Compute { stage: "past the end of the context" });
        }
        self.pages.extend((self.pages.len()..after.div_ceil(PAGE_TOKENS)).map(PageId));
        let before = self.tokens;
        let segment = Segment { tokens, before, pages: &self.pages, wanted, likeliest: false };
        let rows = self.decoder.step(&mut self.store, &[segment], usize::MAX)?;
        self.tokens = after;
        Ok(rows.into_iter().map(logits).collect())
    }
}

/// The logits of a row that has some.
fn logits(row: Row) -> Vec<f32> {
    match &row {
        Row::Logits(logits) => logits.to_vec(),
        Row::Likeliest(_) => panic!("logits were asked for"),
    }
}
