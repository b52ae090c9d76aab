//! Draws the next token from logits. Deterministic: the same seed and logits give the same token on
//! every machine with the same logits. Probabilities reveal the completion, so they are wiped.

use std::cmp::Ordering;

use zeroize::Zeroizing;

use crate::constrain::Mask;
use crate::error::EngineError;
use crate::request::{LogitBias, Sampling};

/// The sampler of one request.
pub(crate) struct Sampler {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    min_p: f64,
    frequency_penalty: f32,
    presence_penalty: f32,
    bias: Vec<LogitBias>,
    /// How often each token was drawn; empty while no penalty asks. The completion, in short: wiped.
    counts: Zeroizing<Vec<u16>>,
    rng: Xoshiro,
}

/// A token and its logit.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    pub(crate) logit: f32,
}

impl Sampler {
    /// A sampler for checked parameters.
    pub(crate) fn new(sampling: &Sampling, bias: Vec<LogitBias>, seed: u64) -> Self {
        Self {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k.and_then(|k| usize::try_from(k).ok()).unwrap_or(usize::MAX),
            min_p: sampling.min_p.into(),
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
            bias,
            counts: Zeroizing::default(),
            rng: Xoshiro::seeded(seed),
        }
    }

    /// The seed of a choice of a request with `seed`: the first has that one.
    pub(crate) const fn seed_of(seed: u64, choice: u32) -> u64 {
        if choice == 0 {
            return seed;
        }
        mixed(seed.wrapping_add((choice as u64).wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }

    /// The next token among `logits`, whose index is the token id. In this order: biases and
    /// penalties, what is `allowed`, temperature, `min_p`, `top_k`, `top_p`.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        allowed: Option<&Mask>,
    ) -> Result<u32, EngineError> {
        let adjusted = self.adjusted(logits, allowed);
        let token = self.choose(adjusted.as_deref().map_or(logits, Vec::as_slice))?;
        if self.penalises() {
            self.counts.resize(logits.len(), 0);
            let count = usize::try_from(token).ok().and_then(|at| self.counts.get_mut(at));
            if let Some(count) = count {
                *count = count.saturating_add(1);
            }
        }
        Ok(token)
    }

    /// Whether it always takes the token with the largest logit.
    pub(crate) fn takes_likeliest(&self) -> bool {
        (self.temperature == 0.0 || self.top_k == 1) && self.bias.is_empty() && !self.penalises()
    }

    fn penalises(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// The logits with biases and penalties applied, and without what is not allowed; `None` where there
    /// is nothing to apply.
    fn adjusted(&self, logits: &[f32], allowed: Option<&Mask>) -> Option<Zeroizing<Vec<f32>>> {
        if self.bias.is_empty() && self.counts.is_empty() && allowed.is_none() {
            return None;
        }
        let mut out = Zeroizing::new(logits.to_vec());
        for LogitBias { token, bias } in &self.bias {
            let logit = usize::try_from(*token).ok().and_then(|at| out.get_mut(at));
            if let Some(logit) = logit {
                *logit += bias;
            }
        }
        for (logit, count) in out.iter_mut().zip(self.counts.iter()).filter(|(_, n)| **n > 0) {
            *logit -= f32::from(*count) * self.frequency_penalty + self.presence_penalty;
        }
        if let Some(allowed) = allowed {
            allowed.apply(&mut out);
        }
        Some(out)
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        let best = argmax(logits)?;
        if self.temperature == 0.0 || self.top_k == 1 {
            return Ok(best.id);
        }
        let mut all: Zeroizing<Vec<Candidate>> = Zeroizing::new(
            (0u32..).zip(logits).map(|(id, logit)| Candidate { id, logit: *logit }).collect(),
        );
        if self.min_p > 0.0 {
            all.retain(|c| self.weight(*c, best.logit) >= self.min_p);
        }
        let count = self.top_k.min(all.len());
        // Total weight of what top-k leaves, before the nucleus is cut out of it.
        keep_best(&mut all, count);
        let total: f64 = all.iter().map(|c| self.weight(*c, best.logit)).sum();
        let goal = total * f64::from(self.top_p);
        if self.top_p >= 1.0 {
            return Ok(self.pick(&all, best, total));
        }
        // Few tokens carry most of the weight: look at the best few and widen while that is too few.
        let mut width = FIRST_WIDTH;
        loop {
            let width_now = width.min(all.len());
            let nucleus = self.nucleus(&mut all, width_now, best.logit, goal);
            if let Some((len, weight)) = nucleus {
                let chosen = all.get(..len).unwrap_or_default();
                return Ok(self.pick(chosen, best, weight));
            }
            if width_now == all.len() {
                return Ok(self.pick(&all, best, total));
            }
            width = width.saturating_mul(8);
        }
    }

    /// Sorts the `width` best to the front; the shortest front that reaches `goal`, if one does.
    fn nucleus(
        &self,
        all: &mut [Candidate],
        width: usize,
        max: f32,
        goal: f64,
    ) -> Option<(usize, f64)> {
        if width < all.len() {
            all.select_nth_unstable_by(width, by_rank);
        }
        let front = all.get_mut(..width)?;
        front.sort_unstable_by(by_rank);
        let mut sum = 0.0;
        for (at, candidate) in front.iter().enumerate() {
            sum += self.weight(*candidate, max);
            if sum >= goal {
                return Some((at.saturating_add(1), sum));
            }
        }
        None
    }

    fn weight(&self, candidate: Candidate, max: f32) -> f64 {
        let scaled = (f64::from(candidate.logit) - f64::from(max)) / f64::from(self.temperature);
        scaled.exp()
    }

    fn pick(&mut self, candidates: &[Candidate], best: Candidate, total: f64) -> u32 {
        let mut left = self.rng.unit() * total;
        for candidate in candidates {
            left -= self.weight(*candidate, best.logit);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding left a crumb behind the last token.
        best.id
    }
}

/// The most likely token; the lowest id of equals.
fn argmax(logits: &[f32]) -> Result<Candidate, EngineError> {
    // Sixteen at a time, so that it becomes vectors: greedy requests do nothing else with their logits.
    let (groups, rest) = logits.as_chunks::<16>();
    let (mut most, mut strange) = ([f32::NEG_INFINITY; 16], [false; 16]);
    let mut last = [f32::NEG_INFINITY; 16];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    for group in groups.iter().chain([&last]) {
        for ((most, strange), logit) in most.iter_mut().zip(&mut strange).zip(group) {
            *strange |= logit.is_nan();
            *most = if *logit > *most { *logit } else { *most };
        }
    }
    let largest = most.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Of zeros the positive ones are larger: see `by_rank`.
    let equal = (0u32..).zip(logits).filter(|(_, logit)| **logit == largest);
    let best = equal.map(|(id, logit)| Candidate { id, logit: *logit }).min_by(by_rank);
    best.filter(|best| best.logit.is_finite() && !strange.contains(&true))
        .ok_or(EngineError::Compute { stage: "finite logits" })
}

/// Drops all but the `count` best, in no order.
pub(crate) fn keep_best(all: &mut Vec<Candidate>, count: usize) {
    if count < all.len() {
        all.select_nth_unstable_by(count, by_rank);
        all.truncate(count);
    }
}

/// Higher logit first, then lower id: a total order, so that the result never depends on the sort.
pub(crate) fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

impl zeroize::DefaultIsZeroes for Candidate {}

impl Default for Candidate {
    fn default() -> Self {
        Self { id: 0, logit: 0.0 }
    }
}

/// xoshiro256++ (Blackman and Vigna), seeded by SplitMix64. Not cryptographic and need not be: who
/// knows the seed may know the answer's random choices.
struct Xoshiro([u64; 4]);

impl Xoshiro {
    fn seeded(seed: u64) -> Self {
        let mut state = seed;
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed(state)
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.0 = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        out
    }

    /// Uniform in [0, 1), 53 bits.
    #[allow(clippy::cast_precision_loss)] // 53 bits are exact in an f64
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The output function of SplitMix64.
const fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// First guess of how many tokens a nucleus has.
const FIRST_WIDTH: usize = 256;

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
