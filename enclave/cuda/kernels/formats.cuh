// How 32 neighbouring columns of one row are read from a tile: sixteen rows of a matrix, as
// enclave/engine/src/kernels/format.rs lays them out for both kinds of processor. Codes and scales are
// those of the file, bit for bit; a value is computed from them as `dequantize_row_*` of ggml does.
//
// A group is what the file stores as one unit: one block of 32 columns, or eight that share a scale. In
// a group, scales of the sixteen rows come first, then the codes of each block: word 4g..4g+3 of the
// sixteen rows side by side, so that sixteen lanes read 64 bytes in a row.
//
// `values` gives them as floats. `fragment` gives what a lane of a warp holds of them for the tensor cores:
// of a row the columns 4t..4t+3 of each half of the block, as pairs of bfloat16 (4t with 4t+2, 4t+1 with 4t+3),
// and the factors that make values of them. Codes are small integers, which bfloat16 holds exactly.
#pragma once
#include "common.cuh"

// What one lane holds of one row of a block.
struct Fragment {
    // Two pairs of each half.
    u32 pairs[4];
    // What is left of a value that bfloat16 does not hold.
    u32 rest[4];
    // Of each half.
    float scale[2];
    float least;
};

__device__ inline u32 word_at(const u8* at) { return *reinterpret_cast<const u32*>(at); }
__device__ inline float half_at(const u8* at) {
    return half_to_float(*reinterpret_cast<const u16*>(at));
}

// The codes of a block of `row`, columns in order.
template <int WIDTH>
__device__ inline void codes_of(const u8* area, u32 row, int code[32]) {
    area += 4 * row;
    if constexpr (WIDTH == 8) {
#pragma unroll
        for (int g = 0; g < 8; g++) {
            u32 word = word_at(area + 64 * g);
#pragma unroll
            for (int i = 0; i < 4; i++) code[4 * g + i] = (i8)(word >> (8 * i));
        }
    } else {
#pragma unroll
        for (int g = 0; g < 4; g++) {
            u32 word = word_at(area + 64 * g);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                code[4 * g + i] = word >> (8 * i) & 15;
                code[16 + 4 * g + i] = word >> (8 * i + 4) & 15;
            }
        }
    }
    if constexpr (WIDTH == 5) {
        u32 high = word_at(area + 256);
#pragma unroll
        for (int g = 0; g < 8; g++)
#pragma unroll
            for (int i = 0; i < 4; i++) code[4 * g + i] |= (high >> (8 * i + g) & 1) << 4;
    }
    if constexpr (WIDTH == 6) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 high = word_at(area + 256 + 64 * half);
#pragma unroll
            for (int g = 0; g < 4; g++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    code[16 * half + 4 * g + i] |= (high >> (8 * i + 2 * g) & 3) << 4;
        }
    }
}

// 128 in both halves: a code of seven bits is its last digits.
#define MAGIC 0x43004300u

// Codes below 128 in the first and the third byte of a word, less `zero`.
__device__ inline u32 small_pair(u32 word, u32 zero) { return brain_less(word | MAGIC, zero); }

// As `codes_of`, of the columns that lane t holds; less `middle`.
template <int WIDTH>
__device__ inline void pairs_of(const u8* area, u32 row, u32 t, u32 middle, u32 pairs[4]) {
    area += 4 * row;
    if constexpr (WIDTH == 8) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const u32 word = word_at(area + 64 * (4 * half + t));
            const float first = (float)(i8)word, second = (float)(i8)(word >> 8);
            pairs[2 * half] = brain_pair(first, (float)(i8)(word >> 16));
            pairs[2 * half + 1] = brain_pair(second, (float)(i8)(word >> 24));
        }
        return;
    }
    const u32 zero = brain_pair((float)(128 + middle), (float)(128 + middle));
    const u32 word = word_at(area + 64 * t);
    u32 high[2] = {0, 0};
    if constexpr (WIDTH == 5) {
        const u32 bits = word_at(area + 256);
        high[0] = (bits >> t & 0x01010101u) << 4;
        high[1] = (bits >> (4 + t) & 0x01010101u) << 4;
    }
    if constexpr (WIDTH == 6) {
        high[0] = (word_at(area + 256) >> (2 * t) & 0x03030303u) << 4;
        high[1] = (word_at(area + 320) >> (2 * t) & 0x03030303u) << 4;
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const u32 codes = (word >> (4 * half) & 0x0f0f0f0fu) | high[half];
        pairs[2 * half] = small_pair(codes & 0x00ff00ffu, zero);
        pairs[2 * half + 1] = small_pair(codes >> 8 & 0x00ff00ffu, zero);
    }
}

