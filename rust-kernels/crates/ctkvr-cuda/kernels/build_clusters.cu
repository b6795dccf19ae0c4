// Clusters of keys and values of stretches of positions, as ctkvr-core's k_means.rs and tail/segment.rs make them: k-means over joint rows (a
// key, then its value times a power of two) with the likeness of a distance. Two rounds of assigning, one move in between, then means.
//
// Jobs are heads, stretches some thousand positions of one: ClusterJob and Stretch below, arrays of them for a launch. D: head_dim.
//   cluster_spreads  grid (stretches), 2 D threads. Sums of each joint dimension, and of the squares of keys and of values, f64.
//   cluster_weights  grid (jobs), 512 threads. The power of two that makes values spread as far as keys.
//   cluster_starts   grid (stretches, most clusters), 64 threads. First centres: rows spread evenly over the stretch.
//   cluster_assign   grid (stretches, most tiles of 64 rows), 256 threads. Each row's nearest centre, ties to the smaller one.
//   cluster_move     grid (stretches, most clusters), 64 threads. A centre becomes its rows' mean; one without rows stays.
//   cluster_means    as that. Mean keys and mean values, f32, which the host rounds as the core does; 0 of an empty cluster.
//
// Bytes of a launch, where no two jobs have the same positions; a row is a key and its value, 4 D as f16, 2 D + D / 4 as q8:
//   cluster_spreads  read a row a position; written 16 D + 16 a stretch.
//   cluster_weights  read 16 D + 16 a stretch; written 4 a job.
//   cluster_starts   read a row a cluster, 4 a job; written 8 D + 4 a cluster.
//   cluster_assign   read a row a position, 8 D + 4 a cluster, 4 a job; written 2 a position. Rows are read once more for each 64 clusters of a
//                    stretch, clusters for each tile of rows: from the cache.
//   cluster_move     read a row and 2 a position, 4 a job; written 8 D + 4 a cluster that has rows.
//   cluster_means    read a row and 2 a position; written 8 D a cluster.
// The same bits as the CPU's where that has fused multiply-add: products are added in the order of dimensions, rows in theirs. f32 on CUDA cores:
// a centre is no f16. Shared: spreads 144 D bytes (dynamic), assign 18 KB. Any head_dim that is a multiple of 32, up to 256.
// Tests: tests/kernels/build_clusters.rs; bytes: tests/ledger/builds.rs.
#include "stored_rows.cuh"

constexpr int MOST_JOINT = 512;  // 2 D
constexpr int SPREAD_LANES = 8, WEIGHT_THREADS = MOST_JOINT, CLUSTER_THREADS = 64;
constexpr int ASSIGN_THREADS = 256, TILE = 64, DEPTH = 32, STRIDE = DEPTH + 4;

struct ClusterJob {
    uint64_t pages;        // u64 [pages]: addresses of whole pages of 256 positions
    uint64_t head_offset;  // bytes into each page before this head
    uint32_t first_stretch, num_stretches;
    uint32_t len;          // positions of all of them
    uint32_t reserved;
};
static_assert(sizeof(ClusterJob) == 32, "as ClusterJob of src/launch/build_clusters.rs");

struct Stretch {
    uint32_t job;
    uint32_t position;       // of its first row
    uint32_t len;
    uint32_t first_row;      // in `assigned`
    uint32_t first_cluster;  // in `centres` and means
    uint32_t num_clusters;   // at most 65536
};
static_assert(sizeof(Stretch) == 24, "as Stretch of src/launch/build_clusters.rs");

struct ClusterArgs {
    const ClusterJob* jobs;     // [jobs]
    const Stretch* stretches;   // [stretches]
    double* spreads;            // f64 [stretches, 2 D + 2]
    float* weights;             // f32 [jobs]
    uint16_t* assigned;         // u16 [rows]: counted from the stretch's first cluster
    float* centres;             // f32 [clusters, 2 D], aligned to 16 bytes
    float* offsets;             // f32 [clusters]: -|centre|^2 / 2
    float* keys;                // f32 [clusters, D], aligned to 16 bytes
    float* values;              // f32 [clusters, D], likewise
    uint32_t head_dim, reserved;
};
static_assert(sizeof(ClusterArgs) == 80, "as ClusterArgs of src/launch/build_clusters.rs");

