//! The engine from outside, on tiny generated models: streams, refusals, cancellation, taking turns.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "decoding/choices.rs"]
mod choices;
#[path = "decoding/constrained.rs"]
mod constrained;
#[path = "decoding/drafts.rs"]
mod drafts;
#[path = "decoding/logprobs.rs"]
mod logprobs;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use chrysalis_engine::testing::{Collected, IM_END, Probe, Recipe, TinyModel, chat, collect, text};
use chrysalis_engine::{
    CandleEngine, Engine, EngineError, EngineOptions, Event, FinishReason, GenerateRequest, Input,
    LogitBias, MAX_LOGIT_BIASES, MAX_MESSAGES, MAX_PROMPT_BYTES, MAX_STOP_BYTES, MAX_STOPS,
    ModelError, PREFILL_CHUNK_TOKENS, Role, Sampling, Scheduling, TemplateError, Tenant,
};

fn engine(model: &TinyModel) -> CandleEngine {
    CandleEngine::load(&model.build(), EngineOptions::new(|| 42)).unwrap()
}

fn request(input: Input, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        input,
        sampling: Sampling::greedy(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        constraint: None,
        logprobs: None,
        choices: 1,
        max_tokens,
        scheduling: Scheduling::default(),
    }
}

fn hello(max_tokens: u32) -> GenerateRequest {
    request(chat(&[(Role::User, "Hello")]), max_tokens)
}

fn with_stop(stops: &[&str], max_tokens: u32) -> GenerateRequest {
    let stop = stops.iter().map(|s| s.as_bytes().to_vec().into()).collect();
    GenerateRequest { stop, ..hello(max_tokens) }
}

fn answer(engine: &CandleEngine, request: GenerateRequest) -> Collected {
    collect(engine.generate(request).unwrap())
}

fn refusal(request: GenerateRequest) -> EngineError {
    engine(&TinyModel::random(1)).generate(request).expect_err("the request was accepted")
}

fn reason(collected: &Collected) -> FinishReason {
    collected.end.clone().unwrap().unwrap().0
}

fn completion(collected: &Collected) -> u32 {
    collected.end.clone().unwrap().unwrap().1.completion
}

// Answers.

#[test]
fn streams_one_piece_per_token_and_stops_at_the_end_of_the_turn() {
    let engine = engine(&TinyModel::scripted(&["Once", " upon", " a", " time", "."]));
    let got = answer(&engine, hello(50));
    assert_eq!(got.deltas, ["Once", " upon", " a", " time", "."]);
    let (reason, usage) = got.end.unwrap().unwrap();
    assert_eq!(reason, FinishReason::Stop);
    assert_eq!((usage.cached, usage.completion), (0, 6), "the end of the turn is a token");
}

