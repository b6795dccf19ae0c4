// CUDA's execution model on the CPU: what a kernel's .cu file is compiled with where there is no device (CTKVR_HOST is defined).
// What it does not show: memory order between blocks, timing of asynchronous copies, accuracy of __expf, bank conflicts, speed.
#pragma once
#define CTKVR_HOST 1
#include "simt/accesses.hpp"
#include "simt/warp.hpp"
#include <algorithm>
#include <cstdlib>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __constant__ static const
// Of one block at a time; the section's bounds let the shim poison it before each block.
#define __shared__ static __attribute__((section(SIMT_SHARED_SECTION)))
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(simt::block.dynamic)

#define threadIdx (simt::current->index)
#define blockIdx (static_cast<const uint3&>(simt::block.index))
#define blockDim (static_cast<const dim3&>(simt::block.size))
#define gridDim (static_cast<const dim3&>(simt::block.grid))
constexpr int warpSize = 32;

// --- numbers
using std::fma;
inline unsigned __float_as_uint(float f) { return std::bit_cast<unsigned>(f); }
inline int __float_as_int(float f) { return std::bit_cast<int>(f); }
inline float __uint_as_float(unsigned u) { return std::bit_cast<float>(u); }
inline float __int_as_float(int i) { return std::bit_cast<float>(i); }
inline int __float2int_rn(float f) { return int(std::nearbyint(f)); }
inline int __float2int_rz(float f) { return int(f); }
inline int __float2int_rd(float f) { return int(std::floor(f)); }
inline float __int2float_rn(int i) { return float(i); }
inline float __uint2float_rn(unsigned i) { return float(i); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __exp2f(float x) { return std::exp2(x); }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline float __saturatef(float x) { return x < 0.f ? 0.f : x > 1.f ? 1.f : x; }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline unsigned __brev(unsigned x) { unsigned r = 0; for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i); return r; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    const uint64_t both = uint64_t(y) << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned pick = s >> 4 * i & 15, byte = unsigned(both >> 8 * (pick & 7)) & 255;
        r |= (pick & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * i;
    }
    return r;
}
inline int __dp4a(int a, int b, int c) { for (int i = 0; i < 4; i++) c += int(static_cast<signed char>(a >> 8 * i)) * int(static_cast<signed char>(b >> 8 * i)); return c; }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) { for (int i = 0; i < 4; i++) c += (a >> 8 * i & 255) * (b >> 8 * i & 255); return c; }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) { return unsigned((uint64_t(high) << 32 | low) >> (by & 31)); }
template <class A, class B> constexpr auto min(A a, B b) { using T = std::common_type_t<A, B>; return T(a) < T(b) ? T(a) : T(b); }
template <class A, class B> constexpr auto max(A a, B b) { using T = std::common_type_t<A, B>; return T(a) < T(b) ? T(b) : T(a); }

// --- memory
template <class T> inline T __ldg(const T* p) {
    if (reinterpret_cast<uintptr_t>(p) % alignof(T)) simt::fail("__ldg of an address that is not aligned");
    return *p;
}
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline void __stcg(T* p, T v) { *p = v; }
template <class T> inline void __stcs(T* p, T v) { *p = v; }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __nanosleep(unsigned) {}
inline void __trap(SIMT_AT) { simt::fail("__trap at " + simt::where(file, line)); }

#define SIMT_ATOMIC(name, expression)                                                                                  \
    template <class T> inline T name(T* p, std::type_identity_t<T> v) {                                                \
        using U = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;                                              \
        auto* bits = reinterpret_cast<U*>(p);                                                                          \
        U seen = __atomic_load_n(bits, __ATOMIC_RELAXED);                                                              \
        for (;;) {                                                                                                     \
            const T old = std::bit_cast<T>(seen);                                                                      \
            const T made = (expression);                                                                               \
            if (__atomic_compare_exchange_n(bits, &seen, std::bit_cast<U>(made), false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return old; \
        }                                                                                                              \
    }
SIMT_ATOMIC(atomicAdd, T(old + v))
SIMT_ATOMIC(atomicSub, T(old - v))
SIMT_ATOMIC(atomicMin, v < old ? v : old)
SIMT_ATOMIC(atomicMax, old < v ? v : old)
SIMT_ATOMIC(atomicOr, T(old | v))
SIMT_ATOMIC(atomicAnd, T(old & v))
SIMT_ATOMIC(atomicXor, T(old ^ v))
SIMT_ATOMIC(atomicExch, v)
SIMT_ATOMIC(atomicInc, old >= v ? T(0) : T(old + 1))
#undef SIMT_ATOMIC
template <class T> inline T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> made) {
    __atomic_compare_exchange_n(p, &expected, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}

// --- kernels are known by name
namespace simt {
struct Kernel {
    const char* name;
    std::vector<size_t> sizes;                 // of its parameters, in bytes
    void (*call)(const void* entry, void* const* arguments);
    const void* entry;
    SharedMemory shared;
};
void add_kernel(Kernel kernel);
template <class... A> bool add_kernel(const char* name, void (*entry)(A...), SharedMemory shared) {
    add_kernel({name, {sizeof(A)...}, [](const void* f, void* const* p) {
        [&]<size_t... I>(std::index_sequence<I...>) {
            reinterpret_cast<void (*)(A...)>(const_cast<void*>(f))(*static_cast<std::remove_cvref_t<A>*>(p[I])...);
        }(std::index_sequence_for<A...>{});
    }, reinterpret_cast<const void*>(entry), shared});
    return true;
}
}  // namespace simt
extern "C" unsigned char SIMT_SHARED_BEGIN[] __attribute__((weak, visibility("hidden"))), SIMT_SHARED_END[] __attribute__((weak, visibility("hidden")));
#define KERNEL(name) static const bool name##_is_added = simt::add_kernel(#name, name, {SIMT_SHARED_BEGIN, SIMT_SHARED_END});