// Q4_0, Q5_0 (codes around their middle), Q4_1, Q5_1 (a minimum), Q8_0 (signed codes).
template <int WIDTH, bool MINS>
struct Flat {
    __device__ static void values(const u8* tile, u32 block, u32 row, u32, float w[32]) {
        const int header = MINS ? 64 : 32, middle = MINS || WIDTH == 8 ? 0 : 1 << (WIDTH - 1);
        const u8* group = tile + (u64)block * (header + 64 * WIDTH);
        float d = half_at(group + 2 * row);
        float least = MINS ? half_at(group + 32 + 2 * row) : 0.0f;
        int code[32];
        codes_of<WIDTH>(group + header, row, code);
#pragma unroll
        for (int i = 0; i < 32; i++) w[i] = fmaf((float)(code[i] - middle), d, least);
    }

    static constexpr bool LEAST = MINS, HALVES = false, REST = false, DENSE = false;
    __device__ static void fragment(const u8* tile, u32 block, u32 row, u32 t, u32, Fragment& f) {
        const int header = MINS ? 64 : 32, middle = MINS ? 0 : 1 << (WIDTH - 1);
        const u8* group = tile + (u64)block * (header + 64 * WIDTH);
        f.scale[0] = half_at(group + 2 * row);
        f.least = MINS ? half_at(group + 32 + 2 * row) : 0.0f;
        pairs_of<WIDTH>(group + header, row, t, middle, f.pairs);
    }
};

// Q4_K, Q5_K: eight blocks with scales and minima of six bits over a common scale and minimum.
template <int WIDTH>
struct Super {
    __device__ static void values(const u8* tile, u32 block, u32 row, u32, float w[32]) {
        const int header = 320;
        const u8* group = tile + (u64)(block / 8) * (header + 8 * 64 * WIDTH);
        block %= 8;
        float d = half_at(group + 2 * row) * (float)group[64 + 16 * block + row];
        float least = half_at(group + 32 + 2 * row) * (float)group[192 + 16 * block + row];
        int code[32];
        codes_of<WIDTH>(group + header + 64 * WIDTH * block, row, code);
#pragma unroll
        for (int i = 0; i < 32; i++) w[i] = fmaf((float)code[i], d, -least);
    }

    static constexpr bool LEAST = true, HALVES = false, REST = false, DENSE = false;
    __device__ static void fragment(const u8* tile, u32 block, u32 row, u32 t, u32, Fragment& f) {
        const int header = 320;
        const u8* group = tile + (u64)(block / 8) * (header + 8 * 64 * WIDTH);
        block %= 8;
        f.scale[0] = half_at(group + 2 * row) * (float)group[64 + 16 * block + row];
        f.least = -(half_at(group + 32 + 2 * row) * (float)group[192 + 16 * block + row]);
        pairs_of<WIDTH>(group + header + 64 * WIDTH * block, row, t, 0, f.pairs);
    }
};

