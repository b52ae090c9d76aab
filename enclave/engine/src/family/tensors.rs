//! The tensors a plan needs, by name and shape: every one must be there, and no other.

use std::collections::HashMap;

use super::Plan;
use crate::error::ModelError;
use crate::gguf::Gguf;

/// Factors of the rotary frequencies: optional.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Every tensor of `plan` is in the file with its shape, and no other.
pub(crate) fn check(plan: &Plan, gguf: &Gguf) -> Result<(), ModelError> {
    let mut expected = expected(plan);
    // In order of names, so that the same file always gives the same refusal.
    let mut found: Vec<_> = gguf.content.tensor_infos.iter().collect();
    found.sort_by_key(|(name, _)| *name);
    for (name, info) in found {
        let Some(shape) = expected.remove(name) else {
            return Err(ModelError::UnsupportedFeature { feature: format!("tensor {name}") });
        };
        if shape != info.shape.dims() {
            let got = info.shape.dims().to_vec();
            return Err(ModelError::TensorShape { name: name.clone(), expected: shape, got });
        }
    }
    // Tied embeddings: the output matrix is the embedding.
    expected.remove("output.weight");
    expected.remove(ROPE_FREQS);
    expected.into_keys().min().map_or(Ok(()), |name| Err(ModelError::TensorMissing { name }))
}

fn expected(plan: &Plan) -> HashMap<String, Vec<usize>> {
    let Plan { hidden, head_dim, ffn, vocab, .. } = *plan;
    let (query, kv) = (plan.query_width(), plan.kv_width());
    let mut layer = vec![
        ("attn_norm", vec![hidden]),
        ("attn_q", vec![query, hidden]),
        ("attn_k", vec![kv, hidden]),
        ("attn_v", vec![kv, hidden]),
        ("attn_output", vec![hidden, query]),
        ("ffn_norm", vec![hidden]),
    ];
    if plan.head_norms {
        layer.extend([("attn_q_norm", vec![head_dim]), ("attn_k_norm", vec![head_dim])]);
    }
    if plan.after_norms {
        let after = ["post_attention_norm", "post_ffw_norm"];
        layer.extend(after.map(|name| (name, vec![hidden])));
    }
    if let Some(experts) = plan.experts {
        layer.extend([
            ("ffn_gate_inp", vec![experts.count, hidden]),
            ("ffn_gate_exps", vec![experts.count, ffn, hidden]),
            ("ffn_up_exps", vec![experts.count, ffn, hidden]),
            ("ffn_down_exps", vec![experts.count, hidden, ffn]),
        ]);
    } else {
        layer.extend([
            ("ffn_gate", vec![ffn, hidden]),
            ("ffn_up", vec![ffn, hidden]),
            ("ffn_down", vec![hidden, ffn]),
        ]);
    }
    let mut out = HashMap::from([
        ("token_embd.weight".to_owned(), vec![vocab, hidden]),
        ("output_norm.weight".to_owned(), vec![hidden]),
        ("output.weight".to_owned(), vec![vocab, hidden]),
    ]);
    if plan.rope_factors {
        out.insert(ROPE_FREQS.to_owned(), vec![head_dim / 2]);
    }
    for block in 0..plan.layers.len() {
        for (name, shape) in &layer {
            out.insert(format!("blk.{block}.{name}.weight"), shape.clone());
        }
    }
    out
}
