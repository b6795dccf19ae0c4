// Causal attention of a prompt's rows: row r at position p attends to positions 0..=p of its own sequence, whose keys and values are stored.
// Online softmax over chunks of keys (FlashAttention's recurrence, arXiv 2205.14135) whose bounds are multiples of KEYS from position 0: a
// row's bits depend on its query, its position and the keys up to it, never on the tile or the piece of a prompt that it came in. (A key that
// a row does not see has the weight 0, which adds nothing: as long as stored values are finite.)
//
//   queries  f32 [rows, num_kv_heads * group, D]   after rotary embedding; 16-byte aligned
//   places   RowPlace [rows]                       page table and position
//   tiles    RowTile [tiles]                       first_row, num_rows: rows of one sequence at consecutive positions, num_rows * group <= 128
//   out      f32 [rows, num_kv_heads * group, D]   16-byte aligned; rows of no tile are left alone
//
// Grid (num_kv_heads, tiles), 256 threads: a block does a tile's rows for one KV head. Its (row, head) pairs, row-major, are the rows of 8
// left operands, 16 to a warp; KEYS keys and values at a time are in shared memory as f16 (22 to 38 KB) for all of them.
// Bytes a KV head: read 2 row bytes a position of each sequence up to its last row (4 D as f16, 2 D + D / 4 as q8), and 4 rows group D of queries;
// written as many as of queries. Every tile reads its sequence's keys and values again up to its own last row, from the cache where they fit.
//
// Products are f16 on tensor cores with f32 sums: queries (times scale), weights (times 2^12, so that few are subnormal) and q8 rows are rounded
// to f16, which puts a score off by 2^-11 of the sum of its products' magnitudes and a result by 2^-11 of its values' magnitudes. Of rows below
// position 512 what the rounding of queries and weights left over is multiplied as well: there keys are few, each one's rounding much of the
// result, and attention little of a prompt's time. With f16 pages these rows are as good as f32.
// Head dimensions 64, 96, 128, 256, group 1 to 16. Pinned by tests/kernels/prefill_attend.rs; bytes:
// tests/ledger/attention.rs.
#include "attention.cuh"

using namespace attention;

constexpr int WARPS = 8, THREADS = 32 * WARPS;
constexpr float WEIGHT_EXPONENT = 12.f;
// Rows from here on are products of f16 alone (ctkvr-core's MIN_BF16_POSITION).
constexpr int MIN_ROUNDED_POSITION = 512;

struct RowTile {
    uint32_t first_row, num_rows;
};

struct PrefillAttendArgs {
    const float* queries;
    const RowPlace* places;
    const RowTile* tiles;
    float* out;
    uint64_t head_offset, head_bytes;
    float scale;
    uint32_t group;
};
static_assert(sizeof(PrefillAttendArgs) == 56, "as PrefillAttendArgs of src/launch/prefill_attend.rs");

// Row lengths in shared memory, values: a quarter of a warp reads two rows of keys, 64 bytes each, or four rows of values, 32 bytes each, and
// meets no bank twice.
constexpr int key_stride(int d) { return (2 * d / 64 | 1) * 32; }
constexpr int value_stride(int d) { return (2 * d + 127) / 128 * 64 + 8; }

