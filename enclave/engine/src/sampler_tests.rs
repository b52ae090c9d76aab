//! Sampling: distributions, determinism, and logits that are no numbers.

use super::*;

fn sampler(temperature: f32, top_p: f32, top_k: Option<u32>, seed: u64) -> Sampler {
    let sampling = Sampling { temperature, top_p, top_k, ..Sampling::greedy() };
    Sampler::new(&sampling, Vec::new(), seed)
}

fn frequencies(sampler: &mut Sampler, logits: &[f32], draws: u32) -> Vec<f64> {
    let mut counts = vec![0u32; logits.len()];
    for _ in 0..draws {
        counts[sampler.draw(logits, None).unwrap() as usize] += 1;
    }
    counts.iter().map(|c| f64::from(*c) / f64::from(draws)).collect()
}

fn ln(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

#[test]
fn generator_gives_the_published_sequence() {
    // First outputs of xoshiro256++ for the state 1, 2, 3, 4 (reference implementation).
    let mut rng = Xoshiro([1, 2, 3, 4]);
    assert_eq!(
        [rng.next(), rng.next(), rng.next()],
        [41_943_041, 58_720_359, 3_588_806_011_781_223]
    );
}

#[test]
fn temperature_zero_takes_the_most_likely_and_the_lowest_id_of_equals() {
    assert_eq!(sampler(0.0, 0.5, None, 1).draw(&[1.0, 3.0, 3.0, -9.0], None).unwrap(), 1);
}

#[test]
fn draws_with_the_probabilities_of_the_logits() {
    let got = frequencies(&mut sampler(1.0, 1.0, None, 3), &ln(&[0.5, 0.3, 0.2]), 40_000);
    for (got, want) in got.iter().zip([0.5, 0.3, 0.2]) {
        assert!((got - want).abs() < 0.01, "{got} {want}");
    }
}

#[test]
fn temperature_sharpens() {
    let got = frequencies(&mut sampler(0.5, 1.0, None, 3), &ln(&[0.6, 0.4]), 40_000);
    assert!((got[0] - 0.36 / 0.52).abs() < 0.01, "{}", got[0]);
}

#[test]
fn top_k_keeps_only_the_best() {
    let got = frequencies(&mut sampler(1.0, 1.0, Some(2), 3), &ln(&[0.2, 0.5, 0.3]), 20_000);
    assert_eq!(got[0], 0.0);
    assert!((got[1] - 0.625).abs() < 0.015);
}

#[test]
fn top_p_keeps_the_shortest_front_that_reaches_it() {
    let logits = ln(&[0.05, 0.5, 0.3, 0.15]);
    let got = frequencies(&mut sampler(1.0, 0.75, None, 3), &logits, 20_000);
    assert_eq!((got[0], got[3]), (0.0, 0.0));
    assert!((got[1] - 0.625).abs() < 0.015);
    assert_eq!(sampler(1.0, 1e-6, None, 9).draw(&logits, None).unwrap(), 1, "never empty");
}

#[test]
fn top_p_of_a_flat_distribution_is_wider_than_the_first_guess() {
    let logits = vec![0.0; 1000];
    let got = frequencies(&mut sampler(1.0, 0.9, None, 5), &logits, 5000);
    let used = got.iter().filter(|f| **f > 0.0).count();
    assert!((850..=900).contains(&used), "{used}");
    assert!(got[900..].iter().all(|f| *f == 0.0));
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_seed_others() {
    let logits: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 37) / 10.0).collect();
    let run = |seed| {
        let mut s = sampler(0.8, 0.95, Some(40), seed);
        (0..50).map(|_| s.draw(&logits, None).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn tiny_temperature_is_greedy() {
    assert_eq!(sampler(1e-38, 1.0, None, 1).draw(&[0.0, 0.001, -0.5], None).unwrap(), 1);
}

#[test]
fn refuses_logits_that_are_no_numbers() {
    let refused = Err(EngineError::Compute { stage: "finite logits" });
    for logits in [
        vec![],
        vec![f32::NAN],
        vec![1.0, f32::NAN],
        vec![f32::INFINITY, 0.0],
        vec![f32::NEG_INFINITY; 3],
    ] {
        for temperature in [0.0, 1.0] {
            assert_eq!(sampler(temperature, 1.0, None, 1).draw(&logits, None), refused);
        }
    }
}

#[test]
fn min_p_keeps_what_is_likely_enough_beside_the_best() {
    let sampling = Sampling { temperature: 1.0, min_p: 0.5, ..Sampling::greedy() };
    let mut sampler = Sampler::new(&sampling, Vec::new(), 3);
    // 0.24 is less than half of 0.5, 0.26 is more.
    let got = frequencies(&mut sampler, &ln(&[0.24, 0.5, 0.26]), 20_000);
    assert_eq!(got[0], 0.0);
    assert!((got[1] - 0.5 / 0.76).abs() < 0.015, "{}", got[1]);
}

#[test]
fn min_p_of_one_leaves_the_most_likely() {
    let sampling = Sampling { temperature: 2.0, min_p: 1.0, ..Sampling::greedy() };
    let mut sampler = Sampler::new(&sampling, Vec::new(), 3);
    assert_eq!(frequencies(&mut sampler, &ln(&[0.3, 0.4, 0.3]), 1_000)[1], 1.0);
}

#[test]
fn a_bias_bans_or_forces_a_token() {
    let logits = ln(&[0.5, 0.3, 0.2]);
    for (bias, want) in
        [(LogitBias { token: 0, bias: -100.0 }, 1), (LogitBias { token: 2, bias: 100.0 }, 2)]
    {
        let mut sampler = Sampler::new(&Sampling::greedy(), vec![bias], 1);
        assert_eq!(sampler.draw(&logits, None).unwrap(), want);
    }
}

#[test]
fn frequency_penalty_counts_every_time_and_presence_penalty_once() {
    let logits = [2.0, 1.0, 0.3];
    let tokens = |sampling: Sampling, n: usize| {
        let mut sampler = Sampler::new(&sampling, Vec::new(), 1);
        (0..n).map(|_| sampler.draw(&logits, None).unwrap()).collect::<Vec<_>>()
    };
    // 2.0 leads, then 1.4, then 1.0 over 0.8, then 0.8 over 0.4, then 0.4 over 0.3 and 0.2.
    let frequency = Sampling { frequency_penalty: 0.6, ..Sampling::greedy() };
    assert_eq!(tokens(frequency, 5), [0, 0, 1, 0, 1]);
    // 2.0 falls to 0.9 once and stays there; 1.0 falls to -0.1.
    let presence = Sampling { presence_penalty: 1.1, ..Sampling::greedy() };
    assert_eq!(tokens(presence, 4), [0, 1, 0, 0]);
    let negative = Sampling { frequency_penalty: -2.0, ..Sampling::greedy() };
    assert_eq!(tokens(negative, 3), [0, 0, 0]);
}

#[test]
fn without_penalties_nothing_is_counted() {
    let mut sampler = sampler(1.0, 1.0, None, 1);
    sampler.draw(&[1.0, 2.0], None).unwrap();
    assert!(sampler.counts.is_empty());
}
