//! Embedding models from their folders to vectors, on generated models.

use std::num::NonZeroUsize;

use zeroize::Zeroizing;

use super::*;
use crate::testing::{Files, TinyBert, embed, embed_options, embedder};

fn tiny() -> Embedder {
    embedder(&TinyBert::default().files(), embed_options(2)).unwrap()
}

fn tokens(ids: &[u32]) -> EmbedInput {
    EmbedInput::Tokens(Zeroizing::new(ids.to_vec()))
}

fn text(text: &str) -> EmbedInput {
    EmbedInput::Text(SecretBytes::new(text.as_bytes().to_vec()))
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    vectors.iter().map(|vector| vector.iter().map(|x| x.to_bits()).collect()).collect()
}

const TEXTS: [&str; 6] =
    ["the cat sat.", "the dogs sat.", "a", "zyxwvut", "the cats and the dogs sat", "b c d e f g"];

#[test]
fn a_vector_has_length_one_and_depends_on_its_text() {
    let vectors = embed(&tiny(), &TEXTS).unwrap();
    for (n, vector) in vectors.iter().enumerate() {
        let square: f32 = vector.iter().map(|x| x * x).sum();
        assert!(vector.len() == 32 && (square - 1.0).abs() < 1e-5, "{square}");
        assert!(vectors[..n].iter().all(|other| other != vector));
    }
}

/// Alone, beside others in any order, in steps of different texts, with other threads: the same bits.
#[test]
fn a_vector_does_not_depend_on_the_company_of_its_text() {
    let files = TinyBert::default().files();
    let alone = embedder(&files, embed_options(1)).unwrap();
    let expected: Vec<_> = TEXTS.iter().flat_map(|text| embed(&alone, &[text]).unwrap()).collect();
    for threads in [1, 3] {
        let embedder = embedder(&files, embed_options(threads)).unwrap();
        assert_eq!(bits(&embed(&embedder, &TEXTS).unwrap()), bits(&expected));
        let mut turned: Vec<&str> = TEXTS.iter().rev().copied().collect();
        turned.extend([TEXTS[4]; 100]);
        let mut vectors = embed(&embedder, &turned).unwrap();
        assert!(vectors.split_off(TEXTS.len()).iter().all(|vector| *vector == expected[4]));
        vectors.reverse();
        assert_eq!(bits(&vectors), bits(&expected));
    }
}

#[test]
fn requests_at_the_same_time_get_their_own_vectors() {
    let embedder = tiny();
    let expected = embed(&embedder, &TEXTS).unwrap();
    std::thread::scope(|scope| {
        for (text, expected) in TEXTS.iter().zip(&expected) {
            let embedder = &embedder;
            scope.spawn(move || {
                for _ in 0..20 {
                    let vectors = embed(embedder, &[*text; 7]).unwrap();
                    assert!(vectors.iter().all(|vector| vector == expected));
                }
            });
        }
    });
}

#[test]
fn ids_of_a_text_give_the_vector_of_the_text() {
    let embedder = tiny();
    let tokenizer = &embedder.tokenizer;
    let ids = tokenizer.encode(TEXTS[0], 99).unwrap();
    let request = vec![text(TEXTS[0]), tokens(&ids[1..ids.len() - 1])];
    let embedding = embedder.embed(request).unwrap();
    assert_eq!(embedding.prompt_tokens as usize, 2 * ids.len());
    let vectors = embedding.vectors.blocking_recv().unwrap().unwrap();
    assert_eq!(vectors[0].expose(), vectors[1].expose());
    assert_eq!(format!("{:?}", vectors[0]), "<redacted vector of 32>");
}

