// The largest of many non-negative floats, by a whole block: a threshold by their bits, digit by digit, and the indexes that reach it, in
// order. Ties go to the smaller index. Bits of floats that are not negative order as the floats do; -0 counts as 0.
#pragma once
#include "retrieval.cuh"

namespace retrieval {

// Three digits of the 31 bits: the first is an eighth of a power of two.
constexpr int BINS = 2048;

// Shared memory of a choice.
template <int THREADS>
struct TopRoom {
    uint32_t counts[BINS];
    unsigned long long sums[BINS];
    uint32_t warps[THREADS / 32];
    unsigned long long sums_of_warps[THREADS / 32];
    uint32_t digit, above;
    unsigned long long sum_above;
};

// What is chosen: all keys above `bits`, and the first `ties` of those equal to it.
struct Threshold {
    uint32_t bits;
    uint32_t above;  // keys above
    uint32_t ties;
};

__device__ __forceinline__ uint32_t key_of(float x) { return __float_as_uint(x) & 0x7fffffffu; }

// Sums in whole units of 2^-56, so that their order is of no account. Shares of heads add up to the group's size at most, which leaves room, and
// a hundred thousand roundings are 2^-40.
__device__ __forceinline__ unsigned long long units_of(uint32_t key) {
    return static_cast<unsigned long long>(static_cast<double>(__uint_as_float(key)) * 72057594037927936.0 + 0.5);
}

// One digit: keys whose higher bits are `prefix` are counted by the digit, and the digit found in which, from the largest key down, `wanted`
// is reached: so many keys, or (BY_SUM) so many units of their sum. `room.above` and `room.sum_above`: what lies in higher digits, beside what
// lay above the prefix.
template <int THREADS, bool BY_SUM, class Value>
__device__ void find_digit(uint32_t n, const Value& value, int shift, int bits, uint32_t prefix, double wanted, TopRoom<THREADS>& room) {
    const uint32_t tid = threadIdx.x, bins = 1u << bits, a_thread = (bins + THREADS - 1) / THREADS;
    for (uint32_t b = tid; b < bins; b += THREADS) {
        room.counts[b] = 0;
        if (BY_SUM) room.sums[b] = 0;
    }
    __syncthreads();
    each<THREADS>(n, value, [&](uint32_t, float x) {
        const uint32_t key = key_of(x), bin = (key >> shift) & (bins - 1);
        if ((key >> shift) >> bits != prefix) return;
        atomicAdd(&room.counts[bin], 1u);
        if (BY_SUM) atomicAdd(&room.sums[bin], units_of(key));
    });
    __syncthreads();
    // Thread t has bins in a row, the largest first.
    uint32_t count = 0;
    unsigned long long sum = 0;
    for (uint32_t k = tid * a_thread; k < min(bins, (tid + 1) * a_thread); k++) {
        count += room.counts[bins - 1 - k];
        if (BY_SUM) sum += room.sums[bins - 1 - k];
    }
    uint32_t above = room.above + threads_before<THREADS>(count, room.warps);
    unsigned long long sum_above = 0;
    if (BY_SUM) sum_above = room.sum_above + threads_before<THREADS>(sum, room.sums_of_warps);
    const auto reached = [&](uint32_t keys, unsigned long long units) { return static_cast<double>(BY_SUM ? units : keys) >= wanted; };
    // One thread's bins reach it: what lies above them does not.
    if (!reached(above, sum_above) && reached(above + count, sum_above + sum)) {
        uint32_t k = tid * a_thread;
        for (;; k++) {
            const uint32_t of_bin = room.counts[bins - 1 - k];
            const unsigned long long units = BY_SUM ? room.sums[bins - 1 - k] : 0;
            if (reached(above + of_bin, sum_above + units)) break;
            above += of_bin;
            sum_above += units;
        }
        room.digit = bins - 1 - k, room.above = above, room.sum_above = sum_above;
    }
    __syncthreads();
}

// The key in which `wanted` is reached, and what lies above it. n > 0.
template <int THREADS, bool BY_SUM, class Value>
__device__ uint32_t reach(uint32_t n, const Value& value, double wanted, TopRoom<THREADS>& room) {
    if (threadIdx.x == 0) room.above = 0, room.sum_above = 0;
    __syncthreads();
    find_digit<THREADS, BY_SUM>(n, value, 20, 11, 0, wanted, room);
    uint32_t key = room.digit;
    find_digit<THREADS, BY_SUM>(n, value, 10, 10, key, wanted, room);
    key = key << 10 | room.digit;
    find_digit<THREADS, BY_SUM>(n, value, 0, 10, key, wanted, room);
    return key << 10 | room.digit;
}

// The k largest of n values, 0 < k <= n.
template <int THREADS, class Value>
__device__ Threshold largest(uint32_t n, const Value& value, uint32_t k, TopRoom<THREADS>& room) {
    const uint32_t bits = reach<THREADS, false>(n, value, k, room);
    const Threshold found{bits, room.above, k - room.above};
    __syncthreads();
    return found;
}

// Smallest number of the largest values whose sum reaches `share` of all, at least 1. n > 0.
template <int THREADS, class Value>
__device__ uint32_t count_reaching(uint32_t n, const Value& value, double share, TopRoom<THREADS>& room) {
    unsigned long long units = 0;
    each<THREADS>(n, value, [&](uint32_t, float x) { units += units_of(key_of(x)); });
    units = block_sum<THREADS>(units, room.sums_of_warps);
    const double wanted = share * static_cast<double>(units);
    const uint32_t bits = reach<THREADS, true>(n, value, wanted, room);
    // Of the keys that are equal, as many as it takes.
    const unsigned long long of_one = units_of(bits), sum_above = room.sum_above;
    const uint32_t above = room.above, equal = room.counts[bits & 1023];
    __syncthreads();
    uint32_t low = 1, high = equal;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (static_cast<double>(sum_above + middle * of_one) >= wanted) high = middle;
        else low = middle + 1;
    }
    return above + low;
}

