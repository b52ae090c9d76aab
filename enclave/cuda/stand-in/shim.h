// The language of the kernels for g++: one block of threads at a time, each thread a fiber with a stack
// of its own. A fiber runs until it has to wait for others; what waits for somebody who never comes is
// an error, and ends the process. Blocks run their threads forwards and backwards in turn, so that a
// result that needs a barrier which is not there comes out differently. For tests.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHRYSALIS_STAND_IN
#define __device__
#define __shared__ static

struct uint3 {
    unsigned x, y, z;
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

static uint3 threadIdx, blockIdx, gridDim;

namespace fibers {
enum State { READY, AT_BLOCK, AT_WARP, DONE };
const unsigned THREADS_AT_MOST = 1024, STACK = 1 << 16;

struct Fiber {
    void* stack;
    State state;
    // What a lane shows to its warp.
    uint32_t shown;
    // For products: what it holds of both sides, how many it has been in, and the results.
    uint32_t left[4], right[2];
    unsigned long products;
};

// Of a warp: how many products it has computed, and the last one.
struct Computed {
    unsigned long products;
    float result[16][8];
};

static Fiber all[THREADS_AT_MOST];
static Computed computed[THREADS_AT_MOST / 32];
static char* stacks;
static void* scheduler;
static unsigned running, count;
static void (*kernel)(const void*);
static const void* arguments;

// Saves the registers that a call keeps and the stack, and goes on with another stack.
extern "C" void chrysalis_switch(void** from, void* to);
asm(R"(
.text
.hidden chrysalis_switch
.globl chrysalis_switch
.type chrysalis_switch,@function
chrysalis_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size chrysalis_switch,.-chrysalis_switch
)");

[[noreturn]] static void fail(const char* why) {
    fprintf(stderr, "stand-in: %s (thread %u of block %u %u %u)\n", why, running, blockIdx.x,
            blockIdx.y, blockIdx.z);
    abort();
}

static void wait(State state) {
    const unsigned self = running;
    all[self].state = state;
    chrysalis_switch(&all[self].stack, scheduler);
    running = self;
    threadIdx.x = self;
}

static void run_thread() {
    kernel(arguments);
    wait(DONE);
}

// Lets go those of `from`..`to` that wait in `state`, if all do that have not ended.
static bool release(unsigned from, unsigned to, State state) {
    bool some = false;
    for (unsigned i = from; i < to; i++) {
        if (all[i].state == DONE) {
            // A warp whose lane has left cannot exchange anything.
            if (state == AT_WARP) return false;
            continue;
        }
        if (all[i].state != state) return false;
        some = true;
    }
    for (unsigned i = from; some && i < to; i++)
        if (all[i].state == state) all[i].state = READY;
    return some;
}

static void run_block(unsigned threads, bool backwards) {
    if (!stacks) stacks = static_cast<char*>(malloc((size_t)THREADS_AT_MOST * STACK));
    if (threads == 0 || threads > THREADS_AT_MOST || threads % 32 != 0) fail("a block of this size");
    count = threads;
    for (unsigned i = 0; i < count; i++) {
        uintptr_t top = (reinterpret_cast<uintptr_t>(stacks) + (size_t)(i + 1) * STACK) & ~15ull;
        void** frame = reinterpret_cast<void**>(top) - 8;
        memset(frame, 0, 64);
        frame[6] = reinterpret_cast<void*>(&run_thread);
        all[i] = Fiber{frame, READY, 0};
    }
    for (Computed& warp : computed) warp.products = 0;
    for (;;) {
        bool ran = false, left = false;
        for (unsigned n = 0; n < count; n++) {
            const unsigned i = backwards ? count - 1 - n : n;
            left |= all[i].state != DONE;
            if (all[i].state != READY) continue;
            ran = true;
            running = i;
            threadIdx.x = i;
            chrysalis_switch(&scheduler, all[i].stack);
        }
        if (!left) return;
        bool released = release(0, count, AT_BLOCK);
        for (unsigned warp = 0; warp < count; warp += 32) released |= release(warp, warp + 32, AT_WARP);
        if (!ran && !released) fail("threads wait for others that do not come");
    }
}
}  // namespace fibers

static inline void __syncthreads() { fibers::wait(fibers::AT_BLOCK); }

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int step) {
    static_assert(sizeof(T) == 4, "four bytes a lane");
    if (mask != 0xffffffffu) fibers::fail("a part of a warp");
    const unsigned self = fibers::running;
    memcpy(&fibers::all[self].shown, &value, 4);
    fibers::wait(fibers::AT_WARP);
    T other;
    memcpy(&other, &fibers::all[self ^ step].shown, 4);
    // Nobody shows the next value before all have seen this one.
    fibers::wait(fibers::AT_WARP);
    return other;
}

