// The lists of an index: which positions of a region some centroids' queries attend to most, and what a sampled query's lookup missed of its
// weight. The heavy part of ctkvr-core's segment_builder.rs, over keys where they lie.
//
// A job is one head's queries over one range of positions: ListJob below, an array of them for a launch. Rows are (query, query head), in order;
// a row's score of a position is q . k / sqrt(D).
//   list_totals    grid (tiles of 128 rows, splits of SPLIT positions, jobs), 256 threads. Of each row and split the largest score and the sum of
//                  e^(score - largest). The sum is NaN where a score is not finite: a key is not.
//   join_totals    grid (blocks of 256 rows, jobs). The same of each row over all splits.
//   list_weights   grid (tiles of lists, splits, jobs), 256 threads. Of each list and position the sum over the list's rows of
//                  e^(score - largest) / sum. Scores are made a second time: to keep them would take 4 bytes of memory for each row and position.
//   list_top       grid (lists, jobs), 512 threads. The list_len positions of largest weight, ascending, ties to the smaller one.
//   missed_weights grid (tiles of 128 rows, splits, jobs), 256 threads. Of each row and split, of weights e^(score - largest): the sum of all
//                  squares, of the squares of those that are not marked as found, and of these themselves.
//
// Bytes of a launch, where no two jobs have the same positions; a key is 2 D as f16, D + D / 8 as q8. Tiles of rows read keys once more, splits
// rows, from the cache.
//   list_totals    read a key a position, 2 D a row; written 8 a row and split.
//   join_totals    read 8 a row and split; written 8 a row.
//   list_weights   read a key a position, 2 D + 8 a row; written 4 a list and position.
//   list_top       read 4 a list and position, five times, unless a list has all positions; written 4 list_len a list.
//   missed_weights read a key a position, 2 D + 4 a row, a bit a query and position (whole pairs of words); written 12 a row and split.
// Products are f16 on tensor cores with f32 sums. Queries are f16 as the engine holds them, f16 keys are as they are; q8 keys are rounded to f16
// (2^-11 of each value). A row's bits depend on its query and its range of positions, never on who else is in the launch: splits and chunks lie
// at fixed places of the range.
// Shared: chunks of 64 keys as f16, or 128 rows of weights in the same place (37 KB); list_top 24 KB of bins.
// Head dimensions 64, 96, 128, 256, any group. Tests: tests/kernels/build_lists.rs; bytes: tests/ledger/builds.rs.
#include "attention.cuh"
#include "top.cuh"

using attention::F16Rows;
using attention::Q8Rows;
using attention::page_of;
using retrieval::Total;

constexpr int THREADS = 256, TILE = 128, CHUNK = 64, TOP_THREADS = 512;
constexpr uint32_t SPLIT = 4096;
// Keys of a chunk whose scores are held at once, where not all have to be: registers are scarce.
constexpr int PART = 32;

struct ListJob {
    uint64_t pages;          // u64 [pages]: addresses of whole pages of 256 positions
    uint64_t head_offset;    // bytes into each page before this head
    const uint16_t* queries; // f16 [rows, D], aligned to 8 bytes
    Total* partials;         // [rows, splits]
    Total* totals;           // [rows]
    float* weights;          // f32 [lists, len]
    uint32_t* selected;      // u32 [lists, list_len]: counted from `first`
    const uint32_t* found;   // u32 [queries, words]: a bit a position; whole pairs of words
    float* missed;           // f32 [rows, splits, 3]
    uint32_t first, len;     // positions
    uint32_t rows;
    uint32_t group;          // rows of a query
    uint32_t rows_per_list;  // of the last list there may be fewer
    uint32_t list_len;
};
static_assert(sizeof(ListJob) == 96, "as ListJob of src/launch/build_lists.rs");

__device__ __forceinline__ uint32_t splits_of(const ListJob& job) { return (job.len + SPLIT - 1) / SPLIT; }

// e^x for x <= 0, and e^-87 below -87, so that what is so little ties as it does on the CPU. One instruction for powers: there is one of these for
// each score, and tensor cores are quick.
__device__ __forceinline__ float exp_floored(float x) { return attention::exp_of(fmaxf(x, -87.f)); }

// Values from one key to the next in shared memory: as in prefill_attend.cu, no bank is met twice.
constexpr int key_stride(int d) { return (2 * d / 64 | 1) * 32; }
// Floats from one row of weights to the next: lanes of a warp write pairs.
constexpr int WEIGHT_STRIDE = CHUNK + 8;

