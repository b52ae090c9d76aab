//! Checkpoints that the tests write are those that others read: their tensors are the ones Candle's models
//! are fed with, by name and bit, and its readers of `config.json` find what they look for. So what this
//! engine makes of them (its own tests compare that with GGUF files) is measured by more than itself.

use std::collections::{BTreeMap, HashMap};

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor, safetensors};
use candle_transformers::models::{gemma3, llama, mistral, qwen3, qwen3_moe};
use chrysalis_engine::testing::{Hub, Recipe};

use crate::candle::published;

fn values(tensors: HashMap<String, Tensor>) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let value = |(name, tensor): (String, Tensor)| {
        let flat = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        (name, (tensor.dims().to_vec(), flat.to_vec1().unwrap()))
    };
    tensors.into_iter().map(value).collect()
}

fn tensors(files: &Hub) -> HashMap<String, Tensor> {
    let shards = files.iter().filter(|(path, _)| path.ends_with(".safetensors"));
    shards.flat_map(|(_, bytes)| safetensors::load_buffer(bytes, &Device::Cpu).unwrap()).collect()
}

#[test]
fn a_written_checkpoint_is_what_candle_reads() {
    let mut read = 0;
    for recipe in Recipe::all() {
        let recipe = recipe.quantised(GgmlDType::BF16);
        let files = recipe.checkpoint();
        assert_eq!(values(tensors(&files)), values(published(&recipe, &recipe.build())));

        let config = &files["config.json"];
        let class: serde_json::Value = serde_json::from_slice(config).unwrap();
        let found = match class["architectures"][0].as_str().unwrap() {
            "LlamaForCausalLM" => {
                let read: llama::LlamaConfig = serde_json::from_slice(config).unwrap();
                assert_eq!(read.rope_scaling.is_some(), recipe.ramp.is_some());
                [read.hidden_size, read.num_attention_heads, read.intermediate_size]
            }
            "MistralForCausalLM" => {
                let read: mistral::Config = serde_json::from_slice(config).unwrap();
                assert_eq!(read.sliding_window, recipe.window.map(|window| window as usize));
                [read.hidden_size, read.num_attention_heads, read.intermediate_size]
            }
            "Qwen3ForCausalLM" => {
                let read: qwen3::Config = serde_json::from_slice(config).unwrap();
                assert_eq!(
                    (read.head_dim, read.tie_word_embeddings),
                    (recipe.head_dim, recipe.tied)
                );
                [read.hidden_size, read.num_attention_heads, read.intermediate_size]
            }
            "Qwen3MoeForCausalLM" => {
                let read: qwen3_moe::Config = serde_json::from_slice(config).unwrap();
                let experts = (read.num_experts, read.num_experts_per_tok);
                assert_eq!((Some(experts), read.norm_topk_prob), (recipe.experts, true));
                [read.hidden_size, read.num_attention_heads, read.moe_intermediate_size]
            }
            "Gemma3ForCausalLM" => {
                let read: gemma3::Config = serde_json::from_slice(config).unwrap();
                assert_eq!(read.sliding_window, recipe.window.unwrap() as usize);
                assert_eq!((read.head_dim, read.sliding_window_pattern), (recipe.head_dim, 6));
                [read.hidden_size, read.num_attention_heads, read.intermediate_size]
            }
            other => panic!("{other}"),
        };
        assert_eq!(found, [recipe.hidden, recipe.heads, recipe.ffn], "{}", recipe.name);
        read += 1;
    }
    assert_eq!(read, 9);
}
