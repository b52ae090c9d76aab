//! The model: checks the verified file against what the decoder computes, and loads it.
//!
//! A tensor or a setting that a loader does not know (biases, rope scaling) and ignores gives fluent
//! but wrong text. So everything in the file must be something its family knows (`family/`), with the
//! shape the metadata implies; the rest is refused by name.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;

use crate::ModelInfo;
use crate::decoder::{Backend, Decoder};
use crate::error::ModelError;
use crate::family::{self, Plan};
use crate::gguf::Gguf;
use crate::kernels::Pool;
use crate::weights::Weights;

/// Weights, shared by every sequence.
pub(crate) struct Model {
    decoder: Arc<Backend>,
    info: ModelInfo,
}

impl Model {
    /// Checks the model that `gguf` describes, gets its `weights` and makes it, to be computed by
    /// `pool`.
    pub(crate) fn load(
        gguf: &Gguf,
        pool: Pool,
        weights: impl FnOnce(&Pool) -> Result<Weights, ModelError>,
    ) -> Result<Self, ModelError> {
        let plan = Plan::read(gguf)?;
        family::check_tensors(&plan, gguf)?;
        let info = ModelInfo {
            name: gguf.string_opt("general.name")?.unwrap_or_default().to_owned(),
            architecture: gguf.string("general.architecture")?.to_owned(),
            quantisation: quantisation(gguf),
            context_tokens: plan.context.min(MAX_CONTEXT_TOKENS),
            // The number of rows was checked to fit.
            vocab: u32::try_from(plan.vocab).unwrap_or(u32::MAX),
        };
        let weights = weights(&pool)?;
        let decoder = Decoder::load(gguf, &weights, plan, pool)?;
        Ok(Self { decoder: Arc::new(Backend::Processor(decoder)), info })
    }

    /// The same model on a device. The memory it had here is wiped.
    #[cfg(feature = "cuda")]
    pub(crate) fn move_to(self, device: &chrysalis_cuda::Device) -> Result<Self, ModelError> {
        let Self { decoder, info } = self;
        let decoder = match Arc::into_inner(decoder) {
            Some(Backend::Processor(decoder)) => Backend::on_device(decoder, device)?,
            Some(there) => there,
            None => return Err(ModelError::Weights { detail: "they are in use".to_owned() }),
        };
        Ok(Self { decoder: Arc::new(decoder), info })
    }

    pub(crate) const fn info(&self) -> &ModelInfo {
        &self.info
    }

    pub(crate) const fn decoder(&self) -> &Arc<Backend> {
        &self.decoder
    }
}

/// The type of most weights of the blocks.
fn quantisation(gguf: &Gguf) -> String {
    let mut sizes: HashMap<GgmlDType, usize> = HashMap::new();
    for (name, info) in &gguf.content.tensor_infos {
        if name.starts_with("blk.") {
            let size = sizes.entry(info.ggml_dtype).or_default();
            *size = size.saturating_add(info.shape.elem_count());
        }
    }
    let most = sizes.into_iter().max_by_key(|(dtype, size)| (*size, dtype.block_size()));
    most.map_or_else(String::new, |(dtype, _)| format!("{dtype:?}"))
}

/// Longest context of this build, prompt and completion together. Of a model of eight thousand million
/// weights, keys and values of one such sequence take 1 GiB.
pub const MAX_CONTEXT_TOKENS: u32 = 8192;

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
