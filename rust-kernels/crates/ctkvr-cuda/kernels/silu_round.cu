// silu(gate) * up, rounded to 8 bits and / or written as f32 or f16; silu(x) = x / (1 + e^-x).
//
// Args: below. Grid (ceil(width / 512), rows), 128 threads, 4 values each.
// Bytes: read 8 rows width; written 1.25, 4 and 2 rows width of rounded, f32 and f16.
// Tests: tests/kernels/silu_round.rs; bytes: tests/ledger/between.rs.
#include "common.cuh"
#include "rounding.cuh"

constexpr int SILU_THREADS = 128;

struct SiluRound {
    const float* gate;  // f32 [rows, width], rows `stride` values apart
    const float* up;    // the same
    Outputs out;        // [rows, width]
    int width, stride;
};
static_assert(sizeof(SiluRound) == 48, "as launch/silu_round.rs has it");

__device__ __forceinline__ float gated(float gate, float up) {
    // e^-|x| overflows nowhere.
    const float power = expf(-fabsf(gate)), numerator = gate < 0.f ? __fmul_rn(gate, power) : gate;
    return __fmul_rn(__fdiv_rn(numerator, __fadd_rn(1.f, power)), up);
}

extern "C" __global__ void __launch_bounds__(SILU_THREADS) silu_round(const SiluRound p) {
    const int at = 4 * (int(blockIdx.x) * SILU_THREADS + int(threadIdx.x));
    const bool is_there = at < p.width;
    float values[4] = {};
    if (is_there) {
        const long long from = (long long)blockIdx.y * p.stride + at;
        const float4 gate = *reinterpret_cast<const float4*>(p.gate + from), up = *reinterpret_cast<const float4*>(p.up + from);
        values[0] = gated(gate.x, up.x), values[1] = gated(gate.y, up.y), values[2] = gated(gate.z, up.z), values[3] = gated(gate.w, up.w);
    }
    write_row(p.out, blockIdx.y, p.width, at, is_there, values);
}
KERNEL(silu_round)
