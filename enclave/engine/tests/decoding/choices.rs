//! Several answers to one request.

use chrysalis_engine::{Delta, MAX_CHOICES, TokenUsage};

use super::*;

/// The texts of a request's choices and what it took.
fn choices(engine: &CandleEngine, request: GenerateRequest) -> (Vec<String>, TokenUsage) {
    let count = request.choices as usize;
    let mut texts = vec![String::new(); count];
    let mut generation = engine.generate(request).unwrap();
    let (mut ended, mut last) = (0, None);
    while let Some(event) = generation.events.blocking_recv() {
        match event {
            Event::Delta(Delta { choice, text, .. }) => {
                texts[choice as usize] += std::str::from_utf8(text.expose()).unwrap();
            }
            Event::Finished { usage, .. } => (ended, last) = (ended + 1, Some(usage)),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(ended, count, "one end for each choice");
    (texts, last.unwrap())
}

fn asked(prompt: &str, tenant: Option<Tenant>, choices: u32) -> GenerateRequest {
    GenerateRequest { choices, ..hot(prompt, 9, tenant) }
}

#[test]
fn choices_differ_and_the_first_is_the_answer_to_the_same_request_for_one() {
    let engine = engine(&TinyModel::random(7));
    let one = answer(&engine, asked("a prompt", None, 1)).text();
    let (texts, usage) = choices(&engine, asked("a prompt", None, 3));
    assert_eq!(texts[0], one);
    assert!(texts[1] != one && texts[2] != one && texts[1] != texts[2]);
    assert_eq!(choices(&engine, asked("a prompt", None, 3)).0, texts, "the seed decides them all");
    let again = choices(&engine, asked("a prompt", None, 2));
    assert_eq!(again.0, texts[..2], "however many there are");
    assert!(usage.completion > again.1.completion);
}

#[test]
fn the_prompt_is_counted_once_and_computed_once() {
    let options = EngineOptions { max_concurrent: 8, ..EngineOptions::new(|| 42) };
    let engine = CandleEngine::load(&TinyModel::random(7).context(4000).build(), options).unwrap();
    let prompt = "a long prompt ".repeat(200);
    let time = |count| {
        let started = Instant::now();
        let request = GenerateRequest { choices: count, ..request(text(&prompt), 1) };
        (choices(&engine, request).1, started.elapsed())
    };
    let (one, alone) = time(1);
    let (eight, together) = time(8);
    assert_eq!((eight.prompt, eight.cached), (one.prompt, 0));
    assert_eq!((one.completion, eight.completion), (1, 8));
    // Eight prompts would take eight times as long; other programs may slow either down.
    assert!(together < alone * 4, "{together:?} for eight, {alone:?} for one");
}

#[test]
fn nothing_is_kept_of_a_request_without_a_tenant_once_its_choices_have_ended() {
    let engine = engine(&TinyModel::random(7).context(1000));
    let prompt = "what nobody else may learn of ".repeat(10);
    for _ in 0..2 {
        assert_eq!(choices(&engine, asked(&prompt, None, 3)).1.cached, 0);
    }
    let tenant = Some(Tenant([1; 32]));
    assert_eq!(choices(&engine, asked(&prompt, tenant, 2)).1.cached, 0);
    assert!(choices(&engine, asked(&prompt, tenant, 2)).1.cached > 0, "a tenant's is kept");
}

#[test]
fn the_same_choices_come_when_there_is_room_for_one_at_a_time() {
    let file = TinyModel::random(7).build();
    let roomy = CandleEngine::load(&file, EngineOptions::new(|| 0)).unwrap();
    let narrow = EngineOptions { max_concurrent: 1, ..EngineOptions::new(|| 0) };
    let narrow = CandleEngine::load(&file, narrow).unwrap();
    let request = || asked("a prompt", None, 4);
    assert_eq!(choices(&roomy, request()).0, choices(&narrow, request()).0);
}

#[test]
fn dropping_the_receiver_stops_every_choice_and_frees_its_places() {
    let model = TinyModel::endless(&["x", "y"]).context(4000);
    let options = EngineOptions { max_concurrent: 2, max_waiting: 2, ..EngineOptions::new(|| 0) };
    let engine = CandleEngine::load(&model.build(), options).unwrap();
    let four = |max_tokens| GenerateRequest { choices: 4, ..hello(max_tokens) };
    let mut generation = engine.generate(four(3900)).unwrap();
    assert!(matches!(generation.events.blocking_recv(), Some(Event::Delta(_))));
    let busy = engine.generate(hello(1)).expect_err("every place is taken");
    assert_eq!(busy, EngineError::Busy { limit: 4 });
    drop(generation);
    let started = Instant::now();
    while engine.generate(four(1)).is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "places were lost");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn refuses_no_choice_and_more_than_there_can_be() {
    for got in [0, MAX_CHOICES + 1] {
        let refused = refusal(GenerateRequest { choices: got, ..hello(1) });
        assert_eq!(refused, EngineError::Choices { got, limit: MAX_CHOICES });
    }
    let options = EngineOptions { max_concurrent: 1, max_waiting: 2, ..EngineOptions::new(|| 0) };
    let engine = CandleEngine::load(&TinyModel::random(1).build(), options).unwrap();
    let refused = engine.generate(GenerateRequest { choices: 4, ..hello(1) });
    let too_many = EngineError::Choices { got: 4, limit: 3 };
    assert_eq!(refused.expect_err("it would wait for ever"), too_many);
}
