// What stands for the positions of the region that are not read: clusters of them, each with a mean key and a mean value (tail.rs of the CPU).
//
// score_clusters  grid (blocks, slots), 128 threads, a cluster a thread. score[h][c] = q[h] / sqrt(head_dim) . mean key c, summed in the order of
//                 head_dim. Bytes a slot that probes: read a mean key a cluster (2 head_dim as f16, head_dim + head_dim / 8 in 8 bits),
//                 4 group head_dim of queries; written 4 group num_clusters. Groups above 8 read the keys once more, from the cache.
// weigh_clusters  grid (slots), 512 threads. weight[h][c] = e^(score - largest) times what is left of c; the clusters with the largest shares of
//                 all weight, summed over the group (ties: the smaller id), are marked, and weigh nothing from then on. What the others weigh is
//                 tail_lse[h]. Bytes a slot that probes: read 4 (group + 2) num_clusters (scores, sizes, what is left), 8 of a chosen cluster (offsets
//                 of members, which neighbours share), 4 a member, 4 a word of marks with members, 4 a head with any rest; written
//                 4 (group + 1) num_clusters (weights, shares), 4 a chosen cluster, the same words of marks, 4 group. Weights and shares are
//                 read again five to ten times, from the cache.
// rest_values     grid (blocks, slots), 256 threads; each takes chunks of 128 clusters. value[h] = sum of weight[h][c] mean value c over the sum
//                 of weights; where every key was scored, weight[h][c] is that of the cluster's members that were not selected. Chunks are added
//                 up in their order by whoever comes last. Bytes a slot with a rest: read a mean value a cluster (as a mean key), and
//                 4 group num_clusters of weights; where all was scored, in their place 4 a cluster and segment of clusters (offsets of
//                 members), 4 a position of the region (members), n / 8 of marks (whole words), 4 group of each position that was not
//                 selected, 4 group of totals. Written 4 group (head_dim + 1) a chunk, and 4 group head_dim, which slots without a rest
//                 write as well.
// Tests: tests/kernels/clusters.rs; bytes: tests/ledger/retrieval_bytes.rs.
#include "stored_rows.cuh"
#include "top.cuh"

using namespace retrieval;

constexpr int SCORE_THREADS = 128, WEIGH_THREADS = 512, REST_THREADS = 256, CHUNK = 128, TILE = 8;

struct ClusterArgs {
    const uint64_t* heads;     // [slots]
    const SlotLayout* slots;   // [slots]
    const float* queries;      // f32 [slots, group, head_dim]
    float* weights;            // f32 [slots, group, max_clusters]: scores, then weights
    const uint32_t* left;      // [slots, max_clusters]
    float* shares;             // f32 [slots, max_clusters]
    uint32_t* heaviest;        // [slots, max_clusters]
    uint32_t* marks;           // [slots, words]: candidates; where all is scored, what is selected
    float* tail_lse;           // f32 [slots, group]: of the rest, without what was scored and not selected
    const float* scores;       // f32 [slots, group, max_region]: of candidates
    const Total* totals;       // [slots, group]: of candidates
    float* partials;           // f32 [slots, max_chunks, group, head_dim + 1]: sums of values, and of weights
    uint32_t* tickets;         // [slots]: chunks that are done; 0 before and after
    float* tail_value;         // f32 [slots, group, head_dim]
    Search* searches;          // [slots]
    float scale;               // 1/sqrt(head_dim)
    uint32_t group, head_dim, words, max_clusters, max_region, max_chunks, reserved;
};
static_assert(sizeof(ClusterArgs) == 152, "as in Rust");

