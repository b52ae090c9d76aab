//! Steps on the device, which is the stand-in, against the processor's: every family, every format, many
//! sequences in one step, and what a step costs.

use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device as Candle, Tensor};
use chrysalis_cuda::testing::{device as open, failing};
use chrysalis_wire::manifest::KvCacheType;

use super::*;
use crate::decoder::{Backend, Room, Store};
use crate::request::Role;
use crate::testing::{Probe, Recipe, TinyModel, chat, collect, text};
use crate::{
    CandleEngine, Engine as _, EngineOptions, GenerateRequest, Input, Sampling, Scheduling,
};

const POSITIONS: usize = 75;
/// Between single precision here and there; keys and values are halves in both. Measured 1e-3 at most.
const LARGEST: f32 = 4e-3;

fn ids(count: usize) -> Vec<u32> {
    (0..u32::try_from(count).unwrap()).map(|i| 4 + i * 37 % 256).collect()
}

/// The largest difference between logits.
fn distance(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let rows = a.iter().zip(b);
    let pairs = rows.flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    pairs
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most })
}

fn on_device(file: &[u8]) -> Option<Probe> {
    let device = open().unwrap()?;
    Some(Probe::load(file).unwrap().on(&device).unwrap())
}

#[test]
fn every_family_gives_the_logits_of_the_processor() {
    for recipe in Recipe::all() {
        let file = recipe.build();
        let Some(device) = on_device(&file) else { return };
        let theirs = Probe::load(&file).unwrap().session().feed_each(&ids(POSITIONS)).unwrap();
        let ours = device.session().feed_each(&ids(POSITIONS)).unwrap();
        let distance = distance(&ours, &theirs);
        assert!(distance < LARGEST, "{}: {distance}", recipe.name);
    }
}

/// The same model with every matrix stored as `kind` says, from the values it has now.
fn stored(file: &[u8], kind: impl Fn(&str) -> GgmlDType) -> Vec<u8> {
    let mut source = Cursor::new(file);
    let content = Content::read(&mut source).unwrap();
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let tensor = |name: &String| {
        let tensor = content.tensor(&mut Cursor::new(file), name, &Candle::Cpu).unwrap();
        let values: Tensor = tensor.dequantize(&Candle::Cpu).unwrap();
        let exact = values.dims().len() == 1 || name.ends_with("ffn_gate_inp.weight");
        let kind = if exact { GgmlDType::F32 } else { kind(name) };
        (name.clone(), QTensor::quantize(&values, kind).unwrap())
    };
    let tensors: Vec<_> = names.into_iter().map(tensor).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata: Vec<(&str, &Value)> =
        content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut out = Cursor::new(Vec::new());
    gguf_file::write(&mut out, &metadata, &tensors).unwrap();
    out.into_inner()
}

/// Against the processor with the same values in single precision: activations are not rounded on the
/// device, so only the order of additions differs.
fn check_exact(name: &str, file: &[u8], positions: usize) {
    let Some(device) = on_device(file) else { return };
    let exact = stored(file, |_| GgmlDType::F32);
    let theirs = Probe::load(&exact).unwrap().session().feed_each(&ids(positions)).unwrap();
    let ours = device.session().feed_each(&ids(positions)).unwrap();
    let distance = distance(&ours, &theirs);
    assert!(distance < LARGEST, "{name}: {distance}");
}

const KINDS: [GgmlDType; 10] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
    GgmlDType::F16,
    GgmlDType::BF16,
];

#[test]
fn every_format_gives_the_logits_of_its_values() {
    for kind in KINDS {
        check_exact(&format!("{kind:?}"), &Recipe::qwen3().quantised(kind).build(), 20);
    }
}

#[test]
fn experts_and_windows_give_the_logits_of_their_values_in_blocks() {
    for recipe in [Recipe::qwen3_moe(), Recipe::gemma3()] {
        check_exact(recipe.name, &recipe.quantised(GgmlDType::Q4K).build(), 40);
    }
}

/// As published files have it: values and down projections of a larger format.
#[test]
fn matrices_that_are_fused_may_be_of_several_formats() {
    let kind = |name: &str| match name {
        _ if name.contains("attn_v") => GgmlDType::Q6K,
        _ if name.contains("attn_k") => GgmlDType::Q8_0,
        _ if name.contains("ffn_up") => GgmlDType::F16,
        _ => GgmlDType::Q4K,
    };
    let file = stored(&Recipe::llama().quantised(GgmlDType::F32).build(), kind);
    check_exact("a mixture of formats", &file, 20);
    let kind = |name: &str| {
        if name.contains("gate_exps") { GgmlDType::Q8_0 } else { GgmlDType::Q5_0 }
    };
    let file = stored(&Recipe::qwen3_moe().quantised(GgmlDType::F32).build(), kind);
    check_exact("experts of several formats", &file, 20);
}

