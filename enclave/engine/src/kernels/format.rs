//! The block formats of GGUF and how each lies in a tile. Clauses: `ggml-quants.c`, the functions
//! `dequantize_row_*`; every one of them is compared with Candle's reading in the tests.
//!
//! A *block* is 32 neighbouring columns. A *group* is what the file stores as one unit: one block, or
//! eight that share a scale. A tile holds the groups of sixteen rows, one after the other. In a group,
//! scales come first (sixteen rows side by side), then the codes of each block: 64 bytes for columns
//! 4g to 4g+3 of the sixteen rows, g from 0 to 7. Of codes below 256, low nibbles of g and g+4 share
//! the bytes, and higher bits follow.

use super::half;
use super::isa::Isa;

/// How one format is read from a tile, and written to it.
pub(crate) trait Format {
    /// Blocks in a group.
    const BLOCKS: usize;
    /// Bits of a code.
    const WIDTH: usize;
    /// Bytes of a group of one row in the file.
    const NATIVE: usize;
    /// Bytes of scales at the start of a group in a tile.
    const HEADER: usize;
    /// Taken from each code.
    const OFFSET: i32;
    /// Whether the two halves of a block have a scale each.
    const HALVES: bool;
    /// Whether a minimum is added to each value.
    const MINS: bool;
    /// Bytes of a group in a tile.
    const BYTES: usize = Self::HEADER + Self::BLOCKS * code_bytes(Self::WIDTH);

    /// The scales of both halves of a block, and the minimum.
    fn scales<S: Isa>(isa: S, group: &[u8], block: usize) -> [S::F; 3];

    /// The codes of a block of a group in the file, a byte each: columns 4g to 4g+3 in word g.
    fn native_codes(native: &[u8], block: usize) -> [u32; 8];

    /// Copies the scales of one row from a group in the file.
    fn put_scales(native: &[u8], group: &mut [u8], row: usize);

    /// As [`Format::scales`], for one row.
    fn row_scales(group: &[u8], block: usize, row: usize) -> [f32; 3];
}

/// Bytes of the codes of a block in a tile.
pub(crate) const fn code_bytes(width: usize) -> usize {
    16 * 32 * width / 8
}

/// `Q4_0`, `Q5_0` (no minimum, codes around their middle), `Q4_1`, `Q5_1` (a minimum), `Q8_0` (signed).
pub(crate) struct Flat<const WIDTH: usize, const MINS: bool>;

impl<const WIDTH: usize, const MINS: bool> Flat<WIDTH, MINS> {
    const HALVES_IN_FILE: usize = if MINS { 4 } else { 2 };
}

impl<const WIDTH: usize, const MINS: bool> Format for Flat<WIDTH, MINS> {
    const BLOCKS: usize = 1;
    const WIDTH: usize = WIDTH;
    const NATIVE: usize = Self::HALVES_IN_FILE + 4 * WIDTH;
    const HEADER: usize = 16 * Self::HALVES_IN_FILE;
    const OFFSET: i32 = if MINS || WIDTH == 8 { 0 } else { 1 << (WIDTH - 1) };
    const HALVES: bool = false;
    const MINS: bool = MINS;

    #[inline(always)]
    fn scales<S: Isa>(isa: S, group: &[u8], _: usize) -> [S::F; 3] {
        let d = isa.load_f16(part(group, 0));
        let m = if MINS { isa.load_f16(part(group, 32)) } else { d };
        [d, d, m]
    }

    #[inline(always)]
    fn native_codes(native: &[u8], _: usize) -> [u32; 8] {
        let native = &native[Self::HALVES_IN_FILE..];
        if WIDTH == 8 {
            return words(native);
        }
        let (high, low) = native.split_at(if WIDTH == 5 { 4 } else { 0 });
        let low: [u32; 4] = words(low);
        let [high] = if WIDTH == 5 { words(high) } else { [0] };
        core::array::from_fn(|g| {
            // Four bits of `high`, one to the lowest bit of each byte.
            let fifth = ((high >> (4 * g) & 15) * 0x0020_4081) & ONES;
            low[g % 4] >> (g / 4 * 4) & NIBBLES | fifth << 4
        })
    }

