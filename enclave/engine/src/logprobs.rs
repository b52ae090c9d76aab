//! Log probabilities of tokens, for requests that ask for them. They say what the model itself thought:
//! they are taken from its logits before biases, penalties, temperature or anything else of the
//! request. Sums run in the order of token ids, so equal logits give equal bits, whoever else is served.
//! They reveal prompt and completion like text does, and are wiped.

use std::collections::VecDeque;

use chrysalis_wire::SecretBytes;
use zeroize::Zeroizing;

use crate::sampler::{Candidate, by_rank, keep_best};
use crate::tokenizer::Tokenizer;

/// One token of an answer, and what else the model might have said.
#[derive(Debug)]
pub struct LoggedToken {
    /// The token that was drawn.
    pub drawn: TokenLogprob,
    /// Characters of the answer before it.
    pub offset: u32,
    /// The most likely tokens in its place, as many as were asked for, the likeliest first.
    pub top: Vec<TokenLogprob>,
}

/// One token and its log probability.
#[derive(Debug)]
pub struct TokenLogprob {
    /// Its bytes, which may end inside a character; the name of a control token.
    pub bytes: SecretBytes,
    /// Whether it is a control token, which is no text.
    pub control: bool,
    /// Natural logarithm of its probability, from [`LEAST_LOGPROB`] to 0.
    pub logprob: f32,
}

/// Ids and log probabilities for one place of an answer.
pub(crate) struct Scores {
    drawn: Candidate,
    top: Zeroizing<Vec<Candidate>>,
}

/// Scores `token` and the `top` likeliest tokens among `logits`, whose index is the token id.
pub(crate) fn score(logits: &[f32], token: u32, top: usize) -> Scores {
    let all = || (0u32..).zip(logits).map(|(id, logit)| Candidate { id, logit: *logit });
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| (f64::from(logit) - f64::from(max)).exp();
    let total: f64 = logits.iter().map(|logit| weight(*logit)).sum();
    let total = total.ln();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "told in single precision, like the logits"
    )]
    let scored = |candidate: Candidate| Candidate {
        logit: ((f64::from(candidate.logit) - f64::from(max) - total) as f32)
            .clamp(LEAST_LOGPROB, 0.0),
        ..candidate
    };
    let drawn = usize::try_from(token).ok().and_then(|at| logits.get(at)).copied();
    let mut best: Zeroizing<Vec<Candidate>> = Zeroizing::default();
    if top > 0 {
        best = Zeroizing::new(all().collect());
        keep_best(&mut best, top);
        best.sort_unstable_by(by_rank);
        best.iter_mut().for_each(|candidate| *candidate = scored(*candidate));
    }
    let drawn = Candidate { id: token, logit: drawn.unwrap_or(f32::NEG_INFINITY) };
    Scores { drawn: scored(drawn), top: best }
}

/// Hands tokens out together with the text that begins in them. Text may be held back, and cut by a
/// stop string: a token goes out with the first piece of its text, and not at all if none goes out.
#[derive(Default)]
pub(crate) struct Log {
    /// Tokens that were not handed out, and at which byte of the text each begins.
    waiting: VecDeque<(usize, LoggedToken)>,
    /// Bytes and characters of text so far, and bytes of it that were handed out.
    bytes: usize,
    characters: u32,
    released: usize,
}

impl Log {
    /// Adds the token whose text comes next.
    pub(crate) fn push(&mut self, scores: &Scores, tokenizer: &Tokenizer) {
        let named = |candidate: &Candidate| {
            let (bytes, control) = tokenizer.spelling(candidate.id);
            TokenLogprob { bytes: bytes.to_vec().into(), control, logprob: candidate.logit }
        };
        let (drawn, top) = (named(&scores.drawn), scores.top.iter().map(named).collect());
        let token = LoggedToken { drawn, offset: self.characters, top };
        self.waiting.push_back((self.bytes, token));
    }

    /// Counts text that was added behind what is there.
    pub(crate) fn text(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len());
        let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        self.characters = self.characters.saturating_add(characters);
    }

    /// The tokens that go out with the next `text`.
    pub(crate) fn release(&mut self, text: &str) -> Vec<LoggedToken> {
        self.released = self.released.saturating_add(text.len());
        let begun = self.waiting.iter().take_while(|(start, _)| *start < self.released).count();
        self.waiting.drain(..begun).map(|(_, token)| token).collect()
    }

    /// The tokens without text that are left at the end.
    pub(crate) fn finish(&mut self) -> Vec<LoggedToken> {
        self.waiting.drain(..).map(|(_, token)| token).collect()
    }
}

/// Least log probability that is told, as in the `OpenAI` API.
pub const LEAST_LOGPROB: f32 = -9999.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn logprobs(scores: &Scores) -> Vec<(u32, f32)> {
        scores.top.iter().map(|c| (c.id, c.logit)).collect()
    }

    #[test]
    fn probabilities_of_all_tokens_add_up_to_one() {
        let logits = [3.0, -1.5, 0.25, 7.0, f32::NEG_INFINITY];
        let scores = score(&logits, 0, logits.len());
        let sum: f64 = scores.top.iter().map(|c| f64::from(c.logit).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(scores.top.last().unwrap().logit, LEAST_LOGPROB);
    }

    #[test]
    fn the_likeliest_come_first_and_the_lowest_id_of_equals() {
        let scores = score(&[1.0, 2.0, 2.0, 0.0], 3, 3);
        assert_eq!(scores.top.iter().map(|c| c.id).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(scores.drawn.id, 3);
        assert!(scores.drawn.logit < scores.top[2].logit);
    }

    #[test]
    fn what_is_drawn_scores_the_same_however_many_others_are_told() {
        let logits: Vec<f32> = (0..1000u16).map(|n| f32::from(n % 37) / 3.0).collect();
        let alone = score(&logits, 17, 0);
        let with_others = score(&logits, 17, 20);
        assert!(alone.top.is_empty());
        assert_eq!(alone.drawn.logit.to_bits(), with_others.drawn.logit.to_bits());
        assert_eq!(logprobs(&with_others).len(), 20);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let scores = score(&[1e30, 1e30, -1e30], 0, 3);
        assert!((f64::from(scores.drawn.logit) - 0.5f64.ln()).abs() < 1e-6);
        assert_eq!(scores.top[2].logit, LEAST_LOGPROB);
    }
}