// Q6_K: sixteen half blocks with signed scales of eight bits over a common one.
struct Six {
    __device__ static void values(const u8* tile, u32 block, u32 row, u32, float w[32]) {
        const int header = 288;
        const u8* group = tile + (u64)(block / 8) * (header + 8 * 64 * 6);
        block %= 8;
        float d = half_at(group + 2 * row);
        float first = d * (float)(i8)group[32 + 32 * block + row];
        float second = d * (float)(i8)group[48 + 32 * block + row];
        int code[32];
        codes_of<6>(group + header + 64 * 6 * block, row, code);
#pragma unroll
        for (int i = 0; i < 32; i++) w[i] = (float)(code[i] - 32) * (i < 16 ? first : second);
    }

    static constexpr bool LEAST = false, HALVES = true, REST = false, DENSE = false;
    __device__ static void fragment(const u8* tile, u32 block, u32 row, u32 t, u32, Fragment& f) {
        const int header = 288;
        const u8* group = tile + (u64)(block / 8) * (header + 8 * 64 * 6);
        block %= 8;
        const float d = half_at(group + 2 * row);
        f.scale[0] = d * (float)(i8)group[32 + 32 * block + row];
        f.scale[1] = d * (float)(i8)group[48 + 32 * block + row];
        pairs_of<6>(group + header + 64 * 6 * block, row, t, 32, f.pairs);
    }
};

struct F16 {
    typedef u16 Bits;
    // bfloat16 has eight digits of its eleven.
    static constexpr bool REST = true;
    __device__ static float value(Bits bits) { return half_to_float(bits); }
};
struct Bf16 {
    typedef u16 Bits;
    static constexpr bool REST = false;
    __device__ static float value(Bits bits) { return __int_as_float((u32)bits << 16); }
};
struct F32 {
    typedef float Bits;
    static constexpr bool REST = false;
    __device__ static float value(Bits bits) { return bits; }
};

// Formats of single values: those of a column of the sixteen rows lie side by side. A matrix may end
// inside a block; the columns that it does not have are 0.
template <class Element>
struct Dense {
    __device__ static void values(const u8* tile, u32 block, u32 row, u32 columns, float w[32]) {
        const typename Element::Bits* at = reinterpret_cast<const typename Element::Bits*>(tile);
        at += (u64)block * 32 * 16 + row;
        u32 left = columns - 32 * block;
#pragma unroll
        for (int i = 0; i < 32; i++) w[i] = i < left ? Element::value(at[16 * i]) : 0.0f;
    }

    static constexpr bool LEAST = false, HALVES = false, REST = Element::REST, DENSE = true;
    __device__ static void fragment(const u8* tile, u32 block, u32 row, u32 t, u32 columns,
                                    Fragment& f) {
        const typename Element::Bits* at = reinterpret_cast<const typename Element::Bits*>(tile);
        at += (u64)block * 32 * 16 + row;
        const u32 left = columns - 32 * block;
        f.scale[0] = 1.0f;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float w[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const u32 column = 16 * half + 4 * t + i;
                w[i] = column < left ? Element::value(at[16 * column]) : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const u32 pair = brain_pair(w[i], w[i + 2]);
                f.pairs[2 * half + i] = pair;
                if (REST)
                    f.rest[2 * half + i] =
                        brain_pair(w[i] - brain_low(pair), w[i + 2] - brain_high(pair));
            }
        }
    }
};

// Every format that has fragments: its name in a kernel's, and how it is read. src/kind.rs has the same list.
#define FORMATS(each)        \
    each(q4_0, Flat<4, false>) \
    each(q4_1, Flat<4, true>)  \
    each(q5_0, Flat<5, false>) \
    each(q5_1, Flat<5, true>)  \
    each(q8_0, Flat<8, false>) \
    each(q4_k, Super<4>)       \
    each(q5_k, Super<5>)       \
    each(q6_k, Six)            \
    each(f16, Dense<F16>)      \
    each(bf16, Dense<Bf16>)

// And single precision, which no tensor core multiplies exactly.
#define ALL_FORMATS(each) FORMATS(each) each(f32, Dense<F32>)
