// Up to 8 rows of activations, rounded to 8 bits, times a matrix of packed strips: out[i, r] = sum over k of weight[r, k] * activation[i, k],
// plus bias[r].
//
// Args: Linear (strips.cuh). Grid (strips), 128 threads: warp w adds blocks b with b % 4 == w, the order that all kernels of this family have.
// Each warp copies its own blocks into shared memory, 3 to 6 KB ahead of what it multiplies, so that memory is busy even where only two blocks
// of threads lie on a multiprocessor. Nothing is shared by warps before the end.
//
// Bytes, s = ceil(n / 16) strips: read s * strip_bytes(k), rows * 1.25 k of activations (1.125 k where weights have no mins: sums are not read),
// 4 n of the bias where there is one; written 4 rows n. Every block reads the activations again, from the cache: s * rows * 1.25 k in all; headers
// of shared numbers come from there for three of the four warps.
// Kernels few_rows_* take up to 8 rows, one_row_* one. Tests: tests/kernels/linear.rs; bytes: tests/ledger/linear.rs.
#include "common.cuh"
#include "strips.cuh"
#include "async_copy.cuh"

constexpr int FEW_WARPS = PARTS;
// Blocks of a step, two for each warp: as many as share numbers.
constexpr int STEP_BLOCKS = 8, WARP_BLOCKS = STEP_BLOCKS / FEW_WARPS;

template <class F> struct FewShared {
    static constexpr int STAGES = F::BITS == 8 ? 4 : 8;
    alignas(CHUNK) unsigned char stages[FEW_WARPS][STAGES][F::HEADER_BYTES + WARP_BLOCKS * F::BLOCK_BYTES];
    float parts[FEW_WARPS][STRIP_ROWS][TILE_ROWS];
};

// A warp's copies, a step after another: header, then its blocks.
template <class F> struct WarpCopies {
    static constexpr int HEADER_CHUNKS = F::HEADER_BYTES / CHUNK, BLOCK_CHUNKS = F::BLOCK_BYTES / CHUNK;
    static constexpr int STEP_BYTES = STEP_BLOCKS / F::RUN_BLOCKS * F::RUN_BYTES;
    // Of the next step: where this lane's chunk of the header and of the first block come from.
    const unsigned char *header, *block;
    // Blocks from the warp's first one of the step on.
    int left;

    __device__ __forceinline__ WarpCopies(const unsigned char* strip, int blocks) {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        header = strip + lane * CHUNK;
        block = header + F::HEADER_BYTES + warp * F::BLOCK_BYTES;
        left = blocks - warp;
    }

    __device__ __forceinline__ void start(unsigned char* stage) {
        const int lane = threadIdx.x % WARP;
        if (F::SHARED && left > 0 && lane < HEADER_CHUNKS) copy_async<CHUNK>(stage + lane * CHUNK, header);
#pragma unroll
        for (int i = 0; i < WARP_BLOCKS; i++) {
            const unsigned char* from = block + i * FEW_WARPS * F::BLOCK_BYTES;
            unsigned char* to = stage + F::HEADER_BYTES + i * F::BLOCK_BYTES;
            if (left > i * FEW_WARPS && lane < BLOCK_CHUNKS) copy_async<CHUNK>(to + swizzled<F>(lane) * CHUNK, from);
            if (left > i * FEW_WARPS && lane + WARP < BLOCK_CHUNKS) copy_async<CHUNK>(to + (lane + WARP) * CHUNK, from + WARP * CHUNK);
        }
        header += STEP_BYTES, block += STEP_BYTES, left -= STEP_BLOCKS;
    }
};

