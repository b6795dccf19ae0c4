// Kernels with a mistake each, and some that show what the shim emulates: tests/foundation.rs. Never compiled for a device.
#include "../../kernels/common.cuh"

extern "C" __global__ void barrier_in_a_branch() {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
}
KERNEL(barrier_in_a_branch)

extern "C" __global__ void half_a_warp_waits() {
    if (threadIdx.x < 16) __syncthreads();
    else __syncwarp();
}
KERNEL(half_a_warp_waits)

extern "C" __global__ void shuffle_with_absent_lanes() {
    if (threadIdx.x % 2) __shfl_xor_sync(ALL_LANES, 1, 1);
}
KERNEL(shuffle_with_absent_lanes)

extern "C" __global__ void trap() {
    if (threadIdx.x == 3) __trap();
}
KERNEL(trap)

// Each warp writes its sum, the first one adds them up: right only with the barrier.
template <bool BARRIER> __device__ void sum_of_warps(const int* values, int* out) {
    __shared__ int sums[32];
    const int warp = threadIdx.x / WARP, sum = warp_sum(values[threadIdx.x]);
    if (threadIdx.x % WARP == 0) sums[warp] = sum;
    if (BARRIER) __syncthreads();
    if (threadIdx.x == 0) {
        int total = 0;
        for (int w = 0; w < (int)blockDim.x / WARP; w++) total += sums[w];
        out[blockIdx.x] = total;
    }
}
extern "C" __global__ void sum_with_a_barrier(const int* values, int* out) { sum_of_warps<true>(values, out); }
KERNEL(sum_with_a_barrier)
extern "C" __global__ void sum_without_a_barrier(const int* values, int* out) { sum_of_warps<false>(values, out); }
KERNEL(sum_without_a_barrier)

extern "C" __global__ void write_beyond(int* out, int at) { out[at] = 1; }
KERNEL(write_beyond)

// What shared memory holds before anybody writes it. out: u32 [2]
extern "C" __global__ void unwritten_shared(unsigned* out) {
    __shared__ unsigned fixed[4];
    DYNAMIC_SHARED(unsigned, dynamic);
    if (threadIdx.x == 0) { out[0] = fixed[1]; out[1] = dynamic[1]; fixed[1] = dynamic[1] = 0; }
}
KERNEL(unwritten_shared)

// C = A * B of one warp. left: 16 rows, right: 8 columns, k contiguous in both; out [16, 8].
template <class C, class Product> __device__ void product(const unsigned* left, const unsigned* right, C* out, int row_words, Product mma) {
    const int group = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned a[4], b[2];
    for (int i = 0; i < 4; i++) a[i] = left[(group + i % 2 * 8) * row_words + t + i / 2 * 4];
    for (int i = 0; i < 2; i++) b[i] = right[group * row_words + t + i * 4];
    C c[4] = {};
    mma(c, a, b);
    for (int i = 0; i < 4; i++) out[(group + i / 2 * 8) * 8 + t * 2 + i % 2] = c[i];
}
extern "C" __global__ void product_u8_i8(const unsigned* left, const unsigned* right, int* out) {
    product(left, right, out, 8, [](auto& c, auto& a, auto& b) { mma_u8_i8(c, a, b); });
}
KERNEL(product_u8_i8)
extern "C" __global__ void product_i8_i8(const unsigned* left, const unsigned* right, int* out) {
    product(left, right, out, 8, [](auto& c, auto& a, auto& b) { mma_i8_i8(c, a, b); });
}
KERNEL(product_i8_i8)
extern "C" __global__ void product_f16(const unsigned* left, const unsigned* right, float* out) {
    product(left, right, out, 8, [](auto& c, auto& a, auto& b) { mma_f16(c, a, b); });
}
KERNEL(product_f16)
