// Operations of a warp: shuffles, votes, reductions, and the products of tensor cores.
#pragma once
#include "block.hpp"

#define SIMT_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace simt {
template <class T> uint64_t as_bits(T value) { static_assert(sizeof(T) <= 8); uint64_t bits = 0; std::memcpy(&bits, &value, sizeof(T)); return bits; }
template <class T> T from_bits(uint64_t bits) { T value; std::memcpy(&value, &bits, sizeof(T)); return value; }

/// Each lane of `mask` gets what `source` brings.
uint64_t exchange(unsigned mask, uint64_t value, unsigned source, const char* file, int line);
/// Each lane of `mask` gets the sum (or what `op` says) of what all bring.
enum class Fold { Ballot, Add, Min, Max, MinSigned, MaxSigned, And, Or, Xor, Match };
uint64_t fold(Fold op, unsigned mask, uint64_t value, const char* file, int line);

/// The whole warp's sum or maximum in f32, added as five shuffles by 16, 8, 4, 2, 1 would, in one meeting.
float butterfly_sum(float value, SIMT_AT);
float butterfly_max(float value, SIMT_AT);

/// The lane that a shuffle of segments of `width` lanes reads.
inline unsigned in_segment(unsigned from, int width) { return (lane() & ~unsigned(width - 1)) | (from & unsigned(width - 1)); }

// The whole warp's tensor core products, registers as the PTX ISA has them (mma.sync, row.col); out += left * right.
void mma_m16n8k32(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bool left_signed, const char* file, int line);
void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char* file, int line);
/// Four 8x8 matrices of f16 from shared memory, rows at the lanes' addresses (ldmatrix).
void load_matrices(unsigned (&out)[4], const void* row, bool transposed, const char* file, int line);
}  // namespace simt

template <class T> T __shfl_sync(unsigned mask, T v, int source, int width = 32, SIMT_AT) {
    return simt::from_bits<T>(simt::exchange(mask, simt::as_bits(v), simt::in_segment(unsigned(source), width), file, line));
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32, SIMT_AT) {
    const unsigned at = simt::lane() ^ unsigned(by);
    const bool inside = at / unsigned(width) <= simt::lane() / unsigned(width);
    return simt::from_bits<T>(simt::exchange(mask, simt::as_bits(v), inside ? at & 31 : simt::lane(), file, line));
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, SIMT_AT) {
    const unsigned at = simt::lane() + by;
    return simt::from_bits<T>(simt::exchange(mask, simt::as_bits(v), at / unsigned(width) == simt::lane() / unsigned(width) ? at : simt::lane(), file, line));
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, SIMT_AT) {
    const unsigned in = simt::lane() & unsigned(width - 1);
    return simt::from_bits<T>(simt::exchange(mask, simt::as_bits(v), in >= by ? simt::lane() - by : simt::lane(), file, line));
}
inline unsigned __ballot_sync(unsigned mask, int p, SIMT_AT) { return unsigned(simt::fold(simt::Fold::Ballot, mask, p != 0, file, line)); }
inline int __any_sync(unsigned mask, int p, SIMT_AT) { return __ballot_sync(mask, p, file, line) != 0; }
inline int __all_sync(unsigned mask, int p, SIMT_AT) { return __ballot_sync(mask, p, file, line) == mask; }
inline unsigned __match_any_sync(unsigned mask, unsigned v, SIMT_AT) { return unsigned(simt::fold(simt::Fold::Match, mask, v, file, line)); }
inline unsigned __reduce_add_sync(unsigned mask, unsigned v, SIMT_AT) { return unsigned(simt::fold(simt::Fold::Add, mask, v, file, line)); }
inline int __reduce_add_sync(unsigned mask, int v, SIMT_AT) { return int(simt::fold(simt::Fold::Add, mask, unsigned(v), file, line)); }
inline unsigned __reduce_min_sync(unsigned mask, unsigned v, SIMT_AT) { return unsigned(simt::fold(simt::Fold::Min, mask, v, file, line)); }
inline unsigned __reduce_max_sync(unsigned mask, unsigned v, SIMT_AT) { return unsigned(simt::fold(simt::Fold::Max, mask, v, file, line)); }
inline int __reduce_min_sync(unsigned mask, int v, SIMT_AT) { return int(simt::fold(simt::Fold::MinSigned, mask, unsigned(v), file, line)); }
inline int __reduce_max_sync(unsigned mask, int v, SIMT_AT) { return int(simt::fold(simt::Fold::MaxSigned, mask, unsigned(v), file, line)); }
inline unsigned __reduce_and_sync(unsigned mask, unsigned v, SIMT_AT) { return unsigned(simt::fold(simt::Fold::And, mask, v, file, line)); }
inline unsigned __reduce_or_sync(unsigned mask, unsigned v, SIMT_AT) { return unsigned(simt::fold(simt::Fold::Or, mask, v, file, line)); }
inline unsigned __reduce_xor_sync(unsigned mask, unsigned v, SIMT_AT) { return unsigned(simt::fold(simt::Fold::Xor, mask, v, file, line)); }
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_AT) { simt::meet(mask, true, nullptr, nullptr, file, line); }
inline void __syncthreads(SIMT_AT) { simt::sync_block(0, file, line); }
inline int __syncthreads_count(int p, SIMT_AT) { return simt::sync_block(p, file, line); }
inline int __syncthreads_or(int p, SIMT_AT) { return simt::sync_block(p, file, line) != 0; }
