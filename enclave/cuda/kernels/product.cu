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

    // Products of a block, in the order in which they are added up; sums apart where halves have scales apart.
    static constexpr int STEPS = Format::REST ? 8 : 4, PARTS = Format::HALVES ? 2 : 1;

    // One of them, with eight tokens. It waits for the one before: who computes several sums makes the same step
    // of each before the next.
    __device__ void step(int step, const Activations& x, float sum[PARTS][4]) const {
        const int half = step / (STEPS / 2), part = Format::HALVES ? half : 0;
        const u32* left = step % (STEPS / 2) < 2 ? pairs[half] : rest[half];
        const u32* right = (step % 2 ? x.low.at : x.high.at) + 2 * half;
        if (step % (STEPS / PARTS) == 0)
            first_tensor_product(sum[part], left, right);
        else
            tensor_product(sum[part], left, right);
    }

    // Adds the sums of a block; `sums` are those of the activations of the two tokens that are this lane's.
    __device__ void add(const float sum[PARTS][4], const float sums[2], float total[4]) const {
#pragma unroll
        for (int part = 0; part < PARTS; part++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                total[i] = fmaf(scale[i / 2][part], sum[part][i], total[i]);
        if (!Format::LEAST) return;
#pragma unroll
        for (int i = 0; i < 4; i++) total[i] = fmaf(least[i / 2], sums[i % 2], total[i]);
    }
};

// The sums of the activations of a block, for the tokens of this lane's results: a product with a matrix of ones.
__device__ inline void add_up(const Activations& x, float sums[2]) {
    const u32 ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    float sum[4];
    first_tensor_product(sum, ones, x.high.at);
    tensor_product(sum, ones, x.low.at);
    tensor_product(sum, ones, x.high.at + 2);
    tensor_product(sum, ones, x.low.at + 2);
    sums[0] = sum[0];
    sums[1] = sum[1];
}

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
    // Several blocks are asked for at a time, as memory is far away; behind the last the last again, for nobody. Of
    // many tokens their sums are made at the same time too.
    const int AHEAD = M > 8 ? 2 : 4, TOGETHER = M > 8 ? AHEAD : 1;
    typedef Weights<Format> Own;
    for (u32 start = warp; start < blocks; start += AHEAD * SUMS) {
        Own weights[AHEAD];
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            const u32 block = start + n * SUMS;
            weights[n].load(tile, block < blocks ? block : blocks - 1, a.columns);
        }
#pragma unroll
        for (int from = 0; from < AHEAD; from += TOGETHER) {
            if (start + from * SUMS >= blocks) break;
            Activations own[TOGETHER][EIGHTS];
            float sum[TOGETHER][EIGHTS][Own::PARTS][4], sums[TOGETHER][EIGHTS][2];
#pragma unroll
            for (int n = 0; n < TOGETHER; n++)
#pragma unroll
                for (int e = 0; e < EIGHTS; e++) {
                    const u32 block = start + (from + n) * SUMS;
                    own[n][e] = prepare(x[e] + 8 * (block < blocks ? block : blocks - 1) + t);
                    if (Format::LEAST) add_up(own[n][e], sums[n][e]);
                }
#pragma unroll
            for (int step = 0; step < Own::STEPS; step++)
#pragma unroll
                for (int n = 0; n < TOGETHER; n++)
#pragma unroll
                    for (int e = 0; e < EIGHTS; e++)
                        weights[from + n].step(step, own[n][e], sum[n][e]);
#pragma unroll
            for (int n = 0; n < TOGETHER; n++) {
                if (start + (from + n) * SUMS >= blocks) break;
#pragma unroll
                for (int e = 0; e < EIGHTS; e++)
                    weights[from + n].add(sum[n][e], sums[n][e], total[e]);
            }
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
    // Eights of tokens that are computed at a time.
    const int EIGHTS = WIDE_TOKENS / 8, TOGETHER = Format::DENSE ? 1 : 4;
    typedef Weights<Format> Own;
    __shared__ Quad high[WIDE_BLOCKS][EIGHTS][32], low[WIDE_BLOCKS][EIGHTS][32];
    __shared__ float2 sums[WIDE_BLOCKS][EIGHTS][4];
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
                if (Format::LEAST) {
                    float two[2];
                    add_up(own, two);
                    if (of < 4) sums[b][e][of] = float2{two[0], two[1]};
                }
            }
            __syncthreads();
            for (u32 b = 0; b < WIDE_BLOCKS && start + b * SUMS < blocks; b++) {
                Own weights;
                weights.load(tile, start + b * SUMS, a.columns);
#pragma unroll
                for (int from = 0; from < EIGHTS; from += TOGETHER) {
                    Activations own[TOGETHER];
                    float sum[TOGETHER][Own::PARTS][4];
#pragma unroll
                    for (int e = 0; e < TOGETHER; e++)
                        own[e] = {high[b][from + e][lane], low[b][from + e][lane]};
#pragma unroll
                    for (int step = 0; step < Own::STEPS; step++)
#pragma unroll
                        for (int e = 0; e < TOGETHER; e++) weights.step(step, own[e], sum[e]);
#pragma unroll
                    for (int e = 0; e < TOGETHER; e++) {
                        const float2 both = Format::LEAST ? sums[b][from + e][lane % 4] : float2{};
                        const float two[2] = {both.x, both.y};
                        weights.add(sum[e], two, part[from + e]);
                    }
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
    KERNEL(product_##name##_16, ProductArguments) { narrow<__VA_ARGS__, 16>(a); }          \
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
