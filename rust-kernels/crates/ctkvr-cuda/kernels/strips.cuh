// Strips of quantised weights (ctkvr_kernels::PackedFormat) as tensor cores take them: 16 rows of 32 levels are the left operand of one
// m16n8k32 product, rows of activations its 8 columns.
//
// Which lane holds what is free as long as both operands agree. Lane (group = lane / 4, t = lane % 4) takes the strip's rows 2 group and
// 2 group + 1, which lie side by side, as the product's rows group and group + 8; and of their block the levels 8 t to 8 t + 7. So a lane reads
// 8 bytes of levels at once, both scales as one word, and 8 codes of its row of activations.
//
// Levels whose min is so many scales are made signed (level + min, in units of UNIT), so that only what has a min of its own
// adds one. The integer sum of a block is exact either way.
//
// Levels of 6 bits (ggml's Q6_K in its 6.5625 bits a weight, nothing padded; layout: src/q6k_strips.rs) have a scale i8 for each half of a block,
// and two lanes t hold a half: two products, each with the other half's codes zeroed, times their scales, add up to an exact integer as well. It is
// below 2^24 (2 * 16 * 128 * 32 * 127), so f32 holds it as it is.
#pragma once

constexpr int BLOCK = 32;        // levels of a row that share a scale
constexpr int STRIP_ROWS = 16;   // rows of a strip
constexpr int CHUNK = 16;        // bytes of an asynchronous copy
constexpr int PARTS = 4;         // partial sums of a row: block b goes to part b % 4
constexpr int TILE_ROWS = 8;     // rows of activations that one product takes

// Halves: a scale i8 for each half of a block, times a scale f16 that a run shares.
enum class Numbers { Scale, ScaleAndMin, Shared, Halves };

template <int BITS_, Numbers NUMBERS_> struct Format {
    static constexpr int BITS = BITS_;
    static constexpr Numbers NUMBERS = NUMBERS_;
    static constexpr bool HALVES = NUMBERS == Numbers::Halves, SHARED = NUMBERS == Numbers::Shared || HALVES;
    static constexpr bool HAS_MIN = NUMBERS == Numbers::Shared || NUMBERS == Numbers::ScaleAndMin;
    static constexpr int LEVEL_BYTES = STRIP_ROWS * BLOCK * BITS / 8;
    static constexpr int BLOCK_BYTES = LEVEL_BYTES + STRIP_ROWS * (NUMBERS == Numbers::ScaleAndMin ? 4 : 2);
    static constexpr int RUN_BLOCKS = SHARED ? 8 : 1, HEADER_BYTES = SHARED ? STRIP_ROWS * (HAS_MIN ? 4 : 2) : 0;
    static constexpr int RUN_BYTES = HEADER_BYTES + RUN_BLOCKS * BLOCK_BYTES;
    static_assert(BLOCK_BYTES % CHUNK == 0 && HEADER_BYTES % CHUNK == 0, "copied in chunks");
    // Signed levels of 4 and 5 bits stand in the high bits of their bytes.
    static constexpr float UNIT = HAS_MIN || BITS == 6 || BITS == 8 ? 1.f : BITS == 4 ? 1.f / 16.f : 1.f / 8.f;

    static __device__ __forceinline__ long long strip_bytes(int blocks) { return (long long)(blocks / RUN_BLOCKS) * RUN_BYTES; }
    static __device__ __forceinline__ long long header_at(int block) { return (long long)(block / RUN_BLOCKS) * RUN_BYTES; }
    static __device__ __forceinline__ long long block_at(int block) {
        return header_at(block) + HEADER_BYTES + (long long)(block % RUN_BLOCKS) * BLOCK_BYTES;
    }
};

// Where chunk c of a block lies in shared memory: lanes that read levels together find them in different banks.
template <class F> __device__ __forceinline__ int swizzled(int chunk) {
    return chunk < (F::BITS == 8 ? 32 : 16) ? chunk ^ ((chunk >> 3) << 1) : chunk;
}

// A lane's part of the left operand, and the numbers of its two rows.
struct Left {
    unsigned levels[4];
    float scale[2], min[2];
    int half_scale[2][2];  // [row][half], of Numbers::Halves
};

__device__ __forceinline__ float2 two_halves(const unsigned char* at) { return __half22float2(*reinterpret_cast<const half2*>(at)); }

// Bits 0 to 3 of x to bit AT of each byte.
template <int AT> __device__ __forceinline__ unsigned spread(unsigned x) {
    return ((x & 15u) * (0x00204081u << AT)) & (0x01010101u << AT);
}