// The mean key or mean value of a segment's own c-th cluster. `means`: the segment's keys, or values.
template <class Row>
__device__ __forceinline__ Row mean_row(uint64_t means, int side, uint32_t c, uint32_t d);
template <>
__device__ __forceinline__ F16Row mean_row<F16Row>(uint64_t means, int, uint32_t c, uint32_t d) {
    return F16Row(means, c, d);
}
template <>
__device__ __forceinline__ Q8Row mean_row<Q8Row>(uint64_t means, int side, uint32_t c, uint32_t d) {
    return Q8Row(means + c / PAGE * head_bytes_q8(d), side * PAGE + c % PAGE, d);
}

// Products of up to TILE queries, in shared memory one behind the other, with a row, each summed in order.
template <class Row>
__device__ __forceinline__ void dot_rows(const float* queries, uint32_t heads, uint32_t d, const Row& row, float (&out)[TILE]) {
    const uint32_t num_pieces = d / Row::STEP;
#pragma unroll
    for (int h = 0; h < TILE; h++) out[h] = 0.f;
    for (uint32_t first = 0; first < num_pieces; first += PIECES) {
        uint4 pieces[PIECES];
        load_pieces(row.bytes(), first, num_pieces, pieces);
#pragma unroll
        for (int j = 0; j < PIECES; j++) {
            if (first + j >= num_pieces) break;
            float key[Row::STEP];
            row.widened(pieces[j], first + j, key);
#pragma unroll
            for (int h = 0; h < TILE; h++)
                if (h < heads) out[h] = add_products(out[h], queries + h * d + Row::STEP * (first + j), key);
        }
    }
}

extern "C" __global__ void __launch_bounds__(SCORE_THREADS, 4) score_clusters(ClusterArgs args) {
    DYNAMIC_SHARED(float, queries);  // [group, head_dim]
    const uint32_t slot = blockIdx.y, d = args.head_dim, group = args.group;
    const Head* head = head_at(args.heads[slot]);
    if (!head || !head->has_tail || head->scores_all || args.slots[slot].start == args.slots[slot].end) return;
    const uint32_t m = head->num_clusters;
    if (blockIdx.x * SCORE_THREADS >= m) return;
    const float* from = args.queries + static_cast<uint64_t>(slot) * group * d;
    for (uint32_t i = threadIdx.x; i < group * d; i += SCORE_THREADS) queries[i] = from[i] * args.scale;
    __syncthreads();
    const ClusterSegment* segments = at<ClusterSegment>(head->cluster_segments);
    float* out = args.weights + static_cast<uint64_t>(slot) * group * args.max_clusters;
    for (uint32_t c = blockIdx.x * SCORE_THREADS + threadIdx.x; c < m; c += gridDim.x * SCORE_THREADS) {
        const ClusterSegment& segment = segments[segment_of(segments, head->num_cluster_segments, c)];
        const uint32_t own = c - segment.first;
        for (uint32_t h = 0; h < group; h += TILE) {
            const uint32_t heads = min(group - h, static_cast<uint32_t>(TILE));
            float scores[TILE];
            if (segment.is_q8) dot_rows(queries + h * d, heads, d, mean_row<Q8Row>(segment.keys, KEYS, own, d), scores);
            else dot_rows(queries + h * d, heads, d, mean_row<F16Row>(segment.keys, KEYS, own, d), scores);
#pragma unroll
            for (int i = 0; i < TILE; i++)
                if (h + i < group) out[static_cast<uint64_t>(h + i) * args.max_clusters + c] = scores[i];
        }
    }
}
KERNEL(score_clusters)

