//! The driver: what becomes of requests whose memory or whose device is not there, and what a step says. A
//! stand-in for a GPU has a store that says at the start how many pages it has: less than the schedule was
//! told.

use std::collections::BTreeMap;

#[cfg(feature = "cuda")]
use chrysalis_cuda::testing::device;
use chrysalis_wire::manifest::KvCacheType;
use tokio::sync::mpsc;

use super::*;
use crate::decoder::Room;
use crate::request::{Control, Generation, Reasoning, Sampling, Scheduling};
use crate::sampler::Sampler;
use crate::stop::StopMatcher;
#[cfg(feature = "cuda")]
use crate::testing::Collected;
use crate::testing::{Probe, TinyModel, collect, text};

const LIMITS: Limits =
    Limits { running: 3, waiting: 3, step_tokens: 64, pages: 8, draft_rows: 0, window: None };

fn job(prompt: &[u32]) -> (Job, Generation) {
    job_of(prompt, 12)
}

fn job_of(prompt: &[u32], max_tokens: u32) -> (Job, Generation) {
    let (events, receiver) = mpsc::channel(Job::event_capacity(max_tokens));
    let prompt_tokens = u32::try_from(prompt.len()).unwrap();
    let control = Control::new(prompt_tokens);
    let job = Job {
        prompt: Zeroizing::new(prompt.to_vec()),
        choice: 0,
        others: Vec::new(),
        scheduling: Scheduling::default(),
        sampler: Sampler::new(&Sampling::greedy(), Vec::new(), 1),
        matcher: None,
        stops: StopMatcher::new(Vec::new()),
        spelled: Vec::new(),
        logprobs: None,
        max_tokens,
        events,
        control: control.clone(),
        slot: None,
    };
    let reasoning = Reasoning::None;
    (job, Generation { prompt_tokens, reasoning, events: receiver, control })
}

/// The driver with nothing to do, over a store of `pages`.
fn serving(probe: Probe, limits: Limits, pages: usize) -> Serving {
    let (model, tokenizer) = probe.parts();
    let store = model.decoder().store(KvCacheType::F16, &Room::of_pages(pages)).unwrap();
    Serving {
        model,
        tokenizer,
        limits,
        clock: Instant::now,
        started: Instant::now(),
        core: Core::new(limits),
        store,
        sequences: BTreeMap::new(),
        lost: None,
    }
}

/// What becomes of requests with prompts of so many tokens, over a store of `pages`.
#[cfg(feature = "cuda")]
fn serve(pages: usize, prompts: &[usize]) -> Option<Vec<Collected>> {
    let device = device().unwrap()?;
    let probe = Probe::load(&TinyModel::random(7).build()).unwrap().on(&device).unwrap();
    let ids = probe.ids(&text(&"hello, wide world. ".repeat(8))).unwrap();
    let mut serving = serving(probe, LIMITS, pages);
    let (jobs, answers): (Vec<_>, Vec<_>) = prompts.iter().map(|len| job(&ids[..*len])).unzip();
    jobs.into_iter().for_each(|job| serving.accept(job));
    let steps = (0..200).take_while(|_| !serving.step()).count();
    assert!(steps < 199, "it does not end");
    Some(answers.into_iter().map(collect).collect())
}

#[cfg(feature = "cuda")]
#[test]
fn memory_that_is_not_there_ends_one_request_and_the_others_answer_as_ever() {
    // Two pages, two pages, four pages.
    let prompts = [40, 50, 100];
    let (Some(enough), Some(little)) = (serve(8, &prompts), serve(2, &prompts)) else { return };
    for (n, (enough, little)) in enough.iter().zip(&little).enumerate() {
        assert!(matches!(enough.end, Some(Ok(_))));
        if n == 2 {
            let error = EngineError::Compute { stage: "memory for keys and values" };
            assert_eq!(little.end, Some(Err(error)));
        } else {
            assert_eq!((enough.text(), &enough.end), (little.text(), &little.end));
        }
    }
}

#[test]
fn when_nothing_computes_any_more_everybody_is_told_even_who_was_not_taken_yet() {
    let probe = Probe::load(&TinyModel::random(7).build()).unwrap();
    let ids = probe.ids(&text(&"hello, wide world. ".repeat(4))).unwrap();
    let mut serving = serving(probe, LIMITS, LIMITS.pages);
    let (sender, jobs) = std::sync::mpsc::channel();
    let [(runs, first), (waits, second), (queued, third)] = [20, 30, 40].map(|n| job(&ids[..n]));
    serving.accept(runs);
    assert!(!serving.step());
    serving.accept(waits);
    sender.send(queued).ok().unwrap();
    let error = EngineError::Lost { call: "cuLaunchKernel", code: 719 };
    serving.lose(jobs, &error);
    for told in [first, second, third] {
        // With what was said before, and nothing behind it: the channel is closed.
        assert_eq!(collect(told).end, Some(Err(error.clone())));
    }
    assert!(sender.send(job(&ids[..5]).0).is_err(), "somebody still waits for requests");
}

#[test]
fn a_step_says_one_piece_of_text_however_many_tokens_it_has_drawn() {
    let most = |model: &TinyModel, draft_rows| {
        let probe = Probe::load(&model.build()).unwrap();
        let ids = probe.ids(&text("hello")).unwrap();
        let limits = Limits { draft_rows, ..LIMITS };
        let mut serving = serving(probe, limits, limits.pages);
        let (job, mut answer) = job_of(&ids, 120);
        serving.accept(job);
        let (mut most, mut steps) = (0, 0);
        while !serving.step() {
            let pieces = std::iter::from_fn(|| answer.events.try_recv().ok());
            let pieces = pieces.filter(|event| matches!(event, crate::Event::Delta(_)));
            (most, steps) = (pieces.count().max(most), steps + 1);
        }
        (most, steps)
    };
    let model = TinyModel::endless(&["one ", "tw", "o th", "ree "]);
    let ((pieces, few), (_, many)) = (most(&model, 8), most(&model, 0));
    assert!(few * 3 < many, "{few} of {many} steps: this shows little");
    assert_eq!(pieces, 1);
}

#[test]
fn tokens_of_a_prompt_count_once_they_are_computed_and_none_while_it_waits() {
    let probe = Probe::load(&TinyModel::random(7).build()).unwrap();
    let ids = probe.ids(&text(&"hello, wide world. ".repeat(20))).unwrap();
    let mut serving = serving(probe, Limits { running: 1, ..LIMITS }, LIMITS.pages);
    let ((runs, first), (waits, second)) = (job(&ids[..150]), job(&ids[..20]));
    serving.accept(runs);
    serving.accept(waits);
    let counts = || [&first, &second].map(|request| request.control.usage().prompt);
    assert_eq!(counts(), [0, 0]);
    for expected in [64, 128, 150, 150] {
        serving.step();
        assert_eq!(counts(), [expected, 0]);
    }
    assert_eq!(first.control.usage().completion, 2);
}

#[test]
fn no_token_of_a_prompt_counts_twice_and_none_as_cached_before_it_counts() {
    let control = Control::new(150);
    let counts = || (control.usage().prompt, control.usage().cached);
    control.begin(32);
    assert_eq!(counts(), (0, 0), "nothing was done for it yet");
    for (computed, expected) in [(96, 96), (64, 96), (151, 150)] {
        control.compute(computed);
        assert_eq!(counts(), (expected, 32));
    }
}
