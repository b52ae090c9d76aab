//! Conversion between `f16` bits and `f32`, for the portable path and for storing keys and values.

/// The exact value of `f16` bits.
#[inline(always)]
pub(crate) fn to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let rest = u32::from(half & 0x7fff);
    let magnitude = match rest {
        // Subnormal: a multiple of 2^-24, which an f32 holds exactly.
        #[allow(clippy::cast_precision_loss)] // below 1024
        0..0x0400 => (rest as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        0x0400..0x7c00 => (rest << 13) + (112 << 23),
        _ => 0x7f80_0000 | (rest & 0x3ff) << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest `f16`, ties to even; too large becomes infinite.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // masked or shifted into 16 bits
pub(crate) fn from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let rest = bits & 0x7fff_ffff;
    let magnitude = if rest > 0x7f80_0000 {
        0x7e00
    } else if rest >= 0x4780_0000 {
        0x7c00
    } else if rest < 0x3880_0000 {
        // Below 2^-14. Adding 0.5 aligns the last f16 bit with the last f32 bit and rounds.
        (f32::from_bits(rest) + 0.5).to_bits() - 0x3f00_0000
    } else {
        let odd = (rest >> 13) & 1;
        (rest - (112 << 23) + 0xfff + odd) >> 13
    };
    sign | magnitude as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_survives_the_way_to_f32_and_back() {
        for half in 0..=u16::MAX {
            let wide = to_f32(half);
            if wide.is_nan() {
                assert!(half & 0x7fff > 0x7c00);
                assert!(to_f32(from_f32(wide)).is_nan());
            } else {
                assert_eq!(from_f32(wide), half, "{half:04x}");
            }
        }
    }

    #[test]
    fn rounds_to_the_nearest_and_ties_to_even() {
        for half in 0..0x7c00u16 {
            let (low, high) = (to_f32(half), to_f32(half + 1));
            let tie = if half == 0x7bff { 65520.0 } else { low + (high - low) / 2.0 };
            assert_eq!(from_f32(tie), half + (half & 1), "{half:04x}");
            assert_eq!(from_f32(f32::from_bits(tie.to_bits() - 1)), half);
            assert_eq!(from_f32(-f32::from_bits(tie.to_bits() + 1)), 0x8000 | (half + 1));
        }
        assert_eq!(from_f32(1e9), 0x7c00);
        assert_eq!(from_f32(f32::NEG_INFINITY), 0xfc00);
    }
}
