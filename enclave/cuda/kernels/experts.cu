// A mixture of experts: which of them each token takes, and the sum of what they give.
#include "common.cuh"

#define MAX_EXPERTS 1024

struct RouteArguments {
    const float* logits;
    // For each token the experts it takes, in the order of experts, and its share of each.
    u32* experts;
    float* shares;
    u32 stride, count, used;
};

// The `used` experts with the largest logits, of equals the first, and the softmax over them.
KERNEL(route, RouteArguments) {
    __shared__ float logits[MAX_EXPERTS];
    __shared__ u8 taken[MAX_EXPERTS];
    // The logits of those taken, the largest first, and what is common to their shares.
    __shared__ float sorted[MAX_EXPERTS];
    __shared__ float total;
    for (u32 i = threadIdx.x; i < a.count; i += THREADS)
        logits[i] = a.logits[(u64)blockIdx.x * a.stride + i];
    __syncthreads();
    for (u32 i = threadIdx.x; i < a.count; i += THREADS) {
        const int own = order(logits[i]);
        u32 rank = 0;
        for (u32 j = 0; j < a.count; j++) {
            const int other = order(logits[j]);
            rank += other > own || (other == own && j < i);
        }
        taken[i] = rank < a.used;
        if (rank < a.used) sorted[rank] = logits[i];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (u32 i = 0; i < a.used; i++) sum += expf(sorted[i] - sorted[0]);
        total = sum;
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < a.count; i += THREADS) {
        if (!taken[i]) continue;
        u32 place = 0;
        for (u32 j = 0; j < i; j++) place += taken[j];
        const u64 at = (u64)blockIdx.x * a.used + place;
        a.experts[at] = i;
        a.shares[at] = expf(logits[i] - sorted[0]) / total;
    }
}

struct MixArguments {
    const float* from;
    const float* shares;
    float* to;
    u32 used, width, from_stride, to_stride, add;
};

// The weighted sum of the results of a token's experts.
KERNEL(mix, MixArguments) {
    const u32 i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.width) return;
    float sum = 0.0f;
    for (u32 n = 0; n < a.used; n++) {
        const u64 item = (u64)blockIdx.y * a.used + n;
        sum = fmaf(a.shares[item], a.from[item * a.from_stride + i], sum);
    }
    float* to = a.to + (u64)blockIdx.y * a.to_stride + i;
    *to = a.add ? *to + sum : sum;
}
