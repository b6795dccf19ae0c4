// The candidates of a slot: the lists of the probed centroids joined, and then all that is marked as an ascending list.
//
// join_lists   grid (slots), 512 threads. A bit for each position of the region in `marks`. A warp takes a list: 512 gap bytes in one go, 16 a
//              lane, whose running sum gives their positions. Positions behind the first probe's segment are marked all of them. Of clusters,
//              `left` counts the positions that are not marked: cluster sizes, less one for each marked member. Counts repairs of the row.
//              Bytes a slot that probes: read the lists' gap bytes in whole pieces of 16, 8 of a list (its offsets, which neighbours share),
//              4 a probe, 4 a cluster and (with clusters) 2 a marked position; written n / 8 (whole words), 4 a cluster.
// list_marked  grid (slots), 512 threads. Positions of the marks, ascending, and what is asked of the choice (`Searched::search`): how many
//              there are, how many are read at most, whether there is a choice. Bytes a slot whose candidates are listed: read n / 8 (whole words), written
//              4 a candidate.
//
// Marks and counts are integers: the order of the atomics is of no account. The same as `CentroidIndex::union` and `list_marked` of the CPU.
// Tests: tests/kernels/join.rs; bytes: tests/ledger/retrieval_bytes.rs.
#include "retrieval.cuh"

using namespace retrieval;

constexpr int THREADS = 512, WARPS = THREADS / 32, LANE_BYTES = 16;

struct JoinArgs {
    const uint64_t* heads;     // [slots]
    const SlotLayout* slots;   // [slots]
    const uint32_t* probes;    // [slots, max_probes]
    uint32_t* marks;           // [slots, words]: bit p % 32 of word p / 32 is position start + p
    uint32_t* left;            // [slots, max_clusters]
    uint32_t* candidates;      // [slots, max_region]
    uint32_t* repairs;         // [rows]
    Search* searches;          // [slots]
    uint32_t num_kv_heads, max_probes, words, max_clusters, max_region, reserved;
};
static_assert(sizeof(JoinArgs) == 88, "as in Rust");

// Marks a list whose gap bytes are begin..end of `bytes`, by one warp.
__device__ void mark_list(const uint8_t* bytes, uint32_t begin, uint32_t end, uint32_t* marks) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t base = 0;  // one more than the last position
    for (uint32_t first = begin / LANE_BYTES * LANE_BYTES; first < end; first += 32 * LANE_BYTES) {
        const uint32_t mine = first + lane * LANE_BYTES;
        uint4 bits = {0, 0, 0, 0};
        if (mine < end) bits = __ldg(reinterpret_cast<const uint4*>(bytes + mine));
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
        uint32_t sum = 0;
#pragma unroll
        for (int b = 0; b < LANE_BYTES; b++) {
            const uint32_t gap = words[b / 4] >> (b % 4 * 8) & 255, is_there = mine + b >= begin && mine + b < end;
            sum += is_there ? (gap == 0 ? 255 : gap) : 0;
        }
        const uint32_t running = warp_running_sum(sum);
        uint32_t next = base + running - sum, word = 0, pending = 0;
#pragma unroll
        for (int b = 0; b < LANE_BYTES; b++) {
            const uint32_t gap = words[b / 4] >> (b % 4 * 8) & 255, is_there = mine + b >= begin && mine + b < end;
            if (!is_there) continue;
            next += gap == 0 ? 255 : gap;
            if (gap == 0) continue;
            const uint32_t position = next - 1;
            if (position / 32 != word && pending) {
                atomicOr(&marks[word], pending);
                pending = 0;
            }
            word = position / 32;
            pending |= 1u << (position % 32);
        }
        if (pending) atomicOr(&marks[word], pending);
        base += __shfl_sync(ALL_LANES, running, 31);
    }
}

// Bits first..end of word w, of a range of positions.
__device__ __forceinline__ uint32_t bits_within(uint32_t w, uint32_t first, uint32_t end) {
    const uint32_t low = max(first, 32 * w), high = min(end, 32 * w + 32);
    if (low >= high) return 0;
    return (high - low == 32 ? ~0u : (1u << (high - low)) - 1) << (low - 32 * w);
}

