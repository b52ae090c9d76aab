//! Elementary functions in plain arithmetic, so that they vectorise and give the same bits on every
//! processor. NaN goes in, NaN comes out.

use super::Lanes;
use super::isa::Isa;

/// `e^x` to about two units in the last place; 0 below -87, where results stop being normal.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = if x > HIGH { HIGH } else { x };
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts: n times the first is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < LOW { 0.0 } else { e * power }
}

/// `e^x` of numbers up to 0 as weights need it, in half the time of [`exp`]: to 2e-7 and a unit in the last
/// place of `x`, of 0 exactly, and 0 below -87. Its bits are those of one kind of processor.
#[inline(always)]
pub(crate) fn weights<S: Isa>(isa: S, x: S::F) -> S::F {
    let one = isa.splat(1.0);
    let x = isa.mul(x, isa.splat(core::f32::consts::LOG2_E));
    let shifted = isa.mul_add(x, one, isa.splat(ROUND));
    let n = isa.mul_add(shifted, one, isa.splat(-ROUND));
    let r = isa.mul_add(n, isa.splat(-1.0), x);
    let mut p = isa.splat(POWERS[0]);
    for power in &POWERS[1..] {
        p = isa.mul_add(p, r, isa.splat(*power));
    }
    isa.times_power(p, n)
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU in its `tanh` form, `x / 2 * (1 + tanh(u))` with `u = sqrt(2/pi) * (x + 0.044715 x^3)`, which is
/// `x * sigmoid(2u)`.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    const TWICE: f32 = 1.595_769; // 2 * sqrt(2/pi)
    x / (1.0 + exp(-TWICE * (x + 0.044_715 * x * x * x)))
}

/// GELU, `x / 2 * (1 + erf(x / sqrt(2)))`, to about 2e-7 of the larger of `x` and 1.
#[inline(always)]
pub(crate) fn gelu_erf(x: f32) -> f32 {
    // Abramowitz and Stegun 7.1.26: 1 - erf(z) for z >= 0, off by 1.5e-7 at most.
    let z = x.abs() * core::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4 * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let rest = p * t * exp(-z * z);
    // Of a negative number what is left is the rest itself, so that nothing cancels.
    0.5 * x * if x < 0.0 { rest } else { 2.0 - rest }
}

/// The sum of sixteen lanes, in a fixed order.
#[inline(always)]
pub(crate) fn sum(lanes: &Lanes) -> f32 {
    let mut half = [0.0; 8];
    for i in 0..8 {
        half[i] = lanes[i] + lanes[i + 8];
    }
    ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]))
}

/// The largest of sixteen lanes that are numbers.
#[inline(always)]
pub(crate) fn most(lanes: &Lanes) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut half = [0.0; 8];
    for i in 0..8 {
        half[i] = larger(lanes[i], lanes[i + 8]);
    }
    let [a, b, c, d] = core::array::from_fn(|i| larger(half[i], half[i + 4]));
    larger(larger(a, c), larger(b, d))
}

/// Rounds to the nearest integer, ties to even, if |x| < 2^22.
#[inline(always)]
pub(crate) fn round(x: f32) -> i32 {
    (x + ROUND).to_bits().cast_signed() - ROUND.to_bits().cast_signed()
}

/// As [`round`], as a number.
#[inline(always)]
pub(crate) fn whole(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// `2^r` from -1/2 to 1/2 to 1.1e-7, the highest power of `r` first.
#[allow(clippy::approx_constant)] // the best factor of `r` is not quite ln 2
const POWERS: [f32; 6] =
    [1.326_472_7e-3, 9.671_513e-3, 5.550_733_6e-2, 2.402_224_2e-1, 6.931_47e-1, 1.0];
const ROUND: f32 = 12_582_912.0;
const HIGH: f32 = 88.0;
const LOW: f32 = -87.0;

#[cfg(test)]
mod tests {
    use super::super::isa::{Kernel, Path};
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.4e-7, "{worst:e}");
    }

    #[test]
    fn exp_ends_well_at_both_ends_and_passes_nan_on() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e9), 0.0);
        assert!(exp(f32::INFINITY).is_finite());
        assert!(exp(f32::NAN).is_nan());
        assert!(silu(f32::NAN).is_nan());
        assert!(silu(-1e30).abs() < 1e-7);
        assert_eq!(silu(1e30), 1e30);
    }

    struct Weights<'a>(&'a mut [Lanes]);

    impl Kernel for Weights<'_> {
        #[inline(always)]
        fn run<S: Isa>(self, isa: S) {
            for lanes in self.0 {
                isa.store(weights(isa, isa.load(lanes)), lanes);
            }
        }
    }

    #[test]
    fn weights_are_powers_of_e_on_every_processor() {
        for path in Path::all() {
            let x: Vec<Lanes> = (0..54_000)
                .map(|n| core::array::from_fn(|i| (16 * n + i) as f32 * -1e-4))
                .collect();
            let mut got = x.clone();
            path.run(Weights(&mut got));
            for (x, got) in x.as_flattened().iter().zip(got.as_flattened()) {
                let exact = f64::from(*x).exp();
                let off = (f64::from(*got) - exact).abs() / exact;
                let limit = 2e-7 + f64::from(-x) * f64::from(f32::EPSILON);
                assert!(off < limit, "{}: {x} {got} {off:e}", path.name());
            }
            let ends = [0.0, -0.0, -88.0, -1e9, f32::MIN, f32::NEG_INFINITY, f32::NAN];
            let mut lanes = [[-1.0; 16]];
            lanes[0][..ends.len()].copy_from_slice(&ends);
            path.run(Weights(&mut lanes));
            assert_eq!(lanes[0][..6], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0], "{}", path.name());
            assert!(lanes[0][6].is_nan(), "{}", path.name());
        }
    }

    #[test]
    fn gelu_is_its_definition_with_tanh() {
        for i in -1200..1200 {
            let x = f64::from(i) * 0.01;
            let u = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let exact = x / 2.0 * (1.0 + u.tanh());
            let got = f64::from(gelu_tanh(x as f32));
            assert!((got - exact).abs() < 2e-6, "{x}: {got} {exact}");
        }
        assert!(gelu_tanh(f32::NAN).is_nan());
        assert_eq!(gelu_tanh(1e30), 1e30);
        assert!(gelu_tanh(-1e30).abs() < 1e-7);
    }

    #[test]
    fn rounds_ties_to_even() {
        for (x, n) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-1.5, -2), (126.6, 127), (-127.0, -127)] {
            assert_eq!(round(x), n, "{x}");
            assert_eq!(whole(x), n as f32, "{x}");
        }
    }
}
