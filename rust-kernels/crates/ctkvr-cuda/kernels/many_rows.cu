// Many rows of activations times a matrix of packed strips: what few_rows computes, the same bits row by row.
//
// Args: Linear (strips.cuh). Grid (ceil(strips / 4), ceil(rows / 32)), 256 threads. A block of threads takes 4 strips and 32 rows; a warp
// one strip and 16 of the rows, and keeps all four partial sums of its 256 outputs in registers (twice as many would not fit beside another
// block of threads). A step is 4 blocks of 32 of k, one for each partial sum; it is copied into shared memory two steps ahead.
//
// Bytes, s = ceil(n / 16) strips: as few_rows. Blocks together read, most of it from the cache where rows are more than 32, with
// R = ceil(rows / 32): R times the weights and the bias, ceil(s / 4) times the activations; headers of shared numbers twice as often.
// Tests: tests/kernels/linear.rs; bytes: tests/ledger/linear.rs.
#include "common.cuh"
#include "strips.cuh"
#include "async_copy.cuh"

constexpr int MANY_STRIPS = 4, MANY_ROWS = 32, MANY_THREADS = 256, STAGES = 3;
constexpr int WARP_TILES = 2, WARP_ROWS = WARP_TILES * TILE_ROWS;
// A row of activations of a step: codes, then PARTS scales and PARTS sums. Rows of 40 words: 4 of them lie in different banks.
constexpr int STEP_CODES = PARTS * BLOCK, STEP_ROW = STEP_CODES + PARTS * 8;

template <class F> struct ManyStage {
    static constexpr int STRIP = F::HEADER_BYTES + PARTS * F::BLOCK_BYTES;
    static constexpr int BYTES = MANY_STRIPS * STRIP + MANY_ROWS * STEP_ROW;
};

template <class F> struct ManyShared {
    alignas(CHUNK) unsigned char stages[STAGES][ManyStage<F>::BYTES];
};

// What a thread copies: 64 threads the blocks of a strip, which are contiguous; 8 threads a row of activations, half a block of 32 each.
template <class F> struct Copies {
    static constexpr int STRIP_THREADS = MANY_THREADS / MANY_STRIPS, ROW_THREADS = MANY_THREADS / MANY_ROWS;
    static_assert(ROW_THREADS == 2 * PARTS);
    const unsigned char *strip, *row;
    int blocks;

    // Strips and rows that are not there repeat the last one: their results are not written.
    __device__ __forceinline__ Copies(const Linear& p) : blocks(p.k / BLOCK) {
        const int last_strip = (p.n - 1) / STRIP_ROWS, own = int(threadIdx.x) / STRIP_THREADS;
        strip = p.strips + min(int(blockIdx.x) * MANY_STRIPS + own, last_strip) * F::strip_bytes(blocks);
        row = p.activations + min(int(blockIdx.y) * MANY_ROWS + int(threadIdx.x) / ROW_THREADS, p.rows - 1) * (long long)(blocks * (BLOCK + 8));
    }

    __device__ __forceinline__ void start(unsigned char* stage, int step) const {
        constexpr int BLOCK_CHUNKS = F::BLOCK_BYTES / CHUNK;
        const int first = step * PARTS, there = min(PARTS, blocks - first), own = threadIdx.x % STRIP_THREADS;
        unsigned char* to_strip = stage + int(threadIdx.x) / STRIP_THREADS * ManyStage<F>::STRIP;
        if (own * CHUNK < F::HEADER_BYTES) copy_async<CHUNK>(to_strip + own * CHUNK, strip + F::header_at(first) + own * CHUNK);
        const unsigned char* from = strip + F::block_at(first);
#pragma unroll
        for (int begin = 0; begin < PARTS * BLOCK_CHUNKS; begin += STRIP_THREADS) {
            const int chunk = begin + own, part = chunk / BLOCK_CHUNKS;
            if (part >= there) break;
            copy_async<CHUNK>(to_strip + F::HEADER_BYTES + part * F::BLOCK_BYTES + swizzled<F>(chunk % BLOCK_CHUNKS) * CHUNK, from + chunk * CHUNK);
        }
        const int part = threadIdx.x % PARTS, half_at = int(threadIdx.x) / PARTS % 2 * (BLOCK / 2);
        if (part >= there) return;
        unsigned char* to_row = stage + MANY_STRIPS * ManyStage<F>::STRIP + int(threadIdx.x) / ROW_THREADS * STEP_ROW;
        // Rows begin at multiples of 8 bytes.
        const unsigned char* codes = row + (first + part) * BLOCK + half_at;
        copy_async<8>(to_row + part * BLOCK + half_at, codes);
        copy_async<8>(to_row + part * BLOCK + half_at + 8, codes + 8);
        // One of the two copies the scale, the other the sum.
        const int number = half_at ? PARTS + part : part, from_block = half_at ? blocks + first + part : first + part;
        if (F::HAS_MIN || !half_at) copy_async<4>(to_row + STEP_CODES + number * 4, row + blocks * BLOCK + from_block * 4);
    }
};

