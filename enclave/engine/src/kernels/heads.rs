//! Queries and keys on their way from the products to attention: normalised head by head where the
//! family does that, turned by their position, scaled. One row of a head never depends on another.

use zeroize::Zeroizing;

use super::math;
use super::pool::Pool;
use super::tiled::Tiled;

/// Which dimensions of a head turn together. It is a property of how the file orders the rows of
/// query and key weights, and a wrong one gives fluent but wrong text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// Dimensions 2i and 2i+1 (`LLAMA_ROPE_TYPE_NORM`).
    Neighbours,
    /// Dimensions i and i + half of the head (`LLAMA_ROPE_TYPE_NEOX`).
    Halves,
}

/// Rotary embedding of the tokens of a step.
pub(crate) struct Rotation {
    /// Cosine and sine for each token and each pair of dimensions.
    pub(crate) turns: Vec<[f32; 2]>,
    pub(crate) pairs: usize,
    pub(crate) pairing: Pairing,
}

impl Rotation {
    /// Turns one head of `token`.
    #[inline(always)]
    fn turn(&self, token: usize, head: &mut [f32]) {
        let turns = &self.turns[token * self.pairs..][..self.pairs];
        match self.pairing {
            Pairing::Neighbours => {
                for (ab, turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                    *ab = turned(*ab, *turn);
                }
            }
            Pairing::Halves => {
                let (left, right) = head.split_at_mut(self.pairs);
                for ((a, b), turn) in left.iter_mut().zip(right).zip(turns) {
                    [*a, *b] = turned([*a, *b], *turn);
                }
            }
        }
    }
}

#[inline(always)]
const fn turned([a, b]: [f32; 2], [cos, sin]: [f32; 2]) -> [f32; 2] {
    [a * cos - b * sin, a * sin + b * cos]
}

/// An RMS norm over the dimensions of one head.
pub(crate) struct HeadNorm {
    /// One weight for each dimension, the same for all heads.
    pub(crate) weight: Vec<f32>,
    pub(crate) epsilon: f32,
}

impl HeadNorm {
    #[inline(always)]
    fn apply(&self, head: &mut [f32]) {
        let mut squares = [0.0; 16];
        for part in head.chunks(16) {
            for (sum, x) in squares.iter_mut().zip(part) {
                *sum += x * x;
            }
        }
        #[allow(clippy::cast_precision_loss)] // dimensions of a head
        let mean = math::sum(&squares) / head.len() as f32;
        let scale = 1.0 / (mean + self.epsilon).sqrt();
        for (x, weight) in head.iter_mut().zip(&self.weight) {
            *x *= scale * weight;
        }
    }
}

/// Some heads of the tokens of a step, each contiguous, the heads of a token side by side. Wiped on
/// drop.
pub(crate) struct Heads {
    heads: usize,
    dim: usize,
    data: Zeroizing<Vec<f32>>,
}

impl Heads {
    /// Zeros for `rows` tokens.
    pub(crate) fn new(rows: usize, heads: usize, dim: usize) -> Self {
        Self { heads, dim, data: Zeroizing::new(vec![0.0; rows * heads * dim]) }
    }

    /// Takes the heads that stand in `from` from `column` on: through `norm`, turned by `rotation`,
    /// times `scale`.
    pub(crate) fn fill(
        &mut self,
        pool: &Pool,
        (from, column): (&Tiled, usize),
        norm: Option<&HeadNorm>,
        rotation: &Rotation,
        scale: f32,
    ) {
        let (width, dim) = (self.heads * self.dim, self.dim);
        pool.chunks(&mut self.data, width, |first, rows| {
            for (row, heads) in rows.chunks_exact_mut(width).enumerate() {
                let row = first + row;
                from.read(row, column, heads);
                for head in heads.chunks_exact_mut(dim) {
                    if let Some(norm) = norm {
                        norm.apply(head);
                    }
                    rotation.turn(row, head);
                    head.iter_mut().for_each(|x| *x *= scale);
                }
            }
        });
    }

    /// One head of one token.
    #[inline(always)]
    pub(crate) fn get(&self, row: usize, head: usize) -> &[f32] {
        &self.data[(row * self.heads + head) * self.dim..][..self.dim]
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::Path;
    use super::*;

    /// A quarter turn, so that a pair (a, b) becomes (-b, a).
    fn quarter(pairing: Pairing) -> Rotation {
        Rotation { turns: vec![[0.0, 1.0]; 2], pairs: 2, pairing }
    }

    fn filled(norm: Option<&HeadNorm>, pairing: Pairing, scale: f32) -> Vec<f32> {
        let mut from = Tiled::new(1, 10);
        from.set_row(0, &[9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let mut heads = Heads::new(1, 2, 4);
        let pool = Pool::with_path(1, Path::best());
        heads.fill(&pool, (&from, 2), norm, &quarter(pairing), scale);
        [heads.get(0, 0), heads.get(0, 1)].concat()
    }

    #[test]
    fn neighbours_and_halves_turn_together() {
        let neighbours = filled(None, Pairing::Neighbours, 1.0);
        assert_eq!(neighbours, [-2.0, 1.0, -4.0, 3.0, -6.0, 5.0, -8.0, 7.0]);
        let halves = filled(None, Pairing::Halves, 1.0);
        assert_eq!(halves, [-3.0, -4.0, 1.0, 2.0, -7.0, -8.0, 5.0, 6.0]);
        assert_eq!(filled(None, Pairing::Halves, 2.0)[0], -6.0);
    }

    #[test]
    fn a_head_is_normalised_alone_before_it_turns() {
        let norm = HeadNorm { weight: vec![1.0, 2.0, 1.0, 1.0], epsilon: 0.0 };
        let got = filled(Some(&norm), Pairing::Neighbours, 1.0);
        let root = (30.0f32 / 4.0).sqrt();
        for (got, exact) in got.iter().zip([-4.0 / root, 1.0 / root, -4.0 / root, 3.0 / root]) {
            assert!((got - exact).abs() < 1e-6, "{got} {exact}");
        }
    }
}
