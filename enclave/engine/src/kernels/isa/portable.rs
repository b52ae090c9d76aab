//! The same operations in plain Rust, for processors without AVX2 and as the plainest statement of
//! what the others compute.

use super::{Isa, Kernel};
use crate::kernels::{half, math};

/// Needs nothing.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Isa for Portable {
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u8; 64];
    const REGISTERS: usize = 8;
    const SIGNED_BIAS: i32 = 0;

    fn run<K: Kernel>(self, kernel: K) {
        kernel.run(self);
    }

    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> [u8; 64] {
        *from
    }

    #[inline(always)]
    fn bits<const SHIFT: u32>(self, from: [u8; 64], mask: u8) -> [u8; 64] {
        from.map(|byte| (byte >> SHIFT) & mask)
    }

    #[inline(always)]
    fn join(self, low: [u8; 64], high: [u8; 64]) -> [u8; 64] {
        core::array::from_fn(|i| low[i] | high[i] << 4)
    }

    #[inline(always)]
    fn signed(self, from: [u8; 64]) -> [u8; 64] {
        from
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> [i32; 16] {
        [value; 16]
    }

    #[inline(always)]
    fn dot(self, mut sum: [i32; 16], codes: [u8; 64], x: i32) -> [i32; 16] {
        let x = x.to_le_bytes().map(u8::cast_signed);
        for (sum, codes) in sum.iter_mut().zip(codes.as_chunks::<4>().0) {
            for (code, x) in codes.iter().zip(x) {
                *sum += i32::from(*code) * i32::from(x);
            }
        }
        sum
    }

    #[inline(always)]
    fn dot_signed(self, mut sum: [i32; 16], codes: [u8; 64], x: i32) -> [i32; 16] {
        let x = x.to_le_bytes().map(u8::cast_signed);
        for (sum, codes) in sum.iter_mut().zip(codes.as_chunks::<4>().0) {
            for (code, x) in codes.iter().zip(x) {
                *sum += i32::from(code.cast_signed()) * i32::from(x);
            }
        }
        sum
    }

    #[inline(always)]
    fn dot_weights(self, sum: [i32; 16], codes: [u8; 64], x: i32) -> [i32; 16] {
        self.dot_signed(sum, codes, x)
    }

    #[inline(always)]
    #[allow(clippy::cast_precision_loss)] // sums of a block are below 2^24
    fn to_float(self, from: [i32; 16]) -> [f32; 16] {
        from.map(|v| v as f32)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 16] {
        [value; 16]
    }

    #[inline(always)]
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        core::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        core::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 2^14
    fn sevens(self, from: [f32; 16]) -> [[i32; 4]; 2] {
        let all = from.map(|x| x.round_ties_even() as u16);
        [all.map(|x| (x >> 7) as u8), all.map(|x| (x & 127) as u8)]
            .map(|bytes| core::array::from_fn(|four| i32::from_le_bytes(bytes.as_chunks().0[four])))
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // from -126 to 127
    fn times_power(self, a: [f32; 16], n: [f32; 16]) -> [f32; 16] {
        let power = |n: f32| f32::from_bits(((n as i32 + 127) << 23).cast_unsigned());
        core::array::from_fn(|i| if n[i] < -126.0 { 0.0 } else { a[i] * power(n[i]) })
    }

    #[inline(always)]
    fn sum(self, lanes: [f32; 16]) -> f32 {
        math::sum(&lanes)
    }

    #[inline(always)]
    fn sums(self, a: [f32; 16], b: [f32; 16]) -> [f32; 2] {
        [math::sum(&a), math::sum(&b)]
    }

    #[inline(always)]
    fn reach(self, a: [f32; 16], b: [f32; 16]) -> f32 {
        // Bits of floats without their signs are in the order of the floats, and what is not finite comes last.
        let mut most = 0;
        for i in 0..16 {
            most = most.max(a[i].abs().to_bits()).max(b[i].abs().to_bits());
        }
        f32::from_bits(most)
    }

    #[inline(always)]
    fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        core::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn most(self, lanes: [f32; 16]) -> f32 {
        math::most(&lanes)
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; 16]) -> [f32; 16] {
        from.map(f32::from)
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; 16]) -> [f32; 16] {
        from.map(|v| f32::from(v.cast_signed()))
    }

    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> [f32; 16] {
        core::array::from_fn(|i| half::to_f32(u16::from_le_bytes([from[2 * i], from[2 * i + 1]])))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> [f32; 16] {
        core::array::from_fn(|i| {
            f32::from_bits(u32::from(u16::from_le_bytes([from[2 * i], from[2 * i + 1]])) << 16)
        })
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> [f32; 16] {
        *from
    }

    #[inline(always)]
    fn store(self, from: [f32; 16], to: &mut [f32; 16]) {
        *to = from;
    }

    #[inline(always)]
    fn prefetch<T>(self, _: &[T], _: usize) {}
}
