// A stand-in for NVIDIA's driver library: the functions that src/driver.rs calls, with the signatures of
// the public header cuda.h, over the kernels themselves (shim.h). Stricter than a driver where that
// finds errors: what goes through a stream happens when somebody waits for it, as late as it may;
// memory ends at a page that nobody may touch, is full of NaN at first, and must be full of zeros when it
// is given back. Tests compile it; told so, it fails: every call from the launch FAIL_AT on, as a driver
// does whose GPU is gone, and one allocation of host memory, HOST_FAILS_AT. With SLOW_COPIES a copy takes a
// while to be queued.
#ifndef NO_KERNELS
#include "shim.h"
#include "../kernels/all.cu"
#endif

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#ifndef DEVICES
#define DEVICES 1
#endif
#ifndef DRIVER
#define DRIVER 13000
#endif
#ifndef MAJOR
#define MAJOR 9
#endif
#ifndef FAIL_AT
#define FAIL_AT 0
#endif
#ifndef HOST_FAILS_AT
#define HOST_FAILS_AT 0
#endif
#ifndef MEMORY
#define MEMORY (1ull << 30)
#endif

typedef int Result;
typedef uint64_t Pointer;
const Result OK = 0, INVALID = 1, NO_MEMORY = 2, GONE = 719, NO_DEVICE = 100, NO_BINARY = 209, NOT_FOUND = 500;

namespace {
std::recursive_mutex lock;
std::vector<std::function<void()>> queue;
struct Mapping {
    void* base;
    size_t length, bytes;
};
std::map<Pointer, Mapping> memory;
size_t used;
unsigned launches, host_allocations;
bool initialised, gone;
thread_local bool current;

struct Function {
    std::string name;
    unsigned size;
    void (*run)(const void*);
};

Result drain() {
    auto work = std::move(queue);
    queue.clear();
    for (auto& one : work) one();
    return OK;
}

bool ready() { return initialised && current; }

// What a call that needs the GPU answers if it is not done.
Result refusal() { return gone ? GONE : INVALID; }

Result take(size_t bytes, Pointer* out) {
    const size_t page = 4096, usable = (bytes + 15) & ~size_t(15);
    const size_t length = ((usable + page - 1) & ~(page - 1)) + page;
    void* base = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NO_MEMORY;
    mprotect(static_cast<char*>(base) + length - page, page, PROT_NONE);
    *out = reinterpret_cast<Pointer>(base) + length - page - usable;
    memset(reinterpret_cast<void*>(*out), 0xff, usable);
    memory[*out] = Mapping{base, length, bytes};
    return OK;
}

Result give(Pointer at) {
    auto found = memory.find(at);
    if (found == memory.end()) return INVALID;
    drain();
    for (size_t n = 0; n < found->second.bytes; n++)
        if (reinterpret_cast<const char*>(at)[n]) {
            fprintf(stderr, "memory is given back that was not wiped\n");
            abort();
        }
    used -= found->second.bytes;
    munmap(found->second.base, found->second.length);
    memory.erase(found);
    return OK;
}

// Whether `bytes` from `at` on lie in one allocation.
bool inside(Pointer at, size_t bytes) {
    auto found = memory.upper_bound(at);
    if (found == memory.begin()) return false;
    --found;
    return at + bytes <= found->first + found->second.bytes;
}
}  // namespace

#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)

