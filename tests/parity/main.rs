//! Every family against independent implementations, and against itself in other company.
//!
//! The reference is exact: weights as the file says, dequantised, everything else in `f64` by numpy
//! (`reference.py`). Candle's models are the second oracle where it has the family, llama.cpp is the
//! third, which `scripts/parity` brings. Limits are from measurements on these models: about twice
//! what was measured, so that rounding passes and a wrong term does not.
//! `an_error_in_the_graph_is_far_outside_the_limits` holds them to that.
//!
//! What is asked of parity, by number, as rows of the report have it:
//!
//! | | what | by | limit (measured) |
//! |---|---|---|---|
//! | T1 | tokens and rendered talks are those of others | `tokens`, `templates`, `greedy_parity.rs` | equal |
//! | T2 | nothing rounded but keys and values (f16) | `logits_of_every_family_equal_candles`, dense rows of `…_in_every_format_…` | logit 1e-2 (8.9e-3); no likeliest token turned over a margin of 2e-3 (8.3e-4) |
//! | T3 | quantised, made-up weights | the other rows of it | mean KL 1e-2 (8.5e-4), largest 0.2 (3.1e-3), margin 0.75 (0.15) |
//! | T3 | quantised, the default model, 384 tokens | `logits_of_the_default_model_…` | perplexity 0.99 to 1.01 of the exact (0.994; with keys in q8_0 0.98 to 1.03: 1.017), mean KL 1e-2 (6.1e-3), largest 0.2 (0.06; first two positions 0.8), same likeliest token 0.93 (0.97), margin 0.75 (0.41) |
//! | T4 | any number of threads, any chunks | `…_the_same_bits_in_chunks_…`, `…_behind_windows_…` | the same bits |
//! | T5 | alone or beside others | `…_the_same_bits_alone_beside_others_…` | the same bits |
//! | T6 | on a GPU, every family and format | `gpu.rs` | as T2 |
//! | T6 | on a GPU, the default model, 384 tokens | `gpu.rs` | mean KL 1e-4; against transformers in bf16 mean KL 5e-3, same likeliest token 0.97 |
//! | T7 | behind pages that another computed | `…_and_behind_shared_pages` | the same bits |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod candle;
mod checkpoint;
mod distance;
mod embedding;
mod gpu;
#[path = "../../enclave/engine/tests/real/mod.rs"]
mod real;
mod reference;
mod report;
mod templates;
mod tokens;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use candle_core::quantized::GgmlDType;
use chrysalis_engine::testing::{Probe, Recipe, text};
use chrysalis_wire::manifest::KvCacheType;
use distance::{Distance, perplexity_ratio};
use report::{Row, publish};

/// More than three pages, and more than any window of the recipes.
const POSITIONS: usize = 110;
/// Of the licence, through the default model.
const REAL_POSITIONS: usize = 384;

fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| 4 + i * 37 % 256).collect()
}

fn ours(file: &[u8], ids: &[u32]) -> Vec<Vec<f32>> {
    Probe::load(file).unwrap().session().feed_each(ids).unwrap()
}

/// As [`ours`], over keys and values in eight bits.
fn in_eight_bits(file: &[u8], ids: &[u32]) -> Vec<Vec<f32>> {
    let probe = Probe::load(file).unwrap().keeping(KvCacheType::Q8_0);
    probe.session().feed_each(ids).unwrap()
}

fn row(recipe: &Recipe, oracle: &'static str, distance: Distance) -> Row {
    // Rows of a quantised format are wider, and one family has both in F32.
    let model = format!("{}, {} wide", recipe.name, recipe.hidden);
    let rounded = !DENSE.contains(&recipe.dtype) || oracle.contains("q8_0");
    Row {
        test: if rounded { "T3" } else { "T2" },
        model,
        weights: format!("{:?}", recipe.dtype),
        oracle,
        positions: POSITIONS,
        distance,
        perplexity_ratio: None,
    }
}

/// Keys and values are `f16` here and `f32` there, and nothing else is rounded.
const LARGEST_DENSE: f32 = 1e-2;
const MEAN_KL_DENSE: f64 = 2e-6;
/// Of tokens that are the likeliest here and not there: that rounding turns a tie.
const TURNED_MARGIN_DENSE: f32 = 2e-3;

