//! Drafts change when tokens come, and nothing else. Every request here is answered with and without them
//! and compared bit for bit.

use std::sync::atomic::{AtomicUsize, Ordering};

use chrysalis_engine::testing::Recipe;
use chrysalis_engine::{Constraint, Generation, MAX_CHOICES};
use chrysalis_wire::manifest::KvCacheType;

use super::*;

/// Engines of the same file, without drafts and with them.
fn both(file: &[u8], options: &EngineOptions) -> [CandleEngine; 2] {
    [false, true].map(|drafts| {
        CandleEngine::load(file, EngineOptions { drafts, ..options.clone() }).unwrap()
    })
}

/// What a request was told, choice by choice, in a form that can be compared, bits of probabilities
/// included; then its usage. In how many pieces, and how those of choices mix, is a matter of time.
fn events(mut generation: Generation) -> Vec<String> {
    let mut choices = vec![vec![String::new()]; MAX_CHOICES as usize];
    let mut end = None;
    while let Some(event) = generation.events.blocking_recv() {
        match event {
            Event::Delta(delta) => {
                let choice = &mut choices[delta.choice as usize];
                choice[0].push_str(std::str::from_utf8(delta.text.expose()).unwrap());
                choice.extend(delta.tokens.iter().map(token));
            }
            Event::Finished { choice, reason, usage } => {
                choices[choice as usize].push(format!("{reason:?}"));
                end = Some(format!("{usage:?}"));
            }
            Event::Failed(error) => end = Some(format!("{error:?}")),
        }
    }
    choices.into_iter().flatten().chain(end).collect()
}

fn token(token: &chrysalis_engine::LoggedToken) -> String {
    let one = |one: &chrysalis_engine::TokenLogprob| {
        format!("{:?} {:08x}", one.bytes.expose(), one.logprob.to_bits())
    };
    let top: Vec<_> = token.top.iter().map(one).collect();
    format!("{} {} {top:?}", token.offset, one(&token.drawn))
}

/// Requests that use everything that draws, cuts or ends an answer. Low temperatures repeat themselves.
fn everything(n: u64) -> GenerateRequest {
    let prompt = format!("say it {n} again, say it {n} again, say it ").repeat(2);
    let sampling = Sampling { temperature: 0.3, seed: Some(n), ..Sampling::greedy() };
    let plain = GenerateRequest { sampling, ..request(text(&prompt), 90) };
    let secret = |text: &str| text.as_bytes().to_vec().into();
    match n % 8 {
        0 => request(text(&prompt), 90),
        1 => plain,
        2 => GenerateRequest {
            sampling: Sampling { frequency_penalty: 0.05, presence_penalty: 0.1, ..sampling },
            ..plain
        },
        3 => GenerateRequest {
            logit_bias: vec![LogitBias { token: 70, bias: 3.0 }],
            logprobs: Some(3),
            ..request(text(&prompt), 90)
        },
        4 => GenerateRequest {
            constraint: Some(Constraint::Regex(secret("(ab|abc){20,60}!"))),
            logprobs: Some(0),
            ..plain
        },
        5 => GenerateRequest {
            constraint: Some(Constraint::Regex(secret("(ab,){40}"))),
            stop: vec![secret("b,ab,ab,ab,ab,ab,ab,ab,ab,ab,ab,ab,ab,ab,ab,")],
            ..plain
        },
        6 => GenerateRequest { choices: 3, logprobs: Some(1), ..plain },
        _ => GenerateRequest {
            sampling: Sampling { temperature: 1.0, top_p: 0.9, min_p: 0.05, ..sampling },
            max_tokens: 40,
            ..plain
        },
    }
}

#[test]
fn every_family_says_the_same_with_drafts_and_without() {
    let kinds = [KvCacheType::F16, KvCacheType::Q8_0];
    for (recipe, kv_cache_type) in
        kinds.iter().flat_map(|k| Recipe::all().into_iter().map(|r| (r, *k)))
    {
        let options = EngineOptions { kv_cache_type, ..EngineOptions::new(|| 0) };
        let [without, with] = both(&recipe.build(), &options);
        for n in 0..8 {
            let [expected, got] =
                [&without, &with].map(|engine| events(engine.generate(everything(n)).unwrap()));
            assert_eq!(expected, got, "{} {kv_cache_type:?}, request {n}", recipe.name);
        }
    }
}

#[test]
fn requests_beside_each_other_say_the_same_and_when_pages_are_few() {
    let file = TinyModel::random(7).context(400).build();
    let narrow = EngineOptions {
        max_concurrent: 3,
        max_waiting: 40,
        cache_tokens: NonZeroUsize::new(448),
        ..EngineOptions::new(|| 0)
    };
    let [without, with] = both(&file, &narrow);
    let run = |engine: &CandleEngine| {
        let all: Vec<_> = (0..16).map(|n| engine.generate(everything(n)).unwrap()).collect();
        all.into_iter().map(events).collect::<Vec<_>>()
    };
    let expected = run(&without);
    for _ in 0..3 {
        for (n, (expected, got)) in expected.iter().zip(run(&with)).enumerate() {
            assert_eq!(*expected, got, "request {n}");
        }
    }
}

/// Calls of the clock that steps are timed with: one for each step.
static STEPS: AtomicUsize = AtomicUsize::new(0);

fn counted() -> Instant {
    STEPS.fetch_add(1, Ordering::Relaxed);
    Instant::now()
}

#[test]
fn an_answer_that_repeats_itself_takes_a_fifth_of_the_steps() {
    let model = TinyModel::endless(&["one ", "tw", "o th", "ree "]).context(1000);
    let options = EngineOptions { clock: counted, ..EngineOptions::new(|| 0) };
    let steps = both(&model.build(), &options).map(|engine| {
        let before = STEPS.load(Ordering::Relaxed);
        let got = answer(&engine, hello(400));
        assert_eq!((completion(&got), reason(&got)), (400, FinishReason::Length));
        drop(engine);
        STEPS.load(Ordering::Relaxed) - before
    });
    assert!(steps[0] >= 400 && steps[1] * 5 < steps[0], "{steps:?}");
}

#[test]
fn a_cancelled_answer_ends_inside_a_step_of_drafts() {
    let model = TinyModel::endless(&["x", "y"]).context(4000);
    let engine = engine(&model);
    let generation = engine.generate(hello(3900)).unwrap();
    let control = generation.control.clone();
    while control.usage().completion < 40 {
        std::thread::yield_now();
    }
    control.cancel();
    let at_cancel = control.usage().completion;
    let got = collect(generation);
    assert_eq!(
        (reason(&got), completion(&got)),
        (FinishReason::Cancelled, control.usage().completion)
    );
    assert!(completion(&got) <= at_cancel + 1, "one token that was being counted");
}
