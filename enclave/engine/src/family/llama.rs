//! Llama 1 to 3.3, and what is converted under its name: SmolLM2, Mistral 7B and NeMo, Seed-X. A file's
//! rows of query and key weights are reordered by the converter so that neighbours turn together.

use super::settings::Settings;
use super::{Family, Layer, Plan};
use crate::error::ModelError;
use crate::kernels::Pairing;

pub(super) const FAMILY: Family = Family { architecture: "llama", plan };

fn plan(settings: &mut Settings<'_>) -> Result<Plan, ModelError> {
    let mut plan = Plan { pairing: Pairing::Neighbours, ..Plan::common(settings)? };
    // Llama 3.1 and later scale low frequencies; converters write the factors as a tensor.
    plan.rope_factors = true;
    // Mixtral goes under this name too, and its files have other tensors.
    for key in ["expert_count", "expert_used_count"] {
        if settings.has(key) && settings.number(key)? > 1 {
            let feature = format!("a mixture of experts (llama.{key})");
            return Err(ModelError::UnsupportedFeature { feature });
        }
    }
    // Mistral 7B 0.1 sees 4096 tokens in every layer, later ones see all.
    let window = settings.count_opt("attention.sliding_window", u32::MAX, "positive")?;
    let layer = Layer { window: window.map(|tokens| tokens as usize), turning: 0 };
    plan.layers.fill(layer);
    Ok(plan)
}