// Calls `take(rank, i)` for the i that are chosen, in order: rank counts them. `word(w, bits)`: by lane 0, which of 32 w to 32 w + 31 are.
template <int THREADS, class Value, class Take, class Word>
__device__ void take_largest(uint32_t n, const Value& value, Threshold chosen, TopRoom<THREADS>& room, const Take& take, const Word& word) {
    const uint32_t lane = threadIdx.x % 32, lanes_before = (1u << lane) - 1;
    uint32_t first, end;
    warp_share<THREADS>(n, first, end);
    uint32_t above = 0, equal = 0;
#pragma unroll 8
    for (uint32_t i = first + lane; i < end; i += 32) {
        const uint32_t key = key_of(value(i));
        above += key > chosen.bits;
        equal += key == chosen.bits;
    }
    above = warps_before<THREADS>(lanes_sum(above), room.warps);
    equal = warps_before<THREADS>(lanes_sum(equal), room.warps);
    uint32_t rank = above + min(equal, chosen.ties);
    constexpr int WORDS = 8;
    for (uint32_t base = first; base < end; base += 32 * WORDS) {
        uint32_t keys[WORDS];
#pragma unroll
        for (int w = 0; w < WORDS; w++) keys[w] = base + 32 * w + lane < end ? key_of(value(base + 32 * w + lane)) : 0;
#pragma unroll
        for (int w = 0; w < WORDS; w++) {
            if (base + 32 * w >= end) break;
            const uint32_t i = base + 32 * w + lane, key = keys[w];
            const uint32_t ties = __ballot_sync(ALL_LANES, i < end && key == chosen.bits);
            const bool is_tie = (ties >> lane & 1) && equal + __popc(ties & lanes_before) < chosen.ties;
            const uint32_t taken = __ballot_sync(ALL_LANES, i < end && (key > chosen.bits || is_tie));
            if (taken >> lane & 1) take(rank + __popc(taken & lanes_before), i);
            if (lane == 0) word(base / 32 + w, taken);
            rank += __popc(taken);
            equal += __popc(ties);
        }
    }
}

}  // namespace retrieval