fn check_dense(row: &Row) {
    let Row { model, weights, oracle, distance, .. } = row;
    assert!(distance.largest < LARGEST_DENSE, "{model} {weights} {oracle}: {distance:?}");
    assert!(distance.mean_kl < MEAN_KL_DENSE, "{model} {weights} {oracle}: {distance:?}");
    let margin = distance.largest_turned_margin;
    assert!(margin < TURNED_MARGIN_DENSE, "{model} {weights} {oracle}: {distance:?}");
}

#[test]
fn logits_of_every_family_equal_candles() {
    let mut rows = Vec::new();
    for recipe in Recipe::all() {
        let (file, ids) = (recipe.build(), ids(POSITIONS));
        if let Some(theirs) = candle::logits(&recipe, &file, &ids) {
            rows.push(row(&recipe, "candle", Distance::of(&ours(&file, &ids), &theirs)));
        }
    }
    publish("candle", &rows);
    assert_eq!(rows.len(), 7, "Candle computes all but the window of Mistral and scaled Gemma");
    rows.iter().for_each(check_dense);
}

/// Those a file of one family has its matrices in.
const DENSE: [GgmlDType; 3] = [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16];
const QUANTISED: [GgmlDType; 8] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// Rounding of activations to eight bits.
const MEAN_KL: f64 = 1e-2;
const MAX_KL: f64 = 0.2;
/// Of the default model's first two positions. The second is far from certain (its likeliest token has
/// 0.9 %), and the first tokens of a text drive a few channels to extremes, which eight bits for a
/// block of activations cannot hold. It is the rounding and not this engine: llama.cpp (0.3.36 of its
/// Python package), on the same file and text, is 0.52 away there and at most 0.07 later.
const MAX_KL_AT_THE_START: f64 = 0.8;
const SAME_FIRST: f64 = 0.93;
const TURNED_MARGIN: f32 = 0.75;
const PERPLEXITY_RATIO: RangeInclusive<f64> = 0.99..=1.01;
/// Measured 1.0165, and 384 tokens tell it to about a hundredth: that cache is a choice, and not the default.
const PERPLEXITY_RATIO_EIGHT: RangeInclusive<f64> = 0.98..=1.03;

#[test]
fn logits_of_every_family_in_every_format_are_near_exact_arithmetic() {
    let Some(python) = reference::python() else { return };
    let ids = ids(POSITIONS);
    let mut recipes = Vec::new();
    for recipe in Recipe::all() {
        recipes.push(recipe.clone());
        let types = DENSE.iter().chain(&QUANTISED);
        recipes.extend(types.map(|dtype| recipe.clone().quantised(*dtype)));
    }
    let files: Vec<Vec<u8>> = recipes.iter().map(Recipe::build).collect();
    let jobs: Vec<(&[u8], &[u32])> = files.iter().map(|file| (&file[..], &ids[..])).collect();
    let exact = reference::logits(&python, &jobs);
    let rows: Vec<Row> = recipes
        .iter()
        .zip(&files)
        .zip(&exact)
        .map(|((recipe, file), exact)| row(recipe, "numpy", Distance::of(&ours(file, &ids), exact)))
        .collect();
    publish("numpy", &rows);
    for (recipe, row) in recipes.iter().zip(&rows) {
        if DENSE.contains(&recipe.dtype) {
            check_dense(row);
            continue;
        }
        let Row { model, weights, distance, .. } = row;
        assert!(distance.mean_kl < MEAN_KL, "{model} {weights}: {distance:?}");
        // Of a mixture single tokens go far astray: rounding turns a near-tie of the router, and another
        // expert answers. llama.cpp goes as far on the same files (largest KL up to 0.66, with F16 below
        // 1e-5). On the average it is held to the same limit.
        if recipe.experts.is_none() {
            let margin = distance.largest_turned_margin;
            assert!(distance.max_kl < MAX_KL, "{model} {weights}: {distance:?}");
            assert!(margin < TURNED_MARGIN, "{model} {weights}: {distance:?}");
        }
    }
}

/// Keys and values in eight bits, and nothing else rounded. Measured at most 0.24 and 2.4e-4; of the mixture,
/// whose router's near-ties they turn as rounded activations do, 2.9 and 6.1e-3.
const LARGEST_EIGHT: f32 = 0.5;
const MEAN_KL_EIGHT: f64 = 5e-4;

