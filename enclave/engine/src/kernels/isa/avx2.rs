//! AVX2 with FMA and F16C: sixteen lanes are two registers. All of the `unsafe` here is a call of an
//! instruction whose presence was checked, or of the function compiled for it; addresses come from
//! references to whole arrays.
//!
//! JUSTIFICATION: loads and stores of a processor's vectors go through addresses, and whether it has the
//! instructions is known at run time only; portable vectors are not stable in `core`. Plain loops
//! (`portable.rs`, the path of every other processor) are several times slower.

#![allow(unsafe_code)]
#![allow(clippy::cast_ptr_alignment)] // unaligned loads and stores

use core::arch::x86_64::*;

use super::{Isa, Kernel};

/// The processor has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Asks the processor.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run<K: Kernel>(isa: Avx2, kernel: K) {
    kernel.run(isa);
}

/// Adds up the products of neighbouring bytes, unsigned by signed, four to a lane.
#[inline]
#[target_feature(enable = "avx2")]
fn dot(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(unsigned, signed);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// The sign of the codes goes to the other factor. |code| <= 128 and |x| <= 127, so the sum of two
/// products is below 2^15.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_signed(sum: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    dot(sum, _mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
}

/// What is too small is masked off; of no number the power may be any.
#[inline]
#[target_feature(enable = "avx2")]
fn times_power(a: __m256, n: __m256) -> __m256 {
    let bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits));
    let some = _mm256_cmp_ps::<_CMP_NLT_UQ>(n, _mm256_set1_ps(-126.0));
    _mm256_and_ps(_mm256_mul_ps(a, power), some)
}

