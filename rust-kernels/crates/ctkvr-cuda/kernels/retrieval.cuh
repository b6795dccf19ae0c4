// What the kernels of retrieval share: a head's copy on the device, what a search has found so far, and work that a whole block does together.
// The structs have their twins in src/head_image.rs and src/launch/search_state.rs; sizes are checked on both sides.
#pragma once
#include "slot.cuh"

namespace retrieval {

// Centroids made at one time, and their lists: all as `CentroidSegment` holds them.
struct CentroidSegment {
    uint64_t codes;         // i8 [num, head_dim], 16-byte aligned
    uint64_t scales;        // f32 [num]
    uint64_t list_offsets;  // u32 [lists + 1], into list_bytes
    uint64_t list_bytes;    // u8: gaps to the position before (to -1 for the first), a 0 adds 255 and the gap goes on; readable to the next 16 bytes
    uint32_t first;         // id of its first centroid
    uint32_t num;
    uint32_t len;           // its lists are over so many positions from the region's start on
    uint32_t per_list;      // neighbouring centroids that share a list
};
static_assert(sizeof(CentroidSegment) == 48, "as in Rust");

// Clusters of one stretch of positions.
struct ClusterSegment {
    uint64_t keys;            // means, f16 [num, head_dim], 16-byte aligned; in 8 bits: pages of KV as q8, of mean keys and mean values
    uint64_t values;          // likewise; in 8 bits: the same pages
    uint64_t member_offsets;  // u32 [num + 1], into members
    uint64_t members;         // u32 [len]: positions counted from `start`, ascending in each cluster
    uint64_t cluster_of;      // u16 [len]: the segment's own numbers
    uint32_t first;           // id of its first cluster
    uint32_t num;
    uint32_t start;           // counted from the region's start
    uint32_t len;
    uint32_t is_q8;
    uint32_t reserved;
};
static_assert(sizeof(ClusterSegment) == 64, "as in Rust");

// One (sequence, layer, KV head).
struct Head {
    uint64_t centroid_segments;  // CentroidSegment [num_centroid_segments], those that probes look at, oldest first
    uint64_t cluster_segments;   // ClusterSegment [num_cluster_segments], ascending, without gaps
    uint64_t counts;             // f32 [num_clusters]: positions of each
    uint64_t corrections;        // f32 [group]
    uint32_t num_centroid_segments;
    uint32_t num_cluster_segments;
    uint32_t num_centroids;
    uint32_t num_clusters;
    uint32_t start;  // the region
    uint32_t end;
    uint32_t num_probes;
    uint32_t cluster_probes;
    float similarity_floor;
    uint32_t scores_all;
    uint32_t has_tail;
    uint32_t mean_bytes;  // of all mean keys, and of all mean values
};
static_assert(sizeof(Head) == 80, "as in Rust");

// In the place of a head's address: everything is read.
constexpr uint64_t NO_HEAD = 0;

// Which positions of the region get scores; the same numbers as in Rust.
enum Candidates : uint32_t { CANDIDATES_NONE = 0, CANDIDATES_REGION = 1, CANDIDATES_LISTED = 2, CANDIDATES_ALL = 3 };
enum Tail : uint32_t { TAIL_NONE = 0, TAIL_GIVEN = 1, TAIL_SCORED = 2 };

// What a slot's search has come to.
struct Search {
    uint64_t index_bytes;  // read of the index
    uint32_t candidates;   // Candidates
    uint32_t tail;         // Tail
    uint32_t reads_all;    // whether every candidate is read
    uint32_t num_candidates;
    uint32_t num_selected;
    uint32_t num_probed;
    uint32_t is_outlier;
    uint32_t repairs;        // everything is read because the query is an outlier
    uint32_t most_selected;  // candidates whose values are read, at most
    uint32_t chooses;        // whether so many, or those that reach a share of the weight, are chosen out of more
};
static_assert(sizeof(Search) == 48, "as in Rust");

// Largest score, and sum of e^(score - largest).
struct Total {
    float max, sum;
};

template <class T>
__device__ __forceinline__ const T* at(uint64_t address) {
    return reinterpret_cast<const T*>(address);
}

__device__ __forceinline__ const Head* head_at(uint64_t address) { return address == NO_HEAD ? nullptr : at<Head>(address); }

// The segment of centroid or cluster `id`: the last one whose first is not greater.
template <class S>
__device__ __forceinline__ uint32_t segment_of(const S* segments, uint32_t count, uint32_t id) {
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (segments[middle].first <= id) low = middle;
        else high = middle;
    }
    return low;
}

// The part of a page that holds a position of this slot's head.
__device__ __forceinline__ uint64_t page_at(const SlotLayout& layout, uint32_t position) {
    return at<uint64_t>(layout.pages)[position / PAGE] + layout.head_offset;
}