fn check_eight(recipe: &Recipe, row: &Row) {
    let Row { model, weights, distance, .. } = row;
    if DENSE.contains(&recipe.dtype) && recipe.experts.is_none() {
        assert!(distance.largest < LARGEST_EIGHT, "{model} {weights}: {distance:?}");
        assert!(distance.mean_kl < MEAN_KL_EIGHT, "{model} {weights}: {distance:?}");
    }
    assert!(distance.mean_kl < MEAN_KL, "{model} {weights}: {distance:?}");
    assert!(distance.largest > 0.0, "{model} {weights}: it is the same cache");
}

#[test]
fn logits_over_keys_and_values_in_eight_bits_are_near_exact_arithmetic() {
    let Some(python) = reference::python() else { return };
    let ids = ids(POSITIONS);
    let recipes: Vec<Recipe> = both().collect();
    let files: Vec<Vec<u8>> = recipes.iter().map(Recipe::build).collect();
    let jobs: Vec<(&[u8], &[u32])> = files.iter().map(|file| (&file[..], &ids[..])).collect();
    let exact = reference::logits(&python, &jobs);
    let mut rows = Vec::new();
    for ((recipe, file), exact) in recipes.iter().zip(&files).zip(&exact) {
        rows.push(row(recipe, "numpy, q8_0", Distance::of(&in_eight_bits(file, &ids), exact)));
    }
    publish("q8_0", &rows);
    recipes.iter().zip(&rows).for_each(|(recipe, row)| check_eight(recipe, row));
}

/// Without another program: how far eight bits are from sixteen.
#[test]
fn logits_over_keys_and_values_in_eight_bits_are_near_those_over_sixteen() {
    let ids = ids(POSITIONS);
    let far = |recipe: &Recipe| {
        let file = recipe.build();
        Distance::of(&in_eight_bits(&file, &ids), &ours(&file, &ids))
    };
    let recipes = Recipe::all();
    let rows: Vec<Row> =
        recipes.iter().map(|recipe| row(recipe, "f16, q8_0", far(recipe))).collect();
    publish("q8_0-f16", &rows);
    recipes.iter().zip(&rows).for_each(|(recipe, row)| check_eight(recipe, row));
}

/// Rounds to about as many bits as this engine does, so neither is much nearer to exact arithmetic.
const LLAMA_SHARE: f64 = 1.5;

/// llama.cpp knows no window in files of the `llama` architecture, which those of Mistral are.
#[test]
fn logits_of_every_family_are_as_near_to_exact_arithmetic_as_those_of_llama_cpp() {
    let (Some(llama), Some(python)) = (reference::llama_python(), reference::python()) else {
        return;
    };
    let ids = ids(POSITIONS);
    let mut recipes = Vec::new();
    for recipe in Recipe::all().into_iter().filter(|recipe| recipe.name != "mistral 0.1") {
        recipes.push(recipe.clone().quantised(GgmlDType::F16));
        recipes.extend(QUANTISED.iter().map(|dtype| recipe.clone().quantised(*dtype)));
    }
    let files: Vec<Vec<u8>> = recipes.iter().map(Recipe::build).collect();
    let jobs: Vec<(&[u8], &[u32])> = files.iter().map(|file| (&file[..], &ids[..])).collect();
    let exact = reference::logits(&python, &jobs);
    let theirs = reference::llama_logits(&llama, &jobs);
    let mut rows = Vec::new();
    let mut worse = Vec::new();
    for (((recipe, file), exact), theirs) in recipes.iter().zip(&files).zip(&exact).zip(&theirs) {
        let (ours, theirs) = (Distance::of(&ours(file, &ids), exact), Distance::of(theirs, exact));
        if ours.mean_kl > LLAMA_SHARE * theirs.mean_kl {
            worse.push(format!("{} {:?}: {ours:?} {theirs:?}", recipe.name, recipe.dtype));
        }
        rows.push(row(recipe, "numpy", ours));
        rows.push(row(recipe, "numpy, by llama.cpp", theirs));
    }
    publish("llama", &rows);
    assert_eq!(rows.len(), 2 * 8 * 9);
    assert!(worse.is_empty(), "{worse:#?}");
}

