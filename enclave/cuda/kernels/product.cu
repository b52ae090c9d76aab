// Products of weights and activations, and rows of an embedding.
//
// Tensor cores multiply codes, which bfloat16 holds exactly, with activations that are split in two of it:
// sixteen digits, as exact as single precision is useful here. Sums are in single precision; scales come
// in block by block of 32 columns.
//
// The blocks of a row are added up in eight sums, of every eighth block, and those in order: always, so that a token
// has the same bits in any company. `narrow` has a warp for each of the eight sums of a tile: for a few
// tokens, when weights have to come from memory as fast as they can. `wide` has a warp for each of eight tiles,
// which makes the eight sums one after the other: for many, who share what is read.
#include "formats.cuh"

#define SUMS 8
// Tokens of a block of threads in `wide`, and blocks of columns it prepares at a time.
#define WIDE_TOKENS 64
#define WIDE_BLOCKS 4

struct ProductArguments {
    const u8* tiles;
    const float* x;
    float* y;
    // For each row of results the number of its matrix, of a stack of experts; null for one matrix.
    const u32* select;
    u64 matrix_bytes;
    u32 tile_bytes, columns, rows, count;
    u32 x_stride, y_stride;
    // Neighbouring rows of results that take the same row of `x`.
    u32 fan;
    // Whether results are added to what is there.
    u32 add;
};

struct alignas(16) Quad {
    u32 at[4];
};

// Activations of one token and a block: pairs as of `Fragment`, and what is left of them.
struct Activations {
    Quad high, low;
};

__device__ inline void split(float first, float second, u32& high, u32& low) {
    high = brain_pair(first, second);
    low = brain_pair(first - brain_low(high), second - brain_high(high));
}

// What a lane holds of a block, whose first columns of it are those at `x`.
__device__ inline Activations prepare(const float4* x) {
    Activations out;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float4 four = x[4 * half];
        split(four.x, four.z, out.high.at[2 * half], out.low.at[2 * half]);
        split(four.y, four.w, out.high.at[2 * half + 1], out.low.at[2 * half + 1]);
    }
    return out;
}

// A block of a tile, for the tensor cores.
template <class Format>
struct Weights {
    u32 pairs[2][4], rest[2][4];
    // Of the two rows of a lane, and the halves of a block.
    float scale[2][2], least[2];

    __device__ void load(const u8* tile, u32 block, u32 columns) {
        const u32 lane = threadIdx.x % 32;
#pragma unroll
        for (int row = 0; row < 2; row++) {
            Fragment f;
            Format::fragment(tile, block, lane / 4 + 8 * row, lane % 4, columns, f);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                pairs[half][row] = f.pairs[2 * half];
                pairs[half][row + 2] = f.pairs[2 * half + 1];
                if (Format::REST) {
                    rest[half][row] = f.rest[2 * half];
                    rest[half][row + 2] = f.rest[2 * half + 1];
                }
            }
            scale[row][0] = f.scale[0];
            scale[row][1] = Format::HALVES ? f.scale[1] : f.scale[0];
            least[row] = Format::LEAST ? f.least : 0.0f;
        }
    }

    // Adds their product with the activations of eight tokens.
    __device__ void multiply(const Activations& x, float total[4]) const {
        float sum[4] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            tensor_product(sum, pairs[half], x.high.at + 2 * half);
            tensor_product(sum, pairs[half], x.low.at + 2 * half);
            if (Format::REST) {
                tensor_product(sum, rest[half], x.high.at + 2 * half);
                tensor_product(sum, rest[half], x.low.at + 2 * half);
            }
            if (Format::HALVES || half == 1) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    total[i] = fmaf(scale[i / 2][half], sum[i], total[i]);
                    sum[i] = 0.0f;
                }
            }
        }
        if (!Format::LEAST) return;
        // The sum of the activations of a block, by a matrix of ones.
        const u32 ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            tensor_product(sum, ones, x.high.at + 2 * half);
            tensor_product(sum, ones, x.low.at + 2 * half);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) total[i] = fmaf(least[i / 2], sum[i], total[i]);
    }
};