template <class F> __device__ __forceinline__ void many_rows(ManyShared<F>& shared, const Linear& p) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, t = lane % 4;
    const int own_strip = warp % MANY_STRIPS, own_rows = warp / MANY_STRIPS * WARP_ROWS;
    const int blocks = p.k / BLOCK, steps = (blocks + PARTS - 1) / PARTS;
    const Copies<F> copies(p);

#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < steps) copies.start(shared.stages[step], step);
        commit_copies();
    }
    float sums[PARTS][WARP_TILES][4] = {};
    for (int step = 0; step < steps; step++) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();
        // The stage that all threads have read in the last turn.
        const int ahead = step + STAGES - 1;
        if (ahead < steps) copies.start(shared.stages[ahead % STAGES], ahead);
        commit_copies();
        const unsigned char* strip = shared.stages[step % STAGES] + own_strip * ManyStage<F>::STRIP;
        const unsigned char* rows = shared.stages[step % STAGES] + MANY_STRIPS * ManyStage<F>::STRIP + own_rows * STEP_ROW;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            if (step * PARTS + part >= blocks) break;
            const Left left = left_operand<F>(strip + F::HEADER_BYTES + part * F::BLOCK_BYTES, strip, group, t);
#pragma unroll
            for (int tile = 0; tile < WARP_TILES; tile++) {
                const unsigned char* of_tile = rows + tile * TILE_ROWS * STEP_ROW;
                Right right;
                right.codes = *reinterpret_cast<const uint2*>(of_tile + group * STEP_ROW + part * BLOCK + t * 8);
#pragma unroll
                for (int column = 0; column < 2; column++) {
                    const float* numbers = reinterpret_cast<const float*>(of_tile + (2 * t + column) * STEP_ROW + STEP_CODES);
                    right.scale[column] = numbers[part];
                    if (F::HAS_MIN) right.sum[column] = numbers[PARTS + part];
                }
                add_block<F, 2>(sums[part][tile], left, right);
            }
        }
    }
    wait_for_copies<0>();
#pragma unroll
    for (int tile = 0; tile < WARP_TILES; tile++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int output = (blockIdx.x * MANY_STRIPS + own_strip) * STRIP_ROWS + 2 * group + i / 2;
            const int row = blockIdx.y * MANY_ROWS + own_rows + tile * TILE_ROWS + 2 * t + i % 2;
            if (row < p.rows && output < p.n) {
                p.out[(long long)row * p.out_stride + output] =
                    whole_sum<F>(sums[0][tile][i], sums[1][tile][i], sums[2][tile][i], sums[3][tile][i], p.bias, output);
            }
        }
    }
}

#define MANY_ROWS_OF(name, ...)                                                                      \
    extern "C" __global__ void __launch_bounds__(MANY_THREADS, 2) many_rows_##name(const Linear p) { \
        __shared__ ManyShared<__VA_ARGS__> shared;                                                   \
        many_rows<__VA_ARGS__>(shared, p);                                                           \
    }                                                                                                \
    KERNEL(many_rows_##name)
MANY_ROWS_OF(4_scale, Format<4, Numbers::Scale>)
MANY_ROWS_OF(4_min, Format<4, Numbers::ScaleAndMin>)
MANY_ROWS_OF(4_shared, Format<4, Numbers::Shared>)
MANY_ROWS_OF(5_scale, Format<5, Numbers::Scale>)
MANY_ROWS_OF(5_min, Format<5, Numbers::ScaleAndMin>)
MANY_ROWS_OF(5_shared, Format<5, Numbers::Shared>)
MANY_ROWS_OF(6_halves, Format<6, Numbers::Halves>)
MANY_ROWS_OF(8_scale, Format<8, Numbers::Scale>)