static inline float __int_as_float(int bits) {
    float out;
    memcpy(&out, &bits, 4);
    return out;
}
static inline int __float_as_int(float value) {
    int out;
    memcpy(&out, &value, 4);
    return out;
}

static inline float half_to_float(unsigned short bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return (float)half;
}
static inline unsigned short float_to_half(float value) {
    _Float16 half = (_Float16)value;
    unsigned short out;
    memcpy(&out, &half, 2);
    return out;
}

static inline float brain_to_float(uint32_t bits) { return __int_as_float((int)(bits << 16)); }
static inline uint32_t float_to_brain(float value) {
    const uint32_t bits = (uint32_t)__float_as_int(value);
    if (value != value) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline unsigned brain_pair(float low, float high) {
    return float_to_brain(low) | float_to_brain(high) << 16;
}
static inline unsigned brain_less(unsigned a, unsigned b) {
    return brain_pair(brain_to_float(a & 0xffff) - brain_to_float(b & 0xffff),
                      brain_to_float(a >> 16) - brain_to_float(b >> 16));
}

// What the lanes of a warp hold, as the PTX ISA says of mma.m16n8k16: lane 4g+t has rows g and g+8, and columns
// 2t, 2t+1, 2t+8 and 2t+9, of one side and column g of the other; and of the results columns 2t and 2t+1.
static inline void tensor_product(float d[4], const unsigned a[4], const unsigned b[2]) {
    using namespace fibers;
    const unsigned self = running, base = self & ~31u, lane = self & 31;
    memcpy(all[self].left, a, 16);
    memcpy(all[self].right, b, 8);
    const unsigned long number = ++all[self].products;
    wait(AT_WARP);
    Computed& own = computed[self / 32];
    // Whoever comes first, before anybody can show what comes next.
    if (own.products < number) {
        own.products = number;
        float left[16][16], right[16][8];
        for (unsigned from = 0; from < 32; from++) {
            const Fiber& f = all[base + from];
            if (f.products != number) fail("lanes of a warp are in different products");
            const unsigned g = from / 4, t = from % 4;
            for (unsigned i = 0; i < 8; i++)
                left[g + i / 2 % 2 * 8][2 * t + i / 4 * 8 + i % 2] =
                    brain_to_float(f.left[i / 2] >> (16 * (i % 2)) & 0xffff);
            for (unsigned i = 0; i < 4; i++)
                right[2 * t + i / 2 * 8 + i % 2][g] =
                    brain_to_float(f.right[i / 2] >> (16 * (i % 2)) & 0xffff);
        }
        memset(own.result, 0, sizeof own.result);
        for (unsigned row = 0; row < 16; row++)
            for (unsigned k = 0; k < 16; k++)
                for (unsigned n = 0; n < 8; n++) own.result[row][n] += left[row][k] * right[k][n];
    }
    for (unsigned i = 0; i < 4; i++) d[i] += own.result[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
}

static inline void first_tensor_product(float d[4], const unsigned a[4], const unsigned b[2]) {
    d[0] = d[1] = d[2] = d[3] = 0.0f;
    tensor_product(d, a, b);
}

#define KERNEL(name, Arguments)                                                              \
    static void name(const Arguments a);                                                     \
    extern "C" void run_##name(const void* p) { name(*static_cast<const Arguments*>(p)); }   \
    extern "C" unsigned size_##name() { return sizeof(Arguments); }                          \
    static void name(const Arguments a)