// Where the row of activations of a token starts; behind the last one the last again, which nobody stores.
__device__ inline const float* activations(const ProductArguments& a, u32 token) {
    token = token < a.count ? token : a.count - 1;
    return a.x + (u64)(token / a.fan) * a.x_stride;
}

__device__ inline void store(const ProductArguments& a, u32 token, u32 row, float sum) {
    if (token >= a.count || row >= a.rows) return;
    float* y = a.y + (u64)token * a.y_stride + row;
    *y = a.add ? *y + sum : sum;
}

// A tile for M tokens.
template <class Format, int M>
__device__ inline void narrow(const ProductArguments& a) {
    const int EIGHTS = (M + 7) / 8;
    __shared__ float partial[SUMS][M][16];
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, t = lane % 4;
    const u32 first = blockIdx.y * M;
    const u8* tile = a.tiles + (u64)blockIdx.x * a.tile_bytes;
    if (a.select) tile += a.select[first] * a.matrix_bytes;
    const float4* x[EIGHTS];
    float total[EIGHTS][4] = {};
#pragma unroll
    for (int e = 0; e < EIGHTS; e++) {
        const u32 own = 8 * e + lane / 4;
        x[e] = reinterpret_cast<const float4*>(activations(a, first + (own < M ? own : M - 1)));
    }
    const u32 blocks = (a.columns + 31) / 32;
    // Several blocks are asked for before the first is used: memory is far away.
    const int AHEAD = M > 8 ? 2 : 4;
    for (u32 start = warp; start < blocks; start += AHEAD * SUMS) {
        Weights<Format> weights[AHEAD];
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            const u32 block = start + n * SUMS;
            weights[n].load(tile, block < blocks ? block : blocks - 1, a.columns);
        }
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            const u32 block = start + n * SUMS;
            if (block >= blocks) break;
#pragma unroll
            for (int e = 0; e < EIGHTS; e++)
                weights[n].multiply(prepare(x[e] + 8 * block + t), total[e]);
        }
    }
#pragma unroll
    for (int e = 0; e < EIGHTS; e++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const u32 token = 8 * e + 2 * t + i % 2;
            if (token < M) partial[warp][token][lane / 4 + i / 2 * 8] = total[e][i];
        }
    __syncthreads();
    for (u32 i = threadIdx.x; i < M * 16; i += THREADS) {
        float sum = 0.0f;
        for (int n = 0; n < SUMS; n++) sum += partial[n][i / 16][i % 16];
        store(a, first + i / 16, blockIdx.x * 16 + i % 16, sum);
    }
}

// Eight tiles for many tokens.
template <class Format>
__device__ inline void wide(const ProductArguments& a) {
    const int EIGHTS = WIDE_TOKENS / 8;
    __shared__ Quad high[WIDE_BLOCKS][EIGHTS][32], low[WIDE_BLOCKS][EIGHTS][32];
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u32 first = blockIdx.y * WIDE_TOKENS, tiles = (a.rows + 15) / 16;
    const u32 number = blockIdx.x * WARPS + warp;
    // A warp behind the last tile computes that one again, for nobody.
    const u8* tile = a.tiles + (u64)(number < tiles ? number : tiles - 1) * a.tile_bytes;
    float total[EIGHTS][4] = {}, part[EIGHTS][4];
    const u32 blocks = (a.columns + 31) / 32;
    for (u32 n = 0; n < SUMS; n++) {
#pragma unroll
        for (int e = 0; e < EIGHTS; e++)
#pragma unroll
            for (int i = 0; i < 4; i++) part[e][i] = 0.0f;
        for (u32 start = n; start < blocks; start += SUMS * WIDE_BLOCKS) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < WIDE_BLOCKS * EIGHTS * 32; i += THREADS) {
                const u32 b = i / (EIGHTS * 32), e = i / 32 % EIGHTS, of = i % 32;
                const u32 block = start + b * SUMS;
                if (block >= blocks) break;
                const float* row = activations(a, first + 8 * e + of / 4);
                const Activations own =
                    prepare(reinterpret_cast<const float4*>(row) + 8 * block + of % 4);
                high[b][e][of] = own.high;
                low[b][e][of] = own.low;
            }
            __syncthreads();
            for (u32 b = 0; b < WIDE_BLOCKS && start + b * SUMS < blocks; b++) {
                Weights<Format> weights;
                weights.load(tile, start + b * SUMS, a.columns);
#pragma unroll
                for (int e = 0; e < EIGHTS; e++) {
                    const Activations own = {high[b][e][lane], low[b][e][lane]};
                    weights.multiply(own, part[e]);
                }
            }
        }