/// What the limits are worth: another graph over the same tensors.
#[test]
fn an_error_in_the_graph_is_far_outside_the_limits() {
    let ids = ids(POSITIONS);
    let far = |right: &Recipe, wrong: &Recipe| {
        let distance = Distance::of(&ours(&wrong.build(), &ids), &ours(&right.build(), &ids));
        println!("{}: {distance:?}", right.name);
        assert!(distance.largest > 10.0 * LARGEST_DENSE, "{}: {distance:?}", right.name);
        assert!(distance.mean_kl > 10.0 * MEAN_KL_DENSE, "{}: {distance:?}", right.name);
    };
    // A window that is one token longer, or not there.
    let mistral = Recipe::mistral();
    far(&mistral, &Recipe { window: Some(21), ..mistral.clone() });
    far(&mistral, &Recipe { window: None, ..mistral.clone() });
    let gemma = Recipe::gemma3();
    far(&gemma, &Recipe { window: Some(38), ..gemma.clone() });
    // Positions that are scaled, or not; another base.
    far(&gemma, &Recipe::gemma3_scaled());
    far(&gemma, &Recipe { freq_base: 10_000.0, ..gemma.clone() });
    let llama = Recipe::llama3_1();
    far(&llama, &Recipe { ramp: None, ..llama.clone() });
    // One expert for two.
    let mixture = Recipe::qwen3_moe();
    far(&mixture, &Recipe { experts: Some((5, 1)), ..mixture.clone() });
}

#[test]
fn logits_of_the_default_model_are_near_exact_arithmetic() {
    let (Some(python), Some(file)) = (reference::python(), real::model()) else { return };
    let licence = include_str!("../../LICENSE");
    let mut ids = Probe::load(&file).unwrap().ids(&text(licence)).unwrap();
    ids.truncate(REAL_POSITIONS);
    let exact = reference::logits(&python, &[(&file, &ids)]).remove(0);
    let computed = ours(&file, &ids);
    let row = |oracle, computed: &[Vec<f32>]| Row {
        test: "T3",
        model: "SmolLM2-135M-Instruct".to_owned(),
        weights: "Q4_1".to_owned(),
        oracle,
        positions: REAL_POSITIONS,
        distance: Distance::of(computed, &exact),
        perplexity_ratio: Some(perplexity_ratio(computed, &exact, &ids)),
    };
    let eight = in_eight_bits(&file, &ids);
    let rows = [row("numpy", &computed), row("numpy, q8_0", &eight)];
    publish("real", &rows);
    let limits = [PERPLEXITY_RATIO, PERPLEXITY_RATIO_EIGHT];
    for (Row { oracle, perplexity_ratio, .. }, limit) in rows.iter().zip(limits) {
        let near = perplexity_ratio.is_some_and(|ratio| limit.contains(&ratio));
        assert!(near, "{oracle}: perplexity is {perplexity_ratio:?} of the exact one");
    }
    let [distance, of_eight] = rows.map(|row| row.distance);
    assert!(of_eight.mean_kl < MEAN_KL, "{of_eight:?}");
    assert!(Distance::of(&eight[2..], &exact[2..]).max_kl < MAX_KL, "{of_eight:?}");
    assert!(of_eight.same_first > SAME_FIRST, "{of_eight:?}");
    assert!(of_eight.largest_turned_margin < TURNED_MARGIN, "{of_eight:?}");
    assert!(distance.mean_kl < MEAN_KL, "{distance:?}");
    // The first two positions stand apart: 0.55 at the second, and below 0.06 at every later one.
    let later = Distance::of(&computed[2..], &exact[2..]);
    assert!(later.max_kl < MAX_KL, "{later:?}");
    assert!(distance.max_kl < MAX_KL_AT_THE_START, "{distance:?}");
    assert!(distance.same_first > SAME_FIRST, "{distance:?}");
    assert!(distance.largest_turned_margin < TURNED_MARGIN, "{distance:?}");
}

/// Each family as it is and in one quantised format.
fn both() -> impl Iterator<Item = Recipe> {
    Recipe::all().into_iter().flat_map(|r| [r.clone(), r.quantised(GgmlDType::Q4K)])
}