extern "C" __global__ void __launch_bounds__(WEIGH_THREADS, 1) weigh_clusters(ClusterArgs args) {
    __shared__ TopRoom<WEIGH_THREADS> top;
    __shared__ float room[WEIGH_THREADS / 32];
    const uint32_t slot = blockIdx.x, tid = threadIdx.x, group = args.group;
    const Head* head = head_at(args.heads[slot]);
    Search& search = args.searches[slot];
    if (!head || search.tail != TAIL_GIVEN) return;
    const uint32_t m = head->num_clusters, stride = args.max_clusters, count = min(head->cluster_probes, m);
    const uint32_t* left = args.left + static_cast<uint64_t>(slot) * stride;
    float* shares = args.shares + static_cast<uint64_t>(slot) * stride;
    float* tail_lse = args.tail_lse + static_cast<uint64_t>(slot) * group;
    const float* counts = at<float>(head->counts);
    // A thread has the same clusters throughout.
    for (uint32_t c = tid; c < m; c += WEIGH_THREADS) shares[c] = 0.f;
    for (uint32_t h = 0; h < group; h++) {
        float* weights = args.weights + (static_cast<uint64_t>(slot) * group + h) * stride;
        float most = -INFINITY, sum = 0.f;
        each<WEIGH_THREADS>(m, [&](uint32_t c) { return weights[c]; }, [&](uint32_t, float score) { most = fmaxf(most, score); });
        most = block_max<WEIGH_THREADS>(most, room);
        each<WEIGH_THREADS>(
            m, [&](uint32_t c) { return float3{weights[c], counts[c], static_cast<float>(left[c])}; },
            [&](uint32_t c, float3 cluster) {
                const float weight = exp_nonpositive(cluster.x - most);
                sum += weight * cluster.y;
                weights[c] = weight * cluster.z;
            });
        const float per_total = 1.f / block_sum<WEIGH_THREADS>(sum, room);
        each<WEIGH_THREADS>(
            m, [&](uint32_t c) { return float2{weights[c], shares[c]}; },
            [&](uint32_t c, float2 cluster) { shares[c] = cluster.y + cluster.x * per_total; });
        if (tid == 0) tail_lse[h] = most;  // for now
    }
    __syncthreads();

    uint32_t members = 0;
    if (count > 0) {
        uint32_t* heaviest = args.heaviest + static_cast<uint64_t>(slot) * stride;
        const auto share = [&](uint32_t c) { return shares[c]; };
        const auto nothing = [](uint32_t, uint32_t) {};
        const Threshold chosen = largest<WEIGH_THREADS>(m, share, count, top);
        take_largest<WEIGH_THREADS>(m, share, chosen, top, [&](uint32_t rank, uint32_t c) { heaviest[rank] = c; }, nothing);
        __syncthreads();
        const ClusterSegment* segments = at<ClusterSegment>(head->cluster_segments);
        uint32_t* marks = args.marks + static_cast<uint64_t>(slot) * args.words;
        for (uint32_t k = tid / 32; k < count; k += WEIGH_THREADS / 32) {
            const uint32_t c = heaviest[k], lane = tid % 32;
            const ClusterSegment& segment = segments[segment_of(segments, head->num_cluster_segments, c)];
            const uint32_t* offsets = at<uint32_t>(segment.member_offsets) + (c - segment.first);
            const uint32_t* of_segment = at<uint32_t>(segment.members);
            for (uint32_t i = offsets[0] + lane; i < offsets[1]; i += 32) {
                const uint32_t position = segment.start + of_segment[i];
                atomicOr(&marks[position / 32], 1u << (position % 32));
            }
            for (uint32_t h = lane; h < group; h += 32) args.weights[(static_cast<uint64_t>(slot) * group + h) * stride + c] = 0.f;
            if (lane == 0) members += offsets[1] - offsets[0];
        }
        __syncthreads();
        members = block_sum<WEIGH_THREADS>(members, top.warps);
    }
    for (uint32_t h = 0; h < group; h++) {
        const float* weights = args.weights + (static_cast<uint64_t>(slot) * group + h) * stride;
        float sum = 0.f;
        each<WEIGH_THREADS>(m, [&](uint32_t c) { return weights[c]; }, [&](uint32_t, float weight) { sum += weight; });
        sum = block_sum<WEIGH_THREADS>(sum, room);
        if (tid == 0) tail_lse[h] = sum > 0.f ? tail_lse[h] + logf(sum) + at<float>(head->corrections)[h] : -INFINITY;
    }
    if (tid == 0) search.index_bytes += 4ull * members + head->mean_bytes;
}
KERNEL(weigh_clusters)

