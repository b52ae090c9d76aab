//! What lies between a product and the stream of activations in families that normalise before they
//! add, or that add several results. Row by row, in a fixed order.

use super::input::{Norm, norm_scale, normalise};
use super::tiled::Tiled;

/// `norm(from)`.
pub(crate) fn normalised(from: &Tiled, norm: &Norm) -> Tiled {
    let mut out = Tiled::new(from.rows(), norm.columns);
    add_normalised(from, norm, &mut out);
    out
}

/// `to += norm(from)`.
pub(crate) fn add_normalised(from: &Tiled, norm: &Norm, to: &mut Tiled) {
    for row in 0..from.rows() {
        let scale = norm_scale(from, row, norm);
        for (tile, weight) in norm.weight.iter().enumerate() {
            let mut x = *from.lanes(row, tile);
            normalise(&mut x, scale, weight);
            let to = to.lanes_mut(row, tile);
            for i in 0..16 {
                to[i] += x[i];
            }
        }
    }
}

/// `to[row] += weight * from[i]` for the i-th of `rows` and its weight.
pub(crate) fn add_weighted(from: &Tiled, rows: &[(usize, f32)], to: &mut Tiled) {
    for tile in 0..from.columns() / 16 {
        for (i, (row, weight)) in rows.iter().enumerate() {
            let x = from.lanes(i, tile);
            let to = to.lanes_mut(*row, tile);
            for i in 0..16 {
                to[i] += weight * x[i];
            }
        }
    }
}

/// `to += from`.
pub(crate) fn add(from: &Tiled, to: &mut Tiled) {
    for row in 0..from.rows() {
        for tile in 0..from.columns() / 16 {
            let x = from.lanes(row, tile);
            let to = to.lanes_mut(row, tile);
            for i in 0..16 {
                to[i] += x[i];
            }
        }
    }
}
