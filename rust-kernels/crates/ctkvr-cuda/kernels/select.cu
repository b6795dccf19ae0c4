// The choice among scored candidates, and the weight of what is not chosen.
//
// sum_weights    grid (blocks, slots), 256 threads, 4 candidates a thread. Totals of each head from those of the chunks (score.cu), and of each
//                candidate its weights, each head normalised, summed over the group: weight[i] = sum over h of e^(score[h][i] - max[h]) / sum[h].
//                Bytes a slot that chooses: read 4 group a candidate and 8 group a chunk; written 4 a candidate, 8 group.
// select_largest grid (slots), 512 threads. At most `max_selected` of the largest weights, no more than it takes to reach the share `top_p` of
//                all, ties to the smaller position: positions ascending, and their number. Where there is no choice, all candidates. Then what
//                was dropped of each head's weight. Bytes a slot: read 4 a candidate where some are dropped or a share is asked for (four to nine
//                times, from the cache but for the first), 4 group a selected one and 8 group where some are dropped, 4 a selected one where
//                candidates are listed; written 4 a selected one, 8 group, n / 8 of marks (whole words) where all was scored, there are
//                clusters and some are dropped.
//
// Sums over candidates have fixed places; those of the choice are whole numbers. The same choice as the CPU's `Selected` wherever weights do not
// tie within rounding. Tests: tests/kernels/select.rs; bytes: tests/ledger/retrieval_bytes.rs.
#include "top.cuh"

using namespace retrieval;

constexpr int SUM_THREADS = 256, SELECT_THREADS = 512, SCORE_CHUNK = 256, MOST_GROUP = 32;

struct SelectArgs {
    const uint64_t* heads;       // [slots]
    const SlotLayout* slots;     // [slots]
    Search* searches;            // [slots]
    const uint32_t* candidates;  // [slots, max_region]
    const float* scores;         // f32 [slots, group, max_region]
    const Total* partials;       // [slots, max_chunks, group]
    Total* totals;               // [slots, group]
    float* weights;              // f32 [slots, max_region]
    uint32_t* selected;          // [slots, max_region]: positions
    uint32_t* counts;            // [slots]: of them
    uint32_t* marks;             // [slots, words]: what is selected, where all is scored
    Total* dropped;              // [slots, group]: scored, not selected; (-infinity, 0) where nothing is
    uint32_t* tail_kinds;        // [slots]: Tail, for the merge
    uint32_t group, max_region, max_chunks, words;
};
static_assert(sizeof(SelectArgs) == 120, "as in Rust");

extern "C" __global__ void __launch_bounds__(SUM_THREADS) sum_weights(SelectArgs args) {
    __shared__ float maxima[MOST_GROUP], factors[MOST_GROUP];
    const uint32_t slot = blockIdx.y, tid = threadIdx.x, group = args.group;
    const Search& search = args.searches[slot];
    const uint32_t n = search.num_candidates, num_chunks = (n + SCORE_CHUNK - 1) / SCORE_CHUNK;
    if (!search.chooses || blockIdx.x * SUM_THREADS >= n) return;
    const Total* partials = args.partials + static_cast<uint64_t>(slot) * args.max_chunks * group;
    for (uint32_t h = tid / 32; h < group; h += SUM_THREADS / 32) {
        float most = -INFINITY, sum = 0.f;
        for (uint32_t c = tid % 32; c < num_chunks; c += 32) most = fmaxf(most, partials[static_cast<uint64_t>(c) * group + h].max);
        most = warp_max(most);
        for (uint32_t c = tid % 32; c < num_chunks; c += 32) {
            const Total part = partials[static_cast<uint64_t>(c) * group + h];
            sum += part.sum * exp_nonpositive(part.max - most);
        }
        sum = warp_sum(sum);
        if (tid % 32 == 0) {
            maxima[h] = most;
            factors[h] = 1.f / sum;
            if (blockIdx.x == 0) args.totals[static_cast<uint64_t>(slot) * group + h] = Total{most, sum};
        }
    }
    __syncthreads();
    const float* scores = args.scores + static_cast<uint64_t>(slot) * group * args.max_region;
    float* weights = args.weights + static_cast<uint64_t>(slot) * args.max_region;
    for (uint32_t i = blockIdx.x * SUM_THREADS + tid; i < n; i += gridDim.x * SUM_THREADS) {
        float weight = 0.f;
        for (uint32_t h = 0; h < group; h++) weight += exp_nonpositive(scores[static_cast<uint64_t>(h) * args.max_region + i] - maxima[h]) * factors[h];
        weights[i] = weight;
    }
}
KERNEL(sum_weights)

