// Queries, keys and values, and attention over pages.
//
// A page holds the keys and values of 32 tokens in half precision: for each layer the keys of each head,
// then the values of each head, token by token. A sequence is a list of pages.
//
// Attention looks at a sequence in ranges of 256 tokens, each of which is a block of threads, and joins
// what they found. Where the ranges lie is fixed by positions, so that results do not depend on how a
// prompt was cut.
#include "common.cuh"

#define MAX_HEAD_DIM 1024
// Query heads of one key head that are computed at a time.
#define HEADS_AT_ONCE 8

struct AnglesArguments {
    // How far each pair of dimensions turns from one position to the next, for each way to turn.
    const double* turns;
    const u32* positions;
    float2* to;
    u32 pairs, tokens;
};

// Cosine and sine. In double precision: at position 8000 a float has lost four digits of the fraction.
KERNEL(angles, AnglesArguments) {
    for (u32 pair = threadIdx.x; pair < a.pairs; pair += THREADS) {
        double sine, cosine;
        sincos(a.positions[blockIdx.x] * a.turns[blockIdx.y * a.pairs + pair], &sine, &cosine);
        float2 turn;
        turn.x = (float)cosine;
        turn.y = (float)sine;
        a.to[((u64)blockIdx.y * a.tokens + blockIdx.x) * a.pairs + pair] = turn;
    }
}

struct HeadsArguments {
    const float* qkv;
    const float2* angles;
    // Norms over the dimensions of a head, or null.
    const float* query_norm;
    const float* key_norm;
    float* queries;
    u16* pages;
    // For each token 32 times its page, and its place there.
    const u32* slots;
    u64 page_halves, layer_halves;
    u32 stride, key_at, value_at;
    u32 heads, kv_heads, dim;
    // Whether neighbours turn together; otherwise halves.
    u32 neighbours;
    float epsilon, scale;
};

// One head of one token: of the queries, the keys or the values.
KERNEL(heads, HeadsArguments) {
    __shared__ float head[MAX_HEAD_DIM];
    u32 number = blockIdx.x;
    const u32 token = blockIdx.y;
    const int part = number < a.heads ? 0 : number < a.heads + a.kv_heads ? 1 : 2;
    if (part > 0) number -= a.heads;
    if (part > 1) number -= a.kv_heads;
    const u32 start = part == 0 ? 0 : part == 1 ? a.key_at : a.value_at;
    const float* from = a.qkv + (u64)token * a.stride + start + number * a.dim;
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < a.dim; i += THREADS) {
        head[i] = from[i];
        squares = fmaf(from[i], from[i], squares);
    }
    const float* weight = part == 0 ? a.query_norm : part == 1 ? a.key_norm : 0;
    if (weight) {
        const float scale = 1.0f / sqrtf(block_sum(squares) / (float)a.dim + a.epsilon);
        for (u32 i = threadIdx.x; i < a.dim; i += THREADS) head[i] *= scale * weight[i];
    }
    __syncthreads();
    const u32 pairs = a.dim / 2;
    if (part < 2) {
        for (u32 pair = threadIdx.x; pair < pairs; pair += THREADS) {
            const u32 i = a.neighbours ? 2 * pair : pair, j = a.neighbours ? i + 1 : i + pairs;
            const float2 turn = a.angles[(u64)token * pairs + pair];
            const float left = head[i], right = head[j];
            head[i] = left * turn.x - right * turn.y;
            head[j] = left * turn.y + right * turn.x;
        }
    }
    __syncthreads();
    if (part == 0) {
        float* to = a.queries + ((u64)token * a.heads + number) * a.dim;
        for (u32 i = threadIdx.x; i < a.dim; i += THREADS) to[i] = head[i] * a.scale;
        return;
    }
    const u32 slot = a.slots[token];
    const u64 place = ((u64)(part - 1) * a.kv_heads + number) * PAGE_TOKENS + slot % PAGE_TOKENS;
    u16* to = a.pages + slot / PAGE_TOKENS * a.page_halves + a.layer_halves + place * a.dim;
    for (u32 i = threadIdx.x; i < a.dim; i += THREADS) to[i] = float_to_half(head[i]);
}

struct AttentionArguments {
    const float* queries;
    const u16* pages;
    // For each token its position, and where the pages of its sequence start in `table`.
    const u32* positions;
    const u32* tables;
    const u32* table;
    // For each token, head and range: the largest score and the sum of weights, and the weighted sum of
    // values.
    float2* numbers;
    float* sums;
    u64 page_halves, layer_halves;
    u32 heads, kv_heads, dim, ranges;
    // Tokens that a token sees, itself the last; 0: all.
    u32 window;
};

// The first and the end of the tokens that one at `position` sees.
__device__ inline u32 seen_from(u32 position, u32 window) {
    return window && position + 1 > window ? position + 1 - window : 0;
}

