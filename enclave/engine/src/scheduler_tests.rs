//! The driver, over a store that has less memory than the schedule was told: a stand-in for a GPU, whose
//! store says at the start how many pages it has.

use std::collections::BTreeMap;

use chrysalis_cuda::testing::device;
use chrysalis_wire::manifest::KvCacheType;
use tokio::sync::mpsc;

use super::*;
use crate::decoder::Room;
use crate::request::{Control, Generation, Reasoning, Sampling, Scheduling};
use crate::sampler::Sampler;
use crate::stop::StopMatcher;
use crate::testing::{Collected, Probe, TinyModel, collect, text};

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

/// What becomes of requests with prompts of so many tokens, over a store of `pages`.
fn serve(pages: usize, prompts: &[usize]) -> Option<Vec<Collected>> {
    let device = device().unwrap()?;
    let probe = Probe::load(&TinyModel::random(7).build()).unwrap().on(&device).unwrap();
    let ids = probe.ids(&text(&"hello, wide world. ".repeat(8))).unwrap();
    let (model, tokenizer) = probe.parts();
    let store = model.decoder().store(KvCacheType::F16, &Room::of_pages(pages)).unwrap();
    let mut serving = Serving {
        model,
        tokenizer,
        limits: LIMITS,
        clock: Instant::now,
        started: Instant::now(),
        core: Core::new(LIMITS),
        store,
        sequences: BTreeMap::new(),
        lost: None,
    };
    let (jobs, answers): (Vec<_>, Vec<_>) = prompts.iter().map(|len| job(&ids[..*len])).unzip();
    jobs.into_iter().for_each(|job| serving.accept(job));
    let steps = (0..200).take_while(|_| !serving.step()).count();
    assert!(steps < 199, "it does not end");
    Some(answers.into_iter().map(collect).collect())
}

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
fn a_step_says_one_piece_of_text_however_many_tokens_it_has_drawn() {
    let most = |model: &TinyModel, draft_rows| {
        let probe = Probe::load(&model.build()).unwrap();
        let ids = probe.ids(&text("hello")).unwrap();
        let (model, tokenizer) = probe.parts();
        let limits = Limits { draft_rows, ..LIMITS };
        let store = model.decoder().store(KvCacheType::F16, &Room::of_pages(limits.pages)).unwrap();
        let mut serving = Serving {
            model,
            tokenizer,
            limits,
            clock: Instant::now,
            started: Instant::now(),
            core: Core::new(limits),
            store,
            sequences: BTreeMap::new(),
            lost: None,
        };
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