#[test]
fn every_limit_of_a_request_holds_one_past_it() {
    let options = EmbedOptions { request_tokens: 40, ..embed_options(1) };
    let embedder = embedder(&TinyBert::default().files(), options).unwrap();
    let refused = |inputs: Vec<EmbedInput>| embedder.embed(inputs).err();
    // Sixteen tokens of a text, two of them around it.
    let long = |count: usize| "a ".repeat(count);
    let error = TextError::TooLong { limit: 16 };
    assert_eq!(refused(vec![text(&long(14))]), None);
    assert_eq!(
        refused(vec![text("a"), text(&long(15))]),
        Some(EngineError::Input { index: 1, error })
    );
    assert_eq!(refused(vec![tokens(&[11; 15])]), Some(EngineError::Input { index: 0, error }));
    // Forty of a request.
    let three = |last: usize| vec![text(&long(14)), text(&long(14)), text(&long(last))];
    assert_eq!(refused(three(6)), None);
    assert_eq!(refused(three(7)), Some(EngineError::InputsTooLong { got: 41, limit: 40 }));
    assert_eq!(refused(Vec::new()), Some(EngineError::InputsEmpty));
    let many = |count: usize| (0..count).map(|_| text("")).collect();
    assert_eq!(refused(many(MAX_INPUTS)), Some(EngineError::InputEmpty { index: 0 }));
    let got = MAX_INPUTS + 1;
    assert_eq!(refused(many(got)), Some(EngineError::TooManyInputs { got }));
    let refusals = [
        (vec![text("a"), tokens(&[])], EngineError::InputEmpty { index: 1 }),
        (vec![EmbedInput::Text(SecretBytes::new(vec![0xff]))], EngineError::NotUtf8 { index: 0 }),
        (
            vec![tokens(&[2])],
            EngineError::Input { index: 0, error: TextError::ControlId { at: 0 } },
        ),
    ];
    for (inputs, error) in refusals {
        assert_eq!(refused(inputs), Some(error));
    }
}

#[test]
fn one_request_more_than_there_are_places_is_busy_and_a_dropped_one_gives_its_place_back() {
    let files = TinyBert::default().files();
    let options = EmbedOptions { max_requests: 2, ..embed_options(1) };
    let embedder = embedder(&files, options).unwrap();
    let long = || (0..MAX_INPUTS).map(|_| text("the cat sat")).collect::<Vec<_>>();
    let held = [embedder.embed(long()).unwrap(), embedder.embed(long()).unwrap()];
    assert_eq!(embedder.embed(long()).err(), Some(EngineError::Busy { limit: 2 }));
    drop(held);
    let free = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        embedder.embed(vec![text("a")]).is_ok()
    });
    assert!(free, "places are not given back");
}

