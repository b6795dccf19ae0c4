// Up to 8 rows of activations, rounded to 8 bits, times a matrix of packed strips: out[i, r] = sum over k of weight[r, k] * activation[i, k],
// plus bias[r].
//
// Args: Linear (strips.cuh). Grid (strips), 128 threads: warp w adds blocks b with b % 4 == w, the order that all kernels of this family have.
// Each warp copies its own blocks into shared memory, some 4 KB ahead of what it multiplies, so that memory is busy even where only two blocks
// of threads lie on a multiprocessor. Nothing is shared by warps before the end.
//
// Global bytes, s = ceil(n / 16) strips: read s * strip_bytes(k), once each (headers of shared numbers: by each of the 4 warps, from L2), and
// s * rows * 1.25 k of activations, from L2; written 4 rows n.
// Kernels few_rows_* take up to 8 rows, one_row_* one. Tests: tests/linear.rs.
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

// Starts the copies of a warp's blocks of a step: header, then its blocks.
template <class F> __device__ __forceinline__ void copy_step(unsigned char* stage, const unsigned char* strip, int step, int blocks) {
    constexpr int HEADER_CHUNKS = F::HEADER_BYTES / CHUNK, BLOCK_CHUNKS = F::BLOCK_BYTES / CHUNK;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = step * STEP_BLOCKS + warp;
    if (F::SHARED && lane < HEADER_CHUNKS && first < blocks) copy_async<CHUNK>(stage + lane * CHUNK, strip + F::header_at(first) + lane * CHUNK);
#pragma unroll
    for (int i = 0; i < WARP_BLOCKS; i++) {
        const int block = first + i * FEW_WARPS;
        if (block >= blocks) break;
        const unsigned char* from = strip + F::block_at(block);
        unsigned char* to = stage + F::HEADER_BYTES + i * F::BLOCK_BYTES;
        for (int chunk = lane; chunk < BLOCK_CHUNKS; chunk += 32) copy_async<CHUNK>(to + swizzled<F>(chunk) * CHUNK, from + chunk * CHUNK);
    }
}

// A warp's activations of a step.
template <class F, int COLUMNS> struct StepRight {
    Right of[WARP_BLOCKS];

    // `codes`: this lane's of block 0; `scales`: of the rows whose results it has.
    __device__ __forceinline__ void load(const unsigned char* codes, const float* const (&scales)[2], int step, int blocks) {
        const int first = step * STEP_BLOCKS + threadIdx.x / 32;
#pragma unroll
        for (int i = 0; i < WARP_BLOCKS; i++) {
            const int block = min(first + i * FEW_WARPS, blocks - 1);
            of[i].codes = __ldg(reinterpret_cast<const uint2*>(codes + block * BLOCK));
#pragma unroll
            for (int column = 0; column < COLUMNS; column++) {
                of[i].scale[column] = __ldg(scales[column] + block);
                if (F::HAS_MIN) of[i].sum[column] = __ldg(scales[column] + blocks + block);
            }
        }
    }
};

template <class F, int COLUMNS> __device__ __forceinline__ void few_rows(FewShared<F>& shared, const Linear& p) {
    constexpr int STAGES = FewShared<F>::STAGES;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, t = lane % 4;
    const int blocks = p.k / BLOCK, steps = (blocks + STEP_BLOCKS - 1) / STEP_BLOCKS;
    const unsigned char* strip = p.strips + blockIdx.x * F::strip_bytes(blocks);
    // Rows that are not there repeat the last one: their results are not written.
    const long long row_bytes = p.k + blocks * 8;
    const unsigned char* codes = p.activations + min(group, p.rows - 1) * row_bytes + t * 8;
    const float* scales[2];
#pragma unroll
    for (int i = 0; i < 2; i++) scales[i] = reinterpret_cast<const float*>(p.activations + min(2 * t + i, p.rows - 1) * row_bytes + p.k);

#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < steps) copy_step<F>(shared.stages[warp][step], strip, step, blocks);
        commit_copies();
    }
    float sums[4] = {0.f, 0.f, 0.f, 0.f};
    StepRight<F, COLUMNS> right, next;
    right.load(codes, scales, 0, blocks);
    for (int step = 0; step < steps; step++) {
        wait_for_copies<STAGES - 2>();
        __syncwarp();
        // The stage that all lanes have read in the last turn.
        const int ahead = step + STAGES - 1;
        if (ahead < steps) copy_step<F>(shared.stages[warp][ahead % STAGES], strip, ahead, blocks);
        commit_copies();
        next.load(codes, scales, min(step + 1, steps - 1), blocks);
        const unsigned char* stage = shared.stages[warp][step % STAGES];
#pragma unroll
        for (int i = 0; i < WARP_BLOCKS; i++) {
            if (step * STEP_BLOCKS + i * FEW_WARPS + warp >= blocks) break;
            const Left left = left_operand<F>(stage + F::HEADER_BYTES + i * F::BLOCK_BYTES, stage, group, t);
            add_block<F, COLUMNS>(sums, left, right.of[i]);
        }
        right = next;
    }
    wait_for_copies<0>();
#pragma unroll
    for (int i = 0; i < 4; i++) shared.parts[warp][2 * group + i / 2][2 * t + i % 2] = sums[i];
    __syncthreads();
    const int row = threadIdx.x % STRIP_ROWS, token = threadIdx.x / STRIP_ROWS, output = blockIdx.x * STRIP_ROWS + row;
    if (token < p.rows && output < p.n) {
        p.out[(long long)token * p.out_stride + output] =
            whole_sum<F>(shared.parts[0][row][token], shared.parts[1][row][token], shared.parts[2][row][token], shared.parts[3][row][token], p.bias, output);
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
FEW_ROWS(8_scale, Format<8, Numbers::Scale>)
