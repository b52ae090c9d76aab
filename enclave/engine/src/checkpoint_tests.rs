//! A checkpoint written from a GGUF file of 16-bit weights is the same model, bit for bit; what is
//! missing, said twice or not computed is refused.

use candle_core::quantized::GgmlDType;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::EngineError;
use crate::engine::load;
use crate::error::TemplateError;
use crate::probe::Probe;
use crate::request::Role;
use crate::testing::{Hub as Files, Published, Recipe, chat, checkpoint as read, shard, text};

#[path = "checkpoint_mixture_tests.rs"]
mod mixtures;

fn model() -> Recipe {
    Recipe::smollm2().quantised(GgmlDType::F16)
}

fn refusal(files: &Files) -> ModelError {
    match read(files) {
        Err(EngineError::Model(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the checkpoint was accepted"),
    }
}

/// The checkpoint with a value of a file of JSON replaced.
fn edited(recipe: &Recipe, file: &str, pointer: &str, value: serde_json::Value) -> Files {
    let mut files = recipe.checkpoint();
    let mut json: serde_json::Value = serde_json::from_slice(&files[file]).unwrap();
    match json.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => drop(json.as_object_mut().unwrap().insert(pointer[1..].to_owned(), value)),
    }
    files.insert(file.to_owned(), serde_json::to_vec(&json).unwrap());
    files
}

fn with(file: &str, pointer: &str, value: serde_json::Value) -> Files {
    edited(&model(), file, pointer, value)
}

#[test]
fn a_checkpoint_of_every_family_computes_what_the_gguf_file_of_its_weights_does() {
    for recipe in Recipe::all() {
        for dtype in [GgmlDType::F16, GgmlDType::BF16] {
            let recipe = recipe.clone().quantised(dtype);
            let file = recipe.build();
            let ours = read(&recipe.checkpoint()).unwrap();
            let theirs = Probe::of(load(&mut &file[..], file.len() as u64, None).unwrap());
            let input = chat(&[(Role::User, "hello 12 <|im_end|> <think> é, and so on and on")]);
            let ids = theirs.ids(&input).unwrap();
            assert_eq!(ours.ids(&input).unwrap(), ids);
            let logits = |probe: &Probe| probe.session().feed_each(&ids).unwrap();
            assert_eq!(logits(&ours), logits(&theirs), "{} {dtype:?}", recipe.name);
        }
    }
}

#[test]
fn weights_in_single_precision_are_read_too() {
    for recipe in Recipe::all() {
        let (file, ids) = (recipe.build(), [5, 6, 7, 8, 9]);
        let ours = read(&recipe.checkpoint()).unwrap().session().feed_each(&ids).unwrap();
        let theirs = Probe::load(&file).unwrap().session().feed_each(&ids).unwrap();
        assert_eq!(ours, theirs, "{}", recipe.name);
    }
}

#[test]
fn a_tied_model_may_bring_its_embedding_twice_and_an_untied_one_must_bring_both() {
    for recipe in [Recipe::qwen3(), Recipe::gemma3()].map(|r| r.quantised(GgmlDType::F16)) {
        let untied = Recipe { tied: false, ..recipe.clone() };
        let expected = |recipe: &Recipe| {
            Probe::load(&recipe.build()).unwrap().session().feed(&[5, 6, 7], 3).unwrap()
        };
        let logits = |files: &Files| read(files).unwrap().session().feed(&[5, 6, 7], 3).unwrap();
        assert_eq!(logits(&untied.checkpoint()), expected(&untied));
        // As published Qwen3 0.6B does: the second one is not looked at.
        let twice = edited(&untied, "config.json", "/tie_word_embeddings", json!(true));
        assert_eq!(logits(&twice), expected(&recipe));
        let once = edited(&recipe, "config.json", "/tie_word_embeddings", json!(false));
        let name = "lm_head.weight".to_owned();
        assert_eq!(refusal(&once), ModelError::TensorMissing { name });
    }
    // What the classes say when the file does not.
    let silent =
        |recipe: &Recipe| edited(recipe, "config.json", "/tie_word_embeddings", json!(null));
    assert!(read(&silent(&Recipe::gemma3())).is_ok());
    assert!(matches!(refusal(&silent(&Recipe::qwen3())), ModelError::TensorMissing { .. }));
}

#[test]
fn newer_files_say_the_same_in_other_words() {
    let base = Recipe::gemma3_scaled().quantised(GgmlDType::BF16);
    let logits = |files: &Files| read(files).unwrap().session().feed(&[5, 6, 7, 8], 4).unwrap();
    let expected = logits(&base.checkpoint());
    let mut files = base.checkpoint();
    let mut config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
    let keys = config.as_object_mut().unwrap();
    for key in ["rope_scaling", "rope_theta", "rope_local_base_freq", "sliding_window_pattern"] {
        keys.remove(key);
    }
    let kind = |n: u32| if n.is_multiple_of(6) { "full_attention" } else { "sliding_attention" };
    keys.insert("layer_types".into(), (1..=7).map(kind).collect());
    let kinds = json!({
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    });
    keys.insert("rope_parameters".into(), kinds);
    files.insert("config.json".into(), serde_json::to_vec(&config).unwrap());
    assert_eq!(logits(&files), expected);
    config["layer_types"][0] = json!("full_attention");
    files.insert("config.json".into(), serde_json::to_vec(&config).unwrap());
    assert!(matches!(refusal(&files), ModelError::UnsupportedFeature { feature }
        if feature == "layer_types (config.json)"));
}

#[test]
fn the_scale_of_attention_is_what_the_file_says() {
    let recipe = Recipe::gemma3();
    let logits = |scalar: u32| {
        let files = edited(&recipe, "config.json", "/query_pre_attn_scalar", json!(scalar));
        read(&files).unwrap().session().feed(&[5, 6, 7, 8], 4).unwrap()
    };
    assert_ne!(logits(16), logits(64));
    let none = edited(&recipe, "config.json", "/query_pre_attn_scalar", json!(0));
    assert!(matches!(refusal(&none), ModelError::MetadataInvalid { .. }));
}

#[test]
fn pieces_joined_by_a_list_are_those_that_their_scores_give() {
    let recipe = Recipe::gemma3().with_pieces();
    let (ours, theirs) =
        (read(&recipe.checkpoint()).unwrap(), Probe::load(&recipe.build()).unwrap());
    for case in [
        "hello world",
        "  the   cell\n\nat  the  tower",
        "hellollohel",
        "é 漢\u{2581} <think> \u{2581}a",
        " ",
        "w",
        "<|im_end|>hello",
        "\n\n\n",
        "Zoe",
    ] {
        let ids = ours.ids(&text(case)).unwrap();
        assert_eq!(ids, theirs.ids(&text(case)).unwrap(), "{case:?}");
        assert_eq!(ours.decode(&ids), case.as_bytes());
    }
}

#[test]
fn an_added_token_that_has_no_row_is_text_and_one_of_the_vocabulary_is_refused() {
    let recipe = Recipe::gemma3().with_pieces();
    let theirs = Probe::load(&recipe.build()).unwrap();
    let (file, rows) = ("tokenizer.json", recipe.vocab.unwrap());
    let mut tokens: serde_json::Value = serde_json::from_slice(&recipe.checkpoint()[file]).unwrap();
    let image = json!({"id": rows, "content": "<image_soft_token>", "special": true});
    tokens["added_tokens"].as_array_mut().unwrap().push(image);
    let ours = read(&edited(&recipe, file, "/added_tokens", tokens["added_tokens"].clone()));
    let ours = ours.unwrap();
    let input = chat(&[(Role::User, "hello <image_soft_token> world")]);
    let ids = theirs.ids(&input).unwrap();
    assert_eq!(ours.ids(&input).unwrap(), ids);
    let logits = |probe: &Probe| probe.session().feed_each(&ids).unwrap();
    assert_eq!(logits(&ours), logits(&theirs));

    let vocab = tokens["model"]["vocab"].as_object_mut().unwrap();
    vocab.insert("<image_soft_token>".to_owned(), json!(rows));
    let refused = refusal(&edited(&recipe, file, "/model/vocab", tokens["model"]["vocab"].clone()));
    assert!(matches!(refused, ModelError::TokenizerInvalid { .. }), "{refused:?}");
}

#[test]
fn turns_end_with_every_token_that_a_file_names_for_it() {
    let ends = |files: &Files| read(files).unwrap().parts().1.ends();
    let generation = |ids: serde_json::Value| {
        let mut files = with("config.json", "/eos_token_id", json!([2, 7]));
        let file = json!({"eos_token_id": ids, "temperature": 0.6, "do_sample": true});
        files.insert("generation_config.json".into(), serde_json::to_vec(&file).unwrap());
        files
    };
    // The first and the third are known by their names.
    assert_eq!(ends(&model().checkpoint()), [0, 2]);
    assert_eq!(ends(&with("config.json", "/eos_token_id", json!(7))), [0, 2, 7]);
    assert_eq!(ends(&generation(json!([2, 9]))), [0, 2, 7, 9]);
    assert_eq!(ends(&generation(json!(8))), [0, 2, 7, 8]);
    assert_eq!(ends(&generation(json!(null))), [0, 2, 7]);
    let malformed = refusal(&generation(json!([-1])));
    assert!(matches!(malformed, ModelError::Malformed { .. }), "{malformed:?}");
    let outside = refusal(&generation(json!(1_000_000)));
    assert!(matches!(outside, ModelError::TokenizerInvalid { .. }), "{outside:?}");
}

#[test]
fn a_token_that_ends_turns_is_no_text_of_a_message() {
    let id = 3;
    let files = with("config.json", "/eos_token_id", json!([2, id]));
    let probe = read(&files).unwrap();
    let said = chat(&[(Role::User, "a <think> b")]);
    assert!(!probe.ids(&said).unwrap().contains(&id), "a message ends its own turn");
    assert!(read(&model().checkpoint()).unwrap().ids(&said).unwrap().contains(&id));
}

#[test]
fn refuses_a_checkpoint_that_says_of_no_token_that_it_ends_a_turn() {
    let mut files = with("config.json", "/eos_token_id", json!(null));
    files.remove("tokenizer_config.json");
    let named = |files: &Files| String::from_utf8(files["tokenizer.json"].clone()).unwrap();
    let other = named(&files).replace("<|im_end|>", "<|return|>").replace("<|endoftext|>", "<|a|>");
    files.insert("tokenizer.json".to_owned(), other.into_bytes());
    let what = "no token ends a turn";
    assert_eq!(refusal(&files), ModelError::TokenizerInvalid { what });
}

#[test]
fn merges_may_be_pairs_and_the_template_a_file() {
    let mut files = with("tokenizer.json", "/model/merges", json!([["h", "e"], ["l", "l"]]));
    assert!(read(&files).is_ok());
    let without = with("tokenizer_config.json", "/chat_template", json!(null));
    let input = chat(&[(Role::User, "a")]);
    let missing = read(&without).unwrap().ids(&input);
    assert_eq!(missing, Err(EngineError::Template(TemplateError::Missing)));
    files.insert("chat_template.jinja".to_owned(), b"{{ messages[0].content }}".to_vec());
    assert_eq!(read(&files).unwrap().ids(&input).unwrap().len(), 1);
}

#[test]
fn refuses_what_is_missing_by_name() {
    for name in ["config.json", "tokenizer.json"] {
        let mut files = model().checkpoint();
        files.remove(name);
        let refused = refusal(&files);
        let named = match &refused {
            ModelError::FileMissing { name } => name.clone(),
            // The shards cannot be read without it.
            ModelError::Malformed { detail, .. } => detail.clone(),
            other => panic!("{other:?}"),
        };
        assert!(named.contains(name), "{refused:?}");
    }
    let mut files = model().checkpoint();
    files.remove("model-00002-of-00002.safetensors");
    assert!(matches!(refusal(&files), ModelError::TensorMissing { .. }));
    files.remove("model.safetensors.index.json");
    assert!(matches!(refusal(&files), ModelError::TensorMissing { .. }));
}

#[test]
fn refuses_an_index_that_names_another_shard_and_a_tensor_of_two_shards() {
    let mut files = model().checkpoint();
    let index = files["model.safetensors.index.json"].clone();
    let other = String::from_utf8(index).unwrap().replace("00001", "00003");
    files.insert("model.safetensors.index.json".to_owned(), other.into_bytes());
    assert!(
        matches!(refusal(&files), ModelError::Malformed { what, .. } if what.ends_with("index.json"))
    );
    let again = files["model-00001-of-00002.safetensors"].clone();
    files.insert("model-00003-of-00002.safetensors".to_owned(), again);
    assert!(matches!(refusal(&files), ModelError::Duplicate { .. }));
}

#[test]
fn refuses_settings_and_tensors_that_would_be_computed_wrongly() {
    for (recipe, key, value) in [
        (model(), "rope_scaling", json!({"rope_type": "yarn"})),
        (model(), "rope_scaling", json!({"rope_type": "linear", "factor": 2.0, "beta_fast": 1})),
        (model(), "rope_parameters", json!({"partial_rotary_factor": 0.5})),
        (model(), "sliding_window", json!(4096)),
        (model(), "attention_bias", json!(true)),
        (model(), "mlp_bias", json!(true)),
        (model(), "rope_interleaved", json!(true)),
        (model(), "hidden_act", json!("gelu")),
        (model(), "quantization_config", json!({"bits": 4})),
        (model(), "layer_types", json!(["full_attention", "sliding_attention"])),
        (model(), "something_new", json!(0)),
        (Recipe::qwen3(), "use_sliding_window", json!(true)),
        (Recipe::qwen3(), "rope_scaling", Recipe::llama3_1().rope_scaling()),
        (Recipe::gemma3(), "attn_logit_softcapping", json!(50.0)),
        (Recipe::gemma3(), "final_logit_softcapping", json!(30.0)),
        (Recipe::gemma3(), "use_bidirectional_attention", json!(true)),
        (Recipe::gemma3(), "hidden_activation", json!("gelu")),
    ] {
        let refused = refusal(&edited(&recipe, "config.json", &format!("/{key}"), value));
        let named = match &refused {
            ModelError::UnsupportedFeature { feature } => feature,
            other => panic!("{key}: {other:?}"),
        };
        let words = [key, "rope_type", "beta_fast", "partial_rotary_factor"];
        assert!(words.iter().any(|word| named.contains(word)), "{key}: {named}");
    }
    for (recipe, key) in [
        (model(), "hidden_size"),
        (model(), "rms_norm_eps"),
        (Recipe::qwen3(), "head_dim"),
        (Recipe::qwen3(), "num_key_value_heads"),
        (Recipe::gemma3(), "sliding_window"),
        (Recipe::gemma3(), "query_pre_attn_scalar"),
        (Recipe::gemma3(), "rope_theta"),
    ] {
        let refused = refusal(&edited(&recipe, "config.json", &format!("/{key}"), json!(null)));
        let named =
            matches!(&refused, ModelError::Malformed { detail, .. } if detail.contains(key));
        assert!(named, "{key}: {refused:?}");
    }
    let rows = refusal(&with("config.json", "/vocab_size", json!(9)));
    assert!(matches!(rows, ModelError::Malformed { detail, .. } if detail.contains("vocab_size")));
    let refused = refusal(&with("config.json", "/architectures", json!(["MambaForCausalLM"])));
    assert!(matches!(refused, ModelError::UnknownArchitecture { .. }));
    for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.00.mlp.up_proj.weight"] {
        let mut files = model().checkpoint();
        let more = shard(&[(name.to_owned(), "F16", vec![4], vec![0; 8])]);
        files.insert("model-extra.safetensors".to_owned(), more);
        let feature = format!("tensor {name}");
        assert_eq!(refusal(&files), ModelError::UnsupportedFeature { feature });
    }
}

