//! A mixture of experts: of many feed-forward parts each token takes the few its router prefers.
//!
//! Tokens that take the same expert are computed together, so that its weights are read once for all of
//! them. Results are added in the order of experts, whatever the neighbours of a token take.

use crate::kernels::{
    Activation, Inputs, Matrix, Pool, Tiled, add_weighted, gated_product, product,
};

/// The mixture of one layer.
pub(crate) struct Experts {
    /// One row for each expert.
    pub(crate) router: Matrix,
    /// Experts that a token takes.
    pub(crate) used: usize,
    pub(crate) all: Vec<Expert>,
}

/// One gated feed-forward part.
pub(crate) struct Expert {
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

impl Experts {
    /// The weighted sums for the rows of `from`, which went through the norm. `ffn` is the width of an
    /// expert.
    pub(crate) fn run(
        &self,
        pool: &Pool,
        from: &Tiled,
        activation: Activation,
        ffn: usize,
    ) -> Tiled {
        let width = from.columns();
        let mut inputs = Inputs::new(from.rows(), width);
        inputs.fill(pool, from, None, &[&self.router]);
        let mut logits = Tiled::new(from.rows(), self.all.len());
        product(pool, &[&self.router], &inputs, &mut logits);
        let mut sum = Tiled::new(from.rows(), width);
        for (expert, takers) in self.all.iter().zip(self.takers(&logits)) {
            if takers.is_empty() {
                continue;
            }
            let rows: Vec<usize> = takers.iter().map(|(row, _)| *row).collect();
            let Expert { gate, up, down } = expert;
            let mut inputs = Inputs::new(rows.len(), width.max(ffn));
            inputs.fill(pool, &from.pick(&rows), None, &[gate, up]);
            let mut inner = Tiled::new(rows.len(), ffn);
            gated_product(pool, [gate, up], activation, &inputs, &mut inner);
            inputs.fill(pool, &inner, None, &[down]);
            let mut out = Tiled::new(rows.len(), width);
            product(pool, &[down], &inputs, &mut out);
            add_weighted(&out, &takers, &mut sum);
        }
        sum
    }

    /// For each expert the rows that take it, in order, and its share of them.
    fn takers(&self, logits: &Tiled) -> Vec<Vec<(usize, f32)>> {
        let mut takers = vec![Vec::new(); self.all.len()];
        for row in 0..logits.rows() {
            let logits = logits.row(row, self.all.len());
            for (expert, share) in shares(&logits, self.used) {
                if let Some(takers) = takers.get_mut(expert) {
                    takers.push((row, share));
                }
            }
        }
        takers
    }
}

/// The `used` experts with the largest logits, of equals the first, and the softmax over them. That is
/// the softmax over all, normalised again: the rest of the sum is the same for each of them.
fn shares(logits: &[f32], used: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
    // A stable sort, and a total order: a token whose numbers are none takes some expert too.
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.truncate(used);
    let most = order.first().map_or(0.0, |(_, logit)| *logit);
    for (_, logit) in &mut order {
        *logit = (*logit - most).exp();
    }
    let total: f32 = order.iter().map(|(_, weight)| weight).sum();
    order.into_iter().map(|(expert, weight)| (expert, weight / total)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_takes_the_experts_with_the_largest_logits_in_shares_of_one() {
        let got = shares(&[0.0, 2.0, 1.0, 2.0], 3);
        assert_eq!(got.iter().map(|(expert, _)| *expert).collect::<Vec<_>>(), [1, 3, 2]);
        let total = 2.0 + (-1.0f32).exp();
        for ((_, share), exact) in got.iter().zip([1.0, 1.0, (-1.0f32).exp()]) {
            assert!((share - exact / total).abs() < 1e-6);
        }
    }

    #[test]
    fn of_equal_experts_the_first_are_taken() {
        assert_eq!(shares(&[1.0; 4], 2), [(0, 0.5), (1, 0.5)]);
    }

    #[test]
    fn numbers_that_are_none_stay_none() {
        let got = shares(&[0.0, f32::NAN, 1.0], 2);
        assert_eq!(got.len(), 2);
        assert!(got.iter().all(|(_, share)| share.is_nan()));
    }
}
