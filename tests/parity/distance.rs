//! How far logits are from exact ones.

use crate::real::argmax;

/// How far logits are from the exact ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Distance {
    /// Largest difference of a logit.
    pub(crate) largest: f32,
    /// Kullback-Leibler divergence of the distributions, in nats.
    pub(crate) mean_kl: f64,
    /// At one position.
    pub(crate) max_kl: f64,
    /// Share of positions with the same most likely token.
    pub(crate) same_first: f64,
    /// Of the others, by how much the exact logits prefer their token at most.
    pub(crate) largest_turned_margin: f32,
}

impl Distance {
    pub(crate) fn of(got: &[Vec<f32>], exact: &[Vec<f32>]) -> Self {
        assert_eq!(got.len(), exact.len());
        let mut out = Self::default();
        let count = got.len() as f64;
        for (got, exact) in got.iter().zip(exact) {
            assert_eq!(got.len(), exact.len());
            assert!(got.iter().all(|logit| logit.is_finite()));
            for (a, b) in got.iter().zip(exact) {
                out.largest = out.largest.max((a - b).abs());
            }
            let (p, q) = (log_softmax(exact), log_softmax(got));
            let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            out.mean_kl += kl / count;
            out.max_kl = out.max_kl.max(kl);
            let (first, theirs) = (argmax(got), argmax(exact));
            if first == theirs {
                out.same_first += 1.0 / count;
            } else {
                let margin = exact[theirs as usize] - exact[first as usize];
                out.largest_turned_margin = out.largest_turned_margin.max(margin);
            }
        }
        out
    }
}

/// Of the text `ids` by logits after each of its tokens: perplexity by `got` divided by that of `exact`.
pub(crate) fn perplexity_ratio(got: &[Vec<f32>], exact: &[Vec<f32>], ids: &[u32]) -> f64 {
    assert_eq!((got.len(), exact.len()), (ids.len(), ids.len()));
    let next = ids.iter().skip(1);
    let surprise = |logits: &[Vec<f32>]| {
        let each = logits.iter().zip(next.clone());
        -each.map(|(logits, next)| log_softmax(logits)[*next as usize]).sum::<f64>()
    };
    ((surprise(got) - surprise(exact)) / next.len() as f64).exp()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = || logits.iter().map(|x| f64::from(x - most));
    let total = shifted().map(f64::exp).sum::<f64>().ln();
    shifted().map(|x| x - total).collect()
}

#[test]
fn perplexity_is_that_of_the_tokens_that_come_next() {
    // Two tokens: the second one is as likely as not by one, and three times as likely by the other. What
    // comes after the last token is unknown.
    let (even, sure) = (vec![0.0, 0.0], vec![0.0, 3f32.ln()]);
    let ratio = perplexity_ratio(&[even.clone(), even.clone()], &[sure, even], &[0, 1]);
    assert!((ratio - 1.5).abs() < 1e-6, "{ratio}");
}
