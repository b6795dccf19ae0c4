// CUDA's built-in types: dim3, vectors, half precision.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define SIMT_VECTOR(name, type, bytes)                                                          \
    struct alignas(sizeof(type) * 2 < bytes ? sizeof(type) * 2 : bytes) name##2 { type x, y; }; \
    struct alignas(sizeof(type) * 4 < bytes ? sizeof(type) * 4 : bytes) name##4 { type x, y, z, w; }; \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SIMT_VECTOR(char, signed char, 16)
SIMT_VECTOR(uchar, unsigned char, 16)
SIMT_VECTOR(short, short, 16)
SIMT_VECTOR(ushort, unsigned short, 16)
SIMT_VECTOR(int, int, 16)
SIMT_VECTOR(uint, unsigned, 16)
SIMT_VECTOR(float, float, 16)
SIMT_VECTOR(longlong, long long, 16)
SIMT_VECTOR(ulonglong, unsigned long long, 16)
SIMT_VECTOR(double, double, 16)
#undef SIMT_VECTOR
struct float3 { float x, y, z; };
struct int3 { int x, y, z; };

struct half {
    _Float16 v;
    half() = default;
    half(float f) : v(_Float16(f)) {}
    operator float() const { return float(v); }
};
using __half = half;
struct alignas(4) half2 { half x, y; };
using __half2 = half2;

inline float __half2float(half h) { return float(h.v); }
inline half __float2half(float f) { return half(f); }
inline half __float2half_rn(float f) { return half(f); }
inline float2 __half22float2(half2 h) { return {float(h.x.v), float(h.y.v)}; }
inline half2 __float22half2_rn(float2 f) { return {half(f.x), half(f.y)}; }
inline half2 __floats2half2_rn(float x, float y) { return {half(x), half(y)}; }
inline half2 __halves2half2(half x, half y) { return {x, y}; }
inline half2 __float2half2_rn(float x) { return {half(x), half(x)}; }
inline half __low2half(half2 h) { return h.x; }
inline half __high2half(half2 h) { return h.y; }
inline float __low2float(half2 h) { return h.x; }
inline float __high2float(half2 h) { return h.y; }
inline half __ushort_as_half(unsigned short b) { return std::bit_cast<half>(b); }
inline unsigned short __half_as_ushort(half h) { return std::bit_cast<unsigned short>(h); }
// Computed in f32 and rounded once, which is what a fused operation in half precision gives.
inline half2 __hfma2(half2 a, half2 b, half2 c) {
    return {half(std::fma(float(a.x), float(b.x), float(c.x))), half(std::fma(float(a.y), float(b.y), float(c.y)))};
}
inline half2 __hadd2(half2 a, half2 b) { return {half(float(a.x) + float(b.x)), half(float(a.y) + float(b.y))}; }
inline half2 __hmul2(half2 a, half2 b) { return {half(float(a.x) * float(b.x)), half(float(a.y) * float(b.y))}; }
inline half __hmax(half a, half b) { return float(a) > float(b) ? a : b; }