template <int D, class Rows>
__device__ __forceinline__ void prefill_attend(const PrefillAttendArgs& args) {
    constexpr int KEYS = D <= 128 ? 64 : 32, SETS = (D + 63) / 64, PIECES = D / 8;
    static_assert(D % 32 == 0 && PAGE % KEYS == 0, "a chunk lies in one page");
    __shared__ __align__(16) unsigned short keys[KEYS * key_stride(D)];
    __shared__ __align__(16) unsigned short values[KEYS * value_stride(D)];

    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, t = lane % 4;
    const int group = args.group, kv_head = blockIdx.x;
    const RowTile tile = args.tiles[blockIdx.y];
    const int num_pairs = tile.num_rows * group, first_pair = 16 * warp;
    const RowPlace first = args.places[tile.first_row];
    const int first_position = first.position, end = first_position + tile.num_rows;
    const uint64_t head_offset = args.head_offset + kv_head * args.head_bytes;

    // The lane's two rows of the warp's left operand; those that are not there are the tile's first.
    int position[2];
    uint64_t row[2];
    bool is_there[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int pair = first_pair + g + 8 * r, of_tile = pair < num_pairs ? pair : 0;
        is_there[r] = pair < num_pairs;
        position[r] = first_position + of_tile / group;
        row[r] = (((uint64_t)tile.first_row + of_tile / group) * gridDim.x * group + kv_head * group + of_tile % group) * D;
    }
    const bool has_rows = first_pair < num_pairs;
    // Whether the warp has rows whose left-overs count.
    const bool is_exact = first_position + first_pair / group < MIN_ROUNDED_POSITION;
    const int last_position = first_position + (min(first_pair + 16, num_pairs) - 1) / group;

    // The left operand of 16 dimensions, and what its rounding left over, of rows whose position asks for it.
    const auto take_queries = [&](int step, unsigned (&near)[4], unsigned (&left_over)[4]) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float4 q = *reinterpret_cast<const float4*>(args.queries + row[r] + step / 2 * 32 + 8 * t + step % 2 * 4);
            pack_both(q.x * args.scale, q.y * args.scale, near[r], left_over[r]);
            pack_both(q.z * args.scale, q.w * args.scale, near[r + 2], left_over[r + 2]);
            if (position[r] >= MIN_ROUNDED_POSITION) left_over[r] = left_over[r + 2] = 0;
        }
    };
    // Where registers are scarce they are made anew for each chunk.
    constexpr bool HOLDS_QUERIES = D <= 128;
    unsigned queries[HOLDS_QUERIES ? D / 16 : 2][4];
    if (HOLDS_QUERIES && has_rows) {
#pragma unroll
        for (int step = 0; step < (HOLDS_QUERIES ? D / 16 : 0); step++) {
            unsigned left_over[4];
            take_queries(step, queries[step], left_over);
        }
    }

    float total[SETS][8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int chunk = 0; chunk < end; chunk += KEYS) {
        __syncthreads();   // nobody reads the last chunk any more
        const uint64_t page = page_of(first.pages, head_offset, chunk);
#pragma unroll
        for (int from = 0; from < KEYS * PIECES; from += THREADS) {
            const int i = (from + tid) / PIECES, d = (from + tid) % PIECES * 8;
            if (KEYS * PIECES % THREADS == 0 || i < KEYS) {
                // What lies behind the last position may be anything.
                const bool is_stored = chunk + i < end;
                const unsigned place = chunk % PAGE + i;
                const uint4 zero = {0, 0, 0, 0};
                *reinterpret_cast<uint4*>(&keys[i * key_stride(D) + d]) = is_stored ? Rows::load(page, place, d) : zero;
                *reinterpret_cast<uint4*>(&values[i * value_stride(D) + d]) = is_stored ? Rows::load(page, PAGE + place, d) : zero;
            }
        }
        __syncthreads();
        if (!has_rows || chunk > last_position) continue;

        // Scores: of rows g and g + 8, keys 8 n + 2t, 8 n + 2t + 1.
        float weights[KEYS / 8][4];
        const auto key = [&](int n, int j) {
            return *reinterpret_cast<const uint4*>(&keys[(8 * n + g) * key_stride(D) + 32 * j + 8 * t]);
        };
        unsigned left_over[2][4];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) weights[n][0] = weights[n][1] = weights[n][2] = weights[n][3] = 0.f;
        // Queries that are made anew: few at once, for the same reason.
