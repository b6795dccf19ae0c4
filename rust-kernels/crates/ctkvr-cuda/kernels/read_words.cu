// The exclusive or of all words of a buffer, in parts: u32 [blocks, 256], each of every (256 blocks)-th 16 bytes. It reads as fast as the device's
// memory gives and does next to nothing with it: what other kernels' bytes a second are measured against (crate ctkvr-gpu-run).
//
// from: u32 [4 quads], aligned to 16 bytes. Grid: any number of blocks, 256 threads. Global bytes read: 16 quads; written: 1,024 a block.
// Tests: tests/kernels/read_words.rs; bytes: tests/ledger/builds.rs.
#include "common.cuh"

constexpr int READ_THREADS = 256, READS_AT_ONCE = 4;

__device__ __forceinline__ unsigned word_of(const uint4& quad) { return quad.x ^ quad.y ^ quad.z ^ quad.w; }

extern "C" __global__ void __launch_bounds__(READ_THREADS) read_words(const uint4* from, unsigned* parts, uint64_t quads) {
    const uint64_t stride = (uint64_t)gridDim.x * READ_THREADS;
    uint64_t i = (uint64_t)blockIdx.x * READ_THREADS + threadIdx.x;
    const uint64_t mine = i;
    unsigned word = 0;
    for (; i + (READS_AT_ONCE - 1) * stride < quads; i += READS_AT_ONCE * stride) {
        uint4 read[READS_AT_ONCE];
#pragma unroll
        for (int j = 0; j < READS_AT_ONCE; j++) read[j] = load_16(from + i + j * stride);
#pragma unroll
        for (int j = 0; j < READS_AT_ONCE; j++) word ^= word_of(read[j]);
    }
    for (; i < quads; i += stride) word ^= word_of(load_16(from + i));
    parts[mine] = word;
}
KERNEL(read_words)