template <int D>
struct __align__(16) Room {
    static constexpr int KEY_BYTES = CHUNK * key_stride(D) * 2, WEIGHT_BYTES = TILE * WEIGHT_STRIDE * 4;
    unsigned char bytes[KEY_BYTES > WEIGHT_BYTES ? KEY_BYTES : WEIGHT_BYTES];
};

// The 16 rows of this warp, as left operands. Lane (g, t) has rows g and g + 8; rows that are not there are 0.
template <int D>
struct Queries {
    unsigned values[D / 16][4];

    __device__ __forceinline__ void load(const ListJob& job, uint32_t first_row, uint32_t end_row) {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int step = 0; step < D / 16; step++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const uint32_t row = first_row + g + 8 * r;
                uint2 pair = {0, 0};
                if (row < end_row) pair = __ldg(reinterpret_cast<const uint2*>(job.queries + static_cast<uint64_t>(row) * D + step / 2 * 32 + 8 * t + step % 2 * 4));
                values[step][r] = pair.x;
                values[step][r + 2] = pair.y;
            }
    }
};

// Keys chunk, chunk + 1, .. of the job's range to shared memory; those behind `end` are 0.
template <int D, class Rows>
__device__ __forceinline__ void stage(const ListJob& job, uint32_t chunk, uint32_t end, unsigned short* keys) {
    constexpr int PIECES = D / 8;
#pragma unroll
    for (int from = 0; from < CHUNK * PIECES; from += THREADS) {
        const int i = (from + threadIdx.x) / PIECES, d = (from + threadIdx.x) % PIECES * 8;
        uint4 piece = {0, 0, 0, 0};
        if (chunk + i < end) {
            const uint32_t position = job.first + chunk + i;
            piece = Rows::load(page_of(job.pages, job.head_offset, position), position % PAGE, d);
        }
        *reinterpret_cast<uint4*>(&keys[i * key_stride(D) + d]) = piece;
    }
}

// Scores of the warp's rows and 8 N keys: of rows g and g + 8, keys 8 n + 2t, 8 n + 2t + 1.
template <int D, int N>
__device__ __forceinline__ void score(const Queries<D>& queries, const unsigned short* keys, float scale, float (&scores)[N][4]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < N; n++) scores[n][0] = scores[n][1] = scores[n][2] = scores[n][3] = 0.f;
#pragma unroll
    for (int j = 0; j < D / 32; j++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            const uint4 right = *reinterpret_cast<const uint4*>(&keys[(8 * n + g) * key_stride(D) + 32 * j + 8 * t]);
            mma_f16(scores[n], queries.values[2 * j], {right.x, right.y});
            mma_f16(scores[n], queries.values[2 * j + 1], {right.z, right.w});
        }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) scores[n][i] *= scale;
}

// The place of a lane's i-th score of n among the keys that were scored together.
__device__ __forceinline__ uint32_t place_of(int n, int i) { return 8 * n + threadIdx.x % 4 * 2 + i % 2; }