/// What the model says greedily after `prompt`, computed over a cache that keeps everything.
fn alone(probe: &Probe, prompt: &str, most: usize) -> String {
    let mut session = probe.session();
    let mut logits = session.feed(&probe.ids(&text(prompt)).unwrap(), 64).unwrap();
    let mut ids = Vec::new();
    while ids.len() < most {
        let best =
            (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
        // The tokens that end a turn.
        if [0, IM_END].contains(&best) {
            break;
        }
        ids.push(best);
        logits = session.feed(&[best], 1).unwrap();
    }
    String::from_utf8_lossy(&probe.decode(&ids)).into_owned()
}

#[test]
fn pages_that_lie_before_the_window_of_every_layer_are_given_back_and_no_answer_changes() {
    let file = Recipe::mistral().build();
    let probe = Probe::load(&file).unwrap();
    // Room for one of the three, were everything kept.
    let options = EngineOptions {
        max_concurrent: 3,
        cache_tokens: NonZeroUsize::new(512),
        ..EngineOptions::new(|| 0)
    };
    let engine = CandleEngine::load(&file, options).unwrap();
    let prompts = ["say it again, ".repeat(12), "hello".to_owned(), "the world. ".repeat(9)];
    let asked =
        prompts.each_ref().map(|prompt| engine.generate(request(text(prompt), 300)).unwrap());
    for (prompt, generation) in prompts.iter().zip(asked) {
        assert_eq!(collect(generation).text(), alone(&probe, prompt, 300), "{prompt}");
    }
}

#[test]
fn counts_prompt_tokens_with_the_template() {
    let model = TinyModel::scripted(&["ok"]);
    let ids = Probe::load(&model.build()).unwrap().ids(&hello(1).input).unwrap();
    let engine = engine(&model);
    let generation = engine.generate(hello(5)).unwrap();
    assert_eq!(generation.prompt_tokens as usize, ids.len());
    assert_eq!(ids.first(), Some(&1), "<|im_start|>");
    let usage = collect(generation).end.unwrap().unwrap().1;
    assert_eq!(usage.prompt as usize, ids.len());
}

#[test]
fn ends_at_max_tokens() {
    let engine = engine(&TinyModel::endless(&["ab", "cd", "ef"]));
    let got = answer(&engine, hello(7));
    assert_eq!(got.text(), "abcdefabcdefab");
    assert_eq!((reason(&got), completion(&got)), (FinishReason::Length, 7));
}

#[test]
fn ends_at_the_end_of_the_context() {
    let engine = engine(&TinyModel::endless(&["ab", "cd"]).context(40));
    let got = answer(&engine, request(text("0123456789"), 1000));
    assert_eq!((reason(&got), completion(&got)), (FinishReason::Length, 30));
}

#[test]
fn joins_characters_that_tokens_split() {
    let pieces: [&[u8]; 4] = [b"\xf0\x9f", b"\xa6\x8b ", b"\xe6\xbc", b"\xa2!"];
    let got = answer(&engine(&TinyModel::scripted(&pieces)), hello(50));
    assert_eq!(got.deltas, ["🦋 ", "漢!"]);
}

#[test]
fn replaces_a_character_the_limit_cut_off() {
    let pieces: [&[u8]; 2] = [b"ok\xf0\x9f", b"\xa6\x8b"];
    let got = answer(&engine(&TinyModel::scripted(&pieces)), hello(1));
    assert_eq!((got.text(), reason(&got)), ("ok\u{fffd}".to_owned(), FinishReason::Length));
}

#[test]
fn every_delta_of_a_random_model_is_text() {
    for seed in 0..4 {
        let engine = engine(&TinyModel::random(seed));
        let mut hot = hello(200);
        hot.sampling = Sampling { temperature: 2.0, seed: Some(seed), ..Sampling::greedy() };
        // `collect` fails on a delta that is not UTF-8.
        assert!(answer(&engine, hot).deltas.iter().all(|d| !d.is_empty()));
    }
}

#[test]
fn stops_at_a_stop_string_that_spans_tokens() {
    let engine = engine(&TinyModel::endless(&["one ", "tw", "o th", "ree "]));
    let got = answer(&engine, with_stop(&["never", "two three"], 100));
    assert_eq!((got.text(), reason(&got)), ("one ".to_owned(), FinishReason::Stop));
    assert_eq!(completion(&got), 4, "tokens of the stop string were computed");
    let next = answer(&engine, with_stop(&["two four"], 4));
    assert_eq!(next.text(), "one two three ", "a partial match is released");
}

#[test]
fn seeds_decide_and_nothing_else() {
    let engine = engine(&TinyModel::random(5));
    let draw = |seed| {
        let mut r = hello(40);
        r.sampling =
            Sampling { temperature: 1.5, top_p: 0.95, top_k: Some(50), seed, ..Sampling::greedy() };
        answer(&engine, r).text()
    };
    assert_eq!(draw(Some(1)), draw(Some(1)));
    assert_ne!(draw(Some(1)), draw(Some(2)));
    assert_eq!(draw(None), draw(Some(42)), "the option's entropy is the seed");
}

#[test]
fn answers_are_the_same_alone_and_among_others() {
    let engine = engine(&TinyModel::random(7));
    let prompts: Vec<String> = (0..4).map(|n| format!("prompt {n} ").repeat(n * 5 + 1)).collect();
    let alone: Vec<_> =
        prompts.iter().map(|p| answer(&engine, request(text(p), 30)).text()).collect();
    let together: Vec<_> =
        prompts.iter().map(|p| engine.generate(request(text(p), 30)).unwrap()).collect();
    let together: Vec<_> = together.into_iter().map(|g| collect(g).text()).collect();
    assert_eq!(alone, together);
}

fn hot(prompt: &str, seed: u64, tenant: Option<Tenant>) -> GenerateRequest {
    GenerateRequest {
        sampling: Sampling {
            temperature: 1.5,
            top_p: 0.95,
            top_k: None,
            seed: Some(seed),
            ..Sampling::greedy()
        },
        scheduling: Scheduling { tenant, ..Scheduling::default() },
        ..request(text(prompt), 60)
    }
}

#[test]
fn answers_are_the_same_when_there_is_room_for_few_and_some_lose_their_pages() {
    let file = TinyModel::random(7).context(200).build();
    let prompts: Vec<String> = (0..6).map(|n| format!("prompt {n} ").repeat(n + 1)).collect();
    let seeded = || prompts.iter().zip(0..);
    let alone = CandleEngine::load(&file, EngineOptions::new(|| 0)).unwrap();
    let alone: Vec<_> =
        seeded().map(|(prompt, seed)| answer(&alone, hot(prompt, seed, None)).text()).collect();
    // Pages for one request of the largest size and a little of others.
    let options = EngineOptions {
        max_concurrent: 6,
        cache_tokens: NonZeroUsize::new(224),
        ..EngineOptions::new(|| 0)
    };
    let engine = CandleEngine::load(&file, options).unwrap();
    for _ in 0..3 {
        let all: Vec<_> =
            seeded().map(|(p, seed)| engine.generate(hot(p, seed, None)).unwrap()).collect();
        let all: Vec<_> = all.into_iter().map(|generation| collect(generation).text()).collect();
        assert_eq!(all, alone);
    }
}

#[test]
fn a_request_that_fails_changes_no_answer_beside_it() {
    let engine = engine(&TinyModel::random(1).poisoned(b'!'));
    let alone = answer(&engine, hot("fine", 3, None)).text();
    for _ in 0..5 {
        let beside = engine.generate(hot("fine", 3, None)).unwrap();
        let broken = answer(&engine, request(text("boom!"), 5));
        assert_eq!(broken.end, Some(Err(EngineError::Compute { stage: "finite logits" })));
        assert_eq!(collect(beside).text(), alone);
    }
}

#[test]
fn a_tenant_gets_its_prefix_from_the_cache_with_the_same_answer_and_nobody_else_does() {
    let engine = engine(&TinyModel::random(3).context(400));
    let prompt = "what was said before ".repeat(8);
    let ask = |tenant| {
        let got = answer(&engine, hot(&prompt, 5, tenant));
        let (_, usage) = got.end.clone().unwrap().unwrap();
        (got.text(), usage.cached)
    };
    let [ours, theirs] = [Some(Tenant([1; 32])), Some(Tenant([2; 32]))];
    let (text, cached) = ask(ours);
    assert_eq!(cached, 0);
    // 168 bytes are 168 tokens: five whole pages.
    assert_eq!(ask(ours), (text.clone(), 160));
    for stranger in [theirs, None, None] {
        assert_eq!(ask(stranger), (text.clone(), 0), "{stranger:?}");
    }
    assert_eq!(ask(theirs).1, 160, "its own");
}

// Taking turns.

#[test]
fn a_request_past_its_deadline_ends_and_the_others_go_on() {
    let engine = engine(&TinyModel::endless(&["x", "y"]).context(4000));
    let other = engine.generate(hello(200)).unwrap();
    let scheduling = Scheduling { deadline: Some(Instant::now()), ..Scheduling::default() };
    let late = answer(&engine, GenerateRequest { scheduling, ..hello(3000) });
    assert_eq!(late.end, Some(Err(EngineError::Expired)));
    let deadline = Some(Instant::now() + Duration::from_secs(3600));
    let scheduling = Scheduling { deadline, ..Scheduling::default() };
    let early = answer(&engine, GenerateRequest { scheduling, ..hello(20) });
    assert_eq!((completion(&early), completion(&collect(other))), (20, 200));
}

#[test]
fn a_short_request_finishes_while_a_long_one_runs() {
    let engine = engine(&TinyModel::endless(&["x", "y"]).context(4000));
    let long = engine.generate(hello(3900)).unwrap();
    let short = answer(&engine, hello(5));
    assert_eq!(completion(&short), 5);
    assert!(long.control.usage().completion < 3900, "the long one is still running");
}

#[test]
fn a_long_prompt_delays_another_request_by_one_chunk_per_token() {
    let engine = engine(&TinyModel::endless(&["x", "y"]).context(4000));
    let short = engine.generate(hello(3000)).unwrap();
    let control = short.control.clone();
    while control.usage().completion < 5 {
        std::thread::yield_now();
    }
    let before = control.usage().completion;
    let long = engine.generate(request(text(&"p".repeat(3000)), 1)).unwrap();
    assert_eq!(completion(&collect(long)), 1);
    let meanwhile = control.usage().completion - before;
    let chunks = u32::try_from(3000 / PREFILL_CHUNK_TOKENS).unwrap();
    assert!(meanwhile >= chunks, "{meanwhile} tokens during {chunks} chunks");
}

#[test]
fn dropping_the_receiver_stops_within_one_token() {
    let engine = engine(&TinyModel::endless(&["x", "y"]).context(4000));
    let mut generation = engine.generate(hello(3900)).unwrap();
    let control = generation.control.clone();
    assert!(matches!(generation.events.blocking_recv(), Some(Event::Delta(_))));
    drop(generation);
    let at_drop = control.usage().completion;
    // The next request takes turns with whatever still runs; after it the first must be gone.
    answer(&engine, hello(20));
    assert!(control.usage().completion <= at_drop + 1, "at most the token being computed");
}

#[test]
fn cancel_ends_the_stream_with_its_usage() {
    let engine = engine(&TinyModel::endless(&["x", "y"]).context(4000));
    let generation = engine.generate(hello(3900)).unwrap();
    generation.control.cancel();
    let control = generation.control.clone();
    let got = collect(generation);
    assert_eq!(reason(&got), FinishReason::Cancelled);
    assert_eq!(completion(&got), control.usage().completion);
    assert!(completion(&got) < 100);
}

#[test]
fn a_failed_request_does_not_stop_the_engine() {
    // Embeddings of infinity make the logits NaN: the request fails, the next one is still answered.
    let engine = engine(&TinyModel::random(1).poisoned(b'!'));
    let got = answer(&engine, request(text("boom!"), 5));
    assert_eq!(got.end, Some(Err(EngineError::Compute { stage: "finite logits" })));
    assert_eq!(completion(&answer(&engine, request(text("fine"), 3))), 3);
}

#[test]
fn stopping_the_engine_fails_what_is_in_progress() {
    let engine = engine(&TinyModel::endless(&["x", "y"]).context(4000));
    let generations: Vec<_> = (0..6).map(|_| engine.generate(hello(3900)).unwrap()).collect();
    let started = Instant::now();
    drop(engine);
    assert!(started.elapsed() < Duration::from_secs(5));
    for generation in generations {
        assert_eq!(collect(generation).end, Some(Err(EngineError::Stopped)));
    }
}

#[test]
fn refuses_one_request_more_than_there_are_places() {
    let options = EngineOptions { max_concurrent: 1, max_waiting: 1, ..EngineOptions::new(|| 0) };
    let file = TinyModel::endless(&["x", "y"]).context(4000).build();
    let engine = CandleEngine::load(&file, options).unwrap();
    let first = engine.generate(hello(3900)).unwrap();
    let second = engine.generate(hello(2)).unwrap();
    assert_eq!(engine.generate(hello(2)).expect_err("busy"), EngineError::Busy { limit: 2 });
    drop(first);
    assert_eq!(completion(&collect(second)), 2);
    assert_eq!(completion(&answer(&engine, hello(2))), 2, "places are free again");
}

#[test]
fn a_request_abandoned_while_it_waits_gives_its_place_back_before_its_turn() {
    let options = EngineOptions { max_concurrent: 1, max_waiting: 1, ..EngineOptions::new(|| 0) };
    let file = TinyModel::endless(&["x", "y"]).context(4000).build();
    let engine = CandleEngine::load(&file, options).unwrap();
    let first = engine.generate(hello(3900)).unwrap();
    let admitted = || loop {
        if let Ok(generation) = engine.generate(hello(2)) {
            break generation;
        }
        assert!(first.control.usage().completion < 3900, "the first is over: nothing was freed");
        std::thread::yield_now();
    };
    for cancel in [false, true] {
        let waiting = admitted();
        if cancel {
            waiting.control.cancel();
            assert_eq!(reason(&collect(waiting)), FinishReason::Cancelled);
        } else {
            drop(waiting);
        }
        drop(admitted());
    }
}

#[test]
fn a_refused_request_gives_its_place_back() {
    let options = EngineOptions { max_concurrent: 1, max_waiting: 0, ..EngineOptions::new(|| 0) };
    let engine = CandleEngine::load(&TinyModel::scripted(&["ok"]).build(), options).unwrap();
    for _ in 0..3 {
        assert!(engine.generate(request(text(&"x".repeat(2000)), 1)).is_err());
    }
    assert_eq!(answer(&engine, hello(2)).text(), "ok");
}

// Refusals.

#[test]
fn refuses_empty_messages() {
    assert_eq!(refusal(request(chat(&[]), 1)), EngineError::MessagesEmpty);
}

#[test]
fn refuses_one_message_over_the_limit() {
    let messages = vec![(Role::User, ""); MAX_MESSAGES + 1];
    let got = MAX_MESSAGES + 1;
    assert_eq!(refusal(request(chat(&messages), 1)), EngineError::TooManyMessages { got });
    // At the limit it is the context that refuses.
    let at_limit = refusal(request(chat(&messages[1..]), 1));
    assert!(matches!(at_limit, EngineError::PromptTooLong { .. }));
}

#[test]
fn refuses_an_empty_prompt() {
    assert_eq!(refusal(request(text(""), 1)), EngineError::PromptEmpty);
}

#[test]
fn refuses_one_byte_over_the_prompt_limit() {
    let got = MAX_PROMPT_BYTES + 1;
    let long = "x".repeat(got);
    assert_eq!(refusal(request(text(&long), 1)), EngineError::PromptTooLarge { got });
    let halves = [(Role::User, &long[..got / 2]), (Role::User, &long[got / 2..])];
    assert_eq!(refusal(request(chat(&halves), 1)), EngineError::PromptTooLarge { got });
    let at_limit = refusal(request(text(&long[1..]), 1));
    assert!(matches!(at_limit, EngineError::PromptTooLong { .. }));
}

#[test]
fn refuses_a_prompt_that_leaves_no_room_for_one_token() {
    let engine = engine(&TinyModel::endless(&["x"]).context(64));
    let refused = EngineError::PromptTooLong { got: 64, limit: 64 };
    assert_eq!(engine.generate(request(text(&"p".repeat(64)), 1)).expect_err("full"), refused);
    assert_eq!(completion(&answer(&engine, request(text(&"p".repeat(63)), 9))), 1);
}

#[test]
fn refuses_prompts_that_are_not_utf8() {
    let broken = Input::Text(vec![b'a', 0xff].into());
    assert_eq!(refusal(request(broken, 1)), EngineError::NotUtf8 { index: 0 });
}

#[test]
fn refuses_max_tokens_zero() {
    assert_eq!(refusal(hello(0)), EngineError::MaxTokensZero);
}

#[test]
fn refuses_a_temperature_out_of_range() {
    for temperature in [f32::NAN, -0.1, 2.1, f32::INFINITY] {
        let mut r = hello(1);
        r.sampling.temperature = temperature;
        assert_eq!(refusal(r), EngineError::Temperature { got: temperature.to_string() });
    }
}

#[test]
fn refuses_a_top_p_out_of_range() {
    for top_p in [f32::NAN, 0.0, -1.0, 1.01] {
        let mut r = hello(1);
        r.sampling.top_p = top_p;
        assert_eq!(refusal(r), EngineError::TopP { got: top_p.to_string() });
    }
}

#[test]
fn refuses_top_k_zero() {
    let mut r = hello(1);
    r.sampling.top_k = Some(0);
    assert_eq!(refusal(r), EngineError::TopKZero);
}

#[test]
fn refuses_a_min_p_or_a_penalty_out_of_range() {
    for got in [f32::NAN, -0.1, 1.1] {
        let mut r = hello(1);
        r.sampling.min_p = got;
        assert_eq!(refusal(r), EngineError::MinP { got: got.to_string() });
    }
    for got in [f32::NAN, -2.1, 2.1] {
        let mut r = hello(1);
        r.sampling.frequency_penalty = got;
        assert_eq!(refusal(r), EngineError::Penalty { got: got.to_string() });
        let mut r = hello(1);
        r.sampling.presence_penalty = got;
        assert_eq!(refusal(r), EngineError::Penalty { got: got.to_string() });
    }
}

#[test]
fn refuses_a_logit_bias_that_is_out_of_range_or_of_no_token() {
    let biased = |logit_bias| refusal(GenerateRequest { logit_bias, ..hello(1) });
    let bias = |token, bias| LogitBias { token, bias };
    for got in [f32::NAN, -100.1, 100.1] {
        assert_eq!(biased(vec![bias(0, got)]), EngineError::Bias { got: got.to_string() });
    }
    let got = MAX_LOGIT_BIASES + 1;
    assert_eq!(biased(vec![bias(0, 1.0); got]), EngineError::TooManyBiases { got });
    let refused = biased(vec![bias(0, 1.0), bias(u32::MAX, 1.0)]);
    assert!(matches!(refused, EngineError::BiasToken { got: u32::MAX, .. }), "{refused:?}");
}

#[test]
fn a_banned_token_is_not_generated_and_a_forced_one_is() {
    let file = TinyModel::random(3).build();
    let probe = Probe::load(&file).unwrap();
    let engine = CandleEngine::load(&file, EngineOptions::new(|| 42)).unwrap();
    let answer = |logit_bias| {
        collect(engine.generate(GenerateRequest { logit_bias, ..hello(6) }).unwrap()).text()
    };
    let bias = |token, bias| LogitBias { token, bias };
    let forced = answer(vec![bias(70, 100.0)]);
    assert_eq!(forced.as_bytes(), probe.decode(&[70; 6]));
    // The same token forced and banned: only the ban is left of it.
    assert_ne!(answer(vec![bias(70, 100.0), bias(70, -100.0), bias(71, 90.0)]), forced);
}

#[test]
fn refuses_too_many_empty_too_long_and_broken_stops() {
    let many = vec!["s"; MAX_STOPS + 1];
    assert_eq!(refusal(with_stop(&many, 1)), EngineError::TooManyStops { got: MAX_STOPS + 1 });
    assert_eq!(refusal(with_stop(&["a", ""], 1)), EngineError::StopEmpty { index: 1 });
    let (index, got) = (0, MAX_STOP_BYTES + 1);
    assert_eq!(refusal(with_stop(&[&"s".repeat(got)], 1)), EngineError::StopTooLong { index, got });
    let broken = GenerateRequest { stop: vec![vec![0xff].into()], ..hello(1) };
    assert_eq!(refusal(broken), EngineError::StopNotUtf8 { index: 0 });
}

#[test]
fn refuses_a_chat_when_the_model_has_no_template_but_continues_text() {
    let engine = engine(&TinyModel::scripted(&["ok"]).without("tokenizer.chat_template"));
    let missing = EngineError::Template(TemplateError::Missing);
    assert_eq!(engine.generate(hello(1)).expect_err("no template"), missing);
    assert_eq!(answer(&engine, request(text("Hello"), 5)).text(), "ok");
}

#[test]
fn refuses_a_conversation_the_template_raises_on() {
    let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}x";
    let engine = engine(&TinyModel::scripted(&["ok"]).template(source));
    let system = request(chat(&[(Role::System, "s")]), 1);
    let raised = EngineError::Template(TemplateError::Raised { line: 1 });
    assert_eq!(engine.generate(system).expect_err("raised"), raised);
    assert_eq!(answer(&engine, hello(5)).text(), "ok");
}