#[test]
fn weights_that_give_no_numbers_are_refused_and_not_answered() {
    let mut files = TinyBert::default().files();
    let weights = &mut files.iter_mut().find(|(path, _)| path == "model.safetensors").unwrap().1;
    // The last table is that of token types, which every text adds.
    let at = weights.len() - 2 * 32 * 4;
    weights[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let embedder = embedder(&files, embed_options(1)).unwrap();
    let refused = embed(&embedder, &["a"]).unwrap_err();
    assert_eq!(refused, EngineError::Compute { stage: "the vector of a text" });
}

#[test]
fn a_text_without_a_vector_fails_its_own_request_and_none_beside_it() {
    let TinyBert { hidden, text_tokens, .. } = TinyBert::default();
    let mut files = TinyBert::default().files();
    let place = |name: &str| files.iter().position(|(path, _)| path == name).unwrap();
    let (weights, tokenizer) = (place("model.safetensors"), place("tokenizer.json"));
    let json: serde_json::Value = serde_json::from_slice(&files[tokenizer].1).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let (rows, dog) = (vocab.len(), vocab["dog"].as_u64().unwrap() as usize);
    let weights = &mut files[weights].1;
    // The last tables are those of words, positions and token types.
    let at = weights.len() - 4 * hidden * (2 + text_tokens + 8 + rows - dog);
    weights[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let damaged = embedder(&files, embed_options(2)).unwrap();
    let others = vec!["the cat sat"; 200];
    let expected = embed(&tiny(), &others).unwrap();
    let all = |texts: &[&str]| damaged.embed(texts.iter().map(|t| text(t)).collect()).unwrap();
    // The second one and the third come while the first is computed.
    let [first, failed, last] = [all(&others), all(&["a", "dog", "a"]), all(&others)];
    let error = EngineError::Compute { stage: "the vector of a text" };
    assert_eq!(failed.vectors.blocking_recv().unwrap().err(), Some(error));
    for beside in [first, last] {
        let vectors = beside.vectors.blocking_recv().unwrap().unwrap();
        let same = vectors.iter().zip(&expected).all(|(a, b)| a.expose() == b.as_slice());
        assert!(same && vectors.len() == expected.len());
    }
}

/// The files with one changed by `edit`.
fn edited(path: &str, edit: impl Fn(&mut serde_json::Value)) -> Files {
    let mut files = TinyBert::default().files();
    let file = &mut files.iter_mut().find(|(name, _)| name == path).unwrap().1;
    let mut json = serde_json::from_slice(file).unwrap();
    edit(&mut json);
    *file = json.to_string().into_bytes();
    files
}

fn load(files: &Files) -> Option<EngineError> {
    embedder(files, embed_options(1)).err()
}

#[test]
fn refuses_a_model_of_which_a_file_is_missing() {
    for missing in [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
    ] {
        let mut files = TinyBert::default().files();
        files.retain(|(path, _)| path != missing);
        let expected = ModelError::FileMissing { name: missing.to_owned() };
        assert_eq!(load(&files), Some(expected.into()));
    }
    let mut files = TinyBert::default().files();
    files.retain(|(path, _)| path != "sentence_bert_config.json");
    assert_eq!(load(&files), None, "the positions there are limit its texts");
}

#[test]
fn refuses_settings_that_would_be_computed_otherwise() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 9] = [
        ("config.json", |c| c["hidden_act"] = "relu".into()),
        ("config.json", |c| c["position_embedding_type"] = "relative_key".into()),
        ("config.json", |c| c["is_decoder"] = true.into()),
        ("1_Pooling/config.json", |c| c["pooling_mode_max_tokens"] = true.into()),
        ("1_Pooling/config.json", |c| c["pooling_mode_cls_token"] = true.into()),
        ("modules.json", |c| c[2]["type"] = "sentence_transformers.models.Dense".into()),
        ("modules.json", |c| c[1]["path"] = "2_Pooling".into()),
        ("modules.json", |c| c[0]["type"] = "sentence_transformers.models.CLIPModel".into()),
        ("sentence_bert_config.json", |c| c["do_lower_case"] = true.into()),
    ];
    for (path, edit) in edits {
        let refused = load(&edited(path, edit));
        let expected =
            matches!(refused, Some(EngineError::Model(ModelError::UnsupportedFeature { .. })));
        assert!(expected, "{path}: {refused:?}");
    }
    let other = load(&edited("config.json", |c| c["architectures"] = serde_json::json!(["X"])));
    assert!(matches!(other, Some(EngineError::Model(ModelError::UnknownArchitecture { .. }))));
    let tokenizer = load(&edited("tokenizer.json", |t| t["model"]["type"] = "BPE".into()));
    assert!(matches!(tokenizer, Some(EngineError::Model(ModelError::WordPiece(_)))));
}

#[test]
fn refuses_files_that_contradict_each_other() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 8] = [
        ("config.json", |c| c["hidden_size"] = 33.into()),
        ("config.json", |c| c["hidden_size"] = 48.into()),
        ("config.json", |c| c["num_attention_heads"] = 3.into()),
        ("config.json", |c| c["num_attention_heads"] = 0.into()),
        ("config.json", |c| c["num_hidden_layers"] = 3.into()),
        ("config.json", |c| c["vocab_size"] = 8.into()),
        ("1_Pooling/config.json", |c| c["word_embedding_dimension"] = 16.into()),
        ("modules.json", |c| drop(c.as_array_mut().unwrap().drain(1..))),
    ];
    for (path, edit) in edits {
        assert!(matches!(load(&edited(path, edit)), Some(EngineError::Model(_))), "{path}");
    }
}

#[test]
fn the_first_token_can_stand_for_the_text() {
    let files = edited("1_Pooling/config.json", |c| {
        c["pooling_mode_cls_token"] = true.into();
        c["pooling_mode_mean_tokens"] = false.into();
    });
    let first = embed(&embedder(&files, embed_options(1)).unwrap(), &TEXTS).unwrap();
    assert!(first != embed(&tiny(), &TEXTS).unwrap());
}

