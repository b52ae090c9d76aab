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
};

static Fiber all[THREADS_AT_MOST];
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

#define KERNEL(name, Arguments)                                                              \
    static void name(const Arguments a);                                                     \
    extern "C" void run_##name(const void* p) { name(*static_cast<const Arguments*>(p)); }   \
    extern "C" unsigned size_##name() { return sizeof(Arguments); }                          \
    static void name(const Arguments a)
