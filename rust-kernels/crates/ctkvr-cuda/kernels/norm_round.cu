// What stands between products: the residual, the RMS norm, and rounding.
//
// norm_round, for each row: hidden += block_scale * block (where there is one); x = hidden; normed = x / sqrt(mean(x^2) + epsilon) * weight *
// factor (where there is a weight, else x); normed is rounded to 8 bits and / or written as f32 or f16.
// norm_rows: the same norm of spans of rows, f32 to f32, in place or not: heads' queries and keys, blocks before they are added.
//
// Args: below. Grid (rows), for norm_rows (spans, rows); threads: a quarter of the width, 32 to 1024, the same for any number of rows. Each thread
// keeps its values in registers: width at most 32,768. The mean is summed in f32: by 4 and more values in a thread, then as a tree.
// Bytes of norm_round: read 4 rows width of hidden, as many of the block where there is one, 4 width of the weight, 4 rows of row_of; written
// 4 rows width of hidden where there is a block, and 1.25, 4 and 2 rows width of rounded, f32 and f16. Of norm_rows: read 4 rows spans span, and
// 4 span of the weight; written 4 rows spans span. Every block reads the weight again, from the cache.
// Tests: tests/kernels/norm_round.rs; bytes: tests/ledger/between.rs.
#include "common.cuh"
#include "rounding.cuh"

constexpr int MOST_THREADS = 1024, MOST_GROUPS = 8;  // groups of 4 values of a thread

struct NormRound {
    float* hidden;           // f32 [rows of hidden, width], rows `hidden_stride` values apart; written where there is a block
    const float* block;      // f32 [rows of hidden, width], rows `block_stride` apart, or null
    const float* weight;     // f32 [width], or null: no norm
    const unsigned* row_of;  // u32 [rows]: which of hidden's rows each one is, different ones; or null: in order
    Outputs out;             // [rows, width]
    int width, hidden_stride, block_stride;
    float block_scale, epsilon, factor;
};
static_assert(sizeof(NormRound) == 80, "as launch/norm_round.rs has it");

struct NormRows {
    const float* x;       // f32 [rows, spans * span], rows `stride` values apart
    float* out;           // the same shape, rows `out_stride` apart; may be x
    const float* weight;  // f32 [span], for all spans
    int span, stride, out_stride;
    float epsilon;
};
static_assert(sizeof(NormRows) == 40, "as launch/norm_round.rs has it");

__device__ __forceinline__ float4 four(const float* at) { return *reinterpret_cast<const float4*>(at); }

// 1 / sqrt(mean of the block's squares + epsilon), the same bits in all threads. `values` beyond the width are 0.
__device__ __forceinline__ float inverse_root(float (&parts)[MOST_THREADS / 32], const float (&values)[MOST_GROUPS][4], int width, float epsilon) {
    const int lane = threadIdx.x % 32;
    float sum = 0.f;
#pragma unroll
    for (int group = 0; group < MOST_GROUPS; group++) {
#pragma unroll
        for (int i = 0; i < 4; i++) sum = __fmaf_rn(values[group][i], values[group][i], sum);
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, lanes));
    if (lane == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = lane < int(blockDim.x) / 32 ? parts[lane] : 0.f;
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, lanes));
    return __fdiv_rn(1.f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, float(width)), epsilon)));
}

// Index of a thread's group of 4 values.
__device__ __forceinline__ int group_at(int group) { return 4 * (group * int(blockDim.x) + int(threadIdx.x)); }

extern "C" __global__ void __launch_bounds__(MOST_THREADS) norm_round(const NormRound p) {
    const long long row = p.row_of ? p.row_of[blockIdx.x] : blockIdx.x;
    float* hidden = p.hidden + row * p.hidden_stride;
    float values[MOST_GROUPS][4] = {};
#pragma unroll
    for (int group = 0; group < MOST_GROUPS; group++) {
        const int at = group_at(group);
        if (at >= p.width) break;
        float4 x = four(hidden + at);
        if (p.block) {
            const float4 y = four(p.block + row * p.block_stride + at);
            x.x = __fadd_rn(x.x, __fmul_rn(p.block_scale, y.x)), x.y = __fadd_rn(x.y, __fmul_rn(p.block_scale, y.y));
            x.z = __fadd_rn(x.z, __fmul_rn(p.block_scale, y.z)), x.w = __fadd_rn(x.w, __fmul_rn(p.block_scale, y.w));
            *reinterpret_cast<float4*>(hidden + at) = x;
        }
        values[group][0] = x.x, values[group][1] = x.y, values[group][2] = x.z, values[group][3] = x.w;
    }
    __shared__ float parts[MOST_THREADS / 32];
    const float scale = p.weight ? inverse_root(parts, values, p.width, p.epsilon) : 1.f;
#pragma unroll
    for (int group = 0; group < MOST_GROUPS; group++) {
        // Whole warps go on together: lanes without values are needed where their neighbours' blocks are rounded.
        if (group_at(group) - 4 * int(threadIdx.x % 32) >= p.width) break;
        const int at = group_at(group);
        const bool is_there = at < p.width;
        if (p.weight && is_there) {
            const float4 weight = four(p.weight + at);
            const float weights[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
            for (int i = 0; i < 4; i++) values[group][i] = __fmul_rn(__fmul_rn(__fmul_rn(values[group][i], scale), weights[i]), p.factor);
        }
        write_row(p.out, blockIdx.x, p.width, at, is_there, values[group]);
    }
}
KERNEL(norm_round)

extern "C" __global__ void __launch_bounds__(MOST_THREADS) norm_rows(const NormRows p) {
    const float* x = p.x + (long long)blockIdx.y * p.stride + blockIdx.x * p.span;
    float* out = p.out + (long long)blockIdx.y * p.out_stride + blockIdx.x * p.span;
    float values[MOST_GROUPS][4] = {};
#pragma unroll
    for (int group = 0; group < MOST_GROUPS; group++) {
        const int at = group_at(group);
        if (at >= p.span) break;
        const float4 four_of = four(x + at);
        values[group][0] = four_of.x, values[group][1] = four_of.y, values[group][2] = four_of.z, values[group][3] = four_of.w;
    }
    __shared__ float parts[MOST_THREADS / 32];
    const float scale = inverse_root(parts, values, p.span, p.epsilon);
#pragma unroll
    for (int group = 0; group < MOST_GROUPS; group++) {
        const int at = group_at(group);
        if (at >= p.span) break;
        const float4 weight = four(p.weight + at);
        float4 normed;
        normed.x = __fmul_rn(__fmul_rn(values[group][0], scale), weight.x), normed.y = __fmul_rn(__fmul_rn(values[group][1], scale), weight.y);
        normed.z = __fmul_rn(__fmul_rn(values[group][2], scale), weight.z), normed.w = __fmul_rn(__fmul_rn(values[group][3], scale), weight.w);
        *reinterpret_cast<float4*>(out + at) = normed;
    }
}
KERNEL(norm_rows)
