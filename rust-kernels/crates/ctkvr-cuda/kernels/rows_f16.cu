// Rows of activations f16 times a matrix of f16 rows: out[i, r] = sum over k of weight[r, k] * activation[i, k], plus bias[r]. Products of
// tensor cores (m16n8k16), sums in f32.
//
// Args: LinearF16. A block of 128 threads takes 16 rows of weights and 8 (few_rows_f16) or 64 (many_rows_f16) rows of activations; warp w the
// runs c of 32 of k with c % 4 == w, in their order; the four sums are added in order. Both kernels are one template, so bits do not depend on
// how many rows there are. Grid (ceil(n / 16), ceil(rows / 8 or 64)).
// As for strips, lanes agree on an order of k: lane (group, t) takes k 8 t to 8 t + 7 of a run from rows group and group + 8, 16 bytes each: the
// left operands of two products.
//
// Bytes: read 2 n k of weights, 2 rows k of activations, 4 n of the bias where there is one; written 4 rows n. Blocks together read
// R = ceil(rows / 8 or 64) times the weights and the bias, ceil(n / 16) times the activations, from the cache but for the first.
// Tests: tests/kernels/linear_f16.rs; bytes: tests/ledger/linear.rs.
#include "common.cuh"

constexpr int F16_WARPS = 4, F16_RUN = 32, F16_OUTPUTS = 16, F16_TILE = 8;

struct LinearF16 {
    const half* weights;      // f16 [n, k], starts at a multiple of 16 bytes
    const half* activations;  // f16 [rows, k], the same
    const float* bias;        // f32 [n], or null
    float* out;               // f32 [rows, n], rows `out_stride` values apart
    int k, n, rows, out_stride;
};
static_assert(sizeof(LinearF16) == 48, "as launch/linear_f16.rs has it");

template <int TILES> struct F16Shared {
    float parts[F16_WARPS][TILES * F16_TILE][F16_OUTPUTS];
};

template <int TILES, int AHEAD> __device__ __forceinline__ void rows_f16(F16Shared<TILES>& shared, const LinearF16& p) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, t = lane % 4;
    const int first_output = blockIdx.x * F16_OUTPUTS, first_row = blockIdx.y * TILES * F16_TILE, runs = p.k / F16_RUN;
    // Rows that are not there repeat the last one: their results are not written.
    const half* upper = p.weights + (long long)min(first_output + group, p.n - 1) * p.k + t * 8;
    const half* lower = p.weights + (long long)min(first_output + group + 8, p.n - 1) * p.k + t * 8;
    float sums[TILES][4] = {};
    // AHEAD runs are asked for at once.
    for (int first = warp; first < runs; first += AHEAD * F16_WARPS) {
        uint4 left[AHEAD][2];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int at = min(first + i * F16_WARPS, runs - 1) * F16_RUN;
            left[i][0] = load_16(upper + at), left[i][1] = load_16(lower + at);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int run = first + i * F16_WARPS;
            if (run >= runs) break;
            const uint4 a = left[i][0], b = left[i][1];
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                const int row = min(first_row + tile * F16_TILE + group, p.rows - 1);
                const uint4 right = load_16(p.activations + (long long)row * p.k + run * F16_RUN + t * 8);
                mma_f16(sums[tile], {a.x, b.x, a.y, b.y}, {right.x, right.y});
                mma_f16(sums[tile], {a.z, b.z, a.w, b.w}, {right.z, right.w});
            }
        }
    }
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (int i = 0; i < 4; i++) shared.parts[warp][tile * F16_TILE + 2 * t + i % 2][group + i / 2 * 8] = sums[tile][i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < TILES * F16_TILE * F16_OUTPUTS; i += 32 * F16_WARPS) {
        const int row = first_row + i / F16_OUTPUTS, output = first_output + i % F16_OUTPUTS;
        if (row >= p.rows || output >= p.n) continue;
        const auto part = [&](int w) { return shared.parts[w][i / F16_OUTPUTS][i % F16_OUTPUTS]; };
        const float sum = __fadd_rn(__fadd_rn(__fadd_rn(part(0), part(1)), part(2)), part(3));
        p.out[(long long)row * p.out_stride + output] = p.bias ? __fadd_rn(sum, p.bias[output]) : sum;
    }
}

extern "C" __global__ void __launch_bounds__(32 * F16_WARPS) few_rows_f16(const LinearF16 p) {
    __shared__ F16Shared<1> shared;
    rows_f16<1, 8>(shared, p);
}
KERNEL(few_rows_f16)

extern "C" __global__ void __launch_bounds__(32 * F16_WARPS) many_rows_f16(const LinearF16 p) {
    __shared__ F16Shared<8> shared;
    rows_f16<8, 2>(shared, p);
}
KERNEL(many_rows_f16)