// Eight joint dimensions from k on of a position, values not weighted.
template <class Row>
__device__ __forceinline__ void load_joint(const ClusterJob& job, uint32_t position, uint32_t k, uint32_t head_dim, float (&out)[8]) {
    const uint64_t page = retrieval::at<uint64_t>(job.pages)[position / PAGE] + job.head_offset;
    const bool is_value = k >= head_dim;
    Row(page, position % PAGE + (is_value ? PAGE : 0), head_dim).load(is_value ? k - head_dim : k, out);
}

template <class Row>
__device__ __forceinline__ void cluster_spreads(const ClusterArgs& args) {
    DYNAMIC_SHARED(double, room);  // [SPREAD_LANES, 2 D] sums, then [SPREAD_LANES, D / 4] squares
    const uint32_t d = args.head_dim, joint = 2 * d, columns = joint / 8, tid = threadIdx.x, column = tid % columns, lane = tid / columns;
    const Stretch stretch = args.stretches[blockIdx.x];
    double sums[8] = {}, squares = 0.0;
    for (uint32_t i = lane; i < stretch.len; i += SPREAD_LANES) {
        float x[8];
        load_joint<Row>(args.jobs[stretch.job], stretch.position + i, column * 8, d, x);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[j] += x[j];
            squares += static_cast<double>(x[j]) * x[j];
        }
    }
    for (int j = 0; j < 8; j++) room[lane * joint + column * 8 + j] = sums[j];
    room[SPREAD_LANES * joint + lane * columns + column] = squares;
    __syncthreads();
    double* const out = args.spreads + static_cast<uint64_t>(blockIdx.x) * (joint + 2);
    if (tid < joint) {
        double sum = 0.0;
        for (int l = 0; l < SPREAD_LANES; l++) sum += room[l * joint + tid];
        out[tid] = sum;
    }
    if (tid < 2) {
        double all = 0.0;
        for (uint32_t l = 0; l < SPREAD_LANES; l++)
            for (uint32_t c = tid * columns / 2; c < (tid + 1) * columns / 2; c++) all += room[SPREAD_LANES * joint + l * columns + c];
        out[joint + tid] = all;
    }
}

extern "C" __global__ void __launch_bounds__(WEIGHT_THREADS) cluster_weights(ClusterArgs args) {
    __shared__ double room[WEIGHT_THREADS / 32];
    const ClusterJob job = args.jobs[blockIdx.x];
    const uint32_t joint = 2 * args.head_dim, tid = threadIdx.x;
    const double* spreads = args.spreads + static_cast<uint64_t>(job.first_stretch) * (joint + 2);
    double sum = 0.0, squares = 0.0;
    for (uint32_t s = 0; s < job.num_stretches; s++) {
        if (tid < joint) sum += spreads[static_cast<uint64_t>(s) * (joint + 2) + tid];
        if (tid < 2) squares += spreads[static_cast<uint64_t>(s) * (joint + 2) + joint + tid];
    }
    // Of keys, then of values: the squares, less the square of the sum for each dimension.
    double spread[2];
    for (uint32_t side = 0; side < 2; side++) {
        const bool is_mine = tid < joint && tid / args.head_dim == side;
        const double means = retrieval::block_sum<WEIGHT_THREADS>(is_mine ? sum * sum : 0.0, room);
        const double all = retrieval::block_sum<WEIGHT_THREADS>(tid == side ? squares : 0.0, room);
        spread[side] = all - means / job.len;
    }
    if (tid == 0) args.weights[blockIdx.x] = spread[0] > 0.0 && spread[1] > 0.0 ? static_cast<float>(exp2(round(0.5 * log2(spread[0] / spread[1])))) : 1.f;
}
KERNEL(cluster_weights)

// A centre, and its offset, from the eight dimensions that each of the first D / 4 threads has.
__device__ __forceinline__ void store_centre(const ClusterArgs& args, uint32_t cluster, const float (&x)[8]) {
    __shared__ float centre[MOST_JOINT];
    const uint32_t joint = 2 * args.head_dim, tid = threadIdx.x;
    if (tid < joint / 8) {
        for (int j = 0; j < 8; j++) centre[tid * 8 + j] = x[j];
        float* const out = args.centres + static_cast<uint64_t>(cluster) * joint + tid * 8;
        *reinterpret_cast<float4*>(out) = float4{x[0], x[1], x[2], x[3]};
        *reinterpret_cast<float4*>(out + 4) = float4{x[4], x[5], x[6], x[7]};
    }
    __syncthreads();
    if (tid != 0) return;
    // In the CPU's order, without fused sums.
    float squares = 0.f;
    for (uint32_t k = 0; k < joint; k++) squares = __fadd_rn(squares, __fmul_rn(centre[k], centre[k]));
    args.offsets[cluster] = -0.5f * squares;
}