// Weights of a chunk's clusters, [TILE, CHUNK] in shared memory, of heads h to h + heads.
__device__ void chunk_weights(const ClusterArgs& args, const Head& head, bool is_scored, uint32_t slot, uint32_t chunk, uint32_t h, uint32_t heads,
                              float* out) {
    const uint32_t m = head.num_clusters;
    const ClusterSegment* segments = at<ClusterSegment>(head.cluster_segments);
    const uint32_t* selected = args.marks + static_cast<uint64_t>(slot) * args.words;
    for (uint32_t i = threadIdx.x; i < CHUNK * heads; i += REST_THREADS) {
        const uint32_t c = chunk * CHUNK + i % CHUNK, head_at = h + i / CHUNK;
        const uint64_t row = static_cast<uint64_t>(slot) * args.group + head_at;
        float weight = 0.f;
        if (c < m && !is_scored) {
            weight = args.weights[row * args.max_clusters + c];
        } else if (c < m) {
            const ClusterSegment& segment = segments[segment_of(segments, head.num_cluster_segments, c)];
            const uint32_t* offsets = at<uint32_t>(segment.member_offsets) + (c - segment.first);
            const uint32_t* members = at<uint32_t>(segment.members);
            const float* scores = args.scores + row * args.max_region;
            const float most = args.totals[row].max;
            for (uint32_t k = offsets[0]; k < offsets[1]; k++) {
                const uint32_t position = segment.start + members[k];
                if (!(selected[position / 32] >> (position % 32) & 1)) weight += exp_nonpositive(scores[position] - most);
            }
        }
        out[i] = weight;
    }
}

// Which of a chunk's mean values a thread adds up: eight from `first` on of clusters k, k + step, ..
struct Share {
    uint32_t k, step, first;
};

// Adds those of one segment to `total`, weighted, and leaves the share at the next one's. `before`: the segment's clusters before the chunk's
// first, as a number that wraps; `end`: the chunk's clusters up to the segment's end.
template <class Row>
__device__ __forceinline__ void add_values_of(const ClusterSegment& segment, uint32_t before, uint32_t end, uint32_t heads, uint32_t d,
                                              const float* weights, Share& share, float (&total)[TILE][8]) {
#pragma unroll 4
    for (; share.k < end; share.k += share.step) {
        float x[8];
        mean_row<Row>(segment.values, VALUES, before + share.k, d).load(share.first, x);
#pragma unroll
        for (int h = 0; h < TILE; h++)
            if (h < heads)
#pragma unroll
                for (int i = 0; i < 8; i++) total[h][i] += weights[h * CHUNK + share.k] * x[i];
    }
}

