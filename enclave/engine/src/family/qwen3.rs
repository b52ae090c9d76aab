//! Qwen3, dense and as a mixture of experts: heads of a size of their own, normalised one by one, no
//! biases. In a mixture the router's probabilities are normalised over the experts a token takes.

use super::settings::Settings;
use super::{Experts, Family, MAX_EXPERTS, MAX_WIDTH, Plan};
use crate::error::ModelError;

pub(super) const DENSE: Family = Family { architecture: "qwen3", plan: dense };
pub(super) const MIXTURE: Family = Family { architecture: "qwen3moe", plan: mixture };

fn dense(settings: &mut Settings<'_>) -> Result<Plan, ModelError> {
    Ok(Plan { head_norms: true, ..Plan::common(settings)? })
}

fn mixture(settings: &mut Settings<'_>) -> Result<Plan, ModelError> {
    let count = settings.count("expert_count", MAX_EXPERTS, "from 1 to 1024")?;
    let used = settings.count("expert_used_count", count, "from 1 to expert_count")?;
    // `feed_forward_length` is of dense layers, which these models do not have.
    let ffn = settings.count("expert_feed_forward_length", MAX_WIDTH, "from 1 to 1048576")?;
    let experts = Experts { count: count as usize, used: used as usize };
    Ok(Plan { experts: Some(experts), ffn: ffn as usize, ..dense(settings)? })
}