#[test]
fn refuses_to_load_a_model_whose_template_loops() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let file = TinyModel::random(1).template(source).build();
    let error = CandleEngine::load(&file, EngineOptions::new(|| 0)).err().unwrap();
    assert_eq!(error, EngineError::Template(TemplateError::OutOfFuel));
    assert_eq!(error.code(), "E-TEMPLATE-LOOP");
}

#[test]
fn refuses_to_load_a_truncated_model() {
    let file = TinyModel::random(1).build();
    let error = CandleEngine::load(&file[..file.len() - 64], EngineOptions::new(|| 0)).err();
    assert!(matches!(error, Some(EngineError::Model(ModelError::Truncated { .. }))));
}

#[test]
fn errors_and_debug_output_never_quote_the_request() {
    let canary = "canary-7f3a";
    let mut r = request(chat(&[(Role::User, canary)]), 0);
    r.stop = vec![canary.as_bytes().to_vec().into()];
    assert!(!format!("{r:?}").contains("canary"));
    let error = refusal(r);
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn a_control_token_in_a_completion_is_not_the_end_of_a_turn() {
    let ids = Probe::load(&TinyModel::random(1).build()).unwrap();
    let ids = ids.ids(&text("<|im_end|>")).unwrap();
    assert!(!ids.contains(&IM_END));
}

#[test]
fn a_context_limit_below_the_models_own_is_enforced_on_prompt_and_answer() {
    let model = TinyModel::scripted(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let prompt = engine(&model).generate(hello(1)).unwrap().prompt_tokens;
    let limited = |context_tokens| {
        let options = EngineOptions { context_tokens, ..EngineOptions::new(|| 0) };
        CandleEngine::load(&model.build(), options).unwrap()
    };
    let got = answer(&limited(prompt + 3), hello(8));
    assert_eq!((reason(&got), completion(&got)), (FinishReason::Length, 3));
    assert_eq!(
        limited(prompt).generate(hello(8)).expect_err("no room for an answer"),
        EngineError::PromptTooLong { got: prompt, limit: prompt }
    );
}

#[test]
fn a_context_is_cut_to_what_the_cache_holds() {
    let cache_tokens = NonZeroUsize::new(64);
    let options = EngineOptions { cache_tokens, ..EngineOptions::new(|| 0) };
    let file = TinyModel::endless(&["x"]).context(4000).build();
    let engine = CandleEngine::load(&file, options).unwrap();
    assert_eq!(engine.info().context_tokens, 64);
    let refused = EngineError::PromptTooLong { got: 64, limit: 64 };
    assert_eq!(engine.generate(request(text(&"p".repeat(64)), 1)).expect_err("full"), refused);
    assert_eq!(completion(&answer(&engine, request(text(&"p".repeat(63)), 9))), 1);
}
