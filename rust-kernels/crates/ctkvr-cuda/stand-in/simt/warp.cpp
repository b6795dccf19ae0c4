#include "warp.hpp"
#include <algorithm>

namespace simt {
namespace {
void resolve_exchange(Warp& w, unsigned mask, void* bad) {
    for (unsigned left = mask; left; left &= left - 1) {
        const unsigned l = std::countr_zero(left);
        if (!(mask >> w.from[l] & 1)) { *static_cast<bool*>(bad) = true; continue; }
        w.taken[l] = w.given[w.from[l]];
    }
}

void resolve_fold(Warp& w, unsigned mask, void* context) {
    const Fold op = *static_cast<Fold*>(context);
    const auto each = [&](auto f) { for (unsigned left = mask; left; left &= left - 1) f(unsigned(std::countr_zero(left))); };
    if (op == Fold::Match) {
        each([&](unsigned l) { uint64_t same = 0; each([&](unsigned o) { same |= uint64_t(w.given[o] == w.given[l]) << o; }); w.taken[l] = same; });
        return;
    }
    bool first = true;
    unsigned all = 0;
    each([&](unsigned l) {
        const unsigned v = op == Fold::Ballot ? unsigned(w.given[l] << l) : unsigned(w.given[l]);
        if (first) { all = v; first = false; return; }
        switch (op) {
            case Fold::Add: all += v; break;
            case Fold::Min: all = std::min(all, v); break;
            case Fold::Max: all = std::max(all, v); break;
            case Fold::MinSigned: all = unsigned(std::min(int(all), int(v))); break;
            case Fold::MaxSigned: all = unsigned(std::max(int(all), int(v))); break;
            case Fold::And: all &= v; break;
            case Fold::Xor: all ^= v; break;
            default: all |= v;
        }
    });
    each([&](unsigned l) { w.taken[l] = all; });
}

template <class Op> void resolve_butterfly(Warp& w, unsigned, void*) {
    float values[32], next[32];
    for (unsigned l = 0; l < 32; l++) values[l] = from_bits<float>(w.given[l]);
    for (unsigned by = 16; by > 0; by /= 2) {
        for (unsigned l = 0; l < 32; l++) next[l] = Op::of(values[l], values[l ^ by]);
        std::memcpy(values, next, sizeof(values));
    }
    for (unsigned l = 0; l < 32; l++) w.taken[l] = as_bits(values[l]);
}
struct Sum { static float of(float a, float b) { return a + b; } };
struct Largest { static float of(float a, float b) { return std::fmax(a, b); } };

template <class Op> float butterfly(float value, const char* file, int line) {
    Warp& w = *current->warp;
    w.given[lane()] = as_bits(value);
    meet(~0u, false, resolve_butterfly<Op>, nullptr, file, line);
    return from_bits<float>(w.taken[lane()]);
}

/// What a warp's lanes show of a product. One for each warp of a block: lanes that have their result may already show the next operands.
struct Product {
    alignas(64) unsigned char left8[16][32];
    alignas(64) signed char right8[32][8];
    alignas(64) _Float16 left16[16][16], right16[16][8];
    alignas(64) float out[16][8];
    bool left_signed;
};
Product products[32];

/// The 8 columns of a product side by side. Compilers do not find this by themselves.
typedef float Columns __attribute__((vector_size(32)));

/// f32 holds the sums of integers exactly: 32 products below 2^15 each. One loop for them and for halves.
template <int K, class L, class R> void multiply(Product& p, const L (&left)[16][K], const R (&right)[K][8]) {
    alignas(64) float l[16][K];
    Columns r[K];
    for (int i = 0; i < 16; i++) for (int k = 0; k < K; k++) l[i][k] = float(left[i][k]);
    for (int k = 0; k < K; k++) for (int n = 0; n < 8; n++) r[k][n] = float(right[k][n]);
    for (int i = 0; i < 16; i += 4) {
        Columns sum[4] = {};
        for (int k = 0; k < K; k++) for (int j = 0; j < 4; j++) sum[j] += l[i + j][k] * r[k];
        for (int j = 0; j < 4; j++) std::memcpy(p.out[i + j], &sum[j], sizeof(Columns));
    }
}
void resolve_integers(Warp&, unsigned, void* context) {
    Product& p = *static_cast<Product*>(context);
    if (p.left_signed) multiply<32>(p, reinterpret_cast<const signed char(&)[16][32]>(p.left8), p.right8);
    else multiply<32>(p, p.left8, p.right8);
}
void resolve_halves(Warp&, unsigned, void* context) {
    Product& p = *static_cast<Product*>(context);
    multiply<16>(p, p.left16, p.right16);
}

struct Rows { const unsigned short* at[32]; };
Rows matrix_rows[32];
}  // namespace

uint64_t exchange(unsigned mask, uint64_t value, unsigned source, const char* file, int line) {
    Warp& w = *current->warp;
    w.given[lane()] = value; w.from[lane()] = source & 31;
    bool bad = false;
    meet(mask, false, resolve_exchange, &bad, file, line);
    if (bad) fail("reads a lane outside the mask at " + where(file, line));
    return w.taken[lane()];
}

uint64_t fold(Fold op, unsigned mask, uint64_t value, const char* file, int line) {
    Warp& w = *current->warp;
    w.given[lane()] = value;
    meet(mask, false, resolve_fold, &op, file, line);
    return w.taken[lane()];
}

float butterfly_sum(float value, const char* file, int line) { return butterfly<Sum>(value, file, line); }
float butterfly_max(float value, const char* file, int line) { return butterfly<Largest>(value, file, line); }

void mma_m16n8k32(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bool left_signed, const char* file, int line) {
    Product& p = products[current->linear / 32];
    const unsigned row = lane() / 4, t = lane() % 4;
    for (int i = 0; i < 4; i++) std::memcpy(&p.left8[row + i % 2 * 8][t * 4 + i / 2 * 16], &a[i], 4);
    for (int i = 0; i < 2; i++) for (int k = 0; k < 4; k++) p.right8[t * 4 + i * 16 + k][row] = static_cast<signed char>(b[i] >> 8 * k);
    p.left_signed = left_signed;
    meet(~0u, false, resolve_integers, &p, file, line);
    for (int i = 0; i < 4; i++) c[i] += int(p.out[row + i / 2 * 8][t * 2 + i % 2]);
}

void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char* file, int line) {
    Product& p = products[current->linear / 32];
    const unsigned row = lane() / 4, t = lane() % 4;
    for (int i = 0; i < 4; i++) std::memcpy(&p.left16[row + i % 2 * 8][t * 2 + i / 2 * 8], &a[i], 4);
    for (int i = 0; i < 2; i++) {
        _Float16 pair[2];
        std::memcpy(pair, &b[i], 4);
        for (int k = 0; k < 2; k++) p.right16[t * 2 + i * 8 + k][row] = pair[k];
    }
    meet(~0u, false, resolve_halves, &p, file, line);
    for (int i = 0; i < 4; i++) c[i] += p.out[row + i / 2 * 8][t * 2 + i % 2];
}

void load_matrices(unsigned (&out)[4], const void* row, bool transposed, const char* file, int line) {
    Rows& rows = matrix_rows[current->linear / 32];
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("a row of a matrix is not aligned to 16 bytes at " + where(file, line));
    rows.at[lane()] = static_cast<const unsigned short*>(row);
    meet(~0u, true, nullptr, nullptr, file, line);
    const unsigned group = lane() / 4, t = lane() % 4;
    for (unsigned m = 0; m < 4; m++) {
        const unsigned short low = transposed ? rows.at[m * 8 + t * 2][group] : rows.at[m * 8 + group][t * 2];
        const unsigned short high = transposed ? rows.at[m * 8 + t * 2 + 1][group] : rows.at[m * 8 + group][t * 2 + 1];
        out[m] = low | unsigned(high) << 16;
    }
    meet(~0u, true, nullptr, nullptr, file, line);  // nobody shows the next rows before all have read
}
}  // namespace simt