template <class Row>
__device__ __forceinline__ void cluster_starts(const ClusterArgs& args) {
    const Stretch stretch = args.stretches[blockIdx.x];
    const uint32_t c = blockIdx.y, d = args.head_dim, tid = threadIdx.x;
    if (c >= stretch.num_clusters) return;
    const uint32_t row = static_cast<uint32_t>((2ull * c + 1) * stretch.len / (2ull * stretch.num_clusters));
    float x[8] = {};
    if (tid < d / 4) {
        load_joint<Row>(args.jobs[stretch.job], stretch.position + row, tid * 8, d, x);
        const float weight = tid * 8 < d ? 1.f : args.weights[stretch.job];
        for (int j = 0; j < 8; j++) x[j] *= weight;
    }
    store_centre(args, stretch.first_cluster + c, x);
}

template <class Row>
__device__ __forceinline__ void cluster_assign(const ClusterArgs& args) {
    __shared__ __align__(16) float rows[TILE][STRIDE];
    __shared__ __align__(16) float centres[TILE][STRIDE];
    const Stretch stretch = args.stretches[blockIdx.x];
    const uint32_t tid = threadIdx.x, y = tid / 16, x = tid % 16, d = args.head_dim, joint = 2 * d, first = blockIdx.y * TILE;
    if (first >= stretch.len) return;
    const ClusterJob job = args.jobs[stretch.job];
    const float weight = args.weights[stretch.job];
    // This thread's rows y + 16 i; of them the best centre so far.
    float best[4];
    uint32_t nearest[4];
    for (int i = 0; i < 4; i++) best[i] = -INFINITY, nearest[i] = 0xffffffffu;
    for (uint32_t from = 0; from < stretch.num_clusters; from += TILE) {
        const uint32_t count = min(static_cast<uint32_t>(TILE), stretch.num_clusters - from);
        const uint64_t first_centre = stretch.first_cluster + from;
        float likeness[4][4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float offset = x + 16 * j < count ? args.offsets[first_centre + x + 16 * j] : 0.f;
            for (int i = 0; i < 4; i++) likeness[i][j] = offset;
        }
        for (uint32_t k = 0; k < joint; k += DEPTH) {
            __syncthreads();
            {
                const uint32_t row = tid / 4, piece = tid % 4 * 8;
                float values[8] = {};
                if (first + row < stretch.len) {
                    load_joint<Row>(job, stretch.position + first + row, k + piece, d, values);
                    if (k >= d)
                        for (int j = 0; j < 8; j++) values[j] *= weight;
                }
                *reinterpret_cast<float4*>(&rows[row][piece]) = float4{values[0], values[1], values[2], values[3]};
                *reinterpret_cast<float4*>(&rows[row][piece + 4]) = float4{values[4], values[5], values[6], values[7]};
            }
            for (uint32_t i = tid; i < TILE * DEPTH / 4; i += ASSIGN_THREADS) {
                const uint32_t c = i / (DEPTH / 4), piece = i % (DEPTH / 4) * 4;
                float4 values = {0.f, 0.f, 0.f, 0.f};
                if (c < count) values = *reinterpret_cast<const float4*>(args.centres + (first_centre + c) * joint + k + piece);
                *reinterpret_cast<float4*>(&centres[c][piece]) = values;
            }
            __syncthreads();
#pragma unroll
            for (int at = 0; at < DEPTH; at += 4) {
                float4 left[4];
#pragma unroll
                for (int i = 0; i < 4; i++) left[i] = *reinterpret_cast<const float4*>(&rows[y + 16 * i][at]);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (16u * j >= count) break;
                    const float4 right = *reinterpret_cast<const float4*>(&centres[x + 16 * j][at]);
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        float sum = likeness[i][j];
                        sum = fmaf(left[i].x, right.x, sum);
                        sum = fmaf(left[i].y, right.y, sum);
                        sum = fmaf(left[i].z, right.z, sum);
                        likeness[i][j] = fmaf(left[i].w, right.w, sum);
                    }
                }
            }
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < 4; i++)
                if (x + 16 * j < count && likeness[i][j] > best[i]) best[i] = likeness[i][j], nearest[i] = from + x + 16 * j;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        // Of the 16 threads that have this row.
        for (int by = 8; by > 0; by /= 2) {
            const float other = __shfl_xor_sync(ALL_LANES, best[i], by);
            const uint32_t id = __shfl_xor_sync(ALL_LANES, nearest[i], by);
            if (other > best[i] || (other == best[i] && id < nearest[i])) best[i] = other, nearest[i] = id;
        }
        const uint32_t row = first + y + 16 * i;
        // Of a row that is no number: the first.
        if (x == 0 && row < stretch.len) args.assigned[stretch.first_row + row] = nearest[i] == 0xffffffffu ? 0 : nearest[i];
    }
}

