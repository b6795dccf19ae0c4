// What the attention kernels share: stored rows as f16 registers, products on tensor cores, exponentials.
#pragma once
#include "slot.cuh"

namespace attention {

// Entries that a decoded token's attention adds up as one: SPLIT of src/launch/attend.rs.
constexpr int SPLIT = 128;
constexpr float LOG2_E = 1.44269504088896340736f;

// e^x of x <= 0 as 2^(x log2 e): the product is off by |x| log2(e) 2^-24, the power by 2 units: e^x (|x| 2^-23 + 2^-22) altogether.
__device__ __forceinline__ float exp_of(float x) { return exp2f(x * LOG2_E); }

// e^(x - top), 0 for an x of -infinity even when top is -infinity as well.
__device__ __forceinline__ float exp_below(float x, float top) { return x == -INFINITY ? 0.f : exp_of(x - top); }

// Two floats as f16 to nearest even, the first in the low half.
__device__ __forceinline__ unsigned pack(float low, float high) {
    return (unsigned)__half_as_ushort(__float2half_rn(low)) | (unsigned)__half_as_ushort(__float2half_rn(high)) << 16;
}

// Two floats as the f16 nearest to them, and what that leaves over as f16: together good to 2^-22 of each, and 2^-25.
__device__ __forceinline__ void pack_both(float low, float high, unsigned& near, unsigned& left_over) {
    const half a = __float2half_rn(low), b = __float2half_rn(high);
    near = (unsigned)__half_as_ushort(a) | (unsigned)__half_as_ushort(b) << 16;
    left_over = pack(low - __half2float(a), high - __half2float(b));
}

// Bytes as floats: 2^23 + (code + 128), less what was added; exact.
template <int I>
__device__ __forceinline__ float code_as_float(unsigned flipped) {
    return __uint_as_float(__byte_perm(flipped, 0x4b000000u, 0x7540 + I)) - 8388736.f;
}

// Eight i8 codes times a scale, as f16.
__device__ __forceinline__ uint4 widen_codes(uint2 codes, float scale) {
    const unsigned x = codes.x ^ 0x80808080u, y = codes.y ^ 0x80808080u;
    return {pack(code_as_float<0>(x) * scale, code_as_float<1>(x) * scale), pack(code_as_float<2>(x) * scale, code_as_float<3>(x) * scale),
            pack(code_as_float<0>(y) * scale, code_as_float<1>(y) * scale), pack(code_as_float<2>(y) * scale, code_as_float<3>(y) * scale)};
}

// Pages of one (layer, KV head), f16: 256 keys, then as many values; `row` counts both.
template <int D>
struct F16Rows {
    static constexpr bool HAS_SCALES = false;

    // Eight values from d on, a multiple of 8.
    __device__ static uint4 load(uint64_t page, unsigned row, unsigned d) {
        return load_16(reinterpret_cast<const void*>(page + (row * D + d) * 2));
    }
    // The same without their scale.
    __device__ static uint4 load_codes(uint64_t page, unsigned row, unsigned d) { return load(page, row, d); }
    __device__ static float scale(uint64_t, unsigned, unsigned) { return 1.f; }
};

// The same of i8 codes, behind all of them an f32 scale for each 32: value = code * scale.
template <int D>
struct Q8Rows {
    static constexpr bool HAS_SCALES = true;

    // Eight values from d on, a multiple of 8, rounded to f16 (2^-11 of each; a 16th of what the codes themselves are off by).
    __device__ static uint4 load(uint64_t page, unsigned row, unsigned d) {
        return widen_codes(codes(page, row, d), scale(page, row, d / KV_BLOCK));
    }
    // Eight codes as f16, exact.
    __device__ static uint4 load_codes(uint64_t page, unsigned row, unsigned d) { return widen_codes(codes(page, row, d), 1.f); }
    __device__ static float scale(uint64_t page, unsigned row, unsigned block) {
        return __ldg(reinterpret_cast<const float*>(page + 2 * PAGE * D) + row * (D / KV_BLOCK) + block);
    }

private:
    __device__ static uint2 codes(uint64_t page, unsigned row, unsigned d) {
        return __ldg(reinterpret_cast<const uint2*>(page + row * D + d));
    }
};

// Address of a position's page, `head_offset` in, from a page table.
__device__ __forceinline__ uint64_t page_of(uint64_t table, uint64_t head_offset, unsigned position) {
    return __ldg(reinterpret_cast<const uint64_t*>(table) + position / PAGE) + head_offset;
}

// Which key or value dimensions a lane's registers stand for. A product is a sum over k in any order that both operands share, so a lane
// takes 16 bytes as they lie: of keys, lane (n = lane / 4, t = lane % 4) holds row n, values 32 j + 8 t .. + 8, the right operand of two
// products of 16; the left one has the same order. Of values, lane (g, t) holds 8 dimensions from 64 s + 8 g on of four rows; the i-th of
// each make the right operand whose column g is dimension 64 s + 8 g + i.

// Products of eight dimensions of values: total[i] += left * rows, where rows a, b, c, d are the lane's k = 2t, 2t + 1, 2t + 8, 2t + 9.
__device__ __forceinline__ void add_values(float (&total)[8][4], const unsigned (&left)[4], const uint4& a, const uint4& b, const uint4& c,
                                           const uint4& d) {
    const unsigned of_a[4] = {a.x, a.y, a.z, a.w}, of_b[4] = {b.x, b.y, b.z, b.w};
    const unsigned of_c[4] = {c.x, c.y, c.z, c.w}, of_d[4] = {d.x, d.y, d.z, d.w};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const unsigned order = i % 2 ? 0x7632 : 0x5410;
        mma_f16(total[i], left, {__byte_perm(of_a[i / 2], of_b[i / 2], order), __byte_perm(of_c[i / 2], of_d[i / 2], order)});
    }
}

}  // namespace attention
