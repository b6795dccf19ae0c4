// The largest logit of each row: u32 [rows] of f32 [rows, vocab], rows `stride` values apart. Of equal ones the smallest id. A row with a NaN or
// +infinity gives the first such id with its highest bit set: nobody can choose there.
//
// A logit and its id are one u64 that is larger where it wins. argmax_parts: grid (parts, rows), 256 threads: the best of every `parts`-th run of
// 256 logits, to `best` u64 [rows, parts]. argmax_merge: grid (rows), 32 threads.
// Bytes of both: read 4 rows vocab + 8 rows parts; written 8 rows parts + 4 rows.
// Tests: tests/kernels/argmax.rs; bytes: tests/ledger/between.rs.
#include "common.cuh"

constexpr int ARGMAX_THREADS = 256;
// Above every number.
constexpr unsigned BAD = 0xffffffffu;

struct Argmax {
    const float* logits;       // f32 [rows, vocab]
    unsigned long long* best;  // u64 [rows, parts]
    unsigned* ids;             // u32 [rows]
    int vocab, stride, parts, reserved;
};
static_assert(sizeof(Argmax) == 40, "as launch/argmax.rs has it");

// Ordered as logits are, then by descending id.
__device__ __forceinline__ unsigned long long key(float logit, unsigned id) {
    const unsigned bits = __float_as_uint(logit == 0.f ? 0.f : logit);  // -0 and 0 are equal
    const bool is_bad = logit != logit || logit == INFINITY;
    const unsigned ordered = is_bad ? BAD : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (unsigned long long)ordered << 32 | ~id;
}

__device__ __forceinline__ unsigned long long best_of_warp(unsigned long long best) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) best = max(best, __shfl_xor_sync(0xffffffffu, best, lanes));
    return best;
}

extern "C" __global__ void __launch_bounds__(ARGMAX_THREADS) argmax_parts(const Argmax p) {
    __shared__ unsigned long long of_warps[ARGMAX_THREADS / 32];
    const float* logits = p.logits + (long long)blockIdx.y * p.stride;
    unsigned long long best = 0;
    for (int id = blockIdx.x * ARGMAX_THREADS + threadIdx.x; id < p.vocab; id += p.parts * ARGMAX_THREADS) best = max(best, key(logits[id], id));
    best = best_of_warp(best);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    best = best_of_warp(threadIdx.x < ARGMAX_THREADS / 32 ? of_warps[threadIdx.x] : 0);
    if (threadIdx.x == 0) p.best[(long long)blockIdx.y * p.parts + blockIdx.x] = best;
}
KERNEL(argmax_parts)

extern "C" __global__ void __launch_bounds__(32) argmax_merge(const Argmax p) {
    unsigned long long best = 0;
    for (int part = threadIdx.x; part < p.parts; part += 32) best = max(best, p.best[(long long)blockIdx.x * p.parts + part]);
    best = best_of_warp(best);
    if (threadIdx.x == 0) p.ids[blockIdx.x] = ~unsigned(best) | (unsigned(best >> 32) == BAD ? 0x80000000u : 0u);
}
KERNEL(argmax_merge)
