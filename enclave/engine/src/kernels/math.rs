//! Elementary functions in plain arithmetic, so that they vectorise and give the same bits on every
//! processor. NaN goes in, NaN comes out.

use super::Lanes;

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

const ROUND: f32 = 12_582_912.0;
const HIGH: f32 = 88.0;
const LOW: f32 = -87.0;

#[cfg(test)]
mod tests {
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
