//! The largest product of each row: what a request that takes the likeliest token needs of a
//! vocabulary. Products are looked at while they are in the fastest cache and nothing is kept of them,
//! where the logits of many requests would be megabytes.

use zeroize::Zeroizing;

use super::input::Inputs;
use super::isa::{Isa, Kernel};
use super::matrix::Matrix;
use super::pool::Pool;
use super::product::store;
use super::tiled::Lanes;

/// For each row of `inputs` the number of the largest among the first `known` products with `weights`,
/// the lowest of equals (of zeros the positive ones are larger); `None` if one of them is not a number or
/// the largest is not finite.
pub(crate) fn likeliest(
    pool: &Pool,
    weights: &Matrix,
    inputs: &Inputs,
    known: usize,
) -> Zeroizing<Vec<Option<u32>>> {
    let (rows, tiles) = (inputs.rows(), weights.tiles().min(known.div_ceil(16)));
    let mut parts = Zeroizing::new(vec![Best::default(); tiles.div_ceil(PART_TILES) * rows]);
    pool.chunks(&mut parts, rows, |first, parts| {
        let mut scratch = Zeroizing::new(vec![[0.0; 16]; PART_TILES * rows]);
        for (part, best) in (first..).zip(parts.chunks_exact_mut(rows)) {
            let from = part * PART_TILES;
            let out = &mut scratch[..PART_TILES.min(tiles - from) * rows];
            store(pool, weights, from, inputs, out);
            for (tile, out) in (from..).zip(out.chunks_exact_mut(rows)) {
                let beyond = known.saturating_sub(tile * 16).min(16);
                out.iter_mut().for_each(|lanes| lanes[beyond..].fill(f32::NEG_INFINITY));
            }
            pool.path().run(Scan { from, out, best });
        }
    });
    let of_row = |row| parts.iter().skip(row).step_by(rows).fold(Best::default(), Best::or);
    Zeroizing::new((0..rows).map(|row| of_row(row).id()).collect())
}

/// The best so far.
#[derive(Clone, Copy)]
struct Best {
    /// See [`key`]; [`i32::MAX`] once something was not a number.
    key: i32,
    id: u32,
}

impl zeroize::DefaultIsZeroes for Best {}

impl Default for Best {
    /// Nothing yet: less than every number.
    fn default() -> Self {
        Self { key: i32::MIN, id: 0 }
    }
}

impl Best {
    /// The better one; this one of equals, so that later ids come second.
    fn or(self, other: &Self) -> Self {
        if other.key > self.key { *other } else { self }
    }

    fn id(self) -> Option<u32> {
        // The key is its own inverse.
        f32::from_bits(key(self.key).cast_unsigned()).is_finite().then_some(self.id)
    }
}

/// Bits of an `f32` as an integer in the order of `total_cmp`.
#[inline(always)]
const fn key(bits: i32) -> i32 {
    bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
}

struct Scan<'a> {
    /// The first tile.
    from: usize,
    out: &'a [Lanes],
    /// Of each row.
    best: &'a mut [Best],
}

impl Kernel for Scan<'_> {
    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let rows = self.best.len();
        for (row, best) in self.best.iter_mut().enumerate() {
            let (mut keys, mut tiles, mut strange) = ([i32::MIN; 16], [0u32; 16], [0u32; 16]);
            for (tile, lanes) in (0u32..).zip(self.out[row..].iter().step_by(rows)) {
                for i in 0..16 {
                    let bits = lanes[i].to_bits();
                    let key = key(bits.cast_signed());
                    tiles[i] = if key > keys[i] { tile } else { tiles[i] };
                    // Not by the same condition: that becomes a store to part of the lanes.
                    keys[i] = keys[i].max(key);
                    strange[i] |= u32::from(bits & 0x7fff_ffff > 0x7f80_0000);
                }
            }
            *best = Best::default();
            for i in 0..16 {
                #[allow(clippy::cast_possible_truncation)] // a vocabulary is below 2^32
                let id = (16 * (self.from + tiles[i] as usize) + i) as u32;
                let (lane, key) = (Best { key: keys[i], id }, best.key);
                if lane.key > key || lane.key == key && id < best.id {
                    *best = lane;
                }
            }
            if strange.contains(&1) {
                best.key = i32::MAX;
            }
        }
    }
}