    fn put_scales(native: &[u8], group: &mut [u8], row: usize) {
        group[2 * row..][..2].copy_from_slice(&native[..2]);
        if MINS {
            group[32 + 2 * row..][..2].copy_from_slice(&native[2..4]);
        }
    }

    fn row_scales(group: &[u8], _: usize, row: usize) -> [f32; 3] {
        let d = half_at(group, 2 * row);
        [d, d, if MINS { half_at(group, 32 + 2 * row) } else { 0.0 }]
    }
}

/// `Q4_K`, `Q5_K`: eight blocks with six-bit scales and minima over a common scale and minimum.
pub(crate) struct Super<const WIDTH: usize>;

impl<const WIDTH: usize> Super<WIDTH> {
    const SCALES: usize = 64;
    const MINIMA: usize = Self::SCALES + 16 * 8;

    /// Six-bit scale and minimum of a block (`get_scale_min_k4`).
    fn six_bits(packed: &[u8], block: usize) -> (u8, u8) {
        if block < 4 {
            return (packed[block] & 63, packed[block + 4] & 63);
        }
        let (low, scale, min) = (packed[block + 4], packed[block - 4], packed[block]);
        (low & 15 | scale >> 6 << 4, low >> 4 | min >> 6 << 4)
    }
}

impl<const WIDTH: usize> Format for Super<WIDTH> {
    const BLOCKS: usize = 8;
    const WIDTH: usize = WIDTH;
    const NATIVE: usize = 4 + 12 + 32 * WIDTH;
    const HEADER: usize = Self::MINIMA + 16 * 8;
    const OFFSET: i32 = 0;
    const HALVES: bool = false;
    const MINS: bool = true;

    #[inline(always)]
    fn scales<S: Isa>(isa: S, group: &[u8], block: usize) -> [S::F; 3] {
        let d = isa.load_f16(part(group, 0));
        let min = isa.load_f16(part(group, 32));
        let d = isa.mul(d, isa.load_u8(part(group, Self::SCALES + 16 * block)));
        // Subtracted: the product carries the sign.
        let min = isa.mul(min, isa.load_u8(part(group, Self::MINIMA + 16 * block)));
        [d, d, isa.mul(min, isa.splat(-1.0))]
    }

    #[inline(always)]
    fn native_codes(native: &[u8], block: usize) -> [u32; 8] {
        let (high, low) = native[16..].split_at(if WIDTH == 5 { 32 } else { 0 });
        let low: [u32; 8] = words(&low[block / 2 * 32..]);
        let high: [u32; 8] = if WIDTH == 5 { words(high) } else { [0; 8] };
        core::array::from_fn(|g| {
            low[g] >> (block % 2 * 4) & NIBBLES | (high[g] >> block & ONES) << 4
        })
    }

    fn put_scales(native: &[u8], group: &mut [u8], row: usize) {
        group[2 * row..][..2].copy_from_slice(&native[..2]);
        group[32 + 2 * row..][..2].copy_from_slice(&native[2..4]);
        for block in 0..8 {
            let (scale, min) = Self::six_bits(&native[4..16], block);
            group[Self::SCALES + 16 * block + row] = scale;
            group[Self::MINIMA + 16 * block + row] = min;
        }
    }

    fn row_scales(group: &[u8], block: usize, row: usize) -> [f32; 3] {
        let d = half_at(group, 2 * row) * f32::from(group[Self::SCALES + 16 * block + row]);
        let min = half_at(group, 32 + 2 * row) * f32::from(group[Self::MINIMA + 16 * block + row]);
        [d, d, -min]
    }
}

/// `Q6_K`: sixteen half blocks with signed eight-bit scales over a common one.
pub(crate) struct Six;

impl Six {
    const SCALES: usize = 32;
}