impl Isa for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];
    const REGISTERS: usize = 8;
    const SIGNED_BIAS: i32 = 0;

    #[inline]
    fn run<K: Kernel>(self, kernel: K) {
        // SAFETY: `self` exists, so the features were detected.
        unsafe { run(self, kernel) }
    }

    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> [__m256i; 2] {
        let at = from.as_ptr();
        // SAFETY: detected; 64 bytes are readable.
        unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] }
    }

    #[inline(always)]
    fn bits<const SHIFT: u32>(self, from: [__m256i; 2], mask: u8) -> [__m256i; 2] {
        // SAFETY: detected. What a 16-bit shift carries over is masked off.
        unsafe {
            let (mask, by) =
                (_mm256_set1_epi8(mask.cast_signed()), _mm_set_epi64x(0, SHIFT.into()));
            let [a, b] = from;
            [
                _mm256_and_si256(_mm256_srl_epi16(a, by), mask),
                _mm256_and_si256(_mm256_srl_epi16(b, by), mask),
            ]
        }
    }

    #[inline(always)]
    fn join(self, [a, b]: [__m256i; 2], [c, d]: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: detected.
        unsafe {
            [
                _mm256_or_si256(a, _mm256_slli_epi16::<4>(c)),
                _mm256_or_si256(b, _mm256_slli_epi16::<4>(d)),
            ]
        }
    }

    #[inline(always)]
    fn signed(self, from: [__m256i; 2]) -> [__m256i; 2] {
        from
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> [__m256i; 2] {
        // SAFETY: detected.
        unsafe { [_mm256_set1_epi32(value); 2] }
    }

    #[inline(always)]
    fn dot(self, [a, b]: [__m256i; 2], [c, d]: [__m256i; 2], x: i32) -> [__m256i; 2] {
        // SAFETY: detected.
        unsafe {
            let x = _mm256_set1_epi32(x);
            [dot(a, c, x), dot(b, d, x)]
        }
    }

    #[inline(always)]
    fn dot_signed(self, [a, b]: [__m256i; 2], [c, d]: [__m256i; 2], x: i32) -> [__m256i; 2] {
        // SAFETY: detected.
        unsafe {
            let x = _mm256_set1_epi32(x);
            [dot_signed(a, c, x), dot_signed(b, d, x)]
        }
    }

    #[inline(always)]
    fn dot_weights(self, [a, b]: [__m256i; 2], [c, d]: [__m256i; 2], x: i32) -> [__m256i; 2] {
        // SAFETY: detected. 127 times 128 twice is below 2^15.
        unsafe {
            let x = _mm256_set1_epi32(x);
            [dot(a, x, c), dot(b, x, d)]
        }
    }

    #[inline(always)]
    fn to_float(self, [a, b]: [__m256i; 2]) -> [__m256; 2] {
        // SAFETY: detected.
        unsafe { [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)] }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> [__m256; 2] {
        // SAFETY: detected.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn mul(self, [a, b]: [__m256; 2], [c, d]: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: detected.
        unsafe { [_mm256_mul_ps(a, c), _mm256_mul_ps(b, d)] }
    }

    #[inline(always)]
    fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        let ([a0, a1], [b0, b1], [c0, c1]) = (a, b, c);
        // SAFETY: detected.
        unsafe { [_mm256_fmadd_ps(a0, b0, c0), _mm256_fmadd_ps(a1, b1, c1)] }
    }

    #[inline(always)]
    fn sevens(self, [a, b]: [__m256; 2]) -> [[i32; 4]; 2] {
        let mut to = [[0; 4]; 2];
        // SAFETY: detected; 32 bytes are writable. Halves of registers are packed by themselves, which the
        // permutations set right.
        unsafe {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let (high, low) =
                (_mm256_srli_epi16::<7>(words), _mm256_and_si256(words, _mm256_set1_epi16(127)));
            let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(high, low));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes);
        }
        to
    }

    #[inline(always)]
    fn times_power(self, [a, b]: [__m256; 2], [n, m]: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: detected.
        unsafe { [times_power(a, n), times_power(b, m)] }
    }

    #[inline(always)]
    fn sum(self, [a, b]: [__m256; 2]) -> f32 {
        // SAFETY: detected.
        unsafe {
            let all = _mm256_add_ps(a, b);
            let all = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            let all = _mm_add_ps(all, _mm_movehl_ps(all, all));
            _mm_cvtss_f32(_mm_add_ss(all, _mm_movehdup_ps(all)))
        }
    }

    #[inline(always)]
    fn sums(self, [a, b]: [__m256; 2], [c, d]: [__m256; 2]) -> [f32; 2] {
        // SAFETY: detected.
        unsafe {
            let (a, b) = (_mm256_add_ps(a, b), _mm256_add_ps(c, d));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let b = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b));
            let pairs = _mm_hadd_ps(a, b);
            let both = _mm_hadd_ps(pairs, pairs);
            [_mm_cvtss_f32(both), _mm_cvtss_f32(_mm_movehdup_ps(both))]
        }
    }

    #[inline(always)]
    fn reach(self, [a, b]: [__m256; 2], [c, d]: [__m256; 2]) -> f32 {
        // SAFETY: detected. The bits of floats without their signs are in the order of the floats, and what
        // is not finite comes last.
        unsafe {
            let bits = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
            let (a, b) = (_mm256_and_ps(a, bits), _mm256_and_ps(b, bits));
            let (c, d) = (_mm256_and_ps(c, bits), _mm256_and_ps(d, bits));
            let a = _mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b));
            let c = _mm256_max_epi32(_mm256_castps_si256(c), _mm256_castps_si256(d));
            let all = _mm256_max_epi32(a, c);
            let upper = _mm256_extracti128_si256::<1>(all);
            let all = _mm_max_epi32(_mm256_castsi256_si128(all), upper);
            let all = _mm_max_epi32(all, _mm_shuffle_epi32::<0b11_10>(all));
            let all = _mm_max_epi32(all, _mm_shuffle_epi32::<0b01>(all));
            _mm_cvtss_f32(_mm_castsi128_ps(all))
        }
    }

    #[inline(always)]
    fn max(self, [a, b]: [__m256; 2], [c, d]: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: detected.
        unsafe { [_mm256_max_ps(a, c), _mm256_max_ps(b, d)] }
    }

    #[inline(always)]
    fn most(self, [a, b]: [__m256; 2]) -> f32 {
        // SAFETY: detected.
        unsafe {
            let all = _mm256_max_ps(a, b);
            let all = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            let all = _mm_max_ps(all, _mm_movehl_ps(all, all));
            _mm_cvtss_f32(_mm_max_ss(all, _mm_movehdup_ps(all)))
        }
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; 16]) -> [__m256; 2] {
        // SAFETY: detected; 16 bytes are readable.
        unsafe {
            let all = _mm_loadu_si128(from.as_ptr().cast());
            let (a, b) = (all, _mm_srli_si128::<8>(all));
            [
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(a)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)),
            ]
        }
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; 16]) -> [__m256; 2] {
        // SAFETY: detected; 16 bytes are readable.
        unsafe {
            let all = _mm_loadu_si128(from.as_ptr().cast());
            let (a, b) = (all, _mm_srli_si128::<8>(all));
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
            ]
        }
    }

    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> [__m256; 2] {
        let at = from.as_ptr();
        // SAFETY: detected; 32 bytes are readable.
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(at.add(16).cast())),
            ]
        }
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> [__m256; 2] {
        let at = from.as_ptr();
        // SAFETY: detected; 32 bytes are readable. A bf16 is the upper half of an f32.
        unsafe {
            let a = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            let b = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.add(16).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)),
            ]
        }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> [__m256; 2] {
        let at = from.as_ptr();
        // SAFETY: detected; sixteen floats are readable.
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
    }

    #[inline(always)]
    fn store(self, [a, b]: [__m256; 2], to: &mut [f32; 16]) {
        let at = to.as_mut_ptr();
        // SAFETY: detected; sixteen floats are writable.
        unsafe {
            _mm256_storeu_ps(at, a);
            _mm256_storeu_ps(at.add(8), b);
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], ahead: usize) {
        // SAFETY: a hint reads nothing and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_byte_add(ahead).cast()) }
    }
}
