#include "fiber.hpp"
#include <new>
#include <sys/mman.h>

#if defined(__x86_64__)
// It leaves by a return, which goes where the processor guesses: all fibers but new ones come from the same call.
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch,@function
simt_switch:
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
.size simt_switch,.-simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch,%function
simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size simt_switch,.-simt_switch
)");
#else
#error "the stand-in needs x86-64 or AArch64"
#endif

namespace simt {
Fiber* current = nullptr;
Fiber home;
#if defined(SIMT_ASAN)
const void* home_bottom = nullptr;
size_t home_size = 0;
#endif

void switch_to(Fiber* to) {
    Fiber* from = current;
    if (to == from) return;
    current = to;
#if defined(SIMT_TSAN)
    __tsan_switch_to_fiber(to->tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(SIMT_ASAN)
    __sanitizer_start_switch_fiber(&from->asan, to->stack ? to->stack : home_bottom, to->stack ? STACK : home_size);
#endif
    simt_switch(&from->sp, to->sp);
#if defined(SIMT_ASAN)
    __sanitizer_finish_switch_fiber(from->asan, nullptr, nullptr);
#endif
}

void prepare(Fiber& fiber, void (*entry)()) {
    if (!fiber.stack) {
        // A page that nobody may touch lies below: a stack that runs over stops there.
        void* p = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
        mprotect(p, GUARD, PROT_NONE);
        fiber.stack = static_cast<unsigned char*>(p) + GUARD;
    }
#if defined(__x86_64__)
    void** top = reinterpret_cast<void**>(fiber.stack + STACK) - 1;  // as a call leaves it: 8 beyond a multiple of 16
    *top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int r = 0; r < 6; r++) *--top = nullptr;
    fiber.sp = top;
#else
    unsigned char* top = fiber.stack + STACK - 160;
    std::memset(top, 0, 160);
    void* address = reinterpret_cast<void*>(entry);
    std::memcpy(top + 88, &address, 8);
    fiber.sp = top;
#endif
}
}  // namespace simt
