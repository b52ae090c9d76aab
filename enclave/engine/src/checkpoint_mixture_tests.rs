//! Mixtures, whose experts are tensors of their own, and a family under another's name.

use super::*;

/// The mixture with a tensor of its checkpoint under another name, in another shape, or left out.
fn mixture_with(change: impl Fn(&mut Vec<Published>)) -> Files {
    let recipe = Recipe::qwen3_moe();
    let mut files = recipe.checkpoint();
    files.retain(|path, _| !path.contains("safetensors"));
    let mut tensors = recipe.tensors_of_checkpoint();
    change(&mut tensors);
    files.insert("model.safetensors".to_owned(), shard(&tensors));
    files
}

#[test]
fn experts_may_lie_in_any_shards_and_none_may_be_missing_or_too_many() {
    const LAST: &str = "model.layers.1.mlp.experts.4.up_proj.weight";
    let recipe = Recipe::qwen3_moe();
    let logits = |files: &Files| read(files).unwrap().session().feed(&[5, 6, 7], 3).unwrap();
    let expected = Probe::load(&recipe.build()).unwrap().session().feed(&[5, 6, 7], 3).unwrap();
    assert_eq!(logits(&mixture_with(|_| {})), expected);
    // The last experts first.
    let mut files = mixture_with(|tensors| tensors.retain(|t| !t.0.contains(".experts.0.")));
    let all = recipe.tensors_of_checkpoint();
    let firsts: Vec<_> = all.into_iter().filter(|t| t.0.contains(".experts.0.")).collect();
    files.insert("zero.safetensors".to_owned(), shard(&firsts));
    assert_eq!(logits(&files), expected);

    let place = |tensors: &[Published]| tensors.iter().position(|t| t.0 == LAST).unwrap();
    let renamed = |name: &str| {
        refusal(&mixture_with(|tensors| {
            let at = place(tensors);
            tensors[at].0 = name.to_owned();
        }))
    };
    let missing = ModelError::TensorMissing { name: "blk.1.ffn_up_exps.4.weight".to_owned() };
    assert_eq!(renamed("model.layers.1.mlp.experts.5.up_proj.weight"), missing);
    for name in [
        "model.layers.1.mlp.experts.up_proj.weight",
        "model.layers.1.mlp.experts.04.up_proj.weight",
        "model.layers.1.mlp.experts.4.gate.weight",
        "model.layers.1.experts.4.up_proj.weight",
        "model.layers.1.mlp.shared_expert.up_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
    ] {
        let feature = format!("tensor {name}");
        assert_eq!(renamed(name), ModelError::UnsupportedFeature { feature });
    }
    let more = refusal(&mixture_with(|tensors| {
        let mut more = tensors[place(tensors)].clone();
        more.0 = "model.layers.1.mlp.experts.5.up_proj.weight".to_owned();
        tensors.push(more);
    }));
    let feature = "tensor blk.1.ffn_up_exps.5.weight".to_owned();
    assert_eq!(more, ModelError::UnsupportedFeature { feature });
    let flat = refusal(&mixture_with(|tensors| {
        let at = place(tensors);
        tensors[at].2 = vec![tensors[at].2.iter().product()];
    }));
    assert!(matches!(flat, ModelError::TensorShape { name, .. } if name.contains("up_exps.4")));
}

#[test]
fn refuses_mixtures_that_choose_or_count_their_experts_in_another_way() {
    for (key, value) in [
        ("norm_topk_prob", json!(false)),
        // The class's own default.
        ("norm_topk_prob", json!(null)),
        ("decoder_sparse_step", json!(2)),
        ("mlp_only_layers", json!([0])),
        ("shared_expert_intermediate_size", json!(48)),
        ("use_qk_norm", json!(false)),
        ("qkv_bias", json!(true)),
        ("n_shared_experts", json!(1)),
    ] {
        let files = edited(&Recipe::qwen3_moe(), "config.json", &format!("/{key}"), value);
        let feature = format!("{key} (config.json)");
        assert_eq!(refusal(&files), ModelError::UnsupportedFeature { feature });
    }
    for key in ["num_experts", "num_experts_per_tok", "moe_intermediate_size"] {
        let with = |value| {
            refusal(&edited(&Recipe::qwen3_moe(), "config.json", &format!("/{key}"), value))
        };
        let absent = with(json!(null));
        assert!(matches!(absent, ModelError::Malformed { detail, .. } if detail.contains(key)));
        for value in [0, u32::MAX] {
            with(json!(value));
        }
    }
    // What Qwen3-Coder says beside that is how it is computed anyway.
    let mut files = Recipe::qwen3_moe().checkpoint();
    let mut config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
    let more = [("shared_expert_intermediate_size", json!(0)), ("use_qk_norm", json!(true))];
    for (key, value) in more.into_iter().chain([("qkv_bias", json!(false))]) {
        config[key] = value;
    }
    files.insert("config.json".into(), serde_json::to_vec(&config).unwrap());
    assert!(read(&files).is_ok());
}

/// Seed-X: Mistral's architecture without a window, its prompts are texts and no chats.
#[test]
fn seed_x_is_read_as_a_mistral_without_a_chat_template() {
    let recipe = Recipe::llama().quantised(GgmlDType::BF16);
    let mut files = recipe.checkpoint();
    // As published, but for the sizes.
    let config = json!({
        "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 0,
        "eos_token_id": 2, "head_dim": recipe.head_dim, "hidden_act": "silu",
        "hidden_size": recipe.hidden, "initializer_range": 0.02, "intermediate_size": recipe.ffn,
        "max_position_embeddings": recipe.context, "model_type": "mistral",
        "num_attention_heads": recipe.heads, "num_hidden_layers": recipe.layers,
        "num_key_value_heads": recipe.kv_heads, "pad_token_id": 1, "rms_norm_eps": 1e-5,
        "rope_theta": recipe.freq_base, "sliding_window": null, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true,
    });
    files.insert("config.json".into(), serde_json::to_vec(&config).unwrap());
    let settings = json!({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"});
    files.insert("tokenizer_config.json".into(), serde_json::to_vec(&settings).unwrap());
    let ours = read(&files).unwrap();
    let theirs = Probe::load(&recipe.build()).unwrap();
    let prompt = text("Translate the following English sentence into Chinese:\nMay <zh>");
    let ids = ours.ids(&prompt).unwrap();
    assert_eq!(ids, theirs.ids(&prompt).unwrap());
    let logits = |probe: &Probe| probe.session().feed_each(&ids).unwrap();
    assert_eq!(logits(&ours), logits(&theirs));
    let chat = ours.ids(&chat(&[(Role::User, "May")]));
    assert_eq!(chat, Err(EngineError::Template(TemplateError::Missing)));
}