// One range of one token, for some heads that share keys and values.
KERNEL(attention, AttentionArguments) {
    __shared__ float query[HEADS_AT_ONCE][MAX_HEAD_DIM];
    __shared__ float score[HEADS_AT_ONCE][RANGE_TOKENS];
    const u32 group = a.heads / a.kv_heads, chunks = (group + HEADS_AT_ONCE - 1) / HEADS_AT_ONCE;
    const u32 kv_head = blockIdx.y / chunks, chunk = blockIdx.y % chunks * HEADS_AT_ONCE;
    const u32 live = group - chunk < HEADS_AT_ONCE ? group - chunk : HEADS_AT_ONCE;
    const u32 token = blockIdx.z, range = blockIdx.x, head = kv_head * group + chunk;
    const u32 position = a.positions[token];
    const u32 first = seen_from(position, a.window), end = position + 1;
    const u32 from = first > range * RANGE_TOKENS ? first : range * RANGE_TOKENS;
    const u32 to = end < (range + 1) * RANGE_TOKENS ? end : (range + 1) * RANGE_TOKENS;
    // Nothing of this range is seen; nobody asks for its result.
    if (from >= to) return;
    const u32* table = a.table + a.tables[token];
    const u64 keys = a.layer_halves + (u64)kv_head * PAGE_TOKENS * a.dim;
    const u64 values = keys + (u64)a.kv_heads * PAGE_TOKENS * a.dim;
    for (u32 i = threadIdx.x; i < live * a.dim; i += THREADS)
        query[i / a.dim][i % a.dim] = a.queries[((u64)token * a.heads + head) * a.dim + i];
    __syncthreads();

    // Eight lanes take a token, each every eighth pair of dimensions.
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, pairs = a.dim / 2;
    for (u32 at = from + threadIdx.x / 8; at - threadIdx.x / 8 < to; at += THREADS / 8) {
        float dot[HEADS_AT_ONCE] = {};
        if (at < to) {
            const u16* key = a.pages + table[at / PAGE_TOKENS] * a.page_halves + keys +
                             (u64)(at % PAGE_TOKENS) * a.dim;
            for (u32 pair = lane % 8; pair < pairs; pair += 8) {
                const u32 two = reinterpret_cast<const u32*>(key)[pair];
                const float left = half_to_float((u16)two), right = half_to_float((u16)(two >> 16));
#pragma unroll
                for (int h = 0; h < HEADS_AT_ONCE; h++) {
                    if (h >= live) break;
                    dot[h] = fmaf(left, query[h][2 * pair], dot[h]);
                    dot[h] = fmaf(right, query[h][2 * pair + 1], dot[h]);
                }
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS_AT_ONCE; h++) {
            if (h >= live) break;
            for (int step = 4; step > 0; step /= 2)
                dot[h] += __shfl_xor_sync(0xffffffffu, dot[h], step);
            if (at < to && lane % 8 == 0) score[h][at - from] = dot[h];
        }
    }
    __syncthreads();

    // A warp makes the weights of a head.
    if (warp < live) {
        float most = -INFINITE;
        for (u32 i = lane; i < to - from; i += 32) most = fmaxf(most, score[warp][i]);
        most = warp_most(most);
        float total = 0.0f;
        for (u32 i = lane; i < to - from; i += 32) {
            const float weight = expf(score[warp][i] - most);
            score[warp][i] = weight;
            total += weight;
        }
        total = warp_sum(total);
        if (lane == 0) {
            float2 numbers;
            numbers.x = most;
            numbers.y = total;
            a.numbers[((u64)token * a.heads + head + warp) * a.ranges + range] = numbers;
        }
    }
    __syncthreads();

    // The warps take the tokens in turn, their lanes pairs of dimensions, 64 dimensions at a time.
    for (u32 start = 0; start < pairs; start += 32) {
        const u32 pair = start + lane;
        float left[HEADS_AT_ONCE] = {}, right[HEADS_AT_ONCE] = {};
        for (u32 at = from + warp; at < to && pair < pairs; at += WARPS) {
            const u16* value = a.pages + table[at / PAGE_TOKENS] * a.page_halves + values +
                               (u64)(at % PAGE_TOKENS) * a.dim;
            const u32 two = reinterpret_cast<const u32*>(value)[pair];
#pragma unroll
            for (int h = 0; h < HEADS_AT_ONCE; h++) {
                if (h >= live) break;
                const float weight = score[h][at - from];
                left[h] = fmaf(weight, half_to_float((u16)two), left[h]);
                right[h] = fmaf(weight, half_to_float((u16)(two >> 16)), right[h]);
            }
        }
        // Queries are no longer needed: their room holds what the warps add up.
        float* sums = &query[0][0];
        for (u32 h = 0; h < live; h++) {
            sums[(warp * 32 + lane) * 2] = left[h];
            sums[(warp * 32 + lane) * 2 + 1] = right[h];
            __syncthreads();
            const u32 dimension = 2 * start + threadIdx.x;
            if (threadIdx.x < 64 && dimension < a.dim) {
                float sum = 0.0f;
                for (int w = 0; w < WARPS; w++) sum += sums[w * 64 + threadIdx.x];
                a.sums[(((u64)token * a.heads + head + h) * a.ranges + range) * a.dim + dimension] =
                    sum;
            }
            __syncthreads();
        }
    }
}

struct JoinArguments {
    const float2* numbers;
    const float* sums;
    const u32* positions;
    float* to;
    u32 heads, dim, ranges, window, stride;
};

// Joins the ranges that a token sees, in their order.
KERNEL(join, JoinArguments) {
    const u32 head = blockIdx.x, token = blockIdx.y, position = a.positions[token];
    const u32 first = seen_from(position, a.window) / RANGE_TOKENS, last = position / RANGE_TOKENS;
    const u64 place = ((u64)token * a.heads + head) * a.ranges;
    float most = -INFINITE;
    for (u32 range = first; range <= last; range++) most = fmaxf(most, a.numbers[place + range].x);
    float total = 0.0f;
    for (u32 range = first; range <= last; range++) {
        const float2 numbers = a.numbers[place + range];
        total += numbers.y * expf(numbers.x - most);
    }
    for (u32 i = threadIdx.x; i < a.dim; i += THREADS) {
        float sum = 0.0f;
        for (u32 range = first; range <= last; range++)
            sum = fmaf(a.sums[(place + range) * a.dim + i],
                       expf(a.numbers[place + range].x - most), sum);
        a.to[(u64)token * a.stride + head * a.dim + i] = sum / total;
    }
}