impl Format for Six {
    const BLOCKS: usize = 8;
    const WIDTH: usize = 6;
    const NATIVE: usize = 128 + 64 + 16 + 2;
    const HEADER: usize = Self::SCALES + 16 * 16;
    const OFFSET: i32 = 32;
    const HALVES: bool = true;
    const MINS: bool = false;

    #[inline(always)]
    fn scales<S: Isa>(isa: S, group: &[u8], block: usize) -> [S::F; 3] {
        let d = isa.load_f16(part(group, 0));
        let first = isa.load_i8(part(group, Self::SCALES + 32 * block));
        let second = isa.load_i8(part(group, Self::SCALES + 32 * block + 16));
        [isa.mul(d, first), isa.mul(d, second), d]
    }

    #[inline(always)]
    fn native_codes(native: &[u8], block: usize) -> [u32; 8] {
        // Each half of the 256 columns: four blocks in 64 bytes of nibbles and 32 of bit pairs.
        let (half, quarter) = (block / 4, block % 4);
        let low: [u32; 8] = words(&native[64 * half + 32 * (quarter % 2)..]);
        let high: [u32; 8] = words(&native[128 + 32 * half..]);
        core::array::from_fn(|g| {
            low[g] >> (quarter / 2 * 4) & NIBBLES | (high[g] >> (2 * quarter) & PAIRS) << 4
        })
    }

    fn put_scales(native: &[u8], group: &mut [u8], row: usize) {
        group[2 * row..][..2].copy_from_slice(&native[208..210]);
        for (i, scale) in native[192..208].iter().enumerate() {
            group[Self::SCALES + 16 * i + row] = *scale;
        }
    }

    fn row_scales(group: &[u8], block: usize, row: usize) -> [f32; 3] {
        let d = half_at(group, 2 * row);
        let scale = |half: usize| {
            d * f32::from(group[Self::SCALES + 32 * block + 16 * half + row].cast_signed())
        };
        [scale(0), scale(1), 0.0]
    }
}

/// The codes of a block, ready for `dot` (or for `dot_signed`, if eight bits wide).
#[inline(always)]
pub(crate) fn codes<S: Isa, T: Format>(isa: S, group: &[u8], block: usize) -> [S::B; 8] {
    let area = &group[T::HEADER + block * code_bytes(T::WIDTH)..];
    // No closures and no `map`: they are functions of their own, compiled for the least processor, and
    // the instructions in them become calls.
    macro_rules! load {
        ($i:literal) => {
            isa.bytes(part(area, 64 * $i))
        };
    }
    if T::WIDTH == 8 {
        return [
            isa.signed(load!(0)),
            isa.signed(load!(1)),
            isa.signed(load!(2)),
            isa.signed(load!(3)),
            isa.signed(load!(4)),
            isa.signed(load!(5)),
            isa.signed(load!(6)),
            isa.signed(load!(7)),
        ];
    }
    let v = [load!(0), load!(1), load!(2), load!(3)];
    let c = [
        isa.bits::<0>(v[0], 15),
        isa.bits::<0>(v[1], 15),
        isa.bits::<0>(v[2], 15),
        isa.bits::<0>(v[3], 15),
        isa.bits::<4>(v[0], 15),
        isa.bits::<4>(v[1], 15),
        isa.bits::<4>(v[2], 15),
        isa.bits::<4>(v[3], 15),
    ];
    match T::WIDTH {
        5 => {
            let h = load!(4);
            [
                isa.join(c[0], isa.bits::<0>(h, 1)),
                isa.join(c[1], isa.bits::<1>(h, 1)),
                isa.join(c[2], isa.bits::<2>(h, 1)),
                isa.join(c[3], isa.bits::<3>(h, 1)),
                isa.join(c[4], isa.bits::<4>(h, 1)),
                isa.join(c[5], isa.bits::<5>(h, 1)),
                isa.join(c[6], isa.bits::<6>(h, 1)),
                isa.join(c[7], isa.bits::<7>(h, 1)),
            ]
        }
        6 => {
            let (h, k) = (load!(4), load!(5));
            [
                isa.join(c[0], isa.bits::<0>(h, 3)),
                isa.join(c[1], isa.bits::<2>(h, 3)),
                isa.join(c[2], isa.bits::<4>(h, 3)),
                isa.join(c[3], isa.bits::<6>(h, 3)),
                isa.join(c[4], isa.bits::<0>(k, 3)),
                isa.join(c[5], isa.bits::<2>(k, 3)),
                isa.join(c[6], isa.bits::<4>(k, 3)),
                isa.join(c[7], isa.bits::<6>(k, 3)),
            ]
        }
        _ => c,
    }
}