#[test]
fn refuses_two_keys_for_the_same_that_contradict_each_other_and_takes_those_that_agree() {
    let windows = |base: f32| {
        json!({
            "full_attention": {"rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_theta": base},
        })
    };
    let kinds = |new: &str, old: &str| json!({"rope_type": new, "type": old, "factor": 8.0});
    for (recipe, key, same, other, named) in [
        (
            model(),
            "rope_parameters",
            json!({"rope_theta": 500_000.0}),
            json!({"rope_theta": 10_000.0}),
            "rope_theta beside rope_parameters",
        ),
        (
            Recipe::gemma3(),
            "rope_parameters",
            windows(10_000.0),
            windows(20_000.0),
            "rope_local_base_freq beside rope_parameters",
        ),
        (
            Recipe::gemma3(),
            "_sliding_window_pattern",
            json!(6),
            json!(5),
            "sliding_window_pattern beside _sliding_window_pattern",
        ),
        (
            model(),
            "rope_scaling",
            kinds("linear", "linear"),
            kinds("linear", "default"),
            "rope_type beside type",
        ),
    ] {
        let with = |value| edited(&recipe, "config.json", &format!("/{key}"), value);
        assert!(read(&with(same)).is_ok(), "{named}");
        let feature = format!("{named} (config.json)");
        assert_eq!(refusal(&with(other)), ModelError::UnsupportedFeature { feature });
    }
}