// Sums of a cluster's rows, in their order, of the eight joint dimensions of each of the first D / 4 threads; how many there are.
template <class Row, class Sum>
__device__ __forceinline__ uint32_t add_rows(const ClusterArgs& args, const Stretch& stretch, uint32_t c, float value_weight, Sum (&sums)[8]) {
    const uint32_t tid = threadIdx.x, lane = tid % 32, d = args.head_dim;
    const ClusterJob job = args.jobs[stretch.job];
    const float weight = tid * 8 < d ? 1.f : value_weight;
    const uint16_t* assigned = args.assigned + stretch.first_row;
    uint32_t count = 0;
    for (uint32_t base = 0; base < stretch.len; base += 32) {
        unsigned members = __ballot_sync(ALL_LANES, base + lane < stretch.len && assigned[base + lane] == c);
        count += __popc(members);
        for (; members && tid < d / 4; members &= members - 1) {
            float x[8];
            load_joint<Row>(job, stretch.position + base + __ffs(members) - 1, tid * 8, d, x);
            for (int j = 0; j < 8; j++) sums[j] += x[j] * weight;
        }
        __syncwarp();
    }
    return count;
}

template <class Row>
__device__ __forceinline__ void cluster_move(const ClusterArgs& args) {
    const Stretch stretch = args.stretches[blockIdx.x];
    if (blockIdx.y >= stretch.num_clusters) return;
    float sums[8] = {};
    const uint32_t count = add_rows<Row>(args, stretch, blockIdx.y, args.weights[stretch.job], sums);
    if (count == 0) return;
    for (int j = 0; j < 8; j++) sums[j] = __fdiv_rn(sums[j], static_cast<float>(count));
    store_centre(args, stretch.first_cluster + blockIdx.y, sums);
}

template <class Row>
__device__ __forceinline__ void cluster_means(const ClusterArgs& args) {
    const Stretch stretch = args.stretches[blockIdx.x];
    const uint32_t tid = threadIdx.x, d = args.head_dim;
    if (blockIdx.y >= stretch.num_clusters) return;
    double sums[8] = {};
    const uint32_t count = add_rows<Row>(args, stretch, blockIdx.y, 1.f, sums);
    if (tid >= d / 4) return;
    const uint32_t k = tid * 8;
    float* const out = (k < d ? args.keys + k : args.values + (k - d)) + static_cast<uint64_t>(stretch.first_cluster + blockIdx.y) * d;
    float means[8];
#pragma unroll
    for (int j = 0; j < 8; j++) means[j] = count == 0 ? 0.f : static_cast<float>(sums[j] / count);
    *reinterpret_cast<float4*>(out) = float4{means[0], means[1], means[2], means[3]};
    *reinterpret_cast<float4*>(out + 4) = float4{means[4], means[5], means[6], means[7]};
}

#define OVER_ROWS_OF(what, format, Row, most_threads)                                                            \
    extern "C" __global__ void __launch_bounds__(most_threads, most_threads == CLUSTER_THREADS ? 8 : 1)           \
    what##_##format(ClusterArgs args) { what<Row>(args); }                                                       \
    KERNEL(what##_##format)
#define OVER_ROWS(what, most_threads) OVER_ROWS_OF(what, f16, retrieval::F16Row, most_threads) OVER_ROWS_OF(what, q8, retrieval::Q8Row, most_threads)
OVER_ROWS(cluster_spreads, MOST_JOINT / 8 * SPREAD_LANES)
OVER_ROWS(cluster_starts, CLUSTER_THREADS)
OVER_ROWS(cluster_assign, ASSIGN_THREADS)
OVER_ROWS(cluster_move, CLUSTER_THREADS)
OVER_ROWS(cluster_means, CLUSTER_THREADS)
