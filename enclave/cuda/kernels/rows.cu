// What lies between products: norms, gates, and the ends of a step.
#include "common.cuh"

struct NormArguments {
    const float* from;
    const float* weight;
    float* to;
    // Which rows of `from`; null for all of them in order.
    const u32* rows;
    u32 width, from_stride, to_stride;
    // Whether the result is added to what is there.
    u32 add;
    float epsilon;
};

// to = from / sqrt(mean(from^2) + epsilon) * weight, a block for each row.
KERNEL(rms_norm, NormArguments) {
    const u32 row = a.rows ? a.rows[blockIdx.x] : blockIdx.x;
    const float* from = a.from + (u64)row * a.from_stride;
    float* to = a.to + (u64)blockIdx.x * a.to_stride;
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < a.width; i += THREADS) squares = fmaf(from[i], from[i], squares);
    const float scale = 1.0f / sqrtf(block_sum(squares) / (float)a.width + a.epsilon);
    for (u32 i = threadIdx.x; i < a.width; i += THREADS) {
        float x = from[i] * (scale * a.weight[i]);
        to[i] = a.add ? to[i] + x : x;
    }
}

struct GateArguments {
    const float* from;
    float* to;
    // Where the other half of a row of `from` starts.
    u32 up_at;
    u32 width, from_stride, to_stride;
    // GELU in its tanh form; otherwise SiLU.
    u32 gelu;
};

// to = activation(gate) * up.
KERNEL(gate, GateArguments) {
    const u32 i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.width) return;
    const float* from = a.from + (u64)blockIdx.y * a.from_stride;
    const float x = from[i];
    // tanh(u) in GELU makes it x * sigmoid(2u).
    const float u = a.gelu ? 1.595769122f * (x + 0.044715f * x * x * x) : x;
    a.to[(u64)blockIdx.y * a.to_stride + i] = x / (1.0f + expf(-u)) * from[a.up_at + i];
}

struct ChooseArguments {
    const float* logits;
    u32* to;
    u32 stride;
    // Those of the tokens; behind them may be padding.
    u32 known;
};

// The largest logit of each row, of equals the first, as the sampler of the CPU has it: NO_TOKEN if one
// of them is NaN or the largest is infinite.
#define NO_TOKEN 0xffffffffu

KERNEL(choose, ChooseArguments) {
    __shared__ int best[WARPS];
    __shared__ u32 where[WARPS];
    __shared__ u32 strange[WARPS];
    const float* logits = a.logits + (u64)blockIdx.x * a.stride;
    int most = order(-INFINITE);
    u32 at = 0, none = 0;
    for (u32 i = threadIdx.x; i < a.known; i += THREADS) {
        const float x = logits[i];
        none |= x != x;
        if (order(x) > most) {
            most = order(x);
            at = i;
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        const int other = __shfl_xor_sync(0xffffffffu, most, step);
        const u32 place = __shfl_xor_sync(0xffffffffu, at, step);
        none |= __shfl_xor_sync(0xffffffffu, none, step);
        if (other > most || (other == most && place < at)) {
            most = other;
            at = place;
        }
    }
    if (threadIdx.x % 32 == 0) {
        best[threadIdx.x / 32] = most;
        where[threadIdx.x / 32] = at;
        strange[threadIdx.x / 32] = none;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < WARPS; warp++) {
        none |= strange[warp];
        if (best[warp] > most || (best[warp] == most && where[warp] < at)) {
            most = best[warp];
            at = where[warp];
        }
    }
    none |= most == order(INFINITE) || most == order(-INFINITE);
    a.to[blockIdx.x] = none ? NO_TOKEN : at;
}

struct WipeArguments {
    u16* pages;
    const u32* list;
    u64 page_halves;
};

// Overwrites the pages of a list with zeros.
KERNEL(wipe, WipeArguments) {
    u16* page = a.pages + a.list[blockIdx.y] * a.page_halves;
    for (u64 i = (u64)blockIdx.x * THREADS + threadIdx.x; i < a.page_halves;
         i += (u64)gridDim.x * THREADS)
        page[i] = 0;
}
