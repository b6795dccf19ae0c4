// What every kernel's file includes: sums of a warp, 8 halves at once, rows of KV pages, products of tensor cores.
// On the CPU simt.hpp is in front of it and defines CTKVR_HOST.
#pragma once
#include <cuda_fp16.h>
#ifndef CTKVR_HOST
typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef short int16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;
#define INFINITY __int_as_float(0x7f800000)
// The kernel is known by this name: the stand-in driver's table of kernels. Nothing on a device.
#define KERNEL(name)
#define DYNAMIC_SHARED(type, name)                         \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    type* const name = reinterpret_cast<type*>(name##_bytes)
#endif

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// --- a warp's sums: every lane gets the result, added as a butterfly (the same order in every lane). On the CPU the same in one step.

__device__ __forceinline__ float warp_sum(float x) {
#ifdef CTKVR_HOST
    return simt::butterfly_sum(x);
#else
#pragma unroll
    for (int by = WARP / 2; by > 0; by /= 2) x += __shfl_xor_sync(ALL_LANES, x, by);
    return x;
#endif
}
__device__ __forceinline__ int warp_sum(int x) { return __reduce_add_sync(ALL_LANES, x); }
__device__ __forceinline__ float warp_max(float x) {
#ifdef CTKVR_HOST
    return simt::butterfly_max(x);
#else
#pragma unroll
    for (int by = WARP / 2; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, by));
    return x;
#endif
}

// --- halves

// f32 of 8 halves that lie in 16 bytes, in order.
__device__ __forceinline__ void widen(const uint4& packed, float (&out)[8]) {
    const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = __half22float2(*reinterpret_cast<const half2*>(&words[i]));
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
    }
}
// 16 bytes that nobody writes during the launch; one load (LDG.E.128). `p` is aligned to 16.
__device__ __forceinline__ uint4 load_16(const void* p) { return __ldg(reinterpret_cast<const uint4*>(p)); }

// --- KV pages (ctkvr_kernels::PageLayout): of each head PAGE keys, then as many values, [PAGE, head_dim] each, contiguous. f16, or i8
// codes with behind both the keys' scales, f32 [PAGE, head_dim / 32], and the values'.

constexpr int PAGE = 256, KV_BLOCK = 32;
constexpr int KEYS = 0, VALUES = 1;  // KvSide

// Bytes of a head in a page: PageLayout::bytes().
__device__ __forceinline__ int64_t head_bytes_f16(int head_dim) { return 2ll * PAGE * head_dim * 2; }
__device__ __forceinline__ int64_t head_bytes_q8(int head_dim) { return 2ll * PAGE * (head_dim + head_dim / KV_BLOCK * 4); }

// Row `slot` (position modulo PAGE) of a head's part of a page. half [head_dim]
__device__ __forceinline__ const half* row_f16(const uint8_t* head, int side, int slot, int head_dim) {
    return reinterpret_cast<const half*>(head) + (int64_t)(side * PAGE + slot) * head_dim;
}
// int8_t [head_dim]
__device__ __forceinline__ const int8_t* row_q8(const uint8_t* head, int side, int slot, int head_dim) {
    return reinterpret_cast<const int8_t*>(head) + (int64_t)(side * PAGE + slot) * head_dim;
}
// float [head_dim / 32]
__device__ __forceinline__ const float* scales_q8(const uint8_t* head, int side, int slot, int head_dim) {
    return reinterpret_cast<const float*>(head + 2ll * PAGE * head_dim) + (int64_t)(side * PAGE + slot) * (head_dim / KV_BLOCK);
}
// The part of head `layer * num_kv_heads + g` of the page that holds `position`. `pages`: the sequence's table, addresses of whole pages.
__device__ __forceinline__ const uint8_t* head_of_page(const uint64_t* pages, int position, int head, int64_t head_bytes) {
    return reinterpret_cast<const uint8_t*>(pages[position / PAGE]) + head * head_bytes;
}

// --- products of tensor cores, the whole warp together. Registers of a lane (group = lane / 4, t = lane % 4):
//   m16n8k32, bytes: a[i] = left row group + (i % 2) * 8, k = t * 4 + (i / 2) * 16 ..+4;  b[i] = right column group, k = t * 4 + i * 16 ..+4
//   m16n8k16, halves: a[i] = left row group + (i % 2) * 8, k = t * 2 + (i / 2) * 8 ..+2;  b[i] = right column group, k = t * 2 + i * 8 ..+2
//   c[i] = row group + (i / 2) * 8, column t * 2 + i % 2

// C[16, 8] i32 += A[16, 32] u8 * B[32, 8] i8.
__device__ __forceinline__ void mma_u8_i8(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef CTKVR_HOST
    simt::mma_m16n8k32(c, a, b, false, __FILE__, __LINE__);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
// C[16, 8] i32 += A[16, 32] i8 * B[32, 8] i8.
__device__ __forceinline__ void mma_i8_i8(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef CTKVR_HOST
    simt::mma_m16n8k32(c, a, b, true, __FILE__, __LINE__);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
// C[16, 8] f32 += A[16, 16] f16 * B[16, 8] f16.
__device__ __forceinline__ void mma_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef CTKVR_HOST
    simt::mma_m16n8k16(c, a, b, __FILE__, __LINE__);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
// Four 8x8 matrices of f16 from shared memory: lane l shows the address of row l % 8 of matrix l / 8, aligned to 16 bytes; out[m] is its
// pair of matrix m: row lane / 4, columns lane % 4 * 2 ..+2 (transposed: the same of the transpose).
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrices(unsigned (&out)[4], const half* row) {
#ifdef CTKVR_HOST
    simt::load_matrices(out, row, TRANSPOSED, __FILE__, __LINE__);
#else
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(at) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(at) : "memory");
#endif
}