#pragma unroll
        for (int e = 0; e < EIGHTS; e++)
#pragma unroll
            for (int i = 0; i < 4; i++) total[e][i] += part[e][i];
    }
    if (number >= tiles) return;
#pragma unroll
    for (int e = 0; e < EIGHTS; e++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            store(a, first + 8 * e + 2 * (lane % 4) + i % 2, number * 16 + lane / 4 + i / 2 * 8,
                  total[e][i]);
}

#define PRODUCTS(name, ...)                                                                \
    KERNEL(product_##name##_1, ProductArguments) { narrow<__VA_ARGS__, 1>(a); }            \
    KERNEL(product_##name##_8, ProductArguments) { narrow<__VA_ARGS__, 8>(a); }            \
    KERNEL(product_##name##_32, ProductArguments) { narrow<__VA_ARGS__, 32>(a); }          \
    KERNEL(product_##name##_64, ProductArguments) { wide<__VA_ARGS__>(a); }
FORMATS(PRODUCTS)

// Single precision: half a warp reads a block of the sixteen rows, and the halves take the blocks in turn. For
// what is small and has to be exact, as the router of a mixture.
#define HALF_WARPS (THREADS / 16)

template <int M>
__device__ inline void exact(const ProductArguments& a) {
    __shared__ float partial[HALF_WARPS][16];
    const u32 row = threadIdx.x % 16, part = threadIdx.x / 16;
    const u8* tile = a.tiles + (u64)blockIdx.x * a.tile_bytes;
    if (a.select) tile += a.select[blockIdx.y * M] * a.matrix_bytes;
    const u32 blocks = (a.columns + 31) / 32;
    for (u32 token = blockIdx.y * M; token < (blockIdx.y + 1) * M && token < a.count; token++) {
        const float* x = activations(a, token);
        float total = 0.0f;
        for (u32 block = part; block < blocks; block += HALF_WARPS) {
            float w[32];
            Dense<F32>::values(tile, block, row, a.columns, w);
#pragma unroll
            for (int i = 0; i < 32; i++) total = fmaf(w[i], x[32 * block + i], total);
        }
        partial[part][row] = total;
        __syncthreads();
        if (part == 0) {
            float sum = 0.0f;
            for (int i = 0; i < HALF_WARPS; i++) sum += partial[i][row];
            store(a, token, blockIdx.x * 16 + row, sum);
        }
        __syncthreads();
    }
}

KERNEL(product_f32_1, ProductArguments) { exact<1>(a); }
KERNEL(product_f32_8, ProductArguments) { exact<8>(a); }

struct EmbedArguments {
    const u8* tiles;
    const u32* ids;
    float* to;
    u32 tile_bytes, columns, stride;
    float scale;
};

template <class Format>
__device__ inline void embed(const EmbedArguments& a) {
    const u32 id = a.ids[blockIdx.x];
    const u8* tile = a.tiles + (u64)(id / 16) * a.tile_bytes;
    float* to = a.to + (u64)blockIdx.x * a.stride;
    for (u32 block = threadIdx.x; block < (a.columns + 31) / 32; block += THREADS) {
        float w[32];
        Format::values(tile, block, id % 16, a.columns, w);
        for (u32 i = 0; i < 32 && 32 * block + i < a.columns; i++)
            to[32 * block + i] = w[i] * a.scale;
    }
}

#define EMBED(name, ...) \
    KERNEL(embed_##name, EmbedArguments) { embed<__VA_ARGS__>(a); }
ALL_FORMATS(EMBED)