// From a block in shared memory, its chunks swizzled, and the header of its run.
template <class F> __device__ __forceinline__ Left left_operand(const unsigned char* block, const unsigned char* header, int group, int t) {
    Left left;
    if constexpr (F::BITS == 8) {
        const int at = (t * 128 + group * 8) ^ (t << 5);
        const uint2 first = *reinterpret_cast<const uint2*>(block + at), second = *reinterpret_cast<const uint2*>(block + (at ^ 64));
        left.levels[0] = first.x ^ 0x80808080u, left.levels[1] = first.y ^ 0x80808080u;
        left.levels[2] = second.x ^ 0x80808080u, left.levels[3] = second.y ^ 0x80808080u;
    } else {
        // Low halves: levels 8 t to 8 t + 3, high ones: the next four.
        const uint2 pair = *reinterpret_cast<const uint2*>(block + ((t * 64 + group * 8) ^ ((t >> 1) << 5)));
        unsigned fifth[2] = {0, 0}, top = 0;
        if constexpr (F::BITS == 5) {
            fifth[0] = block[256 + 16 * t + group], fifth[1] = block[256 + 16 * t + 8 + group];
        }
        // Of all that the lane takes: bits 2 i and 2 i + 1 of a byte belong to levels[i].
        if constexpr (F::BITS == 6) top = *reinterpret_cast<const unsigned*>(block + 256 + 16 * group + 4 * t);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const unsigned both = i % 2 ? pair.y : pair.x;
            const bool high = i >= 2;
            const unsigned bits = fifth[high] >> (i % 2 ? 4 : 0);
            if constexpr (F::HAS_MIN) {
                left.levels[i] = (high ? both >> 4 : both) & 0x0f0f0f0fu;
                if constexpr (F::BITS == 5) left.levels[i] |= spread<4>(bits);
            } else if constexpr (F::BITS == 6) {
                const unsigned level = ((high ? both >> 4 : both) & 0x0f0f0f0fu) | ((i == 3 ? top >> 2 : top << (4 - 2 * i)) & 0x30303030u);
                // Minus 32 in each byte: no sum reaches the next one.
                left.levels[i] = (level + 0x60606060u) ^ 0x80808080u;
            } else if constexpr (F::BITS == 5) {
                left.levels[i] = (((high ? both >> 1 : both << 3) & 0x78787878u) | spread<7>(bits)) ^ 0x80808080u;
            } else {
                left.levels[i] = ((high ? both : both << 4) & 0xf0f0f0f0u) ^ 0x80808080u;
            }
        }
    }
    const unsigned char* numbers = block + F::LEVEL_BYTES;
    if constexpr (F::HALVES) {
        const float2 scales = two_halves(header + 4 * group);
        const unsigned packed = *reinterpret_cast<const unsigned*>(numbers + 4 * group);
        left.scale[0] = scales.x, left.scale[1] = scales.y;
#pragma unroll
        for (int i = 0; i < 4; i++) left.half_scale[i / 2][i % 2] = int8_t(packed >> (8 * i));
    } else if constexpr (F::SHARED) {
        const float2 scales = two_halves(header + 4 * group), mins = two_halves(header + 2 * STRIP_ROWS + 4 * group);
        left.scale[0] = __fmul_rn(float(numbers[2 * group]), scales.x), left.scale[1] = __fmul_rn(float(numbers[2 * group + 1]), scales.y);
        left.min[0] = __fmul_rn(-float(numbers[STRIP_ROWS + 2 * group]), mins.x);
        left.min[1] = __fmul_rn(-float(numbers[STRIP_ROWS + 2 * group + 1]), mins.y);
    } else {
        const float2 scales = two_halves(numbers + 4 * group);
        left.scale[0] = scales.x, left.scale[1] = scales.y;
        left.min[0] = left.min[1] = 0.f;
        if constexpr (F::HAS_MIN) {
            const float2 mins = two_halves(numbers + 2 * STRIP_ROWS + 4 * group);
            left.min[0] = mins.x, left.min[1] = mins.y;
        }
    }
    return left;
}

// A lane's part of the right operand: 8 codes of row `group`, and the numbers of rows 2 t and 2 t + 1, whose results it has.
struct Right {
    uint2 codes;
    float scale[2], sum[2];
};

// A block's exact sums of a lane.
template <class F> __device__ __forceinline__ void multiply_block(int (&products)[4], const Left& left, const Right& right) {
    const unsigned codes[2] = {right.codes.x, right.codes.y};
    if constexpr (F::HALVES) {
        // Lanes t of 0 and 1 hold the first half.
        const bool is_second = threadIdx.x % 4 >= 2;
        int halves[2][4] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const bool is_own = is_second == (half == 1);
            mma_i8_i8(halves[half], left.levels, {is_own ? codes[0] : 0u, is_own ? codes[1] : 0u});
        }
#pragma unroll
        for (int i = 0; i < 4; i++) products[i] = left.half_scale[i / 2][0] * halves[0][i] + left.half_scale[i / 2][1] * halves[1][i];
    } else if constexpr (F::HAS_MIN) {
        mma_u8_i8(products, left.levels, codes);
    } else {
        mma_i8_i8(products, left.levels, codes);
    }
}

// Adds one block's products to a lane's sums: [i] is strip row 2 group + i / 2, activation row 2 t + i % 2. Only the first `COLUMNS` rows of each
// lane are summed. Every kernel adds through this, so bits are the same in all.
template <class F, int COLUMNS> __device__ __forceinline__ void add_block(float (&sums)[4], const Left& left, const Right& right) {
    int products[4] = {0, 0, 0, 0};
    multiply_block<F>(products, left, right);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = i / 2, column = i % 2;
        if (column >= COLUMNS) continue;
        sums[i] = __fmaf_rn(__fmul_rn(left.scale[row], right.scale[column]), __int2float_rn(products[i]), sums[i]);
        if constexpr (F::HAS_MIN) sums[i] = __fmaf_rn(left.min[row], right.sum[column], sums[i]);
    }
}

// A row's four partial sums, added in their order, in units of the format, and the bias.
template <class F> __device__ __forceinline__ float whole_sum(float a, float b, float c, float d, const float* bias, int output) {
    const float sum = __fmul_rn(__fadd_rn(__fadd_rn(__fadd_rn(a, b), c), d), F::UNIT);
    return bias ? __fadd_rn(sum, bias[output]) : sum;
}

// What both kernels take.
struct Linear {
    const unsigned char* strips;       // [ceil(n / 16), strip_bytes(k)], starts at a multiple of 16 bytes
    const unsigned char* activations;  // [rows, activation_bytes(k)], starts at a multiple of 8 bytes
    const float* bias;                 // f32 [n], or null
    float* out;                        // f32 [rows, n], rows `out_stride` values apart
    int k, n, rows, out_stride;
};
static_assert(sizeof(Linear) == 48, "as launch/linear.rs has it");
