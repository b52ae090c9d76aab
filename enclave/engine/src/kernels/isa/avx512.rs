//! AVX-512 with VNNI. All of the `unsafe` here is a call of an instruction whose presence was
//! checked, or of the function compiled for it; addresses come from references to whole arrays.
//!
//! JUSTIFICATION: as for AVX2 (`avx2.rs`); the dot product of bytes (VNNI) is an instruction that no plain loop
//! is compiled to.

#![allow(unsafe_code)]
#![allow(clippy::cast_ptr_alignment)] // unaligned loads and stores

use core::arch::x86_64::*;

use super::{Isa, Kernel};

/// The processor has AVX-512 F, BW, VL and VNNI, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Asks the processor.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
fn run<K: Kernel>(isa: Avx512, kernel: K) {
    kernel.run(isa);
}

impl Isa for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    const REGISTERS: usize = 32;
    const SIGNED_BIAS: i32 = 128;

    #[inline]
    fn run<K: Kernel>(self, kernel: K) {
        // SAFETY: `self` exists, so the features were detected.
        unsafe { run(self, kernel) }
    }

    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> __m512i {
        // SAFETY: detected; 64 bytes are readable.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn bits<const SHIFT: u32>(self, from: __m512i, mask: u8) -> __m512i {
        // SAFETY: detected. What a 16-bit shift carries over is masked off.
        unsafe {
            let shifted = _mm512_srli_epi16::<SHIFT>(from);
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask.cast_signed()))
        }
    }

    #[inline(always)]
    fn join(self, low: __m512i, high: __m512i) -> __m512i {
        // SAFETY: detected.
        unsafe { _mm512_or_si512(low, _mm512_slli_epi16::<4>(high)) }
    }

    #[inline(always)]
    fn signed(self, from: __m512i) -> __m512i {
        // SAFETY: detected. Flipping the top bit adds 128: the instruction wants unsigned codes.
        unsafe { _mm512_xor_si512(from, _mm512_set1_epi8(i8::MIN)) }
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        // SAFETY: detected.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    fn dot(self, sum: __m512i, codes: __m512i, x: i32) -> __m512i {
        // SAFETY: detected.
        unsafe { _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(x)) }
    }

    #[inline(always)]
    fn dot_signed(self, sum: __m512i, codes: __m512i, x: i32) -> __m512i {
        self.dot(sum, codes, x)
    }

    #[inline(always)]
    fn dot_weights(self, sum: __m512i, codes: __m512i, x: i32) -> __m512i {
        // SAFETY: detected.
        unsafe { _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(x), codes) }
    }

    #[inline(always)]
    fn to_float(self, from: __m512i) -> __m512 {
        // SAFETY: detected.
        unsafe { _mm512_cvtepi32_ps(from) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: detected.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: detected.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: detected.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sevens(self, from: __m512) -> [[i32; 4]; 2] {
        let mut to = [[0; 4]; 2];
        // SAFETY: detected; twice 16 bytes are writable.
        unsafe {
            let all = _mm512_cvtps_epi32(from);
            let (high, low) =
                (_mm512_srli_epi32::<7>(all), _mm512_and_si512(all, _mm512_set1_epi32(127)));
            _mm_storeu_si128(to[0].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128(to[1].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(low));
        }
        to
    }

    #[inline(always)]
    fn times_power(self, a: __m512, n: __m512) -> __m512 {
        // SAFETY: detected.
        unsafe {
            let some = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(n, _mm512_set1_ps(-126.0));
            _mm512_maskz_scalef_ps(some, a, n)
        }
    }

    #[inline(always)]
    fn sum(self, lanes: __m512) -> f32 {
        // SAFETY: detected.
        unsafe {
            let all =
                _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
            let all = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            let all = _mm_add_ps(all, _mm_movehl_ps(all, all));
            _mm_cvtss_f32(_mm_add_ss(all, _mm_movehdup_ps(all)))
        }
    }

    #[inline(always)]
    fn sums(self, a: __m512, b: __m512) -> [f32; 2] {
        // SAFETY: detected.
        unsafe {
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let b = _mm256_add_ps(_mm512_castps512_ps256(b), _mm512_extractf32x8_ps::<1>(b));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let b = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b));
            let pairs = _mm_hadd_ps(a, b);
            let both = _mm_hadd_ps(pairs, pairs);
            [_mm_cvtss_f32(both), _mm_cvtss_f32(_mm_movehdup_ps(both))]
        }
    }

    #[inline(always)]
    fn reach(self, a: __m512, b: __m512) -> f32 {
        // SAFETY: detected. The bits of floats without their signs are in the order of the floats, and what
        // is not finite comes last.
        unsafe {
            let bits = _mm512_set1_epi32(i32::MAX);
            let a = _mm512_and_si512(_mm512_castps_si512(a), bits);
            let all = _mm512_max_epi32(a, _mm512_and_si512(_mm512_castps_si512(b), bits));
            let upper = _mm512_extracti32x8_epi32::<1>(all);
            let all = _mm256_max_epi32(_mm512_castsi512_si256(all), upper);
            let upper = _mm256_extracti128_si256::<1>(all);
            let all = _mm_max_epi32(_mm256_castsi256_si128(all), upper);
            let all = _mm_max_epi32(all, _mm_shuffle_epi32::<0b11_10>(all));
            let all = _mm_max_epi32(all, _mm_shuffle_epi32::<0b01>(all));
            _mm_cvtss_f32(_mm_castsi128_ps(all))
        }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: detected.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn most(self, lanes: __m512) -> f32 {
        // SAFETY: detected.
        unsafe {
            let all =
                _mm256_max_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
            let all = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            let all = _mm_max_ps(all, _mm_movehl_ps(all, all));
            _mm_cvtss_f32(_mm_max_ss(all, _mm_movehdup_ps(all)))
        }
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; 16]) -> __m512 {
        // SAFETY: detected; 16 bytes are readable.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; 16]) -> __m512 {
        // SAFETY: detected; 16 bytes are readable.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> __m512 {
        // SAFETY: detected; 32 bytes are readable.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> __m512 {
        // SAFETY: detected; 32 bytes are readable. A bf16 is the upper half of an f32.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> __m512 {
        // SAFETY: detected; sixteen floats are readable.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, from: __m512, to: &mut [f32; 16]) {
        // SAFETY: detected; sixteen floats are writable.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), from) }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], ahead: usize) {
        // SAFETY: a hint reads nothing and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_byte_add(ahead).cast()) }
    }
}