#[test]
fn logits_have_the_same_bits_in_chunks_of_any_size_and_with_any_number_of_threads() {
    for (recipe, kind) in kept() {
        let file = recipe.build();
        let load =
            |threads| Probe::load_with(&file, NonZeroUsize::new(threads)).unwrap().keeping(kind);
        let ids = ids(POSITIONS);
        let expected = load(1).session().feed_each(&ids).unwrap();
        for threads in [1, 3] {
            let probe = load(threads);
            assert_eq!(bits(&probe.session().feed_each(&ids).unwrap()), bits(&expected));
            for chunk in [1, 7, 64] {
                let last = vec![probe.session().feed(&ids, chunk).unwrap()];
                let expected = &expected[POSITIONS - 1..];
                assert_eq!(bits(&last), bits(expected), "{} {kind:?} by {chunk}", recipe.name);
            }
        }
    }
}

#[test]
fn logits_have_the_same_bits_alone_beside_others_and_behind_shared_pages() {
    for (recipe, kind) in kept() {
        let probe = Probe::load(&recipe.build()).unwrap().keeping(kind);
        let ids = ids(POSITIONS);
        let expected = probe.session().feed_each(&ids).unwrap();
        let mut batch = probe.batch(3);
        // Three sequences of different tokens, in steps of different sizes.
        let others: Vec<u32> = ids.iter().rev().copied().collect();
        let mut got = batch.step(&[(1, &others[..9]), (0, &ids[..50])]).unwrap().remove(1);
        let new = [(2, &others[..1]), (0, &ids[50..51]), (1, &others[9..70])];
        got.extend(batch.step(&new).unwrap().remove(1));
        got.extend(batch.step(&[(0, &ids[51..]), (2, &others[1..3])]).unwrap().remove(0));
        assert_eq!(bits(&got), bits(&expected), "{} beside others", recipe.name);
        let before = batch.share(0, 2);
        let got = batch.step(&[(3, &ids[before..])]).unwrap().remove(0);
        assert_eq!(bits(&got), bits(&expected[before..]), "{} behind pages", recipe.name);
    }
}

/// With keys and values in sixteen bits and in eight.
fn kept() -> impl Iterator<Item = (Recipe, KvCacheType)> {
    both().flat_map(|r| [(r.clone(), KvCacheType::F16), (r, KvCacheType::Q8_0)])
}

/// Attention divides a sequence into ranges of 256 tokens, which threads share. Windows that lie in one
/// of them, as long as one, and over two borders.
#[test]
fn logits_behind_windows_over_several_ranges_have_the_same_bits_however_they_are_computed() {
    const LONG: usize = 600;
    let windows = |recipe: Recipe| [20, 256, 300].map(|window| (recipe.clone(), window));
    for ((recipe, window), kind) in [Recipe::mistral(), Recipe::gemma3()]
        .into_iter()
        .flat_map(windows)
        .flat_map(|each| [KvCacheType::F16, KvCacheType::Q8_0].map(|kind| (each.clone(), kind)))
    {
        let recipe = Recipe { window: Some(window), context: 1024, ..recipe };
        let file = recipe.build();
        let load =
            |threads| Probe::load_with(&file, NonZeroUsize::new(threads)).unwrap().keeping(kind);
        let ids = ids(LONG);
        let expected = load(1).session().feed_each(&ids).unwrap();
        for threads in [1, 3] {
            let probe = load(threads);
            let name = format!("{} {kind:?} {window} {threads}", recipe.name);
            // Tokens one by one: their ranges are divided, and some lie before the window.
            let mut alone = probe.session();
            alone.feed(&ids[..LONG - 40], 64).unwrap();
            for (at, id) in ids.iter().enumerate().skip(LONG - 40) {
                let got = alone.feed(&[*id], 1).unwrap();
                assert_eq!(bits(&[got]), bits(&expected[at..=at]), "{name} at {at}");
            }
            let mut batch = probe.batch(2);
            let others: Vec<u32> = ids.iter().rev().copied().collect();
            let mut got = batch.step(&[(1, &others[..9]), (0, &ids[..500])]).unwrap().remove(1);
            got.extend(batch.step(&[(0, &ids[500..501]), (1, &others[9..10])]).unwrap().remove(0));
            got.extend(batch.step(&[(1, &others[10..70]), (0, &ids[501..])]).unwrap().remove(1));
            assert_eq!(bits(&got), bits(&expected), "{name} beside others");
        }
    }
}

fn bits(logits: &[Vec<f32>]) -> Vec<Vec<u32>> {
    logits.iter().map(|row| row.iter().map(|logit| logit.to_bits()).collect()).collect()
}
