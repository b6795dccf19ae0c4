// Threads of a block: fibers that switch by hand, some 20 ns each (ucontext takes ten times as long, for a signal mask nobody changed).
#pragma once
#include "types.hpp"
#include <cstddef>
#if defined(SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(SIMT_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {
struct Warp;

struct Fiber {
    void* sp = nullptr;
    uint3 index{};          // threadIdx
    unsigned linear = 0;    // its number in the block
    Warp* warp = nullptr;
    Fiber *next = nullptr, *prev = nullptr;            // ring of the block's threads that have not returned
    Fiber *warp_next = nullptr, *warp_prev = nullptr;  // ring of the warp's
    const char* waits_at = nullptr;                    // file of the barrier it waits at
    int waits_line = 0;
    unsigned char* stack = nullptr;
    void *tsan = nullptr, *asan = nullptr;
    unsigned lane() const { return linear & 31; }
};

#if defined(SIMT_ASAN) || defined(SIMT_TSAN)
constexpr size_t STACK = 1 << 20;  // checked code has larger frames
#else
constexpr size_t STACK = 128 << 10;
#endif
constexpr size_t GUARD = 4096;

// One launch runs at a time, under the driver's lock: none of this is thread-local.
extern Fiber* current;  // the running thread of the block
extern Fiber home;      // who runs the blocks
#if defined(SIMT_ASAN)
extern const void* home_bottom;  // its stack
extern size_t home_size;
#endif

/// Saves the callee's registers and the stack in `*save`, continues with `load`.
extern "C" void simt_switch(void** save, void* load);
/// Runs `to`; returns when somebody switches back.
void switch_to(Fiber* to);
/// A fresh stack in `fiber`, which begins with `entry`.
void prepare(Fiber& fiber, void (*entry)());
}  // namespace simt
