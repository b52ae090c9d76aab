//! Models that must be refused, and the sequence cache.

use super::*;
use crate::EngineError;
use crate::family::{MAX_BLOCKS, MAX_WIDTH};
use crate::testing::{Probe, TinyModel, text};

fn refusal(file: &[u8]) -> ModelError {
    match Probe::load(file) {
        Err(EngineError::Model(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the model was accepted"),
    }
}

fn load(mut file: &[u8]) -> Model {
    let len = file.len() as u64;
    let gguf = Gguf::read(&mut file, len).unwrap();
    let weights = |pool: &Pool| Weights::read(&mut file, gguf.len, gguf.tensors(), pool);
    Model::load(&gguf, Pool::new(None), weights).unwrap()
}

#[test]
fn describes_the_model_it_loaded() {
    let file = TinyModel::random(1).build();
    let model = load(&file);
    let info = ModelInfo {
        name: "tiny test model".into(),
        architecture: "llama".into(),
        quantisation: "F32".into(),
        context_tokens: 512,
        vocab: 264,
    };
    assert_eq!(*model.info(), info);
}

#[test]
fn caps_the_context_at_the_limit_of_this_build() {
    let file = TinyModel::random(1).context(MAX_CONTEXT_TOKENS + 1).build();
    let model = load(&file);
    assert_eq!(model.info().context_tokens, MAX_CONTEXT_TOKENS);
}

#[test]
fn refuses_an_unknown_architecture_by_name() {
    let file = TinyModel::random(1).with_text("general.architecture", "mamba").build();
    let got = "mamba".to_owned();
    let supported = "llama, qwen3, qwen3moe, gemma3".to_owned();
    assert_eq!(refusal(&file), ModelError::UnknownArchitecture { got, supported });
}

#[test]
fn refuses_a_missing_and_an_extra_tensor_by_name() {
    let file = TinyModel::random(1).build_with(&[("blk.1.attn_k.weight", &[])]);
    let name = "blk.1.attn_k.weight".to_owned();
    assert_eq!(refusal(&file), ModelError::TensorMissing { name });
    for extra in ["blk.0.ffn_gate.bias", "blk.0.attn_q.bias", "blk.2.attn_q.weight"] {
        let file = TinyModel::random(1).build_with(&[(extra, &[32])]);
        let feature = format!("tensor {extra}");
        assert_eq!(refusal(&file), ModelError::UnsupportedFeature { feature });
    }
}

#[test]
fn refuses_a_tensor_of_another_shape() {
    let file = TinyModel::random(1).build_with(&[("blk.0.attn_k.weight", &[32, 32])]);
    assert!(matches!(refusal(&file), ModelError::TensorShape { expected, got, .. }
        if expected == [16, 32] && got == [32, 32]));
}

#[test]
fn refuses_numbers_that_would_divide_by_zero_or_reserve_all_memory() {
    for (key, value) in [
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", 5),
        ("llama.attention.head_count_kv", 0),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.key_length", 64),
        ("llama.rope.dimension_count", 4),
        ("llama.block_count", 0),
        ("llama.block_count", MAX_BLOCKS + 1),
        ("llama.embedding_length", MAX_WIDTH + 1),
        ("llama.context_length", 0),
    ] {
        let file = TinyModel::random(1).with_number(key, value).build();
        let error = refusal(&file);
        assert!(matches!(error, ModelError::MetadataInvalid { .. }), "{key} {value}: {error}");
    }
}

#[test]
fn refuses_what_candle_would_silently_ignore() {
    for file in [
        TinyModel::random(1).with_text("llama.rope.scaling.type", "yarn").build(),
        TinyModel::random(1).with_number("llama.expert_count", 8).build(),
        TinyModel::random(1).with_number("llama.attention.chunk_size", 128).build(),
    ] {
        assert!(matches!(refusal(&file), ModelError::UnsupportedFeature { .. }));
    }
    assert!(
        Probe::load(&TinyModel::random(1).with_text("llama.rope.scaling.type", "none").build())
            .is_ok()
    );
}

#[test]
fn refuses_a_missing_number_by_name() {
    let file = TinyModel::random(1).without("llama.attention.head_count_kv").build();
    let key = "llama.attention.head_count_kv".to_owned();
    assert_eq!(refusal(&file), ModelError::MetadataMissing { key });
}

#[test]
fn refuses_rotary_settings_that_turn_by_no_finite_angle() {
    let zero = TinyModel::random(1).with_vector("rope_freqs.weight", &[1.0, 1.0, 0.0, 1.0]);
    assert!(matches!(refusal(&zero.build()), ModelError::Weights { .. }));
    for base in [0.0, 0.5, -1.0, f32::NAN, f32::INFINITY] {
        let file = TinyModel::random(1).with_float("llama.rope.freq_base", base).build();
        let error = refusal(&file);
        assert!(matches!(error, ModelError::MetadataInvalid { .. }), "{base}: {error}");
    }
}

#[test]
fn refuses_an_epsilon_that_is_none() {
    for epsilon in [0.0, -1e-5, 1.0, f32::NAN] {
        let key = "llama.attention.layer_norm_rms_epsilon";
        let error = refusal(&TinyModel::random(1).with_float(key, epsilon).build());
        assert!(matches!(error, ModelError::MetadataInvalid { .. }), "{epsilon}: {error}");
    }
}

#[test]
fn prefill_in_chunks_equals_prefill_at_once() {
    let probe = Probe::load(&TinyModel::random(3).build()).unwrap();
    let ids = probe.ids(&text(&"the quick brown fox, hello! ".repeat(8))).unwrap();
    let whole = probe.session().feed(&ids, ids.len()).unwrap();
    for chunk in [1, 7, 64, 128] {
        let chunked = probe.session().feed(&ids, chunk).unwrap();
        for (a, b) in whole.iter().zip(&chunked) {
            assert!((a - b).abs() < 1e-3, "chunk {chunk}: {a} {b}");
        }
    }
}

#[test]
fn sessions_share_weights_and_not_the_cache() {
    let probe = Probe::load(&TinyModel::random(3).build()).unwrap();
    let (mut a, mut b) = (probe.session(), probe.session());
    let first = a.feed(&[5, 6, 7], 8).unwrap();
    b.feed(&[9, 9], 8).unwrap();
    let a4 = a.feed(&[8], 8).unwrap();
    assert_eq!(probe.session().feed(&[5, 6, 7], 8).unwrap(), first);
    let mut again = probe.session();
    again.feed(&[5, 6, 7], 8).unwrap();
    assert_eq!(again.feed(&[8], 8).unwrap(), a4);
}

#[test]
fn refuses_to_feed_past_the_end_of_the_context() {
    let probe = Probe::load(&TinyModel::random(3).context(16).build()).unwrap();
    let mut session = probe.session();
    session.feed(&[5; 16], 16).unwrap();
    assert!(matches!(session.feed(&[5], 1), Err(EngineError::Compute { .. })));
    assert!(matches!(probe.session().feed(&[5; 17], 17), Err(EngineError::Compute { .. })));
}