extern "C" {
Result cuInit(unsigned flags) {
    LOCKED;
    if (flags != 0) return INVALID;
    initialised = true;
    return DEVICES ? OK : NO_DEVICE;
}
Result cuDriverGetVersion(int* version) {
    *version = DRIVER;
    return OK;
}
Result cuDeviceGetCount(int* count) {
    *count = DEVICES;
    return OK;
}
Result cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal < DEVICES ? OK : NO_DEVICE;
}
Result cuDeviceGetName(char* name, int length, int) {
    snprintf(name, length, "stand-in, no GPU");
    return OK;
}
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    *value = attribute == 75 ? MAJOR : 0;
    return attribute == 75 || attribute == 76 ? OK : INVALID;
}
Result cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &lock;
    return OK;
}
Result cuDevicePrimaryCtxRelease_v2(int) { return OK; }
Result cuCtxSetCurrent(void* context) {
    current = context == &lock;
    return current ? OK : INVALID;
}
Result cuMemGetInfo_v2(size_t* free, size_t* total) {
    LOCKED;
    if (!ready()) return INVALID;
    *total = MEMORY;
    *free = MEMORY - used;
    return OK;
}
Result cuModuleLoadData(void** module, const void* image) {
    LOCKED;
    *module = &queue;
    return ready() && memcmp(static_cast<const char*>(image) + 16, "stand-in", 8) == 0 ? OK : NO_BINARY;
}
Result cuModuleUnload(void*) { return OK; }
Result cuModuleGetFunction(void** function, void*, const char* name) {
    LOCKED;
    Dl_info self;
    if (!dladdr(reinterpret_cast<void*>(&cuInit), &self)) return NOT_FOUND;
    void* library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    auto run = library ? dlsym(library, (std::string("run_") + name).c_str()) : nullptr;
    auto size = library ? dlsym(library, (std::string("size_") + name).c_str()) : nullptr;
    if (!run || !size) return NOT_FOUND;
    // Never freed: as long as the process runs it may be launched.
    *function = new Function{name, reinterpret_cast<unsigned (*)()>(size)(),
                             reinterpret_cast<void (*)(const void*)>(run)};
    return OK;
}
Result cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* size) {
    if (index > 0) return INVALID;
    *offset = 0;
    *size = static_cast<Function*>(function)->size;
    return OK;
}
Result cuMemAlloc_v2(Pointer* out, size_t bytes) {
    LOCKED;
    if (!ready() || gone || bytes == 0) return refusal();
    if (used + bytes > MEMORY) return NO_MEMORY;
    Result result = take(bytes, out);
    if (result == OK) used += bytes;
    return result;
}
Result cuMemFree_v2(Pointer at) {
    LOCKED;
    return ready() ? give(at) : INVALID;
}
Result cuMemHostAlloc(void** out, size_t bytes, unsigned flags) {
    LOCKED;
    Pointer at;
    if (!ready() || gone || flags != 0) return refusal();
    if (++host_allocations == HOST_FAILS_AT || take(bytes, &at) != OK) return NO_MEMORY;
    used += bytes;
    *out = reinterpret_cast<void*>(at);
    return OK;
}
Result cuMemFreeHost(void* at) {
    LOCKED;
    return ready() ? give(reinterpret_cast<Pointer>(at)) : INVALID;
}
Result cuStreamCreate(void** stream, unsigned) {
    *stream = &memory;
    return ready() ? OK : INVALID;
}
Result cuStreamDestroy_v2(void*) { return OK; }
Result cuStreamSynchronize(void* stream) {
    LOCKED;
    return ready() && !gone && stream == &memory ? drain() : refusal();
}
Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void* stream) {
#ifdef SLOW_COPIES
    usleep(20000);
#endif
    LOCKED;
    if (!ready() || gone || stream != &memory || !inside(to, bytes)) return refusal();
    queue.push_back([=] { memcpy(reinterpret_cast<void*>(to), from, bytes); });
    return OK;
}
Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void* stream) {
    LOCKED;
    if (!ready() || gone || stream != &memory || !inside(from, bytes)) return refusal();
    queue.push_back([=] { memcpy(to, reinterpret_cast<void*>(from), bytes); });
    return OK;
}
Result cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, void* stream) {
    LOCKED;
    if (!ready() || gone || stream != &memory || !inside(to, bytes)) return refusal();
    queue.push_back([=] { memset(reinterpret_cast<void*>(to), value, bytes); });
    return OK;
}
Result cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                      unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                      void* stream, void** parameters, void** extra) {
    LOCKED;
    auto f = static_cast<Function*>(function);
    if (!ready() || stream != &memory || shared || extra || block_y != 1 || block_z != 1 ||
        !grid_x || !grid_y || !grid_z || grid_y > 65535 || grid_z > 65535 || !block_x)
        return INVALID;
    if (++launches == FAIL_AT) gone = true;
    if (gone) return GONE;
#ifdef NO_KERNELS
    return INVALID;
#else
    auto bytes = static_cast<const char*>(parameters[0]);
    std::string arguments(bytes, f->size);
    queue.push_back([=] {
        gridDim = uint3{grid_x, grid_y, grid_z};
        fibers::kernel = f->run;
        alignas(16) static char copy[4096];
        memcpy(copy, arguments.data(), arguments.size());
        fibers::arguments = copy;
        for (unsigned z = 0; z < grid_z; z++)
            for (unsigned y = 0; y < grid_y; y++)
                for (unsigned x = 0; x < grid_x; x++) {
                    blockIdx = uint3{x, y, z};
                    fibers::run_block(block_x, (x + y + z) % 2);
                }
    });
    return OK;
#endif
}
Result cuGetErrorName(Result error, const char** name) {
    *name = error == NO_MEMORY   ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE"
            : error == NO_BINARY ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
            : error == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND"
            : error == GONE      ? "CUDA_ERROR_LAUNCH_FAILED"
                                 : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
}