#[test]
fn gelu_and_layer_norm_are_those_of_their_definitions() {
    use crate::kernels::{LayerNorm, Pool, Tiled, gelu, lanes};
    let pool = Pool::new(NonZeroUsize::new(1));
    let values: Vec<f32> = (0..320).map(|i| (i as f32 - 160.0) / 20.0).collect();
    let mut x = Tiled::new(1, 320);
    x.set_row(0, &values);
    gelu(&pool, &lanes(&[0.25; 320]), &mut x);
    for (got, value) in x.row(0, 320).iter().zip(&values) {
        let z = f64::from(*value) + 0.25;
        let expected = 0.5 * z * (1.0 + erf(z / 2f64.sqrt()));
        assert!((f64::from(*got) - expected).abs() < 4e-7 * z.abs().max(1.0), "{z}: {got}");
    }
    let mut x = Tiled::new(1, 320);
    x.set_row(0, &values);
    LayerNorm::new(&[2.0; 320], &[0.5; 320], 1e-12).apply(&pool, &mut x);
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 320.0;
    let square = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 320.0;
    for (got, value) in x.row(0, 320).iter().zip(&values) {
        let expected = 2.0 * (f64::from(*value) - mean) / square.sqrt() + 0.5;
        assert!((f64::from(*got) - expected).abs() < 1e-5);
    }
}

/// By Simpson's rule over a thousand steps.
fn erf(x: f64) -> f64 {
    let step = x / 1000.0;
    let f = |i: i32| (-(step * f64::from(i)).powi(2)).exp();
    let sum: f64 = (1..1000).map(|i| if i % 2 == 1 { 4.0 } else { 2.0 } * f(i)).sum();
    2.0 / std::f64::consts::PI.sqrt() * step / 3.0 * (f(0) + sum + f(1000))
}

/// Where a step is full with the texts of others, nothing of a request is computed, and it owes nothing.
#[test]
fn tokens_of_a_text_count_once_its_vector_is_there() {
    let pool = Pool::new(NonZeroUsize::new(2));
    let mut read = super::files::Files::default();
    for (path, bytes) in TinyBert::default().files() {
        let mut file = std::io::Cursor::new(bytes.as_slice());
        read.file(&path, bytes.len() as u64, &mut file, &pool).unwrap();
    }
    let Loaded { model, tokenizer, .. } = read.finish().unwrap();
    let ids = tokenizer.encode(TEXTS[0], 99).unwrap();
    let len = ids.len() as u32;
    let (mut turns, mut open) = (Turns::new(), HashMap::new());
    let count = |computed: &Arc<AtomicU32>| computed.load(Ordering::Relaxed);
    let mut request = |key: u64, texts: usize| {
        turns.add(key, (0..texts).map(|_| ids.clone()).collect());
        let (answer, vectors) = oneshot::channel();
        let (computed, slot) = (Arc::default(), Slot::take(&Arc::default(), 1).unwrap());
        let request =
            Open { vectors: vec![], texts, computed: Arc::clone(&computed), answer, _slot: slot };
        open.insert(key, request);
        (computed, vectors)
    };
    let [(first, mut vectors), (second, mut other)] = [request(1, 2), request(2, 1)];
    let mut told = vec![(count(&first), count(&second))];
    for _ in 0..3 {
        // One text fills the step.
        compute(&model, &pool, turns.step(ids.len(), |ids| ids.len()), &mut open);
        told.push((count(&first), count(&second)));
    }
    assert_eq!(told, [(0, 0), (len, 0), (len, len), (2 * len, len)]);
    assert_eq!(vectors.try_recv().unwrap().unwrap().len(), 2);
    assert_eq!(other.try_recv().unwrap().unwrap().len(), 1);
}

#[test]
fn all_tokens_of_a_request_were_computed_once_it_is_answered() {
    let embedder = tiny();
    let served = embedder.embed(TEXTS.iter().map(|t| text(t)).collect()).unwrap();
    served.vectors.blocking_recv().unwrap().unwrap();
    assert_eq!(served.computed.load(Ordering::Relaxed), served.prompt_tokens);
}
