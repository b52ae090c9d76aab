//! The second oracle: the models of `candle-transformers`, fed with the tensors of a GGUF under the
//! names and in the order of the published checkpoints. Token by token, because only then its windows
//! are exact (its masks for prompts see one token more).

use std::collections::HashMap;
use std::io::Cursor;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::llama::{Llama3RopeConfig, Llama3RopeType};
use candle_transformers::models::{gemma3, llama, mistral, qwen3, qwen3_moe};
use chrysalis_engine::testing::Recipe;

/// Logits after each token; `None` if Candle does not compute this model.
pub(crate) fn logits(recipe: &Recipe, file: &[u8], ids: &[u32]) -> Option<Vec<Vec<f32>>> {
    let weights = published(recipe, file);
    let vocab = weights["model.embed_tokens.weight"].dim(0).unwrap();
    let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let context = recipe.context as usize;
    let (base, epsilon) = (f64::from(recipe.freq_base), 1e-5);
    let of = recipe;
    match recipe.architecture {
        "llama" if of.window.is_some() => None,
        "llama" if of.heads * of.head_dim != of.hidden => {
            let config = mistral::Config {
                vocab_size: vocab,
                hidden_size: of.hidden,
                intermediate_size: of.ffn,
                num_hidden_layers: of.layers,
                num_attention_heads: of.heads,
                head_dim: Some(of.head_dim),
                num_key_value_heads: of.kv_heads,
                hidden_act: Activation::Silu,
                max_position_embeddings: context,
                rms_norm_eps: epsilon,
                rope_theta: base,
                sliding_window: None,
                use_flash_attn: false,
            };
            let mut model = mistral::Model::new(&config, weights).unwrap();
            Some(each(ids, |id, at| model.forward(id, at)))
        }
        "llama" => {
            let rope_scaling = of.ramp.map(|ramp| Llama3RopeConfig {
                factor: ramp.factor as f32,
                low_freq_factor: ramp.low_freq_factor as f32,
                high_freq_factor: ramp.high_freq_factor as f32,
                original_max_position_embeddings: ramp.original_context as usize,
                rope_type: Llama3RopeType::Llama3,
            });
            let config = llama::Config {
                hidden_size: of.hidden,
                intermediate_size: of.ffn,
                vocab_size: vocab,
                num_hidden_layers: of.layers,
                num_attention_heads: of.heads,
                num_key_value_heads: of.kv_heads,
                use_flash_attn: false,
                rms_norm_eps: epsilon,
                rope_theta: of.freq_base,
                bos_token_id: None,
                eos_token_id: None,
                rope_scaling,
                max_position_embeddings: context,
                tie_word_embeddings: of.tied,
            };
            let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu).unwrap();
            let model = llama::Llama::load(weights, &config).unwrap();
            Some(each(ids, |id, at| model.forward(id, at, &mut cache)))
        }
        "qwen3" => {
            let config = qwen3::Config {
                vocab_size: vocab,
                hidden_size: of.hidden,
                intermediate_size: of.ffn,
                num_hidden_layers: of.layers,
                num_attention_heads: of.heads,
                head_dim: of.head_dim,
                attention_bias: false,
                num_key_value_heads: of.kv_heads,
                max_position_embeddings: context,
                sliding_window: None,
                max_window_layers: 0,
                tie_word_embeddings: of.tied,
                rope_theta: base,
                rms_norm_eps: epsilon,
                use_sliding_window: false,
                hidden_act: Activation::Silu,
            };
            let mut model = qwen3::ModelForCausalLM::new(&config, weights).unwrap();
            Some(each(ids, |id, at| model.forward(id, at)))
        }
        "qwen3moe" => {
            let (num_experts, num_experts_per_tok) = of.experts.unwrap();
            let config = qwen3_moe::Config {
                vocab_size: vocab,
                hidden_size: of.hidden,
                intermediate_size: of.ffn,
                num_hidden_layers: of.layers,
                num_attention_heads: of.heads,
                head_dim: of.head_dim,
                attention_bias: false,
                num_key_value_heads: of.kv_heads,
                max_position_embeddings: context,
                sliding_window: None,
                max_window_layers: 0,
                tie_word_embeddings: of.tied,
                rope_theta: base,
                rms_norm_eps: epsilon,
                use_sliding_window: false,
                hidden_act: Activation::Silu,
                decoder_sparse_step: 1,
                moe_intermediate_size: of.ffn,
                num_experts_per_tok,
                num_experts,
                norm_topk_prob: true,
            };
            let mut model = qwen3_moe::ModelForCausalLM::new(&config, weights).unwrap();
            Some(each(ids, |id, at| model.forward(id, at)))
        }
        // It does not know the scaled positions of the larger ones.
        "gemma3" if of.stretch.is_none() => {
            let config = gemma3::Config {
                attention_bias: false,
                head_dim: of.head_dim,
                hidden_activation: Activation::GeluPytorchTanh,
                hidden_size: of.hidden,
                intermediate_size: of.ffn,
                num_attention_heads: of.heads,
                num_hidden_layers: of.layers,
                num_key_value_heads: of.kv_heads,
                rms_norm_eps: epsilon,
                rope_theta: base,
                rope_local_base_freq: 10_000.0,
                vocab_size: vocab,
                final_logit_softcapping: None,
                attn_logit_softcapping: None,
                query_pre_attn_scalar: of.head_dim,
                sliding_window: of.window.unwrap() as usize,
                sliding_window_pattern: 6,
                max_position_embeddings: context,
            };
            let mut model = gemma3::Model::new(false, &config, weights).unwrap();
            Some(each(ids, |id, at| model.forward(id, at)))
        }
        _ => None,
    }
}

