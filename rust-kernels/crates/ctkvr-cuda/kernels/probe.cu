// Which centroids are nearest: the pooled query against the 8-bit centroids of all active segments, and the best of different lists.
//
// grid (slots), 256 threads. Shared: a head's query and its pooled vector.
// similarity of centroid c = scale_c * sum over d of pooled[d] * code_c[d], in the order of d, as the CPU's plain kernels have it. The best
// `num_probes` of different lists: higher similarity first, then the smaller id (`CentroidIndex::probe`). Where even the best is below the
// index's floor the query is an outlier, and, while the row has repairs left, everything is read.
// Bytes a slot that probes: read num_centroids (head_dim + 4), 4 group head_dim of queries; written 4 num_centroids, 4 a probe that is found.
// Similarities are read again for each probe, from the cache.
// Tests: tests/kernels/probe.rs; bytes: tests/ledger/retrieval_bytes.rs.
#include "retrieval.cuh"

using namespace retrieval;

constexpr int THREADS = 256, MOST_HEAD_DIM = 256, MOST_GROUP = 32;

struct ProbeArgs {
    const uint64_t* heads;           // [slots]: addresses of Head, or NO_HEAD
    const SlotLayout* slots;         // [slots]
    const float* queries;            // f32 [slots, group, head_dim], after rotary embedding
    const uint32_t* repairs;         // [rows]: repairs in the layers before
    const uint32_t* repair_budgets;  // [rows]
    float* similarities;             // f32 [slots, max_centroids]
    uint32_t* probes;                // [slots, max_probes]: ids, best first
    Search* searches;                // [slots]
    uint32_t num_kv_heads, group, head_dim, max_centroids, max_probes, reserved;
};
static_assert(sizeof(ProbeArgs) == 88, "as in Rust");

// Best first as integers: higher similarities, then smaller ids.
__device__ __forceinline__ unsigned long long rank(float similarity, uint32_t id) {
    const uint32_t bits = __float_as_uint(similarity);
    const uint32_t ascending = bits >> 31 ? ~bits : bits | 1u << 31;
    return static_cast<unsigned long long>(~ascending) << 32 | id;
}

__device__ __forceinline__ unsigned long long block_min(unsigned long long x, unsigned long long* room) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = min(x, __shfl_xor_sync(ALL_LANES, x, step));
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    for (int w = 0; w < THREADS / 32; w++) x = min(x, room[w]);
    __syncthreads();
    return x;
}

// The direction that stands for the group, in shared memory: the normalised sum of the normalised heads, added in order.
__device__ void pool(const float* query, uint32_t group, uint32_t d, float* pooled) {
    __shared__ float lengths[MOST_GROUP], length;
    for (uint32_t h = threadIdx.x; h < group; h += THREADS) {
        float sum = 0.f;
        for (uint32_t i = 0; i < d; i++) sum += query[h * d + i] * query[h * d + i];
        lengths[h] = sqrtf(sum);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < d; i += THREADS) {
        float sum = 0.f;
        for (uint32_t h = 0; h < group; h++)
            if (lengths[h] > 0.f) sum += query[h * d + i] / lengths[h];
        pooled[i] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.f;
        for (uint32_t i = 0; i < d; i++) sum += pooled[i] * pooled[i];
        length = sqrtf(sum);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < d; i += THREADS)
        if (length > 0.f) pooled[i] /= length;
    __syncthreads();
}

__device__ __forceinline__ float dot_codes(const float* pooled, const int8_t* codes, uint32_t d) {
    float sum = 0.f;
    for (uint32_t first = 0; first < d / 16; first += PIECES) {
        uint4 pieces[PIECES];
        load_pieces(codes, first, d / 16, pieces);
#pragma unroll
        for (int j = 0; j < PIECES; j++) {
            if (first + j >= d / 16) break;
            float x[16];
            widen_codes(pieces[j], x);
            sum = add_products(sum, pooled + 16 * (first + j), x);
        }
    }
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) probe(ProbeArgs args) {
    __shared__ __align__(16) float pooled[MOST_HEAD_DIM];
    __shared__ unsigned long long room[THREADS / 32];
    const uint32_t slot = blockIdx.x, tid = threadIdx.x, d = args.head_dim;
    const uint64_t address = args.heads[slot];
    Search& search = args.searches[slot];
    const Head* head = head_at(address);
    if (!head || args.slots[slot].start == args.slots[slot].end || head->scores_all) {
        if (tid == 0) {
            search = Search{};
            if (head && args.slots[slot].start != args.slots[slot].end) {
                search.candidates = CANDIDATES_REGION;
                search.tail = head->has_tail ? TAIL_SCORED : TAIL_NONE;
            }
        }
        return;
    }
    const uint32_t row = slot / args.num_kv_heads;
    pool(args.queries + static_cast<uint64_t>(slot) * args.group * d, args.group, d, pooled);

    const CentroidSegment* segments = at<CentroidSegment>(head->centroid_segments);
    const uint32_t n = head->num_centroids;
    float* similarities = args.similarities + static_cast<uint64_t>(slot) * args.max_centroids;
    for (uint32_t c = tid; c < n; c += THREADS) {
        const CentroidSegment& segment = segments[segment_of(segments, head->num_centroid_segments, c)];
        const uint32_t place = c - segment.first;
        similarities[c] = dot_codes(pooled, at<int8_t>(segment.codes) + static_cast<uint64_t>(place) * d, d) * at<float>(segment.scales)[place];
    }
    __syncthreads();

    uint32_t found = 0, wanted = min(head->num_probes, args.max_probes);
    float nearest = 0.f;
    for (; found < wanted; found++) {
        unsigned long long best = ~0ull;
        for (uint32_t c = tid; c < n; c += THREADS) best = min(best, rank(similarities[c], c));
        best = block_min(best, room);
        const uint32_t c = static_cast<uint32_t>(best);
        if (best >= rank(-INFINITY, 0)) break;  // none is left
        if (found == 0) nearest = similarities[c];
        if (tid == 0) args.probes[static_cast<uint64_t>(slot) * args.max_probes + found] = c;
        // Its list is looked into once.
        const CentroidSegment& segment = segments[segment_of(segments, head->num_centroid_segments, c)];
        const uint32_t first = (c - segment.first) / segment.per_list * segment.per_list;
        __syncthreads();
        for (uint32_t i = first + tid; i < min(first + segment.per_list, segment.num); i += THREADS) similarities[segment.first + i] = -INFINITY;
        __syncthreads();
    }
    if (tid == 0) {
        search = Search{};
        search.index_bytes = static_cast<uint64_t>(n) * (d + 4);
        search.candidates = CANDIDATES_LISTED;
        search.tail = head->has_tail ? TAIL_GIVEN : TAIL_NONE;
        search.num_probed = found;
        search.is_outlier = nearest < head->similarity_floor;
        search.repairs = search.is_outlier && args.repairs[row] < args.repair_budgets[row];
    }
}
KERNEL(probe)