#pragma unroll (HOLDS_QUERIES ? D / 32 : 2)
        for (int j = 0; j < D / 32; j++) {
            if (!HOLDS_QUERIES) {
                take_queries(2 * j, queries[0], left_over[0]);
                take_queries(2 * j + 1, queries[1], left_over[1]);
            }
            const int first_step = HOLDS_QUERIES ? 2 * j : 0;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                const uint4 right = key(n, j);
                mma_f16(weights[n], queries[first_step], {right.x, right.y});
                mma_f16(weights[n], queries[first_step + 1], {right.z, right.w});
            }
        }
        if (is_exact) {
#pragma unroll 1
            for (int j = 0; j < D / 32; j++) {
                unsigned near[4];
                take_queries(2 * j, near, left_over[0]);
                take_queries(2 * j + 1, near, left_over[1]);
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++) {
                    const uint4 right = key(n, j);
                    mma_f16(weights[n], left_over[0], {right.x, right.y});
                    mma_f16(weights[n], left_over[1], {right.z, right.w});
                }
            }
        }
        float largest[2] = {top[0], top[1]};
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (chunk + 8 * n + 2 * t + i % 2 > position[i / 2]) weights[n][i] = -INFINITY;
                largest[i / 2] = fmaxf(largest[i / 2], weights[n][i]);
            }
        float factor[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            largest[r] = fmaxf(largest[r], __shfl_xor_sync(ALL_LANES, largest[r], 1));
            largest[r] = fmaxf(largest[r], __shfl_xor_sync(ALL_LANES, largest[r], 2));
            factor[r] = exp_below(top[r], largest[r]);
            top[r] = largest[r];
            sum[r] *= factor[r];
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                weights[n][i] = exp2f(__fmaf_rn(weights[n][i] - top[i / 2], LOG2_E, WEIGHT_EXPONENT));
                sum[i / 2] += weights[n][i];
            }
#pragma unroll
        for (int s = 0; s < SETS; s++)
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int c = 0; c < 4; c++) total[s][i][c] *= factor[c / 2];
#pragma unroll
        for (int m = 0; m < KEYS / 16; m++) {
            const float(&low)[4] = weights[2 * m], (&high)[4] = weights[2 * m + 1];
            unsigned left[4], left_over[4];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                pack_both(low[2 * r], low[2 * r + 1], left[r], left_over[r]);
                pack_both(high[2 * r], high[2 * r + 1], left[r + 2], left_over[r + 2]);
                if (position[r] >= MIN_ROUNDED_POSITION) left_over[r] = left_over[r + 2] = 0;
            }
#pragma unroll
            for (int s = 0; s < SETS; s++) {
                const unsigned short* from = &values[(16 * m + 2 * t) * value_stride(D) + 64 * s + 8 * g];
                const auto at = [&](int i) { return *reinterpret_cast<const uint4*>(from + i * value_stride(D)); };
                add_values(total[s], left, at(0), at(1), at(8), at(9));
                if (is_exact) add_values(total[s], left_over, at(0), at(1), at(8), at(9));
            }
        }
    }
    if (!has_rows) return;

#pragma unroll
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(ALL_LANES, sum[r], 1);
        sum[r] += __shfl_xor_sync(ALL_LANES, sum[r], 2);
        const float factor = 1.f / sum[r];
#pragma unroll
        for (int s = 0; s < SETS; s++)
#pragma unroll
            for (int i = 0; i < 16; i += 4) {
                const int d = 64 * s + 16 * t + i, c = 2 * r + i / 8;
                // Keys of weight 0 may have made -0 a 0.
                const float4 out = {total[s][i % 8][c] * factor + 0.f, total[s][i % 8 + 1][c] * factor + 0.f,
                                    total[s][i % 8 + 2][c] * factor + 0.f, total[s][i % 8 + 3][c] * factor + 0.f};
                if (is_there[r] && d < D) *reinterpret_cast<float4*>(args.out + row[r] + d) = out;
            }
    }
}

// One for each head dimension and format.
#define PREFILL_ATTEND(name, D, Rows)                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const PrefillAttendArgs args) {         \
        prefill_attend<D, Rows<D>>(args);                                                              \
    }                                                                                                  \
    KERNEL(name)
#define PREFILL_ATTEND_OF(D)                        \
    PREFILL_ATTEND(prefill_attend_f16_d##D, D, F16Rows) \
    PREFILL_ATTEND(prefill_attend_q8_d##D, D, Q8Rows)
PREFILL_ATTEND_OF(64)
PREFILL_ATTEND_OF(96)
PREFILL_ATTEND_OF(128)
PREFILL_ATTEND_OF(256)