/// Tiles that are computed before they are looked at.
const PART_TILES: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::isa::Path;
    use super::super::matrix::Kind;
    use super::super::tiled::Tiled;
    use super::*;

    /// A matrix whose products with ones are `values`, each for the row of ones times its scale.
    fn found(
        values: &[f32],
        scales: &[f32],
        known: usize,
        threads: usize,
    ) -> Vec<Vec<Option<u32>>> {
        let native: Vec<u8> =
            values.iter().flat_map(|value| [value.to_le_bytes(), [0; 4]].concat()).collect();
        let run = |path| {
            let pool = Pool::with_path(threads, path);
            let matrix = Matrix::pack(&pool, Kind::F32, values.len(), 2, &native).unwrap();
            let mut x = Tiled::new(scales.len(), 2);
            scales.iter().enumerate().for_each(|(row, scale)| x.set_row(row, &[*scale, 0.0]));
            let mut inputs = Inputs::new(scales.len(), 2);
            inputs.fill(&pool, &x, None, &[&matrix]);
            likeliest(&pool, &matrix, &inputs, known).to_vec()
        };
        Path::all().into_iter().map(run).collect()
    }

    fn assert_finds(values: &[f32], known: usize, wanted: Option<u32>) {
        for threads in [1, 3] {
            for found in found(values, &[1.0, 2.0, 1.0], known, threads) {
                assert_eq!(found, [wanted; 3], "{known} of {}", values.len());
            }
        }
    }

    #[test]
    fn finds_the_largest_wherever_it_is_for_each_row() {
        for count in [1, 15, 16, 17, 256, 257, 1000] {
            for at in [0, count / 2, count - 1] {
                let mut values: Vec<f32> = (0..count).map(|i| -1.0 - (i % 7) as f32).collect();
                values[at] = 3.0;
                assert_finds(&values, count, u32::try_from(at).ok());
            }
        }
        let rows: Vec<f32> = (1..=20).map(|row| if row % 2 == 0 { 1.0 } else { -1.0 }).collect();
        for found in found(&[1.0, -2.0, 5.0, -7.0], &rows, 4, 2) {
            for (row, found) in rows.iter().zip(found) {
                assert_eq!(found, Some(if *row > 0.0 { 2 } else { 3 }));
            }
        }
    }

    #[test]
    fn the_lowest_of_equals_wins_across_lanes_and_parts() {
        let mut values = vec![0.5; 1000];
        assert_finds(&values, 1000, Some(0));
        values[..37].fill(0.25);
        assert_finds(&values, 1000, Some(37));
        assert_finds(&values, 37, Some(0));
    }

    #[test]
    fn what_is_not_known_is_not_found() {
        let mut values = vec![1.0; 40];
        (values[17], values[18], values[39]) = (2.0, 3.0, f32::NAN);
        assert_finds(&values, 18, Some(17));
        assert_finds(&values, 39, Some(18));
        assert_finds(&values, 0, None);
    }

    #[test]
    fn finds_nothing_where_a_number_is_missing_or_the_largest_has_no_end() {
        for strange in [f32::NAN, -f32::NAN, f32::INFINITY] {
            for at in [0, 21, 599] {
                let mut values = vec![1.0; 600];
                values[at] = strange;
                assert_finds(&values, 600, None);
            }
        }
        assert_finds(&[f32::NEG_INFINITY; 20], 20, None);
        let mut values = vec![f32::NEG_INFINITY; 20];
        values[3] = -1.0;
        // Times the 0 of the second column it would be no number: infinities stand in the first one.
        assert_finds(&values, 20, Some(3));
    }
}
