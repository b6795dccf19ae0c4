// One row of a KV page as floats, by one thread: f16, or 8-bit codes with a scale for each 32 of them. `page` is a head's part of one; `row` counts
// its keys, then its values.
#pragma once
#include "retrieval.cuh"

namespace retrieval {

struct F16Row {
    static constexpr int STEP = 8;  // values in 16 bytes
    const uint16_t* values;
    __device__ F16Row(uint64_t page, uint32_t row, uint32_t d) : values(at<uint16_t>(page) + static_cast<uint64_t>(row) * d) {}
    __device__ __forceinline__ const void* bytes() const { return values; }
    // Of the row's i-th 16 bytes.
    __device__ __forceinline__ void widened(const uint4& piece, uint32_t, float (&out)[STEP]) const { widen(piece, out); }
    // Eight values from `first` on, a multiple of 8.
    __device__ __forceinline__ void load(uint32_t first, float (&out)[8]) const { widen(load_16(values + first), out); }
};

struct Q8Row {
    static constexpr int STEP = 16;
    const int8_t* codes;
    const float* scales;
    __device__ Q8Row(uint64_t page, uint32_t row, uint32_t d)
        : codes(at<int8_t>(page) + static_cast<uint64_t>(row) * d),
          scales(at<float>(page + 2ull * PAGE * d) + static_cast<uint64_t>(row) * (d / KV_BLOCK)) {}
    __device__ __forceinline__ const void* bytes() const { return codes; }
    __device__ __forceinline__ void widened(const uint4& piece, uint32_t i, float (&out)[STEP]) const {
        widen_codes(piece, out);
        const float scale = __ldg(scales + i * STEP / KV_BLOCK);
#pragma unroll
        for (int b = 0; b < STEP; b++) out[b] *= scale;
    }
    __device__ __forceinline__ void load(uint32_t first, float (&out)[8]) const {
        const uint2 eight = __ldg(reinterpret_cast<const uint2*>(codes + first));
        const float scale = __ldg(scales + first / KV_BLOCK);
#pragma unroll
        for (int b = 0; b < 8; b++) out[b] = static_cast<float>(static_cast<int8_t>((b < 4 ? eight.x : eight.y) >> b % 4 * 8)) * scale;
    }
};

}  // namespace retrieval
