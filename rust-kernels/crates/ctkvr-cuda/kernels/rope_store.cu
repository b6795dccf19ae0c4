// What the projections of a layer wrote, of each row side by side, is made ready for attention: queries are turned and lie row by row, keys are
// turned and stored with their values in the KV pages, and queries kept as f16 for the host's rings of recent queries.
//
//   queries  f32 [rows, num_q_heads, D]    rows `stride` values apart
//   keys     f32 [rows, num_kv_heads, D]   rows as far apart
//   values   f32 [rows, num_kv_heads, D]   rows as far apart
//   turned   f32 [rows, num_q_heads, D]    another buffer: queries turned, then times query_factor
//   cos, sin f32 [rows, pairs]             of each row's position, times the rotary magnitude; pairs <= D / 2, further values are not turned
//   places   RowPlace [rows]               page table and position: where key and value go
//   recent   f16 [rows, num_q_heads, D]    the queries as they are attended with, to nearest even; null: not kept
//
// Pair i of a head is (i, i + pairs), or (2i, 2i + 1) of adjacent ones: (x, y) becomes (x cos - y sin, x sin + y cos), each product and sum
// rounded, as ctkvr-kernels' `rotate_halves` does: so are f16 (nearest even) and q8 (`quantise`), and the stored bytes are the CPU's.
// Pages are those of `PageLayout`: head g of the layer begins head_offset + g * head_bytes into each.
//
// Grid (heads / 4, rows), 128 threads: a warp does one query head, or one KV head. Lane l has values l, l + 32, ..: D / 32 of them, so a block
// of q8 is one value of each lane. Bytes a row: read 4 D (q heads + 2 KV heads) + 8 pairs; written 4 D q heads (+ 2 D q heads of recent) + KV heads
// * 2 row bytes (2 D as f16, D + D / 8 as q8). Any D that is a multiple of 32, up to 256. Pinned by tests/kernels/rope_store.rs; bytes:
// tests/ledger/between.rs.
#include "slot.cuh"

constexpr int WARPS = 4, MAX_D = 256, LANE_VALUES = MAX_D / 32;

struct RopeStoreArgs {
    const float* queries;
    const float* keys;
    const float* values;
    float* turned;
    const float* cos;
    const float* sin;
    const RowPlace* places;
    unsigned short* recent;
    uint64_t stride, head_offset, head_bytes;
    float query_factor;
    uint32_t num_q_heads, num_kv_heads, head_dim, pairs, is_adjacent;
};
static_assert(sizeof(RopeStoreArgs) == 112, "as RopeStoreArgs of src/launch/rope_store.rs");

// A lane's values of a head, turned.
__device__ __forceinline__ void turned(const RopeStoreArgs& args, const float* head, unsigned row, int lane, float (&out)[LANE_VALUES]) {
    const int pairs = args.pairs;
#pragma unroll
    for (int k = 0; k < LANE_VALUES; k++) {
        const int at = lane + 32 * k;
        if (at >= (int)args.head_dim) break;
        out[k] = head[at];
        if (at >= 2 * pairs) continue;
        const bool is_second = args.is_adjacent ? at % 2 : at >= pairs;
        const int other = args.is_adjacent ? at ^ 1 : is_second ? at - pairs : at + pairs;
        const int pair = args.is_adjacent ? at / 2 : min(at, other);
        const float cos = args.cos[(uint64_t)row * pairs + pair], sin = args.sin[(uint64_t)row * pairs + pair], partner = head[other];
        out[k] = is_second ? __fadd_rn(__fmul_rn(partner, sin), __fmul_rn(out[k], cos)) : __fsub_rn(__fmul_rn(out[k], cos), __fmul_rn(partner, sin));
    }
}

// Rows of f16.
struct F16Store {
    __device__ static void store(unsigned char* page, unsigned row, int head_dim, int lane, const float (&x)[LANE_VALUES]) {
        unsigned short* out = reinterpret_cast<unsigned short*>(page) + row * head_dim;
#pragma unroll
        for (int k = 0; k < LANE_VALUES; k++)
            if (lane + 32 * k < head_dim) out[lane + 32 * k] = __half_as_ushort(__float2half_rn(x[k]));
    }
};

// Rows of i8 codes, behind all of them the scales: largest magnitude of 32 / 127, NaN where a value is not finite, 0 where it has no inverse.
struct Q8Store {
    __device__ static void store(unsigned char* page, unsigned row, int head_dim, int lane, const float (&x)[LANE_VALUES]) {
        signed char* codes = reinterpret_cast<signed char*>(page) + row * head_dim;
        float* scales = reinterpret_cast<float*>(page + 2 * PAGE * head_dim) + row * (head_dim / KV_BLOCK);
#pragma unroll
        for (int k = 0; k < LANE_VALUES; k++) {
            if (32 * k >= head_dim) break;
            const bool is_finite = fabsf(x[k]) < INFINITY;
            float largest = is_finite ? fabsf(x[k]) : INFINITY;
#pragma unroll
            for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, step));
            const float scale = __fdiv_rn(largest, 127.f);
            if (scale == INFINITY) {
                codes[lane + 32 * k] = 0;
                if (lane == 0) scales[k] = __uint_as_float(0x7fc00000u);
                continue;
            }
            const bool has_inverse = scale >= 1.17549435e-38f;
            const float inverse = has_inverse ? __fdiv_rn(1.f, scale) : 0.f;
            codes[lane + 32 * k] = (signed char)__float2int_rn(__fmul_rn(x[k], inverse));
            if (lane == 0) scales[k] = has_inverse ? scale : 0.f;
        }
    }
};

template <class Format>
__device__ __forceinline__ void rope_store(const RopeStoreArgs& args) {
    const int lane = threadIdx.x % 32, d = args.head_dim;
    const unsigned head = blockIdx.x * WARPS + threadIdx.x / 32, row = blockIdx.y;
    float x[LANE_VALUES];
    if (head < args.num_q_heads) {
        const uint64_t first = ((uint64_t)row * args.num_q_heads + head) * d;
        turned(args, args.queries + row * args.stride + (uint64_t)head * d, row, lane, x);
#pragma unroll
        for (int k = 0; k < LANE_VALUES; k++) {
            const int at = lane + 32 * k;
            if (at >= d) break;
            const float scaled = __fmul_rn(x[k], args.query_factor);
            args.turned[first + at] = scaled;
            if (args.recent) args.recent[first + at] = __half_as_ushort(__float2half_rn(scaled));
        }
    } else if (head < args.num_q_heads + args.num_kv_heads) {
        const unsigned kv_head = head - args.num_q_heads;
        const uint64_t first = row * args.stride + (uint64_t)kv_head * d;
        const RowPlace place = args.places[row];
        unsigned char* page = reinterpret_cast<unsigned char*>(reinterpret_cast<const uint64_t*>(place.pages)[place.position / PAGE] +
                                                               args.head_offset + kv_head * args.head_bytes);
        turned(args, args.keys + first, row, lane, x);
        Format::store(page, place.position % PAGE, d, lane, x);
#pragma unroll
        for (int k = 0; k < LANE_VALUES; k++)
            if (lane + 32 * k < d) x[k] = args.values[first + lane + 32 * k];
        Format::store(page, PAGE + place.position % PAGE, d, lane, x);
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) rope_store_f16(const RopeStoreArgs args) { rope_store<F16Store>(args); }
KERNEL(rope_store_f16)
extern "C" __global__ void __launch_bounds__(32 * WARPS) rope_store_q8(const RopeStoreArgs args) { rope_store<Q8Store>(args); }
KERNEL(rope_store_q8)