fn each(
    ids: &[u32],
    mut forward: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Vec<Vec<f32>> {
    let mut after = |(at, id): (usize, &u32)| {
        let id = Tensor::new(&[[*id]], &Device::Cpu).unwrap();
        forward(&id, at).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    ids.iter().enumerate().map(&mut after).collect()
}

/// The tensors as the published checkpoint has them.
pub(crate) fn published(recipe: &Recipe, file: &[u8]) -> HashMap<String, Tensor> {
    let mut reader = Cursor::new(file);
    let content = Content::read(&mut reader).unwrap();
    let mut out = HashMap::new();
    let names: Vec<String> = content.tensor_infos.keys().cloned().collect();
    for name in names {
        let stored = content.tensor(&mut reader, &name, &Device::Cpu).unwrap();
        let mut tensor = stored.dequantize(&Device::Cpu).unwrap();
        let short = name.trim_end_matches(".weight");
        let Some((block, part)) = short.strip_prefix("blk.").and_then(|rest| rest.split_once('.'))
        else {
            let name = match short {
                "token_embd" => "model.embed_tokens",
                "output_norm" => "model.norm",
                "output" => "lm_head",
                // It is told the numbers the factors come from.
                "rope_freqs" => continue,
                other => panic!("{other}"),
            };
            out.insert(format!("{name}.weight"), one_less(recipe, tensor));
            continue;
        };
        let at = format!("model.layers.{block}");
        if let Some(part) = part.strip_suffix("_exps") {
            let part = part.strip_prefix("ffn_").unwrap();
            for expert in 0..tensor.dim(0).unwrap() {
                let name = format!("{at}.mlp.experts.{expert}.{part}_proj.weight");
                out.insert(name, tensor.get(expert).unwrap());
            }
            continue;
        }
        let heads = match part {
            "attn_q" => recipe.heads,
            "attn_k" => recipe.kv_heads,
            _ => 0,
        };
        if heads > 0 && recipe.architecture == "llama" {
            // Neighbours back to halves.
            let columns = tensor.dim(1).unwrap();
            let rows = tensor.reshape((heads, recipe.head_dim / 2, 2, columns)).unwrap();
            tensor = rows.transpose(1, 2).unwrap().contiguous().unwrap();
            tensor = tensor.reshape((heads * recipe.head_dim, columns)).unwrap();
        }
        let gemma = recipe.architecture == "gemma3";
        let part = match part {
            "attn_norm" => "input_layernorm",
            "attn_q" => "self_attn.q_proj",
            "attn_k" => "self_attn.k_proj",
            "attn_v" => "self_attn.v_proj",
            "attn_output" => "self_attn.o_proj",
            "attn_q_norm" => "self_attn.q_norm",
            "attn_k_norm" => "self_attn.k_norm",
            "post_attention_norm" => "post_attention_layernorm",
            "ffn_norm" if gemma => "pre_feedforward_layernorm",
            "ffn_norm" => "post_attention_layernorm",
            "post_ffw_norm" => "post_feedforward_layernorm",
            "ffn_gate_inp" => "mlp.gate",
            "ffn_gate" => "mlp.gate_proj",
            "ffn_up" => "mlp.up_proj",
            "ffn_down" => "mlp.down_proj",
            other => panic!("{other}"),
        };
        out.insert(format!("{at}.{part}.weight"), one_less(recipe, tensor));
    }
    out
}

/// Published norms of Gemma are one less than those of the file.
fn one_less(recipe: &Recipe, tensor: Tensor) -> Tensor {
    let norm = recipe.architecture == "gemma3" && tensor.rank() == 1;
    if norm { (tensor - 1.0).unwrap() } else { tensor }
}
