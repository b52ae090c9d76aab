// What every kernel here builds on. They trust the host side (src/launch.rs) about shapes and indices:
// it refuses a launch that would reach past a buffer, and every index in the tables of a step was
// checked when the step was made.
//
// The order of the additions of a result is fixed by the row it belongs to: not by how many rows are
// computed with it, nor by where its sequence lies. So a token has the same bits in company of others.
//
// The same sources are compiled by nvcc for a GPU, and by g++ for the tests (stand-in/), which gives
// the few names of the language another meaning.
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef CHRYSALIS_STAND_IN

// A kernel takes one structure, whose size the host compares with its own.
#define KERNEL(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const Arguments a)

// Instructions of the processor, so that no header of half precision is needed.
__device__ inline float half_to_float(u16 bits) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
    return out;
}

__device__ inline u16 float_to_half(float value) {
    u16 out;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(value));
    return out;
}

// Two numbers in bfloat16, the first in the low half.
__device__ inline u32 brain_pair(float low, float high) {
    u32 out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
}

// The difference of two such pairs.
__device__ inline u32 brain_less(u32 a, u32 b) {
    u32 out;
    asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
}

// d += a * b on the tensor cores, of sixteen rows, sixteen columns and eight tokens; all of a warp together
// (mma.m16n8k16 of the PTX ISA, which says what each lane holds). They stay in the order they are written in.
__device__ inline void tensor_product(float d[4], const u32 a[4], const u32 b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d = a * b in the same way.
__device__ inline void first_tensor_product(float d[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %10, %10, %10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
}

#endif

// The numbers of a pair.
__device__ inline float brain_low(u32 pair) { return __int_as_float(pair << 16); }
__device__ inline float brain_high(u32 pair) { return __int_as_float(pair & 0xffff0000u); }

// Threads of a block, of every kernel.
#define THREADS 256
#define WARPS (THREADS / 32)
// Tokens of a page of keys and values.
#define PAGE_TOKENS 32
// Tokens of a range: attention is computed range by range, and the ranges are joined.
#define RANGE_TOKENS 256
#define INFINITE __int_as_float(0x7f800000)

// The total order of floats as one of integers: NaN has a place too.
__device__ inline int order(float x) {
    const int bits = __float_as_int(x);
    return bits ^ (bits >> 31 & 0x7fffffff);
}

// The sum over a warp, the same in each of its lanes.
__device__ inline float warp_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ inline float warp_most(float x) {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// The sum over a block, the same in each of its threads. All of them must come here.
__device__ inline float block_sum(float x) {
    __shared__ float sums[WARPS];
    x = warp_sum(x);
    // Who reads below has left the sums of the call before.
    __syncthreads();
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < WARPS; warp++) total += sums[warp];
    return total;
}
