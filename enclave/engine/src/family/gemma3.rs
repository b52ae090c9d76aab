//! Gemma 3, its text part: five layers that see a window alternate with one that sees all and turns
//! more slowly; heads are normalised one by one, and the parts of a layer before and after.
//!
//! Weights of norms are stored with the one already added that the published code adds (`1 + w`), so
//! they are used as they are.

use super::settings::Settings;
use super::{Family, Layer, Plan, Turning};
use crate::error::ModelError;
use crate::kernels::Activation;

pub(super) const FAMILY: Family = Family { architecture: "gemma3", plan };

fn plan(settings: &mut Settings<'_>) -> Result<Plan, ModelError> {
    let mut plan = Plan::common(settings)?;
    // The family has no default for it: a file without it was not converted for this graph.
    if !settings.has("rope.freq_base") {
        return Err(ModelError::MetadataMissing { key: "gemma3.rope.freq_base".to_owned() });
    }
    let window = settings.count("attention.sliding_window", u32::MAX, "positive")?;
    let pattern = settings.count_opt("attention.sliding_window_pattern", u32::MAX, "positive")?;
    let base = settings.base_opt("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    // Linear scaling is of the layers that see all.
    plan.turnings.push(Turning { base, stretch: 1.0 });
    let all = Layer { window: None, turning: 0 };
    let local = Layer { window: Some(window as usize), turning: 1 };
    for (number, layer) in (1u32..).zip(&mut plan.layers) {
        let last = number.checked_rem(pattern.unwrap_or(PATTERN)) == Some(0);
        *layer = if last { all } else { local };
    }
    #[allow(clippy::cast_precision_loss)] // widths are below 2^24
    let hidden = plan.hidden as f32;
    plan.embedding_scale = hidden.sqrt();
    if let Some(scale) = settings.positive_opt("attention.scale")? {
        plan.attention_scale = scale;
    } else if plan.layers.len() == LAYERS_OF_27B {
        // The 27B model divides by the root of another number than its head size, and no key says so;
        // llama.cpp tells it by its layers too.
        #[allow(clippy::cast_precision_loss)] // at most 4096
        let heads = plan.heads as f32;
        plan.attention_scale = (heads / hidden).sqrt();
    }
    plan.activation = Activation::GeluTanh;
    plan.head_norms = true;
    plan.after_norms = true;
    Ok(plan)
}

/// Every so many layers one sees all.
const PATTERN: u32 = 6;
/// Base of the layers that see a window.
const LOCAL_BASE: f32 = 10_000.0;
const LAYERS_OF_27B: usize = 62;
