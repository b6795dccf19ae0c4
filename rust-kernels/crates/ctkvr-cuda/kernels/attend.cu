// Attention of decoded tokens over what they read, in splits: for slot s (a row's KV head), query heads h of its group, entries i of a split
//   score[h][i] = scale * q[h] . key[i],   max[h] = max score,   sum[h] = sum e^(score - max),   values[h] = sum e^(score - max) value[i]
//
// Entries of a slot: positions 0..start, then the listed ones, then end..len (SlotLayout). Split b has entries b * SPLIT .. + SPLIT: fixed
// places of a slot's own row, so that its bits depend on nothing else in the launch. merge.cu adds the splits up.
//
//   queries    f32 [slots, group, D]           after rotary embedding; 16-byte aligned
//   layouts    SlotLayout [slots]
//   positions  u32 [slots, list_stride]        in the region, any order; null with counts
//   counts     u32 [slots]                     listed ones of each slot, <= list_stride; null: none
//   partials   f32 [slots, max_splits, group * (D + 2)]   of each split values [group, D], max [group], sum [group]; others are not written
//
// Grid (max_splits, slots), 128 threads: a block does one split, those beyond a slot's entries return. Group 1 to 16 (OCTETS of 8 heads).
// Bytes a slot: read 2 row bytes an entry (4 D as f16, 2 D + D / 4 as q8), once for the whole group, 4 a listed entry, 4 group D of queries; written
// 4 splits group (D + 2). Every split reads the queries again, from the cache. Keys of listed entries that score.cu has scored were read there.
//
// Products are f16 on tensor cores with f32 sums. Queries and weights are taken as two f16 (nearest, and what is left over), in rows 0-7 and
// 8-15 of one left operand, keys of q8 as exact codes whose sums are scaled: as good as f32. Only values of q8 are rounded to f16.
// Pinned by tests/kernels/attend.rs; bytes: tests/ledger/attention.rs.
#include "attention.cuh"

using namespace attention;

constexpr int WARPS = 4, THREADS = 32 * WARPS;
static_assert(SPLIT == THREADS, "a thread finds the row of one entry");
// So that small weights are no subnormal f16: the largest becomes 2^12.
constexpr float WEIGHT_SCALE = 4096.f;

struct AttendArgs {
    const float* queries;
    const SlotLayout* layouts;
    const uint32_t* positions;
    const uint32_t* counts;
    float* partials;
    float scale;
    uint32_t group, list_stride, max_splits;
};
static_assert(sizeof(AttendArgs) == 56, "as AttendArgs of src/launch/attend.rs");