template <class T>
__device__ __forceinline__ T quad_sum(T x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

template <int D, class Rows>
__device__ __forceinline__ void list_totals(const ListJob& job, float scale) {
    __shared__ Room<D> room;
    auto* const keys = reinterpret_cast<unsigned short*>(room.bytes);
    const uint32_t first = blockIdx.y * SPLIT, end = min(job.len, first + SPLIT), g = threadIdx.x % 32 / 4;
    const uint32_t first_row = blockIdx.x * TILE + threadIdx.x / 32 * 16;
    if (first >= end || blockIdx.x * TILE >= job.rows) return;
    Queries<D> queries;
    queries.load(job, first_row, job.rows);
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (uint32_t chunk = first; chunk < end; chunk += CHUNK) {
        __syncthreads();  // nobody reads the last chunk any more
        stage<D, Rows>(job, chunk, end, keys);
        __syncthreads();
        if (first_row >= job.rows) continue;
#pragma unroll 1
        for (uint32_t part = 0; part < CHUNK; part += PART) {
            float scores[PART / 8][4], largest[2] = {top[0], top[1]};
            score<D, PART / 8>(queries, keys + part * key_stride(D), scale, scores);
            const auto is_there = [&](int n, int i) { return chunk + part + place_of(n, i) < end; };
#pragma unroll
            for (int n = 0; n < PART / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (is_there(n, i)) largest[i / 2] = fmaxf(largest[i / 2], scores[n][i]);
#pragma unroll
            for (int r = 0; r < 2; r++) {
                largest[r] = fmaxf(largest[r], __shfl_xor_sync(ALL_LANES, largest[r], 1));
                largest[r] = fmaxf(largest[r], __shfl_xor_sync(ALL_LANES, largest[r], 2));
                sum[r] *= exp_floored(top[r] - largest[r]);
                top[r] = largest[r];
            }
#pragma unroll
            for (int n = 0; n < PART / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    // 0 times what is not finite is NaN.
                    if (is_there(n, i)) sum[i / 2] += exp_floored(scores[n][i] - top[i / 2]) + scores[n][i] * 0.f;
        }
    }
    if (first_row >= job.rows) return;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t row = first_row + g + 8 * r;
        const Total total{top[r], quad_sum(sum[r])};
        if (row < job.rows && threadIdx.x % 4 == 0) job.partials[static_cast<uint64_t>(row) * splits_of(job) + blockIdx.y] = total;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) join_totals(const ListJob* jobs) {
    const ListJob job = jobs[blockIdx.y];
    const uint32_t row = blockIdx.x * THREADS + threadIdx.x, splits = splits_of(job);
    if (row >= job.rows) return;
    const Total* partials = job.partials + static_cast<uint64_t>(row) * splits;
    float most = -INFINITY, sum = 0.f;
    for (uint32_t s = 0; s < splits; s++) most = fmaxf(most, partials[s].max);
    for (uint32_t s = 0; s < splits; s++) sum += partials[s].sum * exp_floored(partials[s].max - most);
    job.totals[row] = Total{most, sum};
}
KERNEL(join_totals)

template <int D, class Rows>
__device__ __forceinline__ void list_weights(const ListJob& job, float scale) {
    __shared__ Room<D> room;
    __shared__ float factors[TILE];
    auto* const keys = reinterpret_cast<unsigned short*>(room.bytes);
    auto* const tile = reinterpret_cast<float*>(room.bytes);
    const uint32_t tid = threadIdx.x, g = tid % 32 / 4, per_list = job.rows_per_list, num_lists = (job.rows + per_list - 1) / per_list;
    const uint32_t lists_a_tile = max(1u, TILE / per_list), first_list = blockIdx.x * lists_a_tile, end_list = min(num_lists, first_list + lists_a_tile);
    const uint32_t first = blockIdx.y * SPLIT, end = min(job.len, first + SPLIT);
    if (first >= end || first_list >= num_lists) return;
    const uint32_t end_row = min(job.rows, end_list * per_list);
    // More than once only for a list of more rows than a tile has.
    for (uint32_t tile_row = first_list * per_list; tile_row < end_row; tile_row += TILE) {
        const uint32_t first_row = tile_row + tid / 32 * 16, tile_end = min(end_row, tile_row + TILE);
        const bool has_rows = first_row < tile_end;
        Queries<D> queries;
        queries.load(job, first_row, tile_end);
        float most[2];
#pragma unroll
        for (int r = 0; r < 2; r++) most[r] = first_row + g + 8 * r < tile_end ? job.totals[first_row + g + 8 * r].max : 0.f;
        __syncthreads();  // nobody reads the last tile's factors any more
        if (tid < TILE) factors[tid] = tile_row + tid < tile_end ? 1.f / job.totals[tile_row + tid].sum : 0.f;
        for (uint32_t chunk = first; chunk < end; chunk += CHUNK) {
            __syncthreads();
            stage<D, Rows>(job, chunk, end, keys);
            __syncthreads();
            float scores[CHUNK / 8][4];
            if (has_rows) score<D, CHUNK / 8>(queries, keys, scale, scores);
            __syncthreads();  // weights take the place of keys
            if (has_rows) {
#pragma unroll
                for (int n = 0; n < CHUNK / 8; n++)
#pragma unroll
                    for (int r = 0; r < 2; r++)
                        *reinterpret_cast<float2*>(&tile[(first_row - tile_row + g + 8 * r) * WEIGHT_STRIDE + place_of(n, 0)]) =
                            float2{exp_floored(scores[n][2 * r] - most[r]), exp_floored(scores[n][2 * r + 1] - most[r])};
            }
            __syncthreads();
            const uint32_t key = tid % CHUNK, place = chunk + key;
            for (uint32_t list = first_list + tid / CHUNK; place < end && list < end_list; list += THREADS / CHUNK) {
                float* const weight = job.weights + static_cast<uint64_t>(list) * job.len + place;
                float sum = list * per_list >= tile_row ? 0.f : *weight;
                const uint32_t from = max(list * per_list, tile_row), to = min((list + 1) * per_list, tile_end);
                for (uint32_t row = from; row < to; row++) sum = fmaf(tile[(row - tile_row) * WEIGHT_STRIDE + key], factors[row - tile_row], sum);
                *weight = sum;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(TOP_THREADS, 1) list_top(const ListJob* jobs) {
    __shared__ retrieval::TopRoom<TOP_THREADS> room;
    const ListJob job = jobs[blockIdx.y];
    const uint32_t list = blockIdx.x, n = job.len, k = job.list_len;
    if (static_cast<uint64_t>(list) * job.rows_per_list >= job.rows) return;
    const float* weights = job.weights + static_cast<uint64_t>(list) * n;
    uint32_t* selected = job.selected + static_cast<uint64_t>(list) * k;
    const auto weight = [&](uint32_t i) { return weights[i]; };
    if (k >= n) {
        for (uint32_t i = threadIdx.x; i < n; i += TOP_THREADS) selected[i] = i;
        return;
    }
    const retrieval::Threshold chosen = retrieval::largest<TOP_THREADS>(n, weight, k, room);
    retrieval::take_largest<TOP_THREADS>(
        n, weight, chosen, room, [&](uint32_t rank, uint32_t i) { selected[rank] = i; }, [](uint32_t, uint32_t) {});
}
KERNEL(list_top)

template <int D, class Rows>
__device__ __forceinline__ void missed_weights(const ListJob& job, float scale) {
    __shared__ Room<D> room;
    auto* const keys = reinterpret_cast<unsigned short*>(room.bytes);
    const uint32_t first = blockIdx.y * SPLIT, end = min(job.len, first + SPLIT), g = threadIdx.x % 32 / 4;
    const uint32_t first_row = blockIdx.x * TILE + threadIdx.x / 32 * 16;
    if (first >= end || blockIdx.x * TILE >= job.rows) return;
    Queries<D> queries;
    queries.load(job, first_row, job.rows);
    const uint32_t words = (job.len + 63) / 64 * 2;
    float most[2];
    const uint32_t* found[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t row = min(first_row + g + 8 * r, job.rows - 1);
        most[r] = job.totals[row].max;
        found[r] = job.found + static_cast<uint64_t>(row / job.group) * words;
    }
    float all_squares[2] = {}, squares[2] = {}, sums[2] = {};
    for (uint32_t chunk = first; chunk < end; chunk += CHUNK) {
        __syncthreads();
        stage<D, Rows>(job, chunk, end, keys);
        __syncthreads();
        if (first_row >= job.rows) continue;
#pragma unroll 1
        for (uint32_t part = 0; part < CHUNK; part += PART) {
            float scores[PART / 8][4];
            score<D, PART / 8>(queries, keys + part * key_stride(D), scale, scores);
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const uint32_t marks = __ldg(found[r] + (chunk + part) / 32);
#pragma unroll
                for (int n = 0; n < PART / 8; n++)
#pragma unroll
                    for (int i = 2 * r; i < 2 * r + 2; i++) {
                        const uint32_t place = place_of(n, i);
                        if (chunk + part + place >= end) continue;
                        const float weight = exp_floored(scores[n][i] - most[r]), square = weight * weight;
                        const bool is_found = marks >> place & 1;
                        all_squares[r] += square;
                        squares[r] += is_found ? 0.f : square;
                        sums[r] += is_found ? 0.f : weight;
                    }
            }
        }
    }
    if (first_row >= job.rows) return;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t row = first_row + g + 8 * r;
        const float of_row[3] = {quad_sum(all_squares[r]), quad_sum(squares[r]), quad_sum(sums[r])};
        if (row < job.rows && threadIdx.x % 4 == 0)
            for (int i = 0; i < 3; i++) job.missed[(static_cast<uint64_t>(row) * splits_of(job) + blockIdx.y) * 3 + i] = of_row[i];
    }
}

// One for each head dimension and format, of which `blocks` share a multiprocessor's registers; but for the largest heads.
#define OVER_KEYS(what, name, D, Rows, blocks)                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, D > 128 ? 1 : blocks)                    \
    what##_##name##_d##D(const ListJob* jobs, float scale) {                                       \
        const ListJob job = jobs[blockIdx.z];                                                      \
        what<D, Rows<D>>(job, scale);                                                              \
    }                                                                                              \
    KERNEL(what##_##name##_d##D)
#define OVER_KEYS_OF(what, D, blocks)              \
    OVER_KEYS(what, f16, D, F16Rows, blocks)       \
    OVER_KEYS(what, q8, D, Q8Rows, blocks)
#define OVER_ALL_KEYS(what, blocks) \
    OVER_KEYS_OF(what, 64, blocks) OVER_KEYS_OF(what, 96, blocks) OVER_KEYS_OF(what, 128, blocks) OVER_KEYS_OF(what, 256, blocks)
OVER_ALL_KEYS(list_totals, 2)
OVER_ALL_KEYS(list_weights, 2)
OVER_ALL_KEYS(missed_weights, 2)