// Adds up a chunk's mean values, for heads h to h + heads; `part` of `rows` threads has a row's values from 8 part on.
__device__ void add_values(const ClusterArgs& args, const Head& head, uint32_t chunk, uint32_t heads, const float* weights, float* sums, float* out) {
    const uint32_t d = args.head_dim, parts = d / 8, rows = REST_THREADS / parts, part = threadIdx.x % parts, row = threadIdx.x / parts;
    const uint32_t m = head.num_clusters, count = min(static_cast<uint32_t>(CHUNK), m - chunk * CHUNK);
    const ClusterSegment* segments = at<ClusterSegment>(head.cluster_segments);
    float total[TILE][8];
#pragma unroll
    for (int h = 0; h < TILE; h++)
#pragma unroll
        for (int i = 0; i < 8; i++) total[h][i] = 0.f;
    if (row < rows) {
        Share share{row, rows, 8 * part};
        for (uint32_t s = segment_of(segments, head.num_cluster_segments, chunk * CHUNK); share.k < count; s++) {
            const ClusterSegment& segment = segments[s];
            const uint32_t before = chunk * CHUNK - segment.first, end = min(count, segment.num - before);
            if (segment.is_q8) add_values_of<Q8Row>(segment, before, end, heads, d, weights, share, total);
            else add_values_of<F16Row>(segment, before, end, heads, d, weights, share, total);
        }
    }
    // Rows of threads are added in their order.
#pragma unroll
    for (int h = 0; h < TILE; h++) {
        if (h >= heads) break;
        __syncthreads();
        if (row < rows)
#pragma unroll
            for (int i = 0; i < 8; i++) sums[row * d + 8 * part + i] = total[h][i];
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < d; i += REST_THREADS) {
            float sum = 0.f;
            for (uint32_t r = 0; r < rows; r++) sum += sums[r * d + i];
            out[static_cast<uint64_t>(h) * (d + 1) + i] = sum;
        }
        if (threadIdx.x < 32) {
            float sum = 0.f;
            for (uint32_t k = threadIdx.x; k < CHUNK; k += 32) sum += weights[h * CHUNK + k];
            sum = warp_sum(sum);
            if (threadIdx.x == 0) out[static_cast<uint64_t>(h) * (d + 1) + d] = sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(REST_THREADS, 2) rest_values(ClusterArgs args) {
    __shared__ float weights[TILE * CHUNK], sums[8 * REST_THREADS];
    __shared__ bool is_last;
    const uint32_t slot = blockIdx.y, tid = threadIdx.x, d = args.head_dim, group = args.group;
    const Search& search = args.searches[slot];
    const Head* head = head_at(args.heads[slot]);
    float* value = args.tail_value + static_cast<uint64_t>(slot) * group * d;
    const bool is_scored = search.tail == TAIL_SCORED;
    // Where nothing is left the mean is of nothing: a number all the same.
    const bool has_rest = head && head->num_clusters > 0 && search.tail != TAIL_NONE && !(is_scored && search.num_selected == search.num_candidates);
    if (!has_rest) {
        if (blockIdx.x == 0)
            for (uint32_t i = tid; i < group * d; i += REST_THREADS) value[i] = 0.f;
        return;
    }
    const uint32_t num_chunks = (head->num_clusters + CHUNK - 1) / CHUNK;
    float* partials = args.partials + static_cast<uint64_t>(slot) * args.max_chunks * group * (d + 1);
    for (uint32_t chunk = blockIdx.x; chunk < num_chunks; chunk += gridDim.x) {
        float* partial = partials + static_cast<uint64_t>(chunk) * group * (d + 1);
        for (uint32_t h = 0; h < group; h += TILE) {
            const uint32_t heads = min(group - h, static_cast<uint32_t>(TILE));
            __syncthreads();
            chunk_weights(args, *head, is_scored, slot, chunk, h, heads, weights);
            __syncthreads();
            add_values(args, *head, chunk, heads, weights, sums, partial + static_cast<uint64_t>(h) * (d + 1));
        }
        __threadfence();
        __syncthreads();
        if (tid == 0) is_last = atomicAdd(&args.tickets[slot], 1u) == num_chunks - 1;
        __syncthreads();
    }
    if (blockIdx.x >= num_chunks || !is_last) return;
    __threadfence();
    if (tid == 0) args.tickets[slot] = 0;
    for (uint32_t i = tid; i < group * d; i += REST_THREADS) {
        const uint32_t h = i / d;
        float sum = 0.f, weight = 0.f;
        for (uint32_t chunk = 0; chunk < num_chunks; chunk++) {
            const float* partial = partials + (static_cast<uint64_t>(chunk) * group + h) * (d + 1);
            sum += __ldcg(partial + i % d);
            weight += __ldcg(partial + d);
        }
        value[i] = weight > 0.f ? sum / weight : 0.f;
    }
}
KERNEL(rest_values)
