//! The table, and settings that must be refused.

use super::*;
use crate::EngineError;
use crate::testing::{Probe, Recipe, TinyModel};

fn refusal(recipe: &Recipe) -> ModelError {
    match Probe::load(&recipe.build()) {
        Err(EngineError::Model(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the model was accepted"),
    }
}

#[test]
fn every_recipe_loads_and_every_key_it_does_not_know_is_refused_by_name() {
    for recipe in Recipe::all() {
        assert!(Probe::load(&recipe.build()).is_ok(), "{}", recipe.name);
        for name in ["rope.scaling.attn_factor", "final_logit_softcapping", "attention.causal"] {
            let key = format!("{}.{name}", recipe.architecture);
            let feature = format!("metadata {key}");
            let strange = recipe.clone().with_number(&key, 1);
            assert_eq!(refusal(&strange), ModelError::UnsupportedFeature { feature });
        }
        // A key of another family says nothing about this one.
        assert!(Probe::load(&recipe.with_number("mamba.ssm.state_size", 1).build()).is_ok());
    }
}

#[test]
fn every_recipe_is_refused_without_any_of_its_tensors_and_with_one_of_another_family() {
    for recipe in Recipe::all() {
        for name in recipe.tensors() {
            if ["output.weight", "rope_freqs.weight"].contains(&name.as_str()) {
                continue;
            }
            let error = refusal(&recipe.clone().without_tensor(&name));
            assert_eq!(error, ModelError::TensorMissing { name });
        }
    }
    let sandwich = Recipe { after_norms: true, ..Recipe::qwen3() };
    let feature = "tensor blk.0.post_attention_norm.weight".to_owned();
    assert_eq!(refusal(&sandwich), ModelError::UnsupportedFeature { feature });
    let factors = Recipe { ramp: Recipe::llama3_1().ramp, ..Recipe::qwen3() };
    let feature = "tensor rope_freqs.weight".to_owned();
    assert_eq!(refusal(&factors), ModelError::UnsupportedFeature { feature });
}

#[test]
fn refuses_scalings_of_positions_that_are_not_computed_by_name() {
    for recipe in Recipe::all() {
        let key = format!("{}.rope.scaling.type", recipe.architecture);
        for kind in ["yarn", "longrope", ""] {
            let feature = format!("rope scaling {kind:?} ({key})");
            let error = refusal(&recipe.clone().with_text(&key, kind));
            assert_eq!(error, ModelError::UnsupportedFeature { feature });
        }
    }
    for stretch in [0.5, 0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = refusal(&Recipe { stretch: Some(stretch), ..Recipe::llama() });
        assert!(matches!(error, ModelError::MetadataInvalid { .. }), "{stretch}: {error}");
    }
    // A factor without a type would be left to guess at.
    let guess = Recipe::llama().with_number("llama.rope.scaling.factor", 4);
    assert!(matches!(refusal(&guess), ModelError::UnsupportedFeature { .. }));
    let missing = Recipe::llama().with_text("llama.rope.scaling.type", "linear");
    let key = "llama.rope.scaling.factor".to_owned();
    assert_eq!(refusal(&missing), ModelError::MetadataMissing { key });
}

#[test]
fn refuses_numbers_one_past_their_limits() {
    for (recipe, key, value) in [
        (Recipe::llama(), "llama.attention.head_count", MAX_HEADS + 1),
        (Recipe::llama(), "llama.attention.key_length", MAX_HEAD_DIM + 2),
        (Recipe::llama(), "llama.attention.key_length", 7),
        (Recipe::llama(), "llama.attention.value_length", 10),
        (Recipe::llama(), "llama.attention.sliding_window", 0),
        (Recipe::qwen3_moe(), "qwen3moe.expert_count", MAX_EXPERTS + 1),
        (Recipe::qwen3_moe(), "qwen3moe.expert_used_count", 6),
        (Recipe::qwen3_moe(), "qwen3moe.expert_used_count", 0),
        (Recipe::qwen3_moe(), "qwen3moe.expert_feed_forward_length", MAX_WIDTH + 1),
        (Recipe::gemma3(), "gemma3.attention.sliding_window", 0),
        (Recipe::gemma3(), "gemma3.attention.sliding_window_pattern", 0),
    ] {
        let error = refusal(&recipe.with_number(key, value));
        let named = matches!(&error, ModelError::MetadataInvalid { key: got, .. } if got == key);
        assert!(named, "{key} {value}: {error}");
    }
    // A head of the hidden size over the heads, where that is too large.
    let wide = TinyModel::random(1).with_number("llama.embedding_length", 4 * (MAX_HEAD_DIM + 2));
    assert!(matches!(
        Probe::load(&wide.build()).err(),
        Some(EngineError::Model(ModelError::MetadataInvalid { .. }))
    ));
}

#[test]
fn gemma_is_refused_without_its_base_and_its_window() {
    for key in ["gemma3.rope.freq_base", "gemma3.attention.sliding_window"] {
        let missing = ModelError::MetadataMissing { key: key.to_owned() };
        assert_eq!(refusal(&Recipe::gemma3().without(key)), missing);
    }
}

fn plan(recipe: &Recipe) -> Plan {
    Plan::read(&Gguf::parse(&recipe.build()).unwrap()).unwrap()
}

#[test]
fn gemma_sees_all_in_every_sixth_layer_or_as_the_file_says() {
    let local = |plan: &Plan| -> Vec<bool> {
        plan.layers.iter().map(|layer| layer.window.is_some()).collect()
    };
    let seven = plan(&Recipe::gemma3());
    assert_eq!(local(&seven), [true, true, true, true, true, false, true]);
    assert!(seven.layers.iter().all(|layer| (layer.turning == 1) == layer.window.is_some()));
    let third = Recipe::gemma3().with_number("gemma3.attention.sliding_window_pattern", 3);
    assert_eq!(local(&plan(&third)), [true, true, false, true, true, false, true]);
    let base = Recipe::gemma3().with_float("gemma3.rope.freq_base_swa", 5000.0);
    assert_eq!(plan(&base).turnings[1].base, 5000.0);
    assert_eq!(plan(&Recipe::gemma3_scaled()).turnings[0].stretch, 8.0);
    assert_eq!(plan(&Recipe::gemma3_scaled()).turnings[1].stretch, 1.0);
}

#[test]
fn the_largest_gemma_divides_by_another_root() {
    let scale = |layers| plan(&Recipe { layers, ..Recipe::gemma3() }).attention_scale;
    assert_eq!(scale(61), 1.0 / 4.0);
    assert!((scale(62) - 1.0 / (48.0f32 / 4.0).sqrt()).abs() < 1e-6);
}