template <int D, class Rows, int OCTETS>
__device__ __forceinline__ void attend(const AttendArgs& args) {
    constexpr int HEADS = 8 * OCTETS, SETS = (D + 63) / 64, KEY_PARTS = WARPS / SETS;
    static_assert(D % 32 == 0 && WARPS % SETS == 0, "a warp has 64 dimensions");
    __shared__ uint4 queries[OCTETS][D / 16][32];   // left operands
    __shared__ __align__(16) float weights[HEADS][SPLIT];
    __shared__ uint64_t pages[SPLIT];
    __shared__ uint32_t places[SPLIT];
    __shared__ float totals[KEY_PARTS][HEADS][D];

    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, t = lane % 4;
    const unsigned slot = blockIdx.y;
    const int group = args.group;
    const SlotLayout layout = args.layouts[slot];
    const unsigned listed = args.counts ? args.counts[slot] : 0, before_window = layout.start + listed;
    const unsigned num_entries = before_window + (layout.len - layout.end), first = blockIdx.x * SPLIT;
    if (first >= num_entries) return;
    const int n = min(num_entries - first, (unsigned)SPLIT);
    float* partial = args.partials + ((uint64_t)slot * args.max_splits + blockIdx.x) * group * (D + 2);

    {   // Where the entries lie; those that are not there are the first once more, with no weight.
        const unsigned i = first + (tid < n ? tid : 0);
        const unsigned position = i < layout.start    ? i
                                  : i < before_window ? __ldg(args.positions + (uint64_t)slot * args.list_stride + (i - layout.start))
                                                      : layout.end + (i - before_window);
        pages[tid] = page_of(layout.pages, layout.head_offset, position);
        places[tid] = position % PAGE;
    }
    for (int i = tid; i < OCTETS * (D / 16) * 32; i += THREADS) {
        const int of_lane = i % 32, step = i / 32 % (D / 16), octet = i / 32 / (D / 16), head = octet * 8 + of_lane / 4;
        const int d = step / 2 * 32 + of_lane % 4 * 8 + step % 2 * 4;
        float4 q = {0.f, 0.f, 0.f, 0.f};
        if (head < group) q = *reinterpret_cast<const float4*>(args.queries + ((uint64_t)slot * group + head) * D + d);
        uint4 left;
        pack_both(q.x * args.scale, q.y * args.scale, left.x, left.y);
        pack_both(q.z * args.scale, q.w * args.scale, left.z, left.w);
        queries[octet][step][of_lane] = left;
    }
    __syncthreads();

    // Scores, eight entries at a time; a lane gets those of head g and entries 2t, 2t + 1.
#pragma unroll 2
    for (int tile = 0; tile < SPLIT / WARPS; tile += 8) {
        const int from = warp * (SPLIT / WARPS) + tile, two = from + 2 * t;
        float score[OCTETS][2];
#pragma unroll
        for (int o = 0; o < OCTETS; o++) score[o][0] = score[o][1] = -INFINITY;
        if (from < n) {
            const uint64_t page = pages[from + g];
            const unsigned place = places[from + g];
            uint4 keys[D / 32];
#pragma unroll
            for (int j = 0; j < D / 32; j++) keys[j] = Rows::load_codes(page, place, 32 * j + 8 * t);
            float sums[OCTETS][4] = {};
#pragma unroll
            for (int j = 0; j < D / 32; j++) {
#pragma unroll
                for (int o = 0; o < OCTETS; o++) {
                    const uint4 a = queries[o][2 * j][lane], b = queries[o][2 * j + 1][lane];
                    float block[4] = {};
                    float (&sum)[4] = Rows::HAS_SCALES ? block : sums[o];
                    mma_f16(sum, {a.x, a.y, a.z, a.w}, {keys[j].x, keys[j].y});
                    mma_f16(sum, {b.x, b.y, b.z, b.w}, {keys[j].z, keys[j].w});
                    if (Rows::HAS_SCALES) {
                        const float one = Rows::scale(pages[two], places[two], j), other = Rows::scale(pages[two + 1], places[two + 1], j);
                        sums[o][0] = __fmaf_rn(block[0] + block[2], one, sums[o][0]);
                        sums[o][1] = __fmaf_rn(block[1] + block[3], other, sums[o][1]);
                    }
                }
            }
#pragma unroll
            for (int o = 0; o < OCTETS; o++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (two + e < n) score[o][e] = sums[o][e] + sums[o][e + 2];
        }
#pragma unroll
        for (int o = 0; o < OCTETS; o++) *reinterpret_cast<float2*>(&weights[o * 8 + g][two]) = {score[o][0], score[o][1]};
    }
    __syncthreads();

    // Weights in place of scores, a warp to a head, four entries to a lane.
    for (int h = warp; h < HEADS; h += WARPS) {
        float4& mine = *reinterpret_cast<float4*>(&weights[h][4 * lane]);
        const float4 s = mine;
        float top = fmaxf(fmaxf(s.x, s.y), fmaxf(s.z, s.w));
#pragma unroll
        for (int x = 16; x > 0; x /= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, x));
        const float4 w = {exp_below(s.x, top), exp_below(s.y, top), exp_below(s.z, top), exp_below(s.w, top)};
        float sum = (w.x + w.y) + (w.z + w.w);
#pragma unroll
        for (int x = 16; x > 0; x /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, x);
        mine = w;
        if (lane == 0 && h < group) {
            partial[group * D + h] = top;
            partial[group * (D + 1) + h] = sum;
        }
    }
    __syncthreads();

    // Values, 64 dimensions and every KEY_PARTS-th 16 entries to a warp; of these a lane has 4t .. 4t + 3.
    const int set = warp % SETS, part = warp / SETS, d = 64 * set + 8 * g;
    float total[OCTETS][8][4] = {};
    // Heads of 256 have no registers for two turns at once.
#pragma unroll (D <= 128 ? 2 : 1)
    for (int from = 16 * part; from < n; from += 16 * KEY_PARTS) {
        uint4 rows[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int e = from + 4 * t + i;
            rows[i] = D % 64 == 0 || d < D ? Rows::load(pages[e], PAGE + places[e], d) : uint4{0, 0, 0, 0};
        }
#pragma unroll
        for (int o = 0; o < OCTETS; o++) {
            const float4 w = *reinterpret_cast<const float4*>(&weights[o * 8 + g][from + 4 * t]);
            unsigned left[4];
            pack_both(w.x * WEIGHT_SCALE, w.y * WEIGHT_SCALE, left[0], left[1]);
            pack_both(w.z * WEIGHT_SCALE, w.w * WEIGHT_SCALE, left[2], left[3]);
            add_values(total[o], left, rows[0], rows[1], rows[2], rows[3]);
        }
    }
#pragma unroll
    for (int o = 0; o < OCTETS; o++)
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int column = 0; column < 2; column++) {
                const int at = 64 * set + 8 * (2 * t + column) + i;
                if (D % 64 == 0 || at < D) totals[part][o * 8 + g][at] = (total[o][i][column] + total[o][i][column + 2]) / WEIGHT_SCALE;
            }
    __syncthreads();
    for (int i = tid; i < group * D; i += THREADS) {
        float sum = totals[0][i / D][i % D];
#pragma unroll
        for (int p = 1; p < KEY_PARTS; p++) sum += totals[p][i / D][i % D];
        partial[i] = sum;
    }
}

// One for each head dimension, format and number of octets.
#define ATTEND(name, D, Rows, OCTETS)                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const AttendArgs args) {                \
        attend<D, Rows<D>, OCTETS>(args);                                                              \
    }                                                                                                  \
    KERNEL(name)
#define ATTEND_OF(D)                             \
    ATTEND(attend_f16_d##D##_h8, D, F16Rows, 1)  \
    ATTEND(attend_f16_d##D##_h16, D, F16Rows, 2) \
    ATTEND(attend_q8_d##D##_h8, D, Q8Rows, 1)    \
    ATTEND(attend_q8_d##D##_h16, D, Q8Rows, 2)
ATTEND_OF(64)
ATTEND_OF(96)
ATTEND_OF(128)
ATTEND_OF(256)
