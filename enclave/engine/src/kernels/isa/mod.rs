//! What the kernels need of a processor, sixteen lanes at a time, and the three ways to get it. The
//! kernels themselves are written once, over [`Isa`], and contain no unsafe code.
//!
//! A value of an [`Isa`] type is a witness: it is made only where the processor was asked for the
//! instructions, so holding one is what makes using them sound.

mod avx2;
mod avx512;
mod portable;

use avx2::Avx2;
use avx512::Avx512;
use portable::Portable;

/// Code that runs with the instructions of one [`Isa`].
pub(crate) trait Kernel {
    /// Must be inlined (`#[inline(always)]`), or it is compiled for the least processor.
    fn run<S: Isa>(self, isa: S);
}

/// Sixteen lanes of `f32` and `i32`, and 64 bytes of codes.
pub(crate) trait Isa: Copy {
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen `i32`.
    type I: Copy;
    /// 64 bytes: four neighbouring codes for each of the sixteen lanes.
    type B: Copy;
    /// Values of sixteen lanes that registers hold.
    const REGISTERS: usize;
    /// [`Isa::dot_signed`] computes with `code + SIGNED_BIAS`; the caller takes it off again.
    const SIGNED_BIAS: i32;

    /// Runs `kernel` compiled for this processor.
    fn run<K: Kernel>(self, kernel: K);

    /// Loads codes.
    fn bytes(self, from: &[u8; 64]) -> Self::B;
    /// `(byte >> SHIFT) & mask` in each byte.
    fn bits<const SHIFT: u32>(self, from: Self::B, mask: u8) -> Self::B;
    /// `low | high << 4` in each byte; `high` is below 16.
    fn join(self, low: Self::B, high: Self::B) -> Self::B;
    /// Makes bytes that are signed codes ready for [`Isa::dot_signed`].
    fn signed(self, from: Self::B) -> Self::B;

    /// The same in each lane.
    fn splat_int(self, value: i32) -> Self::I;
    /// Adds to each lane its four codes times the four signed bytes of `x`. The codes are unsigned and
    /// below 64, and no byte of `x` is -128, so that no intermediate result saturates.
    fn dot(self, sum: Self::I, codes: Self::B, x: i32) -> Self::I;
    /// As [`Isa::dot`], for codes that went through [`Isa::signed`].
    fn dot_signed(self, sum: Self::I, codes: Self::B, x: i32) -> Self::I;
    /// Adds to each lane its four signed codes times the four bytes of `x`, none of which is negative.
    fn dot_weights(self, sum: Self::I, codes: Self::B, x: i32) -> Self::I;
    /// To the nearest `f32`.
    fn to_float(self, from: Self::I) -> Self::F;

    /// The same in each lane.
    fn splat(self, value: f32) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Of the nearest whole numbers, which are from 0 to 2^14 - 1, the upper and the lower seven bits, four
    /// bytes together.
    fn sevens(self, from: Self::F) -> [[i32; 4]; 2];
    /// `a * 2^n` for whole numbers `n` up to 127; below -126 it is 0, whatever `a` is.
    fn times_power(self, a: Self::F, n: Self::F) -> Self::F;
    /// The sum of the lanes, in the order of `math::sum`.
    fn sum(self, lanes: Self::F) -> f32;
    /// The sums of the lanes of both: of whole numbers whose sums an `f32` holds, so that no order matters.
    fn sums(self, a: Self::F, b: Self::F) -> [f32; 2];
    /// The largest absolute value of the lanes of both; not finite if one of them is not.
    fn reach(self, a: Self::F, b: Self::F) -> f32;
    /// The larger in each lane, of numbers; the second if one is none.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The largest of lanes that are numbers.
    fn most(self, lanes: Self::F) -> f32;
    /// Unsigned bytes.
    fn load_u8(self, from: &[u8; 16]) -> Self::F;
    /// Signed bytes.
    fn load_i8(self, from: &[u8; 16]) -> Self::F;
    /// Little-endian `f16`.
    fn load_f16(self, from: &[u8; 32]) -> Self::F;
    /// Little-endian `bf16`.
    fn load_bf16(self, from: &[u8; 32]) -> Self::F;
    /// Lanes from memory.
    fn load(self, from: &[f32; 16]) -> Self::F;
    /// Lanes to memory.
    fn store(self, from: Self::F, to: &mut [f32; 16]);
    /// A hint that the line `ahead` bytes after the start of `from` is read soon. It may lie outside. It
    /// comes as far as the second cache: what is asked for early would not stay in the first.
    fn prefetch<T>(self, from: &[T], ahead: usize);
}

/// The instructions this process computes with, chosen once.
#[derive(Clone, Copy)]
pub(crate) enum Path {
    /// AVX-512 with VNNI (Ice Lake, Sapphire Rapids, Zen 4 and later).
    Avx512(Avx512),
    /// AVX2, FMA and F16C (Haswell, Zen and later).
    Avx2(Avx2),
    /// Any processor.
    Portable(Portable),
}

impl Path {
    /// The fastest this processor has.
    pub(crate) fn best() -> Self {
        Avx512::detect()
            .map(Self::Avx512)
            .or_else(|| Avx2::detect().map(Self::Avx2))
            .unwrap_or(Self::Portable(Portable))
    }

    /// Every one this processor has.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn all() -> Vec<Self> {
        let (a, b) = (Avx512::detect().map(Self::Avx512), Avx2::detect().map(Self::Avx2));
        a.into_iter().chain(b).chain([Self::Portable(Portable)]).collect()
    }

    /// For messages.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Avx512(_) => "avx512-vnni",
            Self::Avx2(_) => "avx2",
            Self::Portable(_) => "portable",
        }
    }

    /// Runs `kernel` on it.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        match self {
            Self::Avx512(isa) => isa.run(kernel),
            Self::Avx2(isa) => isa.run(kernel),
            Self::Portable(isa) => isa.run(kernel),
        }
    }
}
