//! Log probabilities that come with an answer.

use chrysalis_engine::testing::Logged;
use chrysalis_engine::{LEAST_LOGPROB, MAX_TOP_LOGPROBS};

use super::*;

fn logged(request: GenerateRequest, top: u8) -> GenerateRequest {
    GenerateRequest { logprobs: Some(top), ..request }
}

fn spelled(tokens: &[Logged]) -> Vec<u8> {
    tokens.iter().flat_map(|t| t.token.clone()).collect()
}

#[test]
fn tokens_spell_the_text_and_are_told_where_they_begin() {
    let engine = engine(&TinyModel::scripted(&["Once", " u", "pön", " a time"]));
    let got = answer(&engine, logged(hello(50), 2));
    assert_eq!(spelled(&got.tokens), got.text().as_bytes());
    assert_eq!(got.tokens.iter().map(|t| t.offset).collect::<Vec<_>>(), [0, 4, 6, 9]);
    for token in &got.tokens {
        let (likeliest, logprob) = &token.top[0];
        assert_eq!((likeliest, *logprob), (&token.token, token.logprob), "it was greedy");
        assert_eq!(token.top.len(), 2);
        assert!(token.top[0].1 >= token.top[1].1 && token.top[1].1 >= LEAST_LOGPROB);
    }
    assert!(answer(&engine, hello(50)).tokens.is_empty(), "nobody asked for them");
}

#[test]
fn sampling_parameters_change_what_is_drawn_and_not_what_the_model_thought() {
    let engine = engine(&TinyModel::random(5));
    let first = |sampling: Sampling, logit_bias| {
        let request = GenerateRequest { sampling, logit_bias, ..logged(hello(1), 5) };
        answer(&engine, request).tokens.remove(0)
    };
    let greedy = first(Sampling::greedy(), Vec::new());
    let hot = Sampling { temperature: 2.0, seed: Some(3), ..Sampling::greedy() };
    assert_eq!(first(hot, Vec::new()).top, greedy.top);
    let forced = first(Sampling::greedy(), vec![LogitBias { token: 70, bias: 100.0 }]);
    assert_eq!(forced.top, greedy.top);
    assert!(forced.logprob < greedy.logprob, "it was forced against what the model thought");
}

#[test]
fn they_are_the_same_bits_alone_and_among_others() {
    let engine = engine(&TinyModel::random(7));
    let asked = |n: usize| logged(request(text(&format!("prompt {n} ").repeat(n * 5 + 1)), 20), 4);
    let alone: Vec<_> = (0..4).map(|n| answer(&engine, asked(n)).tokens).collect();
    let together: Vec<_> = (0..4).map(|n| engine.generate(asked(n)).unwrap()).collect();
    let together: Vec<_> = together.into_iter().map(|g| collect(g).tokens).collect();
    assert!(alone.iter().all(|tokens| tokens.len() >= 19), "a token was lost");
    assert_eq!(alone, together);
}

#[test]
fn a_stop_string_takes_the_tokens_that_begin_in_or_behind_it() {
    let engine = engine(&TinyModel::endless(&["one ", "tw", "o th", "ree "]));
    let got = answer(&engine, logged(with_stop(&["two three"], 100), 0));
    assert_eq!((got.text().as_str(), spelled(&got.tokens).as_slice()), ("one ", &b"one "[..]));
    let got = answer(&engine, logged(with_stop(&["wo"], 100), 0));
    assert_eq!(got.text(), "one t");
    assert_eq!(spelled(&got.tokens), b"one tw", "the token that was cut began before the stop");
}

#[test]
fn halves_of_a_character_are_tokens_of_their_own() {
    let pieces: [&[u8]; 3] = [b"\xf0\x9f", b"\xa6\x8b ", b"z"];
    let got = answer(&engine(&TinyModel::scripted(&pieces)), logged(hello(50), 0));
    assert_eq!(spelled(&got.tokens), "🦋 z".as_bytes());
    assert_eq!(got.tokens.iter().map(|t| t.offset).collect::<Vec<_>>(), [0, 0, 2]);
}

#[test]
fn refuses_one_alternative_more_than_are_told() {
    let got = MAX_TOP_LOGPROBS + 1;
    assert_eq!(refusal(logged(hello(1), got)), EngineError::TopLogprobs { got });
}