/// Writes one row's group from the file into a tile's: all of that row's codes and scales.
#[inline(always)]
pub(crate) fn pack<T: Format>(native: &[u8], group: &mut [u8], row: usize) {
    T::put_scales(native, group, row);
    for block in 0..T::BLOCKS {
        let c = T::native_codes(native, block);
        let area = &mut group[T::HEADER + block * code_bytes(T::WIDTH)..];
        // Words of the sixteen rows lie side by side.
        let area = &mut area.as_chunks_mut::<4>().0[..code_bytes(T::WIDTH) / 4];
        if T::WIDTH == 8 {
            for g in 0..8 {
                area[16 * g + row] = c[g].to_le_bytes();
            }
            continue;
        }
        for g in 0..4 {
            area[16 * g + row] = (c[g] & NIBBLES | (c[g + 4] & NIBBLES) << 4).to_le_bytes();
        }
        if T::WIDTH == 5 {
            let mut high = 0;
            for g in 0..8 {
                high |= (c[g] >> 4 & ONES) << g;
            }
            area[64 + row] = high.to_le_bytes();
        }
        if T::WIDTH == 6 {
            for half in 0..2 {
                let mut high = 0;
                for g in 0..4 {
                    high |= (c[4 * half + g] >> 4 & PAIRS) << (2 * g);
                }
                area[64 + 16 * half + row] = high.to_le_bytes();
            }
        }
    }
}

/// The values of one row of a tile's group, 32 a block.
pub(crate) fn unpack<T: Format>(group: &[u8], row: usize, out: &mut [f32]) {
    for (block, out) in out.chunks_exact_mut(32).enumerate() {
        let area = &group[T::HEADER + block * code_bytes(T::WIDTH)..];
        let scales = T::row_scales(group, block, row);
        for (i, out) in out.iter_mut().enumerate() {
            let (g, byte) = (i / 4, 4 * row + i % 4);
            let nibble = || i32::from(area[64 * (g % 4) + byte] >> (g / 4 * 4) & 15);
            let code = match T::WIDTH {
                8 => i32::from(area[64 * g + byte].cast_signed()),
                5 => nibble() | i32::from(area[256 + byte] >> g & 1) << 4,
                6 => {
                    let high = area[256 + 64 * (g / 4) + byte] >> (2 * (g % 4)) & 3;
                    nibble() | i32::from(high) << 4
                }
                _ => nibble(),
            };
            #[allow(clippy::cast_precision_loss)] // below 256
            let code = (code - T::OFFSET) as f32;
            *out = scales[i / 16] * code + scales[2];
        }
    }
}

/// `N` bytes of `from` at `at`.
#[inline(always)]
pub(crate) fn part<const N: usize>(from: &[u8], at: usize) -> &[u8; N] {
    from[at..].first_chunk().unwrap_or(&[0; N])
}

/// `N` little-endian words of `from`.
#[inline(always)]
fn words<const N: usize>(from: &[u8]) -> [u32; N] {
    let from = &from.as_chunks::<4>().0[..N];
    core::array::from_fn(|i| u32::from_le_bytes(from[i]))
}

fn half_at(from: &[u8], at: usize) -> f32 {
    half::to_f32(u16::from_le_bytes([from[at], from[at + 1]]))
}

/// The lowest bit, two or four of each byte of a word.
const ONES: u32 = 0x0101_0101;
const PAIRS: u32 = 0x0303_0303;
const NIBBLES: u32 = 0x0f0f_0f0f;
