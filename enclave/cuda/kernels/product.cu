// Products of weights and activations, and rows of an embedding.
//
// A block of threads computes one tile, sixteen rows of weights, for up to M tokens. Half a warp reads
// a block of 32 columns of the sixteen rows; the sixteen halves take the blocks in turn, and add up in
// a fixed order in the end. M changes who computes a result, and not how.
#include "formats.cuh"

#define PARTS (THREADS / 16)

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

template <class Format, int M>
__device__ inline void product(const ProductArguments& a) {
    __shared__ float partial[PARTS][M][16];
    const u32 row = threadIdx.x % 16, part = threadIdx.x / 16;
    const u32 first = blockIdx.y * M;
    const u8* tile = a.tiles + (u64)blockIdx.x * a.tile_bytes;
    if (a.select) tile += a.select[first] * a.matrix_bytes;
    const float4* x[M];
    float total[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
        // Behind the last token the last one again; nobody stores it.
        u32 token = first + m < a.count ? first + m : a.count - 1;
        x[m] = reinterpret_cast<const float4*>(a.x + (u64)(token / a.fan) * a.x_stride);
        total[m] = 0.0f;
    }
    const u32 blocks = (a.columns + 31) / 32;
    for (u32 block = part; block < blocks; block += PARTS) {
        float w[32];
        Format::values(tile, block, row, a.columns, w);
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float4 four = x[m][8 * block + i];
                total[m] = fmaf(w[4 * i], four.x, total[m]);
                total[m] = fmaf(w[4 * i + 1], four.y, total[m]);
                total[m] = fmaf(w[4 * i + 2], four.z, total[m]);
                total[m] = fmaf(w[4 * i + 3], four.w, total[m]);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < M; m++) partial[part][m][row] = total[m];
    __syncthreads();
    const u32 at = blockIdx.x * 16 + row;
    if (part >= M || first + part >= a.count || at >= a.rows) return;
    float sum = 0.0f;
    for (int i = 0; i < PARTS; i++) sum += partial[i][part][row];
    float* y = a.y + (u64)(first + part) * a.y_stride + at;
    *y = a.add ? *y + sum : sum;
}

#define PRODUCTS(name, ...)                                                               \
    KERNEL(product_##name##_1, ProductArguments) { product<__VA_ARGS__, 1>(a); }          \
    KERNEL(product_##name##_4, ProductArguments) { product<__VA_ARGS__, 4>(a); }          \
    KERNEL(product_##name##_8, ProductArguments) { product<__VA_ARGS__, 8>(a); }
FORMATS(PRODUCTS)

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
FORMATS(EMBED)