#[test]
fn a_token_has_the_same_bits_alone_in_chunks_and_beside_others() {
    for recipe in [Recipe::gemma3(), Recipe::qwen3_moe()] {
        let Some(device) = on_device(&recipe.build()) else { return };
        let ids = ids(70);
        let alone = device.session().feed_each(&ids).unwrap();
        let mut batch = device.batch(3);
        let mut got = Vec::new();
        for (round, chunk) in ids.chunks(23).enumerate() {
            let other: Vec<u32> =
                (0..9).map(|i| 40 + i * (u32::try_from(round).unwrap() + 1)).collect();
            let step: [(usize, &[u32]); 3] = [(2, &other[..4]), (0, chunk), (1, &other)];
            got.extend(batch.step(&step).unwrap().swap_remove(1));
        }
        assert_eq!(got, alone, "{}", recipe.name);
    }
}

/// A step of two sequences, one of which wants logits after two tokens, the other the likeliest token.
#[test]
fn a_step_is_two_copies_and_the_likeliest_token_is_that_of_its_logits() {
    let Some(device) = open().unwrap() else { return };
    let file = Recipe::qwen3().build();
    let backend = Probe::load(&file).unwrap().on(&device).unwrap().backend();
    let Backend::Device(decoder) = &*backend else { panic!("it is on the processor") };
    let known = 264;
    let mut store = decoder.store(&Room::of_pages(8)).unwrap();
    let pages = [PageId(5), PageId(2)];
    let segment = |page: usize, tokens, before, wanted, likeliest| Segment {
        tokens,
        before,
        pages: &pages[page..=page],
        wanted,
        likeliest,
    };
    let mut step = |batch: &[Segment<'_>], wipe: Option<PageId>| {
        wipe.into_iter().for_each(|page| store.wipe(page));
        let before = device.crossings();
        let rows = decoder.step(&mut store, batch, known).unwrap();
        (rows, device.crossings() - before)
    };
    // So that every buffer is large enough, then what is looked at.
    let all = [7u32; 16];
    assert_eq!(step(&[segment(0, &all, 0, 16, false)], None).1, 2);
    let (first, second) = ([9, 10, 11], [12, 13]);
    let logits = [segment(0, &first, 0, 3, false), segment(1, &second, 0, 1, false)];
    let (exact, crossings) = step(&logits, Some(PageId(5)));
    assert_eq!(crossings, 2, "one table, one result");
    let mixed = [segment(0, &first, 0, 2, true), segment(1, &second, 0, 1, false)];
    let (got, crossings) = step(&mixed, None);
    assert_eq!(crossings, 2);
    let row = |row: &Row| match row {
        Row::Logits(logits) => logits.to_vec(),
        Row::Likeliest(_) => panic!("a token"),
    };
    let likeliest = |logits: Vec<f32>| {
        let best = (0..known).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        Some(u32::try_from(best).unwrap())
    };
    for (got, exact) in got.iter().zip(&exact[1..]).take(2) {
        assert!(matches!(got, Row::Likeliest(token) if *token == likeliest(row(exact))));
    }
    assert_eq!(row(&got[2]), row(&exact[3]));
    // A prompt whose answer does not begin yet brings nothing back.
    assert_eq!(step(&[segment(1, &second, 2, 0, false)], None).1, 1);
    assert_eq!(step(&[], Some(PageId(2))).1, 1);
    assert_eq!(step(&[], None).1, 0);
}

#[test]
fn pages_are_wiped_before_the_step_and_only_those() {
    let Some(device) = open().unwrap() else { return };
    let backend = Probe::load(&Recipe::llama().build()).unwrap().on(&device).unwrap().backend();
    let mut store = backend.store(KvCacheType::F16, &Room::of_pages(3)).unwrap();
    let written = |store: &Store| {
        let Store::Device(store) = store else { panic!("it is on the processor") };
        let mut host = device.pinned(store.pages.len()).unwrap();
        device.download(store.pages.all(), &mut host, store.pages.len()).unwrap();
        let bytes = host.bytes().unwrap();
        let page = |page: &[u8]| page.iter().any(|byte| *byte != 0);
        bytes.chunks(bytes.len() / 3).map(page).collect::<Vec<_>>()
    };
    assert_eq!(written(&store), [false; 3], "new pages hold nothing");
    let pages = [PageId(2), PageId(0)];
    let tokens = ids(40);
    let segment =
        Segment { tokens: &tokens, before: 0, pages: &pages, wanted: 0, likeliest: false };
    backend.step(&mut store, &[segment], 264).unwrap();
    assert_eq!(written(&store), [true, false, true]);
    store.wipe(PageId(2));
    backend.step(&mut store, &[], 264).unwrap();
    assert_eq!(written(&store), [true, false, false]);
}