// e^x for x <= 0, as `exp_nonpositive` of the CPU's kernels: below -87 it is e^-87, so that the same weights tie on both.
__device__ __forceinline__ float exp_nonpositive(float x) {
    x = fmaxf(x, -87.f);
    const float n = rintf(x * 1.44269504f);
    const float r = n * 2.1219444e-4f + (n * -0.6933594f + x);
    float p = 1.9875692e-4f;
    p = p * r + 1.3982e-3f;
    p = p * r + 8.333452e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 0.5f;
    p = p * r * r + (r + 1.f);
    return p * __int_as_float((static_cast<int>(n) + 127) << 23);
}

template <class T>
__device__ __forceinline__ T lanes_sum(T x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

// Sums of the lanes before, and this one.
template <class T>
__device__ __forceinline__ T warp_running_sum(T x) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const T before = __shfl_up_sync(ALL_LANES, x, step);
        if (lane >= static_cast<unsigned>(step)) x += before;
    }
    return x;
}

// Of all THREADS threads of a block. `room`: shared, a value for each warp. Sums are added in one order: a thread's own, the lanes', the warps'.
template <int THREADS>
__device__ __forceinline__ float block_max(float x, float* room) {
    x = warp_max(x);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    float all = room[0];
    for (int w = 1; w < THREADS / 32; w++) all = fmaxf(all, room[w]);
    __syncthreads();
    return all;
}

template <int THREADS, class T>
__device__ __forceinline__ T block_sum(T x, T* room) {
    x = lanes_sum(x);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    T all = room[0];
    for (int w = 1; w < THREADS / 32; w++) all += room[w];
    __syncthreads();
    return all;
}

// What the warps before this one have, of a number that is the same for all lanes of a warp.
template <int THREADS>
__device__ __forceinline__ uint32_t warps_before(uint32_t of_warp, uint32_t* room) {
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = of_warp;
    __syncthreads();
    uint32_t before = 0;
    for (unsigned w = 0; w < threadIdx.x / 32; w++) before += room[w];
    __syncthreads();
    return before;
}

// What the threads before this one have.
template <int THREADS, class T>
__device__ __forceinline__ T threads_before(T of_thread, T* room) {
    const T running = warp_running_sum(of_thread);
    if (threadIdx.x % 32 == 31) room[threadIdx.x / 32] = running;
    __syncthreads();
    T before = running - of_thread;
    for (unsigned w = 0; w < threadIdx.x / 32; w++) before += room[w];
    __syncthreads();
    return before;
}

// Pieces first, first + 1, .. of a row of `pieces` times 16 bytes; 0 beyond its end. All are asked for before the first is used.
constexpr int PIECES = 8;
__device__ __forceinline__ void load_pieces(const void* row, uint32_t first, uint32_t pieces, uint4 (&out)[PIECES]) {
#pragma unroll
    for (int j = 0; j < PIECES; j++) {
        out[j] = uint4{0, 0, 0, 0};
        if (first + j < pieces) out[j] = load_16(static_cast<const uint4*>(row) + first + j);
    }
}

// 16 codes as floats.
__device__ __forceinline__ void widen_codes(const uint4& packed, float (&out)[16]) {
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int b = 0; b < 16; b++) out[b] = static_cast<float>(static_cast<int8_t>(words[b / 4] >> (b % 4 * 8)));
}

// sum + query . x, in order. `query`: shared, aligned to 16 bytes.
template <int N>
__device__ __forceinline__ float add_products(float sum, const float* query, const float (&x)[N]) {
#pragma unroll
    for (int j = 0; j < N; j += 4) {
        const float4 q = *reinterpret_cast<const float4*>(query + j);
        sum += q.x * x[j];
        sum += q.y * x[j + 1];
        sum += q.z * x[j + 2];
        sum += q.w * x[j + 3];
    }
    return sum;
}

// `use(i, load(i))` for the i of this thread, ascending. Eight are loaded before the first is used: they arrive together.
template <int THREADS, class Load, class Use>
__device__ __forceinline__ void each(uint32_t n, const Load& load, const Use& use) {
    constexpr int BATCH = 8;
    for (uint32_t base = threadIdx.x; base < n; base += THREADS * BATCH) {
        decltype(load(0u)) loaded[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (base + j * THREADS < n) loaded[j] = load(base + j * THREADS);
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (base + j * THREADS < n) use(base + j * THREADS, loaded[j]);
    }
}

// Of n things in order, those of this warp: whole words of 32.
template <int THREADS>
__device__ __forceinline__ void warp_share(uint32_t n, uint32_t& first, uint32_t& end) {
    constexpr uint32_t WARPS = THREADS / 32;
    const uint32_t each = ((n + 31) / 32 + WARPS - 1) / WARPS * 32, warp = threadIdx.x / 32;
    first = min(n, each * warp);
    end = min(n, each * (warp + 1));
}

}  // namespace retrieval
