// Exact scores of candidates: score[h][i] = q[h] / sqrt(head_dim) . key of candidate i, summed in the order of head_dim, and of each chunk of 256
// candidates the largest score and the sum of e^(score - largest).
//
// grid (blocks, slots), 256 threads, a candidate a thread; chunks lie at fixed places of the candidates. Only where there is a choice to make:
// who reads every candidate needs no scores for it.
// Shared: the queries, f32 [group, head_dim], heads beyond the group 0.
// HEADS heads are scored at once; groups above 8 read each key once more, from the cache.
// Bytes a slot that chooses: read a row of keys a candidate (2 head_dim as f16, head_dim + head_dim / 8 as q8), 4 of its position where they are
// listed, 4 group head_dim of queries; written 4 group a candidate and 8 group a chunk.
// Tests: tests/kernels/score.rs; bytes: tests/ledger/retrieval_bytes.rs.
#include "stored_rows.cuh"

using namespace retrieval;

constexpr int THREADS = 256, CHUNK = THREADS, WARPS = THREADS / 32;

struct ScoreArgs {
    const SlotLayout* slots;     // [slots]
    const Search* searches;      // [slots]
    const float* queries;        // f32 [slots, group, head_dim]
    const uint32_t* candidates;  // [slots, max_region]
    float* scores;               // f32 [slots, group, max_region]
    Total* partials;             // [slots, max_chunks, group]
    float scale;                 // 1/sqrt(head_dim)
    uint32_t group, head_dim, max_region, max_chunks, reserved;
};
static_assert(sizeof(ScoreArgs) == 72, "as in Rust");

template <class Row, int HEADS>
__device__ __forceinline__ void score_candidates(const ScoreArgs& args) {
    DYNAMIC_SHARED(float, queries);
    __shared__ float maxima[WARPS][HEADS], sums[WARPS][HEADS];
    const uint32_t slot = blockIdx.y, tid = threadIdx.x, d = args.head_dim, group = args.group;
    const Search& search = args.searches[slot];
    const uint32_t n = search.num_candidates;
    if (!search.chooses || blockIdx.x * CHUNK >= n) return;
    const SlotLayout& layout = args.slots[slot];
    const uint32_t padded = (group + HEADS - 1) / HEADS * HEADS;
    for (uint32_t i = tid; i < padded * d; i += THREADS)
        queries[i] = i < group * d ? args.queries[static_cast<uint64_t>(slot) * group * d + i] * args.scale : 0.f;
    __syncthreads();
    for (uint32_t chunk = blockIdx.x; chunk * CHUNK < n; chunk += gridDim.x) {
        const uint32_t i = chunk * CHUNK + tid;
        uint32_t position = layout.start + min(i, n - 1);
        if (search.candidates == CANDIDATES_LISTED) position = args.candidates[static_cast<uint64_t>(slot) * args.max_region + min(i, n - 1)];
        const Row key(page_at(layout, position), position % PAGE, d);
        for (uint32_t first = 0; first < group; first += HEADS) {
            float score[HEADS];
#pragma unroll
            for (int h = 0; h < HEADS; h++) score[h] = 0.f;
            for (uint32_t at = 0; at < d / Row::STEP; at += PIECES) {
                uint4 pieces[PIECES];
                load_pieces(key.bytes(), at, d / Row::STEP, pieces);
#pragma unroll
                for (int j = 0; j < PIECES; j++) {
                    if (at + j >= d / Row::STEP) break;
                    float x[Row::STEP];
                    key.widened(pieces[j], at + j, x);
#pragma unroll
                    for (int h = 0; h < HEADS; h++) score[h] = add_products(score[h], queries + (first + h) * d + (at + j) * Row::STEP, x);
                }
            }
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                if (i < n && first + h < group) args.scores[(static_cast<uint64_t>(slot) * group + first + h) * args.max_region + i] = score[h];
                const float most = warp_max(i < n ? score[h] : -INFINITY);
                if (tid % 32 == 0) maxima[tid / 32][h] = most;
            }
            __syncthreads();
            float most[HEADS];
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                most[h] = maxima[0][h];
                for (int w = 1; w < WARPS; w++) most[h] = fmaxf(most[h], maxima[w][h]);
                const float sum = warp_sum(i < n ? exp_nonpositive(score[h] - most[h]) : 0.f);
                if (tid % 32 == 0) sums[tid / 32][h] = sum;
            }
            __syncthreads();
            if (tid < HEADS && first + tid < group) {
                Total total{maxima[0][tid], 0.f};
                for (int w = 0; w < WARPS; w++) {
                    total.max = fmaxf(total.max, maxima[w][tid]);
                    total.sum += sums[w][tid];
                }
                args.partials[(static_cast<uint64_t>(slot) * args.max_chunks + chunk) * group + first + tid] = total;
            }
            __syncthreads();
        }
    }
}

#define SCORE(format, Row, heads) \
    extern "C" __global__ void __launch_bounds__(THREADS, heads == 8 ? 1 : 2) score_##format##_h##heads(ScoreArgs args) { score_candidates<Row, heads>(args); } \
    KERNEL(score_##format##_h##heads)
SCORE(f16, F16Row, 1)
SCORE(f16, F16Row, 2)
SCORE(f16, F16Row, 4)
SCORE(f16, F16Row, 8)
SCORE(q8, Q8Row, 1)
SCORE(q8, Q8Row, 2)
SCORE(q8, Q8Row, 4)
SCORE(q8, Q8Row, 8)
