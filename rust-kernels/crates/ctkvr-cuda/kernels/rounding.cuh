// Rows of activations and how they are written: rounded to 8 bits as ctkvr_kernels::PackedKernels::round does it, the same bits; as f32; as f16.
#pragma once

constexpr int ROUND_BLOCK = 32, ROUND_LANES = 8;  // values that share a scale, and the lanes that have 4 of them each

// What is written of each row; null is not.
struct Outputs {
    unsigned char* rounded;  // u8 [rows, activation_bytes(width)]
    float* f32;              // [rows, width]
    half* f16;               // [rows, width]
};

// 4 values of a row from index `at`, a multiple of 4; all lanes of a warp come here, some without values.
__device__ __forceinline__ void write_row(const Outputs& out, long long row, int width, int at, bool is_there, const float (&values)[4]) {
    if (is_there && out.f32) *reinterpret_cast<float4*>(out.f32 + row * width + at) = make_float4(values[0], values[1], values[2], values[3]);
    if (is_there && out.f16) {
        half2* to = reinterpret_cast<half2*>(out.f16 + row * width + at);
        to[0] = __floats2half2_rn(values[0], values[1]), to[1] = __floats2half2_rn(values[2], values[3]);
    }
    if (!out.rounded) return;
    // Magnitudes are ordered as their bits are, what is not a number above all.
    unsigned most = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) most = max(most, is_there ? __float_as_uint(values[i]) & 0x7fffffffu : 0u);
#pragma unroll
    for (int lanes = 1; lanes < ROUND_LANES; lanes *= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, lanes));
    const float magnitude = __uint_as_float(most), inverse = most == 0 ? 0.f : __fdiv_rn(127.f, magnitude);
    unsigned codes = 0;
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float scaled = is_there ? __fmul_rn(values[i], inverse) : 0.f;
        const int code = scaled == scaled ? __float2int_rn(fminf(fmaxf(scaled, -128.f), 127.f)) : 0;
        codes |= (unsigned(code) & 255u) << 8 * i;
        sum += code;
    }
#pragma unroll
    for (int lanes = 1; lanes < ROUND_LANES; lanes *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (!is_there) return;
    const int blocks = width / ROUND_BLOCK, block = at / ROUND_BLOCK;
    unsigned char* row_out = out.rounded + row * (width + blocks * 8);
    *reinterpret_cast<unsigned*>(row_out + at) = codes;
    if (at % ROUND_BLOCK == 0) {
        float* numbers = reinterpret_cast<float*>(row_out + width);
        const float scale = __fdiv_rn(magnitude, 127.f);
        numbers[block] = scale;
        numbers[blocks + block] = __fmul_rn(scale, __int2float_rn(sum));
    }
}
