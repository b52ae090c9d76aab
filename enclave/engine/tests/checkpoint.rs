//! A checkpoint through the vault: packed, sealed or not, opened as it is verified, and served. It answers
//! as the GGUF file of the same weights does.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Cursor;

use candle_core::quantized::GgmlDType;
use chrysalis_engine::testing::{Collected, Hub, Recipe, chat, collect, text};
use chrysalis_engine::{
    CandleEngine, Engine as _, EngineError, EngineOptions, GenerateRequest, Input, ModelError,
    Role, Sampling, Scheduling,
};
use chrysalis_vault::{
    AssetSource, Bundle, ModelKey, PackFile, PackInput, VaultError, pack, pack_sealed,
};
use chrysalis_wire::Digest;

/// A bundle and its root.
fn packed(files: &Hub, key: Option<&ModelKey>) -> (Vec<u8>, Digest) {
    let file = |(path, bytes): (&String, &Vec<u8>)| {
        PackFile::new(path.clone(), Cursor::new(bytes.clone()))
    };
    let input = PackInput {
        name: "tiny".to_owned(),
        architecture: "tiny".to_owned(),
        quantisation: None,
        tokenizer: AssetSource::File("tokenizer.json".to_owned()),
        chat_template: AssetSource::None,
        licence: None,
        files: files.iter().map(file).collect(),
    };
    let mut out = Cursor::new(Vec::new());
    let report = match key {
        Some(key) => pack_sealed(input, &mut out, key, [3; 32], &|_, _| {}),
        None => pack(input, &mut out, &|_, _| {}),
    };
    (out.into_inner(), report.unwrap().model_root)
}

/// An engine, or why there is none and whether all of the bundle was what its root says.
type Opened = Result<CandleEngine, Box<(EngineError, Result<(), VaultError>)>>;

fn open(bundle: &[u8], root: &Digest, key: Option<&ModelKey>) -> Opened {
    let opened = Bundle::open(Cursor::new(bundle)).unwrap();
    let mut files = opened.files(root, key, &|_, _| {}).unwrap();
    let engine = CandleEngine::open(&mut files, EngineOptions::new(|| 5));
    let finished = files.finish();
    match engine {
        Ok(engine) => {
            finished.unwrap();
            Ok(engine)
        }
        Err(error) => Err(Box::new((error, finished))),
    }
}

fn ask(engine: &CandleEngine, input: Input) -> Collected {
    let request = GenerateRequest {
        input,
        sampling: Sampling::greedy(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        max_tokens: 24,
        constraint: None,
        logprobs: None,
        choices: 1,
        scheduling: Scheduling::default(),
    };
    collect(engine.generate(request).unwrap())
}

#[test]
fn checkpoints_of_every_family_answer_as_their_gguf_files_do_sealed_or_not() {
    let key = ModelKey::generate(|bytes| bytes.fill(7)).unwrap();
    let untied = Recipe { tied: false, ..Recipe::qwen3() };
    for recipe in [
        Recipe::llama3_1(),
        Recipe::smollm2(),
        Recipe::mistral(),
        Recipe::qwen3(),
        untied,
        Recipe::qwen3_moe(),
        Recipe::gemma3_scaled(),
        Recipe::gemma3().with_pieces(),
    ] {
        let recipe = recipe.quantised(GgmlDType::BF16);
        let gguf = CandleEngine::load(&recipe.build(), EngineOptions::new(|| 5)).unwrap();
        for key in [None, Some(&key)] {
            let (bundle, root) = packed(&recipe.checkpoint(), key);
            let Ok(engine) = open(&bundle, &root, key) else { panic!("{}", recipe.name) };
            assert_eq!(engine.info().quantisation, "BF16");
            let inputs = || [chat(&[(Role::User, "hello, who is there?")]), text("the world")];
            for (ours, theirs) in inputs().into_iter().zip(inputs()) {
                assert_eq!(ask(&engine, ours), ask(&gguf, theirs), "{}", recipe.name);
            }
        }
    }
}

#[test]
fn a_checkpoint_with_a_byte_changed_is_refused_by_what_verifies_it() {
    let files = Recipe::qwen3().quantised(GgmlDType::BF16).checkpoint();
    let (bundle, root) = packed(&files, None);
    // In the middle of the weights.
    for at in [bundle.len() / 3, bundle.len() / 2] {
        let mut changed = bundle.clone();
        changed[at] ^= 1;
        let Err(refused) = open(&changed, &root, None) else { panic!("it was loaded") };
        let (error, finished) = *refused;
        assert!(matches!(error, EngineError::Model(ModelError::Read { .. })), "{at}: {error}");
        assert!(finished.is_err());
    }
}