#[test]
fn refuses_a_tokenizer_that_we_would_apply_otherwise() {
    for (pointer, value) in [
        ("/normalizer", json!({"type": "NFC"})),
        ("/normalizer", json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]})),
        ("/model/ignore_merges", json!(true)),
        ("/model/dropout", json!(0.1)),
        ("/model/byte_fallback", json!(true)),
        ("/model/continuing_subword_prefix", json!("##")),
        ("/added_tokens/0/lstrip", json!(true)),
        ("/post_processor", json!({"type": "RobertaProcessing"})),
        ("/pre_tokenizer", json!(null)),
        ("/pre_tokenizer/pretokenizers/0/individual_digits", json!(false)),
        ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true)),
        ("/model/type", json!("Unigram")),
    ] {
        let refused = refusal(&with("tokenizer.json", pointer, value));
        assert!(matches!(refused, ModelError::TokenizerUnsupported { .. }), "{pointer}");
    }
    let twice = json!([{"id": 0, "content": "another", "special": true}]);
    for (pointer, value) in [("/added_tokens", twice), ("/model/merges", json!(["q"]))] {
        let refused = refusal(&with("tokenizer.json", pointer, value));
        assert!(matches!(refused, ModelError::TokenizerInvalid { .. }), "{pointer}");
    }
}