#[test]
fn refuses_tokens_and_pages_that_are_not_there() {
    let Some(device) = open().unwrap() else { return };
    let backend = Probe::load(&Recipe::llama().build()).unwrap().on(&device).unwrap().backend();
    let mut store = backend.store(KvCacheType::F16, &Room::of_pages(2)).unwrap();
    let mut step = |tokens: &[u32], page: usize, wanted| {
        let pages = [PageId(page)];
        let segment = Segment { tokens, before: 0, pages: &pages, wanted, likeliest: true };
        backend.step(&mut store, &[segment], 264).map(|rows| rows.len())
    };
    assert_eq!(step(&[263], 1, 1), Ok(1));
    for refused in [step(&[264], 1, 1), step(&[1], 2, 1), step(&[1], 1, 2), step(&[1; 33], 1, 1)] {
        assert!(matches!(refused, Err(EngineError::Compute { .. })));
    }
}

#[test]
fn a_list_of_pages_that_is_too_long_for_one_launch_is_wiped_in_parts() {
    let Some(device) = open().unwrap() else { return };
    let backend = Probe::load(&Recipe::llama().build()).unwrap().on(&device).unwrap().backend();
    let Backend::Device(decoder) = &*backend else { panic!("it is on the processor") };
    let mut store = decoder.store(&Room::of_pages(8)).unwrap();
    let pages = [0, 1, 2, 3, 4].map(PageId);
    let tokens = ids(5 * 32);
    let batch =
        [Segment { tokens: &tokens, before: 0, pages: &pages, wanted: 0, likeliest: false }];
    decoder.step(&mut store, &batch, 264).unwrap();
    store.most_wipes = 2;
    pages.iter().for_each(|page| store.wipe(*page));
    decoder.step(&mut store, &[], 264).unwrap();
    assert!(store.wipe.is_empty());
    let mut host = device.pinned(store.pages.len()).unwrap();
    device.download(store.pages.all(), &mut host, store.pages.len()).unwrap();
    assert!(host.bytes().unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn the_largest_step_of_an_engine_takes_no_memory_that_was_not_taken_at_the_start() {
    // One of its own, whose memory no other test takes.
    let Some(device) = failing(&[]).unwrap() else { return };
    for recipe in [Recipe::qwen3_moe(), Recipe::gemma3()] {
        let backend = Probe::load(&recipe.build()).unwrap().on(&device).unwrap().backend();
        let Backend::Device(decoder) = &*backend else { panic!("it is on the processor") };
        let room = Room { pages: 20, tokens: 40, wanted: 3, sequences: 2, context: 300 };
        let mut store = decoder.store(&room).unwrap();
        let free = device.free_bytes().unwrap();
        let pages: Vec<PageId> = (0..10).map(PageId).collect();
        let tokens = ids(300);
        for (at, part) in tokens.chunks(39).enumerate() {
            let more = [PageId(19)];
            let segment = |tokens, before, pages, wanted| Segment {
                tokens,
                before,
                pages,
                wanted,
                likeliest: at % 2 == 0,
            };
            let long = segment(part, 39 * at, &pages[..], 2);
            let batch = [long, segment(&tokens[at..=at], at, &more, 1)];
            (0..20).for_each(|page| store.wipe(PageId(page)));
            assert_eq!(decoder.step(&mut store, &batch, 264).unwrap().len(), 3);
        }
        assert_eq!(device.free_bytes().unwrap(), free, "{}", recipe.name);
    }
}

#[test]
fn a_step_that_finds_no_memory_leaves_room_for_the_next_as_it_was() {
    // The first allocations are those of weights and of the store; then the table of a larger step.
    for fails in [4, 5] {
        let define = format!("HOST_FAILS_AT={fails}");
        let Some(device) = failing(&[&define]).unwrap() else { return };
        let backend = Probe::load(&Recipe::llama().build()).unwrap().on(&device).unwrap().backend();
        let mut store = backend.store(KvCacheType::F16, &Room::of_pages(4)).unwrap();
        let (pages, tokens) = ([0, 1].map(PageId), ids(40));
        let mut step = || {
            let segment =
                Segment { tokens: &tokens, before: 0, pages: &pages, wanted: 40, likeliest: false };
            backend.step(&mut store, &[segment], 264).map(|rows| rows.len())
        };
        let refused = EngineError::Compute { stage: "memory of the GPU" };
        assert_eq!(step(), Err(refused), "{fails}");
        assert_eq!(step(), Ok(40), "{fails}");
    }
}

#[test]
fn a_device_that_answers_no_more_ends_the_engine_and_not_one_request_after_the_other() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    let Some(device) = failing(&["FAIL_AT=300"]).unwrap() else { return };
    let options = EngineOptions {
        device: Some(device),
        lost: crate::Lost::new(|error| {
            assert_eq!(error.code(), "E-ENGINE-LOST");
            TOLD.fetch_add(1, Ordering::SeqCst);
        }),
        ..EngineOptions::new(|| 5)
    };
    let engine = CandleEngine::load(&TinyModel::random(7).build(), options).unwrap();
    let all: Vec<_> = ["one", "two"]
        .map(|prompt| engine.generate(request(text(prompt), 400, 0.8)).unwrap())
        .into_iter()
        .map(|generation| collect(generation).end)
        .collect();
    let lost = |end: &Option<Result<_, EngineError>>| {
        matches!(end, Some(Err(EngineError::Lost { code: 719, .. })))
    };
    assert!(all.iter().all(lost), "{all:?}");
    let refused = (0..1000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        engine.generate(request(text("three"), 1, 0.0)).err()
    });
    assert_eq!(refused, Some(EngineError::Stopped));
    drop(engine);
    assert_eq!(TOLD.load(Ordering::SeqCst), 1);
}

