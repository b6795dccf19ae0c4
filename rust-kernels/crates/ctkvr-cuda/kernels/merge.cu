// The last stage of a head's decode step: splits of attend.cu, what the host attended to, and what stands for the rest of the region, merged
// by log-sum-exp; and how much of the attention was read (ctkvr-core's attention/merge.rs, whose terms these are).
//
//   layouts     SlotLayout [slots]
//   counts      u32 [slots]                        listed ones of each slot; null: none
//   partials    f32 [slots, max_splits, group * (D + 2)]   as attend.cu wrote them
//   host        f32 [slots, group * (D + 4)]       of slots that say on_host one more of these, a maximum of -infinity where there is none,
//                                                  then a Total [group] of what the host scored and did not select; null
//   tail_kinds  u32 [slots]                        0 none, 1 given, 2 scored (ProposedTail); null: all none
//   tail_lse    f32 [slots, group]                 of the given tail, read where kind is 1
//   tail_value  f32 [slots, group, D]              mean value of the tail, given or of what was scored and dropped, read where kind is not 0
//   dropped     Total [slots, group]               maximum and sum of what was scored and not selected, (-infinity, 0) for nothing; null
//   out         f32 [slots, group, D]
//   shares      f32 [slots, group]                 of the attention that was read: with a tail, read / all; without, read / (read + dropped)
//   read_lse    f32 [slots, group]                 log-sum-exp of what was read
//   total_lse   f32 [slots, group]                 and of everything in the output
//
// Grid (group, slots), 256 threads: a block does one query head. Warp w adds up splits w, w + 8, .., then the warps are added in order, then
// host and tail: the order depends on the slot's number of splits alone. Bytes a head: read 4 splits (D + 2), 4 (D + 2) of the host's, 8 of
// dropped (the host's where it has some), 4 of a given tail's lse, 4 D of a tail's value where it has any weight; written 4 D + 12. Nothing read and no tail: zeros, shares 0,
// -infinity. Any D up to 256. Pinned by tests/kernels/merge.rs; bytes: tests/ledger/attention.rs.
#include "attention.cuh"

using namespace attention;

constexpr int WARPS = 8, THREADS = 32 * WARPS, MAX_D = 256, LANE_VALUES = MAX_D / 32;
enum : uint32_t { TAIL_NONE, TAIL_GIVEN, TAIL_SCORED };

struct MergeArgs {
    const SlotLayout* layouts;
    const uint32_t* counts;
    const float* partials;
    const float* host;
    const uint32_t* tail_kinds;
    const float* tail_lse;
    const float* tail_value;
    const float* dropped;
    float* out;
    float* shares;
    float* read_lse;
    float* total_lse;
    uint32_t head_dim, max_splits;
};
static_assert(sizeof(MergeArgs) == 104, "as MergeArgs of src/launch/merge.rs");

__device__ __forceinline__ void merge(const MergeArgs& args) {
    __shared__ float values[WARPS][MAX_D];
    __shared__ float maxima[WARPS], sums[WARPS];

    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, d = args.head_dim;
    const unsigned h = blockIdx.x, group = gridDim.x, slot = blockIdx.y, row = slot * group + h, stride = group * (d + 2);
    const SlotLayout layout = args.layouts[slot];
    const unsigned num_entries = layout.start + (args.counts ? args.counts[slot] : 0) + (layout.len - layout.end);
    const unsigned num_splits = (num_entries + SPLIT - 1) / SPLIT;
    const float* splits = args.partials + (uint64_t)slot * args.max_splits * stride;

    // The largest score of all, the same in any order.
    float top = -INFINITY;
    for (unsigned s = tid; s < num_splits; s += THREADS) top = fmaxf(top, splits[(uint64_t)s * stride + group * d + h]);
#pragma unroll
    for (int x = 16; x > 0; x /= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, x));
    if (lane == 0) maxima[warp] = top;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) top = fmaxf(top, maxima[w]);
    const float* host = args.host && layout.on_host ? args.host + (uint64_t)slot * group * (d + 4) : nullptr;
    const float host_max = host ? host[group * d + h] : -INFINITY;
    top = fmaxf(top, host_max);

    float mine[LANE_VALUES] = {}, sum = 0.f;
    for (unsigned s = warp; s < num_splits; s += WARPS) {
        const float* split = splits + (uint64_t)s * stride;
        const float weight = exp_below(split[group * d + h], top);
        sum = __fmaf_rn(split[group * (d + 1) + h], weight, sum);
#pragma unroll
        for (int k = 0; k < LANE_VALUES; k++)
            if (lane + 32 * k < d) mine[k] = __fmaf_rn(split[h * d + lane + 32 * k], weight, mine[k]);
    }
#pragma unroll
    for (int k = 0; k < LANE_VALUES; k++) values[warp][lane + 32 * k] = mine[k];
    if (lane == 0) sums[warp] = sum;
    __syncthreads();

    sum = 0.f;
    for (int w = 0; w < WARPS; w++) sum += sums[w];
    const float host_weight = exp_below(host_max, top);
    if (host) sum = __fmaf_rn(host[group * (d + 1) + h], host_weight, sum);
    const float read = top + logf(sum);

    // What lends its weight to the tail's value, against a maximum of all.
    const uint32_t kind = args.tail_kinds ? args.tail_kinds[slot] : TAIL_NONE;
    const float* dropped = host ? host + stride + 2 * h : args.dropped ? args.dropped + 2 * row : nullptr;
    const float dropped_max = dropped ? dropped[0] : -INFINITY, dropped_sum = dropped ? dropped[1] : 0.f;
    const float given = kind == TAIL_GIVEN ? args.tail_lse[row] : -INFINITY;
    const bool has_tail = (kind == TAIL_SCORED ? dropped_max : given) != -INFINITY;
    const float all_top = has_tail ? fmaxf(top, fmaxf(given, dropped_max)) : top;
    const float scale = exp_below(top, all_top);
    const float tail_weight = has_tail ? exp_below(given, all_top) + exp_below(dropped_max, all_top) * dropped_sum : 0.f;
    const float total = __fmaf_rn(sum, scale, tail_weight), factor = total > 0.f ? 1.f / total : 0.f;

    if (tid < d) {
        float value = 0.f;
        for (int w = 0; w < WARPS; w++) value += values[w][tid];
        if (host) value = __fmaf_rn(host[h * d + tid], host_weight, value);
        value *= scale;
        if (has_tail) value = __fmaf_rn(args.tail_value[(uint64_t)row * d + tid], tail_weight, value);
        args.out[(uint64_t)row * d + tid] = value * factor;
    }
    if (tid == 0) {
        const float all = all_top + logf(total);
        float share = 0.f;
        if (read != -INFINITY) share = has_tail ? expf(read - all) : 1.f / (1.f + (dropped_sum > 0.f ? expf(dropped_max - read) * dropped_sum : 0.f));
        args.shares[row] = share;
        args.read_lse[row] = read;
        args.total_lse[row] = all;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_partials(const MergeArgs args) { merge(args); }
KERNEL(merge_partials)