#[test]
fn refuses_a_file_of_text_one_byte_over_the_limit_before_reading_it() {
    let mut checkpoint = Checkpoint::default();
    let pool = Pool::new(None);
    let mut take = |len| checkpoint.file("config.json", len, &mut &b"{"[..], &pool);
    assert!(matches!(take(MAX_JSON_BYTES), Err(ModelError::Malformed { .. })));
    assert!(matches!(take(MAX_JSON_BYTES + 1), Err(ModelError::Limit { .. })));
}

/// One change to a file: bytes of another value, cut off, left out, or said twice.
fn changed(bytes: &[u8], at: prop::sample::Index, kind: u8, value: u8) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = at.index(out.len());
    match kind {
        0 => out[at] = value,
        1 => out[at] ^= 1 << (value % 8),
        2 => out.truncate(at),
        3 => drop(out.drain(at..(at + usize::from(value)).min(bytes.len()))),
        _ => {
            let end = (at + usize::from(value)).min(bytes.len());
            out.splice(at..at, bytes[at..end].iter().copied());
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A model that is read after all computes, whatever it is.
    #[test]
    fn any_change_to_a_file_is_refused_or_computed(
        family in 0usize..5,
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..5, any::<u8>()), 1..4),
    ) {
        let recipe = [
            Recipe::llama3_1(),
            Recipe::mistral(),
            Recipe { tied: false, ..Recipe::qwen3() },
            Recipe::gemma3_scaled().with_pieces(),
            Recipe::qwen3_moe(),
        ][family].clone();
        let mut files = Recipe { layers: 1, ..recipe }.checkpoint();
        // The headers of shards are what can be wrong about them: the first four hundred bytes.
        let path = files.keys().nth(file.index(files.len())).unwrap().clone();
        let head = if path.ends_with(".safetensors") { 400 } else { usize::MAX };
        let bytes = files[&path].clone();
        let (mut first, rest) = {
            let (first, rest) = bytes.split_at(head.min(bytes.len()));
            (first.to_vec(), rest.to_vec())
        };
        for (at, kind, value) in changes {
            if !first.is_empty() {
                first = changed(&first, at, kind, value);
            }
        }
        first.extend_from_slice(&rest);
        files.insert(path, first);
        if let Ok(model) = read(&files) {
            let Ok(ids) = model.ids(&text("hello 12 <think>")) else { return Ok(()) };
            drop(model.session().feed(&ids, ids.len()));
        }
    }
}