// Takes the marked positions of word w out of what is left of their clusters.
__device__ void take_out(const ClusterSegment* segments, uint32_t count, uint32_t w, uint32_t bits, uint32_t* left) {
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (segments[middle].start <= 32 * w) low = middle;
        else high = middle;
    }
    while (bits) {
        const uint32_t position = 32 * w + __ffs(bits) - 1;
        bits &= bits - 1;
        while (low + 1 < count && segments[low + 1].start <= position) low++;
        const ClusterSegment& segment = segments[low];
        atomicSub(&left[segment.first + at<uint16_t>(segment.cluster_of)[position - segment.start]], 1u);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) join_lists(JoinArgs args) {
    __shared__ uint32_t room[WARPS];
    const uint32_t slot = blockIdx.x, tid = threadIdx.x;
    const Head* head = head_at(args.heads[slot]);
    Search& search = args.searches[slot];
    if (!head || search.candidates != CANDIDATES_LISTED) return;
    const uint32_t n = head->end - head->start, words = (n + 31) / 32, num_probed = search.num_probed;
    uint32_t* marks = args.marks + static_cast<uint64_t>(slot) * args.words;
    uint32_t* left = args.left + static_cast<uint64_t>(slot) * args.max_clusters;
    for (uint32_t w = tid; w < words; w += THREADS) marks[w] = 0;
    if (head->has_tail)
        for (uint32_t c = tid; c < head->num_clusters; c += THREADS) left[c] = static_cast<uint32_t>(at<float>(head->counts)[c]);
    __syncthreads();

    const CentroidSegment* segments = at<CentroidSegment>(head->centroid_segments);
    const uint32_t* probes = args.probes + static_cast<uint64_t>(slot) * args.max_probes;
    uint32_t bytes = 0;
    for (uint32_t i = tid / 32; i < num_probed; i += WARPS) {
        const CentroidSegment& segment = segments[segment_of(segments, head->num_centroid_segments, probes[i])];
        const uint32_t* offsets = at<uint32_t>(segment.list_offsets) + (probes[i] - segment.first) / segment.per_list;
        mark_list(at<uint8_t>(segment.list_bytes), offsets[0], offsets[1], marks);
        bytes += offsets[1] - offsets[0];
    }
    if (num_probed > 0) {
        const uint32_t from = segments[segment_of(segments, head->num_centroid_segments, probes[0])].len;
        for (uint32_t w = from / 32 + tid; w < words; w += THREADS) atomicOr(&marks[w], bits_within(w, from, n));
    }
    bytes = block_sum<THREADS>(tid % 32 == 0 ? bytes : 0, room);

    const ClusterSegment* clusters = at<ClusterSegment>(head->cluster_segments);
    uint32_t taken = 0;
    for (uint32_t w = tid; w < words; w += THREADS) {
        const uint32_t bits = marks[w];
        taken += __popc(bits);
        if (head->has_tail && head->num_cluster_segments > 0) take_out(clusters, head->num_cluster_segments, w, bits, left);
    }
    taken = block_sum<THREADS>(taken, room);
    if (tid == 0) {
        search.index_bytes += bytes;
        if (head->has_tail) search.index_bytes += head->mean_bytes + 4ull * head->num_clusters + 2ull * taken;
        if (search.repairs) atomicAdd(&args.repairs[slot / args.num_kv_heads], 1u);
    }
}
KERNEL(join_lists)

// Writes start + p for every marked p, ascending; returns how many. n: positions.
__device__ uint32_t write_marked(const uint32_t* marks, uint32_t n, uint32_t start, uint32_t* out) {
    __shared__ uint32_t room[WARPS];
    const uint32_t lane = threadIdx.x % 32;
    uint32_t first, end;
    warp_share<THREADS>(n, first, end);
    uint32_t count = 0;
    for (uint32_t p = first + 32 * lane; p < end; p += 32 * 32) count += __popc(marks[p / 32]);
    count = lanes_sum(count);
    uint32_t place = warps_before<THREADS>(count, room);
    const uint32_t all = block_sum<THREADS>(lane == 0 ? count : 0, room);
    for (uint32_t p = first; p < end; p += 32 * 32) {
        const uint32_t mine = p + 32 * lane < end ? marks[p / 32 + lane] : 0;
        for (uint32_t w = 0; w < 32; w++) {
            const uint32_t bits = __shfl_sync(ALL_LANES, mine, w);
            if (bits >> lane & 1) out[place + __popc(bits & ((1u << lane) - 1))] = start + p + 32 * w + lane;
            place += __popc(bits);
        }
    }
    return all;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) list_marked(JoinArgs args) {
    const uint32_t slot = blockIdx.x;
    Search& search = args.searches[slot];
    const SlotLayout& layout = args.slots[slot];
    const bool is_listed = search.candidates == CANDIDATES_LISTED, repairs = search.repairs;
    uint32_t listed = search.num_candidates;
    if (is_listed && !repairs) {
        const uint32_t* marks = args.marks + static_cast<uint64_t>(slot) * args.words;
        listed = write_marked(marks, layout.end - layout.start, layout.start, args.candidates + static_cast<uint64_t>(slot) * args.max_region);
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    if (repairs) {
        search.candidates = CANDIDATES_ALL;
        search.tail = TAIL_NONE;
    }
    const uint32_t n = search.candidates == CANDIDATES_NONE ? 0 : search.candidates == CANDIDATES_LISTED ? listed : layout.end - layout.start;
    const bool all = search.reads_all || search.candidates == CANDIDATES_ALL;
    search.num_candidates = n;
    search.num_selected = 0;
    search.most_selected = all || layout.max_selected == 0 ? n : min(layout.max_selected, n);
    // What the host scores is chosen there.
    search.chooses = !layout.on_host && n > 0 && (search.most_selected < n || (!all && layout.top_p < 1.f));
}
KERNEL(list_marked)