extern "C" __global__ void __launch_bounds__(SELECT_THREADS, 1) select_largest(SelectArgs args) {
    __shared__ TopRoom<SELECT_THREADS> top;
    __shared__ float room[SELECT_THREADS / 32];
    const uint32_t slot = blockIdx.x, tid = threadIdx.x, group = args.group;
    Search& search = args.searches[slot];
    const uint32_t n = search.num_candidates, start = args.slots[slot].start;
    const bool is_listed = search.candidates == CANDIDATES_LISTED, chooses = search.chooses, is_scored = search.tail == TAIL_SCORED;
    const uint32_t* candidates = args.candidates + static_cast<uint64_t>(slot) * args.max_region;
    const float* weights = args.weights + static_cast<uint64_t>(slot) * args.max_region;
    uint32_t* selected = args.selected + static_cast<uint64_t>(slot) * args.max_region;
    uint32_t* marks = args.marks + static_cast<uint64_t>(slot) * args.words;
    const auto weight = [&](uint32_t i) { return weights[i]; };

    if (args.slots[slot].on_host) {  // and what the host scored and dropped comes to the merge with what it attended to
        if (tid == 0) {
            args.counts[slot] = 0;
            args.tail_kinds[slot] = search.tail;
        }
        return;
    }
    uint32_t k = chooses ? search.most_selected : n;
    const double share = args.slots[slot].top_p;
    if (chooses && share < 1.0) k = min(k, count_reaching<SELECT_THREADS>(n, weight, share, top));
    if (k < n) {
        const Threshold chosen = largest<SELECT_THREADS>(n, weight, k, top);
        take_largest<SELECT_THREADS>(
            n, weight, chosen, top, [&](uint32_t rank, uint32_t i) { selected[rank] = i; },
            [&](uint32_t w, uint32_t bits) {
                if (is_scored) marks[w] = bits;
            });
    } else {
        for (uint32_t i = tid; i < n; i += SELECT_THREADS) selected[i] = i;
    }
    __syncthreads();

    for (uint32_t h = 0; h < group; h++) {
        const uint64_t row = static_cast<uint64_t>(slot) * group + h;
        Total dropped{-INFINITY, 0.f};
        if (k < n) {
            const float* scores = args.scores + row * args.max_region;
            const Total total = args.totals[row];
            float sum = 0.f;
            for (uint32_t r = tid; r < k; r += SELECT_THREADS) sum += exp_nonpositive(scores[selected[r]] - total.max);
            sum = block_sum<SELECT_THREADS>(sum, room);
            dropped = Total{total.max, fmaxf(total.sum - sum, 0.f)};
        }
        if (tid == 0) args.dropped[row] = dropped;
    }
    __syncthreads();
    for (uint32_t r = tid; r < k; r += SELECT_THREADS) selected[r] = is_listed ? candidates[selected[r]] : start + selected[r];
    if (tid == 0) {
        search.num_selected = k;
        args.counts[slot] = k;
        args.tail_kinds[slot] = search.tail;
        const Head* head = head_at(args.heads[slot]);
        if (is_scored && k < n && head) search.index_bytes += head->mean_bytes + 4ull * n;
    }
}
KERNEL(select_largest)