// A warp's activations, a step after another.
template <class F, int COLUMNS> struct WarpActivations {
    // Of the next step: this lane's codes, and the scales of the rows whose results it has. Sums lie `to_sums` values behind their scales.
    const unsigned char* codes;
    const float* scales[COLUMNS];
    int left, to_sums;

    // Rows that are not there repeat the last one: their results are not written.
    __device__ __forceinline__ WarpActivations(const Linear& p, int blocks) {
        const int warp = threadIdx.x / WARP, group = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
        const long long row_bytes = p.k + blocks * 8;
        codes = p.activations + min(group, p.rows - 1) * row_bytes + warp * BLOCK + t * 8;
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            scales[i] = reinterpret_cast<const float*>(p.activations + min(2 * t + i, p.rows - 1) * row_bytes + p.k) + warp;
        }
        left = blocks - warp, to_sums = blocks;
    }

    __device__ __forceinline__ void load(Right (&right)[WARP_BLOCKS]) {
#pragma unroll
        for (int i = 0; i < WARP_BLOCKS; i++) {
            if (left <= i * FEW_WARPS) continue;
            right[i].codes = __ldg(reinterpret_cast<const uint2*>(codes + i * FEW_WARPS * BLOCK));
#pragma unroll
            for (int column = 0; column < COLUMNS; column++) {
                right[i].scale[column] = __ldg(scales[column] + i * FEW_WARPS);
                if (F::HAS_MIN) right[i].sum[column] = __ldg(scales[column] + to_sums + i * FEW_WARPS);
            }
        }
        codes += STEP_BLOCKS * BLOCK, left -= STEP_BLOCKS;
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) scales[column] += STEP_BLOCKS;
    }
};

template <class F, int COLUMNS> __device__ __forceinline__ void few_rows(FewShared<F>& shared, const Linear& p) {
    constexpr int STAGES = FewShared<F>::STAGES;
    const int warp = threadIdx.x / WARP, group = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    const int blocks = p.k / BLOCK, steps = (blocks + STEP_BLOCKS - 1) / STEP_BLOCKS;
    WarpCopies<F> copies(p.strips + blockIdx.x * F::strip_bytes(blocks), blocks);
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        copies.start(shared.stages[warp][step]);
        commit_copies();
    }
    WarpActivations<F, COLUMNS> activations(p, blocks);
    Right right[2][WARP_BLOCKS];
    activations.load(right[0]);
    float sums[4] = {0.f, 0.f, 0.f, 0.f};
    int left = blocks - warp;
    for (int first = 0; first < steps; first += 2) {
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            const int step = first + odd;
            if (odd && step >= steps) break;
            wait_for_copies<STAGES - 2>();
            __syncwarp();
            // Into the stage that all lanes have read in the last turn.
            copies.start(shared.stages[warp][(step + STAGES - 1) % STAGES]);
            commit_copies();
            activations.load(right[!odd]);
            const unsigned char* stage = shared.stages[warp][step % STAGES];
#pragma unroll
            for (int i = 0; i < WARP_BLOCKS; i++) {
                if (left <= i * FEW_WARPS) break;
                add_block<F, COLUMNS>(sums, left_operand<F>(stage + F::HEADER_BYTES + i * F::BLOCK_BYTES, stage, group, t), right[odd][i]);
            }
            left -= STEP_BLOCKS;
        }
    }
    wait_for_copies<0>();
#pragma unroll
    for (int i = 0; i < 4; i++) shared.parts[warp][2 * group + i / 2][2 * t + i % 2] = sums[i];
    __syncthreads();
    const int row = threadIdx.x % STRIP_ROWS, token = threadIdx.x / STRIP_ROWS, output = blockIdx.x * STRIP_ROWS + row;
    if (token < p.rows && output < p.n) {
        const auto part = [&](int w) { return shared.parts[w][row][token]; };
        p.out[(long long)token * p.out_stride + output] = whole_sum<F>(part(0), part(1), part(2), part(3), p.bias, output);
    }
}

#define FEW_ROWS_KERNEL(name, columns, ...)                                                \
    extern "C" __global__ void __launch_bounds__(32 * FEW_WARPS) name(const Linear p) {    \
        __shared__ FewShared<__VA_ARGS__> shared;                                          \
        few_rows<__VA_ARGS__, columns>(shared, p);                                         \
    }                                                                                      \
    KERNEL(name)
#define FEW_ROWS(name, ...)                          \
    FEW_ROWS_KERNEL(few_rows_##name, 2, __VA_ARGS__) \
    FEW_ROWS_KERNEL(one_row_##name, 1, __VA_ARGS__)
FEW_ROWS(4_scale, Format<4, Numbers::Scale>)
FEW_ROWS(4_min, Format<4, Numbers::ScaleAndMin>)
FEW_ROWS(4_shared, Format<4, Numbers::Shared>)
FEW_ROWS(5_scale, Format<5, Numbers::Scale>)
FEW_ROWS(5_min, Format<5, Numbers::ScaleAndMin>)
FEW_ROWS(5_shared, Format<5, Numbers::Shared>)
FEW_ROWS(6_halves, Format<6, Numbers::Halves>)
FEW_ROWS(8_scale, Format<8, Numbers::Scale>)