fn request(input: Input, max_tokens: u32, temperature: f32) -> GenerateRequest {
    GenerateRequest {
        input,
        sampling: Sampling { temperature, seed: Some(11), ..Sampling::greedy() },
        logit_bias: Vec::new(),
        stop: Vec::new(),
        constraint: None,
        logprobs: None,
        choices: 1,
        max_tokens,
        scheduling: Scheduling::default(),
    }
}

/// The whole engine: scheduler, pages, prefix cache and sampling over the device.
#[test]
fn an_engine_on_the_device_answers_as_one_on_the_processor_does() {
    let Some(device) = open().unwrap() else { return };
    let scripted = TinyModel::scripted(&["Hello", " wide", " world"]).build();
    let (random, greedy) = (TinyModel::random(7).build(), 0.0);
    let options = |device: Option<&Device>| EngineOptions {
        device: device.cloned(),
        ..EngineOptions::new(|| 5)
    };
    for (file, temperature) in [(&scripted, greedy), (&random, greedy), (&random, 0.8)] {
        let answers = |device| {
            let engine = CandleEngine::load(file, options(device)).unwrap();
            let ask = |input| engine.generate(request(input, 24, temperature)).unwrap();
            // All at once: steps hold many.
            let asked: Vec<_> = [
                chat(&[(Role::User, "hello, who is there?")]),
                text(&"a long prompt that fills more than one page. ".repeat(6)),
                text("short"),
            ]
            .into_iter()
            .map(ask)
            .collect();
            asked.into_iter().map(collect).collect::<Vec<_>>()
        };
        let before = device.crossings();
        let (ours, theirs) = (answers(Some(&device)), answers(None));
        assert!(device.crossings() > before, "the device was not asked");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.text(), theirs.text(), "temperature {temperature}");
        }
    }
}

#[test]
fn a_logit_that_is_no_number_ends_the_request_as_on_the_processor() {
    let Some(device) = open().unwrap() else { return };
    let file = TinyModel::random(7).poisoned(b'!').build();
    let options = EngineOptions { device: Some(device), ..EngineOptions::new(|| 5) };
    let engine = CandleEngine::load(&file, options).unwrap();
    let ask = |prompt: &str| collect(engine.generate(request(text(prompt), 4, 0.0)).unwrap()).end;
    let error = EngineError::Compute { stage: "finite logits" };
    assert_eq!(ask("what!"), Some(Err(error)));
    assert!(matches!(ask("what"), Some(Ok(_))), "what comes after it is not spoiled");
}
